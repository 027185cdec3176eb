"""Pictures of the ideas: level sets, colliding points, the steps of the search, a conflict graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from charts import style
from charts.curves import Floats

LEFT, RIGHT = ("#0072b2", "#b34f00"), ("#56b4e9", "#ff9d5c")  # class colours on light and dark backgrounds


def _sides(dark: bool) -> tuple[str, str]:
    return (RIGHT if dark else LEFT)[0], (RIGHT if dark else LEFT)[1]


def level_sets(axis: Floats, values: Floats, *, dark: bool = False) -> go.Figure:
    """Level lines of a feature: `values` (E, E) over the square of `axis` (E,), rows are y."""
    return _plane([_levels(axis, values, dark)], height=460, dark=dark)


def meeting(
    axis: Floats,
    values: Floats,
    points: tuple[Floats, Floats],
    collision: tuple[Floats, Floats],
    distance: float,
    level: float,
    *,
    reach: float | None = None,
    dark: bool = False,
) -> go.Figure:
    """Level sets, two points with balls of radius `distance`, the level on which they meet, and where.

    Every place up to `reach` can be clicked.
    """
    traces = [
        _levels(axis, values, dark),
        {
            "type": "contour", "x": axis, "y": axis, "z": values, "showscale": False, "hoverinfo": "skip",
            "name": "the level they meet on", "line": {"width": 3.5, "color": "#d62728"},
            "contours": {"start": level, "end": level, "size": 1, "coloring": "none"},
        },
    ]  # fmt: skip
    balls: list[style.Part] = []
    below, above = ["bottom center", "top center"], ["top center", "bottom center"]  # of a point, and of its end
    labels = (below, above) if collision[0][1] >= collision[1][1] else (above, below)  # those of the ends keep apart
    for name, point, end, colour, label in zip(("x", "x′"), points, collision, _sides(dark), labels, strict=True):
        outline = {"line": {"color": colour, "width": 1.5}, "fillcolor": style.translucent(colour, 0.12)}
        balls.append({**_circle(point, distance), **outline})
        traces.append({
            "x": [point[0], end[0]], "y": [point[1], end[1]], "mode": "lines+markers+text",
            "name": f"{name} and its move", "text": [name, "x̃" if name == "x" else "x̃′"], "textposition": label,
            "textfont": {"size": 15}, "line": {"color": colour, "width": 2},
            "marker": {"size": [11, 9], "symbol": ["circle", "diamond"]},
            "hovertemplate": "(%{x:.2f}, %{y:.2f})<extra></extra>",
        })  # fmt: skip
    more: style.Part = {}
    if reach is not None:
        for trace in traces[2:]:
            trace["unselected"] = {"marker": {"opacity": 1}}  # a click dims nothing
        traces.append(_places(reach))
        more = {"clickmode": "event+select", "dragmode": False, "hovermode": "closest"}
    return _plane(traces, height=460, dark=dark, shapes=balls, **more)


def _places(reach: float, step: float = 0.1) -> style.Part:
    """Unseen square markers on a grid of `step` up to `reach`: plotly reports no clicks on the contours below."""
    axis = np.round(np.arange(-reach, reach + step / 2, step), 6)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    unseen = {"marker": {"opacity": 0}}
    return {
        "x": grid[:, 0], "y": grid[:, 1], "mode": "markers", "name": "places", "showlegend": False,
        "marker": {"symbol": "square", "size": 12, "color": "rgba(0,0,0,0)", "opacity": 0, "line": {"width": 0}},
        "selected": unseen, "unselected": unseen, "hovertemplate": "(%{x:.1f}, %{y:.1f})<extra></extra>",
    }  # fmt: skip


def steps(
    axis: Floats, values: Floats, points: tuple[Floats, Floats], path: Floats, *, dark: bool = False
) -> go.Figure:
    """The iterates of a search: `path` (steps + 1, 2 points, 2) from the midpoint on."""
    traces = [_levels(axis, values, dark)]
    for side, (name, colour) in enumerate(zip(("x", "x′"), _sides(dark), strict=True)):
        traces += [
            {
                "x": path[:, side, 0], "y": path[:, side, 1], "mode": "lines+markers", "name": f"path of {name}",
                "line": {"color": colour, "width": 2}, "marker": {"size": 7},
                "text": [f"step {i}" for i in range(len(path))],
                "hovertemplate": "%{text}: (%{x:.2f}, %{y:.2f})<extra></extra>",
            },
            {
                "x": [points[side][0]], "y": [points[side][1]], "mode": "markers+text", "name": name, "text": [name],
                "showlegend": False, "textposition": "top center", "textfont": {"size": 15},
                "marker": {"size": 12, "color": colour}, "hoverinfo": "skip",
            },
        ]  # fmt: skip
    return _plane(traces, height=460, dark=dark)


def conflict_graph(
    left: Floats, right: Floats, conflicts: np.ndarray[tuple[int, ...], np.dtype[np.bool_]],
    qualities: tuple[Floats, Floats], epsilon: float, *, height: int = 420, dark: bool = False,
) -> go.Figure:  # fmt: skip
    """Points of two classes, (L, 2) and (R, 2), a ball of radius ε around each, an edge where two balls meet.

    `qualities` are the probabilities of the correct class that the best classifier gives, shown on hover and as size.
    """
    rows, columns = np.nonzero(conflicts)
    gap = np.full(len(rows), np.nan)
    edges: style.Part = {
        "x": np.stack([left[rows, 0], right[columns, 0], gap], axis=1).ravel(),
        "y": np.stack([left[rows, 1], right[columns, 1], gap], axis=1).ravel(),
        "mode": "lines", "name": "conflict", "hoverinfo": "skip",
        "line": {"color": style.translucent(style.reference_colour(dark), 0.6), "width": 1.2},
    }  # fmt: skip
    traces, balls = [edges], []
    for name, points, quality, colour in zip(
        ("class a", "class b"), (left, right), qualities, _sides(dark), strict=True
    ):
        traces.append({
            "x": points[:, 0], "y": points[:, 1], "mode": "markers", "name": name, "customdata": quality,
            "marker": {"size": 6 + 10 * quality, "color": colour, "line": {"width": 1, "color": "#888888"}},
            "hovertemplate": "best classifier is right with probability %{customdata:.2f}<extra></extra>",
        })  # fmt: skip
        filled = {"line": {"width": 0}, "fillcolor": style.translucent(colour, 0.08), "layer": "below"}
        balls += [{**_circle(point, epsilon), **filled} for point in points]
    return _plane(traces, ends=(2.4, 1.9), height=height, dark=dark, shapes=balls)


def loss_so_far(epsilons: Floats, losses: Floats, at: float, *, height: int = 420, dark: bool = False) -> go.Figure:
    """The loss curve of a small conflict graph with the present budget marked."""
    colour = style.palette(1, dark)[0]
    curve: style.Part = {
        "x": epsilons, "y": losses, "mode": "lines", "line": {"color": colour, "width": 2.4}, "showlegend": False,
        "hovertemplate": "ε = %{x:.2f}: %{y:.4f} nats<extra></extra>",
    }  # fmt: skip
    here: style.Part = {
        "x": [at], "y": [float(np.interp(at, epsilons, losses))], "mode": "markers", "showlegend": False,
        "marker": {"size": 11, "color": colour}, "hoverinfo": "skip",
    }  # fmt: skip
    return style.figure(
        [curve, here],
        x="budget ε",
        y=style.LOSS_TITLE,
        height=height,
        dark=dark,
        shapes=[style.across(style.LOG2, style.reference_colour(dark))],
        yaxis={"range": style.LOSS_RANGE},
    )


def _plane(
    traces: list[style.Part], *, ends: tuple[float, float] = (2.0, 2.0), height: int, dark: bool, **more: Any
) -> go.Figure:
    """`traces` in the plane of two inputs, with the same scale on both axes."""
    x, y = ({"range": [-end, end], "constrain": "domain"} for end in ends)
    return style.figure(
        traces, x="first input", y="second input", height=height, dark=dark, xaxis=x, yaxis={**y, "scaleanchor": "x"},
        **more,
    )  # fmt: skip


def _levels(axis: Floats, values: Floats, dark: bool) -> style.Part:
    first, _, last = style.palette(3, dark)
    return {
        "type": "contour", "x": axis, "y": axis, "z": values, "ncontours": 16, "showscale": False, "hoverinfo": "skip",
        "contours": {"coloring": "lines"}, "line": {"width": 1.2}, "colorscale": [[0, first], [1, last]],
        "name": "level sets",
    }  # fmt: skip


def _circle(centre: Floats, radius: float) -> style.Part:
    x, y = centre
    return {"type": "circle", "x0": x - radius, "x1": x + radius, "y0": y - radius, "y1": y + radius}
