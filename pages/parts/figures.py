"""The figures of the paper as live figures of our own data: what each draws, what to see, and the screen behind it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import plotly.graph_objects as go

from charts import attribution, compare, learn, scaling, style
from charts.captions import Caption
from charts.curves import layer_curves
from pages.parts import captions, export, known, reading, references, toy, words
from robustness_core import datasets
from robustness_core.spec import AuditSpec
from robustness_core.spec.fields import FIELDS
from store import audits
from store.database import Database
from store.records import NetworkRecord

ENOUGH = 5  # projections; of audits with so many each, the one with more images is drawn
Query = Mapping[str, str | list[str]]


@dataclass(frozen=True)
class Link:
    """Where a figure comes from: a screen of `pages/` and the query that puts the settings in place."""

    screen: str
    query: Query


@dataclass(frozen=True, eq=False)
class Drawn:
    """A figure in both themes, `make(dark)`, its caption, whose numbers it draws, and where to open it."""

    make: Callable[[bool], go.Figure]
    caption: Caption
    link: Link
    alt: str
    parts: tuple[export.Part, ...] = ()


@dataclass(frozen=True)
class Lacking:
    """What is to be computed before a figure can be drawn: the questions with their networks, in a sentence."""

    sentence: str
    asked: tuple[tuple[NetworkRecord, AuditSpec], ...] = ()


@dataclass(frozen=True, eq=False)
class Scene:
    """Where a figure looks for its data: the database, its networks by name, and its finished audits."""

    db: Database
    networks: Mapping[str, NetworkRecord]
    done: Sequence[AuditSpec]

    def best(self, usual: AuditSpec, *, any_size: bool = True) -> AuditSpec:
        """The finished audit that asks the same of more projections or images, else `usual`.

        Of audits with ENOUGH projections each the one with more images.
        """
        alike = [spec for spec in self.done if _but_size(spec) == _but_size(usual)]
        alike = [spec for spec in alike if any_size or spec.sample.size == usual.sample.size]
        return max(alike, key=_worth, default=usual)


def _but_size(spec: AuditSpec) -> AuditSpec:
    return spec.replace(samples=1, projections=1, pairs="all")


def _worth(spec: AuditSpec) -> tuple[int, int, int]:
    return min(spec.search.projections, ENOUGH), spec.sample.size, spec.search.projections


def scene(db: Database, available: Sequence[NetworkRecord]) -> Scene:
    return Scene(db, {one.name: one for one in available}, audits.answered(db))


def usual(network: NetworkRecord, **named: Any) -> AuditSpec:
    """The usual question about all main layers of a network, or what is `named` in its place."""
    dataset = named.pop("dataset", next(iter(datasets.fitting(network.input_shape))).name)
    asked: dict[str, Any] = {
        "dataset": dataset,
        "classes": datasets.get(dataset).pair,
        "samples": FIELDS["samples"].default,
        "layers": tuple(layer.name for layer in network.layers if layer.main),
    }
    return AuditSpec.of(network.name, **{**asked, **named})


def _colours(network: NetworkRecord, dark: bool) -> dict[str, str]:
    return style.layer_colours([layer.name for layer in network.layers], dark)


def _part(scene_: Scene, spec: AuditSpec, label: str = "") -> tuple[reading.Reading, export.Part]:
    """What is known of a question about one m, and the same as a part of downloads."""
    network = scene_.networks[spec.network]
    answer = known.answer(scene_.db, spec, network)
    one = reading.of(answer, network)
    curve = one.images_curve
    overlays = () if curve is None else (export.of_images(spec.epsilon.values(), curve),)
    return one, export.Part(network, answer, one.curves, overlays, label)


@dataclass(frozen=True)
class Layers:
    """Loss curves of all layers of a network; `asked` are fields of the question that are not the usual ones.

    `only`: the last layer alone, with the loss of the network under the attacks that its card states.
    """

    network: str
    asked: Mapping[str, Any] = field(default_factory=dict)
    only: bool = False

    def __call__(self, scene_: Scene) -> Drawn | Lacking:
        network = scene_.networks.get(self.network)
        if network is None:
            return Lacking(f"The network {self.network} is not here.")
        spec = scene_.best(usual(network, **self.asked))
        attacked = references.of(network, spec) if self.only else None
        one, part = _part(scene_, spec)
        if part.answer.known == 0:
            return Lacking("Nothing of this figure is known here yet.", ((network, spec),))
        curves = one.curves[-1:] if self.only else one.curves

        def make(dark: bool) -> go.Figure:
            return layer_curves(
                spec.epsilon.values(),
                curves,
                _colours(network, dark),
                images=None if self.only else one.images_curve,
                overlays=attacked.losses if attacked else None,
                threat=spec.search.threat,
                dark=dark,
            )

        caption = captions.of_question(one.answer, curves, network, drawn=captions.band_of(one))
        if attacked:
            lines = " ".join(attacked.of_losses(name) for name in attacked.losses)
            caption = Caption(caption.first, f"{caption.more} {lines}")
        query = words.address(spec) | ({"attacks": "true"} if self.only else {})
        what = f"Loss curves of {'the logits' if self.only else 'the layers'} of {network.name}"
        return Drawn(make, caption, Link("explore", query), what, (part,))


def projected_more_and_more(scene_: Scene) -> Drawn | Lacking:
    """Loss curves of the first layer for m up to the number of pixels."""
    network = scene_.networks.get("mnist-medium-pgd2")
    if network is None:
        return Lacking("The network mnist-medium-pgd2 is not here.")
    layer = next(one for one in network.layers if one.main)
    asked = usual(network, layers=(layer.name,), m=(1, 2, 5, 10, 20, 50, 100, 200, 400, 784), samples=10, projections=3)
    alike = [one for one in scene_.done if _but_size(one.replace(m=asked.search.m)) == _but_size(asked)]
    spec = max(alike, key=lambda one: (max(m or 0 for m in one.search.m), _worth(one)), default=asked)
    answer = known.answer(scene_.db, spec, network)
    if answer.known == 0:
        return Lacking("Nothing of this figure is known here yet.", ((network, spec),))
    curves = known.curves(answer, network.features)
    inputs = [reading.images_of(spec, network, curve.m).curve for curve in curves]
    inputs = inputs if all(curve.known for curve in inputs) else []

    def make(dark: bool) -> go.Figure:
        return scaling.curves_by_m(spec.epsilon.values(), curves, inputs, threat=spec.search.threat, dark=dark)

    caption = captions.of_question(answer, curves, network, drawn="mean")
    ms = ["none" if m is None else str(m) for m in spec.search.m]
    hidden = ("layers", "pre", "m", "full")
    query = {name: value for name, value in words.address(spec).items() if name not in hidden}
    link = Link("scaling", {**query, "one": layer.name, "ms": ms})
    return Drawn(
        make, caption, link, f"Loss curves of {layer.name} for each m", (export.Part(network, answer, curves),)
    )


@dataclass(frozen=True)
class Several:
    """Small multiples: a panel for each of `asked`, heading -> fields of the question that are not the usual ones."""

    network: str
    asked: Mapping[str, Mapping[str, Any]]

    def __call__(self, scene_: Scene) -> Drawn | Lacking:
        network = scene_.networks.get(self.network)
        if network is None:
            return Lacking(f"The network {self.network} is not here.")
        specs = {name: scene_.best(usual(network, **fields), any_size=False) for name, fields in self.asked.items()}
        parts = [_part(scene_, spec, name)[1] for name, spec in specs.items()]
        parts_known = [part for part in parts if part.answer.known]
        lacking = tuple((network, part.answer.spec) for part in parts if not part.answer.known)
        if not parts_known:
            return Lacking("Nothing of this figure is known here yet.", lacking)

        def make(dark: bool) -> go.Figure:
            epsilon = parts_known[0].answer.spec.epsilon.values()
            return compare.small_multiples(epsilon, {one.name: one.curves for one in parts_known}, dark=dark)

        first = ", ".join(f"{one.name}: {captions.settings(one.answer)}" for one in parts_known)
        caption = Caption(f"Layers of {network.name} on other images. {first}.")
        link = Link("explore", words.address(parts_known[0].answer.spec))
        return Drawn(make, caption, link, f"Layer curves of {network.name} on other images", tuple(parts_known))


def one_pair(scene_: Scene) -> Drawn | Lacking:
    """How far the first image of each class must be moved, layer by layer."""
    network = scene_.networks.get("mnist-medium-pgd2")
    if network is None:
        return Lacking("The network mnist-medium-pgd2 is not here.")
    spec = scene_.best(usual(network), any_size=False)
    one, part = _part(scene_, spec)
    if part.answer.known == 0:
        return Lacking("Nothing of this figure is known here yet.", ((network, spec),))
    values = {layer.name: float(layer.matrices[0][0, 0]) for layer in one.layers[1:] if layer.matrices}
    bars = [attribution.Bar(name, value if math.isfinite(value) else None) for name, value in values.items()]

    def make(dark: bool) -> go.Figure:
        title = f"distance ({spec.search.threat.symbol} norm)"
        return attribution.by_layer(bars, _colours(network, dark), title, dark=dark)

    caption = Caption(
        "The perturbation with which the first two images of the sample collide, layer by layer, seen through the "
        "first projection.",
        f"{captions.settings(part.answer)}. Distances are of collisions that were found: upper bounds.",
    )
    chosen = int(part.answer.sample.left[0]), int(part.answer.sample.right[0])
    query = words.address_of_pair(spec, spec.search.layers[-1], 1, chosen)
    return Drawn(make, caption, Link("pairs", query), f"Distance of one pair at each layer of {network.name}", (part,))


def level_sets(_: Scene) -> Drawn:
    axis, points = toy.grid()
    values = toy.many_features(60, 3)(points)
    caption = Caption("Level sets of a random mixture of 4 good and 60 weak features.")
    link = Link("learn", {"idea": "Features", "weak": "60"})
    return Drawn(lambda dark: learn.level_sets(axis, values, dark=dark), caption, link, "Level sets of a mixture")


def a_collision(_: Scene) -> Drawn:
    axis, points = toy.grid()
    feature, x, other = toy.piecewise_linear(75), np.array([-0.9, -0.5]), np.array([0.9, 0.6])
    found = toy.meet(feature, x, other)

    def make(dark: bool) -> go.Figure:
        ends = (found.left, found.right)
        return learn.meeting(axis, feature(points), (x, other), ends, found.distance, found.level, dark=dark)

    caption = Caption("Level sets of a piecewise linear feature; the radius of each ball is the distance of the two.")
    return Drawn(
        make, caption, Link("learn", {"idea": "Distance", "kind": "piecewise linear"}), "Two points and their collision"
    )


def the_search(_: Scene) -> Drawn:
    axis, points = toy.grid()
    x, other = np.array([-0.9, -0.5]), np.array([0.9, 0.6])
    path = toy.algorithm1(toy.smooth, x, other, 12, gamma=0.8)
    caption = Caption("Each path leads from the midpoint back towards its point, a dot a step.")
    values = toy.smooth(points)
    link = Link("learn", {"idea": "Search"})
    return Drawn(
        lambda dark: learn.steps(axis, values, (x, other), path, dark=dark), caption, link, "The steps of Algorithm 1"
    )


def robust_accuracy(scene_: Scene) -> Drawn | Lacking:
    """Accuracy under PGD of the three medium networks for digits."""
    names = ("mnist-medium-pgd2", "mnist-medium-trades2", "mnist-medium-benign")
    found = [scene_.networks[name] for name in names if name in scene_.networks]
    lines = {one.name: words.pgd_accuracy(one, usual(one)) for one in found}
    trained = datasets.get("mnist").epsilon
    if not any(lines.values()):
        return Lacking("No card of these networks states an accuracy under PGD.")

    def make(dark: bool) -> go.Figure:
        return compare.accuracy_by_budget(lines, trained, dark=dark)

    caption = Caption(
        "Accuracy on test images of the two classes, asked for these two only, under PGD of 40 steps. Upright line: "
        f"ε = {trained:g}, at which the robust ones were trained."
    )
    link = Link("compare", {"networks": [one.name for one in found]})
    return Drawn(make, caption, link, "Accuracy of three networks under PGD over the budget")


@dataclass(frozen=True)
class PaperFigure:
    """A figure of the paper: its name there, what it shows, one line of what to see in ours, and how ours is drawn.

    `sections` of the paper whose claims name no figure stand beside this one.
    """

    name: str
    title: str
    see: str
    draw: Callable[[Scene], Drawn | Lacking]
    sections: tuple[str, ...] = ()


IMAGES: Mapping[str, Mapping[str, Any]] = {
    "3 against 7": {},
    "4 against 9": {"classes": (4, 9)},
    "other images": {"seed": 1, "projection_seed": 0},
}
FIGURES: Mapping[str, PaperFigure] = {
    one.name: one
    for one in (
        PaperFigure(
            "Figure 1",
            "Good and bad features",
            "Sixty weak features clutter the calm level sets of four good ones.",
            level_sets,
        ),
        PaperFigure(
            "Figure 2",
            "The distance of two images",
            "Both move equally far and meet on one level set.",
            a_collision,
        ),
        PaperFigure(
            "Figure 3",
            "One pair across layers",
            "How far the same two images must be moved at each layer.",
            one_pair,
        ),
        PaperFigure(
            "Figure 4",
            "The search",
            "The iterates go from the midpoint back towards the images.",
            the_search,
            sections=("5",),
        ),
        PaperFigure(
            "Figure 5",
            "An attack beside the optimal loss",
            "The network's own loss under FAB beside the least loss at its logits: where it passes log 2, guessing "
            "would be better.",
            Layers("mnist-medium-pgd2", only=True),
        ),
        PaperFigure(
            "Figure 6",
            "The first layer through more and more mixtures",
            "With m the curves move right, towards that of the images.",
            projected_more_and_more,
            sections=("4.2",),
        ),
        PaperFigure(
            "Figure 7",
            "Without projection",
            "Layers that have more features than the images have pixels keep the curve of the images.",
            Layers("mnist-medium-pgd2", {"m": (None,), "samples": 10, "projections": 1}),
        ),
        PaperFigure(
            "Figure 8",
            "MNIST, medium network, PGD",
            "How the curves move from layer to layer; the logits lie farthest right.",
            Layers("mnist-medium-pgd2"),
        ),
        PaperFigure(
            "Figure 9",
            "CIFAR-10, medium network, PGD",
            "The same from layer to layer, at about half the budgets.",
            Layers("cifar10-medium-pgd0.5"),
        ),
        PaperFigure(
            "Figure 10",
            "MNIST, small network, PGD",
            "Its first layer and its logits beside those of Figure 8.",
            Layers("mnist-small-pgd2"),
        ),
        PaperFigure(
            "Figure 11",
            "MNIST, large network, PGD",
            "How unevenly robustness grows over five convolutions.",
            Layers("mnist-large-pgd2"),
        ),
        PaperFigure(
            "Figure 12",
            "CIFAR-10, large network, PGD",
            "As Figure 11, on photographs.",
            Layers("cifar10-large-pgd0.5"),
        ),
        PaperFigure(
            "Figure 13",
            "MNIST, medium network, benign training",
            "At which budgets every layer loses all, beside Figure 8.",
            Layers("mnist-medium-benign"),
        ),
        PaperFigure(
            "Figure 14",
            "MNIST, medium network, TRADES",
            "Where the first layer's cliff lies, and the distance between the last layers, beside Figure 8.",
            Layers("mnist-medium-trades2"),
        ),
        PaperFigure(
            "Figure 15",
            "CIFAR-10, medium network, TRADES",
            "As Figure 14, beside Figure 9.",
            Layers("cifar10-medium-trades0.5"),
        ),
        PaperFigure(
            "Accuracy",
            "Robust accuracy",
            "What training against an attack brings, and what TRADES does beside PGD.",
            robust_accuracy,
            sections=("6.5", "6.6"),
        ),
        PaperFigure(
            "Appendix C",
            "Other classes and images",
            "Whether the layers keep their order and their steps.",
            Several("mnist-medium-pgd2", IMAGES),
        ),
    )
}
