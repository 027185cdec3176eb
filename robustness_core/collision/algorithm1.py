"""Algorithm 1 of the paper: linearise the collision constraint and project, with a decaying pull to the originals."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustness_core.collision.constraint import Constraint
from robustness_core.collision.geometry import keep_finite, midpoints, project_linear, rows_where, whitening
from robustness_core.collision.polish import polish
from robustness_core.spec import PAPERS, Threat


@dataclass(frozen=True)
class Schedule:
    """The knobs of Algorithm 1, as the paper names them.

    `iterations` is N_max. `alpha` is alpha_0 and `gamma` its decay: step i pulls by alpha_0 gamma^i, the first by 1
    (section 5.1); 0 keeps the iterate, 1 goes for the original pair. `threshold` is the convergence threshold of
    line 5, relative: to the mismatch of the originals for features, to their squared distance for the objective.
    """

    iterations: int
    alpha: float
    gamma: float
    threshold: float = 1e-6


# METHOD.md section 4; 10 iterations cost about 110 passes, 50 about 550.
SCHEDULES = {
    "fast": Schedule(iterations=10, alpha=1.0, gamma=0.70),
    "default": Schedule(iterations=20, alpha=1.0, gamma=0.85),
    "thorough": Schedule(iterations=50, alpha=0.9, gamma=0.93),
}


def search(
    constraint: Constraint,
    originals: Tensor,
    features: Tensor,
    preset: str,
    seed: int,
    goal: float,
    first: int = 0,
    threat: Threat = PAPERS,
) -> tuple[Tensor, Tensor]:
    """Colliding images of each pair, (B, 2, n), and the Jacobian J there: Algorithm 1, made exact by `polish`.

    `features` (B, 2, m) of the originals; `goal`: the relative residual aimed at. Nothing is drawn, whatever
    `seed` and `first`, and `threat` is the paper's.
    """
    return polish(constraint, algorithm1(constraint, originals, SCHEDULES[preset]), originals, features, goal)[:2]


def algorithm1(constraint: Constraint, originals: Tensor, schedule: Schedule, start: Tensor | None = None) -> Tensor:
    """Nearly colliding images of each pair, (B, 2, n), near `originals`, (B, 2, n) in [0, 1].

    `start` (B, 2, n): where it starts, by default the midpoints, as printed.
    Algorithm 1 of the paper, batched over pairs. It minimises the sum of squares of both perturbations, a relaxation
    of the distance (section 5). Differs from the print in three things: thresholds are relative; line 5 judges the
    features of the iterate where a step began instead of where it ended, which costs no pass of its own (the objective
    is compared as printed), so that a search ends one step later; and the first pull is 1 as in section 5.1, after
    which the pull of step i is alpha_0 gamma^i. As in the paper's definition of the distance, x̃ and x̃' may leave
    [0, 1]. Cost: a pass for the originals, then 1 + m an iteration, half of that for the first, which is at the
    midpoint. A pair that has converged is left alone and costs nothing more.
    """
    z = midpoints(originals) if start is None else start.clone()  # line 1
    rows = torch.arange(len(z), device=z.device)  # the pairs still searched
    scale = (originals[:, 0] - originals[:, 1]).square().sum(dim=1).clamp_min(torch.finfo(z.dtype).tiny)
    mismatch = constraint.values(originals, rows).norm(dim=1)
    alpha = 1.0
    for i in range(schedule.iterations):  # line 2
        here, x = z[rows], originals[rows]
        if i == 0 and start is None:
            J = constraint.jacobian_at_midpoint(here, rows)  # line 3; both sides are one image
            g = torch.zeros(J.shape[:2], dtype=J.dtype, device=J.device)
        else:
            g, J = constraint.values_and_jacobian(here, rows)  # line 3
        p = (1 - alpha) * here + alpha * x
        z[rows] = keep_finite(project_linear(p, here, g, J, whitening(J)), here)  # line 4
        if i > 0:  # line 5; the mismatch is that of the point where this iteration began, which costs no extra pass
            gain = (here - x).square().sum(dim=(1, 2)) - (z[rows] - x).square().sum(dim=(1, 2))
            converged = (g.norm(dim=1) <= schedule.threshold * mismatch[rows]) & (
                gain < schedule.threshold * scale[rows]
            )
            rows = rows[rows_where(~converged)]
            if len(rows) == 0:
                break
        alpha = schedule.alpha * schedule.gamma ** (i + 1)  # line 6
    return z  # line 8
