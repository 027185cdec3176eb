"""How an answer is looked at: the budgets ε of its curves. No part of any identity: another range asks nothing new."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np

from robustness_core.errors import SpecError
from robustness_core.spec.checks import is_int, require
from robustness_core.spec.threat import Threat

MOST_BUDGETS = 2001


@dataclass(frozen=True)
class EpsilonGrid:
    """Budgets from `start` to `stop`, both included, `count` of them, in the threat's norm on pixels in [0, 1]."""

    start: float = 0.0
    stop: float = 8.0
    count: int = 81

    def __post_init__(self) -> None:
        require(math.isfinite(self.start) and math.isfinite(self.stop), "The budgets ε must be finite numbers.")
        require(self.start >= 0, f"The smallest ε is {self.start:g}; it must be 0 or more.")
        require(
            self.stop > self.start,
            f"The largest ε ({self.stop:g}) must be above the smallest ({self.start:g}).",
        )
        require(
            is_int(self.count) and 2 <= self.count <= MOST_BUDGETS,
            f"The number of budgets is {self.count}; it must be a whole number from 2 to {MOST_BUDGETS}.",
        )

    @classmethod
    def usual(cls, threat: Threat, epsilon: float) -> Self:
        """The range that is looked at first; `epsilon`: the usual ℓ∞ budget of the data set.

        No ℓ∞ distance is above ½, that of the midpoint of black and white.
        """
        return cls() if threat.norm == "l2" else cls(stop=min(0.5, float(f"{4 * epsilon:.2g}")))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `start:stop:count`, for example `0:8:81`."""
        try:
            start, stop, count = text.split(":")
            return cls(float(start), float(stop), int(count))
        except SpecError:
            raise
        except ValueError:
            raise SpecError(f"The ε range {text!r} must read start:stop:count, for example 0:8:81.") from None

    @property
    def text(self) -> str:
        """What `parse` reads, every digit kept."""
        start, stop = (f"{end:g}" if float(f"{end:g}") == end else repr(end) for end in (self.start, self.stop))
        return f"{start}:{stop}:{self.count}"

    def values(self) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """The budgets, (count,), with 12 digits at most: 0.3, not 0.30000000000000004; both ends are exact."""
        inner = [float(f"{budget:.12g}") for budget in np.linspace(self.start, self.stop, self.count)[1:-1].tolist()]
        return np.array([self.start, *inner, self.stop], dtype=np.float64)
