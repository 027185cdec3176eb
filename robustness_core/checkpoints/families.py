"""Known families of networks, recognised by the names and shapes of their weights: ResNet, Wide ResNet, VGG, LeNet."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustness_core.checkpoints.chain import PRODUCTS, Part
from robustness_core.checkpoints.containers import shown
from robustness_core.errors import CheckpointError

# ------------------------------------------------------------------------------------------------------ the modules


class Subsample(nn.Module):
    """The shortcut without weights of He et al. 2016 (option A): every second pixel, and channels of zeros added."""

    def __init__(self, stride: int, inputs: int, outputs: int):
        super().__init__()
        self.stride, self.before = stride, (outputs - inputs) // 2
        self.after = outputs - inputs - self.before

    def forward(self, features: Tensor) -> Tensor:
        return F.pad(features[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.after))


class ResidualBlock(nn.Module):
    """Convolutions with batch norms, the shortcut added, then ReLU (He et al. 2016, CVPR).

    `kernels` are (inputs, outputs, size, stride) of each convolution; `bias` and `norm` say what each one has.
    """

    def __init__(
        self, kernels: Sequence[tuple[int, int, int, int]], *, norm: bool, bias: bool, shortcut: nn.Module | None
    ):
        super().__init__()
        self.count = len(kernels)
        for i, (inputs, outputs, size, stride) in enumerate(kernels, 1):
            self.add_module(f"conv{i}", nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=bias))
            if norm:
                self.add_module(f"bn{i}", nn.BatchNorm2d(outputs))
        self.norm = norm
        self.shortcut = shortcut if shortcut is not None else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        result = features
        for i in range(1, self.count + 1):
            result = self.get_submodule(f"conv{i}")(result)
            if self.norm:
                result = self.get_submodule(f"bn{i}")(result)
            if i < self.count:
                result = F.relu(result)
        return F.relu(result + self.shortcut(features))


class ResNet(nn.Module):
    """conv1, the stages layer1, layer2, ... of residual blocks, the mean over the image, linear.

    `stem` is a convolution and a batch norm or Identity; with `shrinks` a maximum pool stands behind them.
    """

    def __init__(
        self,
        stem: tuple[nn.Module, nn.Module],
        stages: Sequence[Sequence[nn.Module]],
        features: int,
        classes: int,
        shrinks: bool,
    ):
        super().__init__()
        self.conv1, self.bn1 = stem
        self.maxpool = nn.MaxPool2d(3, 2, 1) if shrinks else nn.Identity()
        self.stages = len(stages)
        for i, blocks in enumerate(stages, 1):
            self.add_module(f"layer{i}", nn.Sequential(*blocks))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(features, classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.maxpool(F.relu(self.bn1(self.conv1(images))))
        for i in range(1, self.stages + 1):
            features = self.get_submodule(f"layer{i}")(features)
        return self.linear(self.pool(features).flatten(1))  # type: ignore[no-any-return]


class PreActivationBlock(nn.Module):
    """Batch norm and ReLU before each convolution (He et al. 2016, ECCV; Zagoruyko & Komodakis 2016).

    `early` takes the shortcut from the activated features, else from the raw ones.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, *, bias: bool, early: bool, projects: bool):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=bias)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=bias)
        self.early = early
        self.projects = projects
        if projects:
            self.shortcut: nn.Module = nn.Conv2d(inputs, outputs, 1, stride, bias=bias)

    def forward(self, features: Tensor) -> Tensor:
        active = F.relu(self.bn1(features))
        result = self.conv2(F.relu(self.bn2(self.conv1(active))))
        if not self.projects:
            return result + features  # type: ignore[no-any-return]
        return result + self.shortcut(active if self.early else features)  # type: ignore[no-any-return]


class PreActivationNet(nn.Module):
    """conv1, stages of pre-activation blocks, batch norm, ReLU, the mean over the image, linear."""

    def __init__(self, stem: nn.Module, stages: Sequence[Sequence[nn.Module]], features: int, classes: int, norm: bool):
        super().__init__()
        self.conv1 = stem
        self.stages = len(stages)
        for i, blocks in enumerate(stages, 1):
            self.add_module(f"layer{i}", nn.Sequential(*blocks))
        self.bn = nn.BatchNorm2d(features) if norm else nn.Identity()
        self.active = norm
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(features, classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.conv1(images)
        for i in range(1, self.stages + 1):
            features = self.get_submodule(f"layer{i}")(features)
        if self.active:
            features = F.relu(self.bn(features))
        return self.linear(self.pool(features).flatten(1))  # type: ignore[no-any-return]


# ------------------------------------------------------------------------------------------------- recognising them


@dataclass(frozen=True, eq=False)
class Match:
    """A family that the weights fit exactly. `name` is what `load(architecture=...)` takes."""

    name: str
    input_shape: tuple[int, int, int]
    make: Callable[[], nn.Module]
    state: Mapping[str, Tensor]

    def body(self) -> nn.Module:
        """The network with the weights of the file."""
        with torch.device("meta"):
            body = self.make()
        counters = {
            k: torch.zeros((), dtype=torch.int64) for k in body.state_dict() if k.endswith("num_batches_tracked")
        }
        body.load_state_dict({**self.state, **counters}, assign=True)
        return body.eval()


# What the same part is called in the usual implementations.
_SYNONYMS = (
    (r"^features\.(conv0|init_block\.conv)\.", "conv1."),
    (r"^init_block\.", ""),
    (r"^sub_block1\..*", ""),  # TRADES' Wide ResNet carries an unused copy of its first block
    (r"^block(\d)\.layer\.", r"layer\1."),
    (r"^stages?_?(\d)\.", r"layer\1."),
    (r"^group(\d)\.", r"layer\1."),
    (r"\.(downsample|convShortcut|shortcut_conv|skip)\.", ".shortcut."),
    (r"\.(convShortcut)\.", ".shortcut."),
    (r"^(fc|classifier|output|head|linear1)\.", "linear."),
)


def canonical(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights under the names that this file's modules use."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        for pattern, instead in _SYNONYMS:
            name = re.sub(pattern, instead, name)
        if name:
            renamed[name] = tensor
    return renamed


def matches(tensors: Mapping[str, Tensor]) -> list[Match]:
    """The families that fit the names and shapes of all the weights, the likeliest first; empty if none does.

    Raises CheckpointError if the weights are clearly of a family but some are missing, extra or of a wrong shape.
    """
    state = canonical(tensors)
    if not any(re.match(r"layer1\.0\.conv1\.", name) for name in state) or "conv1.weight" not in state:
        return []
    stem = state["conv1.weight"]
    if stem.dim() != 4 or stem.shape[1] not in (1, 3):
        return []
    try:
        found = _pre_activation(state) if _is_pre_activation(state) else _post_activation(state)
        fitting = [match for match in found if not _difference(match)]
    except CheckpointError:
        raise
    except (IndexError, ValueError, TypeError, RuntimeError) as error:  # of shapes that no such network has
        raise CheckpointError("The file looks like a ResNet, but its tensors have shapes that none has.") from error
    if found and not fitting:
        raise CheckpointError(f"The file looks like {found[0].name}, but {_difference(found[0])}.")
    return fitting


def _difference(match: Match) -> str:
    """The first way in which the weights do not fit a family, in words; empty if they do."""
    with torch.device("meta"):
        wanted = {k: t for k, t in match.make().state_dict().items() if not k.endswith("num_batches_tracked")}
    missing, extra = sorted(set(wanted) - set(match.state)), sorted(set(match.state) - set(wanted))
    if missing:
        return f"{shown(missing[0])} is missing"
    if extra:
        return f"{shown(extra[0])} has no place in it"
    for name, tensor in wanted.items():
        if tensor.shape != match.state[name].shape:
            have, want = ("×".join(map(str, t.shape)) or "1" for t in (match.state[name], tensor))
            return f"{shown(name)} has the shape {have} where {want} is wanted"
    return ""


def _stages(state: Mapping[str, Tensor]) -> list[int]:
    """How many blocks each stage has; the numbers of stages and blocks must run without a gap."""
    blocks: dict[int, set[int]] = {}
    for name in state:
        if match := re.match(r"layer(\d{1,2})\.(\d{1,3})\.", name):
            blocks.setdefault(int(match[1]), set()).add(int(match[2]))
    counts = [len(blocks.get(stage, ())) for stage in range(1, len(blocks) + 1)]
    if 0 in counts or any(max(blocks[stage]) + 1 != count for stage, count in enumerate(counts, 1)):
        raise CheckpointError("The file looks like a ResNet, but some of its blocks are missing.")
    return counts


def _sizes(state: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    """(outputs, inputs, height, width) of a convolution that must be there."""
    tensor = state.get(f"{name}.weight")
    if tensor is None or tensor.dim() != 4:
        raise CheckpointError(f"The file looks like a ResNet, but the convolution {shown(name)} is missing.")
    return tuple(tensor.shape)


def _linear(state: Mapping[str, Tensor]) -> tuple[int, int]:
    tensor = state.get("linear.weight")
    if tensor is None or tensor.dim() != 2:
        raise CheckpointError("The file looks like a ResNet, but its last layer (linear or fc) is missing.")
    return tensor.shape[0], tensor.shape[1]


def _image(state: Mapping[str, Tensor]) -> tuple[int, int, int]:
    channels = state["conv1.weight"].shape[1]
    return (1, 28, 28) if channels == 1 else (3, 32, 32)


def _post_activation(state: dict[str, Tensor]) -> list[Match]:
    counts = _stages(state)
    outputs, inputs, size, _ = _sizes(state, "conv1")
    classes, features = _linear(state)
    norm, bias = "bn1.weight" in state, "layer1.0.conv1.bias" in state
    convs = 3 if "layer1.0.conv3.weight" in state else 2
    widths = [_sizes(state, f"layer{i}.0.conv{convs}")[0] for i in range(1, len(counts) + 1)]
    inner = [_sizes(state, f"layer{i}.0.conv1")[0] for i in range(1, len(counts) + 1)]
    depth = convs * sum(counts) + 2
    known = {(3, 2): 16, (4, 2): 64, (4, 3): 64}.get((len(counts), convs))
    width = "" if known == inner[0] else f"-width{inner[0]}"
    name = f"resnet{depth}{width}" + ("" if norm else "-plain")

    def maker(step: int, shrinks: bool) -> Callable[[], nn.Module]:
        return lambda: make(step, shrinks)

    def make(step: int, shrinks: bool) -> nn.Module:
        first = nn.Conv2d(inputs, outputs, size, step, size // 2, bias="conv1.bias" in state)
        stem = (first, nn.BatchNorm2d(outputs) if norm else nn.Identity())
        width, stages = outputs, []
        for i, (count, wide, narrow) in enumerate(zip(counts, widths, inner, strict=True), 1):
            blocks = []
            for j in range(count):
                stride = 2 if i > 1 and j == 0 else 1
                kernels = [(width, narrow, 3, stride), (narrow, wide, 3, 1)]
                if convs == 3:
                    kernels = [(width, narrow, 1, 1), (narrow, narrow, 3, stride), (narrow, wide, 1, 1)]
                shortcut = _shortcut(state, f"layer{i}.{j}.shortcut", width, wide, stride)
                blocks.append(ResidualBlock(kernels, norm=norm, bias=bias, shortcut=shortcut))
                width = wide
            stages.append(blocks)
        return ResNet(stem, stages, features, classes, shrinks)

    # Shapes do not tell how the stem shrinks the image: not at all for small images, fourfold for those of ImageNet.
    stems = (("", 1, False), ("-imagenet", 2, True), ("-stride2", 2, False), ("-pool", 1, True))
    likeliest = stems[:1] if len(counts) < 4 else stems if size < 7 else (stems[1], stems[2], stems[0], stems[3])
    return [Match(name + suffix, _image(state), maker(step, shrinks), state) for suffix, step, shrinks in likeliest]


def _shortcut(state: Mapping[str, Tensor], name: str, inputs: int, outputs: int, stride: int) -> nn.Module | None:
    if f"{name}.0.weight" in state:
        parts: list[nn.Module] = [nn.Conv2d(inputs, outputs, 1, stride, bias=f"{name}.0.bias" in state)]
        parts += [nn.BatchNorm2d(outputs)] if f"{name}.1.weight" in state else []
        return nn.Sequential(*parts)
    if inputs != outputs or stride != 1:
        return Subsample(stride, inputs, outputs)
    return None


def _is_pre_activation(state: Mapping[str, Tensor]) -> bool:
    """Whether the first norm of the second stage has the width of what comes in, not of what goes out."""
    norm, conv = state.get("layer2.0.bn1.weight"), state.get("layer2.0.conv1.weight")
    return norm is not None and conv is not None and conv.dim() == 4 and norm.shape[0] == conv.shape[1] != conv.shape[0]


def _pre_activation(state: dict[str, Tensor]) -> list[Match]:
    # The last norm is called bn1 in Wide ResNets, bn in others; a shortcut is `shortcut` or `shortcut.0`.
    state = {re.sub(r"^bn1\.", "bn.", name): tensor for name, tensor in state.items()}
    state = {re.sub(r"\.shortcut\.0\.", ".shortcut.", name): tensor for name, tensor in state.items()}
    counts = _stages(state)
    outputs, inputs, size, _ = _sizes(state, "conv1")
    classes, features = _linear(state)
    widths = [_sizes(state, f"layer{i}.0.conv1")[0] for i in range(1, len(counts) + 1)]
    bias, norm = "layer1.0.conv1.bias" in state, "bn.weight" in state
    depth = 2 * sum(counts) + (4 if len(counts) == 3 else 2)
    name = f"wrn-{depth}-{widths[0] // 16}" if len(counts) == 3 else f"preactresnet{depth}"

    def maker(early: bool) -> Callable[[], nn.Module]:
        def make() -> nn.Module:
            width, stages = outputs, []
            for i, (count, wide) in enumerate(zip(counts, widths, strict=True), 1):
                blocks = []
                for j in range(count):
                    stride = 2 if i > 1 and j == 0 else 1
                    projects = f"layer{i}.{j}.shortcut.weight" in state
                    blocks.append(PreActivationBlock(width, wide, stride, bias=bias, early=early, projects=projects))
                    width = wide
                stages.append(blocks)
            stem = nn.Conv2d(inputs, outputs, size, 1, size // 2, bias="conv1.bias" in state)
            return PreActivationNet(stem, stages, features, classes, norm)

        return make

    image = _image(state)
    return [Match(name, image, maker(True), state), Match(f"{name}-raw-shortcut", image, maker(False), state)]


# ------------------------------------------------------------------------- families that an architecture text describes

_VGG = {
    "vgg11": "64 M 128 M 256 256 M 512 512 M 512 512 M",
    "vgg13": "64 64 M 128 128 M 256 256 M 512 512 M 512 512 M",
    "vgg16": "64 64 M 128 128 M 256 256 256 M 512 512 512 M 512 512 512 M",
    "vgg19": "64 64 M 128 128 M 256 256 256 256 M 512 512 512 512 M 512 512 512 512 M",
}
# name -> (C, H, W), text. LeNet-5 and ResNet-9 as most tutorials have them, and the networks of Wong & Kolter 2018.
_TEXTS = {
    "kw-small": (
        (1, 28, 28),
        "conv 16 4x4/2 p1, relu, conv 32 4x4/2 p1, relu, flatten, fc 100, relu, fc 10",
    ),
    "kw-small-cifar": (
        (3, 32, 32),
        "conv 16 4x4/2 p1, relu, conv 32 4x4/2 p1, relu, flatten, fc 100, relu, fc 10",
    ),
    "kw-large": (
        (1, 28, 28),
        "conv 32 3x3/1 p1, relu, conv 32 4x4/2 p1, relu, conv 64 3x3/1 p1, relu, conv 64 4x4/2 p1, relu, flatten, "
        "fc 512, relu, fc 512, relu, fc 10",
    ),
    "kw-large-cifar": (
        (3, 32, 32),
        "conv 32 3x3/1 p1, relu, conv 32 4x4/2 p1, relu, conv 64 3x3/1 p1, relu, conv 64 4x4/2 p1, relu, flatten, "
        "fc 512, relu, fc 512, relu, fc 10",
    ),
    "lenet5": (
        (1, 28, 28),
        "conv 6 5x5/1 p2, relu, maxpool 2/2, conv 16 5x5/1, relu, maxpool 2/2, flatten, "
        "fc 120, relu, fc 84, relu, fc 10",
    ),
    "lenet5-cifar": (
        (3, 32, 32),
        "conv 6 5x5/1, relu, maxpool 2/2, conv 16 5x5/1, relu, maxpool 2/2, flatten, fc 120, relu, fc 84, relu, fc 10",
    ),
    "pytorch-mnist": (
        (1, 28, 28),
        "conv 32 3x3/1, relu, conv 64 3x3/1, relu, maxpool 2/2, flatten, fc 128, relu, fc 10",
    ),
    "lenet-caffe": (
        (1, 28, 28),
        "conv 20 5x5/1, relu, maxpool 2/2, conv 50 5x5/1, relu, maxpool 2/2, flatten, fc 500, relu, fc 10",
    ),
    "alexnet-cifar": (
        (3, 32, 32),
        "conv 64 11x11/4 p5, relu, maxpool 2/2, conv 192 5x5/1 p2, relu, maxpool 2/2, conv 384 3x3/1 p1, relu, "
        "conv 256 3x3/1 p1, relu, conv 256 3x3/1 p1, relu, maxpool 2/2, flatten, fc 10",
    ),
    "madry-mnist": (
        (1, 28, 28),
        "conv 32 5x5/1 p2, relu, maxpool 2/2, conv 64 5x5/1 p2, relu, maxpool 2/2, flatten, fc 1024, relu, fc 10",
    ),
    "resnet9": (
        (3, 32, 32),
        "conv 64 3x3/1 p1, bn, relu, conv 128 3x3/1 p1, bn, relu, maxpool 2/2, conv 128 3x3/1 p1, bn, relu, "
        "conv 128 3x3/1 p1, bn, relu, add 6, conv 256 3x3/1 p1, bn, relu, maxpool 2/2, conv 512 3x3/1 p1, bn, relu, "
        "maxpool 2/2, conv 512 3x3/1 p1, bn, relu, conv 512 3x3/1 p1, bn, relu, add 6, maxpool 4/4, flatten, fc 10",
    ),
}


def texts(layers: Sequence[Part]) -> list[tuple[str, tuple[int, int, int], str]]:
    """(name, input shape, architecture text) of the known chains whose weights have the shapes of `layers`."""
    shapes = [part.shape for part in layers if part.kind in (*PRODUCTS, "bn")]
    known = _TEXTS if len(shapes) == len(layers) else {}
    found = [(name, shape, text) for name, (shape, text) in known.items() if _weights(shape, text) == shapes]
    convs = [part for part in layers if part.kind == "conv"]
    heads = [part.shape for part in layers if part.kind == "fc"]
    norms = any(part.kind == "bn" for part in layers)
    kinds = (["conv", "bn"] if norms else ["conv"]) * len(convs) + ["fc"] * len(heads)
    if (
        not convs
        or not heads
        or any(part.shape[2:] != (3, 3) for part in convs)
        or [part.kind for part in layers] != kinds
    ):
        return found
    widths = [str(part.shape[0]) for part in convs]
    for name, plan in _VGG.items():
        if [word for word in plan.split() if word != "M"] == widths and heads[0][1] == 512:
            words = ["maxpool 2/2" if w == "M" else _vgg_step(w, norms) for w in plan.split()]
            head = ", relu, ".join(f"fc {shape[0]}" for shape in heads)
            text = ", ".join([*words, "flatten", head])
            found.append((name + ("-bn" if norms else ""), (convs[0].shape[1], 32, 32), text))
    return found


def without_repeats(layers: Sequence[Part]) -> list[Part]:
    """The layers of a VGG whose pool repeats one pixel 7×7 times, as torchvision's does, with the repeats summed.

    On 32×32 images the convolutions leave one pixel; all other layers come back as they are.
    """
    widths = [str(part.shape[0]) for part in layers if part.kind == "conv"]
    plans = [[word for word in plan.split() if word != "M"] for plan in _VGG.values()]
    head = next((place for place, part in enumerate(layers) if part.kind == "fc"), None)
    if head is None or widths not in plans or layers[head].shape[1] != 512 * 49:
        return list(layers)
    summed = layers[head].tensors["weight"].reshape(-1, 512, 49).sum(2)
    changed = replace(layers[head], tensors={**layers[head].tensors, "weight": summed})
    return [*layers[:head], changed, *layers[head + 1 :]]


def _vgg_step(channels: str, norm: bool) -> str:
    return f"conv {channels} 3x3/1 p1, {'bn, ' if norm else ''}relu"


def _weights(input_shape: Sequence[int], text: str) -> list[tuple[int, ...]]:
    """The weight shapes of a text with convolutions, batch norms, square pools and full connections."""
    channels, size, _ = input_shape
    shapes: list[tuple[int, ...]] = []
    width = 0
    for word in text.split(", "):
        if match := re.fullmatch(r"conv (\d+) (\d+)x\d+/(\d)(?: p(\d))?", word):
            outputs, kernel, stride, padding = (int(n or 0) for n in match.groups())
            shapes.append((outputs, channels, kernel, kernel))
            channels, size = outputs, (size + 2 * padding - kernel) // stride + 1
        elif word.startswith("maxpool "):
            size //= int(word[-1])
        elif word == "bn":
            shapes.append((channels,))
        elif word.startswith("fc "):
            shapes.append((int(word[3:]), width or channels * size * size))
            width = int(word[3:])
    return shapes


KNOWN = "ResNet, pre-activation and Wide ResNet, VGG, LeNet, ResNet-9 and Wong & Kolter's networks"
