"""What `import robustness_core as rc` gives: any module as a network, any arrays as images, and results that show."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils import prune

import robustness_core as rc
from robustness_core.__main__ import main
from robustness_core.checkpoints import load, save
from robustness_core.engine import compute
from robustness_core.engine.tasks import Answer, Task
from robustness_core.errors import DatasetError, NetworkError, StrataError
from robustness_core.layers import cuts, dominators, extractor, hooks
from robustness_core.networks import build
from testing.oracles import program_distance

torch.set_num_threads(1)


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.second(torch.relu(self.norm(self.first(x)))))


class Residual(nn.Module):
    """Its block can be passed by: of what lies in it nothing is a cut."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.block = Block(4)
        self.out = nn.Linear(4 * 36, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.block(self.act(self.conv(x))).flatten(1))


class Branching(Residual):
    """Cannot be traced: what it does depends on the values of its images."""

    def forward(self, x: Tensor) -> Tensor:
        features = self.act(self.conv(x))
        if float(features.detach().mean()) > 1e6:
            features = 2 * features
        return self.out(self.block(features).flatten(1))


def images(count: int = 12, classes: int = 5, size: int = 12, channels: int = 3) -> tuple[np.ndarray, np.ndarray]:
    pixels = np.random.default_rng(0).integers(0, 256, (count, size, size, channels), dtype=np.uint8)
    return pixels, np.arange(count) % classes


def test_the_face_is_there_before_torch_is() -> None:
    code = "import sys, robustness_core as rc; assert 'torch' not in sys.modules and callable(rc.sample)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(rc.__file__).parents[1])
    assert set(rc.__all__) <= set(dir(rc))
    with pytest.raises(AttributeError, match="has no attribute 'audits'"):
        _ = rc.audits


def test_hooks_give_the_features_that_a_trace_gives() -> None:
    network, x = rc.wrap(Residual(), (3, 12, 12)), torch.rand(4, 3, 12, 12)
    traced, hooked = Residual().eval(), Branching().eval()
    hooked.act.inplace = False  # as `wrap` makes its copy
    for ours, name in (("conv.pre", "conv"), ("conv", "act"), ("block", "block"), ("logits", "logits")):
        wanted = dominators.extractor(traced, ours, (3, 12, 12))(x)
        torch.testing.assert_close(hooks.extractor(hooked, name, (3, 12, 12))(x), wanted)
    assert [cut.name for cut in hooks.cuts(hooked, (3, 12, 12)) if cut.main] == [
        "act", "block.norm", "block.second", "block", "logits",
    ]  # fmt: skip
    assert not any(cut.affine for cut in hooks.cuts(hooked, (3, 12, 12)))
    assert network.layers == ["conv", "block", "logits"]  # what a trace proves to be cuts


def test_a_module_is_held_by_a_file_that_gives_it_back_with_its_layers(tmp_path: Path) -> None:
    module = Residual().train()
    network = rc.wrap(module, (3, 12, 12), mean=[0.5, 0.4, 0.3], std=[0.2, 0.2, 0.2])
    assert network.content is not None
    path = tmp_path / "wrapped.safetensors"
    path.write_bytes(network.content)
    again, x = load(path), torch.rand(3, 3, 12, 12)
    assert again.sha256 == network.sha256
    assert [cut.name for cut in cuts(again, again.input_shape)] == [cut.name for cut in cuts(network, (3, 12, 12))]
    assert module.training  # the module itself is as it was
    assert module.act.inplace
    normalised = (x - torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)) / 0.2
    torch.testing.assert_close(again(x), module.eval()(normalised), rtol=1e-4, atol=1e-5)


def test_layers_of_a_module_that_cannot_be_traced_are_said_not_to_be_proved(tmp_path: Path) -> None:
    network = rc.wrap(Branching(), (3, 12, 12))
    assert network.by_hooks
    assert network.content is None
    assert "not proved to be cuts" in network._repr_html_()
    result = rc.audit(network, rc.sample(*images(), size=2), layers=["act", "logits"], m=3, quiet=True)
    assert result.found.missing == 0
    assert all(one.found.collided.all() for one in result.found.series)
    assert "not proved to be cuts" in repr(result)
    assert "not proved to be cuts" in result._repr_mimebundle_()["text/html"]
    result.save(tmp_path / "branching.json")
    assert repr(rc.read(tmp_path / "branching.json")) == repr(result)


def test_two_modules_have_two_hashes() -> None:
    first, second = Branching(), Branching()
    assert rc.wrap(first, (3, 12, 12)).sha256 == rc.wrap(second, (3, 12, 12)).sha256
    with torch.no_grad():
        second.out.bias[0] += 1
    hashes = {rc.wrap(one, (3, 12, 12)).sha256 for one in (first, second)}
    hashes.add(rc.wrap(first, (3, 12, 12), mean=[0.5] * 3, std=[1.0] * 3).sha256)
    assert len(hashes) == 3


@pytest.mark.parametrize(
    ("module", "shape", "says"),
    [
        (Residual(), (3, 8, 8), "does not run on 3×8×8 images"),
        (Residual(), (3, 12), "three sizes"),
        (nn.Conv2d(3, 4, 3), (3, 12, 12), "one row of finite numbers"),
        (nn.Sequential(nn.Flatten(), nn.Linear(432, 2), nn.LogSoftmax(0), nn.Threshold(0.0, float("nan"))), (3, 12, 12),
         "one row of finite numbers"),
    ],
)  # fmt: skip
def test_a_module_that_is_no_classifier_is_refused(module: nn.Module, shape: tuple[int, ...], says: str) -> None:
    with pytest.raises(NetworkError, match=says):
        rc.wrap(module, shape)


class Step(Residual):
    """`step` works on the images before all else, `act` on the features of the first layer."""

    def __init__(self, step: Callable[[Tensor], object], act: Callable[[Tensor], object] = torch.relu) -> None:
        super().__init__()
        self.step, self.activate = step, act

    def forward(self, x: Tensor) -> Tensor:
        x = self.step(x)
        return self.out(self.activate(self.conv(x)).flatten(1))


@pytest.mark.parametrize(
    ("module", "says"),
    [
        (Step(lambda x: x.sub_(0.5).div_(0.25)), "changes its images in place"),
        (Step(lambda x: x + 0.1 * torch.randn_like(x)), "differently a second time"),
        (Step(nn.functional.dropout), "differently a second time"),
        (Step(lambda x: x, nn.BatchNorm2d(4, track_running_stats=False)), "depends on the others of its batch"),
        (Step(lambda x: x.flip(0)), "depends on the others of its batch"),
        (Step(lambda x: (255 * x).byte() / 255), "no gradient"),
        (Step(lambda x: x, lambda h: (h.relu_(), h.add_(1))[1]), "no gradient"),
        (Residual, "an instance of nn.Module; this is type"),
        (prune.identity(nn.Linear(4, 4), "weight"), "cannot be copied: .*leaves"),
    ],
)  # fmt: skip
def test_a_module_whose_collisions_would_mean_nothing_is_refused(module: nn.Module, says: str) -> None:
    with pytest.raises(NetworkError, match=says):
        rc.wrap(module, (3, 12, 12))


class Overwriting(Residual):
    """What it overwrites it uses, so that steps that a trace lists as needless are none."""

    def __init__(self, overwrite: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.overwrite = overwrite

    def forward(self, x: Tensor) -> Tensor:
        features = self.conv(x)
        self.overwrite(features)
        return self.out(features.flatten(1))


@pytest.mark.parametrize(
    "overwrite",
    [
        nn.ReLU(inplace=True),
        nn.functional.relu_,
        lambda h: nn.functional.relu(h, inplace=True),
        lambda h: h.clamp_(max=9),  # nothing that images in [0, 1] would show
    ],
)
def test_steps_that_overwrite_a_tensor_are_never_lost(overwrite: Callable[[Tensor], object]) -> None:
    module = Overwriting(overwrite).eval()
    network, x = rc.wrap(module, (3, 12, 12)), 40 * torch.rand(4, 3, 12, 12)
    assert network.by_hooks
    torch.testing.assert_close(extractor(network, "logits")(x), module(x))
    kept = Residual().eval()
    kept.block = nn.Identity()  # its own in-place activation overwrites what nobody uses again
    assert rc.wrap(kept, (3, 12, 12)).layers == ["conv", "logits"]


def test_a_module_that_only_runs_another_is_that_one(capfd: pytest.CaptureFixture) -> None:
    wanted = rc.wrap(Residual(), (3, 12, 12))
    parallel = nn.DataParallel(Residual())
    for outer in (parallel, *(torch.compile(one, backend="eager") for one in (Residual(), parallel))):
        network = rc.wrap(outer, (3, 12, 12))
        assert (network.layers, network.sha256) == (wanted.layers, wanted.sha256)
    spectral = nn.utils.parametrizations.spectral_norm(nn.Linear(27, 2))  # no file of the project's own can hold it
    assert rc.wrap(nn.Sequential(nn.Flatten(), spectral), (3, 3, 3)).content is None
    assert capfd.readouterr() == ("", "")


def test_distances_of_a_wrapped_linear_map_are_those_of_its_pseudoinverse() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * 36, 4))
    pixels, labels = images(size=6)
    sample = rc.sample(pixels, labels, classes=(1, 3), size=2)
    result = rc.audit(rc.wrap(module, (3, 6, 6)), sample, m=None, quiet=True)
    weight = module[1].weight.detach().double().numpy()
    left, right = (pixels[i].transpose(0, 3, 1, 2).reshape(-1, 108) / 255 for i in sample.indices(labels))
    apart = left[:, None] - right[None]
    wanted = np.linalg.norm(apart @ (np.linalg.pinv(weight) @ weight).T, axis=2) / 2
    np.testing.assert_allclose(result.distances("logits"), wanted, rtol=1e-5)
    assert result.loss(wanted.max() + 1e-3) == {"logits": pytest.approx(np.log(2))}
    assert result.loss(wanted.min() - 1e-3) == {"logits": 0.0}


def test_43_classes_of_64_by_64_pixels_are_audited_like_any_others() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 8, stride=8), nn.ReLU(), nn.Flatten(), nn.Linear(256, 43))
    sample = rc.sample(*images(86, 43, 64), classes=(12, 42), size=2)
    result = rc.audit(rc.wrap(module, (3, 64, 64)), sample, m=3, quiet=True)
    assert [one.features for one in result.found.series] == [256, 43]
    assert all(one.found.collided.all() for one in result.found.series)


def test_distances_of_a_wrapped_linear_map_in_linf_with_valid_images_are_those_of_its_program() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * 36, 4))
    pixels, labels = images(size=6)
    sample = rc.sample(pixels, labels, classes=(1, 3), size=2)
    result = rc.audit(rc.wrap(module, (3, 6, 6)), sample, m=None, threat="linf", box=True, quiet=True)
    weight = module[1].weight.detach().double().numpy()
    left, right = (pixels[i].transpose(0, 3, 1, 2).reshape(-1, 108) / 255 for i in sample.indices(labels))
    wanted = [[program_distance(weight, x, y, np.inf, box=True) for y in right] for x in left]
    np.testing.assert_allclose(result.distances("logits"), wanted, rtol=1e-5)
    assert result.found.spec.epsilon.stop == 0.13


def test_of_three_classes_each_pair_of_classes_is_searched_and_shown() -> None:
    sample = rc.sample(*images(), classes=(0, 1, 3), size=2)
    result = rc.audit(rc.wrap(Residual(), (3, 12, 12)), sample, layers="logits", m=3, quiet=True)
    distances = result.distances("logits")
    blocks = np.kron(np.eye(3), np.ones((2, 2))) == 1
    np.testing.assert_array_equal(np.isnan(distances), blocks)
    np.testing.assert_array_equal(distances, distances.T)
    assert len(result.pairs()) == 12
    assert "known" not in result.plot().layout.title.text


def test_figures_of_three_classes_show_what_sets_tell() -> None:
    sample = rc.sample(*images(), classes=(0, 1, 3), size=2)
    result = rc.audit(
        rc.wrap(Residual(), (3, 12, 12)), sample, layers="logits", m=3, sets=3, epsilon="0:9:3", quiet=True
    )
    wanted = result.loss(9.0)["logits"]
    assert wanted > np.log(2)  # all that pairs can tell
    for figure in (result.plot(), result.compare(result)):
        for trace in (one for one in figure.data if one.name == "logits"):
            np.testing.assert_allclose(trace.y[-1], wanted, rtol=1e-9)
        assert figure.layout.yaxis.range[1] > np.log(3)


def test_images_are_known_by_their_content_however_they_come() -> None:
    pixels, labels = images()
    tensor = torch.from_numpy(pixels.transpose(0, 3, 1, 2).astype(np.float32) / 255)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(tensor, torch.from_numpy(labels)), batch_size=5)
    ways = [(pixels, labels), (tensor, labels), (tensor.numpy(), labels), (pixels / 255, labels.tolist()), (loader,)]
    names = {rc.sample(*way, size=2).dataset for way in ways}
    assert len(names) == 1
    pixels[0, 0, 0, 0] += 1
    assert rc.sample(pixels, labels, size=2).dataset not in names


def test_classes_go_by_number_or_name() -> None:
    given = {"class_names": ["a", "b", "c", "d", "e"], "size": 2}
    assert rc.sample(*images(), classes=("e", "b"), **given).classes == (1, 4)
    assert rc.sample("mnist-5k", classes=("7", "3")) == rc.sample("mnist-5k")
    for numbers in (np.unique([7, 3]), torch.tensor([3, 7])):
        assert rc.sample("mnist-5k", classes=numbers) == rc.sample("mnist-5k")
    with pytest.raises(DatasetError, match="no class 'f'"):
        rc.sample(*images(), classes=("f", "b"), **given)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ((images()[0] / 255 - 0.5, images()[1]), "give pixels in"),
        ((images()[0].astype(np.int64), images()[1]), "int64 numbers"),
        ((images()[0][..., :2], images()[1]), "1 or 3 channels"),
        ((images()[0], images()[1][:-1]), "12 images but 11 labels"),
        ((images()[0], images()[1] - 1), "whole numbers of 0 or more"),
        ((images()[0], np.zeros(12, dtype=int)), "1 classes; from 2"),
        ((7,), "both in batches"),
        (([(1, 2, 3)],), "images and their labels"),
        (("mnist-6k",), "is no file, and no data set"),
        (("mnist-5k", (0, 1)), "labels of its own; choose among its classes"),
        ((*images(), {"classes": (0.0, 1.5)}), "by its number or its name, not by 0.0"),
        ((*images(), {"classes": ()}), "two or more whole numbers"),
        ((*images(), {"class_names": list("abcda")}), "Two classes are called 'a'"),
        (([np.zeros((4, 4)), np.zeros((4, 3))], [0, 1]), "no array"),
        ((torch.zeros(2, 1, 4, 4, dtype=torch.bfloat16), [0, 1]), "no array"),
        ((*images(), {"size": 4}), "S = 4 is larger than class 0"),
    ],
)
def test_images_that_cannot_be_a_sample_are_refused(given: tuple, says: str) -> None:
    *args, last = given
    named = last if isinstance(last, dict) else {"size": 2}
    with pytest.raises(StrataError, match=says):
        rc.sample(*(args if isinstance(last, dict) else given), **named)


def test_an_interrupt_gives_what_is_known_by_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    answered: list[Task] = []

    def answer(self: compute.Computer, task: Task) -> Answer:
        if len(answered) == 1:
            raise KeyboardInterrupt
        answered.append(task)
        return whole(self, task)

    whole = compute.Computer.answer
    monkeypatch.setattr(compute.Computer, "answer", answer)
    result = rc.audit(rc.wrap(Residual(), (3, 12, 12)), rc.sample(*images(), size=2), m=3, quiet=True)
    assert result.found.known == 4
    assert result.found.total == 12
    assert "Stopped: 4 of 12" in capsys.readouterr().err
    assert "4 of 12 pairs known" in repr(result)
    assert "known" in result.plot().layout.title.text


def test_a_result_is_saved_with_its_network_and_images_and_read_again(tmp_path: Path) -> None:
    network = rc.wrap(Residual(), (3, 12, 12), name="mine")
    result = rc.audit(network, rc.sample(*images(), size=2), m=[3, None], projections=2, quiet=True)
    result.save(tmp_path / "mine.strata")
    again = rc.read(tmp_path / "mine.strata")
    assert again.found.to_json() == result.found.to_json()
    assert again.network is not None
    assert (again.network.name, again.network.sha256) == ("mine", network.sha256)
    assert again.images == result.images
    table, pairs = again.table(), again.pairs()
    assert len(table) == 3 * 2 + 3  # without projection there is one series a layer
    assert len(pairs) == 4 * len(table)
    assert set(table["known"]) == {4}
    titles = [one.text for one in result.compare(again).layout.annotations]
    assert titles == ["mine", "mine (2)"]
    x = torch.rand(2, 3, 12, 12)
    torch.testing.assert_close(extractor(again.network, "block")(x), extractor(network, "block")(x))
    (tmp_path / "cut").write_bytes((tmp_path / "mine.strata").read_bytes()[:-30])
    with pytest.raises(StrataError, match="is not the JSON of an audit"):
        rc.read(tmp_path / "cut")


def test_audits_of_other_budgets_stand_on_one_axis_and_of_other_norms_do_not() -> None:
    network, sample = rc.wrap(Residual(), (3, 12, 12)), rc.sample(*images(), size=2)
    first, second = (
        rc.audit(network, sample, layers="logits", m=3, epsilon=(0, stop, 11), quiet=True) for stop in (1, 2)
    )
    lines = [trace for trace in first.compare(second).data if trace.name == "logits"]
    np.testing.assert_array_equal(lines[0].y, lines[1].y)
    other = rc.audit(network, sample, layers="logits", m=3, threat="linf", quiet=True)
    assert "ℓ∞" in other.plot().layout.xaxis.title.text
    assert other.found.spec.epsilon.stop <= 0.5  # no ℓ∞ distance is larger
    with pytest.raises(StrataError, match="no axis in common"):
        first.compare(other)


def test_what_a_result_has_not_is_said(tmp_path: Path) -> None:
    result = rc.audit(rc.wrap(Residual(), (3, 12, 12)), rc.sample(*images(), size=2), layers="logits", m=3, quiet=True)
    for wrong, says in (
        (lambda: result.distances("conv"), "no layer 'conv'"),
        (lambda: result.loss(1.0, m=7), "no m = 7; it has 3"),
        (lambda: result.distances("logits", projection=1), "projections 0 to 0"),
        (lambda: rc.read(tmp_path / "none"), "cannot be read"),
        (lambda: rc.audit(Residual(), rc.sample(*images(), size=2)), "`load` or `wrap`"),
    ):
        with pytest.raises(StrataError, match=says):
            wrong()


def test_the_command_line_takes_a_folder_of_pictures(tmp_path: Path) -> None:
    pixels, labels = images(size=6, channels=1)
    for number, (picture, label) in enumerate(zip(pixels, labels, strict=True)):
        (tmp_path / "pets" / "abcde"[label]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture[..., 0]).save(tmp_path / "pets" / "abcde"[label] / f"{number:02}.png")
    network = tmp_path / "net.safetensors"
    save(build("conv 2 3x3, relu, flatten, fc 5", (1, 6, 6)), network, None)
    out = str(tmp_path / "out.json")
    arguments = ["--dataset", str(tmp_path / "pets"), "--samples", "2", "--m", "2", "--classes", "0", "1"]
    assert main(["audit", "--network", str(network), *arguments, "--json", out]) == 0
    result = rc.read(out)
    assert result.found.spec.sample.split == "all"
    assert rc.sample(tmp_path / "pets", size=2).dataset == result.found.spec.sample.dataset
    again = rc.audit(rc.load(network), rc.sample(tmp_path / "pets", size=2), m=2, quiet=True)
    np.testing.assert_array_equal(again.distances("conv1"), result.distances("conv1"))
