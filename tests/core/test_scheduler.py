"""What is searched next, with a searcher that can be computed by hand: every pair once, whatever the order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustness_core.engine.scheduler import Block, Scheduler, Settings, block_size, ordered
from robustness_core.engine.tasks import Answer, Distances, Failure, Hints, NeedsContent
from robustness_core.errors import StrataError
from robustness_core.found import Found
from robustness_core.spec import SeriesSpec

SETTINGS = Settings(batch=3, block_seconds=0.05, hang_seconds=60.0)
UNLUCKY = Failure("The computation failed: no luck.", False, "no luck")


def series(layer: str, seed: int = 0, m: int | None = 5) -> SeriesSpec:
    return SeriesSpec("a" * 64, layer, m, seed)


@dataclass
class Searcher:
    """Computes what a scheduler hands out, up to `at_once` blocks beside each other, and answers in any order.

    Of `trouble` a share of the tries ends badly: without the network's file, with a failure, or not at all.
    """

    scheduler: Scheduler
    known: dict[SeriesSpec, np.ndarray]
    true: np.ndarray
    hint: np.ndarray
    rng: np.random.Generator
    at_once: int = 1
    trouble: float = 0.0
    found: dict[SeriesSpec, list[tuple[int, int]]] = field(default_factory=dict)
    order: list[Block] = field(default_factory=list)

    def next(self) -> Block | None:
        while (block := self.scheduler.next_task()) is None and (one := self.scheduler.waiting) is not None:
            self.scheduler.take_up(one, self.known[one])
            self.close(one)
        return block

    def close(self, one: SeriesSpec) -> None:
        """As the engine does, after whatever may have ended a series."""
        if self.scheduler.complete(one):
            self.scheduler.close(one)

    def run(self) -> Iterator[Block]:
        """Each block of distances found for the first time, after its answer was taken in."""
        out: list[Block] = []
        while not self.scheduler.ended:
            while len(out) < self.at_once and (block := self.next()) is not None:
                out.append(block)
                self.order.append(block)
            if not out:
                assert self.scheduler.ended
                return
            block = out.pop(int(self.rng.integers(len(out))))
            if self.rng.random() < self.trouble and block.tries < SETTINGS.tries:
                self.go_wrong(block)
                self.close(block.series)
                continue
            answer = self.answer(block)
            self.scheduler.on_answer(block, answer)
            if block.kind != "distances":
                self.close(block.series)
            else:
                pairs = zip(block.left.tolist(), block.right.tolist(), strict=True)
                self.found.setdefault(block.series, []).extend(pairs)
                self.close(block.series)
                yield block

    def go_wrong(self, block: Block) -> None:
        kind = self.rng.integers(3)
        if kind == 0 and not block.content:
            self.scheduler.on_answer(block, NeedsContent())
        elif kind == 1:
            self.scheduler.on_hang(block)
        else:
            self.scheduler.on_answer(block, UNLUCKY)

    def answer(self, block: Block) -> Answer:
        if block.kind == "hints":
            return Hints(np.log(self.hint)[None], 0.001)
        distance = self.true[block.left, block.right] * (0.9 if block.kind in ("again", "gap") else 1.0)
        return Distances(Found(distance, 0 * distance, distance >= 0, 0 * distance), (), 0.01 * len(block))


def searcher(seed: int, shape: tuple[int, int], specs: list[SeriesSpec], **options) -> Searcher:
    rng = np.random.default_rng(seed)
    hint = rng.random(shape) + 0.1
    true = hint * rng.uniform(0.5, 3, shape)
    known = {one: np.where(rng.random(shape) < rng.choice([0.0, 0.5, 1.0]), np.nan, true) for one in specs}
    counts = {one: int(np.isnan(distance).sum()) for one, distance in known.items()}
    apart = 4 + rng.random(shape)  # bounds on all distances
    scheduler = Scheduler(specs, apart, counts, SETTINGS, closed_form=["fc1"], needed=options.pop("needed", False))
    return Searcher(scheduler, known, true, hint, rng, **options)


SPECS = [series("conv1"), series("conv1", 1), series("fc1"), series("fc1", 1), series("logits", m=None)]


@given(
    st.integers(0, 10_000),
    st.tuples(st.integers(1, 6), st.integers(1, 6)),
    st.integers(1, 4),
    st.sampled_from([0.0, 0.4]),
)
def test_every_missing_pair_is_found_once_whatever_goes_wrong_and_in_which_order(
    seed: int, shape: tuple[int, int], at_once: int, trouble: float
) -> None:
    one = searcher(seed, shape, SPECS, at_once=at_once, trouble=trouble)
    before = one.scheduler.done
    assert before == one.scheduler.total - sum(int(np.isnan(distance).sum()) for distance in one.known.values())
    for block in one.run():
        assert len(block) > 0
        before += len(block)
        assert one.scheduler.done == before
    assert one.scheduler.ended
    assert one.scheduler.done == one.scheduler.total
    assert not any(one.scheduler.left.values())
    for spec, distance in one.known.items():
        assert sorted(one.found.get(spec, [])) == [tuple(pair) for pair in np.argwhere(np.isnan(distance)).tolist()]


@given(st.integers(0, 10_000), st.integers(2, 12), st.integers(1, 4), st.sampled_from([0.0, 0.4]))
def test_every_series_comes_to_its_end_where_only_needed_pairs_are_searched(
    seed: int, size: int, at_once: int, trouble: float
) -> None:
    one = searcher(seed, (size, size), SPECS, at_once=at_once, trouble=trouble, needed=True)
    for _ in one.run():
        assert 0 <= one.scheduler.done <= one.scheduler.total
    assert one.scheduler.ended
    assert one.scheduler.done == one.scheduler.total
    for spec, found in one.found.items():
        assert len(set(found)) == len(found) <= np.isnan(one.known[spec]).sum()


@given(st.integers(0, 10_000))
def test_the_same_answers_lead_to_the_same_tasks(seed: int) -> None:
    once, again = (searcher(seed, (5, 5), SPECS, at_once=2, trouble=0.3) for _ in range(2))
    for one in (once, again):
        assert list(one.run()) or not any(np.isnan(distance).any() for distance in one.known.values())
    assert [(b.series, b.kind, b.left.tolist(), b.right.tolist(), b.batch, b.tries) for b in once.order] == [
        (b.series, b.kind, b.left.tolist(), b.right.tolist(), b.batch, b.tries) for b in again.order
    ]


def opened(size: int, settings: Settings = SETTINGS, closed_form: tuple[str, ...] = ()) -> Scheduler:
    """One series of one row of pairs, nearer ones first."""
    spec = series("conv1")
    scheduler = Scheduler([spec], np.arange(size)[None], {spec: size}, settings, closed_form)
    scheduler.take_up(spec, np.full((1, size), np.nan))
    return scheduler


def next_of(scheduler: Scheduler) -> Block:
    block = scheduler.next_task()
    assert block is not None
    return block


def test_a_block_that_fails_is_tried_again_with_a_smaller_batch_until_the_audit_fails() -> None:
    scheduler = opened(3, Settings(batch=16))
    for batch in (0, 4):
        block = next_of(scheduler)
        assert block.batch == batch
        scheduler.on_answer(block, UNLUCKY)
    block = next_of(scheduler)
    assert block.batch == 1
    with pytest.raises(StrataError, match=r"^A block of layer conv1 failed 3 times: The computation failed: no luck"):
        scheduler.on_answer(block, UNLUCKY)
    with pytest.raises(StrataError, match=r"^There is no such layer\.$"):
        scheduler.on_answer(block, Failure("There is no such layer.", True, ""))


def test_a_block_that_hangs_is_tried_again_in_parts_at_once_and_later_ones_are_smaller() -> None:
    scheduler = opened(8, Settings(batch=4, hang_seconds=60))
    scheduler.on_hang(next_of(scheduler))
    parts = [next_of(scheduler) for _ in range(4)]
    assert sorted(part.right.tolist() for part in parts) == [[0], [1], [2], [3]]
    assert len(next_of(scheduler)) == 1  # 15 seconds a pair, as long as a block may take
    scheduler.on_hang(parts[0])  # a single pair that hangs: not in parts again
    again = next_of(scheduler)
    assert (again.right.tolist(), again.batch, again.tries) == (parts[0].right.tolist(), 1, 3)


def test_hints_that_fail_only_cost_the_order() -> None:
    scheduler = opened(9)
    first, hints = next_of(scheduler), next_of(scheduler)
    assert (first.kind, hints.kind) == ("distances", "hints")
    assert scheduler.next_task() is None  # what is searched next waits for them
    scheduler.on_answer(hints, UNLUCKY)
    assert [next_of(scheduler).right.tolist() for _ in range(2)] == [[3, 4, 5], [6, 7, 8]]
    assert scheduler.next_task() is None


@pytest.mark.parametrize(("size", "closed_form"), [(3, ()), (9, ("conv1",))])
def test_hints_are_not_asked_where_there_is_nothing_to_order(size: int, closed_form: tuple[str, ...]) -> None:
    scheduler = opened(size, closed_form=closed_form)
    while (block := scheduler.next_task()) is not None:
        assert block.kind == "distances"


def test_a_series_is_closed_after_the_collisions_that_were_wanted() -> None:
    scheduler = opened(3)
    (spec,) = (series("conv1"),)
    block = next_of(scheduler)
    answer = Distances(Found(*np.ones((4, 3))), (), 0.1)
    scheduler.on_answer(block, answer)
    assert scheduler.complete(spec)
    scheduler.close(spec, [(0, 2), (0, 1)])
    wanted = next_of(scheduler)
    assert (wanted.kind, wanted.keep, wanted.right.tolist()) == ("collisions", 2, [2, 1])
    assert not scheduler.ended
    for _ in range(SETTINGS.tries):  # pictures, not results: the audit does without them
        assert not scheduler.ended
        scheduler.on_answer(wanted, UNLUCKY)
        wanted = scheduler.next_task() or wanted
    assert scheduler.ended
    assert scheduler.done == 3


def test_every_layer_comes_before_the_second_projection() -> None:
    asked = [series(layer, seed, m) for layer in ("conv1", "logits") for m, seed in ((5, 4), (5, 5), (None, 0))]
    order = [(one.layer, one.m, one.seed) for one in ordered(asked)]
    assert set(order[:4]) == {(layer, m, seed) for layer in ("conv1", "logits") for m, seed in ((5, 4), (None, 0))}
    assert order[4:] == [("conv1", 5, 5), ("logits", 5, 5)]


@pytest.mark.parametrize(
    ("seconds_a_pair", "pairs"), [(None, 16), (0.1, 16), (10.0, 16), (0.05, 32), (0.02, 80), (0.0, 1024)]
)
def test_blocks_are_whole_batches_of_the_wanted_time(seconds_a_pair: float | None, pairs: int) -> None:
    assert block_size(seconds_a_pair, 16, 1.5) == pairs


@pytest.mark.parametrize(("seconds_a_pair", "pairs"), [(None, 16), (9.0, 16), (10.0, 15), (100.0, 1), (900.0, 1)])
def test_blocks_are_smaller_than_a_batch_where_that_would_take_too_long(
    seconds_a_pair: float | None, pairs: int
) -> None:
    assert block_size(seconds_a_pair, 16, 1.5, longest=150.0) == pairs
