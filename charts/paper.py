"""Figures for papers: all panels of a screen in one PDF or SVG of a given width and font.

matplotlib draws them (`vector`). It is an extra (`figures` in pyproject.toml), so it is imported only when something is
drawn.
"""

from __future__ import annotations

import importlib.util
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final, Literal

import numpy as np
import plotly.graph_objects as go

from charts.style import axes_of
from robustness_core.errors import StrataError

Panel = tuple[str, go.Figure]  # a heading and the figure below it

WIDTHS: Final = {"column": 3.25, "page": 6.75}  # inches: one column of a page with two, as ICML's and CVPR's, and both
FONTS: Final = ("DejaVu Sans", "DejaVu Serif", "STIXGeneral")  # come with matplotlib; the last looks like Times
LACKING: Final = (
    "Figures for papers need matplotlib: stop, start again with `make run EXTRAS=figures`, or pip install matplotlib."
)
_HEIGHT: Final = 580  # pixels that are as high as a panel is wide
_LOCK = threading.Lock()  # matplotlib's settings belong to the whole process


class PaperError(StrataError):
    """Why a figure cannot be drawn, in one sentence."""


@dataclass(frozen=True)
class Look:
    """`width` of the whole figure in inches, `font` by its family name, `size` of its letters in points."""

    width: float = WIDTHS["column"]
    font: str = FONTS[0]
    size: float = 8.0

    def __post_init__(self) -> None:
        if not 2 <= self.width <= 20:
            raise PaperError(f"A figure is 2 to 20 inches wide, not {self.width:g}.")
        if not 4 <= self.size <= 20:
            raise PaperError(f"Letters are 4 to 20 points large, not {self.size:g}.")


def possible() -> bool:
    """Whether matplotlib is there."""
    return importlib.util.find_spec("matplotlib") is not None


def save(panels: Callable[[], Sequence[Panel]], kind: Literal["pdf", "svg"], look: Look) -> bytes:
    """All `panels` in one file: below one another in a column, two in a row where the width is that of a page.

    Raises PaperError with one sentence for a font that this machine lacks, and without matplotlib.
    """
    if not possible():
        raise PaperError(LACKING)
    rows = _rows([panel for panel in panels() if panel[1].data], look.width)
    widths = [look.width / _across(row, look.width) for row in rows]
    heights = [max(_height(figure, width) for _, figure in row) for row, width in zip(rows, widths, strict=True)]
    with _settings(look):
        from charts import vector

        drawing = vector.Figure(figsize=(look.width, sum(heights)), layout="constrained")
        letters = iter("abcdefghijklmnopqrstuvwxyz" if sum(map(len, rows)) > 1 else ())
        lines = _split(drawing, len(rows), 1, height_ratios=heights)
        for row, width, line in zip(rows, widths, lines, strict=True):
            for (heading, figure), part in zip(row, _split(line, 1, _across(row, look.width)), strict=False):
                letter = next(letters, "")
                part.suptitle(f"({letter}) {heading}" if letter else heading, x=0.01, ha="left")
                vector.draw(figure, part, look.size, width)
        content = BytesIO()
        drawing.savefig(content, format=kind, metadata={"Creator": "Strata"})
    return content.getvalue()


@contextmanager
def _settings(look: Look) -> Iterator[None]:
    """matplotlib's settings of a look, for one thread at a time."""
    import matplotlib
    from matplotlib import font_manager

    try:
        font_manager.findfont(look.font, fallback_to_default=False)
    except ValueError:
        there = ", ".join(FONTS)
        raise PaperError(f"No font is called {look.font!r} on this machine; {there} come with matplotlib.") from None
    chosen: Any = {
        "font.family": [look.font, FONTS[0]],  # the second where the first lacks a letter
        "font.size": look.size, "axes.titlesize": look.size, "figure.titlesize": look.size, "axes.labelsize": look.size,
        "xtick.labelsize": look.size - 1, "ytick.labelsize": look.size - 1, "legend.fontsize": look.size - 1,
        "axes.linewidth": 0.5, "xtick.major.width": 0.5, "ytick.major.width": 0.5, "hatch.linewidth": 0.6,
        "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.linewidth": 0.4,
        "grid.alpha": 0.35, "axes.axisbelow": True,
        "pdf.fonttype": 42, "svg.fonttype": "path", "text.parse_math": False,
    }  # fmt: skip
    with _LOCK, matplotlib.rc_context(chosen), warnings.catch_warnings():
        # A letter that no font has is a box in a name that a user gave; very low figures are not laid out anew.
        warnings.filterwarnings("ignore", category=UserWarning, module="matplotlib")
        yield


def _rows(panels: Sequence[Panel], width: float) -> list[list[Panel]]:
    """The panels row by row: two where there is room for them, a figure of several axes always alone."""
    rows: list[list[Panel]] = []
    for panel in panels:
        last = rows[-1] if rows else []
        room = width >= WIDTHS["page"] and len(last) == 1 and len(axes_of(last[0][1])) == len(axes_of(panel[1])) == 1
        if room:
            last.append(panel)
        else:
            rows.append([panel])
    return rows


def _across(row: Sequence[Panel], width: float) -> int:
    """How many panels a row has room for."""
    return 2 if width >= WIDTHS["page"] and len(axes_of(row[0][1])) == 1 else 1


def _height(figure: go.Figure, width: float) -> float:
    """The height of a figure in inches, for its width in inches."""
    count = len(axes_of(figure))
    if count == 1:
        return width * float(np.clip((figure.layout.height or 420) / _HEIGHT, 0.62, 1.0))
    columns = len({figure.layout[f"xaxis{number}"].domain for number in axes_of(figure)})
    return -(-count // columns) * (0.6 * width / columns + 0.55) + 0.4  # with titles, and a legend below


def _split(figure: Any, rows: int, columns: int, **more: Any) -> list[Any]:
    """The parts of a figure or of a part."""
    return list(np.ravel(figure.subfigures(rows, columns, **more)))
