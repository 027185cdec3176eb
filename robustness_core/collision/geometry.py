"""Small pure helpers of the collision search: norms of perturbations and projections on linearised constraints.

A batch of pairs is one tensor `points`, (B, 2, n): the two images of each pair, flattened. Its constraint is
g(points) = A f(left) - A f(right) = 0, (B, m), with Jacobian J, (B, m, 2n).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# Eigenvalues of J J^T below this share of the largest are noise of a float32 Jacobian: dead units, free directions.
RANK_TOLERANCE = 1e-11
EXACT_RANK_TOLERANCE = 1e-14  # the same of a float64 Jacobian


@dataclass(frozen=True)
class Whitening:
    """The truncated eigendecomposition of J J^T, in float64: what solving and whitening a constraint need.

    `vectors` (B, m, m) and `roots` (B, m): J J^T = vectors diag(roots^2) vectors^T; `inverse_roots` holds 1/roots,
    or 0 in the directions that no perturbation moves.
    """

    vectors: Tensor
    roots: Tensor
    inverse_roots: Tensor

    def whiten(self, g: Tensor) -> Tensor:
        """W g, (B, m): the constraint measured in input distance, W = diag(1/roots) vectors^T."""
        return torch.einsum("bij,bi->bj", self.vectors, g.double()) * self.inverse_roots

    def unwhiten(self, v: Tensor) -> Tensor:
        """W^T v, (B, m)."""
        return torch.einsum("bij,bj->bi", self.vectors, v.double() * self.inverse_roots)

    def matrix(self, ridge: float = 0.0) -> Tensor:
        """W, (B, m, m) float64: the rows of W J are orthonormal, or zero in the directions that nothing moves.

        With a `ridge`, a share of the largest root, the rows of weak directions are shorter, and none is zero in W.
        """
        if not ridge:
            return self.inverse_roots.unsqueeze(2) * self.vectors.mT
        floor = ridge * self.roots[:, -1:].clamp_min(torch.finfo(torch.float64).tiny)
        return (self.roots.square() + floor.square()).rsqrt().unsqueeze(2) * self.vectors.mT

    def unseen(self, g: Tensor) -> Tensor:
        """The length of the part of g, (B, m), that no perturbation moves, (B,)."""
        along = torch.einsum("bij,bi->bj", self.vectors, g.double())
        return torch.linalg.vector_norm(along.masked_fill(self.inverse_roots > 0, 0), dim=1)  # type: ignore[no-any-return]

    def solve(self, g: Tensor) -> Tensor:
        """(J J^T)^+ g, (B, m) float64."""
        return self.unwhiten(self.whiten(g))


def whitening(J: Tensor, tolerance: float = RANK_TOLERANCE) -> Whitening:
    """The whitening of Jacobians J, (B, m, 2n); the Gram matrix is formed and decomposed in float64.

    Eigenvalues below `tolerance`, a share of the largest, count as 0.
    """
    J = J.double()
    values, vectors = torch.linalg.eigh(J @ J.mT)
    keep = values > tolerance * values[:, -1:].clamp_min(torch.finfo(torch.float64).tiny)
    roots = torch.where(keep, values, 0).clamp_min(0).sqrt()
    return Whitening(vectors, roots, torch.where(keep, 1 / roots.clamp_min(1e-300), 0))


def max_norm(points: Tensor, originals: Tensor, order: float = 2.0) -> Tensor:
    """max(||left perturbation||, ||right perturbation||), (B,): the budget that a pair of images needs.

    `order`: the p of the norm, that of the threat model.
    """
    return torch.linalg.vector_norm(points - originals, ord=order, dim=2).amax(dim=1)  # type: ignore[no-any-return]


def project_linear(target: Tensor, at: Tensor, g: Tensor, J: Tensor, white: Whitening) -> Tensor:
    """The point nearest to `target` where the constraint linearised at `at` vanishes, (B, 2, n).

    p - J^T (J J^T)^+ (g + J (p - z)), METHOD.md section 4: Euclidean in both images together.
    """
    residual = g + torch.einsum("bmk,bk->bm", J, (target - at).flatten(1))
    correction = torch.einsum("bmk,bm->bk", J, white.solve(residual).to(J.dtype))
    return target - correction.view_as(target)


def keep_finite(points: Tensor, instead: Tensor) -> Tensor:
    """`points`, (B, 2, n), or `instead` for the pairs that have run away to infinity or to no number at all."""
    return torch.where(is_sane(points)[:, None, None], points, instead)


def is_sane(points: Tensor) -> Tensor:
    """Which pairs of `points`, (B, 2, n), are of finite numbers that pixels could be, (B,)."""
    return torch.isfinite(points).flatten(1).all(dim=1) & (points.abs().flatten(1).amax(dim=1) < 1e6)


def rows_where(mask: Tensor) -> Tensor:
    """The places where `mask` (B,) holds; a single one twice, so that no batch of one pair arises.

    Batched matrix products round a batch of one in another way. Without such batches a pair's distance does not
    depend on the pairs that are searched beside it, bit for bit, so a resumed audit ends as an undisturbed one.
    """
    rows = mask.nonzero().squeeze(1)
    return rows.repeat(2) if len(rows) == 1 else rows


def midpoints(originals: Tensor) -> Tensor:
    """Both images of each pair replaced by their mean, (B, 2, n): a collision of every extractor."""
    return originals.mean(dim=1, keepdim=True).expand_as(originals).clone()
