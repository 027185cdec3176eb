"""The balanced collision search: an annealed augmented Lagrangian on the distance itself, whitened, with momentum."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robustness_core.collision.constraint import Constraint
from robustness_core.collision.geometry import (
    is_sane,
    keep_finite,
    max_norm,
    project_linear,
    rows_where,
    whitening,
)
from robustness_core.collision.starts import Several, Starts, closest, fitting
from robustness_core.collision.threat import shortest_in_box, shortest_step
from robustness_core.spec import PAPERS, Threat

LOST = 1.1  # of the midpoint's distance: a pair that ends farther away was driven off
RIDGE = 0.2  # of a second search, and the largest step there (measured on mnist-medium-trades2, m = 20 to 512)


@dataclass(frozen=True)
class Settings(Several):
    """The knobs of the search; the defaults were tuned on pairs and networks that no benchmark measures.

    `steps`: gradient steps, two passes each. `step`: of a gradient step, before division by 1 + penalty.
    `momentum`: at the first and the last step; 0 forgets the step before, 1 would keep it for ever. `penalty`: rho at
    the first and the last step; low lets the pair cross the constraint, high holds it there. `every`: steps between
    updates of the multipliers. `doublings`: p = 2^doublings of the smooth maximum (a^p + b^p)^(1/p); 1 gives the sum of
    squares, which Algorithm 1 minimises.
    `ridge`: singular values of the Jacobian below this share of the largest are whitened as if they were about this
    large; 0 whitens all.
    """

    step: float = 0.6
    momentum: tuple[float, float] = (0.93, 0.3)
    penalty: tuple[float, float] = (0.15, 3.0)
    every: int = 2
    doublings: int = 3
    ridge: float = 0.0


IMAGES = {
    "fast": Settings(steps=20, step=0.5),
    "default": Settings(steps=45, step=0.45),
    "thorough": Settings(steps=122, step=0.35, doublings=4),
}
WIDE = {
    "fast": Settings(steps=100, step=0.35, penalty=(0.15, 10.0), doublings=4),
    "default": Settings(steps=300, step=0.35, penalty=(0.15, 30.0), doublings=4),
    "thorough": Settings(steps=600, step=0.35, penalty=(0.15, 100.0), doublings=4),
}
TINY = {
    "fast": Settings(steps=20, starts=8),
    "default": Settings(steps=25, starts=32),
    "thorough": Settings(steps=25, starts=128),
}


def settings_for(preset: str, pixels: int, rows: int) -> Settings:
    """The settings of a preset for inputs of n = `pixels` numbers and a constraint of m = `rows`."""
    return fitting(pixels, rows, tiny=TINY, wide=WIDE, images=IMAGES)[preset]


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
    """The closest collision of each pair and J there, (B, 2, n) and (B, m, 2n), for ℓ2: `starts.closest`."""
    settings = settings_for(preset, originals.shape[2], features.shape[2])

    def descend(each: Constraint, x: Tensor, starts: Starts) -> Tensor:
        return balanced(each, x, settings, starts, box=threat.box)

    correct = shortest_in_box if threat.box else shortest_step
    return closest(
        descend, constraint, originals, features, settings, seed, goal, first, threat=threat, correct=correct
    )


def balanced(
    constraint: Constraint,
    originals: Tensor,
    settings: Settings,
    starts: Starts,
    rows: Tensor | None = None,
    *,
    box: bool = False,
) -> Tensor:
    """Nearly colliding images of each pair, (B, 2, n), near `originals`, (B, 2, n) in [0, 1].

    Minimises max(||left perturbation||, ||right perturbation||), which is the distance, where Algorithm 1 minimises
    the sum of squares, subject to g = 0 (METHOD.md section 4). One Jacobian, at the centre of each start, where both
    images of a pair are the same and so collide (the midpoint, or a point near it), whitens the constraint: W J has
    orthonormal rows, so one step size suits every layer and scale. Then gradient steps on
    objective + multipliers W g + penalty / 2 ||W g||^2. The annealing is what finds close collisions: a low penalty
    with high momentum first carries the pair over the small ridges of a ReLU network, then the penalty grows and the
    momentum fades. What is left of the mismatch is for `polish`. Rows that are dead or weak at the centre come alive
    elsewhere, and whitened by what they were there they can drive a pair off: such pairs are searched once more with
    a ridge. With `box` every point is clamped to [0, 1], and the velocity is the way that was really gone. `rows` (B,):
    the places of these pairs in the count of passes. Cost: (1 + m) / 2 + 2 steps
    passes, twice that for pairs that ran away.
    """
    if rows is None:
        rows = torch.arange(len(originals), device=originals.device)
    z = starts.centres.unsqueeze(1).expand_as(originals)
    J = constraint.jacobian_at_midpoint(z, rows)
    white = whitening(J)
    target = z + starts.pulls * (originals - z)
    z = start = keep_finite(project_linear(target, z, torch.zeros_like(J[:, :, 0]), J, white), z)
    if box:
        z = start = z.clamp(0, 1)
    W = white.matrix(settings.ridge).to(z)
    gram = W.mT @ W
    multipliers = -_apply(W, _apply(J, smooth_gradient(z, originals, settings.doublings).flatten(1)))
    velocity = torch.zeros_like(z)
    for i in range(settings.steps):
        share = i / max(1, settings.steps - 1)
        block = i // settings.every * settings.every / max(1, settings.steps - 1)
        momentum = settings.momentum[0] + (settings.momentum[1] - settings.momentum[0]) * share
        penalty = settings.penalty[0] * (settings.penalty[1] / settings.penalty[0]) ** block
        pull = torch.einsum("bij,bi->bj", W, multipliers)
        g, pullback = constraint.values_and_pullback(z, rows, pull, penalty * gram)
        gradient = smooth_gradient(z, originals, settings.doublings) + pullback
        velocity = momentum * velocity - settings.step / (1 + penalty) * gradient
        before, z = z, z + velocity
        if box:
            z = z.clamp(0, 1)
            velocity = z - before
        if (i + 1) % settings.every == 0:
            multipliers = multipliers + penalty * _apply(W, g)
    radius = (originals[:, 0] - originals[:, 1]).norm(dim=1) / 2  # the distance of the midpoint
    lost = rows_where(~is_sane(z) | (max_norm(z, originals) > LOST * radius))
    if settings.ridge or len(lost) == 0:
        return keep_finite(z, start)
    calmer = replace(settings, ridge=RIDGE, step=min(settings.step, RIDGE))
    begin = Starts(starts.centres[lost], starts.pulls[lost])
    z[lost] = balanced(constraint, originals[lost], calmer, begin, rows[lost], box=box)
    return z


def smooth_gradient(z: Tensor, originals: Tensor, doublings: int) -> Tensor:
    """The gradient of (a^p + b^p)^(2/p), p = 2^doublings, the smooth maximum of the squares a^2 and b^2, (B, 2, n).

    a and b are the distances of the two images. Powers and roots of two only: products and square roots are rounded
    alike wherever a number stands in a batch, which general powers are not.
    """
    moved = z - originals
    squares = moved.square().sum(dim=2)
    share = squares / squares.amax(dim=1, keepdim=True).clamp_min(torch.finfo(z.dtype).tiny)
    weight = torch.ones_like(share)
    for _ in range(doublings - 1):
        weight, share = weight * share, share.square()  # in the end share^(p/2 - 1) and share^(p/2)
    root = share.sum(dim=1, keepdim=True).clamp_min(1.0)
    for _ in range(doublings - 1):
        root = root.sqrt()
        weight = weight / root  # in the end divided by total^(1 - 2/p)
    return 2 * moved * weight.unsqueeze(2)


def _apply(matrices: Tensor, vectors: Tensor) -> Tensor:
    """(B, i, j) times (B, j) -> (B, i)."""
    return torch.einsum("bij,bj->bi", matrices, vectors)
