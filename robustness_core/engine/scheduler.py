"""What an audit searches next: a function of what is known and handed out, without clock, files, chance or torch."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from robustness_core.engine.tasks import Answer, Distances, Estimates, Failure, NeedsContent
from robustness_core.errors import StrataError
from robustness_core.found import Floats
from robustness_core.spec import SeriesSpec

ESTIMATE_FACTOR = 2.0  # no distance is expected to be below its estimate by more than this factor (1.7 was seen)

Places = NDArray[np.intp]
Pairs = Sequence[tuple[int, int]]  # places of a left and a right image in the sample
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Settings:
    """The knobs of the work. Times in seconds; `batch` is that of the device (Description.batch)."""

    batch: int = 16
    block_seconds: float = 1.5
    hang_seconds: float = 600.0  # a block that takes longer is taken for hung
    tries: int = 3  # of a block, each with a smaller batch
    keep: int = 5  # collisions of the closest pairs of each series
    estimate_pairs: int = 512  # of one task; 0 for no estimates
    poll_seconds: float = 0.2
    drain_seconds: float = 5.0  # what still runs when an audit ends early gets so long before it is killed


@dataclass(frozen=True, eq=False)
class Block:
    """The unit of work: B pairs of one series, `left` and `right` (B,) the places of their images in the sample.

    `collisions`: only the images of pairs whose distances are known. `keep` and `batch` as in Task; `content`: the
    process that computes it lacks the network's file.
    """

    series: SeriesSpec
    kind: Literal["distances", "estimates", "collisions"]
    left: Places
    right: Places
    keep: int = 0
    batch: int = 0
    tries: int = 1
    content: bool = False

    def __len__(self) -> int:
        return len(self.left)


class Scheduler:
    """The series of an audit one after the other, of each the closest pairs first; every pair is handed out once.

    `hint` (L, R): any number a pair that grows with its distance, such as that of the images; it orders the pairs until
    they are estimated. `missing`: how many pairs of each series are not known. `closed_form`: layers of which an
    estimate costs as much as the distance.
    """

    def __init__(
        self,
        series: Sequence[SeriesSpec],
        hint: NDArray[Any],
        missing: Mapping[SeriesSpec, int],
        settings: Settings,
        closed_form: Collection[str] = (),
    ):
        self._waiting = deque(ordered(series))
        self._hint = hint
        self._left = dict(missing)
        self._settings = settings
        self._closed_form = closed_form
        self._open: dict[SeriesSpec, _Series] = {}
        self._again: deque[Block] = deque()
        self._first = True
        self.total = hint.size * len(series)

    # ------------------------------------------------------------------------------------------------ what is known

    @property
    def ended(self) -> bool:
        """Every distance is known, and every series closed."""
        return not self._waiting and not self._open

    @property
    def done(self) -> int:
        """Pairs whose distances are known, of `total`."""
        return self.total - sum(self._left.values())

    @property
    def left(self) -> Counter[tuple[str, int | None]]:
        """(layer, m) -> pairs that are missing."""
        counts: Counter[tuple[str, int | None]] = Counter()
        for series, missing in self._left.items():
            counts[series.layer, series.m] += missing
        return counts

    def final_epsilon(self) -> float | None:
        """Up to this budget the curve of the series in work is final; see Plan.final_epsilon."""
        return next((one.plan.final_epsilon() for one in self._open.values() if not one.plan.finished), None)

    # ---------------------------------------------------------------------------------------------- series by series

    @property
    def waiting(self) -> SeriesSpec | None:
        """The series to take up when `next_task` has nothing."""
        return self._waiting[0] if self._waiting else None

    def take_up(self, series: SeriesSpec, missing: Bools) -> None:
        """Hand out pairs of the `waiting` series: those that are `missing` (L, R) by now."""
        self._waiting.remove(series)
        self._left[series] = count = int(missing.sum())
        settings = self._settings
        worth_it = settings.estimate_pairs > 0 and count > settings.batch and series.layer not in self._closed_form
        self._open[series] = _Series(Plan(missing, self._hint), worth_it)

    def complete(self, series: SeriesSpec) -> bool:
        """Whether every distance of a series that was taken up is known."""
        return self._open[series].plan.finished

    def close(self, series: SeriesSpec, lacking: Pairs = ()) -> None:
        """A complete series is done with, once the collisions of the `lacking` pairs have been searched."""
        if not lacking:
            del self._open[series]
            return
        left, right = np.array(lacking, dtype=np.intp).T
        self._again.append(Block(series, "collisions", left, right, keep=len(lacking)))

    # ------------------------------------------------------------------------------------------------ block by block

    def next_task(self) -> Block | None:
        """What to compute next; None while all that was taken up is handed out."""
        if self._again:
            return self._again.popleft()
        return next((block for series in self._open if (block := self._next_of(series)) is not None), None)

    def _next_of(self, series: SeriesSpec) -> Block | None:
        """Estimates and distances take turns, so that the curve grows while the order is still being found."""
        one, settings = self._open[series], self._settings
        if one.plan.exhausted:
            return None
        if one.estimates and not self._first and not one.estimated_last:
            places = one.plan.take_for_estimate(settings.estimate_pairs)
            if len(places):
                one.estimated_last = True
                return self._block(series, "estimates", places)
        one.estimated_last = self._first = False
        seconds, longest = settings.block_seconds, settings.hang_seconds / 4
        return self._block(
            series, "distances", one.plan.take(block_size(one.seconds_a_pair, settings.batch, seconds, longest=longest))
        )

    def _block(self, series: SeriesSpec, kind: Literal["distances", "estimates"], places: Places) -> Block:
        left, right = np.unravel_index(places, self._hint.shape)
        return Block(series, kind, left, right, keep=self._settings.keep if kind == "distances" else 0)

    def _places(self, block: Block) -> Places:
        places: Places = block.left * self._hint.shape[1] + block.right
        return places

    def on_answer(self, block: Block, answer: Answer) -> None:
        """Take in what came of a block. Raises StrataError where it cannot be had."""
        one = self._open.get(block.series)
        if one is None:  # estimates of a series that was complete before they came
            return
        match answer:
            case NeedsContent():
                self._again.appendleft(replace(block, content=True))
            case Failure():
                self._failed(block, answer)
            case Estimates():
                one.plan.estimated(self._places(block), answer.distance)
            case Distances() if block.kind == "collisions":
                del self._open[block.series]
            case Distances():
                one.plan.done(self._places(block))
                one.seconds_a_pair = answer.seconds / len(block)
                self._left[block.series] -= len(block)

    def on_hang(self, block: Block) -> None:
        """A block was ended for it took too long: it hangs, or is slow and its pairs are tried again in parts."""
        one, limit, pairs = self._open.get(block.series), self._settings.hang_seconds, len(block)
        if one is None:
            return
        if block.kind != "distances" or pairs == 1 or block.tries >= self._settings.tries:
            sentence = f"A block took longer than {limit:g} seconds and was ended."
            self._failed(block, Failure(sentence, False, sentence))
            return
        one.seconds_a_pair = max(one.seconds_a_pair or 0.0, limit / pairs)
        parts = [
            self._block(block.series, "distances", part) for part in np.array_split(self._places(block), min(4, pairs))
        ]
        self._again.extendleft(replace(part, tries=block.tries + 1) for part in parts)  # at once, see what it is

    def _failed(self, block: Block, failure: Failure) -> None:
        if block.kind == "estimates":
            self._open[block.series].estimates = False  # they only order the pairs
        elif failure.final:
            raise StrataError(failure.sentence)
        elif block.tries < self._settings.tries:
            batch = max(1, (block.batch or self._settings.batch) // 4)
            self._again.append(replace(block, batch=batch, tries=block.tries + 1))
        elif block.kind == "collisions":  # pictures, not results: the audit does without them
            del self._open[block.series]
        else:
            raise StrataError(f"A block of layer {block.series.layer} failed {block.tries} times: {failure.sentence}")


def ordered(series: Sequence[SeriesSpec]) -> list[SeriesSpec]:
    """Projection by projection: the curve of every layer appears before any is refined."""
    first = min((one.seed for one in series if one.m is not None), default=0)
    return sorted(series, key=lambda one: 0 if one.m is None else one.seed - first)


class Plan:
    """The pairs of one series and how far they are; a pair is named by its place in the flat matrix (L, R).

    `missing` (L, R): the pairs to search; `hint` (L, R) as in Scheduler.
    """

    def __init__(self, missing: Bools, hint: NDArray[Any]):
        order = np.argsort(hint, axis=None, kind="stable")
        self._order = order[missing.ravel()[order]]
        self._estimate = np.full(missing.size, np.nan)
        self._asked = np.zeros(missing.size, dtype=bool)  # handed out for an estimate
        self._taken = ~missing.ravel()  # known, or handed out for a distance
        self._done = ~missing.ravel()

    def take(self, count: int) -> Places:
        """Up to `count` pairs to search next, those that look closest first."""
        open_ = self._order[~self._taken[self._order]]
        known = open_[~np.isnan(self._estimate[open_])]
        closest = known[np.argsort(self._estimate[known], kind="stable")]
        unknown = open_[np.isnan(self._estimate[open_])]
        chosen = np.concatenate([closest, unknown])[:count]
        self._taken[chosen] = True
        return chosen

    def take_for_estimate(self, count: int) -> Places:
        """Up to `count` pairs that are neither estimated nor searched."""
        open_ = self._order[~(self._asked | self._taken)[self._order]]
        chosen = open_[:count]
        self._asked[chosen] = True
        return chosen

    def estimated(self, places: Places, values: Floats) -> None:
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


@dataclass(eq=False)
class _Series:
    """A series in work."""

    plan: Plan
    estimates: bool
    estimated_last: bool = False
    seconds_a_pair: float | None = None


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
