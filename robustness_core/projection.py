"""The random linear projection A of section 4 of the paper: x -> A f(x), drawn from a seed."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robustness_core.layers import is_affine
from robustness_core.mixtures import gaussian


class Projected(nn.Module):
    """x -> A f(x): pixels (B, C, H, W) -> (B, m); without a projection the features as they are, flattened."""

    matrix: Tensor | None

    def __init__(self, extractor: nn.Module, matrix: Tensor | None):
        super().__init__()
        self.extractor = extractor
        self.register_buffer("matrix", matrix)
        self.affine = is_affine(extractor)

    def forward(self, pixels: Tensor) -> Tensor:
        features, matrix = self.extractor(pixels), self.matrix
        if features.ndim == 4 and not features.is_contiguous():
            if (
                matrix is not None and features.dtype != matrix.dtype
            ):  # of a lower precision: A's columns in their order
                matrix = matrix.view(-1, *features.shape[1:]).permute(0, 2, 3, 1).flatten(1)
                features = features.permute(0, 2, 3, 1)
            elif features.requires_grad:
                features.register_hook(_channels_last)
        features = features.flatten(1)
        return features if matrix is None else nn.functional.linear(features.to(matrix.dtype), matrix)


def _channels_last(gradient: Tensor) -> Tensor:
    """The gradient of features in their own order in memory: in another, that of a ReLU takes fifty times as long."""
    return gradient.contiguous(memory_format=torch.channels_last)


def draw(features: int, m: int, seed: int) -> Tensor:
    """A, (m, features) float32, standard Gaussian from a seed: `mixtures.gaussian`. Raises StrataError."""
    return torch.from_numpy(gaussian(features, m, seed))


def project(extractor: nn.Module, features: int, m: int | None, seed: int) -> nn.Module:
    """The extractor followed by the projection A that `draw` gives: a module x -> A f(x).

    `features` is the size nj of the layer; `m` from 1 to nj, or None for no projection. The matrix lies on the
    device of the extractor. Raises StrataError.
    """
    if m is None:
        return Projected(extractor, None)
    tensors = [*extractor.parameters(), *extractor.buffers()]
    matrix = draw(features, m, seed)
    return Projected(extractor, matrix.to(tensors[0].device) if tensors else matrix)
