"""Scaling: how the distance and the loss of one layer grow with the projection dimension m."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st
from numpy.typing import NDArray

from charts import paper, scaling, style
from charts.captions import Caption
from pages.parts import asking, captions, data, export, known, progress, question, reading, report, screen, take_away
from robustness_core.optimal_loss.statistics import Interval, student
from robustness_core.spec import PAPERS, AuditSpec
from robustness_core.theory import (
    FITTED_FROM,
    ExponentFit,
    concentration_width,
    fit_exponent,
    input_space_mean,
    mean_factor,
    square_root_law,
)
from store import spectra
from store.database import Database
from store.records import LayerRecord, NetworkRecord, SpectrumRecord

HEADINGS_ALT = {
    "by_m": "Optimal loss over the budget, a line for each projection dimension",
    "law": "Mean distance against m on log axes with the √m line",
    "spread": "Relative standard deviation over projections against m",
}
INPUT_WORDS = (
    "Dotted in the colour of its m: the images themselves, seen through m random mixtures of their pixels, exact. A "
    "line says how robust a random readout of m mixtures is, not what information a layer keeps."
)
SPREAD = "Relative standard deviation over projections: how far one random projection strays."
SPREAD_WORDS = "That of the mean over pairs is shared by all pairs, since they share the projection."
STEPS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)
WITHOUT = "none"


@dataclass(frozen=True)
class Asked:
    """One layer of one network, at several m."""

    network: NetworkRecord
    spec: AuditSpec

    @property
    def layer(self) -> LayerRecord:
        return next(layer for layer in self.network.layers if layer.name == self.spec.search.layers[0])


@dataclass(frozen=True)
class Law:
    """What the √m law says of an affine layer: its norms, and the mean of ‖L(x − x′)‖ over the pairs."""

    spectrum: SpectrumRecord
    length: float

    @property
    def limit(self) -> float:
        """√r4, below which the law is sure to hold."""
        return float(np.sqrt(self.spectrum.r4))

    def prediction(self, dimensions: list[int]) -> NDArray[np.float64]:
        """The mean distance at each m."""
        return square_root_law(dimensions, self.length, self.spectrum.frobenius) * mean_factor(dimensions)


@dataclass(frozen=True, eq=False)
class View:
    """What is drawn: `measured` holds, for each of the `dimensions` that are wholly known, distances (N, L, R).

    `images` is the mean distance of the images themselves, seen through each of the `dimensions`, None where that is
    not known; `layers` are the
    layer at each m, whose curves are those of the part, and `inputs` the images, beside each.
    """

    layer: LayerRecord
    part: export.Part
    layers: Sequence[reading.Layer]
    inputs: Sequence[reading.Layer]
    dimensions: list[int]
    measured: list[NDArray[np.float64]]
    images: NDArray[np.float64] | None
    law: Law | None

    @property
    def mark(self) -> object:
        """What decides the curves."""
        return self.part.answer.spec.key, self.part.answer.known

    @property
    def means(self) -> list[NDArray[np.float64]]:
        """The mean distance of each projection, (N,), for each of the `dimensions`."""
        return [distance.mean(axis=(1, 2)) for distance in self.measured]

    @property
    def intervals(self) -> list[Interval]:
        """The mean distances with Student's interval, from three projections on."""
        return [student(means) if len(means) > 2 else student([means.mean()]) for means in self.means]


def main() -> None:
    db, available = screen.begin_with_networks("Scaling")
    left, right = st.columns([1, 2.8], gap="large")
    with left:
        asked = _ask(available)
        affine = asked is not None and asked.layer.affine
        asking.start(db, [] if asked is None else [(asked.network, asked.spec)], norms=affine)
    with right:
        if asked is None:
            return
        running = progress.active(db, {asked.network.name})
        drawn: list[View] = []

        def draw(_: object, own: bool) -> None:
            drawn[:] = [_draw(db, asked, idle=not own)]

        progress.follow(db, running, [asked.spec], draw)
        for view in drawn:
            reading.prepare([view.layers, view.inputs], view.mark)


def _ask(available: list[NetworkRecord]) -> Asked | None:
    network = question.choose_network(available)
    main = [layer.name for layer in network.layers if layer.main]
    layer = question.choose_layer(network, "one", main[0])
    features = network.features[layer]
    options = [str(m) for m in STEPS if m < features] + [str(features), WITHOUT]
    question.forget("ms", options)
    chosen = st.multiselect(
        f"Projection dimensions m (nj = {features:,})", options, [m for m in options[:-2] if int(m) <= 50], key="ms",
        bind=question.BOUND, wrap=True,
        help="Random mixtures of the layer's nj features that are read at once; none: all features.",
    )  # fmt: skip
    form = question.Form(network.input_shape, one_m=False)
    m = tuple(None if value == WITHOUT else int(value) for value in options if value in chosen)
    spec = form.spec(network, (layer,), m)
    return None if spec is None else Asked(network, spec)


def _view(db: Database, asked: Asked) -> View:
    answer = known.answer(db, asked.spec, asked.network)
    layer = asked.layer
    groups = {
        m: group for (_, m), group in answer.groups.items() if m is not None and all(p.matrix.complete for p in group)
    }
    measured = [np.stack([p.matrix.distance for p in group]) for group in groups.values()]
    law = None
    of_paper = asked.spec.search.threat == PAPERS  # the law and the images through mixtures are
    if of_paper and layer.affine and (spectrum := spectra.find(db, asked.network.id, layer.name)) is not None:
        lengths = spectra.lengths(db, spectrum.id, answer.left_ids, answer.right_ids)
        law = Law(spectrum, float(lengths.mean())) if np.isfinite(lengths).all() else None
    curves = known.curves(answer, asked.network.features)
    layers: Sequence[reading.Layer] = [
        reading.Layer(layer.name, curve, tuple(group[i].matrix.distance for i in curve.whole or curve.begun))
        for curve, group in zip(curves, answer.groups.values(), strict=True)
    ]
    inputs: Sequence[reading.Layer] = [reading.images_of(asked.spec, asked.network, curve.m) for curve in curves]
    if reading.prepared((asked.spec.key, answer.known)):
        layers, inputs = reading.stepwise(layers), reading.stepwise(inputs)
    overlays = tuple(export.of_images(asked.spec.epsilon.values(), one.curve) for one in inputs if one.curve.known)
    part = export.Part(asked.network, answer, [one.curve for one in layers], overlays)
    spec, pixels = asked.spec, int(np.prod(asked.network.input_shape))
    apart = 2 * data.input_distances(data.key(spec))
    # A mean over pairs: E d is linear in the norm.
    through_m = input_space_mean(apart.mean(), list(groups), pixels) if of_paper else None
    return View(layer, part, layers, inputs, list(groups), measured, through_m, law)


def _draw(db: Database, asked: Asked, *, idle: bool) -> View:
    """Everything that is shown; returns what it was drawn from."""
    view = _view(db, asked)
    answer = view.part.answer
    link = {"network": asked.network.name}
    if idle and answer.missing:
        duration = asking.duration(db, [asking.Lack(asked.network, asked.spec, answer.missing)])
        st.info(f"{answer.missing:,} of {answer.total:,} pairs are not known yet; Start computes them, {duration}.")
    if answer.known == 0:
        st.info("Nothing is known of this layer yet.")
        screen.link_button(link)
        return view
    figures = _figures(view, dark=screen.dark())
    for key, (heading, figure, caption) in figures.items():
        st.subheader(heading, anchor=False)
        screen.show(figure, key, f"strata-{key}", HEADINGS_ALT[key])
        captions.show(caption)
    tables = {"Means": lambda: _table(view)} if view.dimensions else {}
    take_away.show(f"strata-scaling-{asked.spec.key[:8]}", lambda: [view.part], lambda: _report(view),
                   lambda: _panels(view), link, tables)  # fmt: skip
    return view


def _figures(view: View, *, dark: bool) -> dict[str, tuple[str, go.Figure, Caption]]:
    """Key -> heading, figure and its caption."""
    answer, dimensions = view.part.answer, view.dimensions
    spec = answer.spec
    inputs = [one.curve for one in view.inputs] if view.images is not None else []
    by_m = scaling.curves_by_m(spec.epsilon.values(), view.part.curves, inputs, threat=spec.search.threat, dark=dark)
    settings = captions.of_question(answer, view.part.curves, view.part.network, drawn="mean")
    caption = Caption(settings.first, f"{settings.more} {reading.NO_INPUT if view.images is None else INPUT_WORDS}")
    figures = {"by_m": ("Loss curves for each m", by_m, caption)}
    about = f"Of {captions.in_short(answer, view.part.network)}"
    if not dimensions:
        return figures
    colour = style.layer_colours([one.name for one in view.part.network.layers], dark)[view.layer.name]
    means = view.means
    fit = fitted(dimensions, means)
    against = scaling.distance_against_m(
        dimensions,
        means,
        exponent=None if fit is None else (fit.exponent, fit.low, fit.high),
        law=law_line(dimensions, means, view.law),
        images=view.images,
        intervals=[(one.low, one.high) for one in view.intervals],
        region=None if view.law is None else (1.0, view.law.limit),
        norm=spec.search.threat.symbol,
        colour=colour,
        dark=dark,
    )
    figures["law"] = ("Distance against m", against, _law_caption(view, fit, about))
    if spec.search.projections > 1:
        spreads = [spread(distance) for distance in view.measured]
        around = scaling.spread_against_m(
            dimensions,
            [of_pair for of_pair, _ in spreads],
            [of_mean for _, of_mean in spreads],
            colour,
            theory=None if view.law is None else concentration_width(dimensions, _rank(view)),
            dark=dark,
        )
        figures["spread"] = ("Spread over projections", around, Caption(SPREAD, f"{about}. {SPREAD_WORDS}"))
    return figures


def _rank(view: View) -> int:
    """The most that the rank of an affine layer can be."""
    return min(view.layer.features, int(np.prod(view.part.network.input_shape)))


def _law_caption(view: View, fit: ExponentFit | None, about: str) -> Caption:
    first = (
        "Mean distance of all pairs against m, on axes of logarithms; only m of which every pair is known are drawn."
    )
    words = []
    if fit is not None:
        within = f"95 % Student interval over {view.part.answer.spec.search.projections} projections {fit.low:.3f} to "
        within = "one projection gives no interval" if np.isnan(fit.low) else f"{within}{fit.high:.3f}"
        words.append(
            f"Exponent {fit.exponent:.3f}, fitted to mean distances / c(m) at m = {fit.m[0]:g} to {fit.m[-1]:g} "
            f"({within}); the law says 0.5. c(m) = √(2/m) Γ((m+1)/2) / Γ(m/2) takes out that means of distances at a "
            "small m lie below their root mean square (0.80 at m = 1, 0.95 at 5)."
        )
    if view.part.answer.spec.search.projections > 2:
        words.append("Whiskers: Student's 95 % interval of the mean over projections, of these images.")
    if view.images is not None:
        words.append(
            "Dotted: the images themselves seen through the same m, E d² = m‖x−x′‖² / (4n0); a layer above it is "
            "harder to move through m random mixtures than its images are."
        )
    if view.law is not None:
        spectrum = view.law.spectrum
        how = "exact" if spectrum.exact else "from random probes"
        words.append(
            f"This layer is affine, f(x) = Lx + k, with ‖L‖F = {spectrum.frobenius:.4g} and r4 = {spectrum.r4:.4g} "
            f"({how}): the law c(m)√m‖L(x−x′)‖ / (2‖L‖F) is proven for m ≪ √r4 = {view.law.limit:.3g} (shaded) and "
            "held to m ≪ r4 in simulations."
        )
    elif view.images is None:
        words.append("The law of an affine layer and of the images is that of ℓ2 without the box, and not drawn here.")
    elif view.layer.affine:
        words.append("The norms of this affine layer are not measured for these images yet; Start measures them.")
    else:
        words.append("There is no prediction for this layer, since it is not affine; layers like conv1.pre are.")
    return Caption(first, " ".join([f"{about}.", *words]))


def _table(view: View) -> pd.DataFrame:
    """A row an m that is wholly known: the mean distance, the law where there is one, and the spreads."""
    many = view.part.answer.spec.search.projections > 1
    halves = [half_budgets(view, m) for m in view.dimensions]
    table = pd.DataFrame(
        {
            "layer": view.layer.name,
            "m": view.dimensions,
            "projections": view.part.answer.spec.search.projections,
            "mean distance": [one.value for one in view.intervals],
            "low": [one.low for one in view.intervals],
            "high": [one.high for one in view.intervals],
        }
    )
    if view.images is not None:
        table["input through m"] = view.images
    table["ε½"] = [one.value for one, _ in halves]
    if view.images is not None:
        table["ε½ of the input"] = [None if images is None else images.value for _, images in halves]
    table["ε½ low"], table["ε½ high"] = [one.low for one, _ in halves], [one.high for one, _ in halves]
    if view.law is not None:
        table["law"] = view.law.prediction(view.dimensions)
        table["‖L‖F"], table["r4"] = view.law.spectrum.frobenius, view.law.spectrum.r4
        table["mean ‖L(x−x′)‖"] = view.law.length
    if many:
        spreads = [spread(distance) for distance in view.measured]
        table["spread of a pair"], table["spread of the mean"] = zip(*spreads, strict=True) if spreads else ((), ())
    return table


def _panels(view: View) -> list[paper.Panel]:
    return [(heading, figure) for heading, figure, _ in _figures(view, dark=False).values()]


def _report(view: View) -> str:
    figures = _figures(view, dark=False)
    first, *others = figures.values()
    caption = " ".join([str(first[2]), *(f"{heading}: {words}" for heading, _, words in others)])
    title = f"{view.part.network.name}: {view.layer.name} under projections"
    return report.page(
        title, [view.part], [figure for _, figure, _ in figures.values()], {"Means": _table(view)}, caption
    )


def half_budgets(view: View, m: int) -> tuple[Interval, Interval | None]:
    """ε½ of the layer and of its images, seen through m, with Student's intervals over projections; None: not known."""
    place = [curve.m for curve in view.part.curves].index(m)
    layer = reading.Layer(view.layer.name, view.part.curves[place], tuple(view.measured[view.dimensions.index(m)]))
    images = view.inputs[place]
    return layer.half, images.half if images.curve.known else None


def spread(distance: NDArray[np.float64]) -> tuple[float, float]:
    """Relative standard deviation over projections of one pair (root mean square over pairs) and of the mean.

    `distance` is (N, L, R), N >= 2.
    """
    of_pairs = distance.std(axis=0, ddof=1) / distance.mean(axis=0)
    means = distance.mean(axis=(1, 2))
    return float(np.sqrt((of_pairs**2).mean())), float(means.std(ddof=1) / means.mean())


def law_line(m: list[int], means: list[NDArray[np.float64]], law: Law | None) -> tuple[str, NDArray[np.float64]]:
    """The line of the √m law with its name: that of an affine layer, else through a measured mean that is not small."""
    if law is not None:
        return "the law of this affine layer", law.prediction(m)
    through = next((i for i, rows in enumerate(m) if rows >= FITTED_FROM), len(m) - 1)
    line = np.sqrt(m) * mean_factor(m)
    return f"√m law through m = {m[through]}", means[through].mean() * line / line[through]


def fitted(m: list[int], distance: list[NDArray[np.float64]]) -> ExponentFit | None:
    """The exponent of distance ∝ m^k; None where there are too few points."""
    try:
        return fit_exponent(m, np.stack(distance))
    except ValueError:
        return None


main()
