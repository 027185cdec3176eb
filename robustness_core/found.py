"""What is found about pairs of images: one record, for a block, a matrix or a single pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
COLUMNS = ("distance", "residual", "collided", "passes")


@dataclass(frozen=True, eq=False)
class Found:
    """Distances with their certificate and cost: four arrays of one shape, an entry a pair.

    `distance`: an l2 norm in pixels, an upper bound on the pair's distance where a search found it, exact where the
    closed form of affine layers did. `residual` and `collided`: the certificate (collision.Collisions). `passes`: the
    cost. Where nothing is known they are NaN and `collided` is False. `devices` and `versions` say what computed it,
    each sorted and without doubles; empty where that is not noted.
    """

    distance: Floats
    residual: Floats
    collided: npt.NDArray[np.bool_]
    passes: Floats
    devices: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()

    @classmethod
    def nothing(cls, *shape: int) -> Self:
        """Nothing is known yet of any pair."""
        distance, residual, passes = (np.full(shape, np.nan) for _ in range(3))
        return cls(distance, residual, np.zeros(shape, dtype=bool), passes)

    @classmethod
    def joined(cls, parts: Sequence[Found]) -> Self:
        """Blocks one after the other; at least one."""
        columns: list[Any] = [np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS]
        return cls(*columns)

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        return ~np.isnan(self.distance)

    @property
    def complete(self) -> bool:
        return bool(self.known.all())

    def __getitem__(self, places: Any) -> Self:
        """The pairs at these places, any index of arrays."""
        return replace(self, **{name: getattr(self, name)[places] for name in COLUMNS})

    def put(self, places: Any, found: Found) -> None:
        """Enter what is found of the pairs at these places."""
        for name in COLUMNS:
            getattr(self, name)[places] = getattr(found, name)
