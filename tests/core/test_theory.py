"""Tests of the closed forms and predictions, against Monte Carlo, singular values and hand-made cases."""

import numpy as np
import pytest
from scipy.linalg import null_space
from scipy.special import digamma

from robustness_core.theory import (
    affine_distance,
    concentration_width,
    fit_exponent,
    input_space_mean,
    input_space_mean_square,
    mean_factor,
    r4,
    square_root_law,
)


def projected_distances(L: np.ndarray, z: np.ndarray, m: int, draws: int, seed: int) -> np.ndarray:
    """Distances of one difference z over random projections of the linear extractor L."""
    random = np.random.default_rng(seed)
    return np.array([affine_distance(random.standard_normal((m, len(L))) @ L, z) for _ in range(draws)])


@pytest.mark.parametrize(("rank", "scale"), [(3, 1.0), (2, 1e-12), (1, 1e12), (0, 1.0)])
def test_affine_distance_leaves_out_the_null_space(rank: int, scale: float) -> None:
    random = np.random.default_rng(rank)
    H = scale * random.standard_normal((3, rank)) @ random.standard_normal((rank, 8))
    z = random.standard_normal((5, 2, 8))
    unseen = null_space(H) if rank else np.eye(8)
    expected = np.linalg.norm(z - z @ unseen @ unseen.T, axis=-1) / 2
    np.testing.assert_allclose(affine_distance(H, z), expected, rtol=1e-9, atol=1e-15)


def test_affine_distance_is_reached_by_a_collision_and_by_none_nearer() -> None:
    """x̃ = x + δ and x̃' = x' - δ with δ = -½VVᵀ(x - x') collide; any collision's perturbations differ by VVᵀz."""
    random = np.random.default_rng(0)
    H, x, other = random.standard_normal((3, 6)), random.standard_normal(6), random.standard_normal(6)
    delta = -np.linalg.pinv(H) @ H @ (x - other) / 2
    np.testing.assert_allclose(H @ (x + delta), H @ (other - delta), rtol=1e-9)
    assert affine_distance(H, x - other) == pytest.approx(np.linalg.norm(delta), rel=1e-9)
    for _ in range(100):  # every solution of H a - H b = -H z is the least one plus null-space parts
        a = delta + null_space(H) @ random.standard_normal(3) * 0.1
        b = np.linalg.pinv(H) @ H @ (a + x - other) + null_space(H) @ random.standard_normal(3) * 0.1
        np.testing.assert_allclose(H @ (x + a), H @ (other + b), rtol=1e-9)
        assert max(np.linalg.norm(a), np.linalg.norm(b)) >= np.linalg.norm(delta) * (1 - 1e-9)


def test_affine_distance_knows_neither_scale_nor_rotation() -> None:
    random = np.random.default_rng(1)
    H, z, mix = random.standard_normal((4, 9)), random.standard_normal(9), random.standard_normal((4, 4))
    expected = affine_distance(H, z)
    for same in (7 * H, mix @ H, np.linalg.qr(H.T)[0].T, np.vstack([H, H])):
        assert affine_distance(same, z) == pytest.approx(expected, rel=1e-9)
    assert affine_distance(np.eye(9), z) == pytest.approx(np.linalg.norm(z) / 2, rel=1e-9)
    assert affine_distance(np.eye(9), np.zeros(9)) == 0


def test_the_mean_square_of_the_input_space() -> None:
    n0, m, draws = 40, 6, 4000
    z = np.random.default_rng(2).standard_normal(n0)
    squares = projected_distances(np.eye(n0), z, m, draws, seed=3) ** 2
    # five standard errors of the mean
    error = 5 * squares.std() / np.sqrt(draws)
    assert squares.mean() == pytest.approx(input_space_mean_square(np.linalg.norm(z), m, n0), abs=error)
    # and that is sharp enough to tell the paper's n0 from √n0 (its print of ‖I‖_F)
    assert error < 0.05 * squares.mean()


def test_without_dimension_reduction_the_distance_is_half_the_norm() -> None:
    np.testing.assert_allclose(input_space_mean_square([2.0, 2.0], [10, 99], 10), [1.0, 1.0])
    np.testing.assert_allclose(input_space_mean([2.0, 2.0], [10, 99], 10), [1.0, 1.0], rtol=1e-12)


@pytest.mark.parametrize("kind", ["identity", "decaying"])
def test_the_square_root_law_and_its_width(kind: str) -> None:
    n0, m, draws = 600, 8, 400
    random = np.random.default_rng(4)
    sigma = np.ones(n0) if kind == "identity" else np.linspace(1, 0.3, n0)
    L, z = np.diag(sigma), random.standard_normal(n0)
    distances = projected_distances(L, z, m, draws, seed=5)
    predicted = square_root_law(m, np.linalg.norm(L @ z), float(np.linalg.norm(L)))
    width = concentration_width(m, n0)
    # The standard error of 400 draws is 1.3 %; three of those, and m/r4 = 1 to 2 %.
    assert distances.mean() == pytest.approx(predicted * mean_factor(m), rel=0.06)
    # A standard deviation of 400 draws is known to 1/√800 = 3.5 %; three of those and the delta method's 1/(8m).
    assert distances.std() / distances.mean() == pytest.approx(width, rel=0.13)


def test_the_width_is_exact_for_squares_in_the_input_space() -> None:
    """The Beta distribution's relative deviation of d², halved."""
    n0, m = 50.0, np.array([1.0, 10.0, 49.0, 50.0, 60.0])
    beta = np.sqrt(np.maximum(2 * (n0 - m) / (m * (n0 + 2)), 0))
    np.testing.assert_allclose(concentration_width(m, n0), beta / 2, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(concentration_width(50), 0.1, rtol=1e-12)


def test_the_law_holds_well_past_the_root_of_r4() -> None:
    """r4 = 576: at m = 100, four times √r4, the law still holds; at m near r4 it predicts more than is there."""
    n0 = 784
    sigma = np.linspace(1, 0.27386, n0)
    assert r4(sigma) == pytest.approx(576, abs=1)
    L, random = np.diag(sigma), np.random.default_rng(20)
    z = sigma * random.standard_normal(n0)  # images differ where the layer sees most
    law = square_root_law([10, 100, 400], np.linalg.norm(L @ z), float(np.linalg.norm(sigma)))
    squares = [projected_distances(L, z, m, draws, seed=21) ** 2 for m, draws in ((10, 200), (100, 25), (400, 4))]
    ratios = [np.sqrt(square.mean()) / one for square, one in zip(squares, law, strict=True)]
    # Standard errors 1 / √(2 m draws): 1.6, 1.4 and 1.8 %, three of them beside what the law loses (1, 1 and 6 %).
    assert ratios == [pytest.approx(0.99, abs=0.048), pytest.approx(0.99, abs=0.042), pytest.approx(0.94, abs=0.054)]


def test_nothing_is_random_from_the_rank_on_and_something_is_at_r4() -> None:
    sigma = np.linspace(1, 0.1, 40)
    L, z = np.diag(sigma), np.random.default_rng(22).standard_normal(40)
    assert r4(sigma) < 30
    at_r4 = projected_distances(L, z, 30, 200, seed=23)
    assert at_r4.std() / at_r4.mean() == pytest.approx(concentration_width(30, 40), rel=0.4)  # an interpolation
    at_rank = projected_distances(L, z, 40, 20, seed=24)
    np.testing.assert_allclose(at_rank, np.linalg.norm(z) / 2, rtol=1e-9)
    assert concentration_width(40, 40) == 0


def test_the_factor_of_the_mean() -> None:
    """Of the root of chi-squared: at m = 1 the mean of |normal|."""
    np.testing.assert_allclose(mean_factor([1, 2]), [np.sqrt(2 / np.pi), np.sqrt(np.pi) / 2], rtol=1e-12)
    np.testing.assert_allclose(mean_factor(1e6), 1 - 1 / 4e6, rtol=1e-9)


@pytest.mark.parametrize("m", [1, 5, 29])
def test_the_mean_of_the_input_space(m: int) -> None:
    n0, draws = 30, 4000
    z = np.random.default_rng(25).standard_normal(n0)
    distances = projected_distances(np.eye(n0), z, m, draws, seed=26)
    expected = input_space_mean(np.linalg.norm(z), m, n0)
    assert distances.mean() == pytest.approx(expected, abs=5 * distances.std() / np.sqrt(draws))


def test_r4_counts_equal_directions() -> None:
    assert r4([3.0, 3.0, 3.0, 0.0]) == pytest.approx(3, rel=1e-12)
    assert r4([5.0]) == 1
    assert 1 < r4([3.0, 2.0, 1.0]) < 3
    assert r4([1e200, 1e200]) == pytest.approx(2, rel=1e-12)  # the fourth power would overflow
    L = np.random.default_rng(6).standard_normal((5, 7))
    gram = L @ L.T
    assert r4(np.linalg.svd(L)[1]) == pytest.approx(np.trace(gram) ** 2 / np.trace(gram @ gram), rel=1e-9)


def test_fit_finds_an_exact_power() -> None:
    m = np.array([1, 2, 5, 10, 20])
    power = 3 * mean_factor(m) * m**0.4
    fit = fit_exponent(m, power)
    assert (fit.exponent, fit.scale) == (pytest.approx(0.4, rel=1e-9), pytest.approx(3, rel=1e-9))
    assert np.isnan([fit.low, fit.high]).all()  # one projection says nothing of others
    two = fit_exponent(m, np.stack([power, 2 * power], axis=1))
    assert (two.low, two.high) == (pytest.approx(0.4, rel=1e-9), pytest.approx(0.4, rel=1e-9))


def test_small_m_are_left_out_of_a_fit_where_the_others_suffice() -> None:
    m = np.array([1, 2, 5, 10, 20])
    bent = mean_factor(m) * np.where(m < 5, 9.0, np.sqrt(m))
    fit = fit_exponent(m, bent)
    assert (fit.exponent, fit.m) == (pytest.approx(0.5, rel=1e-9), (5, 10, 20))
    assert fit_exponent(m[:4], bent[:4]).m == (1, 2, 5, 10)  # two distances from m = 5 on are too few
    assert fit_exponent(m[:4], np.stack([bent[:4], bent[:4]], axis=1)).m == (5, 10)


@pytest.mark.parametrize("N", [3, 5, 10])
@pytest.mark.parametrize("of", ["one pair", "the mean over pairs"])
def test_the_interval_holds_one_half_as_often_as_it_says(N: int, of: str) -> None:
    """Projections nested over m, as the audits draw them, of an input space that is large beside m.

    There 4d² is proportional to the sum of the squares of the products of m rows of A with x - x'. The differences of a
    sample share directions, here 40 of them 8. (With the frames of 784 pixels and real digits: see `fit_exponent`.)
    """
    random = np.random.default_rng(11)
    m, trials = np.array([1, 2, 5, 10, 20, 50]), 1000
    differences = random.standard_normal((1 if of == "one pair" else 40, 8)) * np.linspace(1, 0.2, 8)
    covered = 0
    for _ in range(trials):
        squares = (random.standard_normal((N, m[-1], 8)) @ differences.T) ** 2  # (N, rows, pairs)
        means = np.sqrt(np.cumsum(squares, axis=1)[:, m - 1]).mean(axis=2)
        fit = fit_exponent(m, means.T)
        covered += fit.low <= 0.5 <= fit.high
    # 92 to 97 % are wanted of 95; the standard error of 1,000 audits is 0.7 %.
    assert 0.92 <= covered / trials <= 0.97


def test_the_interval_of_the_exponent_covers_as_often_as_it_says() -> None:
    random = np.random.default_rng(7)
    m, trials = np.array([5, 10, 20, 40]), 2000
    law = mean_factor(m) * np.sqrt(m)
    fits = [
        fit_exponent(m, law[:, None] * np.exp(0.2 * random.standard_normal((4, 3))), confidence=0.8)
        for _ in range(trials)
    ]
    covered = np.mean([fit.low <= 0.5 <= fit.high for fit in fits])
    assert covered == pytest.approx(0.8, abs=5 * np.sqrt(0.8 * 0.2 / trials))  # five standard errors: 4.5 %


def test_single_draws_bend_the_law_and_the_fit_undoes_most_of_it() -> None:
    """4d²/‖z‖² is Beta(m/2, (n0-m)/2), so E log d = ½ψ(m/2) + constant: slope 0.62 over m = 2, 4, 8, 16."""
    m = np.array([2, 4, 8, 16])
    slope = np.polyfit(np.log(m), digamma(m / 2) / 2, 1)[0]
    assert slope == pytest.approx(0.62, abs=0.005)
    z = np.random.default_rng(8).standard_normal(200)
    distances = np.array([projected_distances(np.eye(200), z, rows, 200, seed=9 + rows) for rows in m])
    plain = np.polyfit(np.log(m), np.log(distances).mean(axis=1), 1)[0]
    assert plain == pytest.approx(slope, abs=0.07)  # four standard errors of 800 draws
    large = m >= 5
    mean_of_logs = digamma(m / 2) / 2 - np.log(mean_factor(m))
    expected = np.polyfit(np.log(m[large]), mean_of_logs[large], 1)[0]
    assert fit_exponent(m, distances).exponent == pytest.approx(expected, abs=0.1)  # two m: a standard error of 0.03
    assert expected < plain - 0.05


def test_input_that_has_no_answer_is_refused() -> None:
    with pytest.raises(ValueError, match="does not apply"):
        affine_distance(np.eye(3), np.zeros(4))
    with pytest.raises(ValueError, match="Frobenius"):
        square_root_law(3, 1.0, 0.0)
    for sigma in ([], [0.0, 0.0], [np.inf], [np.nan]):
        with pytest.raises(ValueError, match="singular values"):
            r4(sigma)
    for m, distances in (([1, 2], [1.0, 2.0]), ([2, 2, 2], [1.0, 1.0, 1.0]), ([1, 2, 3], [1.0, 0.0, 1.0])):
        with pytest.raises(ValueError, match="three or more positive"):
            fit_exponent(m, distances)
    with pytest.raises(ValueError, match="one row of distances"):
        fit_exponent([1, 2, 3], [1.0, 2.0])
