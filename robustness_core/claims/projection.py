"""Claims on m, the rows of the projection, and on what there is without one (paper, sections 4.1, 4.2, 6.2 and 6.3)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from robustness_core import datasets
from robustness_core.claims.claim import Claim, Part
from robustness_core.claims.evidence import Audit, Evidence
from robustness_core.claims.parts import BASELINES, usual
from robustness_core.claims.resampling import Measured, estimate
from robustness_core.found import Floats
from robustness_core.mixtures import seen_distances
from robustness_core.optimal_loss.conflict_graph import input_distances
from robustness_core.optimal_loss.statistics import mean_distance_without_one
from robustness_core.theory import mean_factor

FEW = (5, 10, 20, 50)  # rows of the fit: below 5 means of distances are bent, and 50 is far from n0
FIRST = "conv1"
ROWS, DRAWS = 10, 20  # of the images seen through mixtures of their pixels


def _exponents(evidence: Evidence) -> list[Part]:
    return [_exponent(evidence, one) for one in BASELINES]


def _exponent(evidence: Evidence, network: str) -> Part:
    wanted = usual(evidence, network, [FIRST], 1, 2, *FEW)
    audits = evidence.find(network, [FIRST], FEW, whole=True)
    name = f"{network}: {FIRST}, m = {FEW[0]} to {FEW[-1]}"
    if not audits:
        return Part(name, None, wanted=(wanted,))
    x = np.log(FEW) - np.log(FEW).mean()

    def slope(*means: Floats) -> Floats:
        y = [np.log(one / mean_factor(m)) for one, m in zip(means, FEW, strict=True)]
        return np.asarray(sum(weight * one for weight, one in zip(x, y, strict=True)) / (x @ x))

    found = estimate(slope, *(evidence.mean(audits[0], FIRST, m) for m in FEW))
    return Part(name, found, (audits[0],), wanted=() if audits[0].seeds > 1 else (wanted,))


def _all_rows(evidence: Evidence) -> list[Part]:
    network = BASELINES[0]
    m = evidence.pixels(network)
    wanted = usual(evidence, network, [FIRST], m, size=10, projections=3)
    audits = evidence.find(network, [FIRST], (m,), whole=True)
    return [_against_input(evidence, f"{network}: {FIRST}, m = n0 = {m}", network, FIRST, m, audits, wanted)]


def _no_projection(evidence: Evidence) -> list[Part]:
    """At the last layer before one has fewer features than there are pixels: distances only fall with depth."""
    parts = []
    for network in (BASELINES[0], "mnist-small-pgd2", BASELINES[1]):
        pixels, names = evidence.pixels(network), evidence.layers(network)
        sizes = [evidence.features(network, one) for one in names]
        layer = names[next(i for i, size in enumerate(sizes) if size < pixels) - 1]
        audits = evidence.find(network, [layer], (None,), whole=True)
        wanted = usual(evidence, network, names, None, size=10, projections=1)
        parts.append(_against_input(evidence, f"{network}: {layer}", network, layer, None, audits, wanted))
    return parts


def _against_input(
    evidence: Evidence, name: str, network: str, layer: str, m: int | None, audits: Sequence[Audit], wanted: str
) -> Part:
    """The mean distance at a layer as a share of the images' own."""
    if not audits:
        return Part(name, None, wanted=(wanted,))
    found = estimate(lambda d, images: d / images, evidence.mean(audits[0], layer, m), evidence.input(audits[0]))
    return Part(name, found, (audits[0],))


def _of_pixels(statistic: Callable[[Floats, Floats], Floats]) -> Callable[[Evidence], Sequence[Part]]:
    """A mean over pairs of the images themselves seen through mixtures of their pixels, L = I, in closed form.

    statistic: distances (L, R) and what Proposition 1 predicts of them -> (L, R).
    """

    def parts(evidence: Evidence) -> list[Part]:
        made = []
        for network in BASELINES:
            audits = evidence.find(network, evidence.layers(network))
            if not audits:
                continue
            sample = audits[0].spec.sample
            pixels = datasets.load(sample.dataset, sample.split).pixels
            left, right = (pixels[list(numbers)] / 255 for numbers in audits[0].shipped.indices)
            n0 = left[0].size
            predicted = input_distances(left, right) * math.sqrt(ROWS / n0)
            values = [
                mean_distance_without_one(statistic(seen_distances(left, right, ROWS, seed), predicted))
                for seed in range(DRAWS)
            ]
            measured = Measured(values, tuple(range(DRAWS)), *audits[0].sides, sample.size)
            name = f"{sample.dataset}: m = {ROWS}, √r4 = √n0 = {math.sqrt(n0):.0f}"
            made.append(Part(name, estimate(lambda x: x, measured)))
        return made

    return parts


CLAIMS = (
    Claim(
        "grows-as-root-of-m",
        "6.2, Figure 6",
        "Distances grow roughly as √m, m the rows of the projection.",
        "exponent k of mean distance / c(m) ∝ mᵏ at the first layer, m = 5 to 50 (c(m): the mean of a small m)",
        "an exponent below 0.4 or above 0.6",
        (0.4, 0.6),
        _exponents,
        "scaling",
    ),
    Claim(
        "all-rows-give-the-input",
        "6.2, Figure 6",
        "As m goes to n0, the distances become those of the images themselves.",
        "mean distance at the first layer through m = n0 rows, over the mean of ½‖x − x′‖",
        "less than 95 % of the images' own distance",
        (0.95, math.inf),
        _all_rows,
        "scaling",
    ),
    Claim(
        "no-collision-before-sizes-shrink",
        "6.3, Figure 7",
        "Without projection the search finds nothing nearer than the trivial collision, before a layer has fewer "
        "features than there are pixels.",
        "mean distance at the last such layer without projection, over the mean of ½‖x − x′‖",
        "less than 99 % of the images' own distance",
        (0.99, math.inf),
        _no_projection,
    ),
    Claim(
        "follows-the-linear-law",
        "4.2, Proposition 1",
        "For 1 ≪ m ≪ √r4 the distance at a linear layer L is √m ‖L(x − x′)‖ / (2‖L‖F), here at the pixels, L = I.",
        "mean of distance over that, m = 10",
        "a mean more than a tenth away from 1",
        (0.9, 1.1),
        _of_pixels(lambda distance, predicted: distance / predicted),
        "learn",
        closed_form=True,
    ),
    Claim(
        "concentrates",
        "4.2, Proposition 1",
        "For 1 ≪ m ≪ √r4 the distance concentrates there.",
        "mean of |distance / prediction − 1| over pairs and projections, L = I, m = 10",
        "a mean departure above a quarter",
        (0.0, 0.25),
        _of_pixels(lambda distance, predicted: np.abs(distance / predicted - 1)),
        "learn",
        closed_form=True,
    ),
)
