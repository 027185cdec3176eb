"""ℓ∞, and images that must stay in [0, 1]: geometry and programs against second solvers, searches against truth."""

from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.stats import spearmanr
from torch import Tensor, nn

from robustness_core import datasets, zoo
from robustness_core.checkpoints import load
from robustness_core.collision import find_collisions, hints
from robustness_core.collision.geometry import max_norm
from robustness_core.collision.program import least_larger, least_max
from robustness_core.collision.threat import prox_of_max, room, shortest, whitened
from robustness_core.errors import StrataError
from robustness_core.layers import extractor
from robustness_core.networks import build
from robustness_core.projection import project
from robustness_core.spec import METHODS, PAPERS, PRESETS, THREATS, TOLERANCE, Threat
from testing.oracles import program_distance, tiny_relu, tiny_relu_distance

cvxpy: Any = import_module("cvxpy")  # it has no types
torch.set_num_threads(1)
OTHERS = [threat for threat in THREATS if threat != PAPERS]
EACH = pytest.mark.parametrize("threat", OTHERS, ids=str)
LINF = Threat("linf")


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pairs(count: int, seed: int = 0, shape: tuple[int, ...] = (1, 12, 12)) -> tuple[Tensor, Tensor]:
    """Images of which many pixels are 0 or 1, as those of digits."""
    left, right = (3 * torch.rand(count, *shape, generator=torch.Generator().manual_seed(seed + i)) for i in (0, 99))
    return (left - 1).clamp(0, 1), (right - 1).clamp(0, 1)


def convolutional(layer: str, m: int | None = 5, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    network = build("conv 4 3x3/2, relu, flatten, fc 20, relu, fc 10", (1, 12, 12))
    return project(extractor(network, layer), {"conv1.pre": 100, "conv1": 100, "fc1": 20, "logits": 10}[layer], m, seed)


class Searched(nn.Module):
    """An extractor that does not say that it is affine, and cannot be traced to find out."""

    def __init__(self, inside: nn.Module):
        super().__init__()
        self.inside = inside

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() != x.sum() + 1:
            return self.inside(x)
        raise AssertionError


# --- geometry --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bounded", [False, True])
@pytest.mark.parametrize("weight", [0.01, 1.0, 300.0])
def test_the_prox_of_the_largest_change_is_that_of_a_second_solver(bounded: bool, weight: float) -> None:
    v = drawn(8, 40)
    v[0] = 0
    low, high = (-torch.rand_like(v), torch.rand_like(v)) if bounded else (v - 100, v + 100)
    found = prox_of_max(v, weight, *((low, high) if bounded else ()))
    for row in range(len(v)):
        at, least, most = v[row].numpy(), low[row].numpy(), high[row].numpy()

        def cost(t: float, at: Any = at, least: Any = least, most: Any = most) -> float:
            delta = np.clip(at, np.maximum(least, -t), np.minimum(most, t))
            return float(weight * np.abs(delta).max() ** 2 + ((delta - at) ** 2).sum() / 2)

        best = minimize_scalar(cost, bounds=(0, np.abs(at).max() + 1e-9), method="bounded", options={"xatol": 1e-10})
        own = weight * found[row].abs().max() ** 2 + (found[row] - v[row]).square().sum() / 2
        assert float(own) <= best.fun * (1 + (1e-4 if bounded else 1e-6)) + 1e-12  # bounds: bracketed to 2^-14
    assert ((found >= low - 1e-12) & (found <= high + 1e-12)).all()


def test_the_shortest_step_within_bounds_is_that_of_a_quadratic_program() -> None:
    J, g = drawn(6, 4, 30), drawn(6, 4, seed=1)
    J[0, 3] = J[0, 0]  # a rank below m
    g[0, 3] = g[0, 0]
    low, high = -0.05 - torch.rand_like(J[:, 0]) / 2, 0.05 + torch.rand_like(J[:, 0]) / 2
    found, closed = shortest(*whitened(J, g), low, high)
    assert closed.all()
    for row in range(len(J)):
        s = cvxpy.Variable(30)
        bounds = [s >= low[row].numpy(), s <= high[row].numpy()]
        problem = cvxpy.Problem(cvxpy.Minimize(cvxpy.norm(s)), [J[row].numpy() @ s == -g[row].numpy(), *bounds])
        truth = problem.solve(solver=cvxpy.CLARABEL)
        assert float(found[row].norm()) == pytest.approx(truth, rel=1e-6)
    torch.testing.assert_close(torch.einsum("bmk,bk->bm", J, found), -g, rtol=1e-6, atol=1e-8)


def test_bounds_that_leave_no_step_are_noticed() -> None:
    J = torch.ones(2, 1, 5, dtype=torch.float64)
    found, closed = shortest(*whitened(J, torch.tensor([[-4.0], [-6.0]])), -torch.ones(2, 5), torch.ones(2, 5))
    assert closed.tolist() == [True, False]
    torch.testing.assert_close(found[0], torch.full((5,), 0.8, dtype=torch.float64))


def test_the_room_of_a_pixel_ends_at_0_and_1_exactly() -> None:
    x = torch.rand(1000)
    low, high = room(x, True)
    assert (x + low == 0).all()
    assert ((x + high) <= 1).all()


# --- exact answers ---------------------------------------------------------------------------------------------------


@EACH
def test_an_affine_layer_has_the_distance_of_its_program(threat: Threat) -> None:
    f = convolutional("conv1.pre", m=7).double()
    left, right = (t.double() for t in pairs(5))
    found = find_collisions(f, left, right, threat=threat)
    H = torch.autograd.functional.jacobian(lambda x: f(x).squeeze(0), left[:1]).reshape(7, -1).numpy()
    truth = [
        program_distance(H, x.flatten().numpy(), y.flatten().numpy(), threat.order, threat.box)
        for x, y in zip(left, right, strict=True)
    ]
    np.testing.assert_allclose(found.distance, truth, rtol=1e-6)
    assert found.residual.max() < 1e-7
    assert found.passes.mean() < 4


@EACH
def test_a_search_of_an_affine_layer_comes_near_its_program(threat: Threat) -> None:
    f, images = convolutional("conv1.pre", m=7), pairs(6)
    exact, searched = find_collisions(f, *images, threat=threat), find_collisions(Searched(f), *images, threat=threat)
    ratio = searched.distance / exact.distance
    assert ratio.mean() < 1.02
    assert ratio.max() < 1.04
    assert ratio.min() > 1 - 1e-4  # the tolerance of a collision


@EACH
def test_an_affine_layer_that_sees_all_has_the_midpoint(threat: Threat) -> None:
    left, right = pairs(3)
    found = find_collisions(nn.Flatten(), left, right, threat=threat)
    half = torch.linalg.vector_norm((left - right).flatten(1).double(), ord=threat.order, dim=1) / 2
    torch.testing.assert_close(found.distance, half, rtol=1e-6, atol=0)


@pytest.mark.parametrize("seed", range(4))
def test_tiny_relu_networks_are_searched_close_to_their_true_distance_in_linf(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    f, points = tiny_relu(generator), torch.randn(2, 4, generator=generator)
    truth = tiny_relu_distance(f, *points.double().numpy(), order=np.inf)
    found = find_collisions(f, *points.view(2, 1, 1, 1, 4), threat=LINF)
    assert found.collided.all()
    assert truth * (1 - 1e-4) - 1e-6 <= float(found.distance) <= truth * 1.1 + 1e-4


@pytest.mark.parametrize("seed", range(8))
def test_programs_of_any_shape_and_scale_are_solved(seed: int) -> None:
    random = np.random.default_rng(seed)
    m, n = random.integers(1, 16), random.integers(20, 120)
    H = torch.from_numpy(random.standard_normal((m, n)) * random.random(n) ** (seed % 6))
    V = torch.linalg.svd(H, full_matrices=False)[2]
    x = (torch.from_numpy(random.random((4, 2, n))) * (1 + seed % 4) - (seed % 4) / 2).clamp(0, 1)
    A, b = torch.cat([V, -V], dim=1), -(x[:, 0] - x[:, 1]) @ V.mT
    low, high = room(x.flatten(1), box=True)
    found = {"linf": least_max(A, b, low, high), "l2": least_larger(A, b, low, high)}
    for norm, delta in found.items():
        torch.testing.assert_close(delta @ A.mT, b, rtol=1e-6, atol=1e-8)
        assert ((delta >= low) & (delta <= high)).all()
        distance = max_norm(delta.view_as(x), torch.zeros_like(x), Threat(norm).order)
        assert float(distance[0]) == pytest.approx(
            program_distance(H.numpy(), *x[0].numpy(), Threat(norm).order, box=True), rel=1e-5, abs=1e-7
        )


RECORDED = {  # of the search before there were other threat models, in float32
    ("conv1.pre", 7): [0.2919118, 0.459423, 0.4307911],
    ("conv1", 5): [0.2768624, 0.2802616, 0.2397222],
    ("logits", 10): [0.6562283, 1.3930415, 0.7275954],
    ("conv1", 60): [1.2861446, 1.3099503, 1.4861169],
}


@pytest.mark.parametrize(("layer", "m"), RECORDED)
def test_the_papers_threat_model_has_the_distances_that_it_had(layer: str, m: int) -> None:
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.rand(3, 1, 12, 12, generator=generator) for _ in range(2))
    found = find_collisions(convolutional(layer, m), left, right, precision="float32")
    # On one machine they are the same bit for bit; another kind of processor rounds in another order.
    np.testing.assert_allclose(found.distance, RECORDED[layer, m], rtol=1e-4)


# --- every search ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("layer", "m"), [("conv1", 5), ("fc1", 5), ("logits", 10), ("conv1", 60), ("conv1", None)])
@EACH
def test_what_is_found_collides_and_lies_in_the_box_and_is_not_beyond_the_midpoint(
    threat: Threat, layer: str, m: int | None
) -> None:
    f, (left, right) = convolutional(layer, m), pairs(5)
    found = find_collisions(f, left, right, threat=threat, preset="fast")
    assert found.collided.all()
    both = torch.stack([found.left, found.right])
    moved = (both.double() - torch.stack([left, right])).flatten(2)
    distance = torch.linalg.vector_norm(moved, ord=threat.order, dim=2).amax(dim=0)
    torch.testing.assert_close(distance, found.distance)
    if threat.box:
        assert both.dtype == torch.float32
        assert both.min() >= 0
        assert both.max() <= 1
    exact = f.double()
    apart = (exact(found.left.double()) - exact(found.right.double())).norm(dim=1)
    assert (apart <= TOLERANCE * (exact(left.double()) - exact(right.double())).norm(dim=1) * 3).all()
    half = torch.linalg.vector_norm((left - right).flatten(1).double(), ord=threat.order, dim=1) / 2
    assert (found.distance <= half * (1 + 1e-6)).all()


@EACH
def test_a_distance_does_not_depend_on_the_pairs_searched_beside_it(threat: Threat) -> None:
    f, (left, right) = convolutional("fc1"), pairs(9)
    together = find_collisions(f, left, right, threat=threat)
    alone = find_collisions(f, left[3:4], right[3:4], threat=threat)
    assert torch.equal(alone.distance[0], together.distance[3])
    assert torch.equal(alone.left[0], together.left[3])


@pytest.mark.parametrize("box", [False, True])
def test_more_effort_finds_closer_collisions_of_a_trained_network(box: bool) -> None:
    network, data = load(zoo.find("mnist-small-pgd2")), datasets.load("mnist-5k")
    f = project(extractor(network, "conv2"), 6272, 10, 0)
    chosen = [datasets.to_float(data.pixels[data.labels == label][:6]) for label in (3, 7)]
    left, right = (torch.from_numpy(one) for one in chosen)
    fast, thorough = (
        find_collisions(f, left, right, threat=Threat("linf", box), preset=preset) for preset in ("fast", "thorough")
    )
    assert thorough.distance.mean() < fast.distance.mean()


@pytest.mark.parametrize("box", [False, True])
def test_many_rows_are_searched_and_not_left_at_the_midpoint(box: bool) -> None:
    f, (left, right) = convolutional("conv1", m=40), pairs(4)
    found = find_collisions(f, left, right, threat=Threat("linf", box), preset="fast")
    half = (left - right).flatten(1).abs().amax(dim=1) / 2
    assert (found.distance / half).mean() < 0.85


def test_more_freedom_is_nearer() -> None:
    f, images = convolutional("fc1"), pairs(12)
    mean = {threat: float(find_collisions(f, *images, threat=threat).distance.mean()) for threat in THREATS}
    assert mean[PAPERS] < mean[Threat(box=True)]
    assert mean[LINF] < mean[Threat("linf", box=True)]
    in_l2 = find_collisions(f, *images)
    moved = torch.stack([in_l2.left - images[0], in_l2.right - images[1]])
    assert mean[LINF] < 0.8 * float(moved.abs().amax(dim=(0, 2, 3, 4)).mean())  # of what is nearest in ℓ2


@EACH
def test_dead_networks_equal_images_and_free_logits_end_verified(threat: Threat) -> None:
    left, right = pairs(3)
    dead = nn.Sequential(nn.Flatten(), nn.Linear(144, 6), nn.ReLU(), nn.Linear(6, 4))
    with torch.no_grad():
        dead[1].bias.fill_(-1e3)  # type: ignore[union-attr,operator]
    assert find_collisions(dead, left, right, threat=threat).distance.tolist() == [0, 0, 0]
    same = find_collisions(convolutional("fc1"), left, left, threat=threat)
    assert same.distance.tolist() == [0, 0, 0]
    torch.manual_seed(0)
    free = nn.Sequential(nn.Flatten(), nn.Linear(144, 30), nn.ReLU(), nn.Linear(30, 10))
    with torch.no_grad():
        free[3].weight -= free[3].weight.mean(dim=0)  # type: ignore[operator]
        free[3].weight += 1e-4 * torch.randn(10, 30)  # type: ignore[operator] # J J^T is of condition 1e8
    assert find_collisions(free, left, right, threat=threat, preset="fast").collided.all()


@EACH
def test_pairs_that_nearly_collide_are_found_near(threat: Threat) -> None:
    f, (left, _) = convolutional("fc1"), pairs(3)
    right = left.clone()
    right[:, 0, 3, 3] = (right[:, 0, 3, 3] - 0.02).abs()
    found = find_collisions(f, left, right, threat=threat)
    assert found.collided.all()
    assert (found.distance <= 0.01 + 1e-6).all()


def test_only_what_a_method_serves_may_be_asked_and_images_must_lie_in_the_box() -> None:
    left, right = pairs(2)
    with pytest.raises(StrataError, match=r"algorithm1 does not serve the threat model linf; it serves l2\.$"):
        find_collisions(nn.Flatten(), left, right, method="algorithm1", threat=LINF)
    with pytest.raises(StrataError, match=r"must lie in \[0, 1\]"):
        find_collisions(nn.Flatten(), left + 0.1, right, threat=Threat("linf", box=True))
    find_collisions(nn.Flatten(), left + 0.1, right, threat=LINF)


def test_the_registry_names_a_function_for_every_threat_model_that_it_says_is_served() -> None:
    for method in METHODS.values():
        assert PAPERS in method.threats
        assert all(callable(method.load(threat)) for threat in method.threats)
        assert method.presets == PRESETS


@EACH
def test_hints_order_pairs_and_the_first_is_of_the_size_of_distances(threat: Threat) -> None:
    f, (left, right) = convolutional("conv1"), pairs(6)
    rows, columns = np.divmod(np.arange(36), 6)
    distance = find_collisions(f, left[rows], right[columns], threat=threat, preset="fast").distance.numpy()
    first = np.exp(hints(f, left, right, threat)[0]).ravel()
    assert spearmanr(first, distance).statistic > 0.7
    assert 0.5 < np.median(first / distance) < 2.5
