"""Networks side by side: small multiples of their layer curves, and loss by layer at one budget."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from charts import style
from charts.curves import Curve, Floats, partly, value_at
from robustness_core.optimal_loss.statistics import Interval, student
from robustness_core.spec import PAPERS, Threat


def small_multiples(
    epsilon: Floats,
    networks: Mapping[str, Sequence[Curve]],
    *,
    columns: int = 3,
    images: Curve | None = None,
    classes: int = 2,
    threat: Threat = PAPERS,
    dark: bool = False,
) -> go.Figure:
    """One panel a network with its layer curves, on the same axes; `networks` maps name -> curves in layer order.

    `images` is the curve of the images themselves, seen as the layers are. Curves of which some pairs are unknown are
    thin, and the title says how many are known. Where all networks have the same layers, the legend names them and
    toggles a layer in all panels. Of `classes` K of more than two, log K has a line of its own.
    """
    most = math.log(classes)
    count = max(len(networks), 1)
    columns = min(columns, count)
    rows = -(-count // columns)
    grey = style.reference_colour(dark)
    same = len({tuple(curve.layer for curve in curves) for curves in networks.values()}) == 1
    named: set[str] = set()
    grid = make_subplots(
        rows=rows, cols=columns, shared_xaxes=True, shared_yaxes=True, horizontal_spacing=0.05,
        vertical_spacing=0.32 / rows,
        subplot_titles=[_in_lines(name) + partly(curves).replace(" ", "<br>", 1) for name, curves in networks.items()],
    ).layout.to_plotly_json()  # fmt: skip
    traces: list[style.Part] = []
    axes: style.Part = {}
    lines: list[style.Part] = []
    for index, curves in enumerate(networks.values()):
        number = "" if index == 0 else str(index + 1)
        place = {"xaxis": f"x{number}", "yaxis": f"y{number}", "mode": "lines"}
        for curve, colour in zip(curves, style.palette(max(len(curves), 1), dark), strict=False):
            if curve.known:
                layer = style.safe(curve.layer)
                traces.append({
                    **place, "x": curve.budgets(epsilon), "y": curve.finely(epsilon).mean,
                    "name": layer, "legendgroup": layer,
                    "line": {"color": colour, "width": curve.width, "shape": "hv"},
                    "showlegend": same and layer not in named,
                    "hovertemplate": f"{style.safe(curve.label)}: %{{y:.4f}} nats at ε = %{{x:.3~f}}<extra></extra>",
                })  # fmt: skip
                named.add(layer)
        if images is not None:
            traces.append({
                **place, "x": images.budgets(epsilon), "y": images.finely(epsilon).mean,
                "line": {"color": grey, "dash": "dot", "width": 1.5, "shape": "hv"},
                "hovertemplate": f"{input_name(images)}: %{{y:.4f}} nats at ε = %{{x:.3~f}}<extra></extra>",
                "showlegend": False,
            })  # fmt: skip
        for height in {style.LOG2, most}:
            lines.append(style.across(height, grey) | {"xref": f"x{number} domain", "yref": f"y{number}"})
        lowest, leftmost = index + columns >= count, index % columns == 0
        axes[f"xaxis{number}"] = {
            **grid[f"xaxis{number}"],
            **style.axis(f"budget ε ({threat.symbol})" if lowest else "", dark),
            "showticklabels": lowest,
            "matches": "x" if index else None,
        }
        axes[f"yaxis{number}"] = {
            **grid[f"yaxis{number}"],
            **style.axis("loss (nats)" if leftmost else "", dark),
            "range": style.LOSS_RANGE if classes == 2 else (3 * style.LOSS_RANGE[0], 1.1 * most),
        }
    return style.figure(
        traces,
        x="",
        y="",
        height=140 + 260 * rows,
        dark=dark,
        margin={"t": 62},
        legend={"y": -0.3 / rows, "yanchor": "top"},
        shapes=lines,
        annotations=[{**title, "font": {"size": 12}} for title in grid["annotations"]],
        **axes,
    )


def _in_lines(name: str) -> str:
    """A name as a title of a panel that may be only a hundred pixels wide."""
    first, second, *more = [*textwrap.wrap(name, 15), "", ""]
    lines = (first, f"{second[:14]}…" if any(more) else second)
    return "<br>".join(style.safe(line) for line in lines if line)


@dataclass(frozen=True, eq=False)
class Measured:
    """A number of the layer of a curve: its `values`, (N,), over the projections that are averaged."""

    curve: Curve
    values: Floats

    @property
    def usable(self) -> Floats | None:
        """The values, unless they are unknown or only bounds for want of pairs."""
        return self.values if self.curve.known and not self.curve.lower else None

    @property
    def whole(self) -> bool:
        """Whether every pair is known."""
        return self.curve.missing == 0

    @property
    def interval(self) -> Interval:
        """The mean with Student's interval from three projections on, NaN where nothing is known."""
        return _interval(self.values if self.curve.known else None)


def losses(epsilon: Floats, curves: Sequence[Curve], at: float) -> list[Measured]:
    """The loss of each layer at the budget `at`, in nats."""
    return [Measured(curve, value_at(epsilon, curve.averaged, at)) for curve in curves]


def by_depth(
    networks: Mapping[str, Sequence[Measured]],
    title: str,
    *,
    images: Measured | None = None,
    top: float | None = None,
    relative: bool = False,
    minus: str | None = None,
    dark: bool = False,
) -> go.Figure:
    """A number of each layer, layer by layer, one line a network, with Student's intervals over projections.

    Aligned by layer order, under the layers' names where all networks have the same, or if `relative` by depth from 0
    (first) to 1 (logits). `images` is the number of the images themselves, seen as the layers are; `top` the most that
    the number can be. `minus` names a network whose values are taken away from all, see `differences`. Layers of which
    some pairs are unknown have hollow markers; `title` is that of the axis.
    """
    looks, grey = style.network_looks(list(networks), dark), style.reference_colour(dark)
    apart = None if minus is None else differences(networks, minus, relative=relative)
    most = max((len(layers) for layers in networks.values()), default=1)
    traces: list[style.Part] = []
    if images is not None and apart is None and math.isfinite(images.interval.value):
        ends = [0.0, 1.0] if relative else [1.0, float(most)]
        traces.append({
            "x": ends, "y": [images.interval.value] * 2, "mode": "lines", "name": input_name(images.curve),
            "line": {"color": grey, "dash": "dot", "width": 2}, "hovertemplate": "the images: %{y:.4f}",
        })  # fmt: skip
    some = False
    for place, (name, layers) in enumerate(networks.items()):
        numbers = [one.interval for one in layers] if apart is None else apart[name]
        drawn = [index for index, number in enumerate(numbers) if math.isfinite(number.value)]
        intervals = [numbers[index] for index in drawn]
        shown = [layers[index] for index in drawn]
        some = some or any(one.known for one in intervals)
        aside = 0.0 if relative or not some else 0.07 * (place - (len(networks) - 1) / 2)  # whiskers lie side by side
        traces.append({
            "x": _places(len(layers), relative=relative)[drawn] + aside, "y": [one.value for one in intervals],
            "mode": "lines+markers", "name": style.safe(name) + partly([one.curve for one in layers]),
            "legendgroup": style.safe(name),
            "line": {"color": looks[name][0], "width": 2.2, "dash": looks[name][1]},
            "error_y": _whiskers(intervals, top if apart is None else None, looks[name][0]),
            "marker": {"size": 8, "symbol": ["circle" if one.whole else "circle-open" for one in shown]},
            "text": [style.safe(one.curve.label) for one in shown], "customdata": [_within(one) for one in intervals],
            "hovertemplate": "%{text}: %{y:.4f}%{customdata}",
        })  # fmt: skip
    ordered = {tuple(one.curve.layer for one in layers) for layers in networks.values()}
    names = [style.safe(name) for name in ordered.pop()] if len(ordered) == 1 else []
    named = {"tickvals": list(range(1, len(names) + 1)), "ticktext": names} if names else {}
    height: style.Part = {"range": style.LOSS_RANGE} if top is not None else {"rangemode": "tozero"}
    return style.figure(
        traces,
        x="relative depth (0 first layer, 1 logits)" if relative else "layer",
        y=title,
        height=380,
        dark=dark,
        shapes=[style.across(top, grey)] if top is not None and apart is None else [],
        xaxis={"range": [-0.05, 1.05]} if relative else {"range": [0.6, most + 0.4], "dtick": 1, **named},
        yaxis=height if apart is None else {},
    )


def differences(networks: Mapping[str, Sequence[Measured]], minus: str, *, relative: bool) -> dict[str, list[Interval]]:
    """What each network's layers have beyond those of the network `minus`: name -> an interval a layer.

    The same layer by order is taken away, or if `relative` the numbers of `minus` interpolated over relative depth.
    Projections of the same place are subtracted where both have as many: they look at the same images. NaN where one of
    the two is unknown, not finite or only a bound for want of pairs, and where `minus` has no layer there.
    """
    base = [one.usable for one in networks[minus]]
    result = {}
    for name, layers in networks.items():
        places = _places(len(layers), relative=relative)
        taken = [_between(base, place) if relative else _at(base, index) for index, place in enumerate(places)]
        result[name] = [_interval(_apart(one.usable, other)) for one, other in zip(layers, taken, strict=True)]
    return result


def _at(base: Sequence[Floats | None], index: int) -> Floats | None:
    return base[index] if index < len(base) else None


def _between(base: Sequence[Floats | None], depth: float) -> Floats | None:
    """The numbers at a relative depth, linear between the two known layers around it."""
    known = [(place, values) for place, values in zip(_places(len(base), relative=True), base, strict=True)
             if values is not None]  # fmt: skip
    before = [one for one in known if one[0] <= depth + 1e-9]
    after = [one for one in known if one[0] >= depth - 1e-9]
    if not before or not after:
        return None
    (low, first), (high, second) = before[-1], after[0]
    share = 0.0 if high <= low else (depth - low) / (high - low)
    if len(first) != len(second):
        first, second = first.mean(keepdims=True), second.mean(keepdims=True)
    mixed: Floats = first if share == 0 else (1 - share) * first + share * second
    return mixed


def _apart(values: Floats | None, other: Floats | None) -> Floats | None:
    """The differences, projection by projection; of the means where there are more of one."""
    if values is None or other is None or not (np.isfinite(values).all() and np.isfinite(other).all()):
        return None
    return values - other if len(values) == len(other) else np.atleast_1d(values.mean() - other.mean())


def _interval(values: Floats | None) -> Interval:
    if values is None:
        return Interval(math.nan, math.nan, math.nan, 0)
    return student(values) if len(values) > 2 else student([float(values.mean())])


def _whiskers(intervals: Sequence[Interval], top: float | None, colour: str) -> style.Part:
    """Error bars; those of a number that is 0 or more and has a `top` end there."""
    if not any(one.known for one in intervals):
        return {"visible": False}
    up = [0.0 if not one.known else min(one.high, top or one.high) - one.value for one in intervals]
    down = [0.0 if not one.known else one.value - (one.low if top is None else max(one.low, 0.0)) for one in intervals]
    return {"type": "data", "array": up, "arrayminus": down, "color": colour, "thickness": 1.2, "width": 4}


def _within(interval: Interval) -> str:
    return f" ({interval.low:.4f} to {interval.high:.4f})" if interval.known else ""


def input_name(images: Curve) -> str:
    """What the line of the images themselves is."""
    return "input" if images.m is None else f"input through m = {images.m}"


def _places(layers: int, *, relative: bool) -> Floats:
    """Where layers stand from left to right: 1, 2, 3, … or if `relative` from 0 (first) to 1 (logits)."""
    if relative:
        return np.linspace(0.0, 1.0, layers) if layers > 1 else np.ones(layers)
    return np.arange(1.0, layers + 1)


def accuracy_by_budget(
    networks: Mapping[str, tuple[Floats, Floats] | None], at: float, *, dark: bool = False
) -> go.Figure:
    """Accuracy under PGD over the budget, one line a network in its colour of `by_depth`.

    `networks` maps name -> (budgets, accuracies in [0, 1]), or None where none is measured; `at` is marked.
    """
    looks = style.network_looks(list(networks), dark)
    traces: list[style.Part] = [
        {
            "x": line[0], "y": line[1], "mode": "lines+markers", "name": style.safe(name), "marker": {"size": 6},
            "line": {"color": looks[name][0], "width": 2.2, "dash": looks[name][1]},
            "hovertemplate": "%{y:.1%} at ε = %{x:.2f}",
        }
        for name, line in networks.items()
        if line is not None
    ]  # fmt: skip
    return style.figure(
        traces,
        x="budget ε",
        y="accuracy under PGD, test images",
        height=380,
        dark=dark,
        shapes=[style.upright(at, style.reference_colour(dark))],
        yaxis={"range": [0, 1.03], "tickformat": ".0%"},
    )
