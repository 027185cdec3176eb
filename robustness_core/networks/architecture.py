"""Networks from an architecture text: the paper's small, medium and large CNNs and any plain chain a user types."""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from robustness_core.errors import NetworkError
from robustness_core.operations import ACTIVATIONS, WORDS

# METHOD.md section 5 (Gowal et al. 2019, all ReLU). The last layer gives one logit a class.
ARCHITECTURES = {
    "small": "conv 16 4x4/2 p1, relu, conv 32 4x4/1 same, relu, flatten, fc 100, relu, fc 10",
    "medium": (
        "conv 32 3x3/1 p1, relu, conv 32 4x4/2 p1, relu, conv 64 3x3/1 p1, relu, conv 64 4x4/2 p1, relu, "
        "flatten, fc 512, relu, fc 512, relu, fc 10"
    ),
    "large": (
        "conv 64 3x3/1 p1, relu, conv 64 3x3/1 p1, relu, conv 128 3x3/2 p1, relu, conv 128 3x3/1 p1, relu, "
        "conv 128 3x3/1 p1, relu, flatten, fc 512, relu, fc 10"
    ),
}

GRAMMAR = (
    f"conv CHANNELS HxW[/STRIDE] [pPADDING|same] [gGROUPS], {', '.join(ACTIVATIONS)}, prelu SLOPES, bn, gn GROUPS, "
    "maxpool SIZE[/STRIDE] [pPADDING] [ceil], avgpool SIZE[/STRIDE] [pPADDING] [ceil], gap, add WORDS, flatten, "
    "fc UNITS"
)


class Normalise(nn.Module):
    """(x - mean) / std, channel by channel, so that pixels and budgets stay in [0, 1] outside the network."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self.register_buffer("mean", torch.tensor(list(mean)).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(list(std)).view(-1, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        return (pixels - self.mean) / self.std


class Residual(nn.Sequential):
    """Modules one after the other; those of `adds`, by name, add what the module named there gave ("": the input)."""

    def __init__(self, modules: OrderedDict[str, nn.Module], adds: dict[str, str]):
        super().__init__(modules)
        self.adds = adds

    def forward(self, features: Tensor) -> Tensor:
        kept = {"": features}
        for name, module in self.named_children():
            features = module(features, kept[self.adds[name]]) if name in self.adds else module(features)
            kept[name] = features
        return features


class Network(nn.Module):
    """A body with its input shape and normalisation: pixels in [0, 1], (B, C, H, W) -> logits (B, classes).

    `architecture` is the text that `build` reads, or a description where the body came from elsewhere.
    The normalisation is part of the network: without one, mean and std are None and pixels go in as they are.
    `format` (safetensors, torch or onnx) and `sha256` are those of the file it was loaded from, empty without one.
    `by_hooks`: it cannot be traced, so its layers are the outputs of its modules and not proved to be cuts.
    """

    format: str = ""
    sha256: str = ""
    by_hooks: bool = False

    def __init__(
        self,
        body: nn.Module,
        input_shape: Sequence[int],
        *,
        architecture: str,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ):
        super().__init__()
        channels = next(iter(input_shape))
        for values in (mean, std):
            if values is not None and len(values) not in (1, channels):
                raise NetworkError(
                    f"The normalisation has {len(values)} values a kind; the input has {channels} channels."
                )
        self.input_shape = tuple(int(size) for size in input_shape)
        self.architecture = architecture
        self.mean = None if mean is None else tuple(float(v) for v in mean)
        self.std = None if std is None else tuple(float(v) for v in std)
        if (self.mean is None) != (self.std is None):
            raise NetworkError("A normalisation needs both a mean and a std.")
        if self.mean is not None and self.std is not None:
            self.normalise: nn.Module = Normalise(self.mean, self.std)
        else:
            self.normalise = nn.Identity()
        self.body = body

    def forward(self, pixels: Tensor) -> Tensor:
        return self.body(self.normalise(pixels))  # type: ignore[no-any-return]


_N = r"(\d{1,18})"  # a number; none that is longer is meant
_CONV = re.compile(rf"conv {_N} {_N}x{_N}(?:/{_N})?(?: (p\d{{1,18}}|same))?(?: g{_N})?")
_POOL = re.compile(rf"(maxpool|avgpool) {_N}(?:x{_N})?(?:/{_N})?(?: p{_N})?( ceil)?")
_FC = re.compile(rf"fc {_N}")
_NORM = re.compile(rf"(gn|prelu) {_N}")
_ADD = re.compile(rf"add {_N}")
_LARGEST = 1 << 28  # numbers of one tensor that a text may ask for


def build(
    architecture: str,
    input_shape: Sequence[int],
    classes: int = 10,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Network:
    """The network that `architecture` describes, with fresh weights drawn from torch's global generator.

    `architecture`: small, medium, large, or a text such as `conv 16 4x4/2 p1, relu, flatten, fc 10` (GRAMMAR).
    `add 3` is a shortcut around the three words before it: it adds the features that came into them.
    `input_shape`: (C, H, W). Modules are named conv1, conv2, ..., fc1, ..., logits, so layers have those names.
    A name builds `classes` logits; a text says its own. Raises NetworkError with one sentence.
    """
    text = ARCHITECTURES.get(architecture.strip(), architecture)
    if text is not architecture:
        text = text.removesuffix("fc 10") + f"fc {classes}"
    items = [" ".join(item.split()).lower() for item in text.split(",")]
    last_fc = max((i for i, item in enumerate(items) if item.split()[:1] == ["fc"]), default=-1)
    if last_fc < 0:
        raise NetworkError(f"The architecture {text!r} has no fc layer; the last layer must be `fc UNITS`.")

    body: OrderedDict[str, nn.Module] = OrderedDict()
    counts = {"conv": 0, "fc": 0, "pool": 0, "bn": 0, "gn": 0, "add": 0}
    latest = "input"
    shape = tuple(int(size) for size in input_shape)
    made = [("", shape)]  # by each word so far: the name of its module and the shape of its features
    adds: dict[str, str] = {}

    def number(kind: str) -> str:
        counts[kind] += 1
        return f"{kind}{counts[kind]}"

    for position, item in enumerate(items):
        module: nn.Module
        if match := _CONV.fullmatch(item):
            _need_image(shape, item)
            channels, height, width, stride, padding, groups = match.groups()
            if int(groups or 1) < 1 or shape[0] % int(groups or 1) or int(channels) % int(groups or 1):
                raise NetworkError(f"`{item}`: the groups must divide the {shape[0]} channels before and those after.")
            step, size = int(stride or 1), (int(height), int(width))
            if padding == "same" and step != 1:
                raise NetworkError(f"`{item}`: same padding needs stride 1; write p{size[0] // 2}.")
            _check_sizes(item, int(channels) * shape[0] * size[0] * size[1], step, *size)
            latest = name = number("conv")
            if padding == "same":  # spelled out, since an even kernel needs one more row at the end than at the start
                top, left = (size[0] - 1) // 2, (size[1] - 1) // 2
                body[f"{name}_pad"] = nn.ZeroPad2d((left, size[1] - 1 - left, top, size[0] - 1 - top))
                shape = _shape_after(body[f"{name}_pad"], shape, item)
            module = nn.Conv2d(shape[0], int(channels), size, step, _padding(padding), groups=int(groups or 1))
        elif match := _POOL.fullmatch(item):
            _need_image(shape, item)
            kind, height, width, stride, padding, ceil = match.groups()
            size = (int(height), int(width or height))
            _check_sizes(item, 1, int(stride or height), *size)
            pool = nn.MaxPool2d if kind == "maxpool" else nn.AvgPool2d
            module = pool(size, int(stride or height), int(padding or 0), ceil_mode=ceil is not None)
            latest = name = number("pool")
        elif item == "gap":
            _need_image(shape, item)
            module = nn.AdaptiveAvgPool2d(1)
            latest = name = number("pool")
        elif item == "bn":
            module = nn.BatchNorm2d(shape[0]) if len(shape) == 3 else nn.BatchNorm1d(shape[0])
            latest = name = number("bn")
        elif (match := _NORM.fullmatch(item)) and match[1] == "gn":
            groups = match[2]
            if int(groups) < 1 or shape[0] % int(groups):
                raise NetworkError(f"`{item}`: the groups must divide the {shape[0]} channels.")
            module = nn.GroupNorm(int(groups), shape[0])
            latest = name = number("gn")
        elif match or item == "prelu":
            module, name = nn.PReLU(int(match[2]) if match else 1), f"{latest}_prelu"
        elif item == "flatten":
            module, name = nn.Flatten(), "flatten"
        elif match := _FC.fullmatch(item):
            if len(shape) != 1:
                raise NetworkError(f"`{item}` needs a flat input; write flatten before it.")
            units = int(match.group(1))
            _check_sizes(item, units * shape[0], units)
            module = nn.Linear(shape[0], units)
            latest = name = "logits" if position == last_fc else number("fc")
        elif match := _ADD.fullmatch(item):
            around = int(match[1])
            if not 0 < around < len(made) or made[-1 - around][1] != shape:
                came = f"has {_times(made[-1 - around][1])}" if 0 < around < len(made) else "is not there"
                raise NetworkError(f"`{item}`: {_times(shape)} was reached, and what it adds {came}.")
            module = WORDS["add"].module({})
            latest = name = number("add")
            adds[name] = made[-1 - around][0]
        elif item in ACTIVATIONS:
            module, name = ACTIVATIONS[item].module({}), f"{latest}_{item}"
        else:
            raise NetworkError(_unknown(item))
        if name in body:
            raise NetworkError(f"`{item}` appears twice in a row in the architecture; write it once.")
        shape = _shape_after(module, shape, item)
        body[name] = module
        made.append((name, shape))
    modules = Residual(body, adds) if adds else nn.Sequential(body)
    return Network(modules, input_shape, architecture=", ".join(items), mean=mean, std=std)


def _padding(text: str | None) -> int:
    return 0 if text in (None, "same") else int(str(text)[1:])


def _need_image(shape: tuple[int, ...], item: str) -> None:
    if len(shape) != 3:
        raise NetworkError(f"`{item}` needs an image as input, but a flatten comes before it.")


def _check_sizes(item: str, numbers: int, *positive: int) -> None:
    if min(positive) < 1 or numbers < 1:
        raise NetworkError(f"`{item}`: every size must be 1 or more.")
    if numbers > _LARGEST:
        raise NetworkError(f"`{item}` asks for {numbers} weights; at most {_LARGEST} are accepted.")


def _shape_after(module: nn.Module, shape: tuple[int, ...], item: str) -> tuple[int, ...]:
    after = shape
    if isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
        kernel, stride, padding = (_pair(value) for value in (module.kernel_size, module.stride, module.padding))
        channels = module.out_channels if isinstance(module, nn.Conv2d) else shape[0]
        windows = list(zip(shape[1:], kernel, stride, padding, strict=True))
        sizes = [(size + 2 * p - k) // s + 1 for size, k, s, p in windows]
        if getattr(module, "ceil_mode", False):  # one more window where one begins within the image
            sizes = [n + (0 < n * s < size + p and (size + 2 * p - k) % s > 0)
                     for n, (size, k, s, p) in zip(sizes, windows, strict=True)]  # fmt: skip
        pool = not isinstance(module, nn.Conv2d)
        if min(sizes) < 1 or (pool and any(2 * p > k for p, k in zip(padding, kernel, strict=True))):
            raise NetworkError(f"`{item}` does not fit an input of {_times(shape)}.")
        after = (channels, *sizes)
    elif isinstance(module, nn.ZeroPad2d):
        left, right, top, bottom = module.padding
        after = (shape[0], shape[1] + top + bottom, shape[2] + left + right)
    elif isinstance(module, nn.AdaptiveAvgPool2d):
        after = (shape[0], 1, 1)
    elif isinstance(module, nn.Flatten):
        after = (math.prod(shape),)
    elif isinstance(module, nn.Linear):
        after = (module.out_features,)
    if math.prod(after) > _LARGEST:
        raise NetworkError(f"`{item}` would give features of {_times(after)}, which cannot be used.")
    return after


def _pair(value: int | tuple[int, ...] | str) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else (int(value), int(value))


def _times(shape: Sequence[int]) -> str:
    return "×".join(str(size) for size in shape)


def _unknown(item: str) -> str:
    word = item.split()[0] if item else ""
    if word in ("conv", "maxpool", "avgpool", "fc", "add"):
        return f"`{item}` cannot be read; write {next(g for g in GRAMMAR.split(', ') if g.startswith(word))}."
    if not word:
        return "There is an empty place between two commas in the architecture; remove it."
    return f"The word {word!r} is not known; an architecture is made of: {GRAMMAR}."
