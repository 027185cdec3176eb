"""Networks side by side: small multiples of their layer curves, and loss by layer at one budget."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from charts import style
from charts.curves import Curve, Floats, partly, value_at


def small_multiples(
    epsilon: Floats,
    networks: Mapping[str, Sequence[Curve]],
    *,
    columns: int = 3,
    input_space: Floats | None = None,
    dark: bool = False,
) -> go.Figure:
    """One panel a network with its layer curves, on the same axes; `networks` maps name -> curves in layer order.

    Curves of which some pairs are unknown are thin, and the title says how many are known. Where all networks have the
    same layers, the legend names them and toggles a layer in all panels.
    """
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
        place = {"xaxis": f"x{number}", "yaxis": f"y{number}", "x": epsilon, "mode": "lines"}
        for curve, colour in zip(curves, style.palette(max(len(curves), 1), dark), strict=False):
            if curve.known:
                layer = style.safe(curve.layer)
                traces.append({
                    **place, "y": curve.averaged.mean(axis=0), "name": layer, "legendgroup": layer,
                    "line": {"color": colour, "width": curve.width}, "showlegend": same and layer not in named,
                    "hovertemplate": f"{style.safe(curve.label)}: %{{y:.4f}} nats at ε = %{{x:.2f}}<extra></extra>",
                })  # fmt: skip
                named.add(layer)
        if input_space is not None:
            traces.append({
                **place, "y": input_space, "line": {"color": grey, "dash": "dot", "width": 1.5}, "showlegend": False,
                "hovertemplate": "input space: %{y:.4f} nats<extra></extra>",
            })  # fmt: skip
        lines.append(style.across(style.LOG2, grey) | {"xref": f"x{number} domain", "yref": f"y{number}"})
        lowest, leftmost = index + columns >= count, index % columns == 0
        axes[f"xaxis{number}"] = {
            **grid[f"xaxis{number}"],
            **style.axis("budget ε" if lowest else "", dark),
            "showticklabels": lowest,
            "matches": "x" if index else None,
        }
        axes[f"yaxis{number}"] = {
            **grid[f"yaxis{number}"],
            **style.axis("loss (nats)" if leftmost else "", dark),
            "range": style.LOSS_RANGE,
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


def loss_by_depth(
    epsilon: Floats,
    networks: Mapping[str, Sequence[Curve]],
    at: float,
    *,
    relative: bool = False,
    minus: str | None = None,
    dark: bool = False,
) -> go.Figure:
    """Loss at budget `at`, layer by layer, one line a network.

    Aligned by layer order, under the layers' names where all networks have the same, or if `relative` by depth from 0
    (first) to 1 (logits). `minus` names a network whose values are taken away from all, see `differences`; layers of
    which only a lower bound is known are left out then, for a difference of bounds is none. Layers of which some pairs
    are unknown have hollow markers; the legend says how many are known.
    """
    looks = style.network_looks(list(networks), dark)
    apart = None
    if minus is not None and any(not curve.lower for curve in networks.get(minus, ())):
        apart = differences(epsilon, networks, at, minus, relative=relative)
    traces: list[style.Part] = []
    for name, curves in networks.items():
        losses = _losses(epsilon, curves, at) if apart is None else apart[name]
        drawn = np.isfinite(losses)
        shown = [curve for curve, is_drawn in zip(curves, drawn, strict=True) if is_drawn]
        signs = ["circle" if curve.known == curve.total else "circle-open" for curve in shown]
        traces.append({
            "x": _places(len(curves), relative=relative)[drawn], "y": losses[drawn],
            "mode": "lines+markers", "name": style.safe(name) + partly(curves), "legendgroup": style.safe(name),
            "line": {"color": looks[name][0], "width": 2.2, "dash": looks[name][1]},
            "marker": {"size": 8, "symbol": signs}, "text": [style.safe(curve.label) for curve in shown],
            "hovertemplate": "%{text}: %{y:.4f} nats",
        })  # fmt: skip
    layers = {tuple(curve.layer for curve in curves) for curves in networks.values()}
    most = max((len(curves) for curves in networks.values()), default=1)
    names = [style.safe(name) for name in layers.pop()] if len(layers) == 1 else []
    named = {"tickvals": list(range(1, len(names) + 1)), "ticktext": names} if names else {}
    loss_axis: style.Part = {"range": style.LOSS_RANGE} if apart is None else {}
    return style.figure(
        traces,
        x="relative depth (0 first layer, 1 logits)" if relative else "layer",
        y=f"loss at ε = {at:g} (nats)" if apart is None else f"difference at ε = {at:g} (nats)",
        height=380,
        dark=dark,
        shapes=[style.across(style.LOG2, style.reference_colour(dark))] if apart is None else [],
        xaxis={"range": [-0.05, 1.05]} if relative else {"range": [0.6, most + 0.4], "dtick": 1, **named},
        yaxis=loss_axis,
    )


def differences(
    epsilon: Floats, networks: Mapping[str, Sequence[Curve]], at: float, minus: str, *, relative: bool
) -> dict[str, Floats]:
    """What each network's layers lose at budget `at` beyond those of the network `minus`: name -> (layers,) nats.

    The same layer by order is taken away, or if `relative` the losses of `minus` interpolated over relative depth. NaN
    where one of the two is unknown or only a lower bound, and where `minus` has no layer there.
    """
    exact = {
        name: np.where([curve.lower for curve in curves], np.nan, _losses(epsilon, curves, at))
        for name, curves in networks.items()
    }
    base = exact[minus]
    known = np.isfinite(base)
    result = {}
    for name, losses in exact.items():
        if relative:
            depths = _places(len(base), relative=True)[known]
            taken = np.interp(_places(len(losses), relative=True), depths, base[known], left=np.nan, right=np.nan)
        else:
            taken = np.full(len(losses), np.nan)
            taken[: len(base)] = base[: len(losses)]
        result[name] = losses - taken
    return result


def _places(layers: int, *, relative: bool) -> Floats:
    """Where layers stand from left to right: 1, 2, 3, … or if `relative` from 0 (first) to 1 (logits)."""
    if relative:
        return np.linspace(0.0, 1.0, layers) if layers > 1 else np.ones(layers)
    return np.arange(1.0, layers + 1)


def _losses(epsilon: Floats, curves: Sequence[Curve], at: float) -> Floats:
    """Mean loss of each layer at budget `at`; NaN of those of which nothing is known."""
    return np.array(
        [float(value_at(epsilon, curve.averaged, at).mean()) if curve.known else np.nan for curve in curves]
    )


def accuracy_by_budget(
    networks: Mapping[str, tuple[Floats, Floats] | None], at: float, *, dark: bool = False
) -> go.Figure:
    """Accuracy under PGD over the budget, one line a network in its colour of `loss_by_depth`.

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
        y="accuracy under PGD",
        height=380,
        dark=dark,
        shapes=[style.upright(at, style.reference_colour(dark))],
        yaxis={"range": [0, 1.03], "tickformat": ".0%"},
    )
