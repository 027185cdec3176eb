"""A sparkline as a small SVG text: light enough for a list."""

from __future__ import annotations

from collections.abc import Sequence


def bars(values: Sequence[float], colours: Sequence[str], top: float, *, width: int = 240, height: int = 44) -> str:
    """Bars of `values` (0 to `top`) in `colours`; only numbers and colours go into the text, nothing a user wrote."""
    step = width / max(len(values), 1)
    shapes = "".join(
        f'<rect x="{i * step + 1:.1f}" y="{height - size:.1f}" width="{step - 2:.1f}" height="{size:.1f}" '
        f'fill="{colour}" rx="1.5"/>'
        for i, (size, colour) in enumerate(
            (max(1.0, height * min(value / top, 1.0) if top > 0 else 1.0), colour)
            for value, colour in zip(values, colours, strict=True)
        )
    )
    return f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}">{shapes}</svg>'
