"""Collision search: the public door, which chooses the method, verifies every pair in float64 and never gives worse
than the midpoint."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from robustness_core.collision import matrix_free
from robustness_core.collision.affine import affine_collision
from robustness_core.collision.constraint import Constraint
from robustness_core.collision.geometry import max_norm, midpoints, rows_where
from robustness_core.collision.memory import pairs_within
from robustness_core.collision.precision import Descent, tensor_cores
from robustness_core.collision.starts import FEW_PIXELS, MANY_ROWS
from robustness_core.collision.verification import LEAST, Verified, judged, verify
from robustness_core.errors import StrataError
from robustness_core.found import COLUMNS, Found
from robustness_core.layers import is_affine, widths
from robustness_core.spec import METHODS, PAPERS, TOLERANCE, Threat, check_method, check_precision

GOAL = 0.2 * TOLERANCE  # what the float32 search aims at, so that the float64 verification agrees
# Of a found distance: what the originals promise below this is tried from there too. For ℓ∞ they promise too much.
NEARER = {"l2": 0.4, "linf": 0.2}
_APART = 1e-3  # of the originals' features: float32 knows a mismatch above this share to four digits
_SAME = 1e-12  # a mismatch of the originals below this share of their features is rounding: they collide already


@dataclass(frozen=True)
class Collisions:
    """What was found for B pairs, with the certificate of each.

    `left`, `right`: the colliding images, (B, C, H, W) float32, in the units of the pixels.
    `distance`: max of the two perturbation norms of those images, in the norm of the threat model, (B,) float64. An
    upper bound on d.
    `residual`: how far the pair that the search ended with is from a collision, in float64: the larger of
    ||A f(left) - A f(right)|| over the change of features, and of the perturbation that would close it over the
    distance (verification.Verified).
    `collided`: residual <= 1e-4. Where it is False the images are the midpoint, which collides for every network,
    and `distance` is its distance; `residual` then says how far the search was from a collision.
    `passes`: forward or backward passes of both images of a pair, verification included, (B,) float64.
    `precision`: that of the search's steps (spec.PRECISIONS), float64 for a closed form.
    """

    left: Tensor
    right: Tensor
    distance: Tensor
    residual: Tensor
    collided: Tensor
    passes: Tensor
    precision: str

    @property
    def found(self) -> Found:
        """The same without the images, as arrays (B,)."""
        columns: list[Any] = [getattr(self, name).cpu().numpy() for name in COLUMNS]
        return replace(Found(*columns), precisions=(self.precision,))


def find_collisions(
    extractor: nn.Module,
    left: Tensor,
    right: Tensor,
    *,
    method: str = "balanced",
    preset: str = "default",
    threat: Threat = PAPERS,
    seed: int = 0,
    start: int = 0,
    memory: float | None = None,
    precision: str = "auto",
) -> Collisions:
    """Search a collision for each pair of images: small perturbations that the extractor maps to one point.

    `extractor`: any differentiable module, (B, C, H, W) -> (B, ...), for example projection.project(...); it is put
    in evaluation mode. `left`, `right`: (B, C, H, W) floats in [0, 1]. `method`: balanced minimises the distance
    itself; algorithm1 is the paper's Algorithm 1. `preset`: fast, default or thorough. `threat`: how perturbations
    are measured, one that the method serves; with its box the images found lie in [0, 1]. Affine extractors are solved
    exactly by either method, for ℓ2 without the box in closed form (section 4.2). `seed` draws the points where
    searches start, of which `start` is the number of the first: 0 is the midpoint, others lie near it; algorithm1, and
    the search of many rows, have none but that. `memory`: bytes that the search may use; the default is a fraction of
    what is free. The search runs on the extractor's device: its steps in `precision`, one of spec.PRECISIONS, or
    float32 where method, network or device have not got it; auto is the fastest; then the pairs are made to collide in
    float32, and verified in float64. Raises StrataError for shapes or names that do not fit.
    """
    check_method(method, preset, threat)
    check_precision(precision)
    if left.ndim != 4 or left.shape != right.shape:
        raise StrataError(
            f"Left and right must be two batches (B, C, H, W) of one shape; they are {tuple(left.shape)} "
            f"and {tuple(right.shape)}."
        )
    if not (torch.isfinite(left).all() and torch.isfinite(right).all()):
        raise StrataError("The images hold values that are not finite numbers.")
    if threat.box and len(left) and (min(left.min(), right.min()) < 0 or max(left.max(), right.max()) > 1):
        raise StrataError("Images that are to stay in [0, 1] must lie in [0, 1]; these do not.")
    if len(left) == 1:  # see rows_where
        twice = find_collisions(
            extractor,
            left.repeat(2, 1, 1, 1),
            right.repeat(2, 1, 1, 1),
            method=method,
            preset=preset,
            threat=threat,
            seed=seed,
            start=start,
            memory=memory,
            precision=precision,
        )
        return _rows(twice, slice(1))
    problem = _Problem.of(extractor, left, right, precision if METHODS[method].descends else "float32")
    found: list[Collisions] = []
    place, size = 0, problem.batch_size(memory) if len(left) else 1
    while place < len(left):
        alone = place + 1 == len(left) and size > 1  # see rows_where: the pair before keeps the last one company
        try:
            with tensor_cores(False):
                batch = _search(problem, slice(place - alone, place + size), method, preset, seed, start, threat)
        except (torch.OutOfMemoryError, MemoryError):
            if size == 1:
                raise
            size = max(1, size // 2)
            continue
        found.append(_rows(batch, slice(int(alone), None)))
        place += size
    return _joined(found, left, problem.precision)


def nearest(searches: Sequence[Collisions]) -> Collisions:
    """Of several searches of the same pairs the nearest collision of each, with the passes of all of them."""
    if len(searches) == 1:
        return searches[0]
    best = torch.stack([one.distance for one in searches]).argmin(dim=0)
    rows = torch.arange(len(best), device=best.device)
    chosen: dict[str, Any] = {
        name: torch.stack([getattr(one, name) for one in searches])[best.to(value.device), rows.to(value.device)]
        for name, value in vars(searches[0]).items()
        if isinstance(value, Tensor)
    }
    return replace(searches[0], **{**chosen, "passes": torch.stack([one.passes for one in searches]).sum(dim=0)})


@dataclass(frozen=True)
class _Problem:
    """An extractor, its float64 twin, and the pairs, (B, 2, n), as the caller gave them, on the right device."""

    extractor: nn.Module
    descent: Descent
    exact: nn.Module
    affine: bool
    pairs: Tensor
    shape: tuple[int, ...]
    rows: int  # m, the features that must meet
    narrowest: int  # the size of the narrowest layer up to there; 0 where that is not known

    @staticmethod
    def of(extractor: nn.Module, left: Tensor, right: Tensor, precision: str = "float32") -> _Problem:
        original = extractor = extractor.eval()
        tensors = [t for t in [*extractor.parameters(), *extractor.buffers()] if t.is_floating_point()]
        device = tensors[0].device if tensors else left.device
        if device.type == "cpu":  # channels last: the passes take about a tenth less time
            extractor = copy.deepcopy(extractor).float().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        elif any(t.dtype != torch.float32 for t in tensors):
            extractor = copy.deepcopy(extractor).float()
        exact = copy.deepcopy(original).double()
        if device.type == "mps":  # has no float64
            exact = exact.cpu()
        pairs = torch.stack([left.detach(), right.detach()], dim=1).flatten(2).to(device)
        shape = tuple(left.shape[1:])
        with torch.no_grad():
            rows = extractor(torch.zeros(2, *shape, device=device))[0].numel()
        narrowest = min(widths(original, shape), default=0) if rows >= 2 * pairs.shape[2] else 0
        affine = is_affine(original)
        steps = not affine and rows <= matrix_free.MANY_ROWS and pairs.shape[2] >= FEW_PIXELS
        descent = Descent.of(extractor, shape, precision if steps else "float32")
        return _Problem(extractor, descent, exact, affine, pairs, shape, rows, narrowest)

    @property
    def precision(self) -> str:
        """Of the steps; a closed form is computed in float64."""
        return "float64" if self.affine else self.descent.precision

    def injective(self, exact: Constraint, originals: Tensor) -> Tensor:
        """For which of these pairs, (B, 2, n) float64, only the midpoint is taken to collide, (B,).

        Features of 2n and more numbers, no layer on the way narrower than that, and a Jacobian of full column rank at
        both images and at the midpoint: such a map is an immersion there, and maps of n into 2n dimensions that
        collide elsewhere are exceptions for smooth networks (Whitney); for those with kinks it is an assumption.
        A verified collision that is nearer by one part in a thousand refutes it. Asked only where Jacobians are formed;
        the search without them finds out by itself.
        """
        pixels, rows = originals.shape[2], torch.arange(len(originals), device=originals.device)
        taken = torch.full(rows.shape, self.narrowest >= 2 * pixels and self.rows <= matrix_free.MANY_ROWS)
        taken = taken.to(originals.device)
        for points in (originals[:, :1], originals[:, 1:], midpoints(originals)[:, :1]):
            if taken.any():
                H = exact.jacobian_at_midpoint(points.expand_as(originals), rows)[:, :, :pixels]
                taken &= torch.linalg.matrix_rank(H) == pixels
        return taken

    def exactly(self, points: Tensor) -> Tensor:
        return points.to("cpu" if points.device.type == "mps" else points.device).double()

    def batch_size(self, memory: float | None = None) -> int:
        image = self.pairs[:1, 0].float().view(-1, *self.shape)
        return pairs_within(self.extractor, image, memory)


def _search(
    problem: _Problem, batch: slice, method: str, preset: str, seed: int, first: int, threat: Threat
) -> Collisions:
    """One batch: search in float32, make exact, verify in float64, fall back to the midpoint."""
    originals = problem.pairs[batch]
    exact_originals = problem.exactly(originals)
    search = Constraint(problem.extractor, problem.shape, originals.float(), problem.descent)
    exact = Constraint(problem.exact, problem.shape, exact_originals)
    rows = torch.arange(len(originals), device=exact_originals.device)

    start = _start(exact, exact_originals, search if problem.descent.precision != "float32" else None)
    mismatch = (start[:, 0] - start[:, 1]).norm(dim=1)
    together = mismatch <= _SAME * start.norm(dim=2).amax(dim=1)  # the originals collide already
    middle = problem.exactly(midpoints(originals))
    if problem.affine:
        points = affine_collision(exact, exact_originals, threat).to(originals.dtype).double()
        found = judged(exact.features(points, rows), start, points, exact_originals, torch.zeros_like(points), threat)
    elif problem.rows > matrix_free.MANY_ROWS:
        goal = (GOAL * mismatch).to(originals.device, torch.float32)
        points = matrix_free.search(search, originals.float(), goal, preset, threat).to(originals.dtype)
        found = matrix_free.verify(exact, problem.exactly(points), exact_originals, start, threat)
    else:
        features = start.float().to(originals.device)
        find = METHODS[method].load(threat)
        points, J = find(search, originals.float(), features, preset, seed, GOAL, first, threat)
        points = problem.exactly(points.to(originals.dtype))
        found = verify(exact, points, exact_originals, start, originals.dtype, search, J, threat)
        found = _nearer(exact, found, exact_originals, start, originals.dtype, threat)
    if problem.narrowest:
        half = max_norm(middle, exact_originals, threat.order)
        closer = (found.residual <= TOLERANCE) & (found.distance < (1 - matrix_free.NOT_CLOSER) * half)
        injective = problem.injective(exact, exact_originals) & ~closer
        found.points[injective], found.residual[injective] = middle[injective], 0.0
        found.distance[injective] = half[injective]

    collided = together | (found.residual <= TOLERANCE)
    farthest = max_norm(middle, exact_originals, threat.order)
    keep = together | (collided & (found.distance <= farthest))
    points = torch.where(
        keep[:, None, None], torch.where(together[:, None, None], exact_originals, found.points), middle
    )
    points = points.to(originals)
    residual = torch.where(together | (collided & ~keep), 0.0, found.residual)
    return Collisions(
        left=points[:, 0].unflatten(1, problem.shape),
        right=points[:, 1].unflatten(1, problem.shape),
        distance=torch.where(keep, torch.where(together, 0.0, found.distance), farthest),
        residual=residual,
        collided=collided,
        passes=search.passes.to(exact.passes.device) + exact.passes,
        precision=problem.precision,
    )


def _start(exact: Constraint, originals: Tensor, search: Constraint | None) -> Tensor:
    """The features of the originals, (B, 2, m) float64, by which residuals are measured.

    With `search`, in float32, which is right to some digits, unless the originals nearly collide.
    """
    rows = torch.arange(len(originals), device=originals.device)
    if search is None:
        return exact.features(originals, rows)
    here = originals.to(search.passes.device, torch.float32)
    start = search.features(here, rows.to(here.device)).to(originals)
    apart = (start[:, 0] - start[:, 1]).norm(dim=1)
    rows = rows_where(~(apart > _APART * start.norm(dim=2).amax(dim=1)))
    if len(rows):
        start[rows] = exact.features(originals[rows], rows)
    return start


def _nearer(
    exact: Constraint, found: Verified, originals: Tensor, start: Tensor, rounding: torch.dtype, threat: Threat
) -> Verified:
    """`found`, or for pairs that may collide much nearer what Newton's method finds from the originals.

    Those are pairs without a collision and pairs whose originals nearly collide: to first order, from the Jacobian at
    the collision that was found, the distance is less than NEARER of the one found. A search that begins at the
    midpoint can miss what lies so close, and one in float32 what is less than LEAST.
    """
    near = (found.residual > TOLERANCE) | (found.nearest < NEARER[threat.norm] * found.distance)
    near = near | (found.distance < LEAST[threat.norm])
    if start.shape[2] > MANY_ROWS:
        near &= found.residual <= TOLERANCE  # Jacobians of many rows in float64, for pairs that have none to gain
    rows = rows_where(near)
    if len(rows) == 0:
        return found
    x = originals[rows]
    each = Constraint(exact.extractor, exact.shape, x)
    again = verify(each, x, x, start[rows], rounding, threat=threat)
    exact.passes[rows] += each.passes
    closer = (again.residual <= TOLERANCE) & (
        (found.residual[rows] > TOLERANCE) | (again.distance < found.distance[rows])
    )
    rows = rows[closer]
    for name in ("points", "distance", "residual"):
        getattr(found, name)[rows] = getattr(again, name)[closer]
    return found


def _rows(found: Collisions, rows: slice) -> Collisions:
    part: dict[str, Any] = {name: value[rows] for name, value in vars(found).items() if isinstance(value, Tensor)}
    return replace(found, **part)


def _joined(parts: list[Collisions], like: Tensor, precision: str) -> Collisions:
    def join(name: str, empty: Tensor) -> Tensor:
        return torch.cat([getattr(part, name) for part in parts]).to(like.device) if parts else empty

    none = torch.empty(0, dtype=torch.float64)
    return Collisions(
        left=join("left", like),
        right=join("right", like),
        distance=join("distance", none),
        residual=join("residual", none),
        collided=join("collided", none.bool()),
        passes=join("passes", none),
        precision=precision,
    )
