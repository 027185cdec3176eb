"""Collisions of three and more images at once: the balanced search with T images, which meet in one feature value."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from robustness_core.collision.affine import row_space
from robustness_core.collision.balanced import Settings, settings_for, smooth_gradient
from robustness_core.collision.constraint import ON_CPU, Constraint
from robustness_core.collision.geometry import EXACT_RANK_TOLERANCE, max_norm, whitening
from robustness_core.collision.verification import LEAST, change_of, residual_of
from robustness_core.errors import StrataError
from robustness_core.layers import is_affine
from robustness_core.optimal_loss.sets import least_ball
from robustness_core.spec import TOLERANCE

_ROUNDS = 8  # of corrections in float64, each with fresh Jacobians
_BACK = 3  # rounds after which sets that are still open go halfway to their centre, which collides
_DOUBLINGS = 4  # p = 16 of the smooth maximum (METHOD.md section 7)


@dataclass(frozen=True)
class SetCollisions:
    """What was found for B sets of T images, with the certificate of each.

    `images` (B, T, C, H, W) float32, which collide. `distance`: the largest of the T perturbation norms (L2, pixels),
    (B,) float64, an upper bound on d(T). `residual`: the largest of the residuals of all pairs of the set
    (Collisions.residual). `collided`: residual <= 1e-4; where it is False the images are all the set's centre, which
    collides for every network, and `distance` is its radius. `passes`: in passes of both images of a pair.
    """

    images: Tensor
    distance: Tensor
    residual: Tensor
    collided: Tensor
    passes: Tensor


def find_set_collisions(extractor: nn.Module, images: Tensor, *, preset: str = "default") -> SetCollisions:
    """Search a collision for each set of images: small perturbations that the extractor maps to one point.

    `extractor`: any differentiable module (B, C, H, W) -> (B, ...). `images` (B, T, C, H, W), floats in [0, 1],
    T >= 2. As `balanced` for pairs, with T in place of two images: the constraint is that features agree with
    their mean, which are T - 1 orthonormal contrasts of them; one Jacobian, at the centre of the least ball around the
    images, where all of them are the same, whitens each. Steps in float32, corrections and verification in float64.
    Of an affine extractor in closed form: all move to the centre of the least ball around what it sees of them.
    Cost: T / 2 times that of a pair. Raises StrataError for another shape.
    """
    if images.ndim != 5 or images.shape[1] < 2:
        raise StrataError(f"Sets of images must be (B, T, C, H, W) with T of 2 or more, not {tuple(images.shape)}.")
    extractor = copy.deepcopy(extractor.eval()).float()
    exact = copy.deepcopy(extractor).double()
    size = max(1, ON_CPU["float32"] // images.shape[1]) if images.device.type == "cpu" else len(images)
    parts = [_search(extractor, exact, part, preset) for part in images.split(size)]
    return SetCollisions(*(torch.cat([getattr(part, name) for part in parts]) for name in vars(parts[0])))


def _search(extractor: nn.Module, exact: nn.Module, images: Tensor, preset: str) -> SetCollisions:
    B, T, shape = len(images), images.shape[1], tuple(images.shape[2:])
    x = images.flatten(2)
    centre = centres(x)
    each = Constraint(extractor, shape, x)
    settings = settings_for(preset, x.shape[2], extractor(images[0]).flatten(1).shape[1])
    if is_affine(extractor):
        V = row_space(Constraint(exact, shape, x.double()), x[:, :2].double())
        seen = x.double() @ V.mT
        points, steps = (x.double() + (centres(seen).unsqueeze(1) - seen) @ V).float(), 0
    else:
        points, steps = _descend(each, x, centre, settings)
    found = _exactly(Constraint(exact, shape, x.double()), points.double(), x.double(), centre.double())
    points, residual, rounds = found
    collided = residual <= TOLERANCE
    middle = centre.double().unsqueeze(1).expand_as(points)
    farthest, distance = max_norm(middle, x.double()), max_norm(points, x.double())
    keep = collided & (distance <= farthest)
    points = torch.where(keep[:, None, None], points, middle)
    m = extractor(images[0]).flatten(1).shape[1]
    passes = torch.full((B,), T / 2 * (2 * steps + (1 + m) * rounds) + (1 + m) / 2, dtype=torch.float64)
    return SetCollisions(
        points.float().unflatten(2, shape),
        torch.where(keep, distance, farthest),
        torch.where(collided & ~keep, 0.0, residual),
        collided,
        passes,
    )


def centres(x: Tensor) -> Tensor:
    """The centre of the least ball around the images of each set, (B, T, n) -> (B, n)."""
    apart = torch.cdist(x.double(), x.double(), compute_mode="donot_use_mm_for_euclid_dist").cpu().numpy() / 2
    weights = np.stack([least_ball(one)[1] for one in apart])
    return torch.einsum("bt,btn->bn", torch.from_numpy(weights).to(x), x)


def _descend(each: Constraint, x: Tensor, centre: Tensor, settings: Settings) -> tuple[Tensor, int]:
    """Nearly colliding images of each set, (B, T, n), near `x`, and the steps that were taken."""
    rows = torch.arange(len(x), device=x.device)
    J = each.jacobian_at_midpoint(centre.unsqueeze(1), rows)[:, :, : x.shape[2]]  # (B, m, n), of every image
    white = whitening(J)
    W = white.matrix(settings.ridge).to(x)
    H = torch.einsum("bij,bjn->bin", W, J)  # whitened: orthonormal rows
    z = centre.unsqueeze(1) + settings.pulls[0] * (x - centre.unsqueeze(1))
    apart = _centred(torch.einsum("bin,btn->bti", H, z))
    z = z - torch.einsum("bin,bti->btn", H, apart)
    multipliers = -_centred(torch.einsum("bin,btn->bti", H, smooth_gradient(z, x, _DOUBLINGS)))
    velocity = torch.zeros_like(z)
    for i in range(settings.steps):
        share = i / max(1, settings.steps - 1)
        block = i // settings.every * settings.every / max(1, settings.steps - 1)
        momentum = settings.momentum[0] + (settings.momentum[1] - settings.momentum[0]) * share
        penalty = settings.penalty[0] * (settings.penalty[1] / settings.penalty[0]) ** block
        here = z.detach().requires_grad_()
        features = each.of_images(here)
        g = torch.einsum("bij,btj->bti", W, _centred(features.detach()))
        pull = torch.einsum("bij,bti->btj", W, multipliers + penalty * g)
        (pullback,) = torch.autograd.grad(features, here, pull)  # pull sums up to 0 over the images
        velocity = momentum * velocity - settings.step / (1 + penalty) * (smooth_gradient(z, x, _DOUBLINGS) + pullback)
        z = z + velocity
        if (i + 1) % settings.every == 0:
            multipliers = multipliers + penalty * g
    sane = torch.isfinite(z).flatten(1).all(dim=1) & (max_norm(z, x) <= 1.1 * max_norm(centre.unsqueeze(1), x))
    return torch.where(sane[:, None, None], z, centre.unsqueeze(1) + 0 * x), settings.steps


def _centred(values: Tensor) -> Tensor:
    """(B, T, k) less the mean of each set."""
    return values - values.mean(dim=1, keepdim=True)


def _exactly(exact: Constraint, points: Tensor, x: Tensor, centre: Tensor) -> tuple[Tensor, Tensor, int]:
    """Corrections of least norm until the sets collide in float64 as float32 images: points, residuals, rounds."""
    start = exact.of_images(x).detach()
    best = points.float().double()
    residual = torch.full((len(x),), torch.inf, dtype=torch.float64, device=x.device)
    points = best.clone()
    for attempt in range(_ROUNDS):
        features, J = _with_jacobian(exact, points)
        step = _correction(_centred(features), J)
        share = _residual(features, start, points, x, step)
        better = share < residual
        residual = torch.where(better, share, residual)
        best = torch.where(better[:, None, None], points, best)
        still = residual > TOLERANCE / 2
        if not still.any():
            break
        ahead = points - step
        if attempt + 1 >= _BACK:
            halfway = (points + centre.unsqueeze(1)) / 2
            worse = still & ~better
            ahead = torch.where(worse[:, None, None], halfway, ahead)
        ahead = torch.where(torch.isfinite(ahead).flatten(1).all(dim=1)[:, None, None], ahead, points)
        points = torch.where(still[:, None, None], ahead.float().double(), points)
    return best, residual, attempt + 1


def _with_jacobian(exact: Constraint, points: Tensor) -> tuple[Tensor, Tensor]:
    """Features (B, T, m) and the Jacobian of each image, (B, T, m, n)."""
    here = points.detach().requires_grad_()
    features = exact.of_images(here)
    m = features.shape[2]
    rows = [torch.autograd.grad(features[:, :, k].sum(), here, retain_graph=k + 1 < m)[0] for k in range(m)]
    return features.detach(), torch.stack(rows, dim=2)


def _correction(g: Tensor, J: Tensor) -> Tensor:
    """The least change (B, T, n) after which, to first order, the features agree: g (B, T, m) centred, J (B, T, m, n).

    With contrasts C, (T - 1, T) with orthonormal rows of sum 0: J^T C^T (C J J^T C^T)^+ C g.
    """
    B, T, m = g.shape  # sets, their images, projection
    C = _contrasts(T).to(g)
    own = torch.einsum("btmn,btkn->btmk", J, J)
    gram = torch.einsum("st,ut,btmk->bsmuk", C, C, own).reshape(B, (T - 1) * m, (T - 1) * m)
    right = torch.einsum("st,btm->bsm", C, g).flatten(1)
    values, vectors = torch.linalg.eigh(gram)
    keep = values > EXACT_RANK_TOLERANCE * values[:, -1:].clamp_min(1e-300)
    inverse = torch.where(keep, 1 / values.clamp_min(1e-300), 0.0)
    solved = torch.einsum("bij,bj,bkj,bk->bi", vectors, inverse, vectors, right).view(B, T - 1, m)
    step: Tensor = torch.einsum("btmn,st,bsm->btn", J, C, solved)
    return step


def _contrasts(T: int) -> Tensor:
    """(T - 1, T) float64, orthonormal rows that sum up to 0 (Helmert)."""
    rows = [[1.0] * k + [-float(k)] + [0.0] * (T - 1 - k) for k in range(1, T)]
    C = torch.tensor(rows, dtype=torch.float64)
    C /= torch.linalg.vector_norm(C, dim=1, keepdim=True)
    return C


def _residual(features: Tensor, start: Tensor, points: Tensor, x: Tensor, step: Tensor) -> Tensor:
    """The largest residual of any two images of each set, as verification has it for a pair, (B,)."""
    T, worst = features.shape[1], torch.zeros(len(features), dtype=torch.float64, device=features.device)
    distance = max_norm(points, x).clamp_min(LEAST["l2"])
    for s in range(T):
        for t in range(s + 1, T):
            two = [s, t]
            change = change_of(start[:, s] - start[:, t], (features - start)[:, two])
            share = residual_of(features[:, s] - features[:, t], change, step[:, two], distance)
            worst = torch.maximum(worst, share)
    return worst
