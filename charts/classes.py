"""More than two classes: a heat map of their pairs, and errors over the budget with what each part of them costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from charts import style

Floats = style.Floats


def heat_map(
    values: Floats,
    names: Sequence[str],
    *,
    title: str,
    spread: Floats | None = None,
    counts: Floats | None = None,
    chosen: tuple[int, int] | None = None,
    dark: bool = False,
) -> go.Figure:
    """A number of each pair of classes, (K, K) symmetric, NaN on the diagonal and where nothing is known.

    `title`: what the numbers are, with their unit. `spread` (K, K): their standard errors. `counts` (K, K): over how
    many pairs of images each is. `chosen` frames one cell. Unseen markers over the cells carry row and column, since
    plotly reports no clicks on heat maps. At more than 12 classes the cells have no numbers in them.
    """
    K = len(names)
    labels = [style.safe(name) for name in names]
    known = np.isfinite(values)
    cells: style.Part = {
        "type": "heatmap", "z": values, "x": labels, "y": labels, "colorscale": "Viridis", "hoverinfo": "skip",
        "xgap": 1, "ygap": 1, "colorbar": {"title": {"text": title, "side": "top"}, "orientation": "h", "y": 1.0,
                                           "yanchor": "bottom", "thickness": 12, "outlinewidth": 0},
        "texttemplate": "%{z:.2f}" if K <= 12 else "",
    }  # fmt: skip
    i, j = np.nonzero(known)
    errors = np.zeros((K, K)) if spread is None else np.nan_to_num(spread)
    over = np.zeros((K, K)) if counts is None else counts
    said = "%{y} and %{x}<br>%{customdata[2]:.3f}"
    said += "" if spread is None else " ± %{customdata[3]:.3f}"
    said += "" if counts is None else "<br>of %{customdata[4]:d} pairs"
    markers: style.Part = {
        "type": "scatter", "x": [labels[place] for place in j], "y": [labels[place] for place in i], "mode": "markers",
        "marker": {"symbol": "square", "size": max(4.0, 400.0 / max(K, 1)), "color": "rgba(0,0,0,0)", "opacity": 0},
        "selected": {"marker": {"opacity": 0}}, "unselected": {"marker": {"opacity": 0}},
        "customdata": np.column_stack([i, j, values[i, j], errors[i, j], over[i, j]]),
        "hovertemplate": said + "<br>click for these two<extra></extra>", "showlegend": False,
    }  # fmt: skip
    frames: list[style.Part] = []
    if chosen is not None:
        for row, column in (chosen, chosen[::-1]):
            frames.append({
                "type": "rect", "x0": column - 0.5, "x1": column + 0.5, "y0": row - 0.5, "y1": row + 0.5,
                "line": {"color": "#ff2d55", "width": 2.5},
            })  # fmt: skip
    axis = {"showgrid": False, "constrain": "domain", "type": "category", "categoryarray": labels}
    return style.figure(
        [cells, markers],
        x="class",
        y="class",
        height=480,
        dark=dark,
        clickmode="event+select",
        dragmode=False,
        hovermode="closest",
        showlegend=False,
        shapes=frames,
        xaxis=axis,
        yaxis={**axis, "autorange": "reversed", "scaleanchor": "x"},
    )


def errors(
    epsilon: Floats,
    optimal: Mapping[str, Floats],
    colours: Mapping[str, str],
    *,
    network: tuple[Floats, Floats] | None = None,
    at: float | None = None,
    classes: int = 10,
    dark: bool = False,
) -> go.Figure:
    """Optimal 0-1 losses over the budget, name -> (E,), and the error of the network under PGD, (x, y), if known.

    The first of `optimal` is that of the images and dotted. `at` marks a budget. The line at 1 - 1/K is guessing.
    """
    grey = style.reference_colour(dark)
    traces: list[style.Part] = []
    for place, (name, y) in enumerate(optimal.items()):
        line = {"color": colours.get(name, grey), "width": 2, "shape": "hv", "dash": "dot" if place == 0 else "solid"}
        traces.append({"x": epsilon, "y": y, "mode": "lines", "name": style.safe(name), "line": line,
                       "hovertemplate": "%{y:.1%}"})  # fmt: skip
    if network is not None:
        traces.append({
            "x": network[0], "y": network[1], "mode": "lines", "name": "the network, under PGD",
            "line": {"color": grey, "width": 2.4, "dash": "longdash", "shape": "hv"}, "hovertemplate": "%{y:.1%}",
        })  # fmt: skip
    guess = 1 - 1 / classes
    lines = [style.across(guess, grey)] + ([] if at is None else [style.upright(at, grey)])
    words = style.note("guessing", grey, xref="x domain", x=0, xanchor="left", y=guess, yanchor="bottom")
    return style.figure(
        traces,
        x="budget ε (ℓ2 norm, pixels in [0, 1])",
        y="0-1 loss: share of images that are lost",
        height=420,
        dark=dark,
        hovermode="x unified",
        shapes=lines,
        annotations=[words],
        xaxis={"range": [float(epsilon[0]), float(epsilon[-1])], "unifiedhovertitle": {"text": "ε = %{x:.3f}"}},
        yaxis={"range": [-0.02, 1.02], "tickformat": ".0%"},
    )
