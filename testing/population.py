"""A population of which samples are drawn at will: Gaussian images of two classes, two affine layers, closed forms.

What audits estimate is known of it to any precision, so that intervals can be held against the truth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robustness_core.claims.resampling import Measured
from robustness_core.found import Floats
from robustness_core.optimal_loss.conflict_graph import input_distances
from robustness_core.optimal_loss.statistics import LeftOut, half_budget_without_one, mean_distance_without_one

PIXELS, FEATURES, M = 24, 60, 6


@dataclass(frozen=True, eq=False)
class Population:
    """Classes of means `means` (2, n) and spread `spread` (n, n), and the matrices (layers, FEATURES, n) of layers."""

    means: Floats
    spread: Floats
    layers: Floats

    @classmethod
    def of(cls, seed: int) -> Population:
        random = np.random.default_rng(seed)
        falling = 1 / np.sqrt(1 + np.arange(PIXELS))  # the spectrum of images falls
        layers = random.standard_normal((2, FEATURES, PIXELS)) * [[falling**0.5], [falling**2]]
        return cls(random.standard_normal((2, PIXELS)) * falling, np.diag(falling), layers)

    def images(self, size: int, random: np.random.Generator) -> tuple[Floats, Floats]:
        """`size` images of each class."""
        left, right = self.means[:, None] + random.standard_normal((2, size, PIXELS)) @ self.spread
        return left, right

    def seen(self, layer: int, random: np.random.Generator) -> Floats:
        """What M random mixtures of a layer's features see of the images, an orthonormal basis (n, M)."""
        basis: Floats = np.linalg.qr((random.standard_normal((M, FEATURES)) @ self.layers[layer]).T)[0]
        return basis

    def distances(self, images: tuple[Floats, Floats], basis: Floats) -> Floats:
        """½‖V Vᵀ(x − x′)‖ of every pair (METHOD.md section 2)."""
        return input_distances(images[0] @ basis, images[1] @ basis)

    def audit(self, size: int, projections: int, random: np.random.Generator) -> list[list[Floats]]:
        """An audit: of each layer the distances of each projection, all of the same images."""
        images = self.images(size, random)
        return [
            [self.distances(images, self.seen(layer, random)) for _ in range(projections)]
            for layer in range(len(self.layers))
        ]


def means(matrices: list[Floats]) -> Measured:
    return _measured([mean_distance_without_one(one) for one in matrices], matrices)


def halves(matrices: list[Floats]) -> Measured:
    return _measured([half_budget_without_one(one) for one in matrices], matrices)


def _measured(values: list[LeftOut], matrices: list[Floats]) -> Measured:
    return Measured(values, tuple(range(len(values))), ("left",), ("right",), len(matrices[0]))
