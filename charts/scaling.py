"""Distance against the projection dimension m: the sqrt(m) law, its fit, and the spread over projections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from charts import style
from charts.curves import Floats


def distance_against_m(
    m: Sequence[int],
    distance: Sequence[Floats],
    *,
    exponent: tuple[float, float, float] | None = None,
    prediction: Floats | None = None,
    region: tuple[float, float] | None = None,
    colour: str = "#8f0da4",
    dark: bool = False,
) -> go.Figure:
    """Mean distance against `m` on log axes, one marker a projection.

    `distance[i]` are the mean distances of the projections of `m[i]`. `exponent` is the fitted (value, low, high),
    `prediction` the distance that theory gives at each m where the layer is affine, `region` the m for which the law
    is expected.
    """
    dimensions = np.asarray(m, dtype=np.float64)
    means = np.array([float(np.mean(values)) for values in distance])
    grey = style.reference_colour(dark)
    figure = go.Figure()
    if region is not None and region[1] > region[0]:
        figure.add_vrect(
            x0=region[0], x1=region[1], fillcolor=grey, opacity=0.12, line_width=0,
            annotation={"text": "1 ≪ m ≪ √r4", "font": {"color": grey}}, annotation_position="top left",
        )  # fmt: skip
    if len(dimensions):
        reference = means[0] * np.sqrt(dimensions / dimensions[0])
        figure.add_scatter(
            x=dimensions, y=reference, mode="lines", name="√m through the first point",
            line={"color": grey, "dash": "dash", "width": 1.6}, hovertemplate="√m: %{y:.4f}<extra></extra>",
        )  # fmt: skip
    if prediction is not None:
        figure.add_scatter(
            x=dimensions, y=prediction, mode="lines", name="√m‖L(x−x′)‖ / (2‖L‖F)",
            line={"color": grey, "dash": "dot", "width": 2}, hovertemplate="theory: %{y:.4f}<extra></extra>",
        )  # fmt: skip
    figure.add_scatter(
        x=np.repeat(dimensions, [len(values) for values in distance]),
        y=np.concatenate([np.asarray(values, dtype=np.float64) for values in distance]) if distance else [],
        mode="markers", name="one projection", marker={"color": colour, "size": 6, "opacity": 0.5},
        hovertemplate="m = %{x}: %{y:.4f}<extra></extra>",
    )  # fmt: skip
    name = "mean" if exponent is None else f"mean, ∝ m^{exponent[0]:.2f} ({exponent[1]:.2f} to {exponent[2]:.2f})"
    figure.add_scatter(
        x=dimensions, y=means, mode="lines+markers", name=name, line={"color": colour, "width": 2.4},
        hovertemplate="m = %{x}: mean %{y:.4f}<extra></extra>",
    )  # fmt: skip
    style.layout(figure, x="projection dimension m", y="mean distance (ℓ2 norm)", height=420, dark=dark)
    figure.update_xaxes(type="log", tickvals=list(m), ticktext=[f"{k:,}" for k in m])
    figure.update_yaxes(type="log")
    return figure


def spread_against_m(m: Sequence[int], distance: Sequence[Floats], colour: str, *, dark: bool = False) -> go.Figure:
    """Spread over projections: standard deviation of the mean distance over its mean, in per cent, against m."""
    shown = [(k, values) for k, values in zip(m, distance, strict=True) if len(values) > 1]
    figure = go.Figure()
    figure.add_scatter(
        x=[k for k, _ in shown], y=[100 * float(np.std(v, ddof=1) / np.mean(v)) for _, v in shown],
        mode="lines+markers", line={"color": colour, "width": 2.4}, showlegend=False,
        hovertemplate="m = %{x}: %{y:.2f} %<extra></extra>",
    )  # fmt: skip
    style.layout(figure, x="projection dimension m", y="spread over projections (%)", height=300, dark=dark)
    figure.update_xaxes(type="log", tickvals=list(m), ticktext=[f"{k:,}" for k in m])
    figure.update_yaxes(rangemode="tozero")
    return figure


def curves_by_m(
    epsilon: Floats, curves: Mapping[int | None, Floats], *, input_space: Floats | None = None, dark: bool = False
) -> go.Figure:
    """Loss curves of one layer, a line for each m (None: no projection); each value is (N, E) nats."""
    figure = go.Figure()
    colours = style.palette(max(len(curves), 1), dark)
    for colour, (m, losses) in zip(colours, curves.items(), strict=False):
        figure.add_scatter(
            x=epsilon, y=losses.mean(axis=0), mode="lines", name="no projection" if m is None else f"m = {m}",
            line={"color": colour, "width": 2.2, "dash": "dash" if m is None else "solid"},
            hovertemplate="%{y:.4f} nats",
        )  # fmt: skip
    grey = style.reference_colour(dark)
    if input_space is not None:
        figure.add_scatter(
            x=epsilon, y=input_space, mode="lines", name="input space",
            line={"color": grey, "dash": "dot", "width": 2}, hovertemplate="%{y:.4f} nats",
        )  # fmt: skip
    figure.add_hline(y=style.LOG2, line={"color": grey, "width": 1, "dash": "dash"})
    style.layout(figure, x=style.EPSILON_TITLE, y=style.LOSS_TITLE, height=420, dark=dark, hovermode="x unified")
    figure.update_xaxes(range=[float(epsilon[0]), float(epsilon[-1])], unifiedhovertitle={"text": "ε = %{x:.3f}"})
    figure.update_yaxes(range=[-0.012, style.LOG2 * 1.08])
    return figure
