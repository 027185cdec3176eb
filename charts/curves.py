"""Loss curves: optimal loss over the budget ε, one line a layer, a band over its projections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from charts import style

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


@dataclass(frozen=True)
class Curve:
    """The loss curves of one layer: `losses` is (N, E) nats, one row a projection; `m` is None without projection.

    `known` of `total` pairs have a distance, those of each projection are `known_of` (N); left out it stands for equal
    shares. While some pairs of a projection are unknown, its curve is a lower bound.
    """

    layer: str
    features: int
    m: int | None
    losses: Floats
    known: int
    total: int
    known_of: tuple[int, ...] = ()

    @property
    def whole(self) -> list[int]:
        """The projections, counted from 0, of which every pair is known."""
        count = len(self.losses)
        known_of = self.known_of or (self.known // count,) * count
        return [index for index, known in enumerate(known_of) if known == self.total // count]

    @property
    def begun(self) -> list[int]:
        """The projections, counted from 0, of which some pair is known."""
        return [index for index, known in enumerate(self.known_of) if known] or list(range(len(self.losses)))

    @property
    def averaged(self) -> Floats:
        """The rows of `losses` of which mean and band are: the whole projections, or while there is none those begun.

        One that has hardly begun is not averaged with the others: its curve is 0 for want of pairs.
        """
        return self.losses[self.whole or self.begun]

    @property
    def lower(self) -> bool:
        """Whether the mean is a lower bound for want of pairs: no projection is wholly known."""
        return not self.whole

    @property
    def label(self) -> str:
        return f"{self.layer}{'' if self.m is not None else ', no projection'}{partly([self])}"

    @property
    def width(self) -> float:
        """Of its line: thin while some pairs are unknown."""
        return 2.4 if self.known == self.total else 1.2


def partly(curves: Sequence[Curve]) -> str:
    """` (25% known)` while some pairs of these curves are unknown, ` (1 of 3 projections)` where some are whole."""
    counts = {(len(curve.whole), len(curve.losses)) for curve in curves}
    if len(counts) == 1:
        ((whole, count),) = counts
        if 0 < whole < count:
            return f" ({whole} of {count} projections)"
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
    grey = style.reference_colour(dark)
    traces = [
        trace
        for curve in curves
        if curve.known
        for trace in _traces(epsilon, curve, colours.get(curve.layer, grey), single)
    ]
    for index, (name, (x, y)) in enumerate((overlays or {}).items()):
        line = {"color": grey, "width": 2, "dash": style.dash(index + 3)}
        traces.append({"x": x, "y": y, "mode": "lines", "name": style.safe(name), "line": line,
                       "hovertemplate": "%{y:.4f} nats"})  # fmt: skip
    lines = [] if mark is None else [style.upright(mark, grey)]
    notes = []
    if final is not None and epsilon[0] < final < epsilon[-1]:
        lines.append(style.upright(final, grey, "dot"))
        words = "right of this the layer in work may still rise"
        notes.append(style.note(words, grey, x=final, xanchor="left", yref="y domain", y=0, yanchor="bottom"))
    more: style.Part = {}
    if accuracy is not None:
        traces.append({
            "x": accuracy[0], "y": accuracy[1], "yaxis": "y2", "mode": "lines+markers", "name": "PGD accuracy",
            "line": {"color": grey, "width": 1.6, "dash": "longdash"}, "hovertemplate": "%{y:.1%} right at ε = %{x:~g}",
        })  # fmt: skip
        more["yaxis2"] = {
            "overlaying": "y", "side": "right", "range": [0, 1.0], "tickformat": ".0%", "showgrid": False,
            "tickmode": "linear", "tick0": 0, "dtick": 0.25, "zeroline": False,
            "title": {"text": "accuracy under PGD", "font": {"color": grey}}, "tickfont": {"color": grey},
            "automargin": True,
        }  # fmt: skip
    if overlays:
        more["yaxis"] = {"range": [style.LOSS_RANGE[0], style.LOG2 * 2.0]}
    return frame(epsilon, traces, input_space, lines=lines, notes=notes, dark=dark, **more)


def frame(
    epsilon: Floats,
    traces: Sequence[style.Part],
    input_space: Floats | None,
    *,
    height: int = 460,
    lines: Sequence[style.Part] = (),
    notes: Sequence[style.Part] = (),
    dark: bool = False,
    **layout: Any,
) -> go.Figure:
    """`traces` of losses over `epsilon` (E,) with their axes, the line at log 2, and the input space (E,) if given.

    `lines` and `notes` are drawn over them; `layout` is for `style.figure`.
    """
    grey = style.reference_colour(dark)
    images: style.Part = {
        "x": epsilon, "y": input_space, "mode": "lines", "name": "input space", "legendgroup": "input",
        "line": {"color": grey, "width": 2, "dash": "dot"}, "hovertemplate": "%{y:.4f} nats",
    }  # fmt: skip
    limit = style.note(
        "log 2: no information left", grey, xref="x domain", x=0, xanchor="left", y=style.LOG2, yanchor="bottom"
    )
    return style.figure(
        traces if input_space is None else [images, *traces],
        x=style.EPSILON_TITLE,
        y=style.LOSS_TITLE,
        height=height,
        dark=dark,
        hovermode="x unified",
        shapes=[style.across(style.LOG2, grey), *lines],
        annotations=[limit, *notes],
        xaxis={"range": [float(epsilon[0]), float(epsilon[-1])], "unifiedhovertitle": {"text": "ε = %{x:.3f}"}},
        **{"yaxis": {"range": style.LOSS_RANGE}, **layout},
    )


def _traces(epsilon: Floats, curve: Curve, colour: str, single: bool) -> list[style.Part]:
    """The lines of one layer: every projection if `single`, else the mean in a band from min to max."""
    name = style.safe(curve.label)
    pre_activation = curve.layer.endswith(".pre")
    dash = "dash" if curve.m is None else "dashdot" if pre_activation else "solid"
    common: style.Part = {"mode": "lines", "legendgroup": f"{style.safe(curve.layer)} {curve.m}"}
    shown: style.Part = {**common, "x": epsilon, "hovertemplate": "%{y:.4f} nats"}
    if single:
        line = {"color": colour, "width": 1.4, "dash": dash}
        first, *others = curve.begun
        names = {first: name, **{index: f"{name}, projection {index + 1}" for index in others}}
        return [
            {**shown, "y": curve.losses[index], "name": text, "showlegend": index == first, "line": line}
            for index, text in names.items()
        ]
    losses = curve.averaged
    mean: style.Part = {
        **shown, "y": losses.mean(axis=0), "name": name,
        "line": {"color": colour, "width": curve.width, "dash": dash},
    }  # fmt: skip
    if len(losses) == 1:
        return [mean]
    low, high = losses.min(axis=0), losses.max(axis=0)
    band: style.Part = {
        **common, "x": np.concatenate([epsilon, epsilon[::-1]]), "y": np.concatenate([high, low[::-1]]),
        "fill": "toself", "fillcolor": style.translucent(colour, 0.2), "line": {"width": 0}, "hoverinfo": "skip",
        "showlegend": False, "name": f"{name}, min to max",
    }  # fmt: skip
    return [band, mean]


def value_at(epsilon: Floats, losses: Floats, at: float) -> Floats:
    """Loss of each row of `losses` (N, E) at the budget `at`: (N,), linear between the points of the grid."""
    return np.array([np.interp(at, epsilon, row) for row in np.atleast_2d(losses)])
