"""Make nearly colliding pairs collide: Newton corrections whose Jacobian is kept and updated by Broyden's rule."""

from __future__ import annotations

import torch
from torch import Tensor

from robustness_core.geometry import keep_finite, midpoints, rows_where, whitening
from robustness_core.linearise import Constraint

ROUNDS = 14  # fresh Jacobians at most; few pairs need more than two
CHORDS = 5  # corrections with one Jacobian; each costs one forward pass
RETREAT_AFTER = 2  # rounds after which a pair that does not converge is moved halfway to its midpoint


def polish(constraint: Constraint, points: Tensor, originals: Tensor, goal: Tensor) -> Tensor:
    """Points near `points`, (B, 2, n), whose mismatch ||g|| is at most `goal`, (B,), wherever that can be reached.

    Gauss-Newton, z - J^T (J J^T)^+ g, the smallest step that solves the linearised constraint; between fresh
    Jacobians, J is updated by Broyden's rank-one rule (Broyden 1965), which needs only the new g. A pair whose
    corrections stop helping starts again halfway to its midpoint, which collides whatever the network is. Cost: one
    pass for pairs that need nothing, else about 1 + m + 2 passes.
    """
    points, start = points.clone(), points.clone()
    rows = torch.arange(len(points), device=points.device)
    for attempt in range(ROUNDS):
        if attempt == 0:
            g = constraint.values(points, rows)
            rows = rows_where(g.norm(dim=1) > goal)
        if len(rows) == 0:
            break
        retreats = attempt >= RETREAT_AFTER
        if retreats:
            start[rows] = (start[rows] + midpoints(originals[rows])) / 2
        points[rows], reached = _correct(constraint, start[rows] if retreats else points[rows], rows, goal[rows])
        rows = rows[rows_where(~reached)]
    return points


def _correct(constraint: Constraint, z: Tensor, rows: Tensor, goal: Tensor) -> tuple[Tensor, Tensor]:
    """Up to CHORDS corrections of each pair from one fresh Jacobian: the best points and which reached the goal."""
    best = z.clone()
    g, J = constraint.values_and_jacobian(z, rows)
    least = g.norm(dim=1)
    open_ = torch.arange(len(z), device=z.device)  # places in this batch that still need corrections
    z = z.clone()
    for _ in range(CHORDS):
        step = -torch.einsum("bmk,bm->bk", J, whitening(J).solve(g).to(J.dtype))
        z = keep_finite(z + step.view_as(z), z)
        g = constraint.values(z, rows[open_])
        norm = g.norm(dim=1)
        better = norm < least[open_]
        best[open_[better]], least[open_[better]] = z[better], norm[better]
        go_on = better & (norm > goal[open_])
        if not go_on.any():
            break
        go_on = rows_where(go_on)
        update = g / step.square().sum(dim=1, keepdim=True).clamp_min(torch.finfo(g.dtype).tiny)
        J = (J + update.unsqueeze(2) * step.unsqueeze(1))[go_on]
        open_, z, g = open_[go_on], z[go_on], g[go_on]
    return best, least <= goal
