"""The search for ℓ∞: a proximal augmented Lagrangian, whitened, with momentum; images may be kept in [0, 1]."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robustness_core.collision.constraint import Constraint
from robustness_core.collision.geometry import keep_finite, rows_where, whitening
from robustness_core.collision.starts import Several, Starts, closest, fitting
from robustness_core.collision.threat import prox_of_max, room, shortest, whitened
from robustness_core.spec import Threat

# A correction may leave the largest pixel change so many times as large as it was; the first that will do is taken.
CAPS = (1.002, 1.007, 1.02, 1.05)
LONG = 4.0  # times the shortest step a capped one may be: in longer ones the linearisation cannot be trusted
# Of the mismatch of the originals, whitened: a pair that ends with more of it has not settled, and is searched once
# more, with half as many steps half as long.
OPEN = 0.2
CAPPED = 12  # steps of Newton's method for a capped correction, which may not exist


@dataclass(frozen=True)
class Settings(Several):
    """The knobs of the search (METHOD.md section 6); the defaults were tuned on pairs that no benchmark measures.

    `steps`: proximal gradient steps, two passes each. `step`: before division by 1 + penalty. `momentum`: at the first
    and the last step, linear between. `penalty`: rho at the first and the last step, geometric between. `ridge`: as in
    the balanced search; without it weak rows of many drive most pairs off.
    """

    step: float = 1.0
    momentum: tuple[float, float] = (0.9, 0.4)
    penalty: tuple[float, float] = (0.4, 8.0)
    ridge: float = 0.0


IMAGES = {
    "fast": Settings(steps=20, step=1.5),
    "default": Settings(steps=45, step=1.0),
    "thorough": Settings(steps=122, step=1.0, momentum=(0.9, 0.5), penalty=(0.2, 7.0)),
}
WIDE = {
    "fast": Settings(steps=100, step=0.4, penalty=(0.15, 8.0), ridge=0.2),
    "default": Settings(steps=300, step=0.4, penalty=(0.15, 8.0), ridge=0.2),
    "thorough": Settings(steps=600, step=0.4, penalty=(0.15, 8.0), ridge=0.2),
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
    first: int,
    threat: Threat,
) -> tuple[Tensor, Tensor]:
    """The closest collision of each pair and J there, (B, 2, n) and (B, m, 2n), for ℓ∞: `starts.closest`."""
    settings, box = settings_for(preset, originals.shape[2], features.shape[2]), threat.box

    def descend(each: Constraint, x: Tensor, starts: Starts) -> Tensor:
        return proximal(each, x, settings, starts, box=box)

    def correct(z: Tensor, x: Tensor, g: Tensor, J: Tensor) -> Tensor:
        return capped_step(z, x, g, J, box=box)

    return closest(
        descend, constraint, originals, features, settings, seed, goal, first, threat=threat, correct=correct
    )


def proximal(
    constraint: Constraint,
    originals: Tensor,
    settings: Settings,
    starts: Starts,
    rows: Tensor | None = None,
    *,
    box: bool = False,
    calm: bool = False,
) -> Tensor:
    """Nearly colliding images of each pair, (B, 2, n), near `originals`, (B, 2, n) in [0, 1], and with `box` in there.

    Minimises 2n ‖δ‖∞², δ the perturbations of both images, subject to g = 0, as METHOD.md section 6 says: the
    constraint is whitened by the Jacobian at the centre of each start, as in the balanced search; the augmented
    Lagrangian multipliers W g + penalty / 2 ‖W g‖² is descended by gradient steps, the norm by its prox, which also
    keeps the box. The multipliers move at every step. Pairs that have not settled in the end are searched once more,
    with fewer and shorter steps, unless `calm`. `rows` (B,): the places of these pairs in the count of passes. Cost:
    (1 + m) / 2 + 2 steps passes, half as much again for pairs that did not settle.
    """
    if rows is None:
        rows = torch.arange(len(originals), device=originals.device)
    x = originals.flatten(1)
    bounds = room(x, True) if box else (None, None)
    low, high = room(x, box)
    centre = starts.centres.unsqueeze(1).expand_as(originals)
    J = constraint.jacobian_at_midpoint(centre, rows)
    W = whitening(J).matrix(settings.ridge).to(x)
    gram = W.mT @ W
    centre = centre.flatten(1)
    weight = float(x.shape[1])  # 2n: the norm then weighs as much as a sum of squares over all pixels
    # To first order: the multiple of a sign vector that reaches the constraint, and the multipliers there.
    r = _apply(W, _apply(J, centre - x))
    pull = _transposed(J, _transposed(W, r))
    length = pull.abs().sum(dim=1, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)
    t = r.square().sum(dim=1, keepdim=True) / length
    delta = (t * pull.sign()).clamp(low, high)
    multipliers = -2 * weight * t / length * r
    z = start = keep_finite(
        (centre + starts.pulls[:, :, 0] * (x + delta - centre)).view_as(originals), centre.view_as(originals)
    ).flatten(1)
    before = z
    for i in range(settings.steps):
        share = i / max(1, settings.steps - 1)
        penalty = settings.penalty[0] * (settings.penalty[1] / settings.penalty[0]) ** share
        momentum = settings.momentum[0] + (settings.momentum[1] - settings.momentum[0]) * share
        eta = settings.step / (1 + penalty)
        g, gradient = constraint.values_and_pullback(
            z.view_as(originals), rows, _transposed(W, multipliers), penalty * gram
        )
        v = z - x + momentum * (z - before) - eta * gradient.flatten(1)
        before, z = z, x + prox_of_max(v, eta * weight, *bounds)
        multipliers = multipliers + penalty * _apply(W, g)
    z = keep_finite(z.view_as(originals), start.view_as(originals))
    open_ = rows_where(~(_apply(W, g).norm(dim=1) <= OPEN * r.norm(dim=1)))
    if calm or len(open_) == 0:
        return z
    calmer = replace(settings, steps=settings.steps // 2, step=settings.step / 2)
    begin = Starts(starts.centres[open_], starts.pulls[open_])
    z[open_] = proximal(constraint, originals[open_], calmer, begin, rows[open_], box=box, calm=True)
    return z


def capped_step(z: Tensor, originals: Tensor, g: Tensor, J: Tensor, *, box: bool) -> Tensor:
    """The shortest step, (B, 2n), from z that solves the linearised constraint and hardly adds to ‖z - x‖∞.

    Of CAPS the least factor that leaves such a step; where none does, the shortest step there is.
    """
    A, target = whitened(J, g)
    here, moved = z.flatten(1).double(), (z - originals).flatten(1).double()
    largest = moved.abs().amax(dim=1, keepdim=True)
    low, high = room(here, box)
    step = shortest(A, target, low, high)[0] if box else _transposed(A, target)
    longest = LONG * step.norm(dim=1)
    rows = rows_where((moved + step).abs().amax(dim=1) > CAPS[0] * largest[:, 0])
    for cap in CAPS if len(rows) else ():
        reach = cap * largest[rows]
        bounds = torch.maximum(-reach - moved[rows], low[rows]), torch.minimum(reach - moved[rows], high[rows])
        found, closed = shortest(A[rows], target[rows], *bounds, CAPPED)
        closed &= found.norm(dim=1) <= longest[rows]
        step[rows[closed]] = found[closed]
        rows = rows[rows_where(~closed)]
        if len(rows) == 0:
            break
    return step.to(z)


def _apply(matrices: Tensor, vectors: Tensor) -> Tensor:
    """(B, i, j) times (B, j) -> (B, i)."""
    return torch.einsum("bij,bj->bi", matrices, vectors)


def _transposed(matrices: Tensor, vectors: Tensor) -> Tensor:
    """(B, i, j) transposed times (B, i) -> (B, j)."""
    return torch.einsum("bij,bi->bj", matrices, vectors)
