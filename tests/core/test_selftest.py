"""Planted truth: the region is affine as promised, and the self-test finds a search that is wrong."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from robustness_core.__main__ import main
from robustness_core.collision import Collisions, find_collisions
from robustness_core.commands import selftest
from robustness_core.errors import StrataError
from robustness_core.layers import extractor, is_affine
from robustness_core.planted import ROOM, Planted, flat, plant
from robustness_core.projection import draw, project
from testing.oracles import affine_distance

torch.set_num_threads(1)
SMALL = ("conv 6 3x3/1 p1, relu, maxpool 2, conv 8 3x3/1 p1, relu, flatten, fc 40, relu, fc 12", (1, 10, 10))
LAYERS = ("conv1", "pool1", "conv2", "fc1", "logits")


@pytest.fixture(scope="module")
def small() -> Planted:
    return plant(*SMALL, LAYERS, seed=0)


def jacobian(f: nn.Module, image: torch.Tensor) -> np.ndarray:
    return torch.autograd.functional.jacobian(lambda x: f(x).flatten(), image[None]).flatten(1).numpy()


@pytest.mark.parametrize("layer", LAYERS)
def test_a_planted_network_is_affine_up_to_its_radius_and_not_beyond(small: Planted, layer: str) -> None:
    f = extractor(small.network, layer).double()
    centre = small.centre.double()[None]
    for seed in range(3):
        way = small.images(4, seed).double() - centre
        edge = centre + 0.999 * ROOM * way  # images lie at radius / ROOM
        moved = (f(edge) - f(centre)).flatten(1).numpy()
        np.testing.assert_allclose(moved, flat(edge - centre) @ small.slopes[layer].T, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(jacobian(f, edge[0]), small.slopes[layer], rtol=1e-9, atol=1e-12)
    far = centre + 40 * way[:1]
    assert np.abs(jacobian(f, far[0]) - small.slopes[layer]).max() > 0.01
    assert not is_affine(f)
    assert 0 < (np.linalg.norm(small.slopes["conv1"], axis=1) == 0).mean() < 1  # some channels are inactive


def test_its_distances_are_those_of_the_closed_form_and_of_the_search(small: Planted) -> None:
    left, right = small.images(3, 1), small.images(3, 2)
    for layer in ("pool1", "logits"):
        truth = small.truth(layer, 5, 7, left, right)
        slope = small.slopes[layer]
        H = draw(len(slope), 5, 7).double().numpy() @ slope
        closed = [affine_distance(H, difference) for difference in flat(left - right)]
        np.testing.assert_allclose(truth, closed, rtol=1e-9)
        found = find_collisions(project(extractor(small.network, layer), len(slope), 5, 7), left, right)
        assert found.collided.all()
        np.testing.assert_allclose(found.distance, truth, rtol=2e-4)


def test_what_is_not_certain_is_refused(small: Planted) -> None:
    with pytest.raises(StrataError, match="can change its winner"):
        plant("conv 6 3x3/2 p1, relu, conv 6 3x3/1 p1, relu, maxpool 2, flatten, fc 12", (1, 12, 12), ["logits"], 0)
    left = small.images(2, 1)
    with pytest.raises(StrataError, match="too far from the centre"):
        small.truth("logits", 5, 0, small.centre + 2 * (left - small.centre), left)


def test_the_random_numbers_of_the_program_are_left_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    plant(*SMALL, ["logits"], seed=0)
    assert torch.equal(torch.rand(2), expected)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest, "NETWORKS", {"small": (*SMALL, ("conv2", "logits"))})


def test_the_self_test_passes_here(quick: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["selftest", "--device", "cpu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines if line.startswith("small ")].count("FAILED") == 0
    assert sum("distance" in line for line in lines) == 4  # two layers, two precisions
    assert sum("optimal loss" in line for line in lines) == 3


@pytest.mark.parametrize(
    "spoil",
    [
        lambda found: replace(found, distance=found.distance * 1.01),
        lambda found: replace(found, distance=found.distance * 0.99),
        lambda found: replace(found, left=found.left + 1e-3 * torch.randn_like(found.left)),
        lambda found: replace(found, collided=torch.zeros_like(found.collided)),
    ],
    ids=["farther", "nearer than can be", "no collisions", "not verified"],
)
def test_the_self_test_finds_a_search_that_is_wrong(
    spoil: Callable[[Collisions], Collisions],
    quick: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(selftest, "find_collisions", lambda *args, **kwargs: spoil(find_collisions(*args, **kwargs)))
    assert main(["selftest", "--device", "cpu"]) == 1
    told = capsys.readouterr()
    assert "FAILED" in told.out
    assert "cannot be trusted" in told.err
    assert main(["selftest", "--device", "cuda:77"]) == 2
