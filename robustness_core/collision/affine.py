"""The exact collision of an affine extractor: in closed form for ℓ2 (section 4.2 of the paper), else by a program."""

from __future__ import annotations

import torch
from torch import Tensor

from robustness_core.collision.constraint import Constraint
from robustness_core.collision.program import least_larger, least_max
from robustness_core.collision.threat import room
from robustness_core.spec import PAPERS, Threat


def affine_collision(constraint: Constraint, originals: Tensor, threat: Threat = PAPERS) -> Tensor:
    """The colliding images of each pair under f(x) = H x + k, (B, 2, n), exact up to rounding of float64.

    x + delta and x' - delta with delta = -V V^T (x - x') / 2 and V the right singular vectors of H, so the distance
    is ||V V^T (x - x')|| / 2; for other threat models a program (collision.program) finds the perturbations of least
    norm after which V sees no difference. A direction counts as unseen when its singular value is rounding beside the
    largest (the rule of numpy.linalg.matrix_rank), however small it is. `originals` (B, 2, n), float64 like the
    extractor of `constraint`. One Jacobian, that of any image, serves all pairs: (1 + m) / 2 passes, counted with the
    first pair.
    """
    V = row_space(constraint, originals)
    if threat != PAPERS:
        return _program(V, originals, threat)
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


def _program(V: Tensor, originals: Tensor, threat: Threat) -> Tensor:
    """The same with V, (r, n), of orthonormal rows, for ℓ∞, for images kept in [0, 1], or for both."""
    x = originals.flatten(1)
    if len(V) == originals.shape[2]:  # it sees everything: the midpoint
        return originals.mean(dim=1, keepdim=True).expand_as(originals)
    A, b = torch.cat([V, -V], dim=1), -(originals[:, 0] - originals[:, 1]) @ V.mT
    if threat.norm == "l2":
        return (x + least_larger(A, b, *room(x, True))).view_as(originals)
    # Without a box no pixel need move by more than the midpoint's; ten times that is far from any that does.
    reach = 5 * (originals[:, 0] - originals[:, 1]).abs().amax(dim=1, keepdim=True).clamp_min(1e-6).expand_as(x)
    bounds = room(x, True) if threat.box else (-reach, reach)
    return (x + least_max(A, b, *bounds)).view_as(originals)
