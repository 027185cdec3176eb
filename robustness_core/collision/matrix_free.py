"""Algorithm 1 for constraints of very many rows: its projections by conjugate gradients, no Jacobian is ever formed."""

from __future__ import annotations

import torch
from torch import Tensor

from robustness_core.collision.constraint import Constraint
from robustness_core.collision.geometry import keep_finite, max_norm, midpoints, rows_where
from robustness_core.collision.verification import Verified, judged
from robustness_core.spec import PAPERS, Threat

MANY_ROWS = 1024  # above this, Jacobians take more memory and time than products with them
# Projections and their decay (the paper's gamma); then corrections that make the pair collide.
ITERATIONS = {"fast": (6, 0.6), "default": (10, 0.7), "thorough": (20, 0.85)}
CORRECTIONS, BOXED_CORRECTIONS = 4, 12
# Conjugate gradients of a projection: at most so many steps, until this share of the right side is left.
STEPS, CLOSE = 60, 1e-3
CORRECTION_STEPS, CORRECTION_CLOSE = 240, 1e-5  # the same of a correction
# A first projection this near to the midpoint's distance: to first order the layer sees all of x - x'.
NOT_CLOSER = 1e-3


def search(constraint: Constraint, originals: Tensor, goal: Tensor, preset: str, threat: Threat = PAPERS) -> Tensor:
    """Nearly colliding images of each pair, (B, 2, n), near `originals`, (B, 2, n); the midpoint where none is closer.

    Algorithm 1 of the paper, whose projection p - J^+ (g + J (p - z)) is found by conjugate gradients on the least
    squares (CGLS, Hestenes and Stiefel 1952), from products with J and J^T alone, then Newton corrections until the
    mismatch is at most `goal`, (B,). Differs from the print in that a pair whose first projection is not closer than
    its midpoint by one part in a thousand is left at the midpoint: to first order, the layer sees all of x - x'
    there. Whatever the threat model, it is the ℓ2 norm that is made small; with a box every point is clamped to it, and
    pixels that press against it are left out of the next correction. Memory: some vectors of m and of 2n numbers a
    pair, where a Jacobian holds m times 2n. Cost: about 4 passes a step of conjugate gradients, up to 60 in a
    projection.
    """

    def within(points: Tensor) -> Tensor:
        return points.clamp(0, 1) if threat.box else points

    middle, z = midpoints(originals), first_projection(constraint, originals)
    closer = max_norm(z, originals) < (1 - NOT_CLOSER) * max_norm(middle, originals)
    rows = rows_where(closer)
    z = within(torch.where(closer[:, None, None], z, middle))
    iterations, gamma = ITERATIONS[preset]
    for i in range(1, iterations):
        if len(rows) == 0:
            return z
        here, alpha = z[rows], gamma**i
        p = (1 - alpha) * here + alpha * originals[rows]
        b = constraint.values(here, rows) + constraint.pushforward(here, p - here, rows)
        z[rows] = within(keep_finite(p - least_squares(constraint, here, b, rows, STEPS, CLOSE), here))
    for _ in range(BOXED_CORRECTIONS if threat.box else CORRECTIONS):
        g = constraint.values(z[rows], rows)
        open_ = rows_where(g.norm(dim=1) > goal[rows])
        if len(open_) == 0:
            break
        rows, here = rows[open_], z[rows[open_]]
        free = None
        if threat.box:
            pull = constraint.pullback(here, g[open_], rows)
            free = ~(((here <= 0) & (pull > 0)) | ((here >= 1) & (pull < 0)))
        step = least_squares(constraint, here, g[open_], rows, CORRECTION_STEPS, CORRECTION_CLOSE, free)
        z[rows] = within(keep_finite(here - step, here))
    return z


def first_projection(constraint: Constraint, originals: Tensor) -> Tensor:
    """The originals projected on the constraint linearised at the midpoint, (B, 2, n); exact for affine maps."""
    middle, rows = midpoints(originals), torch.arange(len(originals), device=originals.device)
    b = constraint.pushforward(middle, originals - middle, rows)
    return keep_finite(originals - least_squares(constraint, middle, b, rows, STEPS, CLOSE), middle)


def least_squares(
    constraint: Constraint,
    at: Tensor,
    b: Tensor,
    rows: Tensor,
    most: int,
    close: float,
    free: Tensor | None = None,
) -> Tensor:
    """The shortest s, (B, 2, n), with J s nearest to b, (B, m): CGLS from 0, at most `most` steps.

    A pair stops when ||b - J s|| is at most `close` times ||b||; then it costs and changes nothing more. s is never
    longer than the exact answer, and grows towards it. `free`, like s: the pixels that may move; without it all may.
    """
    s = torch.zeros_like(at)
    r, goal = b.clone(), close * b.norm(dim=1)
    open_ = rows_where(r.norm(dim=1) > 0)
    p = torch.zeros_like(at)
    length = torch.ones_like(b[:, 0])
    for step in range(most):
        if len(open_) == 0:
            break
        here, count = at[open_], rows[open_]
        q = constraint.pullback(here, r[open_], count)
        if free is not None:
            q = q * free[open_]
        squared = q.square().sum(dim=(1, 2))
        share = squared / length[open_] if step else torch.zeros_like(squared)
        p[open_] = q + share[:, None, None] * p[open_]
        length[open_] = squared.clamp_min(torch.finfo(squared.dtype).tiny)
        moved = constraint.pushforward(here, p[open_], count)
        along = squared / moved.square().sum(dim=1).clamp_min(torch.finfo(squared.dtype).tiny)
        s[open_] += along[:, None, None] * p[open_]
        r[open_] -= along[:, None] * moved
        open_ = open_[rows_where((r[open_].norm(dim=1) > goal[open_]) & (squared > 0))]
    return s


def verify(exact: Constraint, points: Tensor, originals: Tensor, start: Tensor, threat: Threat = PAPERS) -> Verified:
    """Check pairs in float64 as `verification.verify` does, without a Jacobian.

    `points`, `originals`: (B, 2, n); `start`: the features of the originals, (B, 2, m); all float64.
    """
    rows = torch.arange(len(points), device=points.device)
    features = exact.features(points, rows)
    step = least_squares(exact, points, features[:, 0] - features[:, 1], rows, STEPS, CLOSE)
    return judged(features, start, points, originals, step, threat)
