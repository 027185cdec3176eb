"""The distance matrix of one layer and projection, as a heat map whose cells can be clicked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from charts import style
from charts.curves import Floats
from robustness_core.spec import PAPERS

LARGEST = 200  # rows or columns that are drawn; beyond that a browser takes seconds
_EDGE: style.Part = {"type": "rect", "line": {"width": 0}, "fillcolor": "#ff2d55"}
MANY = 2500  # cells from which WebGL draws the markers; its start alone takes up to a second without a graphics card
Order = np.ndarray[tuple[int, ...], np.dtype[np.intp]]
Mask = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]


def distance_matrix(
    distance: Floats,
    collided: Mask,
    left_indices: Sequence[int],
    right_indices: Sequence[int],
    classes: tuple[int | str, int | str],
    *,
    chosen: tuple[int, int] | None = None,
    edge: tuple[Sequence[bool], Sequence[bool]] = ((), ()),
    norm: str = PAPERS.symbol,
    dark: bool = False,
) -> go.Figure:
    """Draw `distance` (L, R); unknown cells (NaN) stay empty, pairs that did not collide carry a cross.

    plotly reports no clicks on a heat map, so unseen square markers lie over its cells; the first two of their
    `customdata` are row and column, counted from 0; unknown cells have one too. At most 200 rows and columns are drawn.
    `chosen` frames one cell; a bar at the edge marks the rows (L,) and columns (R,) of which `edge` is true.
    """
    distance, collided = distance[:LARGEST, :LARGEST], collided[:LARGEST, :LARGEST]
    rows, columns = distance.shape
    cells: style.Part = {
        "type": "heatmap", "z": distance, "colorscale": "Viridis", "hoverinfo": "skip",
        "xgap": 0.5 if columns <= 60 else 0, "ygap": 0.5 if rows <= 60 else 0,
        "colorbar": {"title": {"text": f"distance ({norm} norm)", "side": "top"}, "orientation": "h", "y": 1.0,
                     "yanchor": "bottom", "thickness": 12, "outlinewidth": 0},
    }  # fmt: skip
    size = max(2.0, 420.0 / max(rows, columns, 1))
    invisible = {"symbol": "square", "size": size, "color": "rgba(0,0,0,0)", "opacity": 0, "line": {"width": 0}}
    cross = {"symbol": "x-thin", "size": size * 0.5, "line": {"width": 1.2, "color": "#ffffff"}}
    traces = [cells]
    for name, marked, marker, words in (
        ("pairs", np.isfinite(distance) & collided, invisible, ""),
        ("no collision", np.isfinite(distance) & ~collided, cross, "<br>did not collide: the midpoint"),
        ("not searched", np.isnan(distance), invisible, "<br>not searched; a click searches it"),
    ):
        y, x = np.nonzero(marked)
        numbers = (y, x, np.asarray(left_indices)[y], np.asarray(right_indices)[x], np.nan_to_num(distance[y, x]))
        opacity = {"marker": {"opacity": marker.get("opacity", 1)}}
        traces.append({
            "type": "scattergl" if rows * columns > MANY else "scatter", "x": x, "y": y, "mode": "markers",
            "name": name, "showlegend": False, "marker": marker, "customdata": np.column_stack(numbers),
            "selected": opacity, "unselected": opacity,
            "hovertemplate": f"x: {classes[0]} at %{{customdata[2]:d}}<br>x′: {classes[1]} at %{{customdata[3]:d}}"
            + ("" if name == "not searched" else "<br>distance %{customdata[4]:.4f} (" + f"{norm} norm)")
            + f"{words}<extra></extra>",
        })  # fmt: skip
    frames: list[style.Part] = []
    if chosen is not None and chosen[0] < rows and chosen[1] < columns:
        i, j = chosen
        frames.append({"type": "rect", "x0": j - 0.5, "x1": j + 0.5, "y0": i - 0.5, "y1": i + 0.5,
                       "line": {"color": "#ff2d55", "width": 2.5}})  # fmt: skip
    for place in np.flatnonzero(edge[0][:LARGEST]):
        frames.append({**_EDGE, "xref": "x domain", "x0": -0.012, "x1": -0.002, "y0": place - 0.5, "y1": place + 0.5})
    for place in np.flatnonzero(edge[1][:LARGEST]):
        frames.append({**_EDGE, "yref": "y domain", "y0": -0.012, "y1": -0.002, "x0": place - 0.5, "x1": place + 0.5})
    axis = {"showgrid": False, "constrain": "domain", "tickformat": "d", "nticks": 6}
    return style.figure(
        traces,
        x=f"x′, class {classes[1]} (nearest first)",
        y=f"x, class {classes[0]} (nearest first)",
        height=480,
        dark=dark,
        clickmode="event+select",
        dragmode=False,
        hovermode="closest",
        showlegend=False,
        plot_bgcolor="rgba(128,128,128,0.15)",
        shapes=frames,
        xaxis={**axis, "range": [-0.5, columns - 0.5]},
        yaxis={**axis, "range": [rows - 0.5, -0.5], "scaleanchor": "x"},
    )


def nearest_first(distance: Floats) -> tuple[Order, Order]:
    """Orders of rows and columns by their mean known distance; rows or columns without one come last."""
    known = np.isfinite(distance)
    totals = np.where(known, distance, 0.0)

    def order(axis: int) -> Order:
        count = known.sum(axis=axis)
        mean = np.where(count > 0, totals.sum(axis=axis) / np.maximum(count, 1), np.inf)
        return np.argsort(mean, kind="stable")

    return order(1), order(0)
