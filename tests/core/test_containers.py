"""The project's own reader of checkpoint containers against torch's and safetensors' readers."""

from __future__ import annotations

import argparse
import gzip
import io
import json
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from robustness_core.checkpoints import containers
from robustness_core.checkpoints.containers import CheckpointError, natural, read, shown


def stored(value: Any) -> bytes:
    target = io.BytesIO()
    torch.save(value, target)
    return target.getvalue()


def archive(name: str) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as made:
        made.writestr(name, b"x")
    return target.getvalue()


PLACEHOLDERS = {
    "a zip archive with runs/model.pth in it; unpack it": archive("runs/model.pth"),
    "its numbers are NumPy arrays": stored({"fc.weight": np.zeros((10, 784), np.float32)}),
    "numbers of the kind float8_e4m3fn, which is not read": stored({"a": torch.zeros(2, 2).to(torch.float8_e4m3fn)}),
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n",
    "a web page, so the download failed": b"\n<!DOCTYPE html><html><head><title>Quota exceeded</title></html>",
    "a web page, so the": b"<html><body>Sign in</body></html>",
    "the data beside an ONNX file": torch.linspace(-1, 1, 500).numpy().tobytes(),
    "tf2onnx.convert --keras FILE": b"\x89HDF\r\n\x1a\n" + bytes(100),
    "a model of ONNX Runtime": b"\x20\0\0\0ORTM" + bytes(100),
    "tf2onnx.convert --tflite FILE": b"\x1c\0\0\0TFL3" + bytes(100),
    "the description of a Keras model": b'{"class_name": "Sequential", "config": {}}',
    "Three bytes of a text mark": b"\xef\xbb\xbf\x08\x08\x12\x04onnx",
    "unpacks to over 1 MB": gzip.compress(bytes(1 << 21)),
    "cut short or holds several": gzip.compress(b"\x08" * 100)[:-9],
}


@pytest.mark.parametrize("sentence", PLACEHOLDERS)
def test_what_stands_in_for_a_network_is_named(sentence: str, write: Callable[[bytes], Path]) -> None:
    with pytest.raises(CheckpointError, match=sentence):
        read(write(PLACEHOLDERS[sentence]), largest=1 << 20)


def test_a_gzip_archive_is_unpacked(write: Callable[[bytes], Path]) -> None:
    packed = read(write(gzip.compress(saved(body().state_dict(), zipped=True)))).states[0].tensors
    assert torch.equal(packed["3.weight"], body().state_dict()["3.weight"])


class Foreign:
    """An object of a class that the reader must not look up; making one, or giving it attributes, is seen."""

    def __init__(self) -> None:
        self.state = {"a": torch.zeros(2, 2)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        raise AssertionError("the object was made")


def norm_of(network: nn.Module) -> nn.Module:
    """The network after some steps of training, so that what its norms store is not what they began with."""
    optimiser = torch.optim.SGD(network.parameters(), 0.1)
    for _ in range(3):
        network(torch.rand(8, 1, 28, 28)).square().sum().backward()
        optimiser.step()
    return network.eval()


def body() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(1, 4, 4, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(784, 10))


def masked(network: nn.Sequential) -> nn.Module:
    for place in (0, 3):
        prune.l1_unstructured(network[place], "weight", 0.5)
    return network


FOLDED: dict[str, Callable[[nn.Sequential], nn.Module]] = {
    "weight norm, old": lambda net: (torch.nn.utils.weight_norm(net[0]), torch.nn.utils.weight_norm(net[3]), net)[2],
    "weight norm of all": lambda net: (torch.nn.utils.weight_norm(net[3], dim=None), net)[1],
    "weight norm, new": lambda net: (parametrizations.weight_norm(net[0]), parametrizations.weight_norm(net[3]), net)[
        2
    ],
    "spectral norm, old": lambda net: (torch.nn.utils.spectral_norm(net[0]), net)[1],
    "spectral norm, new": lambda net: (parametrizations.spectral_norm(net[3]), net)[1],
    "pruning": masked,
}


@pytest.mark.filterwarnings("ignore")  # torch warns of its old norms
@pytest.mark.parametrize("name", FOLDED)
def test_weights_in_parts_are_folded_to_what_the_network_uses(name: str, write: Callable[[bytes], Path]) -> None:
    network = norm_of(FOLDED[name](body()))
    state = read(write(saved(network.state_dict(), zipped=True))).states[0]
    assert any(note.startswith(f"Folded from {name.split(' of')[0].split(',')[0]}") for note in state.notes)
    plain, images = body(), torch.rand(4, 1, 28, 28)
    plain.load_state_dict(state.tensors)
    with torch.no_grad():
        torch.testing.assert_close(plain(images), network(images), rtol=1e-5, atol=1e-6)


def test_other_parts_of_weights_are_refused(write: Callable[[bytes], Path]) -> None:
    network = body()
    parametrizations.orthogonal(network[3])
    with pytest.raises(CheckpointError, match="neither weight norm, spectral norm nor pruning"):
        read(write(saved(network.state_dict(), zipped=True)))


def test_what_no_layer_needs_is_ignored_by_name_and_all_else_is_not(write: Callable[[bytes], Path]) -> None:
    needless = {
        "steps": torch.tensor(7), "rng_state": torch.zeros(16, dtype=torch.uint8), "criterion.weight": torch.ones(10),
        "0.lower_bound": torch.zeros(4, 14, 14), "mask_counter": torch.zeros(3, dtype=torch.int64),
    }  # fmt: skip
    state = read(write(saved({**body().state_dict(), **needless}, zipped=True))).states[0]
    assert set(state.tensors) == set(body().state_dict())
    assert all(name in state.notes[0] for name in needless)
    rounded = {"0.weight_fake_quant.scale": torch.ones(1), "0.activation_post_process.min_val": torch.zeros(())}
    notes = read(write(saved({**body().state_dict(), **rounded}, zipped=True))).states[0].notes
    assert any("trained for quantisation" in note for note in notes)
    kept = read(write(saved({**body().state_dict(), "temperature": torch.ones(1)}, zipped=True))).states[0]
    assert "temperature" in kept.tensors
    with pytest.raises(CheckpointError, match="whole numbers"):
        read(write(saved({**body().state_dict(), "3.weight": torch.ones(10, 784, dtype=torch.int64)}, zipped=True)))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("zipped", [True, False])
def test_objects_and_modules_are_read_as_data_alone(zipped: bool, write: Callable[[bytes], Path]) -> None:
    network = body()
    optimiser = torch.optim.Adam(network.parameters())
    network(torch.rand(2, 1, 28, 28)).sum().backward()
    optimiser.step()
    whole = {"model": network, "optimizer": optimiser, "other": Foreign(), "best_acc": 97.5, "acc": np.float64(0.5)}
    for value in (whole, network):
        contents = read(write(saved(value, zipped=zipped)))
        assert contents.whole == "torch.nn.modules.container.Sequential"
        assert len(contents.states) == 1
        for name, tensor in network.state_dict().items():
            assert torch.equal(contents.states[0].tensors[name], tensor)
        assert any("read, as data" in note for note in contents.notes)
        if value is whole:
            assert contents.scores == {"best_acc": 97.5, "acc": 0.5}
            assert "torch.optim.adam.Adam" in contents.notes[0]
            assert "Foreign" in contents.notes[0]


def saved(value: Any, *, zipped: bool) -> bytes:
    target = io.BytesIO()
    torch.save(value, target, _use_new_zipfile_serialization=zipped)
    return target.getvalue()


@pytest.fixture
def write(tmp_path: Path) -> Callable[[bytes], Path]:
    def to_file(data: bytes) -> Path:
        path = tmp_path / "upload"
        path.write_bytes(data)
        return path

    return to_file


def weights() -> dict[str, Tensor]:
    """Tensors that are stored in unusual ways: transposed, channels last, a part of a storage, shared, scalar."""
    torch.manual_seed(1)
    whole = torch.randn(50, 20)
    return {
        "plain.weight": torch.randn(6, 3, 5, 5),
        "turned.weight": torch.randn(20, 30).T,
        "last.weight": torch.randn(8, 4, 3, 3).to(memory_format=torch.channels_last),
        "part.weight": whole[10:30, 5:15],
        "other_part.weight": whole[:5],
        "strided.weight": whole[::3, ::2],
        "parameter.weight": nn.Parameter(torch.randn(3, 4)),
        "scalar.bias": torch.tensor(2.5),
        "empty.bias": torch.zeros(0),
    }


@pytest.mark.filterwarnings("ignore")  # torch warns of its old container
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_the_numbers_are_those_that_torch_reads(
    dtype: torch.dtype, zipped: bool, write: Callable[[bytes], Path]
) -> None:
    path = write(saved({name: tensor.detach().to(dtype) for name, tensor in weights().items()}, zipped=zipped))
    contents = read(path)
    assert (contents.format, contents.container) == ("torch", "zip" if zipped else "legacy")
    wanted = torch.load(path, weights_only=True)
    got = contents.states[0].tensors
    assert list(got) == list(wanted)
    for name, tensor in wanted.items():
        assert torch.equal(got[name], tensor.float())
        assert got[name].is_contiguous()
    assert bool(contents.states[0].notes) == (dtype != torch.float32)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("zipped", [True, False])
def test_what_training_scripts_store_beside_the_weights_is_left_unread(
    zipped: bool, write: Callable[[bytes], Path]
) -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    optimiser = torch.optim.Adam(model.parameters())
    model(torch.randn(5, 4)).sum().backward()
    optimiser.step()
    whole = {
        "epoch": 3,
        "best": np.float64(0.5),
        "history": np.arange(5),
        "args": argparse.Namespace(lr=0.1),
        "size": torch.Size([1, 2]),
        "device": torch.device("cpu"),
        "optimizer": optimiser.state_dict(),
        "state_dict": model.state_dict(),
    }
    states = read(write(saved(whole, zipped=zipped))).states
    assert [state.path for state in states] == ["state_dict"]
    assert torch.equal(states[0].tensors["0.weight"], model[0].weight)
    assert "1.num_batches_tracked" not in states[0].tensors
    assert torch.equal(states[0].tensors["1.running_mean"], model[1].running_mean)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol_that_torch_writes_is_read(protocol: int, write: Callable[[bytes], Path]) -> None:
    target = io.BytesIO()
    torch.save(weights(), target, pickle_protocol=protocol)
    got = read(write(target.getvalue())).states[0].tensors
    assert all(torch.equal(got[name], tensor) for name, tensor in weights().items())


@pytest.mark.parametrize(
    ("wrap", "path"),
    [
        (lambda s: s, ""),
        (lambda s: OrderedDict(s), ""),
        (lambda s: {"state_dict": s, "epoch": 1}, "state_dict"),
        (lambda s: {"model_state_dict": s}, "model_state_dict"),
        (lambda s: {"net": s, "acc": 95.2}, "net"),
        (lambda s: {"anything": {"model": s}}, "anything.model"),
        (lambda s: {"state_dict": [s]}, "state_dict.0"),
        (lambda s: [s], "0"),
        (lambda s: {"module." + k: v for k, v in s.items()}, ""),
        (lambda s: {"state_dict": {"module.model." + k: v for k, v in s.items()}}, "state_dict"),
        (lambda s: {"_orig_mod." + k: v for k, v in s.items()}, ""),
    ],
)
def test_wrappings_are_taken_off(
    wrap: Callable[[dict[str, Tensor]], Any], path: str, write: Callable[[bytes], Path]
) -> None:
    inner = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).state_dict()
    state = read(write(saved(wrap(dict(inner)), zipped=True))).states[0]
    assert state.path == path
    assert list(state.tensors) == list(inner)
    assert all(torch.equal(state.tensors[name], tensor) for name, tensor in inner.items())


@pytest.mark.parametrize("wrap", [lambda layers: {"model": layers, "epoch": 3}, lambda layers: list(layers.values())])
def test_a_dictionary_a_layer_is_one_network(wrap: Callable[[Any], Any], write: Callable[[bytes], Path]) -> None:
    """Not a network of its first layer and others beside."""
    inner = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    (state,) = read(write(saved(wrap({str(i): one.state_dict() for i, one in enumerate(inner)}), zipped=True))).states
    assert list(state.tensors) == [name for name in inner.state_dict() if "num_batches" not in name]
    assert all(torch.equal(tensor, inner.state_dict()[name]) for name, tensor in state.tensors.items())


def test_of_several_stages_the_first_is_taken_and_all_are_offered(write: Callable[[bytes], Path]) -> None:
    stages = [nn.Linear(4, 3).state_dict() for _ in range(3)]
    states = read(write(saved({"state_dict": stages}, zipped=True))).states
    assert [state.path for state in states] == ["state_dict.0", "state_dict.1", "state_dict.2"]
    for state, stage in zip(states, stages, strict=True):
        assert torch.equal(state.tensors["weight"], stage["weight"])


def test_safetensors_are_read_in_the_order_of_their_numbers(write: Callable[[bytes], Path]) -> None:
    tensors = {f"conv{i}.weight": torch.randn(i, 2) for i in (1, 2, 10, 11)} | {"b": torch.randn(2).bfloat16()}
    contents = read(write(to_safetensors(tensors, {"author": "x"})))
    assert (contents.format, dict(contents.metadata)) == ("safetensors", {"author": "x"})
    got = contents.states[0].tensors
    assert list(got) == ["b", "conv1.weight", "conv2.weight", "conv10.weight", "conv11.weight"]
    assert all(torch.equal(got[name], tensor.float()) for name, tensor in tensors.items())


def test_the_limit_on_the_file_holds(write: Callable[[bytes], Path]) -> None:
    path = write(saved(weights(), zipped=True))
    assert read(path, largest=path.stat().st_size).states
    with pytest.raises(CheckpointError, match="at most"):
        read(path, largest=path.stat().st_size - 1)


def test_no_more_is_copied_out_of_a_shared_storage_than_the_limit(
    write: Callable[[bytes], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = torch.randn(100, 100)
    path = write(saved({f"a{i}": whole for i in range(30)}, zipped=True))
    monkeypatch.setattr(containers, "LARGEST_FILE", 20 * 40_000)
    with pytest.raises(CheckpointError, match="share their data"):
        read(path)


@given(st.text(max_size=200))
def test_shown_names_are_safe_anywhere(name: str) -> None:
    text = shown(name)
    assert len(text) <= 60 * 6 + 1
    assert text.isprintable()
    assert not set("<>&\"'`*_[](){}|;\n") & set(text.replace("_", ""))
    assert json.loads(json.dumps(text)) == text


@given(st.lists(st.text(alphabet="ab0159._", max_size=8), max_size=6))
def test_natural_order_is_an_order(names: list[str]) -> None:
    once = sorted(names, key=natural)
    assert sorted(reversed(once), key=natural) == sorted(once, key=natural)
    assert sorted(once) == sorted(names)
