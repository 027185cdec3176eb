"""Loss by layer at one budget: where robustness is lost and where it is gained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import plotly.graph_objects as go

from charts import style
from charts.curves import Curve, Floats, value_at

_NUMBER = 0.07  # the height of the number above a bar, in nats


def loss_by_layer(
    epsilon: Floats,
    curves: Sequence[Curve],
    at: float,
    colours: Mapping[str, str],
    *,
    input_space: Floats | None = None,
    dark: bool = False,
) -> go.Figure:
    """Bars of the mean loss at the budget `at`, whiskers from min to max over projections, in layer order.

    Below the name of each layer stands the change from the one before: above 0 this layer loses robustness. Where only
    a lower bound is known the bar is hatched, its number says ≥, and no change is stated; a layer of which nothing is
    known keeps its place, with a question mark.
    """
    values = [value_at(epsilon, curve.averaged, at) for curve in curves]
    means = [float(value.mean()) for value in values]
    lower = [curve.lower for curve in curves]
    none = [curve.known == 0 for curve in curves]
    grey = style.reference_colour(dark)
    names = [style.safe(curve.layer if curve.m is not None else f"{curve.layer}, no projection") for curve in curves]
    bars = [colours.get(curve.layer, grey) for curve in curves]
    high = [float(value.max()) - mean for value, mean in zip(values, means, strict=True)]
    low = [mean - float(value.min()) for value, mean in zip(values, means, strict=True)]
    if input_space is not None:
        start = float(np.interp(at, epsilon, input_space))
        names, means, bars, lower = ["input", *names], [start, *means], [grey, *bars], [False, *lower]
        high, low, none = [0.0, *high], [0.0, *low], [False, *none]
    changes = [None, *changes_of(means, lower)]
    hover = ["" if change is None else f"{change:+.3f} from the one before" for change in changes]
    ticks = [
        name if change is None else f"{name}<br>{'−' if round(change, 2) < 0 else '+'}{abs(change):.2f}"
        for name, change in zip(names, changes, strict=True)
    ]
    labels = [
        "?" if unknown else f"{'≥ ' if bound else ''}{mean:.2f}"
        for mean, bound, unknown in zip(means, lower, none, strict=True)
    ]
    tops = np.add(means, high)
    crossed = (tops < style.LOG2) & (tops > style.LOG2 - _NUMBER)  # the dashed line would cross these numbers
    heights: style.Part = {
        "type": "bar", "x": names, "y": np.where(none, np.nan, means), "customdata": hover, "showlegend": False,
        "error_y": {"type": "data", "array": high, "arrayminus": low, "color": grey, "thickness": 1.4, "width": 4,
                    "visible": any(high) or any(low)},
        "marker": {"color": bars, "pattern": {"shape": ["/" if bound else "" for bound in lower]}},
        "hovertemplate": "%{x}: %{y:.4f} nats<br>%{customdata}<extra></extra>",
    }  # fmt: skip
    numbers: style.Part = {  # above the whiskers
        "x": names, "y": np.where(crossed, style.LOG2, tops), "mode": "text", "text": labels,
        "textposition": "top center", "cliponaxis": False, "hoverinfo": "skip", "showlegend": False,
    }  # fmt: skip
    return style.figure(
        [heights, numbers],
        x="layer and its change, from input to output",
        y=f"loss at ε = {at:g} (nats)",
        height=320,
        dark=dark,
        bargap=0.45,
        shapes=[style.across(style.LOG2, grey)],
        xaxis={"type": "category", "tickvals": names, "ticktext": ticks},
        yaxis={"range": [0, style.LOG2 * 1.15]},
    )


def changes_of(means: Sequence[float], lower: Sequence[bool]) -> list[float | None]:
    """The change from each value to the next; None where one of the two is a lower bound."""
    known = [None if bound else mean for mean, bound in zip(means, lower, strict=True)]
    return [None if before is None or after is None else after - before for before, after in pairwise(known)]
