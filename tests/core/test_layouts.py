"""State_dicts as public repositories save them answer as the networks that they came from, whatever is around them."""

from __future__ import annotations

import argparse
import collections
import datetime
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robustness_core import checkpoints
from robustness_core.checkpoints import CheckpointError, containers
from testing import layouts
from testing.layouts import prefixed

# Shapes do not tell these apart from a more usual network: the right one is among those offered.
OFFERED = {"resnet18 of torchvision, 3×3 stem and pool", "resnet18 of torchvision, 7×7 stem, no pool"}


def read(value: Any, folder: Path, *, legacy: bool = False) -> containers.Contents:
    path = folder / "upload.bin"
    torch.save(value, path, _use_new_zipfile_serialization=not legacy)
    return containers.read(path)


def close(network: nn.Module, original: nn.Module, images: Tensor, tolerance: float = 1e-5) -> bool:
    with torch.no_grad():
        got, wanted = network(images), original(images)
    return bool(torch.allclose(got, wanted, rtol=tolerance, atol=tolerance * float(wanted.abs().max())))


@pytest.mark.parametrize("name", layouts.NETWORKS)
def test_a_state_dict_answers_as_its_network(name: str, tmp_path: Path) -> None:
    make, shape = layouts.NETWORKS[name]
    original = layouts.ready(make)
    found = checkpoints.candidates(read(original.state_dict(), tmp_path))
    images = torch.rand(2, *shape)
    right = [c.input_shape == shape and close(c.network(), original, images) for c in found]
    assert any(right) if name in OFFERED else right[0]


@pytest.fixture(scope="module")
def original() -> nn.Module:
    return layouts.ready(layouts.small)


def _adam(network: nn.Module) -> dict[str, Any]:
    optimiser = torch.optim.Adam(network.parameters())
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()  # a gradient of zeros changes nothing
    return optimiser.state_dict()


def _one_storage(state: dict[str, Tensor]) -> dict[str, Tensor]:
    everything = torch.cat([tensor.flatten().float() for tensor in state.values()])
    parts = everything.split([tensor.numel() for tensor in state.values()])
    return {name: part.view(t.shape) for (name, t), part in zip(state.items(), parts, strict=True)}


def _turned(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: tensor.to(memory_format=torch.channels_last) if tensor.dim() == 4
        else tensor.t().contiguous().t() if tensor.dim() == 2 else tensor
        for name, tensor in state.items()
    }  # fmt: skip


def _madry(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """MadryLab's `robustness` saves its normaliser, and everything twice."""
    normaliser = {"new_mean": torch.zeros(3, 1, 1), "new_std": torch.ones(3, 1, 1)}
    return {
        **prefixed(normaliser, "module.normalizer."), **prefixed(state, "module.model."),
        **prefixed(normaliser, "module.attacker.normalize."), **prefixed(state, "module.attacker.model."),
    }  # fmt: skip


Around = Callable[[nn.Module, dict[str, Tensor]], Any]
AROUND: dict[str, Around] = {
    "net, accuracy, epoch": lambda n, s: {"net": s, "acc": 91.2, "epoch": 3},
    "model_ema and a Namespace": lambda n, s: {"model_ema": s, "args": argparse.Namespace(lr=0.1, out=Path("x"))},
    "state_dict_ema": lambda n, s: {"state_dict_ema": s},
    "params": lambda n, s: {"params": s},
    "DataParallel in a wrapper": lambda n, s: {"state_dict": prefixed(s, "module."), "best_acc": np.float64(0.9)},
    "optimiser beside": lambda n, s: {"opt": _adam(n), "model": s, "rng": np.random.default_rng(0).integers(9, size=3)},
    "moments in sight": lambda n, s: {"a": _adam(n)["state"][0], "b": s},
    "one storage": lambda n, s: _one_storage(s),
    "not contiguous": lambda n, s: _turned(s),
    "parameters": lambda n, s: {**dict(n.named_parameters()), **dict(n.named_buffers())},
    "average of weights": lambda n, s: torch.optim.swa_utils.AveragedModel(n).state_dict(),
    "compiled, DataParallel": lambda n, s: prefixed(s, "_orig_mod.module."),
    "Lightning": lambda n, s: {
        "epoch": 1, "pytorch-lightning_version": "2.1.0", "state_dict": prefixed(s, "model.net."), "loops": {},
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_score": torch.tensor(0.9)}},
        "optimizer_states": [_adam(n)], "hyper_parameters": {"lr": 0.1, "dtype": torch.float32},
    },
    "MadryLab": lambda n, s: {"model": _madry(s), "epoch": 3},
    "Normalize before": lambda n, s: {"0.mean": torch.zeros(3), "0.std": torch.ones(3), **prefixed(s, "1.")},
    "things of Python": lambda n, s: {
        "weights": s, "counter": collections.Counter("ab"), "when": datetime.datetime(2020, 1, 1), "set": {1},
        "frozen": frozenset([1]), "slice": slice(1), "complex": 1j, "size": torch.Size([1]), "bytes": b"x",
        "deque": collections.deque([1]), "device": torch.device("cpu"), "numbers": np.arange(3),
    },
    "a list": lambda n, s: [s, _adam(n)],
}  # fmt: skip


@pytest.mark.parametrize("name", AROUND)
@pytest.mark.parametrize("legacy", [False, True])
def test_what_stands_around_the_weights_does_not_matter(
    name: str, legacy: bool, original: nn.Module, tmp_path: Path
) -> None:
    contents = read(AROUND[name](original, original.state_dict()), tmp_path, legacy=legacy)
    assert len(contents.states) == 1
    found = checkpoints.candidates(contents)
    assert close(found[0].network(), original, torch.rand(2, 3, 32, 32))


def test_averages_are_offered_beside_the_weights(original: nn.Module, tmp_path: Path) -> None:
    state = original.state_dict()
    contents = read({"state_dict_ema": dict(state), "state_dict": state}, tmp_path)
    assert [one.path for one in contents.states] == ["state_dict", "state_dict_ema"]


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (lambda: nn.GroupNorm(4, 16), "export the network as ONNX"),
        (lambda: nn.ConvTranspose2d(16, 8, 2), "export the network as ONNX"),
        (lambda: nn.MultiheadAttention(16, 2), "a transformer, whose attention is not supported"),  # in ONNX neither
    ],
)
def test_layers_that_are_not_understood_are_named(layer: Callable[[], nn.Module], said: str, tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 16, 3), layer(), nn.Flatten(), nn.Linear(16, 10))
    with pytest.raises(CheckpointError) as caught:
        checkpoints.candidates(read(network.state_dict(), tmp_path))
    assert said in str(caught.value)


def test_a_pickle_of_a_state_dict_is_refused_with_what_to_do(tmp_path: Path) -> None:
    import pickle

    target = io.BytesIO()
    pickle.dump(nn.Linear(784, 10).state_dict(), target)
    path = tmp_path / "weights.pkl"
    path.write_bytes(target.getvalue())
    with pytest.raises(CheckpointError, match=r"pickle\.dump, which is not read; save the weights with torch\.save"):
        containers.read(path)
