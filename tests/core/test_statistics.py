"""How sure a number is: ε½ against brute force, intervals against closed forms and against how often they hold."""

import math

import numpy as np
import pytest
from scipy import stats

from robustness_core.optimal_loss import optimal_loss
from robustness_core.optimal_loss.conflict_graph import input_distances
from robustness_core.optimal_loss.statistics import (
    GROUPS,
    HALF,
    LeftOut,
    half_budget,
    half_budget_over_images,
    mean_without_one,
    over_images,
    paired,
    student,
    without_one,
)


def clouds(rng: np.random.Generator, size: int = 20, dimension: int = 10) -> np.ndarray:
    """Distances of two classes of points that overlap a little."""
    left, right = rng.normal(size=(2, size, dimension))
    right[:, 0] += 3.0
    return input_distances(left, right)


@pytest.mark.parametrize("seed", range(10))
def test_half_budget_is_the_first_distance_at_which_the_reference_solver_reaches_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    distances = rng.uniform(0, 5, (5, 6))
    distances[rng.random((5, 6)) < 0.2] = np.nan
    budgets = np.unique(distances[np.isfinite(distances)])
    losses = [optimal_loss(distances <= budget, method="cvxpy").cross_entropy for budget in budgets]
    reached = [budget for budget, loss in zip(budgets, losses, strict=True) if loss >= HALF - 1e-6]
    assert half_budget(distances) == (reached[0] if reached else math.inf)


def test_half_budget_counts_sets_of_three_images() -> None:
    distances = np.full((9, 9), np.nan)  # of three classes, image 0 of each at the corners of a triangle
    distances[np.ix_([0, 3, 6], [0, 3, 6])] = np.where(np.eye(3) == 1, np.nan, 2.0)
    assert half_budget(distances) == math.inf  # 3 of 9 images, each at log 2
    assert half_budget(distances, {(0, 3, 6): 2.5}) == 2.5  # each at log 3
    assert half_budget(distances, {(0, 3, 6): 2.5}, level=math.log(2) / 3) == 2.0


def test_half_budget_of_a_matching_is_where_half_of_it_is_there() -> None:
    """Each of the S edges of a matching takes log 2 of both its images: the loss is log 2 times their share."""
    distances = np.full((4, 4), np.nan)
    np.fill_diagonal(distances, [3.0, 1.0, 4.0, 2.0])
    assert half_budget(distances) == 2.0
    assert half_budget(distances, level=math.log(2)) == 4.0
    assert half_budget(distances, level=0.0) == 0.0
    np.fill_diagonal(distances, [3.0, np.nan, np.nan, np.nan])
    assert half_budget(distances) == math.inf


def test_half_budget_grows_with_the_distances_and_with_what_is_unknown() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        distances = clouds(rng, 8)
        value = half_budget(distances)
        assert half_budget(distances * 2.5) == 2.5 * value
        assert half_budget(distances + rng.uniform(0, 1, distances.shape)) >= value
        assert half_budget(np.where(rng.random(distances.shape) < 0.3, np.nan, distances)) >= value


def test_student_is_scipys() -> None:
    values = np.random.default_rng(0).normal(size=7)
    found = student(values)
    low, high = stats.t.interval(0.95, 6, values.mean(), stats.sem(values))
    np.testing.assert_allclose([found.low, found.high], [low, high], rtol=1e-9)
    for_three = student(values, comparisons=3)
    low, high = stats.t.interval(1 - 0.05 / 3, 6, values.mean(), stats.sem(values))
    np.testing.assert_allclose([for_three.low, for_three.high], [low, high], rtol=1e-9)


def test_there_is_no_interval_of_one_value_or_of_an_infinite_one() -> None:
    one = student([2.0])
    assert (one.value, one.known, one.decided, one.count) == (2.0, False, False, 1)
    assert student([1.0, math.inf]).value == math.inf
    assert not student([1.0, math.inf]).known
    assert not paired([1.0, math.inf], [2.0, math.inf]).known
    with pytest.raises(ValueError, match="one or more numbers"):
        student([])
    with pytest.raises(ValueError, match="of one length"):
        paired([1.0, 2.0], [1.0, 2.0, 3.0])


def test_paired_changes_are_decided_where_their_scatter_is_shared() -> None:
    """Both layers scatter by 1 with the seed; the change of 0.5 between them hardly does."""
    rng = np.random.default_rng(0)
    before = rng.normal(size=6)
    after = before + 0.5 + rng.normal(scale=0.05, size=6)
    assert paired(before, after).decided
    assert paired(after, before).high < 0
    apart = stats.ttest_ind(before, after).pvalue
    assert apart > 0.05  # not seen by who forgets the pairing


def test_a_number_that_is_the_same_for_every_seed_is_paired_with_each() -> None:
    values = np.random.default_rng(0).normal(size=5)
    assert paired([0.5], values) == student(values - 0.5)
    assert paired(values, [0.5]) == student(0.5 - values)
    with pytest.raises(ValueError, match="one length"):
        paired(values, values[:2])


def test_leaving_out_one_image_is_what_the_rest_gives() -> None:
    distances = clouds(np.random.default_rng(1), 7)
    for budget in (0.5, 1.5, 3.0):
        for name in ("cross_entropy", "zero_one"):
            found = without_one(distances, budget, zero_one=name == "zero_one")
            rest = [getattr(optimal_loss(np.delete(distances, i, 0) <= budget), name) for i in range(7)]
            np.testing.assert_allclose(found.left, rest, rtol=1e-9)
            rest = [getattr(optimal_loss(np.delete(distances, i, 1) <= budget), name) for i in range(7)]
            np.testing.assert_allclose(found.right, rest, rtol=1e-9)


def test_the_jackknife_of_a_mean_is_the_standard_error_of_two_classes() -> None:
    rng = np.random.default_rng(2)
    left, right = rng.normal(size=(2, 20))
    found = over_images(mean_without_one(left, right))
    error = math.sqrt(left.var(ddof=1) + right.var(ddof=1)) / math.sqrt(20) / 2
    half = stats.t.ppf(0.975, 19) * error
    # Without an image the mean is over 39, not 40: both differ from the textbook by these factors and nothing else.
    assert found.value == pytest.approx((left.mean() + right.mean()) / 2, rel=1e-12)
    assert found.high - found.value == pytest.approx(half * 40 / 39 * 19 / 20, rel=1e-9)


def test_of_many_images_parts_are_left_out_and_the_interval_is_as_wide() -> None:
    left, right = np.random.default_rng(6).normal(size=(2, 500))
    found = mean_without_one(left, right)
    assert len(found.left) == len(found.right) == GROUPS
    interval = over_images(found)
    error = math.sqrt(left.var(ddof=1) + right.var(ddof=1)) / math.sqrt(500) / 2
    assert (interval.high - interval.value) / error == pytest.approx(
        2.06, rel=0.4
    )  # Student's; 48 parts scatter by 10 %
    distances = clouds(np.random.default_rng(7), 60)
    assert without_one(distances, 1.8).left.shape == (GROUPS,)


def test_of_one_image_a_class_there_is_no_interval() -> None:
    assert not over_images(without_one([[1.0]], 2.0)).known
    assert not half_budget_over_images([[1.0]]).known
    assert half_budget_over_images([[1.0]]).value == 1.0
    assert not half_budget_over_images([[np.nan, np.nan]]).known


def test_a_difference_on_the_same_images_is_taken_image_by_image() -> None:
    distances = clouds(np.random.default_rng(3), 12)
    near, far = without_one(distances, 2.0), without_one(distances * 1.02, 2.0)
    assert over_images(near - far).value == pytest.approx(near.value - far.value)
    assert over_images(near - near).decided is False
    width = over_images(near - far)
    alone = over_images(near)
    assert width.high - width.low < alone.high - alone.low
    assert isinstance(near - far, LeftOut)


@pytest.mark.parametrize(("dimension", "budget"), [(2, 0.9), (10, 1.8)])
def test_intervals_over_images_hold_about_as_often_as_they_say(dimension: int, budget: float) -> None:
    """Of 95 % intervals from 60 samples at least 87 % hold the mean over samples (3 standard errors below 95 %)."""
    rng = np.random.default_rng(4)
    samples = [clouds(rng, 12, dimension) for _ in range(60)]
    loss = [over_images(without_one(sample, budget)) for sample in samples]
    half = [half_budget_over_images(sample) for sample in samples]
    for intervals in (loss, half):
        mean = np.mean([interval.value for interval in intervals])
        assert np.mean([interval.low <= mean <= interval.high for interval in intervals]) >= 0.87


def test_students_interval_holds_as_often_as_it_says() -> None:
    """ε½ over random directions of fixed images, N = 5: of 80 intervals at least 88 % hold (3 standard errors)."""
    rng = np.random.default_rng(5)
    left, right = rng.normal(size=(2, 6, 12))
    right[:, 0] += 3.0

    def drawn(count: int) -> list[float]:
        bases = [np.linalg.qr(rng.normal(size=(12, 3)))[0] for _ in range(count)]
        return [half_budget(input_distances(left @ basis, right @ basis)) for basis in bases]

    mean = np.mean(drawn(400))
    held = [student(drawn(5)) for _ in range(80)]
    assert np.mean([interval.low <= mean <= interval.high for interval in held]) >= 0.88
