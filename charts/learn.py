"""Pictures of the ideas: level sets, colliding points, the steps of the search, a conflict graph."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from charts import style
from charts.curves import Floats

LEFT, RIGHT = ("#0072b2", "#b34f00"), ("#56b4e9", "#ff9d5c")  # class colours on light and dark backgrounds


def _sides(dark: bool) -> tuple[str, str]:
    return (RIGHT if dark else LEFT)[0], (RIGHT if dark else LEFT)[1]


def level_sets(axis: Floats, values: Floats, *, dark: bool = False, reach: float = 2.0) -> go.Figure:
    """Level lines of a feature: `values` (E, E) over the square of `axis` (E,), rows are y."""
    figure = go.Figure()
    figure.add_contour(
        x=axis, y=axis, z=values, ncontours=16, showscale=False, hoverinfo="skip",
        contours={"coloring": "lines"}, line={"width": 1.2},
        colorscale=[[0, style.palette(3, dark)[0]], [1, style.palette(3, dark)[2]]], name="level sets",
    )  # fmt: skip
    style.layout(figure, x="first input", y="second input", height=460, dark=dark, showlegend=True)
    figure.update_xaxes(range=[-reach, reach], constrain="domain")
    figure.update_yaxes(range=[-reach, reach], scaleanchor="x", constrain="domain")
    return figure


def meeting(
    axis: Floats,
    values: Floats,
    points: tuple[Floats, Floats],
    collision: tuple[Floats, Floats],
    distance: float,
    level: float,
    *,
    dark: bool = False,
) -> go.Figure:
    """Level sets, two points with balls of radius `distance`, the level on which they meet, and where."""
    figure = level_sets(axis, values, dark=dark)
    figure.add_contour(
        x=axis, y=axis, z=values, showscale=False, hoverinfo="skip", name="the level they meet on",
        contours={"start": level, "end": level, "size": 1, "coloring": "none"}, line={"width": 3.5, "color": "#d62728"},
    )  # fmt: skip
    below, above = ["bottom center", "top center"], ["top center", "bottom center"]  # of a point, and of its end
    labels = (below, above) if collision[0][1] >= collision[1][1] else (above, below)  # those of the ends keep apart
    for name, point, end, colour, label in zip(("x", "x′"), points, collision, _sides(dark), labels, strict=True):
        x0, y0 = point
        figure.add_shape(
            type="circle", x0=x0 - distance, x1=x0 + distance, y0=y0 - distance, y1=y0 + distance,
            line={"color": colour, "width": 1.5}, fillcolor=style.translucent(colour, 0.12),
        )  # fmt: skip
        figure.add_scatter(
            x=[x0, end[0]], y=[y0, end[1]], mode="lines+markers+text", name=f"{name} and its move",
            text=[name, "x̃" if name == "x" else "x̃′"], textposition=label, textfont={"size": 15},
            line={"color": colour, "width": 2}, marker={"size": [11, 9], "symbol": ["circle", "diamond"]},
            hovertemplate="(%{x:.2f}, %{y:.2f})<extra></extra>",
        )  # fmt: skip
    return figure


def places(figure: go.Figure, *, reach: float = 1.5, step: float = 0.1) -> go.Figure:
    """Let every place of the plane be clicked, on a grid of `step` up to `reach`.

    plotly reports no clicks on contours, so unseen square markers lie over them.
    """
    axis = np.round(np.arange(-reach, reach + step / 2, step), 6)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    figure.update_traces(unselected={"marker": {"opacity": 1}}, selector={"type": "scatter"})  # a click dims nothing
    figure.add_scatter(
        x=grid[:, 0], y=grid[:, 1], mode="markers", name="places", showlegend=False,
        marker={"symbol": "square", "size": 12, "color": "rgba(0,0,0,0)", "opacity": 0, "line": {"width": 0}},
        selected={"marker": {"opacity": 0}}, unselected={"marker": {"opacity": 0}},
        hovertemplate="(%{x:.1f}, %{y:.1f})<extra></extra>",
    )  # fmt: skip
    return figure.update_layout(clickmode="event+select", dragmode=False, hovermode="closest")


def steps(
    axis: Floats, values: Floats, points: tuple[Floats, Floats], path: Floats, *, dark: bool = False
) -> go.Figure:
    """The iterates of a search: `path` (steps + 1, 2 points, 2) from the midpoint on."""
    figure = level_sets(axis, values, dark=dark)
    for side, (name, colour) in enumerate(zip(("x", "x′"), _sides(dark), strict=True)):
        figure.add_scatter(
            x=path[:, side, 0], y=path[:, side, 1], mode="lines+markers", name=f"path of {name}",
            line={"color": colour, "width": 2}, marker={"size": 7},
            text=[f"step {i}" for i in range(len(path))], hovertemplate="%{text}: (%{x:.2f}, %{y:.2f})<extra></extra>",
        )  # fmt: skip
        figure.add_scatter(
            x=[points[side][0]], y=[points[side][1]], mode="markers+text", name=name, text=[name], showlegend=False,
            textposition="top center", textfont={"size": 15}, marker={"size": 12, "color": colour}, hoverinfo="skip",
        )  # fmt: skip
    return figure


def conflict_graph(
    left: Floats, right: Floats, conflicts: np.ndarray[tuple[int, ...], np.dtype[np.bool_]],
    qualities: tuple[Floats, Floats], epsilon: float, *, dark: bool = False,
) -> go.Figure:  # fmt: skip
    """Points of two classes, (L, 2) and (R, 2), a ball of radius ε around each, an edge where two balls meet.

    `qualities` are the probabilities of the correct class that the best classifier gives, shown on hover and as size.
    """
    figure = go.Figure()
    rows, columns = np.nonzero(conflicts)
    gap = np.full(len(rows), np.nan)
    x = np.stack([left[rows, 0], right[columns, 0], gap], axis=1).ravel()
    y = np.stack([left[rows, 1], right[columns, 1], gap], axis=1).ravel()
    figure.add_scatter(
        x=x, y=y, mode="lines", name="conflict", hoverinfo="skip",
        line={"color": style.translucent(style.reference_colour(dark), 0.6), "width": 1.2},
    )  # fmt: skip
    for name, points, quality, colour in zip(
        ("class a", "class b"), (left, right), qualities, _sides(dark), strict=True
    ):
        figure.add_scatter(
            x=points[:, 0], y=points[:, 1], mode="markers", name=name, customdata=quality,
            marker={"size": 6 + 10 * quality, "color": colour, "line": {"width": 1, "color": "#888888"}},
            hovertemplate="best classifier is right with probability %{customdata:.2f}<extra></extra>",
        )  # fmt: skip
        for px, py in points:
            figure.add_shape(
                type="circle", x0=px - epsilon, x1=px + epsilon, y0=py - epsilon, y1=py + epsilon, line={"width": 0},
                fillcolor=style.translucent(colour, 0.08), layer="below",
            )  # fmt: skip
    style.layout(figure, x="first input", y="second input", height=420, dark=dark)
    figure.update_xaxes(range=[-2.4, 2.4], constrain="domain")
    figure.update_yaxes(range=[-1.9, 1.9], scaleanchor="x", constrain="domain")
    return figure


def loss_so_far(epsilons: Floats, losses: Floats, at: float, *, dark: bool = False) -> go.Figure:
    """The loss curve of a small conflict graph with the present budget marked."""
    figure = go.Figure()
    colour = style.palette(1, dark)[0]
    figure.add_scatter(
        x=epsilons, y=losses, mode="lines", line={"color": colour, "width": 2.4}, showlegend=False,
        hovertemplate="ε = %{x:.2f}: %{y:.4f} nats<extra></extra>",
    )  # fmt: skip
    figure.add_scatter(
        x=[at], y=[float(np.interp(at, epsilons, losses))], mode="markers", showlegend=False,
        marker={"size": 11, "color": colour}, hoverinfo="skip",
    )  # fmt: skip
    figure.add_hline(y=style.LOG2, line={"color": style.reference_colour(dark), "width": 1, "dash": "dash"})
    style.layout(figure, x="budget ε", y=style.LOSS_TITLE, height=420, dark=dark)
    figure.update_yaxes(range=[-0.012, style.LOG2 * 1.08])
    return figure
