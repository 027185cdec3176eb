"""The balanced collision search: an augmented Lagrangian on the distance itself, whitened, with momentum."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustness_core.geometry import midpoints, project_linear, whitening
from robustness_core.linearise import Constraint

POWER = 8.0  # of the smooth maximum: (a^p + b^p)^(1/p) is at most 9 % above the maximum, and equal where one leads


@dataclass(frozen=True)
class Settings:
    """The knobs of the search.

    `steps`: gradient steps, two passes each. `refresh`: steps between fresh Jacobians, 1 + m passes each; 0 keeps
    the midpoint's. `step`: of a gradient step; `momentum`: 0 forgets the last step, 1 would keep it for ever.
    `penalty`: the first rho, grown by `growth` at each update of the multipliers, every `every` steps.
    """

    steps: int
    refresh: int
    step: float = 0.25
    momentum: float = 0.9
    penalty: float = 0.5
    growth: float = 1.1
    every: int = 5


SETTINGS = {
    "fast": Settings(steps=20, refresh=0),
    "default": Settings(steps=40, refresh=20),
    "thorough": Settings(steps=100, refresh=25),
}


def balanced(constraint: Constraint, originals: Tensor, settings: Settings, seed: int = 0) -> Tensor:
    """Nearly colliding images of each pair, (B, 2, n), near `originals`, (B, 2, n)."""
    rows = torch.arange(len(originals), device=originals.device)
    z = midpoints(originals)
    J = constraint.jacobian_at_midpoint(z, rows)
    white = whitening(J)
    z = project_linear(originals, z, torch.zeros_like(J[:, :, 0]), J, white)
    W = white.matrix().to(z)
    multipliers = _multipliers(z, originals, J, W)
    velocity, penalty = torch.zeros_like(z), settings.penalty
    for i in range(settings.steps):
        if settings.refresh and i and i % settings.refresh == 0:
            _, J = constraint.values_and_jacobian(z, rows)
            white = whitening(J)
            W = white.matrix().to(z)
            multipliers = _multipliers(z, originals, J, W)
        pull = torch.einsum("bij,bi->bj", W, multipliers)
        g, constraint_gradient = constraint.values_and_pullback(z, rows, pull, penalty * (W.mT @ W))
        gradient = smooth_gradient(z, originals) + constraint_gradient
        velocity = settings.momentum * velocity - settings.step / (1 + penalty) * gradient
        z = z + velocity
        if (i + 1) % settings.every == 0:
            multipliers = multipliers + penalty * torch.einsum("bij,bj->bi", W, g)
            penalty *= settings.growth
    return z


def smooth_gradient(z: Tensor, originals: Tensor) -> Tensor:
    """The gradient of (a^p + b^p)^(2/p), the smooth maximum of the squared distances, (B, 2, n)."""
    moved = z - originals
    squares = moved.square().sum(dim=2)
    share = squares / squares.amax(dim=1, keepdim=True).clamp_min(torch.finfo(z.dtype).tiny)
    total = (share ** (POWER / 2)).sum(dim=1, keepdim=True).clamp_min(1.0)
    weight = total ** (2 / POWER - 1) * share ** (POWER / 2 - 1)
    return 2 * moved * weight.unsqueeze(2)


def _multipliers(z: Tensor, originals: Tensor, J: Tensor, W: Tensor) -> Tensor:
    """The whitened multipliers that balance the objective in the space of the constraint, (B, m)."""
    along = torch.einsum("bmk,bk->bm", J, smooth_gradient(z, originals).flatten(1))
    return -torch.einsum("bij,bj->bi", W, along)
