"""Which pairs are searched: the curve of those is that of all, as far as the guess holds; and what a guess is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from robustness_core.engine.guess import UNFITTED, fit
from robustness_core.engine.plan import FAR, GAP_PAIRS, Plan
from robustness_core.found import Finding
from robustness_core.optimal_loss import loss_curve, optimal_loss, stakes

Floats = NDArray[np.float64]
BUDGETS = np.linspace(0, 4, 81)


def made(seed: int, shape: tuple[int, int], noise: float = 0.05) -> tuple[Floats, Floats, Floats]:
    """Distances with effects of rows and columns, the images' bounds, and a hint that is off by `noise`."""
    rng = np.random.default_rng(seed)
    L, R = shape
    true = np.exp(rng.normal(0, 0.15, (L, 1)) + rng.normal(0, 0.15, (1, R)) + rng.normal(0, 0.1, shape))
    hint = np.log(true) + rng.normal(0, noise, shape) if noise else np.log(true)
    return true, 2 * true.max() + 0 * true, hint[None]


def work(plan: Plan, true: Floats, block: int = 16) -> int:
    """Search what the plan hands out; how many pairs that were."""
    count = 0
    while not plan.finished:
        places = plan.take(block)
        plan.done(places, true.ravel()[places])
        count += len(places)
    return count


# --------------------------------------------------------------------------------------------------------- the stakes


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_a_pair_without_a_stake_changes_no_loss_whatever_its_distance(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    distance = rng.integers(1, 6, (5, 6)).astype(float)
    distance[rng.random(distance.shape) < share] = np.nan
    budgets = np.arange(7.0)
    at_stake = stakes(distance, budgets, lambda epsilon, rows, columns: np.ones(len(rows)))
    assert (at_stake[~np.isnan(distance)] == 0).all()
    before = loss_curve(distance, budgets)
    for row, column in np.argwhere(np.isnan(distance) & (at_stake == 0)):
        nearer = distance.copy()
        nearer[row, column] = 0.0
        np.testing.assert_allclose(loss_curve(nearer, budgets), before, atol=1e-12)


def test_a_stake_is_what_both_images_exceed_one_by_times_the_chance() -> None:
    """Two pairs alone meet at 1: with both edges known every q is ½; without the second its images keep q = 1."""
    distance = np.array([[1.0, np.inf], [np.inf, np.nan]])
    assert optimal_loss(distance <= 1).left.tolist() == [0.5, 1.0]
    at_stake = stakes(distance, [1.0, 2.0], lambda epsilon, rows, columns: np.full(len(rows), epsilon / 4))
    assert at_stake.tolist() == [[0.0, 0.0], [0.0, 0.5]]  # (1 + 1 - 1) * 2 / 4


# ----------------------------------------------------------------------------------------------------------- the plan


@given(st.integers(0, 10_000), st.tuples(st.integers(1, 9), st.integers(1, 9)), st.integers(1, 9), st.booleans())
def test_every_pair_is_taken_once_where_all_are_wanted(
    seed: int, shape: tuple[int, int], block: int, hinted: bool
) -> None:
    true, apart, hints = made(seed, shape)
    plan, taken = Plan(np.full(shape, np.nan), apart), []
    while not plan.finished:
        places = plan.take(block)
        assert 1 <= len(places) <= block
        taken += places.tolist()
        plan.done(places, true.ravel()[places])
        if hinted and not plan.hinted:
            plan.hint(hints)
    assert sorted(taken) == list(range(true.size))
    assert plan.left == 0


@settings(max_examples=12)
@given(st.integers(0, 10_000), st.booleans())
def test_the_curve_rises_to_that_of_all_pairs_and_never_above_it(seed: int, needed: bool) -> None:
    true, apart, hints = made(seed, (12, 12))
    full, before = loss_curve(true, BUDGETS), np.zeros(len(BUDGETS))
    plan = Plan(np.full(true.shape, np.nan), apart, needed=needed)
    plan.hint(hints)
    known = np.full(true.shape, np.nan)
    while not plan.finished:
        places = plan.take(10)
        known.ravel()[places] = true.ravel()[places]
        plan.done(places, true.ravel()[places])
        now = loss_curve(known, BUDGETS)
        assert (now >= before - 1e-12).all()
        assert (now <= full + 1e-12).all()
        before = now
    if not needed:
        np.testing.assert_array_equal(before, full)


@pytest.mark.parametrize("seed", range(5))
def test_with_hints_that_hold_the_needed_pairs_give_the_curve_of_all(seed: int) -> None:
    true, apart, hints = made(seed, (40, 40), noise=0.0)
    plan = Plan(np.full(true.shape, np.nan), apart, needed=True)
    plan.hint(hints)
    searched = work(plan, true)
    finding = plan.finding()
    assert searched == finding.searched < 0.5 * true.size
    known = np.where(plan.known, true, np.nan)
    np.testing.assert_allclose(loss_curve(known, BUDGETS), loss_curve(true, BUDGETS), atol=0.005)
    optimistic = np.interp(BUDGETS, finding.budgets, finding.optimistic)
    assert (optimistic >= loss_curve(known, BUDGETS) - 0.05).all()


def test_with_noise_about_the_hints_the_curve_stays_near_that_of_all() -> None:
    worst, shares = 0.0, []
    for seed in range(2):
        true, apart, hints = made(seed, (60, 60), noise=0.05)
        plan = Plan(np.full(true.shape, np.nan), apart, needed=True)
        plan.hint(hints)
        shares.append(work(plan, true, block=36) / true.size)
        known = np.where(plan.known, true, np.nan)
        worst = max(worst, float((loss_curve(true, BUDGETS) - loss_curve(known, BUDGETS)).max()))
        assert plan.finding().deviation == pytest.approx(0.05, rel=0.35)
    assert worst < 0.01
    assert np.mean(shares) < 0.5


def test_without_hints_every_pair_is_needed() -> None:
    true, apart, _ = made(0, (6, 7))
    assert work(Plan(np.full(true.shape, np.nan), apart, needed=True), true) == 42


def test_pairs_far_above_the_guess_are_searched_again_once_and_the_nearer_distance_counts() -> None:
    true, apart, hints = made(3, (20, 20), noise=0.02)
    found = true.copy()
    found[4, 7] *= 1.5
    plan = Plan(np.full(true.shape, np.nan), apart)
    plan.hint(hints)
    work(plan, found)
    far = plan.far()
    assert 4 * 20 + 7 in far.tolist()
    assert len(far) <= 6
    guess = fit(np.concatenate([hints, np.log(apart)[None]]), found)
    assert (guess.above(found).ravel()[far] > FAR).all()
    plan.looked_again(far, true.ravel()[far])
    assert not set(plan.far().tolist()) & set(far.tolist())
    finding = plan.finding()
    assert (finding.again >= len(far), finding.nearer) == (True, 1)


def test_the_gap_is_that_of_the_pairs_drawn() -> None:
    true, apart, _ = made(0, (50, 50))
    plan = Plan(true, apart)
    drawn = plan.drawn()
    assert len(set(drawn.tolist())) == GAP_PAIRS
    plan.compared(drawn, true.ravel()[drawn] / np.linspace(0.9, 1.1, GAP_PAIRS))
    gap = plan.finding().gap
    ratios = np.maximum(np.linspace(0.9, 1.1, GAP_PAIRS), 1)
    assert gap is not None
    assert (gap.pairs, gap.mean, gap.q90) == pytest.approx((GAP_PAIRS, ratios.mean(), np.quantile(ratios, 0.9)))
    exact = plan.finding(exact=True).gap
    assert exact is not None
    assert (exact.mean, exact.q90) == (1.0, 1.0)


def test_a_finding_comes_back_from_its_json() -> None:
    true, apart, hints = made(1, (40, 40))
    plan = Plan(np.full(true.shape, np.nan), apart, needed=True)
    plan.hint(hints)
    work(plan, true)
    plan.compared(plan.drawn(), true.ravel()[plan.drawn()])
    finding = plan.finding()
    assert Finding.from_json(finding.to_json()) == finding
    assert finding.left_out == finding.pairs - finding.searched > 0


def test_up_to_the_final_budget_no_pair_that_is_wanted_adds_an_edge() -> None:
    true, apart, hints = made(2, (15, 15), noise=0.0)
    plan = Plan(np.full(true.shape, np.nan), apart)
    assert plan.final_epsilon() is None
    plan.hint(hints)
    while not plan.finished:
        places = plan.take(30)
        plan.done(places, true.ravel()[places])
        final = plan.final_epsilon()
        assert (final is None) == plan.known.all()
        assert final is None or true[~plan.known].min() >= final


# ---------------------------------------------------------------------------------------------------------- the guess


def test_a_guess_without_distances_is_the_first_hint() -> None:
    _, _, hints = made(0, (3, 4))
    guess = fit(hints, np.full((3, 4), np.nan))
    np.testing.assert_array_equal(guess.mean, hints[0])
    assert guess.deviation == UNFITTED


def test_a_guess_finds_slopes_and_effects_of_rows_and_columns() -> None:
    rng = np.random.default_rng(0)
    hints = rng.normal(size=(2, 40, 50))
    mean = 0.3 + 0.8 * hints[0] - 0.2 * hints[1] + rng.normal(0, 0.3, (40, 1)) + rng.normal(0, 0.3, 50)
    log = mean + rng.normal(0, 0.05, mean.shape)
    found = np.where(rng.random(log.shape) < 0.6, np.exp(log), np.nan)
    guess = fit(hints, found)
    assert guess.deviation == pytest.approx(0.05, rel=0.2)
    unknown = np.isnan(found)
    assert np.std((guess.mean - log)[unknown]) == pytest.approx(0.05, rel=0.3)
    inside = (np.abs(guess.mean - log) < 2 * guess.deviation)[unknown].mean()
    assert 0.9 < inside < 0.98  # 95.4 % of a normal distribution


def test_a_chance_is_that_of_the_normal_distribution() -> None:
    guess = fit(np.zeros((1, 2, 2)), np.full((2, 2), np.nan))
    every = np.arange(2)
    assert guess.chance(1.0, every, every).tolist() == [0.5, 0.5]
    assert guess.chance(np.exp(UNFITTED), every, every) == pytest.approx([0.841345, 0.841345], abs=1e-6)
    assert guess.chance(0.0, every, every).tolist() == [0.0, 0.0]
