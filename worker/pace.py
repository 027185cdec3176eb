"""How long what is left of an audit will take, learnt from its own blocks."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from store.records import NetworkRecord

Part = tuple[str, int | None]  # a layer and its m: pairs of one part cost about the same

_LATEST = 8  # blocks of a part: pairs that are farther apart come later and can take longer
_LEAST = 3  # blocks, before anything is said
_SPREAD = 1.5  # either way, for parts of which one block is known


@dataclass(frozen=True)
class _Weight:
    """What a pair of a layer costs in comparison: the features that are computed on the way, if it is searched."""

    affine: bool
    features: int


class Pace:
    """Takes note of blocks, and tells the least and the most seconds that what is left will take.

    A pair of a part that was computed before costs what the latest blocks of that part did, at the least and at the
    most. One of another part costs what a known one of its kind does, or more in proportion to the features on the way;
    affine layers, solved in closed form, are a kind of their own. Blocks run beside each other and something else
    beside them, so that their seconds are stretched as those until now were, all of them or the latest.
    """

    def __init__(self, network: NetworkRecord, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._weights = _weights(network)
        self._blocks: dict[Part, deque[float]] = {}
        self._worked = 0.0  # seconds of all blocks, one after the other
        self._ends: list[tuple[float, float]] = []  # when a block had ended, and what was worked until then

    def block(self, part: Part, pairs: int, seconds: float) -> None:
        """`pairs` of a part took so many seconds."""
        if not self._ends:
            self._ends.append((self._clock() - seconds, 0.0))
        self._blocks.setdefault(part, deque(maxlen=_LATEST)).append(seconds / pairs)
        self._worked += seconds
        self._ends.append((self._clock(), self._worked))

    def left(self, missing: Mapping[Part, int]) -> tuple[float, float] | None:
        """The least and the most seconds that the `missing` pairs of each part take; None while it is not known."""
        if len(self._ends) <= _LEAST or self._worked <= 0:
            return None
        least = most = 0.0
        for part, pairs in missing.items():
            cost = self._cost(part) if pairs else (0.0, 0.0)
            if cost is None:
                return None
            least, most = least + pairs * cost[0], most + pairs * cost[1]
        stretches = [self._stretch(0), self._stretch(max(0, len(self._ends) - 1 - 2 * _LATEST))]
        return least * min(stretches), most * max(stretches)

    def _stretch(self, since: int) -> float:
        """Seconds that pass while a second is worked, since so many blocks."""
        began, worked = self._ends[since]
        return (self._clock() - began) / max(self._worked - worked, 1e-9)

    def _cost(self, part: Part) -> tuple[float, float] | None:
        """Seconds of a pair, at the least and at the most."""
        own = self._blocks.get(part)
        if own is not None:
            spread = _SPREAD if len(own) == 1 else 1.0
            return min(own) / spread, max(own) * spread
        weight = self._weights[part[0]]
        costs = []
        for (layer, _), blocks in self._blocks.items():
            known = self._weights[layer]
            if known.affine == weight.affine:
                ratio = weight.features / known.features
                costs += [min(blocks) * min(1.0, ratio) / _SPREAD, max(blocks) * max(1.0, ratio) * _SPREAD]
        if costs:
            return min(costs), max(costs)
        searched = [max(blocks) for (layer, _), blocks in self._blocks.items() if not self._weights[layer].affine]
        return (0.0, max(searched)) if weight.affine and searched else None


def _weights(network: NetworkRecord) -> dict[str, _Weight]:
    sums = [0]
    for layer in network.layers:
        sums.append(sums[-1] + layer.features)
    return {
        layer.name: _Weight(layer.affine, after)
        for layer, (_, after) in zip(network.layers, pairwise(sums), strict=True)
    }
