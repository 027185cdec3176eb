"""Where the searches of a pair start, and which of them counts: what searches with several starts share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from robustness_core.collision.constraint import Constraint
from robustness_core.collision.geometry import max_norm, midpoints
from robustness_core.collision.polish import polish
from robustness_core.collision.threat import Correct, shortest_step
from robustness_core.spec import PAPERS, Threat

FEW_PIXELS = 64  # below this, more starts find closer collisions; above, more steps of one start do (measured)
MANY_ROWS = 32  # above this, Jacobians cost more passes than steps, so that more steps are worth it (measured)

Table = TypeVar("Table")  # of settings


@dataclass(frozen=True)
class Several:
    """The knobs of `starts` searches of each pair, of which the closest counts.

    `pulls`: where a search starts, from 0, its centre, to 1, the linearised projection of the originals; `spreads`:
    how far its centre lies from the midpoint, in shares of the midpoint's distance. Starts take them in turn.
    """

    steps: int
    starts: int = 1
    pulls: tuple[float, ...] = (0.6, 0.2)
    spreads: tuple[float, ...] = (1.0, 1.0, 2.0, 2.0)


@dataclass(frozen=True)
class Starts:
    """Where the searches of B pairs begin, pair by pair: centres (B * starts, n) and pulls (B * starts, 1, 1)."""

    centres: Tensor
    pulls: Tensor


def fitting(pixels: int, rows: int, *, tiny: Table, wide: Table, images: Table) -> Table:
    """The settings, by preset, for inputs of n = `pixels` numbers and a constraint of m = `rows`."""
    if pixels < FEW_PIXELS:
        return tiny
    return wide if rows > MANY_ROWS else images


def draw_starts(originals: Tensor, settings: Several, seed: int, first: int = 0, box: bool = False) -> Starts:
    """The starts of each pair from number `first`: 0 is the midpoint, others lie near it with Gaussian noise.

    They are drawn on the CPU. With `box` they lie in [0, 1].
    """
    count, pixels = first + settings.starts, originals.shape[2]
    noise = torch.randn((count, pixels), generator=torch.Generator().manual_seed(seed)) / pixels**0.5
    noise *= torch.tensor(settings.spreads).repeat(count)[:count, None]
    noise[0] = 0
    noise = noise[first:]
    radius = (originals[:, 0] - originals[:, 1]).norm(dim=1) / 2
    centres = midpoints(originals)[:, :1] + radius[:, None, None] * noise.to(originals)
    pulls = torch.tensor(settings.pulls).repeat(count)[first:count].repeat(len(originals))
    if box:
        centres = centres.clamp(0, 1)
    return Starts(centres.flatten(0, 1), pulls[:, None, None].to(originals))


def closest(
    descend: Callable[[Constraint, Tensor, Starts], Tensor],
    constraint: Constraint,
    originals: Tensor,
    features: Tensor,
    settings: Several,
    seed: int,
    goal: float,
    first: int,
    *,
    threat: Threat = PAPERS,
    correct: Correct = shortest_step,
) -> tuple[Tensor, Tensor]:
    """Colliding images of each pair, (B, 2, n), and the Jacobian J there: of all starts the closest within `goal`.

    `descend` makes of originals and their starts points that nearly collide, which `polish` with `correct` makes
    collide. `features` (B, 2, m) of the originals; `goal`: the relative residual aimed at; `seed` draws the starts, of
    which the first is number `first`.
    """
    starts = draw_starts(originals, settings, seed, first, threat.box)
    x, features = (tensor.repeat_interleave(settings.starts, 0) for tensor in (originals, features))
    each = Constraint(constraint.extractor, constraint.shape, x, constraint.descent)
    points, J, reached = polish(each, descend(each, x, starts), x, features, goal, correct)
    distance = torch.where(reached, max_norm(points, x, threat.order), torch.inf)
    constraint.passes += each.passes.view(-1, settings.starts).sum(dim=1)
    begins = settings.starts * torch.arange(len(constraint.passes), device=distance.device)
    best = begins + distance.view(-1, settings.starts).argmin(dim=1)
    return points[best], J[best]
