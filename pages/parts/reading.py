"""The two ways to read an audit: through m random mixtures of a layer's features, or from all of them.

*Projected*: how robust a random readout of m mixtures of the features is. It rises and falls from layer to layer and is
no budget that adds up. *Without projection*: what no classifier on this layer can undo. It only grows with depth. Each
has an input of its own: the images seen through m mixtures of their pixels, or as they are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from charts.attribution import Bar
from charts.curves import Curve
from pages.parts import data, known, references
from robustness_core.optimal_loss import error_curve, loss_steps, statistics
from robustness_core.spec import PAPERS, AuditSpec, EpsilonGrid
from store.records import NetworkRecord

Floats = NDArray[np.float64]
INPUT = "input"
NO_INPUT = (
    "The images seen through mixtures are not drawn: their distances have a closed form in ℓ2 without the box alone."
)
STEPPED = 400_000  # pairs up to which every step of their curves is drawn: half a minute of work, once and aside
ABOUT = {  # by whether all features are read
    False: "How robust a random readout of m mixtures of the features is: it rises and falls from layer to layer, and "
    "is no budget that adds up.",
    True: "What no classifier on this layer can undo: it only grows with depth, and its steps are losses.",
}


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer, or the images as the first: its curve, and the matrices (S, S) that its mean is over, one a seed.

    `halves` are their ε½ in the same order, upper bounds: distances are of collisions that were found, and an unknown
    pair makes no edge.
    """

    name: str
    curve: Curve
    matrices: tuple[Floats, ...]

    @property
    def halves(self) -> list[float]:
        return [half(matrix) for matrix in self.matrices]

    @property
    def half(self) -> statistics.Interval:
        """The mean ε½ with Student's interval over the projections."""
        return statistics.student(self.halves)


@dataclass(frozen=True, eq=False)
class Reading:
    """What is known of a question in one of the two ways; `m` is None without projection. `layers` starts at the input.

    Made of an answer about one m.
    """

    answer: known.Answer
    m: int | None
    layers: tuple[Layer, ...]

    @property
    def images(self) -> Layer:
        return self.layers[0]

    @property
    def images_curve(self) -> Curve | None:
        """That of the images, where their distances are known."""
        return self.images.curve if self.images.curve.known else None

    @property
    def whole(self) -> bool:
        """Whether every pair is known."""
        return self.answer.missing == 0

    @property
    def curves(self) -> list[Curve]:
        """Of the layers, without the input."""
        return [layer.curve for layer in self.layers[1:]]


def of(answer: known.Answer, network: NetworkRecord) -> Reading:
    """The reading of an answer about one m."""
    (m,) = answer.spec.search.m
    layers = [images_of(answer.spec, network, m)]
    for curve, group in zip(known.curves(answer, network.features), answer.groups.values(), strict=True):
        drawn = [group[index].graph for index in curve.whole or curve.begun]
        layers.append(Layer(curve.layer, curve, tuple(drawn)))
    return Reading(answer, m, tuple(layers))


def exactly(one: Reading) -> Reading:
    """The same with every step of its curves, if all pairs are known and they are not too many."""
    return replace(one, layers=stepwise(one.layers))


def stepwise(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """Layers with every step of their curves, if all pairs are known and they are not too many.

    Cost: a twentieth of a second for a projection of 20 images a class, one second of 100.
    """
    if not _affordable(layers):
        return tuple(layers)
    return tuple(
        replace(one, curve=replace(one.curve, steps=tuple(steps(matrix) for matrix in one.matrices))) for one in layers
    )


def _affordable(layers: Sequence[Layer]) -> bool:
    whole = not any(one.curve.missing for one in layers)
    return whole and sum(matrix.size for one in layers for matrix in one.matrices) <= STEPPED


def prepare(drawn: Sequence[Sequence[Layer]], mark: object) -> None:
    """Compute every step of the curves, at the end of the script, so that the screen is there before.

    `mark` stands for what is drawn: `prepared` says of it that the steps are at hand now.
    """
    if prepared(mark):
        return
    for layers in drawn:
        for matrix in [matrix for one in layers for matrix in one.matrices] if _affordable(layers) else ():
            steps(matrix)
            st.session_state["exact"] = None  # here streamlit ends the script if the reader has done something
    st.session_state["exact"] = mark


def prepared(mark: object) -> bool:
    """Whether every step of what `mark` stands for has been computed in this session."""
    return bool(st.session_state.get("exact") == mark)


def half_bars(reading: Reading) -> list[Bar]:
    """ε½ by layer: with Student's interval over two projections or more; of one, over the images of a whole reading.

    None at a layer of which one projection says what all would, beside others that have several.
    """
    several = any(len(layer.matrices) > 1 for layer in reading.layers)
    bars = []
    for layer in reading.layers:
        if not layer.curve.known:
            bars.append(Bar(layer.name, None))
            continue
        interval = layer.half
        if not several and reading.whole:
            interval = half_over_images(layer.matrices[0])
        low = float(np.maximum(interval.low, 0.0))  # a budget is not below 0
        bars.append(Bar(layer.name, interval.value, low, interval.high, "≤" if layer.curve.lower else ""))
    return bars


def images_of(spec: AuditSpec, network: NetworkRecord, m: int | None) -> Layer:
    """The images as the first layer, seen through the same mixtures: an A of each seed applied to their pixels.

    Through mixtures their distances have a closed form in ℓ2 without the box alone: else nothing is known of them.
    """
    pixels = math.prod(network.input_shape)
    if m is not None and spec.search.threat != PAPERS:
        return Layer(INPUT, Curve(INPUT, pixels, m, np.zeros((1, spec.epsilon.count)), 0, 0), ())
    if m is None:
        matrices = [data.input_distances(data.key(spec), spec.search.threat.order)]
    else:
        matrices = [
            data.seen_distances(data.key(spec), m, spec.search.seed + i) for i in range(spec.search.projections)
        ]
    losses = np.stack([known.loss_at(matrix, spec.epsilon.values()) for matrix in matrices])
    pairs = sum(matrix.size for matrix in matrices)
    return Layer(INPUT, Curve(INPUT, pixels, m, losses, pairs, pairs), tuple(matrices))


@st.cache_data(show_spinner=False, max_entries=2000)
def steps(distances: Floats) -> tuple[Floats, Floats]:
    return loss_steps(distances)


@st.cache_data(show_spinner=False, max_entries=2000)
def half(distances: Floats) -> float:
    return statistics.half_budget(distances)


# What follows takes one optimal loss an image, so that screens show it after the figures.
@st.cache_data(show_spinner=False, max_entries=500)
def half_over_images(distances: Floats) -> statistics.Interval:
    return statistics.half_budget_over_images(distances)


@st.cache_data(show_spinner=False, max_entries=2000)
def without_one(distances: Floats, epsilon: float, *, zero_one: bool = False) -> statistics.LeftOut:
    return statistics.without_one(distances, epsilon, zero_one=zero_one)


def best(matrices: Sequence[Floats]) -> Floats:
    """The least distance of each pair: of several searches for the same number, every one is an upper bound."""
    least: Floats = np.fmin.reduce(list(matrices))
    return least


@dataclass(frozen=True, eq=False)
class Head:
    """The network and its logits on the same images: the least norms (S,) of both classes that an attack found, those
    of `each` attack, and the distances (S, S). `attack`: in words, whose norms the least are."""

    norms: tuple[Floats, Floats]
    each: Mapping[str, Floats]  # (2 S,)
    attack: str
    logits: Floats
    images: Floats

    def at(self, epsilon: float) -> tuple[statistics.LeftOut, statistics.LeftOut]:
        """The network's error under attack and the optimal 0-1 loss at its logits, and without each image."""
        left, right = (side <= epsilon for side in self.norms)
        return statistics.mean_without_one(left, right), without_one(self.logits, epsilon, zero_one=True)

    def curves(self, epsilon: EpsilonGrid) -> tuple[Floats, Floats, Floats]:
        """Over budgets: the network's error under attack, the optimal 0-1 loss at its logits, that of the images."""
        budgets = epsilon.values()
        network = _within(np.concatenate(self.norms), budgets)
        return network, _errors(self.logits, epsilon), _errors(self.images, epsilon)

    def gaps(self, epsilon: EpsilonGrid) -> list[str]:
        """How far each attack's share is below the best, at each budget; nothing where there is but one."""
        budgets = epsilon.values()
        best = _within(np.concatenate(self.norms), budgets)
        gaps = {name: best - _within(norms, budgets) for name, norms in self.each.items()}
        return references.gap_words(gaps, ".1%") if len(gaps) > 1 else []


def head(readings: Sequence[Reading], network: NetworkRecord) -> Head | None:
    """None unless some reading knows every pair at the logits from all of their information, m ≥ nj, and the card of
    the network has measured these very images."""
    answer = readings[0].answer
    measured = references.of(network, answer.spec)
    if measured is None:
        return None
    by_image = measured.least
    sides = [side.tolist() for side in (answer.sample.left, answer.sample.right)]
    logits = [
        matrix
        for one in readings
        for layer in one.layers[1:]
        if layer.name == network.layers[-1].name and (one.m is None or one.m >= layer.curve.features)
        for matrix in layer.matrices
        if not layer.curve.lower
    ]
    if not logits or not all(number in by_image for side in sides for number in side):
        return None
    left, right = (np.array([by_image[number] for number in side]) for side in sides)
    places = [measured.numbers.index(number) for side in sides for number in side]
    each = {name: attack.norms[places] for name, attack in measured.attacks.items()}
    return Head((left, right), each, measured.best, best(logits), data.input_distances(data.key(answer.spec)))


def _within(norms: Floats, budgets: Floats) -> Floats:
    """The share of `norms` (N,) within each of the budgets (E,)."""
    share: Floats = (norms[:, None] <= budgets).mean(axis=0)
    return share


@st.cache_data(show_spinner=False, max_entries=200, hash_funcs={EpsilonGrid: repr})
def _errors(distances: Floats, epsilon: EpsilonGrid) -> Floats:
    return error_curve(distances, epsilon.values())
