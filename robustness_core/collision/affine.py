"""Closed form of the collision of an affine extractor (section 4.2 of the paper, METHOD.md section 2)."""

from __future__ import annotations

import torch
from torch import Tensor

from robustness_core.collision.constraint import Constraint


def affine_collision(constraint: Constraint, originals: Tensor) -> Tensor:
    """The colliding images of each pair under f(x) = H x + k, (B, 2, n), exact up to rounding of float64.

    x + delta and x' - delta with delta = -V V^T (x - x') / 2 and V the right singular vectors of H, so the distance
    is ||V V^T (x - x')|| / 2. A direction counts as unseen when its singular value is rounding beside the largest
    (the rule of numpy.linalg.matrix_rank), however small it is. `originals` (B, 2, n), float64 like the extractor of
    `constraint`. One Jacobian, that of any image, serves all pairs: (1 + m) / 2 passes, counted with the first pair.
    """
    V = row_space(constraint, originals)
    delta = -((originals[:, 0] - originals[:, 1]) @ V.mT) @ V / 2
    return torch.stack([originals[:, 0] + delta, originals[:, 1] - delta], dim=1)


def row_space(constraint: Constraint, originals: Tensor) -> Tensor:
    """V^T of above: orthonormal directions that the features see, (rank, n)."""
    first = torch.zeros(1, dtype=torch.long, device=originals.device)
    J = constraint.jacobian_at_midpoint(originals[:1], first)[0]  # (H, -H)
    H = J[:, : originals.shape[2]]
    _, sigma, Vt = torch.linalg.svd(H, full_matrices=False)
    rounding = max(H.shape) * torch.finfo(sigma.dtype).eps
    seen: Tensor = Vt[sigma > rounding * sigma[:1].clamp_min(torch.finfo(sigma.dtype).tiny)]
    return seen
