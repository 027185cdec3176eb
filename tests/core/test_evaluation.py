"""Tests of the measurements: linear classifiers whose answers are known, the command, and the zoo's cards."""

from __future__ import annotations

import argparse
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from robustness_core import datasets
from robustness_core.__main__ import main
from robustness_core.checkpoints import load, save
from robustness_core.commands import evaluate as command
from robustness_core.commands import zoo
from robustness_core.errors import DatasetError
from robustness_core.files import read_card
from robustness_core.networks import build
from robustness_core.spec import sample_indices
from robustness_core.training import evaluation, references
from robustness_core.training.attacks import pgd

ZOO = Path(__file__).resolve().parents[2] / "zoo"
CARDS = sorted(path for path in ZOO.glob("*.json") if "evaluation" in json.loads(path.read_text()))


def linear(seed: int = 0) -> tuple[nn.Module, torch.Tensor, torch.Tensor, np.ndarray]:
    """A linear two-class network, images (1 in 5 wrong), labels, and each image's distance to the boundary."""
    generator = torch.Generator().manual_seed(seed)
    network = nn.Sequential(nn.Flatten(), nn.Linear(36, 2))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        difference = network[1].weight[1] - network[1].weight[0]
        pixels = 0.5 + 0.02 * torch.randn(60, 1, 6, 6, generator=generator)
        offset = network[1].bias[1] - network[1].bias[0]
        network[1].bias[1] -= offset + difference.sum() / 2  # so that the boundary passes through mid-grey
    margin = (network(pixels)[:, 1] - network(pixels)[:, 0]).detach()
    labels = (margin > 0).long()
    labels[::5] = 1 - labels[::5]
    return network, pixels, labels, (margin.abs() / difference.norm()).numpy()


def test_clean_accuracy_counts() -> None:
    network, pixels, labels, _ = linear()
    assert evaluation.accuracy(network, pixels, labels) == pytest.approx(48 / 60)


def test_pgd_accuracy_of_a_linear_classifier() -> None:
    network, pixels, labels, distance = linear()
    right = np.arange(60) % 5 != 0
    # The budgets lie between neighbouring distances, so that rounding decides nothing.
    order = np.sort(distance[right])
    budgets = [float((order[i] + order[i + 1]) / 2) for i in (30, 5, 20)]
    found = evaluation.pgd_accuracies(network, pixels, labels, [*budgets, 0.0], steps=20)
    assert found == pytest.approx([(47 - i) / 60 for i in (30, 5, 20)] + [48 / 60])


def test_usual_pgd_finds_what_can_be_found_on_a_linear_classifier() -> None:
    network, pixels, labels, distance = linear()
    order = np.sort(distance[np.arange(60) % 5 != 0])
    budgets = [float((order[i] + order[i + 1]) / 2) for i in (30, 5)]
    found = evaluation.usual_pgd_accuracies(network, pixels, labels, [*budgets, 0.0], steps=40)
    assert found == pytest.approx([(47 - i) / 60 for i in (30, 5)] + [48 / 60])
    with pytest.raises(ValueError, match="The budget ε is -1"):
        evaluation.usual_pgd_accuracies(network, pixels, labels, [-1.0])


def test_usual_pgd_judges_the_last_iterate() -> None:
    class Gate(nn.Module):
        """Wrong only while the one pixel is within 0.02 of 0.6; the loss always grows with the pixel."""

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            height = pixels[:, 0, 0, 0]
            wrong = ((height - 0.6).abs() < 0.02).float()
            return torch.stack([1 - 2 * wrong, height - height.detach()], 1)

    # From 0.3 or 0.7 all walk to 0.7; the half that starts below passes through the gate, in steps of 0.01.
    pixels, labels = torch.full((8, 1, 1, 1), 0.5), torch.zeros(8, dtype=torch.long)
    assert evaluation.usual_pgd_accuracies(Gate(), pixels, labels, [0.2], steps=50) == [1.0]
    walk = {"steps": 50, "step_size": 0.01, "shrink": False, "generator": torch.Generator().manual_seed(0)}
    best = pgd(Gate(), pixels, labels, 0.2, **walk)  # type: ignore[arg-type]
    assert 0 < evaluation.accuracy(Gate(), best, labels) < 1


def test_a_network_that_never_changes_its_mind() -> None:
    class Constant(nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return torch.stack([1 + 0 * pixels.sum((1, 2, 3)), 0 * pixels.sum((1, 2, 3))], 1)

    pixels, labels = torch.rand(4, 1, 3, 3), torch.tensor([0, 1, 0, 1])
    assert evaluation.pgd_accuracies(Constant(), pixels, labels, [1.0], steps=3) == [0.5]


def test_a_class_pair_shows_two_logits_in_the_order_asked() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(9, 10))
    pixels = torch.rand(3, 1, 3, 3)
    pair = evaluation.ClassPair(network, (7, 3))
    torch.testing.assert_close(pair(pixels), torch.stack([network(pixels)[:, 7], network(pixels)[:, 3]], 1))


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(list(words))


def test_the_command_measures_into_the_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "net.safetensors"
    torch.manual_seed(0)
    network = build("flatten, fc 10", (1, 28, 28))
    save(network, path, {"name": "net", "dataset": "mnist-5k", "training": {"epsilon": 0.5}})
    words = [str(path), "--images", "40", "--grid-images", "30", "--fab-images", "5", "--samples", "3", "--steps", "4"]
    assert main(["evaluate", *words, "--epsilon", "0:1:3"]) == 0
    card = read_card(path)
    assert card["name"] == "net"
    measured = card["evaluation"]
    assert measured["clean"]["images"] == len(datasets.load("mnist-5k", "test"))
    assert measured["independent"]["attack"].startswith("DDN, 100 steps")
    assert measured["independent"]["passes"] >= 100
    for attack in (measured["robust"], measured["usual"], measured["independent"]):
        assert (attack["images"], attack["epsilon"]) == (40, [0.5])
        assert 0 <= attack["accuracy"][0] <= 1
    for curve in (measured["ten_classes"], measured["class_pair"]):
        assert curve["epsilon"] == [0, 0.5, 1]
        assert curve["pgd"][0] == curve["clean"]
        assert curve["pgd"] == sorted(curve["pgd"], reverse=True)
        assert len(curve["fab"]) == 3
    audited = measured["audited"]
    labels = datasets.load("mnist-5k").labels
    assert [{int(labels[i]) for i in part} for part in audited["indices"]] == [{3}, {7}]
    assert audited["remark"] == ""
    for norm, names in (("l2", ["FAB", "DDN", "APGD-t"]), ("linf", ["FAB", "APGD-t"])):
        assert list(audited[norm]["attacks"]) == names
        best = np.array(audited[norm]["best_loss"])
        assert len(best) == len(audited[norm]["epsilon"]) == 81
        for attack in audited[norm]["attacks"].values():
            assert [len(part) for part in attack["norms"]] == [3, 3]
            assert (best >= np.array(attack["loss"])).all()
    written = command.shlex.split(measured["command"])
    assert vars(arguments(*written[4:])) == vars(arguments(*words, "--epsilon", "0:1:3"))
    assert capsys.readouterr().out.startswith("net: ")

    again = [str(path), "--only", "usual", "--images", "50", "--steps", "4"]
    assert main(["evaluate", *again]) == 0
    usual = read_card(path)["evaluation"].pop("usual")
    assert {**read_card(path)["evaluation"], "usual": None} == {**measured, "usual": None}
    assert usual["images"] == 50
    assert vars(arguments(*command.shlex.split(usual["command"])[4:])) == vars(arguments(*again))
    assert "under usual PGD (50 test images)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--classes", "3", "3"], "The classes 3 and 3 must be two different numbers from 0 to 9."),
        (["--robust-epsilon", "-1"], "The budget ε is -1; it must be 0 or more."),
        (["--epsilon", "1:0:5"], "The largest ε (0) must be above the smallest (1)."),
        (["--steps", "0"], "The number of PGD steps is 0; it must be 1 or more."),
        (["--precision", "float8"], "The precision 'float8' is not one of float32, bfloat16."),
        (["--dataset", "emnist"], "There is no data set 'emnist': give one of mnist-5k, mnist, "),
        ([], "net.safetensors has no card that names its data set; give --dataset."),
    ],
)
def test_the_command_says_one_sentence(
    words: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "net.safetensors"
    save(build("flatten, fc 10", (1, 28, 28)), path)
    dataset = ["--dataset", "mnist-5k"] if words and "--dataset" not in words else []
    assert main(["evaluate", str(path), *dataset, *words]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("strata: ")
    assert sentence in lines[0]


@pytest.mark.parametrize(
    ("architecture", "shape", "sentence"),
    [
        ("flatten, fc 10", (3, 32, 32), "The network takes images of 3×32×32, those of mnist-5k are 1×28×28"),
        ("flatten, fc 5", (1, 28, 28), "The network has 5 outputs, but mnist-5k has 10 classes."),
    ],
)
def test_a_network_that_does_not_fit_the_images(
    architecture: str, shape: tuple[int, int, int], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(build(architecture, shape), tmp_path / "net.safetensors")
    assert main(["evaluate", str(tmp_path / "net.safetensors"), "--dataset", "mnist-5k"]) == 2
    assert sentence in capsys.readouterr().err


def test_what_is_lacking_is_said_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The training images, of which the last part takes its sample, are not there."""
    path, load = tmp_path / "net.safetensors", datasets.load

    def without_train(name: str, split: str = "train") -> datasets.Dataset:
        if split == "train":
            raise DatasetError("The training images are elsewhere.")
        return load(name, split)

    def measured(*_: object) -> None:
        raise AssertionError("measured too early")

    save(build("flatten, fc 10", (1, 28, 28)), path, {"dataset": "mnist-5k"})
    monkeypatch.setattr(command, "accuracy", measured)
    monkeypatch.setattr(command.datasets, "load", without_train)
    assert main(["evaluate", str(path)]) == 2
    assert capsys.readouterr().err == "strata: The training images are elsewhere.\n"


def test_audited_photographs_are_the_bundled_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that Explore's FAB line stands beside what a new installation audits."""
    path = tmp_path / "net.safetensors"
    save(build("flatten, fc 10", (3, 32, 32)), path, {"dataset": "cifar10"})
    assert main(["evaluate", str(path), "--only", "audited", "--samples", "2"]) == 0
    audited = read_card(path)["evaluation"]["audited"]
    assert (audited["dataset"], audited["split"], audited["classes"]) == ("cifar10-2k", "train", [3, 7])
    labels = datasets.load("cifar10-2k").labels
    for label, indices in zip((3, 7), audited["indices"], strict=True):
        assert indices == sample_indices(labels, label, 2, 0).tolist()
    assert list(read_card(path)["evaluation"]) == ["audited"]


def test_a_network_trained_in_linf_is_measured_there_without_what_is_of_l2(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    card = {"dataset": "mnist-5k", "training": {"method": "pgd", "epsilon": 0.1, "threat": "linf"}}
    save(build("flatten, fc 10", (1, 28, 28)), path, card)
    words = ["--images", "5", "--grid-images", "5", "--steps", "2", "--samples", "0"]
    assert main(["evaluate", str(path), *words]) == 0
    measured = read_card(path)["evaluation"]
    assert (measured["robust"]["threat"], measured["robust"]["epsilon"]) == ("linf", [0.1])
    assert "L∞" in measured["usual"]["attack"]
    assert measured["class_pair"]["threat"] == "linf"
    assert "fab" not in measured["class_pair"]
    assert main(["evaluate", str(path), "--threat", "l2", "--only", "robust", "--images", "5", "--steps", "2"]) == 0
    assert read_card(path)["evaluation"]["robust"]["epsilon"] == [2.0]


def test_a_benign_network_is_measured_at_the_usual_budget(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    card = {"dataset": "mnist-5k", "training": {"method": "benign", "epsilon": 7.0}}
    save(build("flatten, fc 10", (1, 28, 28)), path, card)
    assert main(["evaluate", str(path), "--only", "robust", "--images", "5", "--steps", "2"]) == 0
    assert read_card(path)["evaluation"]["robust"]["epsilon"] == [2.0]


def test_the_table_needs_cards(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["zoo", "--zoo", str(tmp_path)])
    save(build("flatten, fc 10", (1, 28, 28)), tmp_path / "net.safetensors")
    assert zoo.main() == 2
    assert "net.safetensors has no card that says how it was trained." in capsys.readouterr().err
    assert not (tmp_path / "README.md").exists()


def test_the_zoos_table_is_made_from_the_cards() -> None:
    assert (ZOO / "README.md").read_text() == zoo.text(ZOO)


@pytest.mark.parametrize("card_file", CARDS, ids=lambda path: path.stem)
def test_cards_agree_with_a_fresh_measurement(card_file: Path) -> None:
    card = read_card(card_file)
    if card["dataset"] != "mnist-5k" and "STRATA_DATA" not in os.environ:
        pytest.skip("STRATA_DATA is not set: the test images of the card are not at hand")
    network, data = load(card_file.with_suffix(".safetensors")), datasets.load(card["dataset"], "test")
    chosen = np.random.default_rng(0).permutation(len(data))[:500]
    pixels, labels = torch.from_numpy(datasets.to_float(data.pixels[chosen])), torch.from_numpy(data.labels[chosen])
    measured = card["evaluation"]
    right = evaluation.correct(network, pixels, labels)
    same = measured["ten_classes"]["images"]  # the card's curves are of the first of these images
    # Another processor may round one image to the other side.
    assert float(right[:same].double().mean()) == pytest.approx(measured["ten_classes"]["clean"], abs=1.01 / same)
    stated = measured["clean"]["accuracy"]
    assert float(right.double().mean()) == pytest.approx(stated, abs=deviations(stated, 500))

    # Fewer images and half of the steps: off by chance, and upwards by the weaker attack.
    few = 50 if card["training"]["architecture"] == "large" else 200
    epsilon = measured["robust"]["epsilon"][-1]
    robust = evaluation.pgd_accuracies(network, pixels[:few], labels[:few], [epsilon], steps=20)[0]
    stated = measured["robust"]["accuracy"][-1]
    assert -deviations(stated, few) <= robust - stated <= deviations(stated, few) + 0.02
    if "usual" in measured:  # the weaker attack, on the same images
        assert measured["usual"]["images"] == measured["robust"]["images"]
        assert measured["usual"]["accuracy"][-1] >= stated
    if "independent" in measured:  # neither attack is far ahead of the other
        count = measured["independent"]["images"]
        other = measured["independent"]["accuracy"][-1]
        assert other == pytest.approx(stated, abs=deviations(stated, count) + 0.03)


@pytest.mark.parametrize("card_file", CARDS, ids=lambda path: path.stem)
def test_least_norms_of_cards_are_found_again(card_file: Path) -> None:
    """The first audited image of each class: the norm of each attack in ℓ2, found again with half of its steps."""
    card = read_card(card_file)
    audited = card["evaluation"]["audited"]
    data, network = datasets.load(audited["dataset"], "train"), load(card_file.with_suffix(".safetensors"))
    chosen, labels = [part[0] for part in audited["indices"]], torch.tensor([0, 1])
    assert [audited["classes"][int(label)] for label in labels] == data.labels[chosen].tolist()
    pair = evaluation.ClassPair(network, tuple(audited["classes"]))
    pixels = torch.from_numpy(datasets.to_float(data.pixels[chosen]))
    # Of FAB alone where the card is of before the others were measured.
    stated = audited.get("l2", {"attacks": {"FAB": {"norms": audited.get("fab_norms")}}})["attacks"]
    for name, attack in stated.items():
        half = {"FAB": references.FAB_STEPS, "DDN": references.DDN_STEPS, "APGD-t": references.APGD_STEPS}[name] // 2
        found = references.REFERENCES["l2"][name](pair, pixels, labels, steps=half, seed=audited["seed"])
        norms = [part[0] for part in attack["norms"]]
        np.testing.assert_allclose(found.norms, norms, rtol=0.1, atol=1e-6, err_msg=name)


def deviations(share: float, images: int) -> float:
    """Three and a half standard deviations of a share that is measured on so many images."""
    return 3.5 * math.sqrt(max(share * (1 - share), 0.01) / images)
