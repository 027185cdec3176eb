"""Recognised families against implementations written as their authors have them, from the same weights."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustness_core import checkpoints, layers
from robustness_core.checkpoints import CheckpointError, chain, clean_copy, families, load
from robustness_core.checkpoints.containers import Contents, State
from robustness_core.networks import Network, build
from testing import hostile_files as hostile
from testing.layouts import PreActBlock, ready

Make = Callable[[], nn.Module]


class BasicBlock(nn.Module):
    """As in many CIFAR ResNets; `shortcut` names the branch, `option` is A (pad) or B (convolution)."""

    def __init__(self, inputs: int, planes: int, stride: int, shortcut: str, option: str):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.name, self.option, self.planes = shortcut, option, planes
        self.differs = stride != 1 or inputs != planes
        branch = [nn.Conv2d(inputs, planes, 1, stride, bias=False), nn.BatchNorm2d(planes)]
        if self.differs and option == "B":
            self.add_module(shortcut, nn.Sequential(*branch))

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.differs and self.option == "B":
            return F.relu(out + getattr(self, self.name)(x))
        if self.differs:
            quarter = self.planes // 4
            return F.relu(out + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, quarter, quarter)))
        return F.relu(out + x)


class Bottleneck(nn.Module):
    def __init__(self, inputs: int, planes: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, 4 * planes, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * planes)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != 4 * planes:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, 4 * planes, 1, stride, bias=False), nn.BatchNorm2d(4 * planes)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(out)))))
        return F.relu(out + self.shortcut(x))


class ResNet(nn.Module):
    def __init__(
        self, blocks: list[int], widths: list[int], head: str, shortcut: str, option: str, bottle: bool = False
    ):
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        inputs, self.count, self.head = widths[0], len(blocks), head
        for i, (count, width) in enumerate(zip(blocks, widths, strict=True), 1):
            stage: list[nn.Module] = []
            for j in range(count):
                stride = 2 if i > 1 and j == 0 else 1
                stage.append(
                    Bottleneck(inputs, width, stride) if bottle else BasicBlock(inputs, width, stride, shortcut, option)
                )
                inputs = 4 * width if bottle else width
            self.add_module(f"layer{i}", nn.Sequential(*stage))
        self.add_module(head, nn.Linear(inputs, 10))

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        for i in range(1, self.count + 1):
            out = getattr(self, f"layer{i}")(out)
        return getattr(self, self.head)(F.avg_pool2d(out, out.shape[2]).flatten(1))  # type: ignore[no-any-return]


class WideBlock(nn.Module):
    """Wide ResNet as xternalz and TRADES have it."""

    def __init__(self, inputs: int, planes: int, stride: int):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, planes, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.equal = inputs == planes
        if not self.equal:
            self.convShortcut = nn.Conv2d(inputs, planes, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if not self.equal:
            x = F.relu(self.bn1(x))
            out = self.conv2(F.relu(self.bn2(self.conv1(x))))
            return self.convShortcut(x) + out  # type: ignore[no-any-return]
        out = F.relu(self.bn1(x))
        return x + self.conv2(F.relu(self.bn2(self.conv1(out))))  # type: ignore[no-any-return]


class WideStage(nn.Module):
    def __init__(self, blocks: list[nn.Module]):
        super().__init__()
        self.layer = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)  # type: ignore[no-any-return]


class WideResNet(nn.Module):
    def __init__(self, depth: int, widen: int):
        super().__init__()
        widths, count = [16, 16 * widen, 32 * widen, 64 * widen], (depth - 4) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        for i in range(1, 4):
            blocks: list[nn.Module] = [WideBlock(widths[i - 1], widths[i], 1 if i == 1 else 2)]
            blocks += [WideBlock(widths[i], widths[i], 1) for _ in range(count - 1)]
            self.add_module(f"block{i}", WideStage(blocks))
        self.sub_block1 = WideStage([WideBlock(16, widths[1], 1)])  # unused, as in TRADES
        self.bn1 = nn.BatchNorm2d(widths[3])
        self.fc = nn.Linear(widths[3], 10)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(x)
        for i in range(1, 4):
            out = getattr(self, f"block{i}")(out)
        return self.fc(F.avg_pool2d(F.relu(self.bn1(out)), 8).flatten(1))  # type: ignore[no-any-return]


class PreActResNet(nn.Module):
    def __init__(self, blocks: list[int]):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        inputs = 64
        for i, count in enumerate(blocks, 1):
            planes = 64 * 2 ** (i - 1)
            stage = [
                PreActBlock(inputs if j == 0 else planes, planes, 2 if i > 1 and j == 0 else 1) for j in range(count)
            ]
            self.add_module(f"layer{i}", nn.Sequential(*stage))
            inputs = planes
        self.linear = nn.Linear(512, 10)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(x)
        for i in range(1, 5):
            out = getattr(self, f"layer{i}")(out)
        return self.linear(F.avg_pool2d(out, 4).flatten(1))  # type: ignore[no-any-return]


NETWORKS: dict[str, Make] = {
    "resnet20": lambda: ResNet([3, 3, 3], [16, 32, 64], "linear", "shortcut", "A"),
    "resnet32": lambda: ResNet([5, 5, 5], [16, 32, 64], "fc", "downsample", "B"),
    "resnet56": lambda: ResNet([9, 9, 9], [16, 32, 64], "linear", "shortcut", "A"),
    "resnet110": lambda: ResNet([18, 18, 18], [16, 32, 64], "fc", "shortcut", "A"),
    "resnet20-width8": lambda: ResNet([3, 3, 3], [8, 16, 32], "linear", "shortcut", "B"),
    "resnet18": lambda: ResNet([2, 2, 2, 2], [64, 128, 256, 512], "linear", "shortcut", "B"),
    "resnet26": lambda: ResNet([2, 2, 2, 2], [64, 128, 256, 512], "fc", "shortcut", "B", bottle=True),
    "wrn-10-2": lambda: WideResNet(10, 2),
    "wrn-16-4": lambda: WideResNet(16, 4),
    "preactresnet18": lambda: PreActResNet([2, 2, 2, 2]),
}


def weights(network: nn.Module) -> dict[str, Tensor]:
    return {k: t.detach().clone() for k, t in network.state_dict().items() if not k.endswith("num_batches_tracked")}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_first_match_answers_as_the_original(name: str) -> None:
    network = ready(NETWORKS[name])
    found = families.matches(weights(network))
    assert found[0].name == name
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(found[0].body()(images), network(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["resnet20", "resnet18", "wrn-10-2", "preactresnet18"])
def test_blocks_are_layers_with_their_names(name: str) -> None:
    match = families.matches(weights(ready(NETWORKS[name])))[0]
    network = Network(match.body(), match.input_shape, architecture=name)
    found = [cut.name for cut in layers.cuts(network, match.input_shape) if cut.main]
    assert "conv1" in found
    assert "layer2.0" in found
    assert found[-1] == "logits"


def test_a_name_from_inspect_is_taken_back() -> None:
    tensors = weights(ready(NETWORKS["wrn-10-2"]))
    contents = Contents("torch", "zip", (State("", tensors),))
    for name in ("wrn-10-2", "wrn-10-2-raw-shortcut"):
        found = checkpoints.candidates(contents, architecture=name)
        assert [candidate.architecture for candidate in found] == [name]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: s.pop("layer2.1.conv2.weight"), "layer2.1.conv2.weight is missing"),
        (lambda s: s.update({"layer2.1.extra": torch.zeros(2)}), "layer2.1.extra has no place"),
        (lambda s: s.update({"layer3.0.bn1.bias": torch.zeros(63)}), "layer3.0.bn1.bias has the shape 63 where 64"),
        (lambda s: [s.pop(k) for k in list(s) if k.startswith("layer2.1")], "blocks are missing"),
        (lambda s: [s.pop(k) for k in list(s) if k.startswith("layer2")], "blocks are missing"),
        (lambda s: s.pop("linear.weight"), "last layer"),
        (lambda s: s.pop("layer3.0.conv1.weight"), "layer3.0.conv1 is missing"),
    ],
)
def test_weights_that_nearly_fit_are_refused_with_the_difference(
    change: Callable[[dict[str, Tensor]], object], says: str
) -> None:
    tensors = weights(ready(NETWORKS["resnet20"]))
    change(tensors)
    with pytest.raises(CheckpointError, match=says):
        families.matches(tensors)


@pytest.mark.parametrize("name", families._TEXTS)
def test_named_texts_are_recognised_from_their_own_weights(name: str) -> None:
    shape, text = families._TEXTS[name]
    tensors = weights(build(text, shape).body)
    order = chain.in_order(chain.parts(tensors))
    assert order is not None
    assert (name, shape, text) in families.texts(order)


class ResNet9(nn.Module):
    """As tutorials have it, with the names of its layers there."""

    def __init__(self) -> None:
        super().__init__()

        def block(inputs: int, outputs: int, *pool: nn.Module) -> nn.Sequential:
            conv = nn.Conv2d(inputs, outputs, 3, padding=1)
            return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True), *pool)

        self.conv1, self.conv2 = block(3, 64), block(64, 128, nn.MaxPool2d(2))
        self.res1 = nn.Sequential(block(128, 128), block(128, 128))
        self.conv3, self.conv4 = block(128, 256, nn.MaxPool2d(2)), block(256, 512, nn.MaxPool2d(2))
        self.res2 = nn.Sequential(block(512, 512), block(512, 512))
        self.classifier = nn.Sequential(nn.MaxPool2d(4), nn.Flatten(), nn.Dropout(0.2), nn.Linear(512, 10))

    def forward(self, images: Tensor) -> Tensor:
        features = self.conv2(self.conv1(images))
        features = self.conv4(self.conv3(self.res1(features) + features))
        return self.classifier(self.res2(features) + features)  # type: ignore[no-any-return]


def test_a_chain_with_shortcuts_that_leave_no_weights_is_known_by_name(tmp_path: Path) -> None:
    original, images = ready(ResNet9), torch.rand(2, 3, 32, 32)
    path = tmp_path / "upload.pth"
    path.write_bytes(hostile.zipped(weights(original)))
    order = chain.in_order(chain.parts(weights(original)))
    assert order is not None
    assert [name for name, _, _ in families.texts(order)] == ["resnet9"]
    with torch.no_grad():
        torch.testing.assert_close(load(path, architecture="resnet9")(images), original(images), rtol=1e-4, atol=1e-5)


def test_named_texts_with_norms_besides_are_other_chains() -> None:
    """LeNet-5 with batch norms: the first guess is its own text with a norm behind each convolution."""
    shape, text = families._TEXTS["lenet5"]
    normed = re.sub(r"(conv [^,]+), ", r"\1, bn, ", text)
    tensors = weights(build(normed, shape).body)
    found = checkpoints.candidates(Contents("torch", "zip", (State("", tensors),)))
    assert [found[0].architecture, found[0].input_shape] == [normed, shape]


@pytest.mark.parametrize("name", families._VGG)
@pytest.mark.parametrize("norm", [True, False])
def test_vgg_is_recognised(name: str, norm: bool) -> None:
    words = families._VGG[name].split()
    text = ", ".join("maxpool 2/2" if w == "M" else families._vgg_step(w, norm) for w in words) + ", flatten, fc 10"
    with torch.device("meta"):
        body = build(text, (3, 32, 32)).body
    tensors = {k: torch.zeros(t.shape) for k, t in body.state_dict().items() if not k.endswith("tracked")}
    order = chain.in_order(chain.parts(tensors))
    assert order is not None
    assert families.texts(order) == [(name + ("-bn" if norm else ""), (3, 32, 32), text)]


def test_a_clean_copy_of_a_family_is_read_without_hints(tmp_path: Path) -> None:
    original = ready(NETWORKS["wrn-10-2"])
    path, copy = tmp_path / "upload.pt", tmp_path / "copy.safetensors"
    path.write_bytes(hostile.zipped(weights(original)))
    copy.write_bytes(clean_copy(load(path, architecture="wrn-10-2")))
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(load(copy)(images), original(images), rtol=1e-4, atol=1e-4)
