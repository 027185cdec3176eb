"""Loss curves: optimal loss over the budget ε, one line a layer, a band over its projections.

The loss is a step function of ε. Where its steps are not computed it is known at budgets, and drawn between two of them
at the height of the lower one: the optimal loss never falls, so this is a lower bound wherever one looks, which a
straight line is not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import plotly.graph_objects as go

from charts import style
from robustness_core.optimal_loss.statistics import half_width
from robustness_core.spec import PAPERS, Threat

Floats = style.Floats


@dataclass(frozen=True)
class Curve:
    """The loss curves of one layer: `losses` is (N, E) nats, one row a projection; `m` is None without projection.

    `known` of `total` pairs have a distance, those of each projection are `known_of` (N); left out it stands for equal
    shares. `left_out_of` (N): pairs without one that the curve does not need, as far as could be guessed. While other
    pairs of a projection are unknown, its curve is a lower bound. `steps` are the whole step
    functions of the projections, (budgets, losses) each, where they are computed: figures then draw every step. `upper`
    (E,): where the mean could lie if the search's distances were as much too long as was measured; drawn if given.
    `most`: what no loss exceeds, log K of K classes.
    """

    layer: str
    features: int
    m: int | None
    losses: Floats
    known: int
    total: int
    known_of: tuple[int, ...] = ()
    left_out_of: tuple[int, ...] = ()
    steps: tuple[tuple[Floats, Floats], ...] = ()
    upper: Floats | None = None
    most: float = style.LOG2

    @property
    def whole(self) -> list[int]:
        """The projections, counted from 0, of which every pair is known that the curve needs."""
        count = len(self.losses)
        known_of = self.known_of or (self.known // count,) * count
        left_out_of = self.left_out_of or (0,) * count
        settled = [known + left_out for known, left_out in zip(known_of, left_out_of, strict=True)]
        return [index for index, pairs in enumerate(settled) if pairs == self.total // count]

    @property
    def missing(self) -> int:
        """Pairs that are unknown, and wanted."""
        return self.total - self.known - sum(self.left_out_of)

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
    def mean(self) -> Floats:
        """The mean curve (E,)."""
        mean: Floats = self.averaged.mean(axis=0)
        return mean

    @property
    def band(self) -> tuple[Floats, Floats] | None:
        """The band around the mean, (E,) each; see `band_of`."""
        return band_of(self.averaged, self.most)

    def finely(self, epsilon: Floats) -> Curve:
        """The same over the budgets of all steps from the first to the last of `epsilon`, and these; see `budgets`."""
        if not self.steps:
            return self
        x = self.budgets(epsilon)
        rows = [np.concatenate([[0.0], y])[np.searchsorted(at, x, side="right")] for at, y in self.steps]
        return replace(self, losses=np.stack(rows))

    def budgets(self, epsilon: Floats) -> Floats:
        """The budgets of `finely` (K,): `epsilon` (E,) where there are no `steps`."""
        every = np.unique(np.concatenate([epsilon, *(at for at, _ in self.steps)]))
        within: Floats = every[(every >= epsilon[0]) & (every <= epsilon[-1])]
        return within

    @property
    def label(self) -> str:
        return f"{self.layer}{partly([self])}"

    @property
    def width(self) -> float:
        """Of its line: thin while some pairs are unknown."""
        return 1.2 if self.missing else 2.4


def band_of(losses: Floats, most: float = style.LOG2) -> tuple[Floats, Floats] | None:
    """Around the mean of (N, E): Student's 95 % interval of three projections or more, of two both; of one none.

    Three draws enclose the mean of all from smallest to largest 74 % of the time, two only half of the time.
    """
    if len(losses) < 2:
        return None
    if len(losses) == 2:
        return losses.min(axis=0), losses.max(axis=0)
    mean, half = losses.mean(axis=0), half_width(losses)
    return np.maximum(mean - half, 0.0), np.minimum(mean + half, most)


def partly(curves: Sequence[Curve]) -> str:
    """` (25% known)` while some pairs of these curves are unknown, ` (1 of 3 projections)` where some are whole."""
    counts = {(len(curve.whole), len(curve.losses)) for curve in curves}
    if len(counts) == 1:
        ((whole, count),) = counts
        if 0 < whole < count:
            return f" ({whole} of {count} projections)"
    missing, total = sum(curve.missing for curve in curves), sum(curve.total for curve in curves)
    return f" ({100 * (total - missing) // total}% known)" if missing else ""


def layer_curves(
    epsilon: Floats,
    curves: Sequence[Curve],
    colours: Mapping[str, str],
    *,
    images: Curve | None = None,
    overlays: Mapping[str, tuple[Floats, Floats]] | None = None,
    said: Sequence[str] = (),
    accuracy: tuple[Floats, Floats] | None = None,
    single: bool = False,
    mark: float | None = None,
    final: float | None = None,
    classes: int = 2,
    height: int = 460,
    threat: Threat = PAPERS,
    dark: bool = False,
) -> go.Figure:
    """Draw mean curves with their band (or, if `single`, every projection) over `epsilon` (E,).

    `images` is the curve of the images themselves, seen as the layers are, drawn dotted; `overlays` are named (x, y)
    lines of other losses, cut at twice log 2, with `said` on hover, a text a point; `accuracy` is an (x, y) line of
    robust accuracy in [0, 1] with an axis of its own on the right; `mark` draws a vertical line at that budget. Curves
    without a single known pair are left out, those of which some are unknown are thin; `final` marks the budget up to
    which missing pairs are expected to add nothing. Of `classes` K of more than two, log K has a line of its own.
    """
    grey = style.reference_colour(dark)
    drawn = [curve for curve in curves if curve.known]
    traces = [trace for curve in drawn for trace in _traces(epsilon, curve, colours.get(curve.layer, grey), single)]
    if images is not None:  # drawn last, over the layers that lose nothing; named first
        traces += [{**trace, "legendrank": 1} for trace in _traces(epsilon, images, grey, single, dash="dot")]
    for index, (name, (x, y)) in enumerate((overlays or {}).items()):
        line = {"color": grey, "width": 2, "dash": style.dash(index + 3)}
        traces.append({"x": x, "y": y, "mode": "lines", "name": style.safe(name), "line": line,
                       **style.said("%{y:.4f} nats", said)})  # fmt: skip
    lines = [] if mark is None else [style.upright(mark, grey)]
    notes = []
    if final is not None and epsilon[0] < final < epsilon[-1]:
        lines.append(style.upright(final, grey, "dot"))
        words = "right of this the layer in work may still rise"
        notes.append(style.note(words, grey, x=final, xanchor="left", yref="y domain", y=0.03, yanchor="bottom"))
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
    if classes > 2:
        most = math.log(classes)
        lines.append(style.across(most, grey))
        guessing = f"log {classes}: no better than guessing under attack"
        place = {"xref": "x domain", "x": 0, "xanchor": "left", "y": most, "yanchor": "bottom"}
        notes.append(style.note(guessing, grey, **place))
        more |= {"yaxis": {"range": [style.LOSS_RANGE[0] * 3, most * 1.1]}, "limit": "log 2: all that pairs can tell"}
    return frame(epsilon, traces, None, height=height, lines=lines, notes=notes, threat=threat, dark=dark, **more)


def frame(
    epsilon: Floats,
    traces: Sequence[style.Part],
    input_space: Floats | None,
    *,
    height: int = 460,
    lines: Sequence[style.Part] = (),
    notes: Sequence[style.Part] = (),
    threat: Threat = PAPERS,
    limit: str = "log 2: no better than guessing under attack",
    dark: bool = False,
    **layout: Any,
) -> go.Figure:
    """`traces` of losses over `epsilon` (E,) with their axes, the line at log 2, and the input space (E,) if given.

    `limit`: what is said of that line. `lines` and `notes` are drawn over them; `layout` is for `style.figure`.
    """
    grey = style.reference_colour(dark)
    images: style.Part = {
        "x": epsilon, "y": input_space, "mode": "lines", "name": "input space", "legendgroup": "input",
        "line": {"color": grey, "width": 2, "dash": "dot", "shape": "hv"}, "hovertemplate": "%{y:.4f} nats",
    }  # fmt: skip
    at_limit = style.note(
        limit,
        grey,
        xref="x domain",
        x=0,
        xanchor="left",
        y=style.LOG2,
        yanchor="bottom",
    )
    return style.figure(
        traces if input_space is None else [images, *traces],
        x=style.epsilon_title(threat),
        y=style.LOSS_TITLE,
        height=height,
        dark=dark,
        hovermode="x unified",
        shapes=[style.across(style.LOG2, grey), *lines],
        annotations=[at_limit, *notes],
        xaxis=style.budgets(epsilon, threat),
        **{"yaxis": {"range": style.LOSS_RANGE}, **layout},
    )


def _traces(epsilon: Floats, curve: Curve, colour: str, single: bool, dash: str = "") -> list[style.Part]:
    """The lines of one layer: every projection if `single`, else the mean in its band.

    Between the budgets a line is drawn with all of its steps; what is said on hover is of the budgets.
    """
    name = style.safe(curve.label)
    fine = curve.finely(epsilon)
    line: style.Part = {"color": colour, "dash": dash or _dash(curve), "shape": "hv"}
    common: style.Part = {"legendgroup": f"{style.safe(curve.layer)} {curve.m}"}

    def drawn(y: Floats, at_budgets: Floats, name: str, width: float, **more: Any) -> list[style.Part]:
        trace = {**common, "name": name, "line": {**line, "width": width}, **more}
        return stepped(epsilon, curve, y, at_budgets, trace)

    if single:
        first, *others = curve.begun
        names = {first: name, **{index: f"{name}, projection {index + 1}" for index in others}}
        return [
            part
            for i, text in names.items()
            for part in drawn(fine.losses[i], curve.losses[i], text, 1.4, showlegend=i == first)
        ]
    gap = [] if curve.upper is None else [_between(epsilon, curve.mean, curve.upper, colour, common, name)]
    mean = drawn(fine.mean, curve.mean, name, curve.width)
    if fine.band is None:
        return [*gap, *mean]
    low, high = (stairs(curve.budgets(epsilon), edge) for edge in fine.band)
    band: style.Part = {
        **common, "x": np.concatenate([high[0], low[0][::-1]]), "y": np.concatenate([high[1], low[1][::-1]]),
        "mode": "lines", "fill": "toself", "fillcolor": style.translucent(colour, 0.2), "line": {"width": 0},
        "hoverinfo": "skip", "showlegend": False, "name": f"{name}, band",
    }  # fmt: skip
    return [*gap, band, *mean]


def _between(epsilon: Floats, low: Floats, high: Floats, colour: str, common: style.Part, name: str) -> style.Part:
    """The area between the mean of a layer and where it could lie, both (E,), edged with dots."""
    below, above = stairs(epsilon, low), stairs(epsilon, high)
    return {
        **common, "x": np.concatenate([above[0], below[0][::-1]]), "y": np.concatenate([above[1], below[1][::-1]]),
        "mode": "lines", "fill": "toself", "fillcolor": style.translucent(colour, 0.12), "hoverinfo": "skip",
        "line": {"width": 1, "color": colour, "dash": "dot"}, "showlegend": False, "name": f"{name}, search gap",
    }  # fmt: skip


def stepped(epsilon: Floats, curve: Curve, y: Floats, at_budgets: Floats, trace: style.Part) -> list[style.Part]:
    """A `trace` with its name and line, over all steps of a curve; what is said on hover is of `epsilon` (E,) alone.

    y: (K,) at the budgets of the curve. at_budgets: (E,), the same at `epsilon`.
    """
    shown: style.Part = {**trace, "x": curve.budgets(epsilon), "y": y, "mode": "lines"}
    said: style.Part = {"hovertemplate": "%{y:.4f} nats"}
    if not curve.steps:
        return [{**shown, **said}]
    marker = {"color": trace["line"]["color"], "size": 0.1}
    unseen: style.Part = {**trace, **said, "line": None, "x": epsilon, "y": at_budgets, "mode": "markers",
                          "marker": marker, "showlegend": False}  # fmt: skip
    return [{**shown, "hoverinfo": "skip"}, unseen]


def _dash(curve: Curve) -> str:
    return "dashdot" if curve.layer.endswith(".pre") else "solid"


def stairs(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """The corners of a curve that keeps each `y` (E,) from its `x` (E,) up to the next: (2E - 1,) each."""
    return np.repeat(x, 2)[1:], np.repeat(y, 2)[:-1]


def value_at(epsilon: Floats, losses: Floats, at: float) -> Floats:
    """Loss of each row of `losses` (N, E) at the budget `at`: (N,), a lower bound between the budgets `epsilon` (E,).

    That is the loss at the largest of them that is not above `at`, 0 below all of them.
    """
    rows = np.atleast_2d(losses)
    place = int(np.searchsorted(epsilon, at + 1e-6, side="right")) - 1  # budgets are written with six digits
    return rows[:, place].copy() if place >= 0 else np.zeros(len(rows))
