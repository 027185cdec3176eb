"""What `inspect` says of real files and of networks trained here: architecture, normalisation, accuracy, layers."""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import helper
from torch import nn
from torch.nn import functional as F

from robustness_core import checkpoints, datasets, layers, operations
from robustness_core.__main__ import main
from robustness_core.checkpoints import CheckpointError, containers, identify, load
from robustness_core.checkpoints.report import Hints, inspect
from robustness_core.checkpoints.report import _doubt as doubt_of
from robustness_core.checkpoints.report import _strange as strange
from robustness_core.errors import DatasetError
from robustness_core.sandbox import parent as sandbox
from robustness_core.sandbox import untrusted
from testing import hostile_files as hostile
from testing import layouts

UPLOADS = Path(os.environ.get("STRATA_DATA", "/nowhere")).parent / "uploads"
needs_uploads = pytest.mark.skipif(not UPLOADS.is_dir(), reason="the uploads beside STRATA_DATA are not here")

IMAGENET, HALF = [0.485, 0.456, 0.406], [0.5, 0.5, 0.5]
# Of shared/README.md: the first words of the architecture, the normalisation, the accuracy on 10,000 test images.
TABLE: dict[str, tuple[str, Any, float]] = {
    "wong_mnist_small.pth": ("conv 16 4x4/2 p1, relu, conv 32 4x4/2 p1, relu, flatten, fc 100", None, 0.9820),
    "cifar_base_kw.pth": ("conv 8 4x4/2 p1, relu, conv 16 4x4/2 p1, relu, flatten, fc 100", (IMAGENET, 0.225), 0.5852),
    "cifar_base_kw.onnx": ("conv 8 4x4/2 p1, relu, conv 16 4x4/2 p1, relu, flatten, fc 100", (IMAGENET, 0.225), 0.5852),
    "cifar10_small.onnx": ("conv 8 4x4/2, relu, conv 16 4x4/2", None, 0.6314),
    "mnist-net_256x2.onnx": ("reshape, flatten, fc 256, relu, fc 256, relu, fc 10", None, 0.9808),
    "Convnet_avgpool.onnx": ("conv 32 2x2/1, relu, avgpool 4/4, flatten, fc 10", None, 0.9795),
    "resnet_2b.onnx": ("conv 8 3x3/2 p1, relu", ([0.4914, 0.4822, 0.4465], 0.2471), 0.6925),
    "resnet20.th": ("resnet20", (IMAGENET, 0.229), 0.9173),
    "captum_cifar.pt": ("conv 6 5x5/1, relu, maxpool 2/2, conv 16 5x5/1, relu, maxpool 2/2", (HALF, 0.5), 0.5908),
}


@needs_uploads
@pytest.mark.parametrize("name", TABLE)
def test_real_files_are_understood_without_hints(name: str) -> None:
    architecture, normalisation, accuracy = TABLE[name]
    report, network = inspect(UPLOADS / name)
    assert report["architecture"].startswith(architecture)
    assert report["accuracy"] == pytest.approx(accuracy, abs=0.005)
    assert report["images"] >= 1000
    if normalisation is None:
        assert report["normalisation"] is None
    else:
        assert report["normalisation"]["mean"] == pytest.approx(normalisation[0])
        assert report["normalisation"]["std"][0] == pytest.approx(normalisation[1])
    assert report["parameters"] == sum(p.numel() for p in network.parameters())
    check_layers(report)
    ties = [warning for warning in report["warnings"] if "answer as well within the noise" in warning]
    assert len(ties) == (name in ("cifar_base_kw.pth", "cifar_base_kw.onnx", "resnet20.th", "wong_mnist_small.pth"))
    # What inspect decided is all that a later load needs.
    hints = report["normalisation"] or {"mean": None, "std": None}
    again = load(UPLOADS / name, architecture=report["architecture"], input_shape=report["input_shape"], **hints)
    images = torch.rand(2, *report["input_shape"])
    with torch.no_grad():
        assert torch.equal(again(images), network(images))


def check_layers(report: dict[str, Any]) -> None:
    rows = report["layers"]
    assert rows[-1]["name"] == "logits"
    assert len({row["name"] for row in rows}) == len(rows)
    before = math.prod(report["input_shape"])
    for row in rows:
        assert row["features"] == math.prod(row["shape"])
        assert row["ratio"] == pytest.approx(before / row["features"])
        before = row["features"] if row["main"] else before
    json.dumps(report, allow_nan=False)


@needs_uploads
@pytest.mark.parametrize("name", TABLE)
def test_real_files_are_measured_on_a_machine_without_data(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The bundled images stand in; a normalisation that ties with the right one is named beside it."""
    monkeypatch.delenv("STRATA_DATA")
    monkeypatch.setenv("STRATA_CACHE", str(tmp_path))
    architecture, normalisation, accuracy = TABLE[name]
    report = sandbox.inspect(UPLOADS / name)
    assert report["architecture"].startswith(architecture)
    assert report["dataset"] == ("mnist-5k" if report["input_shape"][0] == 1 else "cifar10-2k")
    assert report["images"] == 1000
    margin = 3.5 * math.sqrt(accuracy * (1 - accuracy) / 1000)  # a thousand other images of the same kind
    highest = 1.0 if report["dataset"] == "mnist-5k" else accuracy + margin  # the bundled digits are training images
    assert accuracy - margin <= report["accuracy"] <= highest
    right = None if normalisation is None else normalisation[1]
    found = [one["normalisation"] and one["normalisation"]["std"][0] for one in report["candidates"]]
    if found[0] != right:
        assert "answer as well within the noise" in report["normalisation_doubt"]
        assert right in found
    assert bool(report["normalisation_doubt"]) == any("is not settled" in one for one in report["warnings"])
    unsettled = bool(report["normalisation_doubt"] or report["architecture_doubt"])
    assert (report["rival"] is not None) == (unsettled and not report["architecture"].startswith("resnet20"))
    assert (report["rival"] is not None) == any("A quick audit" in one for one in report["warnings"])


@needs_uploads
@pytest.mark.slow
@pytest.mark.parametrize("name", ["wong_mnist_small.pth", "cifar_base_kw.onnx", "resnet_2b.onnx", "captum_cifar.pt"])
def test_real_files_can_be_audited_at_two_layers(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    network, _ = untrusted.load(UPLOADS / name)
    names = layers.main_layers(network, network.input_shape)
    dataset = "mnist" if network.input_shape[0] == 1 else "cifar10"
    asked = ["--dataset", dataset, "--samples", "5", "--layers", f"{names[1]},logits", "--preset", "fast"]
    assert main(["audit", "--network", str(UPLOADS / name), *asked, "--device", "cpu", "--json", "-"]) == 0
    result = json.loads(capsys.readouterr().out)
    for layer in result["layers"]:
        (projection,) = layer["projections"]
        distances, collided = np.array(projection["distances"]), np.array(projection["collided"])
        assert distances.shape == (5, 5)
        assert np.isfinite(distances).all()
        assert collided.mean() >= 0.5


@needs_uploads
def test_the_command_line_prints_json(tmp_path: Path) -> None:
    copy = tmp_path / "copy.safetensors"
    options = [str(UPLOADS / "wong_mnist_small.pth"), "--json", "--copy", str(copy)]
    done = subprocess.run(
        [sys.executable, "-m", "robustness_core", "inspect", *options],
        cwd=sandbox.ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    wanted = {"format", "architecture", "input_shape", "normalisation", "accuracy", "dataset", "parameters", "sha256"}
    assert wanted | {"layers", "candidates", "warnings"} <= set(report)
    architecture, _, accuracy = TABLE["wong_mnist_small.pth"]
    assert report["accuracy"] == pytest.approx(accuracy, abs=0.005)
    assert load(copy).architecture.startswith(architecture)


# ------------------------------------------------------------------------------------- networks trained for these tests


def learnt(network: nn.Sequential) -> nn.Sequential:
    """The network after two passes over the bundled digits, normalised by 0.1307 and 0.3081."""
    torch.manual_seed(0)
    data = datasets.load("mnist-5k", "train")
    images = (torch.from_numpy(datasets.to_float(data.pixels)) - 0.1307) / 0.3081
    labels = torch.from_numpy(data.labels.copy())
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    for batch in torch.randperm(len(labels), generator=torch.Generator().manual_seed(0)).split(100) * 2:
        optimiser.zero_grad()
        loss = F.cross_entropy(network(images[batch]), labels[batch])
        torch.autograd.backward(loss)
        optimiser.step()
    return network.eval()


@pytest.fixture(scope="module")
def trained() -> dict[str, nn.Sequential]:
    """Small networks, one for each activation."""
    made = {}
    for name, activation in {"relu": nn.ReLU, "tanh": nn.Tanh}.items():
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(1, 8, 5, 1, 2), activation(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 5), activation(),
            nn.MaxPool2d(2), nn.Flatten(), nn.Linear(400, 10),
        )  # fmt: skip
        made[name] = learnt(network)
    return made


def test_settings_of_the_training_decide_where_accuracy_does_not(
    trained: dict[str, nn.Sequential], tmp_path: Path
) -> None:
    """Weights drawn at random answer by chance under any reading; of trained ones the accuracy decides."""
    settings = argparse.Namespace(activation="ELU", norm_mean=[0.21], norm_std=[0.29], dataset="FashionMNIST", lr=0.1)
    path = tmp_path / "upload.pt"
    path.write_bytes(hostile.zipped({"state_dict": hostile.state(), "args": settings}))
    report, _ = inspect(path, Hints(dataset="mnist-5k"))
    assert report["architecture"].count(", elu") == 3
    assert (report["normalisation_name"], report["normalisation"]["mean"]) == ("that of the file's settings", [0.21])
    assert any(one.startswith("The file names the data set FashionMNIST, and mnist-5k") for one in report["warnings"])
    assert not any("left unread" in one for one in report["warnings"])
    path.write_bytes(hostile.zipped({"state_dict": trained["relu"].state_dict(), "args": settings}))
    report, _ = inspect(path, Hints(dataset="mnist-5k"))
    assert report["architecture"].count("relu") == 2
    settings.dataset = "MNIST-5k"
    path.write_bytes(hostile.zipped({"state_dict": hostile.state(), "args": settings}))
    assert inspect(path)[0]["dataset"] == "mnist-5k"  # though the whole data set may be here
    settings.dataset = "MNIST"
    path.write_bytes(hostile.zipped({"state_dict": hostile.state(), "args": settings}))
    report, _ = inspect(path, Hints(dataset="mnist-5k"))
    assert not any("names the data set" in one for one in report["warnings"])


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_activation_pools_and_normalisation_are_found_by_accuracy(
    activation: str, trained: dict[str, nn.Sequential], tmp_path: Path
) -> None:
    path = tmp_path / "upload.pt"
    path.write_bytes(hostile.zipped(trained[activation].state_dict()))
    report, network = inspect(path, Hints(dataset="mnist-5k"))
    assert report["architecture"] == (
        f"conv 8 5x5/1 p2, {activation}, maxpool 2/2, conv 16 5x5/1, {activation}, maxpool 2/2, flatten, fc 10"
    )
    assert report["normalisation"] == {"mean": [0.1307], "std": [0.3081]}
    assert report["accuracy"] > 0.9
    assert report["dataset"] == "mnist-5k"
    assert report["normalisation_doubt"] == ""
    first, *others = report["candidates"]
    assert first["architecture"] == report["architecture"]
    assert len({(one["architecture"], one["normalisation_name"]) for one in report["candidates"]}) == 1 + len(others)
    images = torch.rand(2, 1, 28, 28)
    with torch.no_grad():
        torch.testing.assert_close(network(images), trained[activation]((images - 0.1307) / 0.3081))


STYLES: dict[str, Callable[[], list[nn.Module]]] = {
    "conv 8 5x5/1 p2, relu, bn, maxpool 2/2, flatten, fc 16, relu, fc 10": lambda: [  # said by the places
        nn.Conv2d(1, 8, 5, 1, 2), nn.ReLU(), nn.BatchNorm2d(8), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(1568, 16),
        nn.ReLU(), nn.Linear(16, 10),
    ],
    "conv 8 5x5/1 p2, bn, relu, maxpool 2/2, flatten, fc 16, fc 10": lambda: [
        nn.Conv2d(1, 8, 5, 1, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(1568, 16),
        nn.Linear(16, 10),
    ],
    "conv 16 5x5/1 p2, relu, maxpool 2/2, conv 32 5x5/1 p2 g16, relu, maxpool 2/2, gap, flatten, fc 10": lambda: [
        nn.Conv2d(1, 16, 5, 1, 2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 5, 1, 2, groups=16), nn.ReLU(),
        nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
    ],
    "conv 8 5x5/1 p2, prelu 8, maxpool 2/2, flatten, fc 10": lambda: [
        nn.Conv2d(1, 8, 5, 1, 2), nn.PReLU(8), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(1568, 10),
    ],
}  # fmt: skip


@pytest.mark.parametrize("text", STYLES)
def test_where_activations_and_pools_stand_is_found(text: str, tmp_path: Path) -> None:
    network = learnt(nn.Sequential(*STYLES[text]()))
    path = tmp_path / "upload.pt"
    path.write_bytes(hostile.zipped(network.state_dict()))
    report, found = inspect(path, Hints(dataset="mnist-5k", mean=[0.1307], std=[0.3081]))
    assert report["architecture"] == text
    images = torch.rand(3, 1, 28, 28)
    with torch.no_grad():
        torch.testing.assert_close(found(images), network((images - 0.1307) / 0.3081), rtol=1e-4, atol=1e-4)


def test_a_score_in_the_file_decides_and_another_is_told(trained: dict[str, nn.Sequential], tmp_path: Path) -> None:
    """Weights that answer better under a normalisation that is not theirs: the author's score says which is."""
    weights = trained["relu"].state_dict()
    path = tmp_path / "upload.pt"
    path.write_bytes(hostile.zipped(weights))
    report, _ = inspect(path, Hints(dataset="mnist-5k"))
    other = next(one for one in report["candidates"] if one["normalisation_name"] == "none")
    measured, _ = inspect(path, Hints(dataset="mnist-5k", architecture=report["architecture"], mean=[0.0], std=[1.0]))
    assert other["accuracy"] < report["accuracy"]
    for said in ({"acc": measured["accuracy"]}, {"test_err": 100 - 100 * measured["accuracy"]}):
        path.write_bytes(hostile.zipped({"state_dict": weights, **said}))
        again, _ = inspect(path, Hints(dataset="mnist-5k"))
        assert again["normalisation_name"] == "none"
        assert any(warning.startswith("Another reading answers more") for warning in again["warnings"])
    path.write_bytes(hostile.zipped({"state_dict": weights, "best_acc": torch.tensor(43.2)}))
    robust, _ = inspect(path, Hints(dataset="mnist-5k"))
    assert robust["architecture"] == report["architecture"]
    assert any(warning.startswith("The file says best_acc = 43.2") for warning in robust["warnings"])


@pytest.mark.parametrize(
    ("scores", "meant"),
    [({"acc": 630}, [0.63]), ({"err": 0.6476}, [0.3524]), ({"best_prec1": 81.18}, [0.8118]), ({"top1": 0.0}, [])],
)
def test_scores_are_fractions_per_cent_per_mille_or_errors(scores: dict[str, float], meant: list[float]) -> None:
    assert identify.accuracies(scores) == pytest.approx(meant)


def test_at_chance_the_likeliest_reading_is_taken_and_every_reason_named(tmp_path: Path) -> None:
    path = tmp_path / "upload.pt"
    path.write_bytes(hostile.zipped(hostile.state()))
    report, _ = inspect(path, Hints(dataset="mnist-5k"))
    assert report["architecture"] == "conv 4 4x4/2 p1, relu, conv 8 4x4/2 p1, relu, flatten, fc 16, relu, fc 10"
    (warning,) = [one for one in report["warnings"] if "near chance" in one]
    assert all(word in warning for word in ("architecture", "normalisation", "orientation", "order of the classes"))
    assert "other images than mnist-5k, such as Fashion-MNIST" in warning


@pytest.mark.parametrize(("turned", "order"), [(True, range(10)), (False, [3, 0, 1, 2, 9, 8, 7, 6, 5, 4])])
def test_transposed_images_and_another_order_of_the_classes_are_seen(
    turned: bool, order: Any, trained: dict[str, nn.Sequential], tmp_path: Path
) -> None:
    weights = {name: tensor.clone() for name, tensor in trained["relu"].state_dict().items()}
    if turned:
        weights = {name: one.mT.contiguous() if one.dim() == 4 else one for name, one in weights.items()}
        weights["7.weight"] = weights["7.weight"].reshape(10, 16, 5, 5).mT.reshape(10, 400)
    places = torch.argsort(torch.tensor(list(order)))  # label i is answered by output order[i]
    weights |= {name: weights[name][places] for name in ("7.weight", "7.bias")}
    path = tmp_path / "upload.pt"
    path.write_bytes(hostile.zipped(weights))
    report, _ = inspect(path, Hints(dataset="mnist-5k", mean=[0.1307], std=[0.3081]))
    said = "With the images transposed, 0.9" if turned else "With the outputs in the order 3, 0, 1, 2, 9, 8, 7, 6, 5, 4"
    assert any(warning.startswith(said) for warning in report["warnings"]), report["warnings"]


def test_a_softmax_at_the_end_changes_no_loss() -> None:
    logits = torch.randn(50, 10, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(50) % 10
    losses = [float(F.cross_entropy(identify._scores(one), labels)) for one in (logits, logits.softmax(1))]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_network_of_inverted_images_is_told_so(tmp_path: Path) -> None:
    """w (1 - x) + b of a linear network that answers well on x, whose normalisation is put into w and b first."""
    learnt_state = learnt(nn.Sequential(nn.Flatten(), nn.Linear(784, 10))).state_dict()
    weight = learnt_state["1.weight"] / 0.3081
    bias = learnt_state["1.bias"] - 0.1307 * weight.sum(1)
    path = tmp_path / "upload.pt"
    path.write_bytes(hostile.zipped({"1.weight": -weight, "1.bias": bias + weight.sum(1)}))
    report, _ = inspect(path, Hints(dataset="mnist-5k", mean=[0.0], std=[1.0]))
    assert any(one.startswith("With the images inverted, 0.") for one in report["warnings"]), report["warnings"]


def test_a_gradient_that_vanishes_is_told(tmp_path: Path) -> None:
    """Saturated sigmoids, and truth values that come back as numbers; not units that are dead, which collide."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 8), nn.Sigmoid(), nn.Linear(8, 10))
    path = tmp_path / "upload.pt"
    for weight, bias, vanishing in ((1.0, 0.0, []), (1e5, 0.0, ["fc1", "logits"]), (1.0, 1e4, [])):
        state = {name: one.clone() for name, one in network.state_dict().items()}
        state["1.weight"] *= weight
        state["1.bias"] += bias
        path.write_bytes(hostile.zipped(state))
        report, _ = inspect(path, Hints(dataset="mnist-5k", architecture="flatten, fc 8, sigmoid, fc 10"))
        assert report["vanishing"] == vanishing
        assert any(one.startswith("The gradient vanishes at fc1") for one in report["warnings"]) == bool(vanishing)
        assert any("the same answer" in one for one in report["warnings"]) == bool(bias)
    n = helper.make_node
    made = hostile.linear(
        n("Greater", ["x", "h"], ["g"]), n("Cast", ["g"], ["z"], to=1), source="z", tensors={"h": np.float32(0.5)}
    )
    path.write_bytes(made.SerializeToString())
    report, _ = inspect(path, Hints(dataset="mnist-5k"))
    assert any(warning.startswith("The gradient vanishes at ") for warning in report["warnings"])


def test_grey_images_are_repeated_on_three_channels(trained: dict[str, nn.Sequential], tmp_path: Path) -> None:
    weights = dict(trained["relu"].state_dict())
    kernel = torch.rand(8, 3, 5, 5)
    kernel[:, 2:] = weights["0.weight"] - kernel[:, :2].sum(1, keepdim=True)
    path = tmp_path / "upload.pt"
    path.write_bytes(hostile.zipped({**weights, "0.weight": kernel}))
    report, found = inspect(path)
    assert report["input_shape"] == [1, 28, 28]
    assert report["accuracy"] > 0.9
    assert any("grey images are repeated" in warning for warning in report["warnings"])
    images = torch.rand(2, 1, 28, 28)
    with torch.no_grad():
        wanted = trained["relu"]((images - 0.1307) / 0.3081)
        torch.testing.assert_close(found(images), wanted, rtol=1e-3, atol=1e-3)


def test_a_normalisation_in_units_of_pixels_is_divided(trained: dict[str, nn.Sequential], tmp_path: Path) -> None:
    path = tmp_path / "upload.pt"
    stored = {"mean": torch.tensor([0.1307 * 255]), "std": torch.tensor([0.3081 * 255])}
    path.write_bytes(hostile.zipped({**trained["relu"].state_dict(), **stored}))
    report, _ = inspect(path, Hints(dataset="mnist-5k"))
    assert report["normalisation"]["mean"] == pytest.approx([0.1307])
    assert report["normalisation"]["std"] == pytest.approx([0.3081])
    assert any("units of 0 to 255" in warning for warning in report["warnings"])


def test_norms_without_statistics_are_named_and_group_norms_built_where_told(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(1, 8, 4, 2, 1), nn.GroupNorm(4, 8), nn.ReLU(), nn.Flatten(), nn.Linear(1568, 10))
    path = tmp_path / "upload.pt"
    path.write_bytes(hostile.zipped(network.state_dict()))
    with pytest.raises(CheckpointError, match=r"gn and its number of groups \(1 for a layer norm\)"):
        inspect(path)
    _, found = inspect(path, Hints(architecture="conv 8 4x4/2 p1, gn 4, relu, flatten, fc 10", mean=[0.0], std=[1.0]))
    images = torch.rand(2, 1, 28, 28)
    with torch.no_grad():
        torch.testing.assert_close(found(images), network(images))
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 16), nn.LayerNorm(16), nn.ReLU(), nn.Linear(16, 10))
    nn.init.uniform_(network[2].weight)
    path.write_bytes(hostile.zipped(network.state_dict()))
    _, found = inspect(path, Hints(architecture="flatten, fc 16, gn 1, relu, fc 10", mean=[0.0], std=[1.0]))
    with torch.no_grad():
        torch.testing.assert_close(found(images), network(images))


def test_one_number_for_two_classes_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "upload.pt"
    path.write_bytes(hostile.zipped(nn.Sequential(nn.Flatten(), nn.Linear(784, 1)).state_dict()))
    with pytest.raises(CheckpointError, match="whose sign tells two classes apart"):
        inspect(path)


def test_hints_of_the_user_win(trained: dict[str, nn.Sequential], tmp_path: Path) -> None:
    path = tmp_path / "upload.pt"
    path.write_bytes(hostile.zipped(trained["relu"].state_dict()))
    text = "conv 8 5x5/1 p2, relu, avgpool 2/2, conv 16 5x5/1, relu, maxpool 2/2, flatten, fc 10"
    report, _ = inspect(path, Hints(dataset="mnist-5k", architecture=text, mean=[0.5], std=[0.5]))
    assert report["architecture"] == text
    assert report["normalisation"] == {"mean": [0.5], "std": [0.5]}
    assert report["normalisation_doubt"] == ""
    assert len(report["candidates"]) == 1


def test_usual_normalisations_are_measured_also_of_a_file_that_says_one(
    trained: dict[str, nn.Sequential], tmp_path: Path
) -> None:
    """A clean copy that went in with a wrong one: its own is not asked, and a corrected copy is another file."""
    path = tmp_path / "upload.pt"
    path.write_bytes(hostile.zipped(trained["relu"].state_dict()))
    _, wrong = inspect(path, Hints(dataset="mnist-5k", mean=[0.0], std=[1.0]))
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(checkpoints.clean_copy(wrong))
    said, _ = inspect(copy)
    assert (said["normalisation_name"], said["normalisation"]) == ("given", {"mean": [0.0], "std": [1.0]})
    report, right = inspect(copy, Hints(dataset="mnist-5k", measure_normalisations=True))
    assert report["normalisation"] == {"mean": [0.1307], "std": [0.3081]}
    assert {one["normalisation_name"] for one in report["candidates"]} >= {"MNIST", "none", "−1 to 1"}
    assert checkpoints.clean_copy(right) != copy.read_bytes()
    images = torch.rand(2, 1, 28, 28)
    with torch.no_grad():
        torch.testing.assert_close(right(images), trained["relu"]((images - 0.1307) / 0.3081))


def test_without_images_the_first_guess_is_taken_and_it_is_said(
    trained: dict[str, nn.Sequential], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: str) -> None:
        raise DatasetError("The images are not here.")

    monkeypatch.setattr(datasets, "load", missing)
    path = tmp_path / "upload.pt"
    path.write_bytes(hostile.zipped(trained["relu"].state_dict()))
    report, _ = inspect(path)
    assert (report["accuracy"], report["dataset"], report["candidates"]) == (None, None, [])
    assert any("The images are not here." in warning for warning in report["warnings"])
    assert report["normalisation_doubt"] == "no accuracy was measured"
    assert any(warning.startswith("The normalisation (none) is not settled: no") for warning in report["warnings"])


def test_other_numbers_of_classes_are_not_measured(tmp_path: Path) -> None:
    path = tmp_path / "upload.pt"
    path.write_bytes(hostile.zipped(nn.Sequential(nn.Flatten(), nn.Linear(784, 7)).state_dict()))
    report, _ = inspect(path)
    assert (report["classes"], report["accuracy"]) == (7, None)
    assert any("7 outputs" in warning for warning in report["warnings"])
    assert report["normalisation_doubt"] == "no accuracy was measured"


def test_images_of_a_wrong_shape_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "upload.pt"
    path.write_bytes(hostile.zipped(nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)).state_dict()))
    with pytest.raises(CheckpointError, match="wants images of 3×32×32, but those of mnist-5k are 1×28×28"):
        inspect(path, Hints(dataset="mnist-5k"))


def test_several_state_dicts_are_told(tmp_path: Path) -> None:
    path = tmp_path / "upload.pt"
    path.write_bytes(hostile.zipped({"state_dict": [hostile.state(), hostile.state()]}))
    report, _ = inspect(path, Hints(dataset="mnist-5k"))
    assert report["stages"] == ["state_dict.0", "state_dict.1"]
    assert any("2 state_dicts" in warning for warning in report["warnings"])


def test_networks_that_cost_too_much_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "DEAREST", 1e4)
    path = tmp_path / "upload.pt"
    path.write_bytes(hostile.zipped(hostile.state()))
    with pytest.raises(CheckpointError, match="multiplications an image"):
        inspect(path)


def test_a_deadline_that_has_passed_still_gives_an_answer(trained: dict[str, nn.Sequential], tmp_path: Path) -> None:
    path = tmp_path / "upload.pt"
    path.write_bytes(hostile.zipped(trained["relu"].state_dict()))
    report, _ = inspect(path, Hints(dataset="mnist-5k"), deadline=0.0)
    assert report["images"] > 0
    assert report["normalisation_doubt"] != ""  # a few images decide nothing
    check_layers(report)


def test_normalisations_tie_within_the_noise_of_as_many_images() -> None:
    candidate = identify.Candidate("a", (1, 28, 28), nn.Identity)

    def trial(convention: str, images: int, correct: int) -> identify.Trial:
        made = identify.Trial(candidate, None, convention, images=images, correct=correct)
        made.history[images] = made.accuracy
        return made

    best, near, far, few = trial("a", 400, 360), trial("b", 400, 352), trial("c", 400, 348), trial("d", 50, 49)
    assert [one.convention for one in identify.tied_with_best([best, near, far, few])] == ["a", "b"]


@pytest.mark.parametrize(
    ("accuracies", "images", "doubt"),
    [
        ((0.9, 0.5), 400, ""),
        ((0.9, 0.89), 400, "others answer as well within the noise (b)"),
        ((0.9, 0.5), 60, "the usual ones were compared on 60 images only"),
        ((0.15, 0.05), 400, "none of the usual ones answers better than by chance"),
    ],
)
def test_a_normalisation_is_settled_by_enough_images_only(
    accuracies: tuple[float, float], images: int, doubt: str
) -> None:
    candidate = identify.Candidate("a", (1, 28, 28), nn.Identity)
    trials = []
    for convention, accuracy in zip("ab", accuracies, strict=True):
        made = identify.Trial(candidate, None, convention, images=images, correct=round(accuracy * images))
        made.history[images] = made.accuracy
        trials.append(made)
    assert doubt_of(identify.Choice(tuple(trials), "mnist-5k")) == doubt


@pytest.mark.parametrize(("correct", "doubtful"), [(42, True), (45, False)])
def test_what_is_chance_depends_on_the_number_of_classes(leaves: datasets.Entry, correct: int, doubtful: bool) -> None:
    """A third of three classes, not a tenth."""
    trial = identify.Trial(
        identify.Candidate("a", leaves.input_shape, nn.Identity), None, "none", images=100, correct=correct
    )
    assert identify.Choice((trial,), leaves.name).by_chance is doubtful


def test_the_stem_of_a_residual_network_is_found_by_accuracy(tmp_path: Path) -> None:
    """Of costly networks the architectures are compared first: here one whose stem answers right on its own labels."""
    original = layouts.ready(lambda: layouts.TorchvisionResNet((1, 1, 1, 1), stem=(3, 1, 1, True)))
    path = tmp_path / "upload.pt"
    torch.save(original.state_dict(), path)
    found = checkpoints.candidates(containers.read(path))
    pixels = torch.rand(40, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        labels = original(pixels).argmax(1)
    data = identify.Images("made up", pixels, labels)
    trials = identify._trials(found, data)
    ranked = identify._architectures(found, trials, data, math.inf)
    assert ranked[0].candidate.architecture.endswith("-pool")
    assert ranked[0].accuracy == 1.0


@pytest.mark.parametrize(
    ("activation", "mean", "named"),
    [(nn.ReLU, 0.0, []), (nn.Tanh, 0.0, ["4"]), (nn.ReLU, 0.5, ["1", "4"])],
    ids=["as trained", "another activation", "another normalisation"],
)
def test_norms_whose_statistics_are_of_other_features_are_named(
    activation: type[nn.Module], mean: float, named: list[str]
) -> None:
    """The statistics are those of the images themselves, with ReLU and no normalisation."""
    torch.manual_seed(0)
    body = nn.Sequential(
        nn.Conv2d(1, 8, 3, 2), nn.BatchNorm2d(8, momentum=None), nn.ReLU(),
        nn.Conv2d(8, 8, 3, 2), nn.BatchNorm2d(8, momentum=None), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10),
    )  # fmt: skip
    nn.init.constant_(body.get_parameter("1.weight"), 4.0)  # far from where the activations are alike
    body(torch.from_numpy(datasets.to_float(datasets.load("mnist-5k", "train").pixels[:500])))
    body[2] = activation()
    made = checkpoints.Candidate("text", (1, 28, 28), lambda: body)
    network = made.network([mean], [1.0])
    assert identify.unlike(network, "mnist-5k", 1e5) == named
    assert identify.unlike(network, "mnist-5k", 1e9) == []  # too dear to be looked at
    for right, told in ((90, bool(named)), (10, False)):  # at chance other things are said
        chosen = identify.Choice((identify.Trial(made, None, "none", 1e5, 100, right),), "mnist-5k")
        said = strange(chosen, network)
        assert bool(said) == told
        assert not told or said[0].startswith(f"The statistics stored in {', '.join(named)} are not those of mnist-5k")


def test_multiplications_are_counted() -> None:
    body = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * 784, 10))
    network = identify.Network(body, (1, 28, 28), architecture="")
    assert identify._multiplications(network) == 1 + 784 * 36 + 4 * 784 * 10
