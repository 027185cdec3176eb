"""Which pairs of a series to compute next: those that look closest, so that the left of the curve is final early."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustness_core.spec import AuditSpec, SeriesSpec
from store.records import ESTIMATE_FACTOR

Places = NDArray[np.intp]  # places of pairs in a plan


def ordered(spec: AuditSpec, network_sha256: str) -> list[SeriesSpec]:
    """The series of an audit, projection by projection: the curve of every layer appears before any is refined."""
    return sorted(
        spec.search.series(network_sha256), key=lambda series: 0 if series.m is None else series.seed - spec.search.seed
    )


class Plan:
    """The missing pairs of one series, B of them, and how far they are.

    `left`, `right`: the places of the two images of each pair in the sample. `hint`: any number that grows with the
    distance, such as that of the images; it orders the pairs until they are estimated.
    """

    def __init__(self, left: Places, right: Places, hint: NDArray[Any]):
        self.left = left
        self.right = right
        self._order = np.argsort(hint, kind="stable")
        self._estimate = np.full(len(left), np.nan)
        self._asked = np.zeros(len(left), dtype=bool)  # handed out for an estimate
        self._taken = np.zeros(len(left), dtype=bool)  # handed out for a distance
        self._done = np.zeros(len(left), dtype=bool)

    def __len__(self) -> int:
        return len(self.left)

    def take(self, count: int) -> Places:
        """Up to `count` pairs to compute next, those that look closest first."""
        open_ = self._order[~self._taken[self._order]]
        known = open_[~np.isnan(self._estimate[open_])]
        closest = known[np.argsort(self._estimate[known], kind="stable")]
        unknown = open_[np.isnan(self._estimate[open_])]
        chosen = np.concatenate([closest, unknown])[:count]
        self._taken[chosen] = True
        return chosen

    def give_back(self, places: Places) -> None:
        """These were not computed after all."""
        self._taken[places] = False

    def take_for_estimate(self, count: int) -> Places:
        """Up to `count` pairs that are neither estimated nor computed."""
        open_ = self._order[~(self._asked | self._taken)[self._order]]
        chosen = open_[:count]
        self._asked[chosen] = True
        return chosen

    def estimated(self, places: Places, values: NDArray[np.float64]) -> None:
        self._estimate[places] = values

    def done(self, places: Places) -> None:
        self._done[places] = True

    @property
    def exhausted(self) -> bool:
        """Every pair is handed out."""
        return bool(self._taken.all())

    @property
    def finished(self) -> bool:
        return bool(self._done.all())

    def final_epsilon(self) -> float | None:
        """Up to this budget no missing pair adds an edge, if no estimate is more than ESTIMATE_FACTOR too large.

        None while a missing pair has no estimate, and when no pair is missing.
        """
        estimates = self._estimate[~self._done]
        if len(estimates) == 0 or np.isnan(estimates).any():
            return None
        return float(estimates.min()) / ESTIMATE_FACTOR


def block_size(
    seconds_a_pair: float | None, batch: int, seconds: float, most: int = 1024, longest: float = np.inf
) -> int:
    """Pairs of a block: about `seconds` long, whole batches; one batch while nothing was measured.

    Fewer pairs than a batch where one would take more than `longest` seconds.
    """
    if seconds_a_pair is None:
        return batch
    if seconds_a_pair * batch > longest:
        return max(1, int(longest / seconds_a_pair))
    batches = round(seconds / max(seconds_a_pair, 1e-9) / batch)
    return int(min(max(batches, 1), max(most // batch, 1))) * batch
