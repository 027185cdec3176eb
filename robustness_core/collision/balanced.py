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
    midpoints,
    project_linear,
    rows_where,
    whitening,
)
from robustness_core.collision.polish import polish

FEW_PIXELS = 64  # below this, more starts find closer collisions; above, more steps of one start do (measured)
MANY_ROWS = 32  # above this, Jacobians cost more passes than steps, so that more steps are worth it (measured)
LOST = 1.1  # of the midpoint's distance: a pair that ends farther away was driven off
RIDGE = 0.2  # of a second search, and the largest step there (measured on mnist-medium-trades2, m = 20 to 512)


@dataclass(frozen=True)
class Settings:
    """The knobs of the search; the defaults were tuned on pairs and networks that no benchmark measures.

    `steps`: gradient steps, two passes each. `starts`: searches of each pair, of which the closest counts. `step`: of
    a gradient step, before division by 1 + penalty.
    `momentum`: at the first and the last step; 0 forgets the step before, 1 would keep it for ever. `penalty`: rho at
    the first and the last step; low lets the pair cross the constraint, high holds it there. `every`: steps between
    updates of the multipliers. `doublings`: p = 2^doublings of the smooth maximum (a^p + b^p)^(1/p); 1 gives the sum of
    squares, which Algorithm 1 minimises.
    `ridge`: singular values of the Jacobian below this share of the largest are whitened as if they were about this
    large; 0 whitens all.
    `pulls`: where a search starts, from 0, its centre, to 1, the linearised projection of the originals; `spreads`:
    how far its centre lies from the midpoint, in shares of the midpoint's distance. Starts take them in turn.
    """

    steps: int
    starts: int = 1
    step: float = 0.6
    momentum: tuple[float, float] = (0.93, 0.3)
    penalty: tuple[float, float] = (0.15, 3.0)
    every: int = 2
    doublings: int = 3
    ridge: float = 0.0
    pulls: tuple[float, ...] = (0.6, 0.2)
    spreads: tuple[float, ...] = (1.0, 1.0, 2.0, 2.0)


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
    if pixels < FEW_PIXELS:
        return TINY[preset]
    return WIDE[preset] if rows > MANY_ROWS else IMAGES[preset]


@dataclass(frozen=True)
class Starts:
    """Where the searches of B pairs begin, pair by pair: centres (B * starts, n) and pulls (B * starts, 1, 1)."""

    centres: Tensor
    pulls: Tensor


def search(
    constraint: Constraint, originals: Tensor, features: Tensor, preset: str, seed: int, goal: float, first: int = 0
) -> tuple[Tensor, Tensor]:
    """Colliding images of each pair, (B, 2, n), and the Jacobian J there: of all starts the closest within `goal`.

    `features` (B, 2, m) of the originals; `goal`: the relative residual aimed at; `seed` draws the starts, of which
    the first is number `first`.
    """
    settings = settings_for(preset, originals.shape[2], features.shape[2])
    starts = draw_starts(originals, settings, seed, first)
    x, features = (tensor.repeat_interleave(settings.starts, 0) for tensor in (originals, features))
    each = Constraint(constraint.extractor, constraint.shape, x, constraint.descent)
    points, J, reached = polish(each, balanced(each, x, settings, starts), x, features, goal)
    distance = torch.where(reached, max_norm(points, x), torch.inf)
    constraint.passes += each.passes.view(-1, settings.starts).sum(dim=1)
    begins = settings.starts * torch.arange(len(constraint.passes), device=distance.device)
    best = begins + distance.view(-1, settings.starts).argmin(dim=1)
    return points[best], J[best]


def balanced(
    constraint: Constraint, originals: Tensor, settings: Settings, starts: Starts, rows: Tensor | None = None
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
    a ridge. `rows` (B,): the places of these pairs in the count of passes. Cost: (1 + m) / 2 + 2 steps
    passes, twice that for pairs that ran away.
    """
    if rows is None:
        rows = torch.arange(len(originals), device=originals.device)
    z = starts.centres.unsqueeze(1).expand_as(originals)
    J = constraint.jacobian_at_midpoint(z, rows)
    white = whitening(J)
    target = z + starts.pulls * (originals - z)
    z = start = keep_finite(project_linear(target, z, torch.zeros_like(J[:, :, 0]), J, white), z)
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
        z = z + velocity
        if (i + 1) % settings.every == 0:
            multipliers = multipliers + penalty * _apply(W, g)
    radius = (originals[:, 0] - originals[:, 1]).norm(dim=1) / 2  # the distance of the midpoint
    lost = rows_where(~is_sane(z) | (max_norm(z, originals) > LOST * radius))
    if settings.ridge or len(lost) == 0:
        return keep_finite(z, start)
    calmer = replace(settings, ridge=RIDGE, step=min(settings.step, RIDGE))
    begin = Starts(starts.centres[lost], starts.pulls[lost])
    z[lost] = balanced(constraint, originals[lost], calmer, begin, rows[lost])
    return z


def draw_starts(originals: Tensor, settings: Settings, seed: int, first: int = 0) -> Starts:
    """The starts of each pair from number `first`: 0 is the midpoint, others lie near it with Gaussian noise.

    They are drawn on the CPU.
    """
    count, pixels = first + settings.starts, originals.shape[2]
    noise = torch.randn((count, pixels), generator=torch.Generator().manual_seed(seed)) / pixels**0.5
    noise *= torch.tensor(settings.spreads).repeat(count)[:count, None]
    noise[0] = 0
    noise = noise[first:]
    radius = (originals[:, 0] - originals[:, 1]).norm(dim=1) / 2
    centres = midpoints(originals)[:, :1] + radius[:, None, None] * noise.to(originals)
    pulls = torch.tensor(settings.pulls).repeat(count)[first:count].repeat(len(originals))
    return Starts(centres.flatten(0, 1), pulls[:, None, None].to(originals))


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
