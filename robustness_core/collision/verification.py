"""Verify pairs in float64: how far each is from a collision, in features and in pixels, and correct what is left."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustness_core.collision.constraint import Constraint
from robustness_core.collision.geometry import (
    EXACT_RANK_TOLERANCE,
    Whitening,
    keep_finite,
    max_norm,
    rows_where,
    whitening,
)
from robustness_core.collision.threat import shortest_in_box
from robustness_core.spec import PAPERS, TOLERANCE, Threat

# Pixels: residuals are not relative to less, since float32 images are rounded, by up to 1e-6 in ℓ2 and 3e-8 in ℓ∞.
LEAST = {"l2": 1e-3, "linf": 1e-4}
UNSEEN = 1e-9  # of the features' change: more mismatch than this is never rounding, even where no perturbation moves it
CHORDS = 2  # checks with the Jacobian of the search
FRESH = 2  # then checks with a Jacobian in float32 each, for pairs that those did not settle
EXACT = 6  # then checks with one in float64 each


@dataclass(frozen=True)
class Verified:
    """B pairs as they stand in float64. `points` (B, 2, n), `distance` and `residual` (B,).

    `residual` is the larger of two shares. In features: ||g|| over their change, the larger of the mismatch of the
    originals and what either image's features moved along the search (so that pairs whose originals nearly collide
    are judged too). In pixels: the least perturbation that would close what is left of g to first order, over the
    distance, both in the norm of the threat model; it weighs every direction alike, so that a direction in which
    features are small counts as any other, and a collision for many rows of A is one for fewer. It is at least 1 where
    g does not vanish in a direction that no perturbation moves.
    `nearest`: to first order, from the last Jacobian, the distance of the originals; exact for affine maps in ℓ2, not
    more than it in ℓ∞.
    """

    points: Tensor
    distance: Tensor
    residual: Tensor
    nearest: Tensor


def verify(
    exact: Constraint,
    points: Tensor,
    originals: Tensor,
    start: Tensor,
    rounding: torch.dtype,
    search: Constraint | None = None,
    J: Tensor | None = None,
    threat: Threat = PAPERS,
) -> Verified:
    """Check pairs in float64, and correct those that are not yet within half the tolerance.

    `points`, `originals`: (B, 2, n) float64. `start`: the features of the originals, (B, 2, m) float64. Points are
    numbers of the type `rounding`, as they are given out. `search`, `J`: the float32 constraint and its Jacobians near
    these points, (B, m, 2n), for Newton's chords; without them all Jacobians are in float64. Corrections are the
    smallest in ℓ2 to first order, with a box the smallest that stay in it. Cost: a pass in float64 for pairs that are
    well; a pair that J does not settle costs 1 + m passes a round in float32, and where that is singular or badly
    conditioned, in float64.
    """
    points, rows = points.clone(), torch.arange(len(points), device=points.device)
    apart = start[:, 0] - start[:, 1]
    residual, nearest = (torch.full_like(apart[:, 0], torch.inf) for _ in range(2))
    best = points.clone()
    for attempt in range(-EXACT if search is None else -CHORDS - FRESH - EXACT, 0):
        if search is None or attempt >= -EXACT:
            features, Jacobian = exact.features_and_jacobian(points[rows], rows)
            white = whitening(Jacobian, EXACT_RANK_TOLERANCE)
        else:
            features = exact.features(points[rows], rows)
            if J is None or attempt >= -FRESH - EXACT:
                here = points[rows].to(search.passes.device, torch.float32)
                Jacobian = search.values_and_jacobian(here, rows.to(here.device))[1].to(features)
            else:
                Jacobian = J[rows].to(features)
            white = whitening(Jacobian)
        g, moved = features[:, 0] - features[:, 1], features - start[rows]
        step = torch.einsum("bmk,bm->bk", Jacobian, white.solve(g)).view_as(points[rows])
        change = torch.maximum(change_of(apart[rows], moved), LEAST["l2"] * white.roots[:, -1])
        share = residual_of(g, change, step, max_norm(points[rows], originals[rows], threat.order), threat)
        share = torch.where(white.unseen(g) > UNSEEN * change, share.clamp_min(1.0), share)
        better = share < residual[rows]
        residual[rows] = torch.where(better, share, residual[rows])
        best[rows] = torch.where(better[:, None, None], points[rows], best[rows])
        nearest[rows] = _nearest(white, apart[rows], Jacobian, threat)
        if threat.box:
            step = -shortest_in_box(points[rows], originals[rows], g, Jacobian).view_as(step)
        points[rows] = keep_finite(points[rows] - step, points[rows]).to(rounding).double()
        # Beside a mismatch that was small from the start, chords are cheap enough to close what is left of it too.
        close = (share <= TOLERANCE / 2) & (
            (g.norm(dim=1) <= TOLERANCE / 2 * apart[rows].norm(dim=1)) | (attempt >= -EXACT)
        )
        rows = rows[rows_where(~close)]
        if len(rows) == 0:
            break
    return Verified(best, max_norm(best, originals, threat.order), residual, nearest)


def _nearest(white: Whitening, apart: Tensor, J: Tensor, threat: Threat) -> Tensor:
    """What the originals are `apart` in pixels, to first order, (B,): in ℓ2 exactly, in ℓ∞ from below, by duality."""
    r = white.whiten(apart)
    if threat.norm == "l2":
        return r.norm(dim=1) / 2**0.5  # type: ignore[no-any-return]
    length = torch.einsum("bmk,bm->bk", J, white.unwhiten(r)).abs().sum(dim=1)
    return r.square().sum(dim=1) / length.clamp_min(torch.finfo(r.dtype).tiny)


def judged(
    features: Tensor, start: Tensor, points: Tensor, originals: Tensor, correction: Tensor, threat: Threat = PAPERS
) -> Verified:
    """Pairs as they stand, from the features of `points` and of the originals, (B, 2, m); `nearest` is not known."""
    distance = max_norm(points, originals, threat.order)
    change = change_of(start[:, 0] - start[:, 1], features - start)
    residual = residual_of(features[:, 0] - features[:, 1], change, correction, distance, threat)
    return Verified(points, distance, residual, torch.full_like(distance, torch.inf))


def change_of(apart: Tensor, moved: Tensor) -> Tensor:
    """How much features change, (B,): the larger of the originals' mismatch (B, m) and either move, (B, 2, m)."""
    return torch.maximum(apart.norm(dim=1), moved.norm(dim=2).amax(dim=1))


def residual_of(g: Tensor, change: Tensor, correction: Tensor, distance: Tensor, threat: Threat = PAPERS) -> Tensor:
    """The residual of `Verified`, (B,): of g (B, m) and of the `correction` (B, 2, n) that would close it."""
    in_features = g.norm(dim=1) / change.clamp_min(torch.finfo(g.dtype).tiny)
    in_pixels = max_norm(correction, torch.zeros_like(correction), threat.order) / distance.clamp_min(
        LEAST[threat.norm]
    )
    # Seven digits: the last ones of float64 depend on where a matrix lies in memory.
    return torch.maximum(in_features, in_pixels).float().double().nan_to_num(nan=torch.inf)
