"""Values and Jacobians of the collision constraint g(points) = A f(left) - A f(right)."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from robustness_core.collision.precision import Descent, tensor_cores

with warnings.catch_warnings():  # torch's forward mode compiles itself, once, by a function that torch deprecates
    warnings.simplefilter("ignore", DeprecationWarning)
    with forward_ad.dual_level():
        forward_ad.make_dual(torch.zeros(1), torch.zeros(1))

# Images in one pass. Batches are filled up to a multiple of SMALLEST: from there on a pair's rounding does not depend
# on its neighbours (tested), and libraries prepare themselves for few sizes only.
SMALLEST = 16
# More leave the processor's caches and are slower; elsewhere there is no limit.
ON_CPU = {"float32": 64, "float64": 32, "bfloat16": 128}


class Constraint:
    """g of a batch of pairs and its derivatives, with the passes that they cost counted pair by pair.

    A pass is one forward or one backward pass of both images of a pair; a pass of one image (the midpoint) is half.
    """

    def __init__(self, extractor: nn.Module, shape: tuple[int, ...], originals: Tensor, descent: Descent | None = None):
        """`originals` (B, 2, n): the pairs, in the device and type, float32 or float64, in which they are computed.

        `descent`: the extractor in a lower precision, for what need not be exact: `values_and_pullback` and
        `jacobian_at_midpoint`.
        """
        on_cpu = originals.device.type == "cpu"
        self.extractor = extractor
        self.descent = descent or Descent(extractor)
        self.shape = shape  # (C, H, W)
        self.passes = torch.zeros(len(originals), dtype=torch.float64, device=originals.device)
        own = str(originals.dtype).removeprefix("torch.")
        lower = own if self.descent.extractor is extractor else self.descent.precision
        self._pairs, self._descending = (ON_CPU[name] // 2 if on_cpu else len(originals) for name in (own, lower))
        self._channels_last = len(shape) == 3 and on_cpu

    def _features(self, points: Tensor, extractor: nn.Module | None = None) -> Tensor:
        """(B, 2, n) -> (B, 2, m)."""
        return self._of_images(points.flatten(0, 1), extractor or self.extractor).unflatten(0, (-1, 2))  # type: ignore[no-any-return]

    def _mismatch(self, points: Tensor, extractor: nn.Module | None = None) -> Tensor:
        """g, (B, 2, n) -> (B, m), with its graph."""
        features = self._features(points, extractor)
        return features[:, 0] - features[:, 1]

    def _of_images(self, images: Tensor, extractor: nn.Module) -> Tensor:
        """(K, n) -> (K, m), in the type of the images."""
        count = len(images)
        if count % SMALLEST:
            images = torch.cat([images, images.new_zeros(-count % SMALLEST, images.shape[1])])
        images = images.reshape(-1, *self.shape)
        if self._channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        return extractor(images).to(images.dtype).flatten(1)[:count]  # type: ignore[no-any-return]

    def of_images(self, points: Tensor) -> Tensor:
        """A f of sets of T images, (B, T, n) -> (B, T, m), with its graph; no pass is counted."""
        return self._of_images(points.flatten(0, 1), self.extractor).unflatten(0, points.shape[:2])  # type: ignore[no-any-return]

    def features(self, points: Tensor, rows: Tensor) -> Tensor:
        """A f of both images, (B, 2, m); one pass. `rows` (B,) are the places of these pairs in the count."""
        with torch.no_grad():
            features = torch.cat([self._features(part) for part in points.split(self._pairs)])
        self.passes[rows] += 1
        return features

    def values(self, points: Tensor, rows: Tensor) -> Tensor:
        """g, (B, m); one pass."""
        features = self.features(points, rows)
        return features[:, 0] - features[:, 1]

    def values_and_jacobian(self, points: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """g, (B, m), and J, (B, m, 2n): one forward pass and m backward passes."""
        features, J = self.features_and_jacobian(points, rows)
        return features[:, 0] - features[:, 1], J

    def features_and_jacobian(self, points: Tensor, rows: Tensor, descending: bool = False) -> tuple[Tensor, Tensor]:
        """A f of both images, (B, 2, m), and J, (B, m, 2n): one forward pass and m backward passes.

        `descending`: J in the precision of the descent, for a forward pass more if that is another.
        """
        if descending and self.descent.extractor is not self.extractor:
            rough = Constraint(self.descent.extractor, self.shape, points)
            J = rough.features_and_jacobian(points, torch.arange(len(points), device=points.device))[1]
            self.passes[rows] += rough.passes
            return self.features(points, rows), J
        parts = []
        for part in points.split(self._pairs):
            part = part.detach().requires_grad_()
            features = self._features(part)
            parts.append((features.detach(), _rows(features[:, 0] - features[:, 1], part).flatten(2)))
        features, J = (torch.cat(both) for both in zip(*parts, strict=True))
        self.passes[rows] += 1 + J.shape[1]
        return features, J

    def pushforward(self, points: Tensor, directions: Tensor, rows: Tensor) -> Tensor:
        """J v, (B, m), for `directions` v, (B, 2, n), without J: one forward-mode pass, counted as two."""
        parts = []
        with torch.no_grad(), forward_ad.dual_level():
            for part, direction in zip(points.split(self._pairs), directions.split(self._pairs), strict=True):
                moved = self._mismatch(forward_ad.make_dual(part, direction))
                parts.append(forward_ad.unpack_dual(moved).tangent.clone())
        self.passes[rows] += 2
        return torch.cat(parts)

    def pullback(self, points: Tensor, weights: Tensor, rows: Tensor) -> Tensor:
        """J^T u, (B, 2, n), for `weights` u, (B, m), without J: one forward and one backward pass."""
        parts = []
        for part, weight in zip(points.split(self._pairs), weights.split(self._pairs), strict=True):
            part = part.detach().requires_grad_()
            parts.append(torch.autograd.grad(self._mismatch(part), part, weight)[0])
        self.passes[rows] += 2
        return torch.cat(parts)

    def jacobian_at_midpoint(self, points: Tensor, rows: Tensor) -> Tensor:
        """J, (B, m, 2n), where both images of each pair are the same: one image does for both sides."""
        parts = []
        with tensor_cores(self.descent.precision == "tfloat32"):
            for part in points[:, 0].split(2 * self._descending):
                part = part.detach().requires_grad_()
                parts.append(_rows(self._of_images(part, self.descent.extractor), part))
        half = torch.cat(parts)
        self.passes[rows] += (1 + half.shape[1]) / 2
        return torch.cat([half, -half], dim=2)

    def values_and_pullback(
        self, points: Tensor, rows: Tensor, weights: Tensor, penalty: Tensor
    ) -> tuple[Tensor, Tensor]:
        """g, (B, m), and J^T (weights + penalty g), (B, 2, n): one forward and one backward pass.

        `weights` (B, m), `penalty` (B, m, m), symmetric.
        """
        parts = []
        with tensor_cores(self.descent.precision == "tfloat32"):
            parts_of = (tensor.split(self._descending) for tensor in (points, weights, penalty))
            for part, weight, matrix in zip(*parts_of, strict=True):
                part = part.detach().requires_grad_()
                g = self._mismatch(part, self.descent.extractor)
                pull = weight + torch.einsum("bij,bj->bi", matrix, g.detach())
                parts.append((g.detach(), torch.autograd.grad(g, part, pull)[0]))
        g, gradient = (torch.cat(both) for both in zip(*parts, strict=True))
        self.passes[rows] += 2
        return g, gradient


def _rows(outputs: Tensor, inputs: Tensor) -> Tensor:
    """The Jacobian of outputs (B, m) by inputs (B, ...), row by row: (B, m, ...)."""
    last = outputs.shape[1] - 1
    grads = [
        torch.autograd.grad(outputs[:, k].sum(), inputs, retain_graph=k < last, materialize_grads=True)[0]
        for k in range(outputs.shape[1])
    ]
    return torch.stack(grads, dim=1)
