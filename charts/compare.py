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
    figure = make_subplots(
        rows=rows, cols=columns, shared_xaxes=True, shared_yaxes=True, horizontal_spacing=0.05,
        vertical_spacing=0.32 / rows,
        subplot_titles=[_in_lines(name) + partly(curves).replace(" ", "<br>", 1) for name, curves in networks.items()],
    )  # fmt: skip
    for index, curves in enumerate(networks.values()):
        row, column = index // columns + 1, index % columns + 1
        for curve, colour in zip(curves, style.palette(max(len(curves), 1), dark), strict=False):
            if curve.known:
                figure.add_scatter(
                    x=epsilon, y=curve.losses.mean(axis=0), mode="lines", name=style.safe(curve.layer),
                    line={"color": colour, "width": curve.width}, row=row, col=column,
                    legendgroup=style.safe(curve.layer), showlegend=same and curve.layer not in named,
                    hovertemplate=f"{style.safe(curve.label)}: %{{y:.4f}} nats at ε = %{{x:.2f}}<extra></extra>",
                )  # fmt: skip
                named.add(curve.layer)
        if input_space is not None:
            figure.add_scatter(
                x=epsilon, y=input_space, mode="lines", line={"color": grey, "dash": "dot", "width": 1.5},
                showlegend=False, hovertemplate="input space: %{y:.4f} nats<extra></extra>", row=row, col=column,
            )  # fmt: skip
        figure.add_hline(y=style.LOG2, line={"color": grey, "width": 1, "dash": "dash"}, row=row, col=column)
    style.layout(figure, x="", y="", height=140 + 260 * rows, dark=dark)
    figure.update_layout(margin={"t": 62}, legend={"y": -0.3 / rows, "yanchor": "top"})
    figure.update_annotations(font={"size": 12})
    figure.update_yaxes(range=[-0.012, style.LOG2 * 1.08])
    figure.update_yaxes(title={"text": "loss (nats)"}, col=1)
    figure.update_xaxes(title={"text": "budget ε"}, row=rows)
    return figure


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
    (first) to 1 (logits). `minus` names a network whose values are taken away from all (interpolated over relative
    depth). Layers of which some pairs are unknown have hollow markers; the legend says how many are known.
    """
    colours = style.network_colours(list(networks), dark)
    base = None
    if minus is not None and any(curve.known for curve in networks.get(minus, ())):
        base = _at_depths(epsilon, networks[minus], at)
    figure = go.Figure()
    for index, (name, curves) in enumerate(networks.items()):
        places = [place for place, curve in enumerate(curves, 1) if curve.known]
        shown = [curves[place - 1] for place in places]
        depth, loss = _at_depths(epsilon, curves, at)
        signs = ["circle" if curve.known == curve.total else "circle-open" for curve in shown]
        figure.add_scatter(
            x=depth if relative else places, y=loss if base is None else loss - np.interp(depth, *base),
            mode="lines+markers", name=style.safe(name) + partly(curves),
            line={"color": colours[name], "width": 2.2, "dash": style.dash(index)},
            marker={"size": 8, "symbol": signs}, text=[style.safe(curve.label) for curve in shown],
            hovertemplate="%{text}: %{y:.4f} nats",
        )  # fmt: skip
    title = f"loss at ε = {at:g} (nats)" if base is None else f"difference at ε = {at:g} (nats)"
    x = "relative depth (0 first layer, 1 logits)" if relative else "layer"
    style.layout(figure, x=x, y=title, height=380, dark=dark)
    if not relative:
        layers = {tuple(curve.layer for curve in curves) for curves in networks.values()}
        names = layers.pop() if len(layers) == 1 else ()
        figure.update_xaxes(dtick=1)
        if names:
            ticks = [style.safe(name) for name in names]
            figure.update_xaxes(tickvals=list(range(1, len(names) + 1)), ticktext=ticks)
    if base is None:
        figure.add_hline(y=style.LOG2, line={"color": style.reference_colour(dark), "width": 1, "dash": "dash"})
        figure.update_yaxes(range=[-0.012, style.LOG2 * 1.08])
    return figure


def _at_depths(epsilon: Floats, curves: Sequence[Curve], at: float) -> tuple[Floats, Floats]:
    """Relative depth and mean loss at budget `at` of the layers of which something is known."""
    shown = np.array([curve.known > 0 for curve in curves], dtype=bool)
    depth = np.linspace(0.0, 1.0, len(curves)) if len(curves) > 1 else np.ones(len(curves))
    loss = np.array([float(value_at(epsilon, curve.losses, at).mean()) for curve in curves])
    return depth[shown], loss[shown]


def accuracy_by_budget(
    networks: Mapping[str, tuple[Floats, Floats] | None], at: float, *, dark: bool = False
) -> go.Figure:
    """Accuracy under PGD over the budget, one line a network in its colour of `loss_by_depth`.

    `networks` maps name -> (budgets, accuracies in [0, 1]), or None where none is measured; `at` is marked.
    """
    colours = style.network_colours(list(networks), dark)
    figure = go.Figure()
    for index, (name, line) in enumerate(networks.items()):
        if line is not None:
            figure.add_scatter(
                x=line[0], y=line[1], mode="lines+markers", name=style.safe(name),
                line={"color": colours[name], "width": 2.2, "dash": style.dash(index)}, marker={"size": 6},
                hovertemplate="%{y:.1%} at ε = %{x:.2f}",
            )  # fmt: skip
    figure.add_vline(x=at, line={"color": style.reference_colour(dark), "width": 1})
    style.layout(figure, x="budget ε", y="accuracy under PGD", height=380, dark=dark)
    figure.update_yaxes(range=[0, 1.03], tickformat=".0%")
    return figure
