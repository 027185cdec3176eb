"""Values and Jacobians of the collision constraint g(points) = A f(left) - A f(right)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

SMALLEST = 16  # images in a batch: from here on, a pair's rounding does not depend on its neighbours (tested)


class Constraint:
    """g of a batch of pairs and its derivatives, with the passes that they cost counted pair by pair.

    A pass is one forward or one backward pass of both images of a pair; a pass of one image (the midpoint) is half.
    """

    def __init__(self, extractor: nn.Module, shape: tuple[int, ...], pairs: int, device: torch.device):
        self.extractor = extractor
        self.shape = shape  # (C, H, W)
        self.passes = torch.zeros(pairs, dtype=torch.float64, device=device)

    def _features(self, images: Tensor) -> Tensor:
        """(K, n) -> (K, m); a small batch is filled up, since libraries round small batches in another way."""
        count = len(images)
        if count < SMALLEST:
            images = torch.cat([images, images.new_zeros(SMALLEST - count, images.shape[1])])
        return self.extractor(images.reshape(-1, *self.shape)).flatten(1)[:count]  # type: ignore[no-any-return]

    def features(self, points: Tensor, rows: Tensor) -> Tensor:
        """A f of both images, (B, 2, m); one pass. `rows` (B,) are the places of these pairs in the count."""
        with torch.no_grad():
            features = self._features(points.flatten(0, 1)).unflatten(0, (-1, 2))
        self.passes[rows] += 1
        return features  # type: ignore[no-any-return]

    def values(self, points: Tensor, rows: Tensor) -> Tensor:
        """g, (B, m); one pass."""
        features = self.features(points, rows)
        return features[:, 0] - features[:, 1]

    def values_and_jacobian(self, points: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """g, (B, m), and J, (B, m, 2n): one forward pass and m backward passes."""
        points = points.detach().requires_grad_()
        features = self._features(points.flatten(0, 1)).unflatten(0, (-1, 2))
        g = features[:, 0] - features[:, 1]
        J = _rows(g, points)
        self.passes[rows] += 1 + g.shape[1]
        return g.detach(), J.flatten(2)

    def jacobian_at_midpoint(self, points: Tensor, rows: Tensor) -> Tensor:
        """J, (B, m, 2n), where both images of each pair are the same: one image does for both sides."""
        images = points[:, 0].detach().requires_grad_()
        features = self._features(images)
        half = _rows(features, images)
        self.passes[rows] += (1 + features.shape[1]) / 2
        return torch.cat([half, -half], dim=2)

    def values_and_pullback(
        self, points: Tensor, rows: Tensor, weights: Tensor, penalty: Tensor
    ) -> tuple[Tensor, Tensor]:
        """g, (B, m), and J^T (weights + penalty g), (B, 2, n): one forward and one backward pass.

        `weights` (B, m), `penalty` (B, m, m), symmetric.
        """
        points = points.detach().requires_grad_()
        features = self._features(points.flatten(0, 1)).unflatten(0, (-1, 2))
        g = features[:, 0] - features[:, 1]
        pull = weights + torch.einsum("bij,bj->bi", penalty, g.detach())
        (gradient,) = torch.autograd.grad(g, points, pull)
        self.passes[rows] += 2
        return g.detach(), gradient


def _rows(outputs: Tensor, inputs: Tensor) -> Tensor:
    """The Jacobian of outputs (B, m) by inputs (B, ...), row by row: (B, m, ...)."""
    last = outputs.shape[1] - 1
    grads = [
        torch.autograd.grad(outputs[:, k].sum(), inputs, retain_graph=k < last, materialize_grads=True)[0]
        for k in range(outputs.shape[1])
    ]
    return torch.stack(grads, dim=1)
