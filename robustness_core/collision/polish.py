"""Make nearly colliding pairs collide: Newton corrections whose Jacobian is kept and updated by Broyden's rule."""

from __future__ import annotations

import torch
from torch import Tensor

from robustness_core.collision.constraint import Constraint
from robustness_core.collision.geometry import keep_finite, midpoints, rows_where
from robustness_core.collision.threat import Correct, shortest_step
from robustness_core.collision.verification import change_of

ROUNDS = 14  # fresh Jacobians at most; few pairs need more than two
CHORDS = 5  # corrections with one Jacobian; each costs one forward pass
PATIENCE = 2  # rounds after which a pair whose mismatch does not halve any more is moved halfway to its midpoint


def polish(
    constraint: Constraint,
    points: Tensor,
    originals: Tensor,
    start: Tensor,
    share: float,
    correct: Correct = shortest_step,
) -> tuple[Tensor, Tensor, Tensor]:
    """Points near `points`, (B, 2, n), with a mismatch ||g|| of at most `share` of the features' change.

    `start`: the features of the originals, (B, 2, m); the change is theirs apart, or from there to `points` if that
    is more. Gauss-Newton, z - J^T (J J^T)^+ g, the smallest step that solves the linearised constraint; between fresh
    Jacobians, J is updated by Broyden's rank-one rule (Broyden 1965), which needs only the new g. A pair whose
    corrections stop helping starts again halfway to its midpoint, which collides whatever the network is. Returns
    the points, the Jacobian with which each pair's last corrections began, (B, m, 2n), and which pairs reached the
    goal, (B,). Cost: 1 + m passes, and about two more.
    """
    points, begin = points.clone(), points.clone()
    rows = torch.arange(len(points), device=points.device)
    features, J = constraint.features_and_jacobian(points, rows, descending=True)
    g = features[:, 0] - features[:, 1]
    goal = share * change_of(start[:, 0] - start[:, 1], features - start)
    first, before = J, torch.full_like(goal, torch.inf)
    last = before.clone()
    for attempt in range(ROUNDS):
        if attempt > 0:
            g, J = constraint.values_and_jacobian(points[rows], rows)
            first[rows] = J
        points[rows], least = _correct(constraint, points[rows], originals[rows], g, J, rows, goal[rows], correct)
        stuck = least > before[rows] / 2
        before[rows] = last[rows] = least
        still = rows_where(least > goal[rows])
        if len(still) == 0:
            break
        rows, stuck = rows[still], stuck[still]
        if attempt + 1 >= PATIENCE:
            back = (begin[rows] + midpoints(originals[rows])) / 2
            begin[rows] = torch.where(stuck[:, None, None], back, begin[rows])
            points[rows] = torch.where(stuck[:, None, None], back, points[rows])
            before[rows] = torch.where(stuck, 0.0, before[rows])  # from now on it moves on after every round
    return points, first, last <= goal


def _correct(
    constraint: Constraint,
    z: Tensor,
    originals: Tensor,
    g: Tensor,
    J: Tensor,
    rows: Tensor,
    goal: Tensor,
    correct: Correct,
) -> tuple[Tensor, Tensor]:
    """Up to CHORDS corrections of each pair from its g and J at z: the best points and their mismatch, (B,)."""
    best, least = z.clone(), g.norm(dim=1)
    open_ = rows_where(least > goal)  # places in this batch that still need corrections
    z, g, J = z[open_], g[open_], J[open_]
    for _ in range(CHORDS):
        if len(open_) == 0:
            break
        step = correct(z, originals[open_], g, J)
        z = keep_finite(z + step.view_as(z), z)
        g = constraint.values(z, rows[open_])
        norm = g.norm(dim=1)
        better = norm < least[open_]
        best[open_[better]], least[open_[better]] = z[better], norm[better]
        go_on = rows_where(better & (norm > goal[open_]))
        update = g / step.square().sum(dim=1, keepdim=True).clamp_min(torch.finfo(g.dtype).tiny)
        J = (J + update.unsqueeze(2) * step.unsqueeze(1))[go_on]
        open_, z, g = open_[go_on], z[go_on], g[go_on]
    return best, least
