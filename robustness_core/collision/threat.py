"""What a threat model brings to a search: the room that images have, the prox of ℓ∞, and shortest steps within bounds.

Perturbations of both images of a pair are one row, (B, 2n) or (B, 2, n), as points are.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from robustness_core.collision.geometry import RANK_TOLERANCE, rows_where, whitening

PROX_ROUNDS = 8  # of Newton's method for the prox; it ends exactly after few, since its function is piecewise linear
BOXED_ROUNDS = 14  # of the same with bounds, where it may jump, so that it is bracketed
NEWTON, HALVINGS = 25, 8  # steps of `shortest`, and how often one is halved
CLOSED = 1e-9  # of the mismatch: what `shortest` leaves
CLEAR = 0.1  # of a decrease that a step promises, which it must keep to be taken whole


def room(points: Tensor, box: bool) -> tuple[Tensor, Tensor]:
    """How far each pixel of `points`, any shape, may move down and up: to 0 and 1 with `box`, as far as it will."""
    if box:
        return -points, 1 - points
    return torch.full_like(points, -math.inf), torch.full_like(points, math.inf)


def prox_of_max(v: Tensor, weight: float, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    """The δ, (B, K), with the least weight ‖δ‖∞² + ½ ‖δ − v‖², among low <= δ <= high if these are given.

    `low` (B, K) of 0 and less, `high` of 0 and more. v is clipped to bounds and to ±t, where 2 weight t is the sum of
    what the clip at t alone takes off: Newton's method on t from 0. Cost: some elementwise operations a round.
    """
    size = v.abs()
    within = v if low is None or high is None else v.clamp(low, high)
    reach = within.abs()
    t = v.new_zeros(len(v), 1)
    if low is None:
        for _ in range(PROX_ROUNDS):
            above = reach > t
            t = (size * above).sum(dim=1, keepdim=True) / (2 * weight + above.sum(dim=1, keepdim=True))
        return within.clamp(-t, t)
    least, most = t, reach.amax(dim=1, keepdim=True)
    for _ in range(BOXED_ROUNDS):
        above = reach > t
        best = (size * above).sum(dim=1, keepdim=True) / (2 * weight + above.sum(dim=1, keepdim=True))
        least, most = torch.where(best > t, t, least), torch.where(best > t, most, t)
        t = torch.where((best > least) & (best < most), best, (least + most) / 2)
    return within.clamp(-t, t)


# (z, originals, g, J) -> the step, (B, 2n), from z, (B, 2, n), that solves g + J step = 0
Correct = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def shortest_step(z: Tensor, originals: Tensor, g: Tensor, J: Tensor) -> Tensor:
    """- J^T (J J^T)^+ g, (B, 2n): the shortest step that solves the linearised constraint."""
    return -torch.einsum("bmk,bm->bk", J, whitening(J).solve(g).to(J.dtype))


def shortest_in_box(z: Tensor, originals: Tensor, g: Tensor, J: Tensor) -> Tensor:
    """The same among the steps that stay in [0, 1]; where there is none, one that comes near."""
    return shortest(*whitened(J, g), *room(z.flatten(1), True))[0].to(z)


def whitened(J: Tensor, g: Tensor, tolerance: float = RANK_TOLERANCE) -> tuple[Tensor, Tensor]:
    """A = W J, (B, m, K), and -W g, (B, m), in float64: J s = -g as `shortest` takes it, with orthonormal rows."""
    white = whitening(J, tolerance)
    return white.matrix() @ J.double(), -white.whiten(g)


def shortest(A: Tensor, target: Tensor, low: Tensor, high: Tensor, steps: int = NEWTON) -> tuple[Tensor, Tensor]:
    """The shortest s, (B, K), with A s = target and low <= s <= high, and for which pairs one was found, (B,).

    `A` (B, m, K) of rows that are orthonormal or 0, `target` (B, m), `low` and `high` (B, K), float64. It is
    s(λ) = clip(Aᵀ λ) where λ, (B, m), solves A s(λ) = target: a semismooth Newton method on the dual, whose function is
    convex and piecewise quadratic, so that it ends exactly; its steps are halved until they descend. Bounds that leave
    no such s give one that comes near. Cost: m² K operations a step.
    """
    low, high = low.double(), high.double()
    rows = torch.arange(len(A), device=A.device)
    multipliers = target.clone()
    goal = CLOSED * target.norm(dim=1)
    s, left, value = _dual(A, target, multipliers, low, high)
    eye = torch.eye(A.shape[1], dtype=A.dtype, device=A.device)
    for _ in range(steps):
        rows = rows[rows_where(left[rows].norm(dim=1) > goal[rows])]
        if len(rows) == 0:
            break
        here, lows, highs = A[rows], low[rows], high[rows]
        free = (s[rows] > lows) & (s[rows] < highs)
        matrix = (here * free.unsqueeze(1)) @ here.mT
        ridge = 1e-12 + 1e-3 * left[rows].norm(dim=1).clamp_max(1e-6)
        step = -torch.linalg.solve(matrix + ridge[:, None, None] * eye, left[rows])
        slope = (step * left[rows]).sum(dim=1)
        share = torch.ones_like(slope)
        for _ in range(HALVINGS):
            tried = _dual(here, target[rows], multipliers[rows] + share[:, None] * step, lows, highs)
            bad = tried[2] > value[rows] + CLEAR * share * slope + 1e-15 * value[rows].abs()
            if not bad.any():
                break
            share = torch.where(bad, share / 2, share)
        multipliers[rows] += share[:, None] * step
        s[rows], left[rows], value[rows] = tried
    return s, left.norm(dim=1) <= 1e3 * goal


def _dual(A: Tensor, target: Tensor, multipliers: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """s(λ), (B, K), the gradient A s - target, (B, m), and the value, (B,), of the dual that is to be least."""
    y = torch.einsum("bmk,bm->bk", A, multipliers)
    s = y.clamp(low, high)
    value = (s * (y - s / 2)).sum(dim=1) - (target * multipliers).sum(dim=1)
    return s, torch.einsum("bmk,bk->bm", A, s) - target, value
