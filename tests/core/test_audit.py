"""A whole audit without database: its JSON, its bounds, and what the command line says of bad input."""

import json
import platform
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from robustness_core import datasets
from robustness_core.__main__ import main
from robustness_core.checkpoints import load, save
from robustness_core.engine.audit import InMemory
from robustness_core.engine.result import AuditResult, read
from robustness_core.engine.scheduler import Block
from robustness_core.engine.tasks import Distances
from robustness_core.errors import StrataError
from robustness_core.networks import build
from robustness_core.optimal_loss.conflict_graph import input_distances

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("networks") / "made-up.safetensors"
    save(build("conv 4 4x4/4, relu, flatten, fc 20, relu, fc 10", (1, 28, 28)), path, None)
    return path


def audit(network: Path, folder: Path, *arguments: str) -> dict[str, Any]:
    out = folder / "out.json"
    usual = ["audit", "--network", str(network), "--dataset", "mnist-5k", "--device", "cpu", "--json", str(out)]
    assert main([*usual, *arguments]) == 0
    return json.loads(out.read_text())


def test_the_json_is_what_other_programs_rely_on(network: Path, tmp_path: Path) -> None:
    arguments = ("--classes", "3", "7", "--samples", "3", "--layers", "all", "--m", "5", "--projections", "2")
    result = audit(network, tmp_path, *arguments, "--seed", "4", "--epsilon", "0:6:13")
    assert result["classes"] == [3, 7]
    assert len(result["left_indices"]) == len(result["right_indices"]) == 3
    np.testing.assert_allclose(result["epsilon"], np.linspace(0, 6, 13))
    assert [layer["layer"] for layer in result["layers"]] == ["conv1", "fc1", "logits"]
    assert [layer["features"] for layer in result["layers"]] == [196, 20, 10]
    for layer in result["layers"]:
        assert layer["m"] == 5
        assert [projection["seed"] for projection in layer["projections"]] == [4, 5]
        for projection in layer["projections"]:
            assert np.shape(projection["distances"]) == np.shape(projection["residuals"]) == (3, 3)
            assert np.all(projection["collided"])
            assert np.max(projection["residuals"]) <= 1e-4
            loss = np.array(projection["loss"])
            assert (np.diff(loss) >= 0).all()
            assert loss[-1] <= np.log(2) + 1e-12
        curves = [projection["loss"] for projection in layer["projections"]]
        np.testing.assert_allclose(layer["mean_loss"], np.mean(curves, axis=0))
    assert result["network_sha256"]
    assert result["versions"]["torch"] == torch.__version__
    assert result["method"] == "balanced"
    assert result["method_version"] >= 1


def test_a_data_set_of_one_row_is_audited(leaves: datasets.Entry, tmp_path: Path) -> None:
    """Three classes, images that are not square, one split: nothing but the row in the registry knows of them."""
    path = tmp_path / "leaves.safetensors"
    torch.manual_seed(0)
    save(build("conv 4 3x3/1, relu, flatten, fc 3", leaves.input_shape), path, None)
    command = ["audit", "--network", str(path), "--samples", "3", "--m", "2", "--device", "cpu", "--json"]
    assert main([*command, str(tmp_path / "out.json")]) == 0
    result = json.loads((tmp_path / "out.json").read_text())
    assert (result["dataset"], tuple(result["classes"])) == ("leaves", leaves.pair)
    data = leaves.open()
    for label, side in zip(leaves.pair, ("left_indices", "right_indices"), strict=True):
        assert data.labels[result[side]].tolist() == [label] * 3
    assert [layer["features"] for layer in result["layers"]] == [4 * 3 * 5, 3]
    half = input_distances(*(data.pixels[result[side]] for side in ("left_indices", "right_indices")))
    for layer in result["layers"]:
        (projection,) = layer["projections"]
        assert np.all(projection["collided"])
        assert (np.array(projection["distances"]) <= half * (1 + 1e-6)).all()
        assert (np.array(projection["distances"]) > 0).all()


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """SIGINT interrupts, as at a terminal; a process that was started in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def assert_equal(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Two documents of an audit are the same, but for the rounding of a mean of equal numbers."""
    both = [[p.pop("mean_passes") for layer in d["layers"] for p in layer["projections"]] for d in (one, other)]
    np.testing.assert_allclose(*np.array(both, dtype=float), rtol=1e-12)
    assert one == other


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_keeps_what_was_found(
    network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = ("--samples", "9", "--layers", "fc1,logits", "--m", "4", "--preset", "fast")
    whole = audit(network, tmp_path, *usual)
    assert "partial" not in whole
    record, out = InMemory.record, tmp_path / "part.json"

    def then_stop(self: InMemory, block: Block, answer: Distances) -> None:
        record(self, block, answer)
        if sum(int(found.known.sum()) for found in self.found.values()) > 81:  # of 162: the first block of the second
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(InMemory, "record", then_stop)
    arguments = ["audit", "--network", str(network), "--dataset", "mnist-5k", "--device", "cpu", "--json", str(out)]
    assert main([*arguments, *usual]) == 130
    assert capsys.readouterr().err.splitlines()[-1].startswith("strata: stopped; ")
    part = json.loads(out.read_text())
    assert part["partial"] is True
    assert part["layers"][0] == whole["layers"][0]
    (one,), (wanted,) = (written["layers"][1]["projections"] for written in (part, whole))
    known = np.array([[value is not None for value in row] for row in one["distances"]])
    assert 0 < known.sum() < 81
    for name in ("distances", "residuals", "collided"):
        left_out = np.where(known, np.array(wanted[name], dtype=object), None)
        assert np.array_equal(np.array(one[name], dtype=object), left_out), name
    assert np.all(np.array(one["loss"]) <= wanted["loss"])  # fewer edges: a lower bound still
    result = AuditResult.from_json(part)
    assert (result.known, result.total) == (81 + known.sum(), 162)
    assert_equal(result.to_json(), part)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_before_anything_was_found_writes_nothing(
    network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.json"
    monkeypatch.setattr(InMemory, "record", lambda self, block, answer: signal.raise_signal(signal.SIGINT))
    arguments = ["audit", "--network", str(network), "--dataset", "mnist-5k", "--device", "cpu", "--json", str(out)]
    assert main([*arguments, "--samples", "2", "--layers", "logits", "--m", "4", "--preset", "fast"]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "strata: stopped."
    assert not out.exists()


def test_a_written_audit_is_read_as_it_was(network: Path, tmp_path: Path) -> None:
    arguments = (
        "--samples",
        "2",
        "--layers",
        "all",
        "--m",
        "5",
        "15",
        "none",
        "--projections",
        "2",
        "--preset",
        "fast",
    )
    written = audit(network, tmp_path, *arguments)
    result = read(tmp_path / "out.json")
    assert_equal(result.to_json(), written)
    assert [one.series for one in result.series] == [
        one
        for one in result.spec.search.series(written["network_sha256"], {"logits": 10})
        if (one.layer, one.m) != ("logits", 15)
    ]
    for text in ("{}", "nothing", "[1]"):
        (tmp_path / "other.json").write_text(text)
        with pytest.raises(StrataError, match=r"other\.json is not the JSON of an audit"):
            read(tmp_path / "other.json")


def test_without_a_data_set_the_bundled_one_that_fits_is_taken(tmp_path: Path) -> None:
    few = ("--samples", "1", "--layers", "logits", "--preset", "fast", "--device", "cpu", "--json")
    for shape, dataset in (((1, 28, 28), "mnist-5k"), ((3, 32, 32), "cifar10-2k")):
        path, out = tmp_path / f"{dataset}.safetensors", tmp_path / f"{dataset}.json"
        save(build("flatten, fc 10", shape), path, None)
        assert main(["audit", "--network", str(path), *few, str(out)]) == 0
        assert json.loads(out.read_text())["dataset"] == dataset


def test_a_normalisation_that_is_given_replaces_that_of_the_file(tmp_path: Path) -> None:
    """As if the file had been saved with it."""
    torch.manual_seed(0)
    plain = build("flatten, fc 12, relu, fc 10", (1, 28, 28))
    right = build("flatten, fc 12, relu, fc 10", (1, 28, 28), mean=[0.1307], std=[0.3081])
    right.body.load_state_dict(plain.body.state_dict())
    found = {}
    for name, network, given in (
        ("plain", plain, ()),
        ("given", plain, ("--mean", "0.1307", "--std", "0.3081")),
        ("saved", right, ()),
    ):
        path = tmp_path / f"{name}.safetensors"
        save(network, path, None)
        result = audit(path, tmp_path, "--samples", "2", "--layers", "fc1", "--m", "4", "--preset", "fast", *given)
        found[name] = np.array(result["layers"][0]["projections"][0]["distances"])
    np.testing.assert_allclose(found["given"], found["saved"], rtol=1e-4)
    assert np.abs(found["given"] - found["plain"]).max() > 1e-2


def test_a_layer_smaller_than_m_is_left_out_with_a_note(
    network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = audit(network, tmp_path, "--samples", "2", "--layers", "all", "--m", "5", "15", "--epsilon", "0:6:3")
    found = [(layer["layer"], layer["m"]) for layer in result["layers"]]
    assert found == [("conv1", 5), ("conv1", 15), ("fc1", 5), ("fc1", 15), ("logits", 5)]
    assert result["layers_left_out"] == [{"layer": "logits", "m": 15}]
    assert all(np.isfinite(layer["mean_loss"]).all() for layer in result["layers"])
    assert "strata: Left out, for m is above the number of features: logits (10) at m = 15." in capsys.readouterr().err


def test_a_larger_sample_keeps_the_smaller_ones_distances(network: Path, tmp_path: Path) -> None:
    few = audit(network, tmp_path, "--samples", "2", "--layers", "fc1", "--m", "4")
    more = audit(network, tmp_path, "--samples", "4", "--layers", "fc1", "--m", "4")
    assert more["left_indices"][:2] == few["left_indices"]
    small, large = (np.array(r["layers"][0]["projections"][0]["distances"]) for r in (few, more))
    np.testing.assert_array_equal(large[:2, :2], small)


def test_without_projection_a_wide_layer_has_the_curve_of_the_input_space(network: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    wide = tmp_path / "wide.safetensors"
    save(build("conv 40 3x3/1 p1, relu, flatten, fc 10", (1, 28, 28)), wide, None)
    result = audit(wide, tmp_path, "--samples", "2", "--layers", "conv1", "--m", "none")
    np.testing.assert_allclose(result["layers"][0]["mean_loss"], result["input_loss"], atol=1e-12)


def test_a_saved_network_is_the_network(network: Path) -> None:
    loaded = load(network)
    torch.manual_seed(0)
    made = build("conv 4 4x4/4, relu, flatten, fc 20, relu, fc 10", (1, 28, 28)).eval()
    images = torch.rand(2, 1, 28, 28)
    torch.testing.assert_close(loaded(images), made(images), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--m", "0"], "m is 0"),
        (["--m", "21", "--layers", "fc1"], "larger than the 20 features of layer fc1"),
        (["--m", "ten"], "whole number, or none"),
        (["--samples", "401"], "larger than class 3, which has 400 images"),
        (["--samples", "0"], "1 or more"),
        (["--layers", ","], "at least one layer"),
        (["--layers", "conv9"], "no layer 'conv9'"),
        (["--epsilon", "3:1:5"], "must be above"),
        (["--epsilon", "3"], "start:stop:count"),
        (["--classes", "3", "3"], "must differ"),
        (["--dataset", "imagenet"], "There is no data set 'imagenet'"),
        (["--split", "validation"], "There is no split 'validation' of mnist-5k: give train or test."),
        (["--classes", "3", "12"], "There is no class 12 in mnist-5k: its classes are 0 to 9."),
        (["--method", "fab"], "not one of"),
        (["--device", "abacus"], "not available"),
        (["--network", "nobody"], "no network 'nobody'"),
        (["--json", "/no/such/folder/out.json"], "does not exist"),
        (["--json", "/tmp"], "'/tmp' is a folder; name a file"),
        (["--json", "/proc/out.json"], "'/proc/out.json' cannot be written"),
        (
            ["--network", "cifar10-medium-pgd0.5", "--dataset", "mnist-5k"],
            "takes 3×32×32 images; those of mnist-5k are 1×28×28",
        ),
    ],
)
def test_bad_input_is_one_line_and_exit_status_2(
    network: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert main(["audit", "--network", str(network), "--samples", "2", "--layers", "fc1", *arguments]) == 2
    captured = capsys.readouterr()
    last = captured.err.strip().splitlines()[-1]
    assert last.startswith("strata: ")
    assert says in last
    assert "Traceback" not in captured.err
    assert captured.out == ""


def test_what_is_left_out_makes_room_and_every_other_distance_stays(network: Path, tmp_path: Path) -> None:
    usual = ("--samples", "3", "--layers", "conv1", "--m", "5")
    whole = audit(network, tmp_path, *usual)
    first = whole["left_indices"][0]
    without = audit(network, tmp_path, "--leave-out", str(first), *usual)
    assert without["left_indices"][:2] == whole["left_indices"][1:]
    assert first not in without["left_indices"]
    assert len(without["left_indices"]) == 3
    assert without["right_indices"] == whole["right_indices"]
    assert without["spec"]["left_out"] == [first]
    one, other = (np.array(result["layers"][0]["projections"][0]["distances"]) for result in (whole, without))
    np.testing.assert_allclose(other[:2], one[1:], rtol=1e-4)


@pytest.mark.parametrize("arguments", [["audit"], ["train", "--epochs", "many"], ["nothing"]])
def test_complaints_about_options_begin_like_all_others(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("strata: ")


def test_a_device_is_named_with_its_processor_and_threads() -> None:
    from robustness_core.engine.compute import device_name

    said = device_name(torch.device("cpu"))
    assert said.startswith(f"cpu ({platform.machine()}")
    assert said.endswith(f", {torch.get_num_threads()} threads)")
    models = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    assert not models or models[0].strip() in said
