"""The bytes of the project's own files, on which the hashes of all stored networks stand, against the library's."""

from __future__ import annotations

import hashlib
import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from hypothesis.extra import numpy as arrays
from safetensors import safe_open
from safetensors.numpy import load as library_load
from safetensors.numpy import save as library_save

from robustness_core.checkpoints import clean_copy, load, save
from robustness_core.errors import CheckpointError
from robustness_core.files import Description, described, read_card, read_header, to_bytes
from robustness_core.networks import Network, build, programs
from robustness_core.zoo import ZOO

STEPS = (
    programs.Step("one", "conv", ("input",), {"inputs": 1, "outputs": 4, "kernel": [4, 4], "stride": [4, 4]}),
    programs.Step("two", "bn", ("one",), {"features": 4, "image": True, "eps": 1e-5}),
    programs.Step("three", "reshape", ("two",), {"shape": [196]}),
    programs.Step("Four", "fc", ("three",), {"inputs": 196, "outputs": 10}),
)


def counted(network: Network) -> Network:
    """With weights that every version of torch agrees about, and that float16 holds."""
    for tensor in network.body.state_dict().values():
        tensor.copy_((torch.arange(tensor.numel()) % 97 / 64).reshape(tensor.shape))
    return network.eval()


def plain(*, normalised: bool) -> Network:
    given = {"mean": [0.1307], "std": [0.3081]} if normalised else {}
    return counted(build("conv 4 4x4/4, bn, relu, flatten, fc 10", (1, 28, 28), **given))  # type: ignore[arg-type]


def graph() -> Network:
    return counted(Network(programs.build(STEPS), (1, 28, 28), architecture=programs.describe(STEPS)))


@pytest.mark.parametrize(
    ("normalised", "dtype", "sha256"),
    [
        (True, None, "d1969514a8a0feb946266b3b300677ffb0bed7d7d386eaf04db715e9f07a8cff"),
        (True, torch.float16, "e1e2c48c3dfd2c9fe17fe48fc8a5c73bac3d8514c740b771db9398c1d78890af"),
        (False, None, "d7a782acf4c6f71b1d7f30f8851bdef0ad33daa21648dfaa698f04e88938739e"),
        (False, torch.float16, "e717b5bd449badb2743cf4b8ca2fcd74596d0b2a0560db943ce0098eb4f0cb50"),
    ],
)
def test_a_trained_network_keeps_its_hash(
    normalised: bool, dtype: torch.dtype | None, sha256: str, tmp_path: Path
) -> None:
    """Not an oracle but a promise: what is known of a network is found by the hash that it had when it was stored."""
    save(plain(normalised=normalised), tmp_path / "net.safetensors", dtype=dtype)
    assert hashlib.sha256((tmp_path / "net.safetensors").read_bytes()).hexdigest() == sha256


@pytest.mark.parametrize(
    ("network", "sha256"),
    [
        (lambda: plain(normalised=True), "fa90b30a9d57099b4cf26771671bdf74b78d6163930c6835622b0d41d921af1d"),
        (lambda: plain(normalised=False), "fcab1d35156210bba4f77c3ffa0e82c0ffffed83c8562897bb3d9bc06a22a0c7"),
        (graph, "e1987d473e7bd2826d63f6114aed9254fa16423349f0243a8945eac4a317b44a"),
    ],
)
def test_an_upload_keeps_its_hash(network, sha256: str) -> None:
    assert hashlib.sha256(clean_copy(network())).hexdigest() == sha256


@pytest.mark.parametrize("path", sorted(ZOO.glob("*.safetensors")), ids=lambda path: path.stem)
def test_the_zoo_is_written_again_byte_for_byte(path: Path) -> None:
    with safe_open(path, framework="numpy") as file:
        tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()
    assert to_bytes(tensors, metadata, wide_first=True) == path.read_bytes()
    said = described(path)
    assert said is not None
    assert said.metadata() == metadata
    assert said.architecture == read_card(path)["architecture"]


NUMBERS = arrays.arrays(
    some.sampled_from([np.float32, np.float16, np.int64]), arrays.array_shapes(min_dims=0, max_dims=4, min_side=0)
)


@settings(deadline=None)
@given(
    some.dictionaries(some.text(max_size=8).filter(lambda name: name != "__metadata__"), NUMBERS, max_size=6),
    some.dictionaries(some.text(max_size=8), some.text(max_size=8), max_size=4),
    some.booleans(),
)
def test_the_library_reads_what_is_written_and_the_header_says_where_it_lies(tensors, metadata, wide_first) -> None:
    content = to_bytes(tensors, metadata, wide_first=wide_first)
    backwards = dict(reversed(tensors.items())), dict(reversed(metadata.items()))
    assert to_bytes(*backwards, wide_first=wide_first) == content
    found, (said, places) = library_load(content), read_header(BytesIO(content))
    assert said == metadata
    assert set(places) == set(found) == set(tensors)
    for name, (kind, shape, place) in places.items():
        assert (kind, shape) == (tensors[name].dtype.name, tensors[name].shape)
        assert found[name].tobytes() == content[place] == tensors[name].tobytes()


@settings(deadline=None)
@given(some.dictionaries(some.text("abc.0", min_size=1, max_size=8), NUMBERS, min_size=1, max_size=6))
def test_wide_numbers_lie_first_as_in_the_library(tensors) -> None:
    ours, theirs = to_bytes(tensors, {"a": "b"}, wide_first=True), library_save(tensors, {"a": "b"})
    starts = [int.from_bytes(content[:8], "little") + 8 for content in (ours, theirs)]
    assert ours[starts[0] :] == theirs[starts[1] :]
    assert json.loads(ours[8 : starts[0]]) == json.loads(theirs[8 : starts[1]])


@pytest.mark.parametrize("network", [lambda: plain(normalised=True), lambda: plain(normalised=False), graph])
@pytest.mark.parametrize("how", ["saved", "copied"])
def test_both_layouts_are_read_as_the_same_network(network, how: str, tmp_path: Path) -> None:
    path, original = tmp_path / "net.safetensors", network()
    if how == "saved":
        save(original, path)
    else:
        path.write_bytes(clean_copy(original))
    again, pixels = load(path), torch.linspace(0, 1, 784).reshape(1, 1, 28, 28)
    with torch.no_grad():
        assert torch.equal(again(pixels), original(pixels))
    assert (again.architecture, again.mean, again.std) == (original.architecture, original.mean, original.std)
    assert clean_copy(again) == clean_copy(original)


def test_what_a_file_says_is_what_was_said() -> None:
    for said in (
        Description("flatten, fc 10", (1, 28, 28)),
        Description("wrn-10-2", (3, 32, 32), (0.1, 0.2, 1 / 3), (0.5, 0.5, 1e-3)),
        Description("flatten, fc 10", (1, 28, 28), program="[]"),
    ):
        assert Description.of(said.metadata()) == said
    assert Description.of({"author": "x", "architecture": "fc 10"}) is None


@pytest.mark.parametrize(
    "damage",
    [
        {"input_shape": "[1, 28"},
        {"input_shape": "[1, 28]"},
        {"input_shape": "[1, 28, 0]"},
        {"input_shape": "[1e999, 28, 28]"},
        {"input_shape": "28"},
        {"mean": "[0.5]", "std": ""},
        {"mean": "[0.5]", "std": "[0]"},
        {"mean": "[NaN]", "std": "[1]"},
        {"mean": "[[0.5]]", "std": "[1]"},
    ],
)
def test_a_damaged_description_is_one_sentence(damage: dict[str, str], tmp_path: Path) -> None:
    metadata = {**Description("flatten, fc 10", (1, 28, 28)).metadata(), **damage}
    with pytest.raises(CheckpointError, match="its input shape or normalisation is damaged"):
        Description.of(metadata)
    (tmp_path / "net.safetensors").write_bytes(to_bytes({}, metadata))
    assert described(tmp_path / "net.safetensors") is None


def test_only_a_file_of_the_project_is_described(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    assert described(path) is None
    for content in (b"", b"\x02\0\0\0\0\0\0\0{}", b"not safetensors at all", to_bytes({}, {"author": "x"})):
        path.write_bytes(content)
        assert described(path) is None
