"""Loading networks: own files, hints, normalisations in the file, clean copies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import nn

from robustness_core import checkpoints
from robustness_core.checkpoints import CheckpointError, clean_copy, load, save, sha256
from robustness_core.networks import build
from testing import hostile_files as hostile

TEXT = "conv 4 4x4/2 p1, relu, conv 8 4x4/2 p1, relu, flatten, fc 16, relu, fc 10"
UPLOADS = Path(os.environ.get("STRATA_DATA", "/nowhere")).parent / "uploads"
needs_uploads = pytest.mark.skipif(not UPLOADS.is_dir(), reason="the uploads beside STRATA_DATA are not here")


@pytest.mark.parametrize("dtype", [None, torch.float16])
def test_own_files_need_no_hints(tmp_path: Path, dtype: torch.dtype | None) -> None:
    torch.manual_seed(0)
    network = build("conv 4 4x4/2 p1, bn, relu, flatten, fc 10", (1, 28, 28), mean=[0.1307], std=[0.3081]).eval()
    if dtype is not None:
        network.body.load_state_dict({k: t.to(dtype).to(t.dtype) for k, t in network.body.state_dict().items()})
    path = tmp_path / "own.safetensors"
    save(network, path, dtype=dtype)
    again = load(path)
    images = torch.rand(3, 1, 28, 28)
    with torch.no_grad():
        assert torch.equal(again(images), network(images))
    assert (again.architecture, again.mean, again.std) == (network.architecture, network.mean, network.std)
    assert (again.format, again.sha256) == ("safetensors", sha256(path))
    assert not again.training


def test_hints_decide_without_reading_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robustness_core.datasets.load", lambda *_: pytest.fail("images were read"))
    path = tmp_path / "upload.pt"
    path.write_bytes(hostile.zipped(hostile.state()))
    images = torch.rand(3, 1, 28, 28)
    plain = load(path, architecture=TEXT, input_shape=(1, 28, 28))
    with torch.no_grad():
        torch.testing.assert_close(plain(images), hostile.chain()(images))
        normal = load(path, architecture=TEXT, input_shape=(1, 28, 28), mean=[0.5], std=[0.25])
        torch.testing.assert_close(normal(images), hostile.chain()((images - 0.5) / 0.25))
    assert (plain.mean, normal.mean, normal.std, plain.format) == (None, (0.5,), (0.25,), "torch")


def test_the_shape_is_found_from_an_architecture_text(tmp_path: Path) -> None:
    path = tmp_path / "upload.pt"
    path.write_bytes(hostile.zipped(hostile.state()))
    assert load(path, architecture=TEXT).input_shape == (1, 28, 28)


def test_a_chosen_stage_is_taken(tmp_path: Path) -> None:
    second = {name: 2 * tensor for name, tensor in hostile.state().items()}
    path = tmp_path / "upload.pt"
    path.write_bytes(hostile.zipped({"state_dict": [hostile.state(), second]}))
    network = load(path, architecture=TEXT, stage="state_dict.1")
    assert torch.equal(network.body.get_parameter("conv1.weight"), second["0.weight"])
    with pytest.raises(CheckpointError, match=r"it has state_dict.0, state_dict.1"):
        load(path, architecture=TEXT, stage="state_dict.2")


@pytest.mark.parametrize("names", [("normalize.mean", "normalize.std"), ("mu", "sigma")])
def test_a_normalisation_in_the_file_is_used(names: tuple[str, str], tmp_path: Path) -> None:
    mean, std = torch.tensor([0.2]).view(1, 1, 1, 1), torch.tensor([0.4]).view(1, 1, 1, 1)
    path = tmp_path / "upload.pt"
    path.write_bytes(hostile.zipped({names[0]: mean, names[1]: std, **hostile.state()}))
    network = load(path)
    assert network.mean == pytest.approx((0.2,))
    assert network.std == pytest.approx((0.4,))


@pytest.mark.parametrize(
    ("mean", "std"),
    [([0.5], None), (None, [0.5]), ([0.5], [0.0]), ([0.5], [-1.0]), ([float("nan")], [1.0]), ([0.1, 0.2], [1.0])],
)
def test_an_impossible_normalisation_is_refused(
    mean: list[float] | None, std: list[float] | None, tmp_path: Path
) -> None:
    path = tmp_path / "upload.pt"
    path.write_bytes(hostile.zipped(hostile.state()))
    with pytest.raises(CheckpointError):
        load(path, architecture=TEXT, mean=mean, std=std)


@pytest.mark.parametrize("shape", [(28, 28), (1, 28, 0), (1, 28, 100000)])
def test_an_impossible_input_shape_is_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    path = tmp_path / "upload.pt"
    path.write_bytes(hostile.zipped(hostile.state()))
    with pytest.raises(CheckpointError, match="three sizes"):
        load(path, architecture=TEXT, input_shape=shape)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        load(tmp_path / "none.pt")


def test_a_clean_copy_holds_nothing_else_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "upload.pt"
    path.write_bytes(
        hostile.zipped({"secret": 3, "state_dict": {f"module.{k}": t for k, t in hostile.state().items()}})
    )
    network = load(path, architecture=TEXT, mean=[0.5], std=[0.5])
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(clean_copy(network))
    assert b"module" not in copy.read_bytes()
    assert clean_copy(load(copy)) == clean_copy(network)
    images = torch.rand(3, 1, 28, 28)
    with torch.no_grad():
        assert torch.equal(load(copy)(images), network(images))


@needs_uploads
@pytest.mark.parametrize("name", ["resnet_2b.onnx", "cifar10_small.onnx", "mnist-net_256x2.onnx"])
def test_a_clean_copy_of_a_graph_is_read_without_hints(name: str, tmp_path: Path) -> None:
    network = load(UPLOADS / name, architecture="as it is")
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(clean_copy(network))
    again = load(copy)
    images = torch.rand(3, *network.input_shape)
    with torch.no_grad():
        assert torch.equal(again(images), network(images))
    assert again.architecture == network.architecture


def test_the_hash_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_candidates_cost_nothing_of_the_weights(tmp_path: Path) -> None:
    """All guesses of a chain share the numbers of the file."""
    path = tmp_path / "upload.pt"
    path.write_bytes(hostile.zipped(hostile.state()))
    found = checkpoints.candidates(checkpoints.containers.read(path))
    assert len(found) > 5
    places = {c.body().get_parameter("conv1.weight").data_ptr() for c in found}
    assert len(places) == 1
    assert all(isinstance(c.body(), nn.Sequential) for c in found)
