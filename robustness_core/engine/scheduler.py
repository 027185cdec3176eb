"""What an audit searches next: a function of what is known and handed out, without clock, files, chance or torch."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from robustness_core.engine.plan import Places, Plan
from robustness_core.engine.sets import SetPlan
from robustness_core.engine.tasks import Answer, Distances, Failure, Hints, NeedsContent
from robustness_core.errors import StrataError
from robustness_core.found import Finding, Floats, Set
from robustness_core.spec import SeriesSpec

Pairs = Sequence[tuple[int, int]]  # places of a left and a right image in the sample


@dataclass(frozen=True)
class Settings:
    """The knobs of the work. Times in seconds; `batch` is that of the device (Description.batch)."""

    batch: int = 16
    block_seconds: float = 1.5
    hang_seconds: float = 600.0  # a block that takes longer is taken for hung
    tries: int = 3  # of a block, each with a smaller batch
    keep: int = 5  # collisions of the closest pairs of each series
    poll_seconds: float = 0.2
    drain_seconds: float = 5.0  # what still runs when an audit ends early gets so long before it is killed


@dataclass(frozen=True, eq=False)
class Block:
    """The unit of work: B pairs of one series, `left` and `right` (B,) the places of their images in the sample.

    `again` searches pairs once more, `gap` those drawn to measure the search gap; `collisions`: only the images of
    pairs whose distances are known; `hints`: `left` and `right` are all images of each class. `keep` and `batch` as in
    Task; `content`: the process that computes it lacks the network's file. Of kind `sets` the places are those of
    `sets`, of one size, and `left` and `right` are empty.
    """

    series: SeriesSpec
    kind: Literal["distances", "again", "gap", "collisions", "hints", "sets"]
    left: Places
    right: Places
    sets: tuple[Set, ...] = ()
    keep: int = 0
    batch: int = 0
    tries: int = 1
    content: bool = False

    def __len__(self) -> int:
        return len(self.sets) or len(self.left)


class Scheduler:
    """The series of an audit one after the other, of each the closest pairs first; every pair is handed out once.

    `apart` (L, R): bounds on the distances from the images alone, in the threat model's norm (Plan). `missing`: how
    many pairs of each series are not known. `closed_form`: layers whose distances are exact. `needed`, and `asked` and
    `drawn`, (L, R) each, as in Plan.
    Of a series the hints come first, then its distances, then pairs are searched again that lie far above the guess,
    then the search gap is measured, then sets of up to `largest_set` images are searched (SetPlan), `classes` (n,)
    being those of the images.
    """

    def __init__(
        self,
        series: Sequence[SeriesSpec],
        apart: NDArray[Any],
        missing: Mapping[SeriesSpec, int],
        settings: Settings,
        closed_form: Collection[str] = (),
        *,
        needed: bool = False,
        asked: NDArray[np.bool_] | None = None,
        drawn: NDArray[np.bool_] | None = None,
        classes: NDArray[np.intp] | None = None,
        largest_set: int = 2,
    ):
        self._waiting = deque(ordered(series))
        self._apart = apart
        self._left = dict(missing)
        self._settings = settings
        self._closed_form = closed_form
        self._needed = needed
        self._asked = np.ones(apart.shape, dtype=bool) if asked is None else asked
        self._drawn = drawn
        self._classes = np.zeros(0, dtype=np.intp) if classes is None else classes
        self._largest_set = largest_set
        self._open: dict[SeriesSpec, _Series] = {}
        self._again: deque[Block] = deque()
        self._first = True
        self.total = int(self._asked.sum()) * len(series)

    # ------------------------------------------------------------------------------------------------ what is known

    @property
    def ended(self) -> bool:
        """Every distance is known that is wanted, and every series closed."""
        return not self._waiting and not self._open

    @property
    def done(self) -> int:
        """Pairs of `total` that are known, or not wanted."""
        return self.total - sum(self._left.values())

    @property
    def left(self) -> Counter[tuple[str, int | None]]:
        """(layer, m) -> pairs that are missing, as far as they are wanted."""
        counts: Counter[tuple[str, int | None]] = Counter()
        for series, missing in self._left.items():
            counts[series.layer, series.m] += missing
        return counts

    def final_epsilon(self) -> float | None:
        """Up to this budget the curve of the series in work is final; see Plan.final_epsilon."""
        return next((one.plan.final_epsilon() for one in self._open.values() if not one.ended), None)

    # ---------------------------------------------------------------------------------------------- series by series

    @property
    def waiting(self) -> SeriesSpec | None:
        """The series to take up when `next_task` has nothing."""
        return self._waiting[0] if self._waiting else None

    def take_up(
        self, series: SeriesSpec, distance: Floats, sets: Mapping[Set, float] | None = None, *, settled: bool = False
    ) -> None:
        """Hand out pairs of the `waiting` series: of `distance` (L, R) those that are NaN by now; `sets` are known.

        `settled`: what its curve rests on is known already, of all that is wanted.
        """
        self._waiting.remove(series)
        plan = Plan(distance, self._apart, asked=self._asked, drawn=self._drawn, needed=self._needed)
        exact = series.layer in self._closed_form
        one = _Series(plan, exact, worked=exact, known_sets=sets or {})
        if self._largest_set > 2:
            one.steps.append("sets")
        missing = plan.left
        if settled and (self._needed or missing == 0):
            one.steps, one.worked, missing = [], False, 0
        elif plan.pairs <= self._settings.batch:
            one.steps = [step for step in one.steps if step in ("distances", "sets")]
        elif one.exact and not self._needed:
            one.steps.remove("hints")
        self._left[series] = missing
        self._open[series] = one
        self._advance(series)

    def complete(self, series: SeriesSpec) -> bool:
        """Whether all is known that is wanted of a series that was taken up and is not closed."""
        return series in self._open and self._open[series].ended

    def finding(self, series: SeriesSpec) -> Finding | None:
        """What the curve of a complete series rests on; None where nothing was looked at."""
        one = self._open[series]
        if not one.worked:
            return None
        finding = one.plan.finding(exact=one.exact)
        if one.sets is None:
            return finding
        budgets, losses, errors = (tuple(part.tolist()) for part in one.sets.curves())
        return replace(
            finding, largest_set=self._largest_set, sets_until=one.sets.until,
            set_budgets=budgets, set_losses=losses, set_errors=errors,
        )  # fmt: skip

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
        """The next block of the step that a series is at; None while its answers are waited for."""
        one, settings = self._open[series], self._settings
        if one.ended:
            return None
        first, self._first = self._first, False
        if first and not one.plan.finished:  # the first points of all, before anything that orders them
            return self._searched(series, "distances", one.plan.take(settings.batch))
        step = one.steps[0]
        if step == "distances":
            seconds, longest = settings.block_seconds, settings.hang_seconds / 4
            size = block_size(one.seconds_a_pair, settings.batch, seconds, longest=longest)
            places = one.plan.take(size)
            return self._searched(series, "distances", places) if len(places) else None
        if one.asked:
            return None
        if step == "sets":
            return self._next_sets(series)
        one.asked = True
        if step == "hints":
            left, right = (np.arange(count) for count in self._apart.shape)
            return Block(series, "hints", left, right)
        places = one.places
        one.out = len(places)
        blocks = [self._searched(series, step, part) for part in _parts(places, settings.batch)]
        self._again.extend(blocks[1:])
        return blocks[0]

    def _next_sets(self, series: SeriesSpec) -> Block | None:
        """The next block of sets; None while the answers of a round are waited for."""
        one = self._open[series]
        assert one.sets is not None
        by_size: dict[int, list[Set]] = {}
        for chosen in one.sets.take():
            by_size.setdefault(len(chosen), []).append(chosen)
        nowhere = np.empty(0, dtype=np.intp)
        for size, of_size in sorted(by_size.items()):
            at_once = max(1, 2 * self._settings.batch // size)
            for begin in range(0, len(of_size), at_once):
                part = tuple(of_size[begin : begin + at_once])
                self._again.append(Block(series, "sets", nowhere, nowhere, part))
        return self._again.popleft() if self._again else None

    def _searched(self, series: SeriesSpec, kind: Literal["distances", "again", "gap"], places: Places) -> Block:
        left, right = np.unravel_index(places, self._apart.shape)
        return Block(series, kind, left, right, keep=self._settings.keep if kind != "gap" else 0)

    def _places(self, block: Block) -> Places:
        places: Places = block.left * self._apart.shape[1] + block.right
        return places

    def _step(self, series: SeriesSpec) -> None:
        """A step of a series is done."""
        one = self._open[series]
        one.steps.pop(0)
        one.asked = False
        self._advance(series)

    def _advance(self, series: SeriesSpec) -> None:
        """Go to the next step of a series that has something to do; back to its distances where news opened them."""
        one = self._open[series]
        while one.steps and not one.asked and one.steps[0] != "hints":
            if not one.plan.finished:
                if one.steps[0] != "distances":
                    one.steps.insert(0, "distances")
                break
            if one.steps[0] == "sets":
                if one.sets is None:
                    plan = one.plan
                    one.sets = SetPlan(plan.graph, plan.guessed, self._classes, one.known_sets, self._largest_set)
                if not one.sets.finished:
                    break
            elif one.exact:
                one.steps = [step for step in one.steps if step == "sets"]
                continue
            elif one.steps[0] != "distances":
                one.places = one.plan.far() if one.steps[0] == "again" else one.plan.drawn()
                if len(one.places):
                    break
            del one.steps[:1]
        self._left[series] = min(self._left[series], one.plan.left) if one.steps else 0

    def on_answer(self, block: Block, answer: Answer) -> None:
        """Take in what came of a block. Raises StrataError where it cannot be had."""
        one = self._open.get(block.series)
        if one is None:
            return
        match answer:
            case NeedsContent():
                self._again.appendleft(replace(block, content=True))
            case Failure():
                self._failed(block, answer)
            case Hints():
                one.plan.hint(answer.values)
                self._step(block.series)
            case Distances() if block.kind == "collisions":
                del self._open[block.series]
            case Distances():
                self._found(one, block, answer)

    def _found(self, one: _Series, block: Block, answer: Distances) -> None:
        places, distance = self._places(block), answer.found.distance
        one.worked = True
        if block.kind == "sets":
            self._found_sets(one, block, answer.found.distance)
            return
        if block.kind == "distances":
            one.plan.done(places, distance)
            one.seconds_a_pair = answer.seconds / len(block)
            self._advance(block.series)
            return
        one.came.append((places, distance))
        self._back(block)

    def _found_sets(self, one: _Series, block: Block, distance: Floats) -> None:
        assert one.sets is not None
        one.sets.done(block.sets, distance)
        self._advance(block.series)

    def _back(self, block: Block) -> None:
        """A block of another search is back, for good or ill: once all are, what they found is taken in."""
        one = self._open[block.series]
        one.out -= len(block)
        if one.out:
            return
        if one.came:
            places, distance = (np.concatenate(parts) for parts in zip(*one.came, strict=True))
            (one.plan.looked_again if block.kind == "again" else one.plan.compared)(places, distance)
        one.came = []
        self._step(block.series)

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
            self._searched(block.series, "distances", part)
            for part in np.array_split(self._places(block), min(4, pairs))
        ]
        self._again.extendleft(replace(part, tries=block.tries + 1) for part in parts)  # at once, see what it is

    def _failed(self, block: Block, failure: Failure) -> None:
        one = self._open[block.series]
        if block.kind == "hints":
            self._step(block.series)  # they only order the pairs, and say which are not needed
        elif failure.final and block.kind == "distances":
            raise StrataError(failure.sentence)
        elif block.tries < self._settings.tries and not failure.final:
            batch = max(1, (block.batch or self._settings.batch) // 4)
            self._again.append(replace(block, batch=batch, tries=block.tries + 1))
        elif block.kind == "collisions":  # pictures, not results: the audit does without them
            del self._open[block.series]
        elif block.kind == "sets":  # the curve is a lower bound without them
            self._found_sets(one, block, np.full(len(block), np.nan))
        elif block.kind in ("again", "gap"):  # what is found stands without them
            self._back(block)
        else:
            raise StrataError(f"A block of layer {block.series.layer} failed {block.tries} times: {failure.sentence}")


def ordered(series: Sequence[SeriesSpec]) -> list[SeriesSpec]:
    """Projection by projection: the curve of every layer appears before any is refined."""
    first = min((one.seed for one in series if one.m is not None), default=0)
    return sorted(series, key=lambda one: 0 if one.m is None else one.seed - first)


@dataclass(eq=False)
class _Series:
    """A series in work: the `steps` that are left of it, the first of them under way.

    `places`: the pairs that its step searches again, or compares. `asked`: what a step needs once is handed out; `out`
    pairs of it have not come back, `came` are those that have.
    `worked`: some pair was searched, or none need be, since distances are `exact`.
    """

    plan: Plan
    exact: bool = False
    steps: list[Literal["hints", "distances", "again", "gap", "sets"]] = field(
        default_factory=lambda: ["hints", "distances", "again", "gap"]
    )
    places: Places = field(default_factory=lambda: np.empty(0, dtype=np.intp))
    asked: bool = False
    out: int = 0
    came: list[tuple[Places, Floats]] = field(default_factory=list)
    seconds_a_pair: float | None = None
    worked: bool = False
    known_sets: Mapping[Set, float] = field(default_factory=dict)
    sets: SetPlan | None = None

    @property
    def ended(self) -> bool:
        return not self.steps


def _parts(places: Places, size: int) -> list[Places]:
    return np.split(places, range(size, len(places), size))


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
