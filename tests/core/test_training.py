"""Tests of training: tiny runs that must learn and resume bit by bit, the loss by hand, and what bad input is told."""

from __future__ import annotations

import argparse
import json
import math
import re
import resource
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from robustness_core import datasets
from robustness_core.__main__ import main
from robustness_core.checkpoints import load, save
from robustness_core.commands import train as command
from robustness_core.errors import CheckpointError, StrataError
from robustness_core.files import read_card
from robustness_core.networks import build
from robustness_core.training import train as training
from robustness_core.training.evaluation import accuracy, pgd_accuracies
from robustness_core.training.train import TrainingSpec, train

TINY = "conv 8 5x5/2 p2, relu, conv 16 3x3/2 p1, relu, flatten, fc 10"
# A few hundred digits need small batches and a larger rate to leave chance within seconds.
SPEC = TrainingSpec(
    TINY, "mnist-5k", "pgd", epsilon=1.0, epochs=4, attack_steps=2, batch=32, learning_rate=0.03, limit=600
)


@pytest.fixture(autouse=True)
def _a_short_look_after_each_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "HELD_OUT", 60)


def held_out() -> tuple[torch.Tensor, torch.Tensor]:
    data = datasets.load("mnist-5k", "test")
    return torch.from_numpy(datasets.to_float(data.pixels[::4])), torch.from_numpy(data.labels[::4].copy())


def weights(network: torch.nn.Module) -> list[torch.Tensor]:
    return [parameter.detach() for parameter in network.parameters()]


@pytest.mark.parametrize("method", training.METHODS)
def test_a_tiny_run_beats_chance_and_resumes_bit_by_bit(method: str, tmp_path: Path) -> None:
    spec, checkpoint = replace(SPEC, method=method), tmp_path / "tiny.epochs"
    seen: list[tuple[int, int]] = []
    whole = train(spec, on_batch=lambda done, total: seen.append((done, total)))
    train(spec, checkpoint, stop_after=2)
    batches: list[int] = []
    if method == "pgd":  # as it was kept before training had a norm
        kept = torch.load(checkpoint, weights_only=True)
        older = {name: value for name, value in json.loads(kept["spec"]).items() if name != "threat"}
        torch.save({**kept, "spec": json.dumps(older)}, checkpoint)
    resumed = train(spec, checkpoint, on_batch=lambda done, total: batches.append(done))

    assert seen == [(i, 76) for i in range(1, 77)]  # 4 epochs of 19 batches
    assert batches == list(range(39, 77))
    assert all(torch.equal(a, b) for a, b in zip(weights(whole.network), weights(resumed.network), strict=True))
    without_time = [[replace(report, seconds=0) for report in trained.history] for trained in (whole, resumed)]
    assert without_time[0] == without_time[1]
    assert whole.images == 600

    pixels, labels = held_out()
    assert accuracy(whole.network, pixels, labels) > 0.7  # chance is 0.1
    robust = pgd_accuracies(whole.network, pixels, labels, [1.0], steps=10)[0]
    assert robust > (0.1 if method == "benign" else 0.4)


def test_another_seed_gives_other_weights() -> None:
    spec = replace(SPEC, method="benign", epochs=1, limit=64)
    one, same, other = (train(replace(spec, seed=seed)).network for seed in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(weights(one), weights(same), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(weights(one), weights(other), strict=True) if a.abs().sum())


def test_trades_loss_by_hand() -> None:
    rng = np.random.default_rng(0)
    clean, adversarial, labels, beta = rng.normal(0, 3, (6, 4)), rng.normal(0, 3, (6, 4)), rng.integers(0, 4, 6), 5.5
    total = 0.0
    for u, v, y in zip(clean, adversarial, labels, strict=True):
        p = [math.exp(a) / sum(math.exp(b) for b in u) for a in u]
        q = [math.exp(a) / sum(math.exp(b) for b in v) for a in v]
        total += -math.log(p[y]) + beta * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    loss = training.trades_loss(torch.from_numpy(clean), torch.from_numpy(adversarial), torch.from_numpy(labels), beta)
    np.testing.assert_allclose(float(loss), total / 6, rtol=1e-9)


def test_trades_without_a_difference_is_cross_entropy() -> None:
    logits, labels = torch.randn(5, 3, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1])
    torch.testing.assert_close(
        training.trades_loss(logits, logits, labels, 7.0), functional.cross_entropy(logits, labels)
    )


def test_schedules_at_their_ends() -> None:
    assert [training.cosine(0.4, progress) for progress in (0, 0.5, 1)] == pytest.approx([0.4, 0.2, 0], abs=1e-12)
    assert [training.ramp(2.0, progress) for progress in (0, 1 / 6, 1 / 3, 1)] == pytest.approx([0, 1, 2, 2])


def test_crops_are_windows_of_the_padded_image_some_mirrored() -> None:
    images = torch.arange(1, 1 + 12 * 2 * 6 * 5, dtype=torch.float32).view(12, 2, 6, 5)
    cropped = training.crop_and_flip(images, np.random.default_rng(0))
    mirrored = 0
    for image, result in zip(images, cropped, strict=True):
        padded = functional.pad(image, (4, 4, 4, 4))
        windows = [padded[:, r : r + 6, c : c + 5] for r in range(9) for c in range(9)]
        plain = any(torch.equal(result, window) for window in windows)
        flipped = any(torch.equal(result, window.flip(2)) for window in windows)
        assert plain or flipped
        mirrored += flipped and not plain
    assert 2 <= mirrored <= 10  # of twelve


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"method": "fgsm"}, "The method 'fgsm' is not one of benign, pgd, trades"),
        ({"epsilon": -0.5}, "The budget ε is -0.5; it must be 0 or more"),
        ({"epsilon": float("nan")}, "The budget ε is nan"),
        ({"beta": -1.0}, "The weight β is -1"),
        ({"learning_rate": 0.0}, "The learning rate is 0; it must be above 0"),
        ({"epochs": 0}, "The number of epochs is 0"),
        ({"attack_steps": 0}, "The number of attack steps is 0"),
        ({"batch": 0}, "The batch size is 0"),
        ({"limit": 0}, "The limit of images is 0"),
        ({"seed": -1}, "The seed is -1"),
        ({"seed": 2**70}, "The seed is 1180591620717411303424; it must be from 0 to 2^63 - 1"),
        ({"precision": "float8"}, "The precision 'float8' is not one of float32, bfloat16"),
    ],
)
def test_settings_that_make_no_sense(change: dict[str, object], sentence: str) -> None:
    with pytest.raises(StrataError, match=re.escape(sentence)):
        replace(SPEC, **change)  # type: ignore[arg-type]


def test_a_checkpoint_of_other_settings_or_images_or_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = tmp_path / "tiny.epochs"
    spec = replace(SPEC, method="benign", limit=32, epochs=1)
    train(spec, checkpoint)
    with pytest.raises(StrataError, match="belongs to other settings"):
        train(replace(spec, seed=1), checkpoint)
    data = datasets.load("mnist-5k")
    others = datasets.Dataset("mnist-5k", "train", data.pixels[::-1], data.labels[::-1], data.source)
    with monkeypatch.context() as patched:
        patched.setattr(training.datasets, "fetch", lambda *_: others)
        with pytest.raises(StrataError, match="belongs to other images of mnist-5k than those at hand now"):
            train(spec, checkpoint)
    assert len(train(spec, checkpoint).history) == 1
    checkpoint.write_bytes(checkpoint.read_bytes()[:200])
    with pytest.raises(StrataError, match="cannot be read; remove it to start again"):
        train(spec, checkpoint)


def test_a_loss_that_overflows_stops_with_a_sentence() -> None:
    with pytest.raises(StrataError, match="no longer finite after epoch 1; lower the learning rate"):
        train(replace(SPEC, method="benign", learning_rate=1e30, limit=200, epochs=1))


def test_a_run_that_overflowed_is_never_saved_however_often_it_is_tried(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "net.safetensors"
    save(build(TINY, (1, 28, 28)), out, {"name": "old"})
    before = out.read_bytes(), out.with_suffix(".json").read_bytes()
    for _ in range(3):
        assert main(command_words(out, "--learning-rate", "1e30", "--batch", "32", "--epochs", "1")) == 2
        assert "no longer finite after epoch 1" in capsys.readouterr().err
    assert (out.read_bytes(), out.with_suffix(".json").read_bytes()) == before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["net.json", "net.safetensors"]


@pytest.mark.parametrize(("value", "dtype"), [(math.nan, None), (math.inf, None), (1e6, torch.float16)])
def test_weights_that_are_not_finite_are_not_saved(value: float, dtype: torch.dtype | None, tmp_path: Path) -> None:
    network = build("flatten, fc 10", (1, 8, 8))
    with torch.no_grad():
        next(network.parameters())[0, 0] = value
    with pytest.raises(CheckpointError, match=r"hold a number that is not finite as float(32|16)"):
        save(network, tmp_path / "net.safetensors", {}, dtype=dtype)
    assert list(tmp_path.iterdir()) == []


def test_a_network_of_fewer_outputs_than_classes_is_not_trained() -> None:
    with pytest.raises(StrataError, match="has 5 outputs; the data set mnist-5k has 10 classes"):
        train(replace(SPEC, architecture="flatten, fc 5"))


def test_a_full_disk_leaves_the_old_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    network = build("flatten, fc 10", (1, 8, 8))
    save(network, path, {"name": "old"})
    before = path.read_bytes(), path.with_suffix(".json").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))  # the system refuses to write on, as a full disk does
    try:
        with pytest.raises(StrataError, match=r"net\.safetensors could not be written: "):
            save(build("flatten, fc 100, relu, fc 10", (1, 8, 8)), path, {"name": "new"})
        with torch.no_grad():
            next(network.parameters()).zero_()
        with pytest.raises(StrataError, match=r"net\.safetensors could not be written: "):
            save(network, path, {"name": "n" * 5000})  # these weights fit, their card does not
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (path.read_bytes(), path.with_suffix(".json").read_bytes()) == before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["net.json", "net.safetensors"]


def test_what_is_saved_is_read_back(tmp_path: Path) -> None:
    network = build(TINY, (3, 12, 12), mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.1))
    save(network, tmp_path / "a.safetensors")
    save(network, tmp_path / "b.safetensors", dtype=torch.float16)
    pixels = torch.rand(4, 3, 12, 12)
    torch.testing.assert_close(load(tmp_path / "a.safetensors")(pixels), network(pixels), rtol=0, atol=0)
    half = load(tmp_path / "b.safetensors")
    assert {parameter.dtype for parameter in half.parameters()} == {torch.float32}
    torch.testing.assert_close(half(pixels), network(pixels), rtol=1e-2, atol=1e-2)  # float16 keeps three digits
    assert (half.mean, half.std, half.architecture) == (network.mean, network.std, TINY)
    assert read_card(tmp_path / "a.safetensors") == {}


def test_a_file_whose_weights_do_not_fit_what_it_says(tmp_path: Path) -> None:
    network = build("flatten, fc 10", (1, 8, 8))
    network.architecture = "flatten, fc 12"
    save(network, tmp_path / "odd.safetensors")
    with pytest.raises(CheckpointError, match="does not fit its weights"):
        load(tmp_path / "odd.safetensors")


def command_words(out: Path, *words: str) -> list[str]:
    given = ["--architecture", TINY, "--dataset", "mnist-5k", "--method", "benign", "--limit", "64", "--epochs", "2"]
    return ["train", *given, "--out", str(out), *words]


def arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(words[1:])


def test_the_command_writes_weights_and_card_and_goes_on_where_it_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, cut = tmp_path / "whole.safetensors", tmp_path / "cut.safetensors"
    assert main(command_words(whole, "--epsilon", "1")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[:2]] == ["epoch 1/2", "epoch 2/2"]

    spec = TrainingSpec(TINY, "mnist-5k", "benign", epsilon=1.0, epochs=2, limit=64)
    train(spec, cut.with_suffix(".epochs"), stop_after=1)
    assert main(command_words(cut, "--epsilon", "1")) == 0
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()[:1]] == ["epoch 2/2"]
    assert whole.read_bytes() == cut.read_bytes()
    assert not cut.with_suffix(".epochs").exists()

    card = json.loads(whole.with_suffix(".json").read_text())
    assert (card["name"], card["images"], card["training"]["epsilon"]) == ("whole", 64, 1.0)
    assert card["images_from"] == "64 drawn from 4000 of the 5,000 digits bundled with Strata"
    assert [(one["threads"], one["torch"]) for one in card["epochs"]] == [
        (torch.get_num_threads(), torch.__version__)
    ] * 2
    assert [layer["name"] for layer in card["layers"]] == ["conv1", "conv2", "logits"]
    words = command.shlex.split(card["command"])
    assert words[:4] == ["python", "-m", "robustness_core", "train"]
    assert vars(arguments(words[3:])) == vars(arguments(command_words(whole, "--epsilon", "1")))


def test_a_network_is_trained_in_linf_and_its_command_says_so(tmp_path: Path) -> None:
    path = tmp_path / "linf.safetensors"
    words = command_words(path, "--method", "pgd", "--threat", "linf")
    assert main(words) == 0
    card = json.loads(path.with_suffix(".json").read_text())
    assert (card["training"]["threat"], card["training"]["epsilon"]) == ("linf", 0.3)
    assert vars(arguments(command.shlex.split(card["command"])[3:])) == {**vars(arguments(words)), "epsilon": 0.3}


@pytest.mark.parametrize("setting", ["epsilon", "learning_rate", "beta"])
def test_the_cards_command_has_every_digit(setting: str, tmp_path: Path) -> None:
    args, value = arguments(command_words(tmp_path / "net.safetensors")), 128 / 255
    spec = TrainingSpec(TINY, "mnist-5k", "benign", **{"epsilon": 2.0, setting: value})
    words = command.shlex.split(command.command_line(spec, args))
    assert getattr(arguments(words[3:]), setting) == value


@pytest.mark.parametrize(("dataset", "epsilon"), [("cifar10", 0.5), ("cifar10-2k", 0.5), ("mnist", 2.0)])
def test_the_budget_unless_given_is_the_papers(
    dataset: str, epsilon: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[TrainingSpec] = []
    monkeypatch.setattr(command, "_train_and_save", lambda spec, args: seen.append(spec))
    assert main(command_words(tmp_path / "net.safetensors", "--dataset", dataset)) == 0
    assert seen[0].epsilon == epsilon


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--method", "fgsm"], "strata: The method 'fgsm' is not one of benign, pgd, trades."),
        (["--epsilon=-1"], "strata: The budget ε is -1; it must be 0 or more."),
        (["--architecture", "conv 8 3x3"], "strata: The architecture 'conv 8 3x3' has no fc layer"),
        (["--out", "net.pt"], "strata: --out net.pt must end in .safetensors."),
        (
            ["--out", "/nowhere/net.safetensors"],
            "strata: The folder of '/nowhere/net.safetensors' does not exist; name",
        ),
        (["--out", "/proc/net.safetensors"], "strata: '/proc/net.safetensors' cannot be written: "),
        (["--limit", "7000"], "strata: The limit is 7,000 images, but mnist-5k has 4,000 training images."),
        (
            ["--dataset", "emnist"],
            "strata: There is no data set 'emnist': give one of mnist-5k, mnist, ",
        ),
        (["--dataset", "mnist"], "strata: The data folder STRATA_DATA=/nowhere does not exist."),
    ],
)
def test_the_command_says_one_sentence(
    words: list[str],
    sentence: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STRATA_DATA", "/nowhere")
    assert main(command_words(tmp_path / "net.safetensors", *words)) == 2
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 1
    assert error[0].startswith(sentence)
    assert list(tmp_path.iterdir()) == []
