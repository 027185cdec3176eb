"""Captions that state what a figure draws, in a form that a paper can take over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from charts.curves import Curve
from robustness_core.datasets import class_label
from robustness_core.spec import PAPERS, AuditSpec


@dataclass(frozen=True)
class Caption:
    """What stands below a figure: `first` in about two lines, and `more`, which a screen unfolds on demand.

    As a text it is both.
    """

    first: str
    more: str = ""

    def __str__(self) -> str:
        return f"{self.first} {self.more}".strip()


def images_of(spec: AuditSpec) -> str:
    """The images of a question: mnist (train), class 3 against 7, S = 20 images a class without image 1464, in ℓ∞."""
    asked = spec.sample
    numbers = ", ".join(str(number) for number in asked.left_out)
    without = f" without image{'s' if len(asked.left_out) > 1 else ''} {numbers}" if asked.left_out else ""
    threat = "" if spec.search.threat == PAPERS else f", in {spec.search.threat.words}"
    named = [class_label(asked.dataset, number) for number in asked.classes]
    classes = f"class {' against '.join(named)}" if len(named) == 2 else f"classes {', '.join(named)}"
    of = f"{asked.dataset} ({asked.split}), {classes}"
    return f"{of}, S = {asked.size} images a class{without}{threat}"


def dimensions_of(spec: AuditSpec) -> str:
    """The projection dimensions of a question: 1, 2, none (m ≥ nj)."""
    return ", ".join("none (m ≥ nj)" if value is None else str(value) for value in spec.search.m)


def method_of(spec: AuditSpec, version: int) -> str:
    """How a question is answered: method balanced, preset default, version 2, seed 0."""
    return f"method {spec.search.method}, preset {spec.search.preset}, version {version}, seed {spec.seeds}"


def range_of(spec: AuditSpec) -> str:
    """Where the images that collide lie, as a sentence without its stop."""
    lie = "stay in" if spec.search.threat.box else "may leave"
    return f"The images that collide {lie} the pixel range [0, 1]"


def caption(spec: AuditSpec, curves: Sequence[Curve], version: int, *, drawn: str, doubt: str = "") -> Caption:
    """Of the curves of a question: n_j, m, N, S, classes, method with preset and version, seed, how much is known.

    `drawn`: what the figure draws of several projections. `doubt`: what is said of the network beside its name.
    """
    features = {curve.layer: curve.features for curve in curves}
    sizes = ", ".join(f"{layer} ({count:,})" for layer, count in features.items())
    projections = max(len(curve.losses) for curve in curves)
    many = "1 projection" if projections == 1 else f"{projections} projections ({drawn})"
    seen = f"Projection dimension m: {dimensions_of(spec)}; N = {many}; "
    if spec.search.m == (None,):
        seen = "No projection, all features of a layer (m ≥ nj); "
    more = (
        f"Layers with their features nj: {sizes}. "
        f"{seen}{method_of(spec, version)}. "
        "Distances are of collisions that were found, so every curve is a lower bound of the optimal loss. "
        f"{range_of(spec)}; attacks stay inside."
    )
    known, total = (sum(counts) for counts in zip(*((curve.known, curve.total) for curve in curves), strict=True))
    if any(curve.missing for curve in curves):
        more += f" {known:,} of {total:,} pairs are known; an unknown pair counts as no edge, which keeps the bound."
        if projections > 1:
            more += (
                " Means are over the projections of which every pair is known; while there is none, over all of which "
                "some are."
            )
    every = "S² pairs" if len(spec.sample.classes) == 2 else f"{spec.sample.pairs:,} pairs"
    pairs = f"those of the {every} that it needs" if spec.needed else f"all {every}"
    return Caption(f"Optimal loss of {spec.network}{doubt} on {images_of(spec)}, {pairs}.", more)
