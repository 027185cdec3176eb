"""Loss curves: optimal loss over the budget ε, one line a layer, a band over its projections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from charts import style

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


@dataclass(frozen=True)
class Curve:
    """The loss curves of one layer: `losses` is (N, E) nats, one row a projection; `m` is None without projection.

    `known` of `total` pairs have a distance; while some are unknown the curve is a lower bound.
    """

    layer: str
    features: int
    m: int | None
    losses: Floats
    known: int
    total: int

    @property
    def label(self) -> str:
        return f"{self.layer}{'' if self.m is not None else ', no projection'}{partly([self])}"

    @property
    def width(self) -> float:
        """Of its line: thin while some pairs are unknown."""
        return 2.4 if self.known == self.total else 1.2


def partly(curves: Sequence[Curve]) -> str:
    """` (25% known)` while some pairs of these curves are unknown, nothing once all are known."""
    known, total = sum(curve.known for curve in curves), sum(curve.total for curve in curves)
    return "" if known == total else f" ({100 * known // total}% known)"


def layer_curves(
    epsilon: Floats,
    curves: Sequence[Curve],
    colours: Mapping[str, str],
    *,
    input_space: Floats | None = None,
    overlays: Mapping[str, tuple[Floats, Floats]] | None = None,
    accuracy: tuple[Floats, Floats] | None = None,
    single: bool = False,
    mark: float | None = None,
    final: float | None = None,
    dark: bool = False,
) -> go.Figure:
    """Draw mean curves with a min-max band (or, if `single`, every projection) over `epsilon` (E,).

    `input_space` (E,) is the loss of the images themselves; `overlays` are named (x, y) lines of other losses, cut at
    twice log 2; `accuracy` is an (x, y) line of robust accuracy in [0, 1] with an axis of its own on the right; `mark`
    draws a vertical line at that budget. Curves without a single known pair are left out, those of which some are
    unknown are thin; `final` marks the budget up to which missing pairs are expected to add nothing.
    """
    figure = frame(epsilon, input_space, dark=dark)
    grey = style.reference_colour(dark)
    for curve in curves:
        if curve.known:
            _draw(figure, epsilon, curve, colours.get(curve.layer, grey), single)
    for index, (name, (x, y)) in enumerate((overlays or {}).items()):
        figure.add_scatter(
            x=x, y=y, mode="lines", name=style.safe(name), hovertemplate="%{y:.4f}",
            line={"color": grey, "width": 2, "dash": style.dash(index + 3)},
        )  # fmt: skip
    if mark is not None:
        figure.add_vline(x=mark, line={"color": grey, "width": 1})
    if final is not None and epsilon[0] < final < epsilon[-1]:
        figure.add_vline(
            x=final, line={"color": grey, "width": 1, "dash": "dot"}, annotation_position="bottom right",
            annotation={"text": "right of this the layer in work may still rise", "font": {"color": grey, "size": 12}},
        )  # fmt: skip
    if overlays:
        figure.update_yaxes(range=[-0.012, style.LOG2 * 2.0])
    if accuracy is not None:
        figure.add_scatter(
            x=accuracy[0], y=accuracy[1], yaxis="y2", mode="lines+markers", name="PGD accuracy",
            line={"color": grey, "width": 1.6, "dash": "longdash"}, hovertemplate="%{y:.1%} right",
        )  # fmt: skip
        figure.update_layout(
            yaxis2={
                "overlaying": "y", "side": "right", "range": [0, 1.0], "tickformat": ".0%", "showgrid": False,
                "tickmode": "linear", "tick0": 0, "dtick": 0.25, "zeroline": False,
                "title": {"text": "accuracy under PGD", "font": {"color": grey}}, "tickfont": {"color": grey},
            }
        )  # fmt: skip
    return figure


def frame(epsilon: Floats, input_space: Floats | None, *, dark: bool = False) -> go.Figure:
    """A figure for loss over `epsilon` (E,): axes, the line at log 2, and the input space (E,) if given."""
    figure = go.Figure()
    grey = style.reference_colour(dark)
    if input_space is not None:
        figure.add_scatter(
            x=epsilon, y=input_space, mode="lines", name="input space", legendgroup="input",
            line={"color": grey, "width": 2, "dash": "dot"}, hovertemplate="%{y:.4f} nats",
        )  # fmt: skip
    figure.add_hline(
        y=style.LOG2, line={"color": grey, "width": 1, "dash": "dash"},
        annotation={"text": "log 2: no information left", "font": {"color": grey, "size": 12}},
        annotation_position="top left",
    )  # fmt: skip
    style.layout(figure, x=style.EPSILON_TITLE, y=style.LOSS_TITLE, height=460, dark=dark, hovermode="x unified")
    figure.update_xaxes(range=[float(epsilon[0]), float(epsilon[-1])], unifiedhovertitle={"text": "ε = %{x:.3f}"})
    figure.update_yaxes(range=[-0.012, style.LOG2 * 1.08])
    return figure


def _draw(figure: go.Figure, epsilon: Floats, curve: Curve, colour: str, single: bool) -> None:
    name = style.safe(curve.label)
    pre_activation = curve.layer.endswith(".pre")
    dash = "dash" if curve.m is None else "dashdot" if pre_activation else "solid"
    group = f"{name} {curve.m}"
    if single:
        for index, loss in enumerate(curve.losses):
            figure.add_scatter(
                x=epsilon, y=loss, mode="lines", name=name if index == 0 else f"{name}, projection {index + 1}",
                legendgroup=group, showlegend=index == 0, line={"color": colour, "width": 1.4, "dash": dash},
                hovertemplate="%{y:.4f} nats",
            )  # fmt: skip
        return
    if len(curve.losses) > 1:
        low, high = curve.losses.min(axis=0), curve.losses.max(axis=0)
        figure.add_scatter(
            x=np.concatenate([epsilon, epsilon[::-1]]), y=np.concatenate([high, low[::-1]]), mode="lines",
            fill="toself", fillcolor=style.translucent(colour, 0.2), line={"width": 0}, hoverinfo="skip",
            legendgroup=group, showlegend=False, name=f"{name}, min to max",
        )  # fmt: skip
    figure.add_scatter(
        x=epsilon, y=curve.losses.mean(axis=0), mode="lines", name=name, legendgroup=group,
        line={"color": colour, "width": curve.width, "dash": dash},
        hovertemplate="%{y:.4f} nats",
    )  # fmt: skip


def value_at(epsilon: Floats, losses: Floats, at: float) -> Floats:
    """Loss of each row of `losses` (N, E) at the budget `at`: (N,), linear between the points of the grid."""
    return np.array([np.interp(at, epsilon, row) for row in np.atleast_2d(losses)])
