"""Distance against the projection dimension m: the sqrt(m) law, its fit, and the spread over projections."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from charts import style
from charts.curves import Curve, Floats, frame, partly, stepped
from robustness_core.spec import PAPERS, Threat


def distance_against_m(
    m: Sequence[int],
    distance: Sequence[Floats],
    *,
    exponent: tuple[float, float, float] | None = None,
    law: tuple[str, Floats] | None = None,
    images: Floats | None = None,
    intervals: Sequence[tuple[float, float]] = (),
    region: tuple[float, float] | None = None,
    norm: str = PAPERS.symbol,
    colour: str = "#8f0da4",
    dark: bool = False,
) -> go.Figure:
    """Mean distance against `m` on log axes, one marker a projection.

    `distance[i]` are the mean distances of the projections of `m[i]`. `exponent` is the fitted (value, low, high), the
    last two NaN for want of an interval. `law` is the line of the √m law with its name, `images` the mean distance of
    the images themselves, seen through each m, `intervals` those of the means, (low, high), NaN where there is none,
    `region` the m for which the law is expected.
    """
    dimensions = np.asarray(m, dtype=np.float64)
    means = np.array([float(np.mean(values)) for values in distance])
    grey = style.reference_colour(dark)
    shapes: list[style.Part] = []
    notes: list[style.Part] = []
    if region is not None and region[1] > region[0]:
        shapes.append({"type": "rect", "x0": region[0], "x1": region[1], "yref": "y domain", "y0": 0, "y1": 1,
                       "fillcolor": grey, "opacity": 0.12, "line": {"width": 0}})  # fmt: skip
        middle = (np.log10(region[0]) + np.log10(region[1])) / 2  # notes on a log axis take logarithms, shapes do not
        words = f"m < √r4 = {region[1]:.1f}"
        notes.append(style.note(words, grey, x=middle, yref="paper", y=1, yanchor="top"))
    traces: list[style.Part] = []
    if images is not None:
        traces.append({
            "x": dimensions, "y": images, "mode": "lines", "name": "input through the same m",
            "line": {"color": grey, "dash": "dot", "width": 2},
            "hovertemplate": "input through m = %{x}: mean %{y:.4f} (" + norm + " norm)<extra></extra>",
        })  # fmt: skip
    if law is not None:
        traces.append({
            "x": dimensions, "y": law[1], "mode": "lines", "name": law[0],
            "line": {"color": grey, "dash": "dash", "width": 1.6},
            "hovertemplate": "√m law: %{y:.4f} (" + norm + " norm)<extra></extra>",
        })  # fmt: skip
    name = "mean"
    if exponent is not None:
        within = f" ({exponent[1]:.2f} to {exponent[2]:.2f})" if np.isfinite(exponent).all() else ""
        name = f"mean, ∝ m^{exponent[0]:.2f}{within}"
    traces += [
        {
            "x": np.repeat(dimensions, [len(values) for values in distance]),
            "y": np.concatenate([np.asarray(values, dtype=np.float64) for values in distance]) if distance else [],
            "mode": "markers", "name": "one projection", "marker": {"color": colour, "size": 6, "opacity": 0.5},
            "hovertemplate": "m = %{x}: %{y:.4f} (" + norm + " norm)<extra></extra>",
        },
        {
            "x": dimensions, "y": means, "mode": "lines+markers", "name": name, "line": {"color": colour, "width": 2.4},
            "error_y": _whiskers(means, intervals, colour),
            "hovertemplate": "m = %{x}: mean %{y:.4f} (" + norm + " norm)<extra></extra>",
        },
    ]  # fmt: skip
    drawn = [float(value) for trace in traces for value in trace["y"] if value > 0]
    reach = [np.log10(min(drawn) / 1.3), np.log10(max(drawn) * 1.3)] if drawn else None
    return style.figure(
        traces,
        x="projection dimension m",
        y=f"mean distance ({norm} norm)",
        dark=dark,
        shapes=shapes,
        annotations=notes,
        xaxis=_log_axis(m),
        yaxis={"type": "log", "range": reach, "tickvals": [k * 10.0**e for e in range(-6, 7) for k in (1, 2, 5)]},
    )


def _whiskers(means: Floats, intervals: Sequence[tuple[float, float]], colour: str) -> style.Part:
    """Error bars from low to high, of a logarithmic axis: one that reaches below 0 ends at a hundredth of the mean."""
    ends = np.array(intervals, dtype=np.float64).reshape(-1, 2)
    if not len(ends):
        return {"visible": False}
    up, down = np.nan_to_num(ends[:, 1] - means), np.nan_to_num(means - np.maximum(ends[:, 0], means / 100))
    return {"type": "data", "array": up, "arrayminus": down, "color": colour, "thickness": 1.4, "width": 4}


def _log_axis(m: Sequence[int]) -> style.Part:
    return {"type": "log", "tickvals": list(m), "ticktext": [f"{k:,}" for k in m]}


def spread_against_m(
    m: Sequence[int],
    of_pair: Sequence[float],
    of_mean: Sequence[float],
    colour: str,
    *,
    theory: Floats | None = None,
    dark: bool = False,
) -> go.Figure:
    """Concentration: relative standard deviations over projections, in [0, 1], against `m`, drawn in per cent.

    `of_pair` is that of the distance of one pair (root mean square over pairs), `of_mean` that of the mean distance;
    `theory` is what an affine layer should show for one pair.
    """
    grey = style.reference_colour(dark)
    lines = [("one pair", of_pair, {"color": colour, "width": 2.4}),
             ("mean over pairs", of_mean, {"color": colour, "width": 1.8, "dash": "dash"})]  # fmt: skip
    if theory is not None:
        lines.append(("theory, one pair", list(theory), {"color": grey, "width": 2, "dash": "dot"}))
    traces: list[style.Part] = [
        {
            "x": list(m), "y": [100 * value for value in values], "mode": "lines+markers", "name": name, "line": line,
            "hovertemplate": f"m = %{{x}}: {name} %{{y:.2f}} %<extra></extra>",
        }
        for name, values, line in lines
    ]  # fmt: skip
    return style.figure(
        traces,
        x="projection dimension m",
        y="spread over projections (%)",
        height=340,
        dark=dark,
        xaxis=_log_axis(m),
        yaxis={"rangemode": "tozero"},
    )


def curves_by_m(
    epsilon: Floats,
    curves: Sequence[Curve],
    images: Sequence[Curve] = (),
    *,
    threat: Threat = PAPERS,
    dark: bool = False,
) -> go.Figure:
    """Loss curves of one layer, a line for each m; thin, with the share that is known, while some pairs are not.

    `images` are the curves of the images themselves, seen through the m of each of the `curves`: dotted in its colour.
    """
    traces: list[style.Part] = []
    if images:
        grey = {"color": style.reference_colour(dark), "width": 1.5, "dash": "dot"}
        name = "dotted: the input through the same m"
        traces.append({"x": [None], "y": [None], "mode": "lines", "name": name, "line": grey, "hoverinfo": "skip"})
    for place, colour in enumerate(style.palette(max(len(curves), 1), dark)[: len(curves)]):
        curve = curves[place]
        if not curve.known:
            continue
        name = "no projection" if curve.m is None else f"m = {curve.m}"
        dash = "dash" if curve.m is None else "solid"
        line: style.Part = {"color": colour, "width": curve.width, "dash": dash, "shape": "hv"}
        dotted = {"name": f"input, {name}", "showlegend": False, "line": {**line, "width": 1.5, "dash": "dot"}}
        for one, trace in ([(images[place], dotted)] if images else []) + [
            (curve, {"name": name + partly([curve]), "line": line})
        ]:
            mean = one.finely(epsilon).mean
            traces += stepped(epsilon, one, mean, one.mean, {"legendgroup": name, **trace})
    return frame(epsilon, traces, None, height=420, threat=threat, dark=dark)
