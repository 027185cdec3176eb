"""A lower precision for the search's steps: as close, as verified, and as independent of the batch as float32."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robustness_core.collision import find_collisions, precision
from robustness_core.collision.precision import Descent, fastest, in_bfloat16
from robustness_core.layers import extractor
from robustness_core.networks import build
from robustness_core.projection import project
from robustness_core.spec import TOLERANCE, SpecError

torch.set_num_threads(1)
EACH = pytest.mark.parametrize("name", ["float32", "bfloat16"])


def medium(layer: str = "logits", features: int = 10, m: int | None = 10) -> nn.Module:
    torch.manual_seed(0)
    network = build("medium", (1, 28, 28), mean=[0.13], std=[0.31])
    return project(extractor(network, layer), features, m, 0)


def pairs(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand((count, 1, 28, 28), generator=generator), torch.rand((count, 1, 28, 28), generator=generator)


@EACH
@pytest.mark.parametrize(("layer", "features"), [("conv2", 6272), ("logits", 10)])
def test_a_distance_depends_on_neither_batch_nor_neighbours_to_the_last_bit(
    name: str, layer: str, features: int
) -> None:
    f, (left, right) = medium(layer, features), pairs(64)
    others = [side.flip(0) for side in pairs(64, seed=1)]
    whole = find_collisions(f, left, right, preset="fast", precision=name)
    assert whole.precision == name
    for size in (1, 2, 7, 16):
        part = find_collisions(f, left[:size], right[:size], preset="fast", precision=name)
        assert torch.equal(part.distance, whole.distance[:size])
        assert torch.equal(part.left, whole.left[:size])
    places = torch.tensor([40, 3])  # of the pairs above, in another order among pairs that were not there
    mixed = (
        torch.cat([other[:20], side[places], other[20:34]]) for other, side in zip(others, (left, right), strict=True)
    )
    beside = find_collisions(f, *mixed, preset="fast", precision=name)
    assert torch.equal(beside.distance[20:22], whole.distance[places])
    assert torch.equal(beside.right[20:22], whole.right[places])


def test_a_search_in_bfloat16_ends_as_near_and_is_verified_in_float64() -> None:
    f, (left, right) = medium("fc1", 512), pairs(32)
    half, single = (find_collisions(f, left, right, precision=name) for name in ("bfloat16", "float32"))
    assert (half.precision, half.found.precisions) == ("bfloat16", ("bfloat16",))
    assert half.collided.all()
    exact = f.double()
    a, b, x, y = (images.double() for images in (half.left, half.right, left, right))
    mismatch = (exact(a) - exact(b)).norm(dim=1) / (exact(x) - exact(y)).norm(dim=1)
    assert (mismatch <= TOLERANCE).all()
    moved = torch.maximum((a - x).flatten(1).norm(dim=1), (b - y).flatten(1).norm(dim=1))
    torch.testing.assert_close(half.distance, moved, rtol=1e-9, atol=0)
    # Local minima of a ReLU network: pair by pair either may be nearer by some percent, in the mean they agree.
    assert abs(float(half.distance.mean() / single.distance.mean()) - 1) < 0.01
    assert not torch.equal(half.distance, single.distance)


def test_convolutions_and_large_layers_are_converted_once_and_the_rest_is_left() -> None:
    f = medium()
    converted = in_bfloat16(f)
    assert converted is not None
    types = {name.split(".")[-2]: tensor.dtype for name, tensor in converted.named_parameters()}
    low = {name for name, dtype in types.items() if dtype == torch.bfloat16}
    assert low == {"conv1", "conv2", "conv3", "conv4", "fc1", "fc2"}
    assert {name for name, dtype in types.items() if dtype == torch.float32} == {"logits"}
    assert all(buffer.dtype == torch.float32 for buffer in converted.buffers())  # A and the normalisation
    assert all(tensor.dtype == torch.float32 for tensor in f.parameters())
    images = torch.rand(4, 1, 28, 28)
    assert converted(images).dtype == torch.float32
    torch.testing.assert_close(converted(images), f(images), rtol=0.02, atol=0.02 * float(f(images).abs().max()))


class OneType(nn.Module):
    """Multiplies by a weight that no module holds, so that its features must come in the type of that."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.weight = nn.Conv2d(1, 64, 8, 4), nn.Parameter(torch.randn(10, 2304))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv(x)).flatten(1) @ self.weight.T


@pytest.mark.parametrize(
    ("f", "says"),
    [
        (OneType(), "float32"),  # cannot be computed in two types
        (nn.Sequential(nn.Flatten(), nn.Linear(784, 20), nn.ReLU()), "float32"),  # has nothing worth converting
        (nn.Sequential(nn.Flatten(), nn.Linear(784, 100)), "float64"),  # closed form
        (nn.Sequential(nn.Flatten(), nn.Linear(784, 100), nn.BatchNorm1d(100), nn.ReLU()), "bfloat16"),
    ],
)
def test_the_record_says_what_was_used_where_bfloat16_was_asked(f: nn.Module, says: str) -> None:
    found = find_collisions(f, *pairs(2), preset="fast", precision="bfloat16")
    assert found.precision == says
    assert found.collided.all()


def test_algorithm_1_has_no_steps_that_need_not_be_exact() -> None:
    assert find_collisions(medium(), *pairs(2), method="algorithm1", preset="fast").precision == "float32"


@pytest.mark.parametrize(("seconds", "best"), [(0.5, "bfloat16"), (0.9, "float32"), (3.0, "float32")])
def test_bfloat16_is_taken_where_a_measurement_says_that_it_pays(
    seconds: float, best: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "_seconds", lambda layer, name: seconds if name == "bfloat16" else 1.0)
    fastest.cache_clear()
    try:
        assert fastest(torch.device("cpu")) == best
        assert Descent.of(medium(), (1, 28, 28), "auto").precision == best
    finally:
        fastest.cache_clear()


def test_the_measurement_leaves_the_random_numbers_alone_and_is_made_once() -> None:
    fastest.cache_clear()
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first = fastest(torch.device("cpu"))
    np.testing.assert_array_equal(torch.rand(3), expected)
    assert fastest(torch.device("cpu")) == first
    assert fastest.cache_info().hits == 1


def test_another_precision_is_refused_in_a_sentence() -> None:
    with pytest.raises(SpecError, match="'float16' is not one of auto, float32, tfloat32, bfloat16"):
        find_collisions(medium(), *pairs(2), precision="float16")
