"""Tests of the optimal loss: hand-solved graphs, a second solver, matchings and properties of the optimum."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import isotonic_regression
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from robustness_core.optimal_loss import error_curve, loss_curve, loss_steps, optimal_loss
from robustness_core.optimal_loss.conflict_graph import input_distances

LOG2 = float(np.log(2))


def random_graph(seed: int, rows: int, columns: int, density: float) -> np.ndarray:
    return np.random.default_rng(seed).random((rows, columns)) < density


graphs = st.builds(random_graph, st.integers(0, 2**31), st.integers(1, 12), st.integers(1, 12), st.floats(0, 1))


def geometric_distances(seed: int, rows: int, columns: int) -> np.ndarray:
    """Distances of two clouds that overlap, with some images nearer to everything than others."""
    random = np.random.default_rng(seed)
    distances = input_distances(random.random((rows, 6)), random.random((columns, 6)) + 0.2)
    noise = np.exp(0.3 * random.standard_normal((rows, 1))) * np.exp(0.3 * random.standard_normal((1, columns)))
    return distances * noise


HAND_SOLVED = {
    # name: (conflicts, cross-entropy, 0-1 loss, left q, right q)
    "K1,1": ([[1]], LOG2, 1 / 2, [1 / 2], [1 / 2]),
    "K1,2": ([[1, 1]], (np.log(3) + 2 * np.log(3 / 2)) / 3, 1 / 3, [1 / 3], [2 / 3, 2 / 3]),
    "star K1,9": ([[1] * 9], (np.log(10) + 9 * np.log(10 / 9)) / 10, 1 / 10, [1 / 10], [9 / 10] * 9),
    "complete K3,3": (np.ones((3, 3)), LOG2, 1 / 2, [1 / 2] * 3, [1 / 2] * 3),
    "empty": (np.zeros((2, 3)), 0.0, 0.0, [1, 1], [1, 1, 1]),
    # The path r0 - l0 - r1 - l1 has a perfect matching, so nothing beats 1/2 everywhere.
    "path of 4": ([[1, 1], [0, 1]], LOG2, 1 / 2, [1 / 2, 1 / 2], [1 / 2, 1 / 2]),
    # The path l0 - r0 - l1 - r1 - l2: the two in the right class are outnumbered by three.
    "path of 5": (
        [[1, 0], [1, 1], [0, 1]],
        (3 * np.log(5 / 3) + 2 * np.log(5 / 2)) / 5,
        2 / 5,
        [3 / 5] * 3,
        [2 / 5] * 2,
    ),
    # An edge, a star and a vertex without conflicts do not know of each other.
    "three components": (
        [[1, 0, 0, 0], [0, 1, 1, 0]],
        (2 * LOG2 + np.log(3) + 2 * np.log(3 / 2)) / 6,
        2 / 6,
        [1 / 2, 1 / 3],
        [1 / 2, 2 / 3, 2 / 3, 1],
    ),
    # K1,3 and K1,1 joined by an edge from the vertex with q = 1/4 to one with q = 1/2: there was room for it.
    "edge without effect": (
        [[1, 1, 1, 1], [0, 0, 0, 1]],
        (np.log(4) + 3 * np.log(4 / 3) + 2 * LOG2) / 6,
        2 / 6,
        [1 / 4, 1 / 2],
        [3 / 4, 3 / 4, 3 / 4, 1 / 2],
    ),
}


@pytest.mark.parametrize("method", ["flow", "cvxpy"])
@pytest.mark.parametrize("name", HAND_SOLVED)
def test_hand_solved_graphs(name: str, method: str) -> None:
    conflicts, cross_entropy, zero_one, left, right = HAND_SOLVED[name]
    result = optimal_loss(np.array(conflicts, dtype=bool), method=method)  # type: ignore[arg-type]
    tolerance = 1e-12 if method == "flow" else 1e-6  # Clarabel stops at a gap of 1e-8; q is less exact than the loss
    assert result.cross_entropy == pytest.approx(cross_entropy, abs=tolerance)
    assert result.zero_one == pytest.approx(zero_one, abs=tolerance)
    np.testing.assert_allclose(result.left, left, atol=max(tolerance, 1e-4 * (method == "cvxpy")))
    np.testing.assert_allclose(result.right, right, atol=max(tolerance, 1e-4 * (method == "cvxpy")))
    assert abs(result.gap) < tolerance
    assert result.violation <= tolerance


@settings(max_examples=60)
@given(graphs)
def test_flow_agrees_with_the_convex_program(conflicts: np.ndarray) -> None:
    flow, program = optimal_loss(conflicts), optimal_loss(conflicts, method="cvxpy")
    assert flow.cross_entropy == pytest.approx(program.cross_entropy, abs=1e-6)
    assert flow.zero_one == pytest.approx(program.zero_one, abs=1e-6)


positive = st.floats(0.05, 20)


@settings(max_examples=40)
@given(graphs, st.data())
def test_flow_agrees_with_the_convex_program_for_weights(conflicts: np.ndarray, data: st.DataObject) -> None:
    rows, columns = conflicts.shape
    weights = (
        data.draw(st.lists(positive, min_size=rows, max_size=rows)),
        data.draw(st.lists(positive, min_size=columns, max_size=columns)),
    )
    flow, program = optimal_loss(conflicts, weights=weights), optimal_loss(conflicts, weights=weights, method="cvxpy")
    assert flow.cross_entropy == pytest.approx(program.cross_entropy, abs=1e-6)
    assert flow.zero_one == pytest.approx(program.zero_one, abs=1e-6)
    assert abs(flow.gap) < 1e-9
    assert flow.violation < 1e-9


@settings(max_examples=60)
@given(st.integers(0, 2**31), st.integers(1, 60), st.integers(1, 60), st.floats(0, 1))
def test_the_certificate_holds_on_geometric_graphs(seed: int, rows: int, columns: int, quantile: float) -> None:
    distances = geometric_distances(seed, rows, columns)
    conflicts = distances <= np.quantile(distances, quantile)
    result = optimal_loss(conflicts)
    assert abs(result.gap) < 1e-12
    assert result.violation < 1e-12
    # The certificate is recomputed here from nothing but q: feasible ...
    assert (result.left[:, None] + result.right)[conflicts].max(initial=0) < 1 + 1e-12
    # ... and the matching number is the least 0-1 loss (Bhagoji et al. 2019).
    matched = (maximum_bipartite_matching(csr_array(conflicts.astype(np.int8))) >= 0).sum()
    assert result.zero_one == pytest.approx(matched / (rows + columns), abs=1e-12)


def test_a_bad_solution_has_a_gap() -> None:
    """The certificate can fail: Clarabel's multipliers of another graph prove nothing about this one."""
    from robustness_core.optimal_loss.solve import _result

    graph = np.ones((2, 2), dtype=bool)
    ones, half = np.ones(2), np.full(2, 0.5)
    assert _result(graph, (ones, ones), (half, half), (0 * ones, 0 * ones), 0.5).gap == pytest.approx(LOG2)
    assert _result(graph, (ones, ones), (ones, half), (2 * ones, 2 * ones), 0.5).violation == pytest.approx(0.5)


@settings(max_examples=40)
@given(graphs, st.integers(0, 2**31))
def test_one_q_minimises_the_brier_loss_too(conflicts: np.ndarray, seed: int) -> None:
    """Isotonic regression: no feasible direction improves Σ (1 - q)² either, in q's own dual certificate."""
    import cvxpy as cp

    result = optimal_loss(conflicts)
    left, right = cp.Variable(conflicts.shape[0]), cp.Variable(conflicts.shape[1])
    u, v = np.nonzero(conflicts)
    limits = [left >= 0, left <= 1, right >= 0, right <= 1] + ([left[u] + right[v] <= 1] if len(u) else [])
    brier = cp.Problem(cp.Minimize(cp.sum_squares(1 - left) + cp.sum_squares(1 - right)), limits)
    least = brier.solve(solver=cp.CLARABEL)
    own = ((1 - result.left) ** 2).sum() + ((1 - result.right) ** 2).sum()
    assert own == pytest.approx(least, abs=1e-6)


@settings(max_examples=30)
@given(st.integers(0, 2**31), st.integers(1, 30))
def test_on_a_line_it_is_pool_adjacent_violators(seed: int, size: int) -> None:
    """Thresholds of one coordinate give a chain order: then scipy's isotonic regression is the answer."""
    random = np.random.default_rng(seed)
    place = random.permutation(size)
    side = random.integers(2, size=size).astype(bool)
    if side.all() or not side.any():
        return
    # left u before right v on the line: conflict. So q_u <= t_v there, and left: target 1, right: target 0.
    conflicts = place[side][:, None] < place[~side]
    order = np.argsort(place)
    fit = isotonic_regression(side[order].astype(float)).x
    value = np.empty(size)
    value[order] = fit
    result = optimal_loss(conflicts)
    np.testing.assert_allclose(result.left, value[side], atol=1e-12)
    np.testing.assert_allclose(1 - result.right, value[~side], atol=1e-12)


@settings(max_examples=30)
@given(graphs, st.integers(0, 2**31))
def test_the_order_and_the_side_of_the_images_do_not_matter(conflicts: np.ndarray, seed: int) -> None:
    random = np.random.default_rng(seed)
    rows, columns = random.permutation(conflicts.shape[0]), random.permutation(conflicts.shape[1])
    plain, shuffled = optimal_loss(conflicts), optimal_loss(conflicts[np.ix_(rows, columns)])
    np.testing.assert_allclose(shuffled.left, plain.left[rows], atol=1e-12)
    np.testing.assert_allclose(shuffled.right, plain.right[columns], atol=1e-12)
    assert optimal_loss(conflicts.T).cross_entropy == pytest.approx(plain.cross_entropy, abs=1e-12)


@settings(max_examples=30)
@given(graphs, st.data())
def test_a_whole_weight_is_that_many_copies(conflicts: np.ndarray, data: st.DataObject) -> None:
    rows, columns = conflicts.shape
    left = data.draw(st.lists(st.integers(1, 3), min_size=rows, max_size=rows))
    right = data.draw(st.lists(st.integers(1, 3), min_size=columns, max_size=columns))
    copies = np.repeat(np.repeat(conflicts, left, axis=0), right, axis=1)
    weighted, copied = optimal_loss(conflicts, weights=(left, right)), optimal_loss(copies)
    assert weighted.cross_entropy == pytest.approx(copied.cross_entropy, abs=1e-12)
    assert weighted.zero_one == pytest.approx(copied.zero_one, abs=1e-12)
    # and a common factor changes nothing, not even one that leaves the whole numbers
    scaled = optimal_loss(conflicts, weights=(np.pi * np.array(left), np.pi * np.array(right)))
    assert scaled.cross_entropy == pytest.approx(copied.cross_entropy, abs=1e-9)


def test_class_weights_move_the_limit() -> None:
    """All in conflict with priors 1/4 and 3/4: the entropy of the prior, and the lighter class is lost."""
    result = optimal_loss(np.ones((3, 5), dtype=bool), weights=([1 / 12] * 3, [3 / 20] * 5))
    assert result.cross_entropy == pytest.approx(0.25 * np.log(4) + 0.75 * np.log(4 / 3), abs=1e-12)
    assert result.zero_one == pytest.approx(0.25, abs=1e-12)


@pytest.mark.parametrize("irrational", [False, True])
def test_extreme_weights_do_not_overflow(irrational: bool) -> None:
    """Capacities are 32-bit in scipy: products of weights above that are rounded, never wrapped."""
    conflicts = random_graph(1, 30, 30, 0.1)
    random = np.random.default_rng(2)
    left, right = 10 ** random.uniform(0, 5, 30), 10 ** random.uniform(0, 5, 30)
    if not irrational:
        left, right = np.ceil(left), np.ceil(right)
    result = optimal_loss(conflicts, weights=(left, right))
    program = optimal_loss(conflicts, weights=(left, right), method="cvxpy")
    assert result.cross_entropy == pytest.approx(program.cross_entropy, abs=1e-6)
    assert abs(result.gap) < 1e-9
    assert result.violation < 1e-9


# The large graphs take the paths that small ones do not: sampled first edges, dropped edges, many rounds.
@pytest.mark.parametrize("quantile", [0.01, 0.1, 0.3, 0.9])
def test_the_certificate_holds_on_a_large_graph(quantile: float) -> None:
    distances = geometric_distances(3, 700, 600)
    conflicts = distances <= np.quantile(distances, quantile)
    result = optimal_loss(conflicts)
    assert abs(result.gap) < 1e-12
    assert result.violation < 1e-12
    matched = (maximum_bipartite_matching(csr_array(conflicts.astype(np.int8))) >= 0).sum()
    assert result.zero_one == pytest.approx(matched / 1300, abs=1e-12)


@settings(max_examples=25)
@given(st.integers(0, 2**31), st.integers(1, 25), st.integers(1, 25), st.booleans())
def test_the_curve_is_the_loss_of_every_budget(seed: int, rows: int, columns: int, weighted: bool) -> None:
    distances = geometric_distances(seed, rows, columns)
    random = np.random.default_rng(seed)
    distances[random.random(distances.shape) < 0.1] = np.nan
    epsilons = random.permutation(np.concatenate([np.linspace(0, 3, 30), [0.5, 0.5, np.inf]]))
    weights = (random.random(rows) + 0.1, random.random(columns) + 0.1) if weighted else None
    with np.errstate(invalid="raise"):
        curve = loss_curve(distances, epsilons, weights=weights)
    each = [optimal_loss(distances <= epsilon, weights=weights).cross_entropy for epsilon in epsilons]
    np.testing.assert_allclose(curve, each, atol=1e-9 if weighted else 1e-12)
    assert (np.diff(curve[np.argsort(epsilons, kind="stable")]) >= -(1e-9 if weighted else 1e-12)).all()


def test_the_curve_of_unknown_distances_is_zero_and_of_equal_ones_log_2() -> None:
    np.testing.assert_array_equal(loss_curve(np.full((3, 3), np.nan), [0, 1, np.inf]), [0, 0, 0])
    np.testing.assert_allclose(loss_curve(np.ones((3, 3)), [2, 0.5, 1]), [LOG2, 0, LOG2], atol=1e-15)
    assert loss_curve([[1.0]], []).shape == (0,)


@pytest.mark.parametrize("conflicts", [np.ones((2, 2)), np.ones(3, bool), np.ones((0, 2), bool)])
def test_conflicts_of_another_form_are_refused(conflicts: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"^Conflicts must be a boolean matrix"):
        optimal_loss(conflicts)


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(ValueError, match="'magic' is not one of flow, cvxpy"):
        optimal_loss(np.ones((1, 1), bool), method="magic")  # type: ignore[arg-type]


@pytest.mark.parametrize("weights", [([1], [1]), ([1, 0], [1]), ([1, np.nan], [1]), ([1, -1], [1]), ([1, 1], 1)])
def test_weights_that_do_not_fit_are_refused(weights: tuple[list[float], list[float]]) -> None:
    with pytest.raises(ValueError, match=r"^Weights must be"):
        optimal_loss(np.ones((2, 1), bool), weights=weights)


@pytest.mark.parametrize("epsilons", [[np.nan], [-1.0], [[1.0]], 1.0])
def test_budgets_of_another_form_are_refused(epsilons: object) -> None:
    with pytest.raises(ValueError, match=r"^The budgets"):
        loss_curve([[1.0]], epsilons)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(5))
def test_error_curve_is_maximum_matching_at_every_budget(seed: int) -> None:
    """Bhagoji et al. 2019: of L + R images the best classifier loses as many as a maximum matching has edges."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_bipartite_matching

    distances = np.random.default_rng(seed).uniform(0, 4, (7, 9))
    distances[0] = np.nan
    epsilons = np.linspace(0, 4, 9)
    matched = [(maximum_bipartite_matching(csr_array(distances <= e), perm_type="column") >= 0).sum() for e in epsilons]
    np.testing.assert_allclose(error_curve(distances, epsilons), np.array(matched) / 16, rtol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_loss_steps_are_the_loss_at_every_budget(seed: int) -> None:
    rng = np.random.default_rng(seed)
    distances = rng.uniform(0.5, 4, (8, 6))
    distances[rng.random((8, 6)) < 0.2] = np.nan
    budgets, losses = loss_steps(distances)
    assert np.isin(budgets, distances).all()
    assert (np.diff(losses, prepend=0) > 0).all()
    everywhere = np.concatenate([rng.uniform(0, 5, 200), budgets, np.nextafter(budgets, 0)])
    stepped = np.concatenate([[0.0], losses])[np.searchsorted(budgets, everywhere, side="right")]
    np.testing.assert_allclose(stepped, loss_curve(distances, everywhere), atol=1e-11)


def test_without_a_known_distance_there_is_no_step() -> None:
    budgets, losses = loss_steps(np.full((2, 2), np.nan))
    assert len(budgets) == len(losses) == 0
