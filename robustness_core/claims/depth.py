"""Claims on how robustness goes with depth (paper, sections 4.3 and 6.3)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from robustness_core.claims.claim import Claim, Part
from robustness_core.claims.evidence import Evidence
from robustness_core.claims.parts import ABOVE_0, BASELINES, halves
from robustness_core.found import Floats

STEPS = 6  # between the seven layers of the medium network


def _ends(evidence: Evidence) -> list[Part]:
    return [
        halves(evidence, f"{one}: {layers[0]} → {layers[-1]}", _change, {one: (layers[0], layers[-1])})
        for one in BASELINES
        if (layers := evidence.layers(one))
    ]


def _each_step(evidence: Evidence) -> list[Part]:
    return [
        halves(evidence, f"{one}: {before} → {after}", _change, {one: (before, after)})
        for one in BASELINES
        for before, after in pairwise(evidence.layers(one))
    ]


def _change(before: Floats, after: Floats) -> Floats:
    return after - before


def _share(step: int) -> Callable[[Evidence], Sequence[Part]]:
    """The share of step number `step`, from 1, of the whole growth from the first to the last layer."""

    def share(*layers: Floats) -> Floats:
        return (layers[step] - layers[step - 1]) / (layers[-1] - layers[0])

    def parts(evidence: Evidence) -> list[Part]:
        return [
            halves(evidence, f"{one}: {layers[step - 1]} → {layers[step]}", share, {one: layers})
            for one in BASELINES
            if (layers := evidence.layers(one))
        ]

    return parts


def _learned(evidence: Evidence) -> list[Part]:
    return [
        halves(
            evidence,
            f"{one}: 10 rows of {layers[-1]} against 10 random rows at {layers[-2]}",
            lambda random, learned: np.log(learned / random),
            {one: layers[-2:]},
        )
        for one in BASELINES
        if (layers := evidence.layers(one))
    ]


CLAIMS = (
    Claim(
        "deeper-is-more-robust",
        "4.3, Figure 3",
        "Seen through m random mixtures, a deeper layer is more robust than an early one.",
        "ε½ of the last layer minus that of the first, m = 10",
        "ε½ of the last layer below that of the first",
        ABOVE_0,
        _ends,
        unit="ε",
    ),
    Claim(
        "every-step-adds",
        "6.3, Figures 8 and 9",
        "Robustness grows at every step from layer to layer.",
        "ε½ of a layer minus that of the layer before, for each of six steps, m = 10",
        "one step at which ε½ falls",
        ABOVE_0,
        _each_step,
        unit="ε",
    ),
    Claim(
        "big-step-1-2",
        "6.3, Figures 8 and 9",
        "The step from layer 1 to 2 is one of the big ones.",
        "its share of the growth of ε½ from the first to the last layer, m = 10",
        "less than an equal share, 1/6",
        (1 / STEPS, math.inf),
        _share(1),
    ),
    Claim(
        "big-step-4-5",
        "6.3, Figures 8 and 9",
        "The step from layer 4 to 5, the first fully connected one, is one of the big ones.",
        "its share of the growth of ε½ from the first to the last layer, m = 10",
        "less than an equal share, 1/6",
        (1 / STEPS, math.inf),
        _share(4),
    ),
    Claim(
        "little-from-6-on",
        "6.3, Figures 8 and 9",
        "From layer 6 to the logits there is little more, though 512 features become 10.",
        "the last step's share of the growth of ε½ from the first to the last layer, m = 10",
        "more than an equal share, 1/6",
        (-math.inf, 1 / STEPS),
        _share(6),
    ),
    Claim(
        "random-like-learned",
        "6.3, Figures 8 and 9",
        "A random projection behaves like the learned matrix of as many rows.",
        "log of ε½ of the logits (10 learned rows of layer 6) over ε½ of layer 6 seen through 10 random rows",
        "the two differ by more than a tenth",
        (-0.1, 0.1),
        _learned,
    ),
)
