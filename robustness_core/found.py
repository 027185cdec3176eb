"""What is found about pairs of images: one record, for a block, a matrix or a single pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Set = tuple[int, ...]  # of images of distinct classes: their places in a sample, ascending
COLUMNS = ("distance", "residual", "collided", "passes")
MAKERS = ("devices", "versions", "precisions")


@dataclass(frozen=True, eq=False)
class Found:
    """Distances with their certificate and cost: four arrays of one shape, an entry a pair.

    `distance`: in pixels, in the norm of its threat model, an upper bound on the pair's distance where a search found
    it, exact at affine layers. `residual` and `collided`: the certificate (collision.Collisions). `passes`: the
    cost. Where nothing is known they are NaN and `collided` is False. `devices` and `versions` say what computed it,
    `precisions` in which precision the steps of its search were (spec.PRECISIONS; float64 for a closed form), each
    sorted and without doubles; empty where that is not noted.
    """

    distance: Floats
    residual: Floats
    collided: npt.NDArray[np.bool_]
    passes: Floats
    devices: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()

    @classmethod
    def nothing(cls, *shape: int) -> Self:
        """Nothing is known yet of any pair."""
        distance, residual, passes = (np.full(shape, np.nan) for _ in range(3))
        return cls(distance, residual, np.zeros(shape, dtype=bool), passes)

    @classmethod
    def joined(cls, parts: Sequence[Found]) -> Self:
        """Blocks one after the other; at least one."""
        columns: list[Any] = [np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS]
        return replace(cls(*columns), **_makers(parts))

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        return ~np.isnan(self.distance)

    @property
    def complete(self) -> bool:
        return bool(self.known.all())

    @property
    def sets(self) -> list[FoundSet]:
        """A block of sets, one by one."""
        columns = (self.distance, self.residual, self.collided, self.passes)
        return [FoundSet(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]

    def __getitem__(self, places: Any) -> Self:
        """The pairs at these places, any index of arrays."""
        return replace(self, **{name: getattr(self, name)[places] for name in COLUMNS})

    def put(self, places: Any, found: Found) -> None:
        """Enter what is found of the pairs at these places, and what computed it."""
        for name in COLUMNS:
            getattr(self, name)[places] = getattr(found, name)
        for name, makers in _makers((self, found)).items():
            object.__setattr__(self, name, makers)


def mirrored(matrix: Floats) -> Floats:
    """A square matrix that has each pair once, NaN elsewhere, with each pair twice."""
    return np.fmin(matrix, matrix.T)


def _makers(parts: Sequence[Found]) -> dict[str, Any]:
    """What computed any of these."""
    return {name: tuple(sorted({one for part in parts for one in getattr(part, name)})) for name in MAKERS}


@dataclass(frozen=True)
class FoundSet:
    """What is found of one set of three or more images of distinct classes; numbers as those of a pair in Found."""

    distance: float
    residual: float
    collided: bool
    passes: float


@dataclass(frozen=True)
class Gap:
    """How far above the best of several searches the distances of `pairs` pairs lie, which were drawn at random.

    `mean` and `q90`, the 90 % quantile, of distance / nearest that any of them found, 1 or more; exactly 1 where a
    closed form is used. What is nearer still nobody knows, so this is no bound: it says how good the search is.
    """

    pairs: int
    mean: float
    q90: float


@dataclass(frozen=True)
class Finding:
    """What the work on one series and sample rests on, once all is known that was asked.

    `searched` of `pairs` pairs have a distance; the others are not likely to change the curve: `deviation` is the
    standard deviation of the logarithm of a distance about the guess by which they were left out (None: no guess).
    `budgets` and `optimistic`: the curve in nats if every one of them were LOW standard deviations nearer than guessed;
    empty where none was left out. `again` pairs lay far above the guess and were searched once more, `nearer` of them
    with a nearer collision. `gap`: None where it was not measured. `largest_set`: sets of up to so many images were
    looked for, 2 for pairs alone, at budgets up to `sets_until`; what was found of them stands beside the distances.
    With them the cross-entropy (nats) and the 0-1 loss at `set_budgets` are `set_losses` and `set_errors`.
    """

    searched: int
    pairs: int
    deviation: float | None = None
    budgets: tuple[float, ...] = ()
    optimistic: tuple[float, ...] = ()
    again: int = 0
    nearer: int = 0
    gap: Gap | None = None
    largest_set: int = 2
    sets_until: float = 0.0
    set_budgets: tuple[float, ...] = ()
    set_losses: tuple[float, ...] = ()
    set_errors: tuple[float, ...] = ()

    @property
    def left_out(self) -> int:
        return self.pairs - self.searched

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), **{name: list(getattr(self, name)) for name in _LISTS}}

    @classmethod
    def from_json(cls, payload: Mapping[str, Any]) -> Self:
        gap = payload["gap"]
        lists = {name: tuple(payload.get(name, ())) for name in _LISTS}
        return cls(**{**payload, **lists, "gap": None if gap is None else Gap(**gap)})


_LISTS = ("budgets", "optimistic", "set_budgets", "set_losses", "set_errors")  # of a Finding
LOW = 2.0  # standard deviations between a guess and its optimistic end
