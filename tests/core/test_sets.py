"""Sets of three and more images: the loss against second solvers, balls and affine networks in closed form, the search
of a real network, and which sets are looked for."""

from collections.abc import Sequence
from itertools import combinations, product

import cvxpy as cp
import numpy as np
import pytest
import torch
from torch import nn

from robustness_core.collision import find_collisions, find_set_collisions
from robustness_core.engine.sets import SetPlan
from robustness_core.errors import StrataError
from robustness_core.networks import build
from robustness_core.optimal_loss import (
    curve_of,
    least_ball,
    loss_curve,
    loss_with_sets,
    optimal_loss,
    set_curves,
)

torch.set_num_threads(1)
LOG3 = float(np.log(3))


def symmetric(n: int, edges: Sequence[tuple[int, int]]) -> np.ndarray:
    graph = np.zeros((n, n), dtype=bool)
    for u, v in edges:
        graph[u, v] = graph[v, u] = True
    return graph


TRIANGLE = symmetric(3, [(0, 1), (0, 2), (1, 2)])


def test_hand_solved_sets() -> None:
    pairs = loss_with_sets(TRIANGLE, [])
    assert (pairs.cross_entropy, pairs.zero_one) == (pytest.approx(np.log(2)), pytest.approx(1 / 2))
    met = loss_with_sets(TRIANGLE, [(0, 1, 2)])
    assert (met.cross_entropy, met.zero_one) == (pytest.approx(LOG3), pytest.approx(2 / 3))
    np.testing.assert_allclose(met.quality, 1 / 3, rtol=1e-8)
    # A fourth image beside the set, of weight three: it does not care, and the mean says so.
    beside = loss_with_sets(symmetric(4, [(0, 1), (0, 2), (1, 2)]), [(0, 1, 2)], weights=[1, 1, 1, 3])
    assert beside.cross_entropy == pytest.approx(LOG3 / 2)
    # The heavier image gets the more: q = w / Σ w on a single set.
    heavy = loss_with_sets(TRIANGLE, [(0, 1, 2)], weights=[2, 1, 1])
    np.testing.assert_allclose(heavy.quality, [1 / 2, 1 / 4, 1 / 4], rtol=1e-8)
    assert heavy.zero_one == pytest.approx(1 / 2)


def random_world(seed: int, K: int, S: int, count: int) -> tuple[np.ndarray, list[tuple[int, ...]], np.ndarray]:
    random = np.random.default_rng(seed)
    of = np.repeat(np.arange(K), S)
    upper = (random.random((K * S, K * S)) < 0.3) & (of[:, None] < of)
    sets = set()
    for _ in range(count):
        classes = random.choice(K, random.integers(3, K + 1), replace=False)
        sets.add(tuple(sorted(int(c * S + random.integers(S)) for c in classes)))
    return upper | upper.T, sorted(sets), random.uniform(0.3, 2.0, K * S)


@pytest.mark.parametrize(("seed", "K", "S", "count"), [(0, 3, 4, 6), (1, 4, 3, 1), (2, 6, 5, 40), (3, 10, 4, 80)])
def test_sets_agree_with_convex_programs(seed: int, K: int, S: int, count: int) -> None:
    graph, sets, weight = random_world(seed, K, S, count)
    solved = loss_with_sets(graph, sets, weights=weight)
    p, q = weight / weight.sum(), cp.Variable(K * S)
    u, v = np.nonzero(np.triu(graph))
    rows = [q <= 1, q >= 0, q[u] + q[v] <= 1, *(cp.sum(q[list(one)]) <= 1 for one in sets)]
    tight = {"tol_gap_abs": 1e-11, "tol_gap_rel": 1e-11, "tol_feas": 1e-11}
    reference = cp.Problem(cp.Minimize(-(p @ cp.log(q))), rows).solve(solver=cp.CLARABEL, **tight)
    assert solved.cross_entropy == pytest.approx(reference, abs=1e-8)
    assert solved.zero_one == pytest.approx(1 - cp.Problem(cp.Maximize(p @ q), rows).solve(solver=cp.HIGHS), abs=1e-8)
    assert 0 <= solved.gap <= 1e-8
    assert all(solved.quality[list(one)].sum() <= 1 + 1e-12 for one in sets)
    assert (solved.quality[u] + solved.quality[v] <= 1 + 1e-12).all()
    assert solved.cross_entropy >= optimal_loss(graph, weights=(weight, weight)).cross_entropy - 1e-12


def test_without_sets_it_is_the_loss_of_the_pairs() -> None:
    graph, _, weight = random_world(4, 4, 4, 0)
    solved, pairs = loss_with_sets(graph, [], weights=weight), optimal_loss(graph, weights=(weight, weight))
    assert solved.cross_entropy == pytest.approx(pairs.cross_entropy, abs=1e-12)
    assert solved.zero_one == pytest.approx(pairs.zero_one, abs=1e-12)


@pytest.mark.parametrize("seed", range(12))
def test_the_least_ball_against_a_cone_program(seed: int) -> None:
    random = np.random.default_rng(seed)
    points = random.standard_normal((random.integers(2, 11), random.integers(1, 8)))
    apart = np.linalg.norm(points[:, None] - points, axis=2) / 2
    radius, weights = least_ball(apart)
    centre = cp.Variable(points.shape[1])
    reference = cp.Problem(cp.Minimize(cp.max(cp.norm(points - centre[None, :], axis=1)))).solve(solver=cp.CLARABEL)
    assert radius == pytest.approx(reference, rel=1e-6)
    assert np.linalg.norm(points - weights @ points, axis=1).max() == pytest.approx(radius, rel=1e-6)
    assert weights.sum() == pytest.approx(1)
    assert (weights >= -1e-12).all()


def test_balls_of_two_and_of_one_place() -> None:
    assert least_ball([[0, 1.5], [1.5, 0]])[0] == pytest.approx(1.5)  # 3 apart: half of that
    assert least_ball(np.zeros((3, 3)))[0] == 0.0


@pytest.mark.parametrize("T", [2, 3, 5])
def test_sets_of_an_affine_network_meet_at_the_least_ball(T: int) -> None:
    torch.manual_seed(T)
    extractor = nn.Sequential(nn.Flatten(), nn.Linear(64, 5))
    images = torch.rand(3, T, 1, 8, 8)
    found = find_set_collisions(extractor, images)
    H = extractor[1].weight.detach().double().numpy()
    V = np.linalg.svd(H, full_matrices=False)[2]
    for one, distance in zip(images.flatten(2).double().numpy(), found.distance.tolist(), strict=True):
        seen = one @ V.T
        expected = least_ball(np.linalg.norm(seen[:, None] - seen, axis=2) / 2)[0]
        assert distance == pytest.approx(expected, rel=1e-5)
    assert found.collided.all()


def test_sets_of_a_network_collide_as_verified_pairs_do() -> None:
    """Each two images of a set are a collision of that pair, so that no pair is farther than the set."""
    torch.manual_seed(0)
    network = build("conv 4 4x4/2, relu, flatten, fc 20, relu, fc 6", (1, 12, 12))
    images = torch.rand(3, 3, 1, 12, 12, generator=torch.Generator().manual_seed(1))
    found = find_set_collisions(network, images)
    assert found.collided.all()
    moved = (found.images - images).flatten(2).norm(dim=2).amax(dim=1)
    np.testing.assert_allclose(found.distance, moved, rtol=1e-5)
    with torch.no_grad():
        features = network.double()(found.images.flatten(0, 1).double()).unflatten(0, (3, 3))
        before = network(images.flatten(0, 1).double()).unflatten(0, (3, 3))
    spread = (features - features.mean(dim=1, keepdim=True)).norm(dim=2).amax(dim=1)
    assert (spread <= 1e-3 * (before - before.mean(dim=1, keepdim=True)).norm(dim=2).amax(dim=1)).all()
    network.float()
    for s, t in combinations(range(3), 2):
        pair = find_collisions(network, images[:, s], images[:, t], preset="thorough").distance
        assert (found.distance >= 0.97 * pair).all()
    centre = np.array([least_ball(np.linalg.norm(x[:, None] - x, axis=2) / 2)[0] for x in images.flatten(2).numpy()])
    assert (found.distance.numpy() <= centre * (1 + 1e-6)).all()


def test_sets_of_another_shape_are_refused() -> None:
    with pytest.raises(StrataError, match="T of 2 or more"):
        find_set_collisions(nn.Flatten(), torch.rand(2, 1, 8, 8))


def test_the_sets_that_matter_are_found() -> None:
    """In an affine world d(T) is the least ball: the curve of the plan's sets against that of all sets there are."""
    random = np.random.default_rng(5)
    K, S = 4, 4
    classes = np.repeat(np.arange(K), S)
    points = random.standard_normal((K, 3)).repeat(S, axis=0) + 0.6 * random.standard_normal((K * S, 3))
    apart = np.linalg.norm(points[:, None] - points, axis=2) / 2
    graph = np.where(classes[:, None] != classes, apart, np.nan)
    plan = SetPlan(graph, graph, classes, {}, K)
    searched = 0
    while not plan.finished:
        chosen = plan.take()
        assert len({place for one in chosen for place in one}) == sum(map(len, chosen))
        assert all(len({*classes[list(one)]}) == len(one) >= 3 for one in chosen)
        searched += len(chosen)
        plan.done(chosen, np.array([least_ball(apart[np.ix_(one, one)])[0] for one in chosen]))
    members = [np.flatnonzero(classes == k) for k in range(K)]
    every = {
        tuple(sorted(map(int, one))): least_ball(apart[np.ix_(one, one)])[0]
        for size in (3, 4)
        for which in combinations(range(K), size)
        for one in product(*(members[k] for k in which))
    }
    assert searched < len(every) / 5
    budgets = [b for b in np.linspace(0.2, plan.until, 6) if b > 0]
    full, part = (curve_of(graph, found, budgets) for found in (every, plan.found))
    assert (part <= full + 1e-9).all()
    assert full[-1] - part[-1] < 0.05
    assert part[-1] > loss_curve(graph, budgets)[-1] + 0.1
    assert set_curves(graph, plan.found, budgets)[1][-1] > 0.5
