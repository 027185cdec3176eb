"""The random linear projection A of section 4 of the paper: x -> A f(x), drawn from a seed."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from robustness_core.layers import is_affine


class ProjectionError(ValueError):
    """A projection that cannot be drawn; its text is one sentence."""


class Projected(nn.Module):
    """x -> A f(x): pixels (B, C, H, W) -> (B, m); without a projection the features as they are, flattened."""

    matrix: Tensor | None

    def __init__(self, extractor: nn.Module, matrix: Tensor | None):
        super().__init__()
        self.extractor = extractor
        self.register_buffer("matrix", matrix)
        self.affine = is_affine(extractor)

    def forward(self, pixels: Tensor) -> Tensor:
        features = self.extractor(pixels).flatten(1)
        return features if self.matrix is None else nn.functional.linear(features, self.matrix)


def draw(features: int, m: int, seed: int) -> Tensor:
    """A, (m, features) float32, i.i.d. standard Gaussian from numpy's PCG64 with `seed`, the same on every machine.

    The rows are drawn one after another, so A for a smaller m is the top of A for a larger m.
    """
    if not 1 <= m <= features:
        raise ProjectionError(f"m = {m} is not possible with {features} features; choose m from 1 to {features}.")
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((m, features)).astype(np.float32))


def project(extractor: nn.Module, features: int, m: int | None, seed: int) -> nn.Module:
    """The extractor followed by the projection A that `draw` gives: a module x -> A f(x).

    `features` is the size nj of the layer; `m` from 1 to nj, or None for no projection. The matrix lies on the
    device of the extractor. Raises ProjectionError.
    """
    if m is None:
        return Projected(extractor, None)
    tensors = [*extractor.parameters(), *extractor.buffers()]
    matrix = draw(features, m, seed)
    return Projected(extractor, matrix.to(tensors[0].device) if tensors else matrix)
