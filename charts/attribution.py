"""A number for each layer, in order: its loss at one budget, or ε½, the budget at which half of log 2 is reached."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import plotly.graph_objects as go

from charts import style
from charts.curves import Curve, Floats, value_at

_NUMBER = 0.1  # the height of the number above a bar, of the height of the figure


@dataclass(frozen=True)
class Bar:
    """What a layer has: a `value`, its interval from `low` to `high` (NaN: none), and a `sign`, ≥ or ≤, of a bound.

    `value` is None where nothing is known, and may be infinite.
    """

    layer: str
    value: float | None
    low: float = math.nan
    high: float = math.nan
    sign: str = ""


def loss_bars(epsilon: Floats, curves: Sequence[Curve], at: float) -> list[Bar]:
    """The mean loss of each layer at the budget `at` in the band of its curve; ≥ where pairs are unknown."""
    bars = []
    for curve in curves:
        if not curve.known:
            bars.append(Bar(curve.layer, None))
            continue
        value = float(value_at(epsilon, curve.mean, at)[0])
        low, high = (math.nan, math.nan)
        if curve.band is not None:
            low, high = (float(value_at(epsilon, edge, at)[0]) for edge in curve.band)
        bars.append(Bar(curve.layer, value, low, high, "≥" if curve.lower else ""))
    return bars


def loss_by_layer(
    epsilon: Floats, curves: Sequence[Curve], at: float, colours: Mapping[str, str], *, dark: bool = False
) -> go.Figure:
    """Bars of the mean loss at the budget `at`, in layer order; `curves` may begin with that of the images."""
    top = max((curve.most for curve in curves), default=style.LOG2)
    figure = by_layer(
        loss_bars(epsilon, curves, at), colours, f"loss at ε = {at:g} (nats)", top=top, unit="nats", dark=dark
    )
    return figure.update_layout(shapes=[style.across(style.LOG2, style.reference_colour(dark))])


def by_layer(
    bars: Sequence[Bar],
    colours: Mapping[str, str],
    title: str,
    *,
    top: float | None = None,
    unit: str = "",
    digits: int = 2,
    dark: bool = False,
) -> go.Figure:
    """Bars with their intervals, in layer order. Below the name of each layer stands the change from the one before.

    Where only a bound is known the bar is hatched, its number has a sign, and no change is stated; a layer of which
    nothing is known keeps its place, with a question mark. `title` is that of the upright axis, which ends at `top`;
    numbers have so many `digits`.
    """
    grey = style.reference_colour(dark)
    names = [style.safe(bar.layer) for bar in bars]
    finite = [bar.value if bar.value is not None and math.isfinite(bar.value) else math.nan for bar in bars]
    reach = [max((x for x in (value, bar.high) if math.isfinite(x)), default=0.0)
             for value, bar in zip(finite, bars, strict=True)]  # fmt: skip
    top = top or max([*reach, 1e-9])
    up = [_whisker(value, bar.high, top) for value, bar in zip(finite, bars, strict=True)]
    down = [_whisker(value, bar.low, top) for value, bar in zip(finite, bars, strict=True)]
    changes = [None, *changes_of(bars)] if bars else []
    ticks = [
        name if change is None else f"{name}<br>{'−' if round(change, digits) < 0 else '+'}{abs(change):.{digits}f}"
        for name, change in zip(names, changes, strict=True)
    ]
    hover = ["" if change is None else f"<br>{change:+.4f} from the one before" for change in changes]
    hover = [f"{interval_words(bar, 4)} {unit}{text}" for bar, text in zip(bars, hover, strict=True)]
    # A dashed line at the top would cross these numbers.
    places = [top if top * (1 - _NUMBER) < height < top else height for height in reach]
    columns: style.Part = {
        "type": "bar", "x": names, "y": finite, "customdata": hover, "showlegend": False,
        "error_y": {"type": "data", "array": up, "arrayminus": down, "color": grey, "thickness": 1.4, "width": 4,
                    "visible": any(up) or any(down)},
        "marker": {"color": [colours.get(bar.layer, grey) for bar in bars],
                   "pattern": {"shape": ["/" if bar.sign else "" for bar in bars]}},
        "hovertemplate": "%{x}: %{customdata}<extra></extra>",
    }  # fmt: skip
    numbers: style.Part = {  # above the whiskers
        "x": names, "y": places, "mode": "text", "text": [_number(bar, digits) for bar in bars],
        "textposition": "top center", "cliponaxis": False, "hoverinfo": "skip", "showlegend": False,
    }  # fmt: skip
    return style.figure(
        [columns, numbers],
        x="layer and its change, from input to output",
        y=title,
        height=320,
        dark=dark,
        bargap=0.45,
        xaxis={"type": "category", "tickvals": names, "ticktext": ticks},
        yaxis={"range": [0, top * 1.15]},
    )


def interval_words(bar: Bar, digits: int = 2) -> str:
    """`1.59 (1.41 to 1.77)`, without the interval where there is none."""
    interval = interval_of(bar, digits)
    return f"{_number(bar, digits)} ({interval})" if interval else _number(bar, digits)


def interval_of(bar: Bar, digits: int = 2) -> str:
    """`1.41 to 1.77`; nothing where there is no interval."""
    if bar.value is None or math.isnan(bar.low) or math.isnan(bar.high):
        return ""
    return f"{bar.low:.{digits}f} to {bar.high:.{digits}f}".replace("inf", "∞")


def changes_of(bars: Sequence[Bar]) -> list[float | None]:
    """The change from each bar to the next; None where one of the two is a bound, unknown or infinite."""
    known = [None if bar.sign or bar.value is None or not np.isfinite(bar.value) else bar.value for bar in bars]
    return [None if before is None or after is None else after - before for before, after in pairwise(known)]


def _whisker(value: float, end: float, longest: float) -> float:
    """How far an interval reaches from its value to one end; 0 where there is none."""
    return 0.0 if math.isnan(value) or math.isnan(end) else min(abs(end - value), longest)


def _number(bar: Bar, digits: int = 2) -> str:
    if bar.value is None:
        return "?"
    if math.isinf(bar.value):
        return "∞"
    return f"{bar.sign} {bar.value:.{digits}f}".strip()
