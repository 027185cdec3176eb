"""The collision search against exact answers, and in the cases that break a search."""

import gc
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from robustness_core.collision import find, find_collisions, hints, matrix_free, nearest, starts, verification
from robustness_core.collision.constraint import Constraint
from robustness_core.errors import StrataError
from robustness_core.layers import extractor
from robustness_core.networks import build
from robustness_core.projection import project
from robustness_core.spec import METHODS, PRESETS, TOLERANCE
from testing.oracles import affine_distance, grid_distance, tiny_relu, tiny_relu_distance

torch.set_num_threads(1)
BOTH = pytest.mark.parametrize("method", METHODS)


def pairs(count: int, shape: tuple[int, ...] = (1, 12, 12), seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand((count, *shape), generator=generator), torch.rand((count, *shape), generator=generator)


def convolutional(layer: str = "logits", m: int | None = 5, seed: int = 0, text: str = "relu") -> nn.Module:
    torch.manual_seed(seed)
    network = build(f"conv 4 3x3/2, {text}, flatten, fc 20, {text}, fc 10", (1, 12, 12))
    features = {"conv1.pre": 100, "conv1": 100, "fc1": 20, "logits": 10}[layer]
    return project(extractor(network, layer), features, m, seed)


class Searched(nn.Module):
    """An extractor that does not say that it is affine, and cannot be traced to find out."""

    def __init__(self, inside: nn.Module):
        super().__init__()
        self.inside = inside

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() != x.sum() + 1:
            return self.inside(x)
        raise AssertionError


# --- exact answers ---------------------------------------------------------------------------------------------


@BOTH
def test_an_affine_layer_has_the_distance_of_the_closed_form(method: str) -> None:
    f = convolutional("conv1.pre", m=7).double()
    left, right = (t.double() for t in pairs(6))
    H = torch.autograd.functional.jacobian(lambda x: f(x).squeeze(0), left[:1]).reshape(7, -1).numpy()
    found = find_collisions(f, left, right, method=method)
    truth = [affine_distance(H, (x - y).flatten().numpy()) for x, y in zip(left, right, strict=True)]
    np.testing.assert_allclose(found.distance, truth, rtol=1e-9)
    assert found.residual.max() < 1e-9
    assert found.passes.mean() < 4


@BOTH
def test_a_search_of_an_affine_layer_finds_the_closed_form(method: str) -> None:
    f = convolutional("conv1.pre", m=7)
    left, right = pairs(6)
    exact = find_collisions(f, left, right)
    searched = find_collisions(Searched(f), left, right, method=method)
    # A search in float32 that stops at a mismatch of 2e-5; the smooth maximum of the two norms adds to that.
    torch.testing.assert_close(searched.distance, exact.distance, rtol=1e-3, atol=0)
    assert (searched.distance >= exact.distance * (1 - 1e-4)).all()


def test_the_identity_has_half_the_distance_of_the_images() -> None:
    left, right = pairs(4)
    found = find_collisions(nn.Flatten(), left, right)
    torch.testing.assert_close(found.distance, (left - right).flatten(1).double().norm(dim=1) / 2, rtol=1e-6, atol=0)


@pytest.mark.parametrize("seed", range(4))
def test_in_two_dimensions_the_search_agrees_with_a_grid(seed: int) -> None:
    torch.manual_seed(seed)
    f = nn.Sequential(nn.Flatten(), nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 1)).eval()
    x, y = np.array([0.2, 0.9]), np.array([0.8, 0.1])
    images = [torch.from_numpy(p).float().view(1, 1, 1, 2) for p in (x, y)]
    found = float(find_collisions(f, *images, preset="thorough").distance)
    truth = grid_distance(nn.Sequential(f).double(), x, y, radius=0.6)
    assert truth - 0.005 <= found <= truth * 1.01 + 0.005  # the grid's step is 0.003


@pytest.mark.parametrize("seed", range(5))
def test_tiny_relu_networks_are_searched_close_to_their_true_distance(seed: int) -> None:
    generator = torch.Generator().manual_seed(100 + seed)
    network, points = tiny_relu(generator), torch.randn(2, 4, generator=generator)
    truth = tiny_relu_distance(network, *points.double().numpy())
    images = points.view(2, 1, 1, 1, 4)
    for preset, within in (("default", 1.15), ("thorough", 1.06)):  # single cases; benchmarks.search has the mean of 50
        found = float(find_collisions(network, *images, preset=preset).distance)
        assert truth * (1 - 1e-4) <= found <= truth * within


@BOTH
@pytest.mark.parametrize("change", [lambda f: nn.Sequential(f, Scale(-3.0)), lambda f: nn.Sequential(f, rotation(5))])
def test_scaling_and_rotating_the_features_change_nothing(method: str, change: object) -> None:
    f = convolutional("fc1", m=5, text="tanh")
    left, right = pairs(6)
    plain = find_collisions(f, left, right, method=method).distance
    changed = find_collisions(change(f), left, right, method=method).distance  # type: ignore[operator]
    torch.testing.assert_close(changed, plain, rtol=2e-3, atol=0)  # both stop at a relative mismatch of 2e-5


class Scale(nn.Module):
    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


def rotation(size: int) -> nn.Module:
    linear = nn.Linear(size, size, bias=False)
    with torch.no_grad():
        linear.weight.copy_(torch.linalg.qr(torch.randn(size, size, generator=torch.Generator().manual_seed(1)))[0])
    return linear


def test_a_square_projection_changes_nothing() -> None:
    left, right = pairs(6)
    with_it = find_collisions(convolutional("logits", m=10, text="tanh"), left, right).distance
    without = find_collisions(convolutional("logits", m=None, text="tanh"), left, right).distance
    torch.testing.assert_close(with_it, without, rtol=2e-3, atol=0)


def test_features_that_outnumber_both_images_collide_only_at_the_midpoint() -> None:
    torch.manual_seed(0)
    wide = nn.Sequential(nn.Flatten(), nn.Linear(16, 40), nn.Tanh())
    left, right = pairs(3, (1, 4, 4))
    found = find_collisions(wide, left, right)
    torch.testing.assert_close(found.distance, (left - right).flatten(1).double().norm(dim=1) / 2, rtol=1e-6, atol=0)
    assert found.collided.all()


# --- what always holds -----------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    method=st.sampled_from(sorted(METHODS)),
    text=st.sampled_from(["relu", "tanh", "gelu", "elu", "leakyrelu", "sigmoid"]),
    layer=st.sampled_from(["conv1", "fc1", "logits"]),
    m=st.sampled_from([1, 3, 10]),
)
def test_a_found_collision_is_verified_and_never_farther_than_the_midpoint(
    seed: int, method: str, text: str, layer: str, m: int
) -> None:
    f = convolutional(layer, m, seed, text)
    left, right = pairs(3, seed=seed)
    found = find_collisions(f, left, right, method=method, preset="fast")
    exact = f.double()
    a, b = found.left.double(), found.right.double()
    mismatch = (exact(a) - exact(b)).norm(dim=1) / (exact(left.double()) - exact(right.double())).norm(dim=1)
    assert (mismatch[found.collided] <= TOLERANCE * (1 + 1e-6)).all()
    moved = torch.maximum((a - left).flatten(1).norm(dim=1), (b - right).flatten(1).norm(dim=1))
    torch.testing.assert_close(found.distance, moved, rtol=1e-6, atol=1e-9)
    assert (found.distance <= (left - right).flatten(1).double().norm(dim=1) / 2 * (1 + 1e-6)).all()
    assert (found.passes > 0).all()


def test_every_preset_is_deterministic() -> None:
    f, (left, right) = convolutional("fc1", m=8), pairs(12)
    for preset in PRESETS:
        first, second = (find_collisions(f, left, right, preset=preset) for _ in range(2))
        assert torch.equal(first.distance, second.distance)


def test_more_effort_finds_closer_collisions() -> None:
    """In the mean of several networks: on one of them a longer search may end a few percent farther away."""
    left, right = pairs(12)
    networks = [convolutional("fc1", m=8, seed=seed) for seed in range(8)]
    means = [
        np.mean([float(find_collisions(f, left, right, preset=preset).distance.mean()) for f in networks])
        for preset in PRESETS
    ]
    assert means[2] <= means[1]
    assert means[1] <= means[0]


@BOTH
@pytest.mark.parametrize("size", [1, 5, 9])
def test_a_distance_does_not_depend_on_the_pairs_searched_beside_it(method: str, size: int) -> None:
    f = convolutional("logits", m=5)
    left, right = pairs(18)
    whole = find_collisions(f, left, right, method=method)
    parts = [find_collisions(f, a, b, method=method) for a, b in zip(left.split(size), right.split(size), strict=True)]
    assert torch.equal(torch.cat([part.distance for part in parts]), whole.distance)
    assert torch.equal(torch.cat([part.left for part in parts]), whole.left)


@BOTH
def test_nor_on_how_little_memory_there_is(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of three of seven pairs leave one over, which is searched beside the pair before it."""
    f, (left, right) = convolutional("logits", m=5), pairs(7)
    whole = find_collisions(f, left, right, method=method)
    monkeypatch.setattr(find._Problem, "batch_size", lambda *_: 3)
    parts = find_collisions(f, left, right, method=method)
    assert torch.equal(parts.distance, whole.distance)
    assert torch.equal(parts.right, whole.right)
    assert torch.equal(parts.passes, whole.passes)


def test_the_balanced_search_is_closer_than_algorithm_1() -> None:
    f = convolutional("fc1", m=8)
    left, right = pairs(16)
    ours = find_collisions(f, left, right)
    paper = find_collisions(f, left, right, method="algorithm1", preset="thorough")
    assert ours.distance.mean() < paper.distance.mean()
    assert ours.passes.mean() < paper.passes.mean() / 3
    # The sum of squares, which Algorithm 1 minimises, leaves the two norms apart; the balanced search does not.
    norms = torch.stack([(ours.left - left).flatten(1).norm(dim=1), (ours.right - right).flatten(1).norm(dim=1)])
    assert ((norms.amax(0) - norms.amin(0)) / norms.amax(0)).mean() < 0.1


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 4, 3, 1, 1), nn.Conv2d(4, 4, 3, 1, 1)
        self.pool, self.fc = nn.MaxPool2d(2), nn.Linear(144, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.conv1(x))
        return self.fc(self.pool(torch.relu(self.conv2(x)) + x).flatten(1))


def test_any_differentiable_extractor_will_do() -> None:
    torch.manual_seed(0)
    left, right = pairs(6)
    found = find_collisions(Residual(), left, right)
    assert found.collided.all()
    assert (found.distance < (left - right).flatten(1).norm(dim=1) / 2).all()


# --- hard cases ------------------------------------------------------------------------------------------------


@BOTH
def test_fewer_active_units_than_rows_of_the_projection(method: str) -> None:
    f = convolutional("fc1", m=10)
    with torch.no_grad():
        f.extractor.body.fc1.bias[:14] = -1e3  # fourteen of twenty units are dead, six span what ten rows see
    found = find_collisions(f, *pairs(6), method=method)
    assert found.collided.all()


@BOTH
def test_a_network_most_of_whose_units_are_dead_on_the_way(method: str) -> None:
    torch.manual_seed(0)
    f = nn.Sequential(nn.Flatten(), nn.Linear(144, 60), nn.ReLU(), nn.Linear(60, 30), nn.ReLU(), nn.Linear(30, 10))
    with torch.no_grad():
        f[1].weight *= 6
        f[3].bias -= 1.5  # at the midpoint the Jacobian has rank 0 to 5 of 10
    found = find_collisions(f, *pairs(24), method=method)
    assert found.collided.all()


@BOTH
def test_logits_whose_sum_is_free(method: str) -> None:
    torch.manual_seed(0)
    f = nn.Sequential(nn.Flatten(), nn.Linear(144, 30), nn.ReLU(), nn.Linear(30, 10))
    with torch.no_grad():
        f[3].weight -= f[3].weight.mean(dim=0)  # the ten logits always sum to a constant: J J^T is singular
        f[3].weight += 1e-4 * torch.randn(10, 30)  # ... and now of condition 1e8
    found = find_collisions(f, *pairs(6), method=method)
    assert found.collided.all()


@BOTH
def test_a_dead_network_and_equal_images_collide_at_once(method: str) -> None:
    f = convolutional("logits", m=5)
    with torch.no_grad():
        f.extractor.body.fc1.bias.fill_(-1e3)
    left, right = pairs(3)
    dead = find_collisions(f, left, right, method=method)
    same = find_collisions(convolutional(), left, left.clone(), method=method)
    for found in (dead, same):
        assert (found.distance == 0).all()
        assert (found.residual == 0).all()
        assert found.collided.all()


@BOTH
def test_saturated_activations_end_verified_or_at_the_midpoint(method: str) -> None:
    f = convolutional("logits", m=5, text="sigmoid")
    with torch.no_grad():
        f.extractor.body.conv1.weight *= 300
    left, right = pairs(4)
    found = find_collisions(f, left, right, method=method)
    middle = (left - right).flatten(1).double().norm(dim=1) / 2
    torch.testing.assert_close(found.distance[~found.collided], middle[~found.collided], rtol=1e-6, atol=0)
    assert (found.distance <= middle * (1 + 1e-6)).all()


def test_a_pair_that_does_not_collide_is_flagged_and_stands_at_its_midpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    def give_up(constraint: object, points: Tensor, originals: Tensor, *_: object) -> tuple[Tensor, Tensor, Tensor]:
        return originals, torch.ones(3, 5, 288), torch.zeros(3, dtype=torch.bool)

    monkeypatch.setattr(starts, "polish", give_up)
    monkeypatch.setattr(verification, "CHORDS", 1)
    monkeypatch.setattr(verification, "FRESH", 0)
    monkeypatch.setattr(verification, "EXACT", 0)
    monkeypatch.setattr(find, "_nearer", lambda exact, found, *_: found)
    left, right = pairs(3)
    found = find_collisions(convolutional(), left, right)
    assert not found.collided.any()
    assert (found.residual > TOLERANCE).all()
    torch.testing.assert_close(found.left, (left + right) / 2)
    torch.testing.assert_close(found.left, found.right)


# --- pairs that nearly collide, badly scaled features, bottlenecks ---------------------------------------------


class Scaled(nn.Module):
    """tanh of the pixels, its second number times `scale`: injective, so that d is half the distance of the images."""

    def __init__(self, scale: float):
        super().__init__()
        self.register_buffer("scale", torch.tensor([1.0, scale]))

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x.flatten(1)) * self.scale


@BOTH
@pytest.mark.parametrize("scale", [1e-2, 1e-4, 1e-6, 1e-7])
def test_a_direction_in_which_features_are_small_counts_as_any_other(method: str, scale: float) -> None:
    """H = diag(1, scale), before and behind tanh: the distance of (0, 0) and (1, 1) is sqrt(2) / 2."""
    left, right = torch.zeros(2, 1, 1, 2), torch.ones(2, 1, 1, 2)
    affine = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False))
    affine[1].weight.data = torch.diag(torch.tensor([1.0, scale]))
    for f in (affine, Searched(affine), Scaled(scale)):
        found = find_collisions(f, left, right, method=method)
        assert found.collided.all()
        torch.testing.assert_close(found.distance, torch.full((2,), 0.5**0.5, dtype=torch.float64), rtol=1e-6, atol=0)


def test_a_wide_spectrum_behind_an_activation_hides_nothing() -> None:
    """Sixteen rotated directions from 1 to 1e-6: injective, so nothing but the midpoint collides."""
    generator = torch.Generator().manual_seed(0)
    rotation, _ = torch.linalg.qr(torch.randn(16, 16, generator=generator, dtype=torch.float64))
    last = nn.Linear(16, 16, bias=False).double()
    last.weight.data = rotation * torch.logspace(0, -6, 16, dtype=torch.float64)
    found = find_collisions(nn.Sequential(nn.Flatten(), nn.Tanh(), last), *pairs(4, (1, 4, 4)))
    half = (pairs(4, (1, 4, 4))[0] - pairs(4, (1, 4, 4))[1]).flatten(1).double().norm(dim=1) / 2
    assert (found.distance >= half * (1 - 1e-6)).all()


@BOTH
@settings(max_examples=15)
@given(seed=st.integers(0, 1000), mismatch=st.floats(1e-6, 1e-2))
def test_pairs_that_nearly_collide_are_found_near(method: str, seed: int, mismatch: float) -> None:
    """m = 1: x' is moved until its features agree with those of x up to g = |b| mismatch, a and b their gradients.

    To first order the distance is |g| / (|a| + |b|); Newton's step, which minimises the sum of squares, ends within
    (1 + sqrt 2) / 2 of it. Distances below a thousandth are right to that times the tolerance, since pixels are
    rounded to float32 in the search.
    """
    f = convolutional("conv1", m=1, seed=seed, text="tanh").double()
    left, right = (t.double() for t in pairs(2, seed=seed))
    shared = right.clone()
    for _ in range(30):  # Newton to equal features, in x' alone
        at = shared.clone().requires_grad_()
        value = f(at)
        (slope,) = torch.autograd.grad(value.sum(), at)
        step = (f(left) - value.detach()) / slope.flatten(1).square().sum(dim=1, keepdim=True)
        shared = shared + step[:, :, None, None] * slope
    unit = slope / slope.flatten(1).norm(dim=1)[:, None, None, None]
    right = shared + mismatch * unit
    at = left.clone().requires_grad_()
    a = torch.autograd.grad(f(at).sum(), at)[0].flatten(1).norm(dim=1)
    b = slope.flatten(1).norm(dim=1)
    found = find_collisions(f, left, right, method=method)
    assert found.collided.all()
    least = mismatch * b / (a + b)
    assert (found.distance <= 1.01 * (1 + 2**0.5) / 2 * least + 2 * verification.LEAST["l2"] * TOLERANCE).all()


@pytest.mark.parametrize("m", [None, 130, 127, 20])
def test_wide_features_behind_a_bottleneck_collide_as_near_as_the_bottleneck(m: int | None) -> None:
    """64 -> 4 -> 200: more features than both images have pixels, yet all pass through four numbers."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.ReLU(), nn.Linear(4, 200), nn.ReLU())
    left, right = pairs(6, (1, 8, 8))
    wide = find_collisions(project(network, 200, m, 0), left, right)
    narrow = find_collisions(network[:3], left, right)
    assert wide.collided.all()
    assert (wide.distance <= 1.05 * narrow.distance + 1e-9).all()


def test_without_a_jacobian_the_search_sees_a_bottleneck_too() -> None:
    """Four channels, then 64 of them: 3,136 features of 784 pixels, all functions of 196."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 4, 4), nn.ReLU(), nn.Conv2d(4, 64, 1), nn.ReLU())
    left, right = pairs(3, (1, 28, 28))
    assert network(left)[0].numel() > matrix_free.MANY_ROWS
    wide, narrow = find_collisions(network, left, right), find_collisions(network[:2], left, right)
    assert wide.collided.all()
    assert (wide.distance <= 1.1 * narrow.distance).all()


def test_the_search_without_jacobians_agrees_with_the_one_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    f, (left, right) = convolutional("fc1", m=None, text="tanh"), pairs(6)
    dense = find_collisions(f, left, right, method="algorithm1", preset="thorough")
    monkeypatch.setattr(matrix_free, "MANY_ROWS", 5)
    free = find_collisions(f, left, right, preset="thorough")
    assert free.collided.all()
    torch.testing.assert_close(free.distance, dense.distance, rtol=0.05, atol=0)


def test_least_squares_without_a_jacobian_are_those_of_the_pseudo_inverse() -> None:
    f = convolutional("fc1", m=8, text="tanh").double()
    left, right = (t.double() for t in pairs(4))
    points = torch.stack([left, right], dim=1).flatten(2)
    constraint = Constraint(f, (1, 12, 12), points)
    rows = torch.arange(4)
    g, J = constraint.values_and_jacobian(points, rows)
    s = matrix_free.least_squares(constraint, points, g, rows, 60, 1e-12)
    exact = torch.einsum("bkm,bm->bk", torch.linalg.pinv(J), g)
    torch.testing.assert_close(s.flatten(1), exact, rtol=1e-7, atol=1e-9)


def test_many_rows_are_searched_and_not_left_at_the_midpoint() -> None:
    """Half of the units are dead at the midpoint; whitened by what they were there, pairs would be driven off."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(144, 400), nn.ReLU(), nn.Linear(400, 100), nn.ReLU())
    left, right = pairs(6)
    ours = find_collisions(network, left, right)
    paper = find_collisions(network, left, right, method="algorithm1")
    assert ours.collided.all()
    assert ours.distance.mean() <= paper.distance.mean()
    assert (ours.distance < 0.95 * (left - right).flatten(1).norm(dim=1) / 2).all()


# --- bad input -----------------------------------------------------------------------------------------------------


def test_an_out_of_memory_error_halves_the_batch_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    f, (left, right) = convolutional(), pairs(12)
    whole = find_collisions(f, left, right)
    search, sizes = find._search, []

    def tight(problem: object, batch: slice, *rest: object) -> object:
        sizes.append(batch.stop - batch.start)
        if batch.stop - batch.start > 4:
            raise torch.OutOfMemoryError
        return search(problem, batch, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(find, "_search", tight)
    halved = find_collisions(f, left, right)
    assert max(sizes) > 4
    assert min(sizes) <= 4
    torch.testing.assert_close(halved.distance, whole.distance, rtol=1e-2, atol=0)  # other batches, other rounding


def test_a_search_leaves_nothing_in_memory() -> None:
    """Copies of the weights must go with the search; a worker makes thousands of searches."""

    def tensors() -> int:
        gc.collect()
        return sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())

    f, (left, right) = convolutional(), pairs(4)
    find_collisions(f, left, right)
    before = tensors()
    found = find_collisions(f, left, right)
    assert tensors() - before == sum(isinstance(value, Tensor) for value in vars(found).values())


def test_little_memory_means_small_batches_and_the_same_answer() -> None:
    f, (left, right) = convolutional("conv1.pre"), pairs(5)
    wide, narrow = find_collisions(f, left, right), find_collisions(f, left, right, memory=1.0)
    torch.testing.assert_close(narrow.distance, wide.distance, rtol=1e-6, atol=0)


def every_pair(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """All pairs of both lists, left image by left image."""
    return left.repeat_interleave(len(right), 0), right.repeat(len(left), 1, 1, 1)


def test_the_first_hint_is_the_distance_of_affine_layers_and_all_rank_pairs_elsewhere() -> None:
    left, right = pairs(6)
    f = convolutional("conv1.pre", m=7)
    distance = find_collisions(f, *every_pair(left, right[:5])).distance.view(6, 5).numpy()
    values = hints(f, left, right[:5])
    np.testing.assert_allclose(np.exp(values[0]), distance, rtol=1e-3)
    np.testing.assert_allclose(np.exp(values[1]), distance, rtol=1e-3)  # one Gram matrix serves all images
    f = convolutional("fc1", m=7)
    found = find_collisions(f, *every_pair(left, right)).distance.numpy()
    for value in hints(f, left, right):
        assert np.corrcoef(value.ravel().argsort().argsort(), found.argsort().argsort())[0, 1] > 0.3


def test_hints_are_numbers_where_features_meet_or_nothing_moves_them() -> None:
    left, _ = pairs(3)
    assert np.isfinite(hints(convolutional("fc1", m=7), left, left)).all()
    dead = nn.Sequential(nn.Flatten(), nn.Linear(144, 4), nn.ReLU())
    nn.init.constant_(dead[1].bias, -1e6)
    assert np.isfinite(hints(dead, left, left.flip(0))).all()


def test_another_start_is_another_search_and_the_nearest_counts() -> None:
    f, (left, right) = convolutional("fc1", m=7), pairs(6)
    starts = [find_collisions(f, left, right, start=start) for start in range(3)]
    assert torch.equal(starts[1].distance, find_collisions(f, left, right, start=1).distance)
    assert not torch.equal(starts[0].distance, starts[1].distance)
    best = nearest(starts)
    assert torch.equal(best.distance, torch.stack([one.distance for one in starts]).amin(dim=0))
    assert torch.equal(best.passes, sum(one.passes for one in starts))
    moved = torch.stack([best.left - left, best.right - right]).double().flatten(2).norm(dim=2).amax(dim=0)
    torch.testing.assert_close(moved, best.distance, rtol=1e-5, atol=0)


def test_no_pairs_give_no_collisions() -> None:
    nothing = torch.empty(0, 1, 12, 12)
    assert find_collisions(convolutional(), nothing, nothing).distance.shape == (0,)


@pytest.mark.parametrize(
    ("kwargs", "says"),
    [
        ({"method": "fab"}, "not one of balanced, algorithm1"),
        ({"preset": "slow"}, "not one of fast, default, thorough"),
        ({"left": torch.rand(2, 1, 12, 12)}, "of one shape"),
        ({"left": torch.full((3, 1, 12, 12), math.nan)}, "not finite"),
    ],
)
def test_bad_input_gets_one_sentence(kwargs: dict[str, object], says: str) -> None:
    left, right = pairs(3)
    with pytest.raises(StrataError, match=says):
        find_collisions(convolutional(), **({"left": left, "right": right} | kwargs))  # type: ignore[arg-type]
