"""The search on a CUDA device: the same answers as on the CPU, verified in float64."""

import pytest
import torch

from robustness_core.__main__ import main
from robustness_core.collision import find_collisions
from robustness_core.layers import extractor
from robustness_core.networks import build
from robustness_core.projection import project

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device; this machine has none"),
]


@pytest.mark.parametrize(("layer", "features"), [("conv1.pre", 3136), ("fc1", 100), ("logits", 10)])
@pytest.mark.parametrize("method", ["balanced", "algorithm1"])
def test_cuda_and_cpu_agree(layer: str, features: int, method: str) -> None:
    torch.manual_seed(0)
    network = build("small", (1, 28, 28))
    left, right = torch.rand(8, 1, 28, 28), torch.rand(8, 1, 28, 28)
    search = project(extractor(network, layer), features, 10, 0)
    cpu = find_collisions(search, left, right, method=method)
    cuda = find_collisions(search.cuda(), left.cuda(), right.cuda(), method=method)
    assert cuda.collided.all()
    # Another device rounds otherwise, and a search of a ReLU network may then end in another local minimum.
    assert abs(float(cuda.distance.mean() / cpu.distance.mean()) - 1) < 0.02


EACH = pytest.mark.parametrize("precision", ["float32", "tfloat32", "bfloat16"])


@EACH
def test_cuda_is_deterministic(precision: str) -> None:
    torch.manual_seed(0)
    search = project(extractor(build("small", (1, 28, 28)), "fc1"), 100, 10, 0).cuda()
    left, right = torch.rand(8, 1, 28, 28).cuda(), torch.rand(8, 1, 28, 28).cuda()
    first, second = (find_collisions(search, left, right, precision=precision) for _ in range(2))
    assert first.precision == precision
    assert torch.equal(first.distance, second.distance)


@EACH
def test_a_distance_does_not_depend_on_its_neighbours_in_a_batch_of_one_size(precision: str) -> None:
    torch.manual_seed(0)
    search = project(extractor(build("medium", (1, 28, 28)), "fc1"), 512, 10, 0).cuda()
    left, right, others = (torch.rand(32, 1, 28, 28).cuda() for _ in range(3))
    whole = find_collisions(search, left, right, precision=precision)
    order = torch.arange(32).flip(0)
    mixed = [torch.cat([side[order[:16]], others[:16]]) for side in (left, right)]
    beside = find_collisions(search, *mixed, precision=precision)
    assert torch.equal(beside.distance[:16], whole.distance[order[:16].to(whole.distance.device)])


def test_the_self_test_passes_here() -> None:
    assert main(["selftest", "--device", "cuda"]) == 0
