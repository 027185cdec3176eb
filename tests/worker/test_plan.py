"""The order of pairs and the size of blocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.records import ESTIMATE_FACTOR
from worker.plan import Plan, block_size


def plan(hint: list[float]) -> Plan:
    places = np.arange(len(hint))
    return Plan(places, places, np.array(hint))


def test_estimated_pairs_come_first_then_those_with_the_least_hint() -> None:
    pairs = plan([5.0, 1.0, 4.0, 2.0, 3.0])
    assert pairs.take(1).tolist() == [1]
    pairs.estimated(np.array([0, 2]), np.array([9.0, 8.0]))
    assert pairs.take(3).tolist() == [2, 0, 3]
    assert pairs.take(5).tolist() == [4]
    assert pairs.exhausted
    assert not pairs.finished
    pairs.done(np.arange(5))
    assert pairs.finished


def test_estimates_are_asked_once_and_not_of_what_is_computed() -> None:
    pairs = plan([3.0, 1.0, 2.0, 4.0])
    pairs.take(1)
    assert pairs.take_for_estimate(2).tolist() == [2, 0]
    assert pairs.take_for_estimate(5).tolist() == [3]
    assert pairs.take_for_estimate(5).tolist() == []


def test_the_final_budget_is_that_of_the_closest_missing_pair() -> None:
    pairs = plan([1.0, 2.0, 3.0])
    assert pairs.final_epsilon() is None
    pairs.estimated(np.arange(3), np.array([6.0, 4.0, 8.0]))
    assert pairs.final_epsilon() == 4.0 / ESTIMATE_FACTOR
    pairs.done(np.array([1]))
    assert pairs.final_epsilon() == 6.0 / ESTIMATE_FACTOR
    pairs.done(np.array([0, 2]))
    assert pairs.final_epsilon() is None


def test_an_empty_plan_is_finished() -> None:
    assert plan([]).finished
    assert plan([]).exhausted


@given(st.lists(st.floats(0, 10), min_size=1, max_size=40), st.lists(st.integers(1, 9), min_size=1), st.integers(0, 9))
def test_every_pair_is_taken_once(hint: list[float], sizes: list[int], estimates: int) -> None:
    pairs = plan(hint)
    taken: list[int] = []
    while not pairs.exhausted:
        places = pairs.take_for_estimate(estimates)
        pairs.estimated(places, np.asarray(hint)[places][::-1])
        size = sizes[len(taken) % len(sizes)]
        places = pairs.take(size)
        assert 1 <= len(places) <= size
        taken.extend(places.tolist())
    assert sorted(taken) == list(range(len(hint)))


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
