"""A network as a list of steps from a closed vocabulary: what an ONNX graph becomes, and what is stored of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustness_core.errors import NetworkError

INPUT = "input"


@dataclass(frozen=True)
class Step:
    """One tensor: `kind` (of KINDS) applied to the steps named in `inputs` (or "input") with numbers `settings`."""

    name: str
    kind: str
    inputs: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)


class _Function(nn.Module):
    """A step without weights, as a module so that its name is kept in the traced graph."""

    def __init__(self, function: Callable[..., Tensor]):
        super().__init__()
        self.function = function

    def forward(self, *tensors: Tensor) -> Tensor:
        return self.function(*tensors)


class _WithConstant(nn.Module):
    """An arithmetic step whose other side is a stored tensor."""

    value: Tensor

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor], shape: Sequence[int], first: bool):
        super().__init__()
        self.function, self.first = function, first
        self.register_buffer("value", torch.zeros(tuple(shape)))

    def forward(self, features: Tensor) -> Tensor:
        if self.first:
            return self.function(self.value, features)
        return self.function(features, self.value)


def _add(a: Tensor, b: Tensor) -> Tensor:
    return a + b


def _sub(a: Tensor, b: Tensor) -> Tensor:
    return a - b


def _mul(a: Tensor, b: Tensor) -> Tensor:
    return a * b


def _div(a: Tensor, b: Tensor) -> Tensor:
    return a / b


ARITHMETIC: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": _add,
    "sub": _sub,
    "mul": _mul,
    "div": _div,
    "pow": torch.pow,
    "max": torch.maximum,
    "min": torch.minimum,
    "greater": torch.gt,
    "less": torch.lt,
    "atleast": torch.ge,
    "atmost": torch.le,
}
_UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "neg": torch.neg, "exp": torch.exp, "sqrt": torch.sqrt, "abs": torch.abs, "erf": torch.erf, "log": torch.log,
    "reciprocal": torch.reciprocal,
}  # fmt: skip


def _conv(s: Mapping[str, Any]) -> nn.Module:
    return nn.Conv2d(
        s["inputs"],
        s["outputs"],
        tuple(s["kernel"]),
        tuple(s["stride"]),
        tuple(s.get("padding", (0, 0))),
        tuple(s.get("dilation", (1, 1))),
        s.get("groups", 1),
        s.get("bias", True),
    )


def _norm(s: Mapping[str, Any]) -> nn.Module:
    kind = nn.BatchNorm2d if s["image"] else nn.BatchNorm1d
    return kind(s["features"], eps=s["eps"])


def _pool(s: Mapping[str, Any]) -> nn.Module:
    kernel, stride, padding = tuple(s["kernel"]), tuple(s["stride"]), tuple(s.get("padding", (0, 0)))
    if s["average"]:
        return nn.AvgPool2d(kernel, stride, padding, s.get("ceil", False), s.get("count_padding", False))
    return nn.MaxPool2d(kernel, stride, padding, ceil_mode=s.get("ceil", False))


def _reshape(s: Mapping[str, Any]) -> nn.Module:
    shape = tuple(s["shape"])
    return nn.Flatten() if len(shape) == 1 else _Function(lambda x: torch.reshape(x, (-1, *shape)))


def _mean(s: Mapping[str, Any]) -> nn.Module:
    axes, keep = list(s["axes"]), bool(s["keep"])
    function = torch.sum if s.get("sum") else torch.mean
    return _Function(lambda x: function(x, dim=axes, keepdim=keep))


def _extreme(function: Callable[..., Tensor]) -> Callable[[Mapping[str, Any]], nn.Module]:
    def build_step(s: Mapping[str, Any]) -> nn.Module:
        axes, keep = list(s["axes"]), bool(s["keep"])
        return _Function(lambda x: function(x, dim=axes, keepdim=keep))

    return build_step


def _widen(s: Mapping[str, Any]) -> nn.Module:
    pads, value = [int(size) for size in s["pads"]], float(s.get("value", 0.0))
    return _Function(lambda x: F.pad(x, pads, value=value))


class _InstanceNorm(nn.Module):
    """Each channel of each image with mean 0 and variance 1, whatever follows the channels; then scaled and shifted."""

    def __init__(self, features: int, eps: float):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, features: Tensor) -> Tensor:
        flat = torch.flatten(features, 2)
        centred = flat - torch.mean(flat, 2, keepdim=True)
        normal = centred / torch.sqrt(torch.mean(centred * centred, 2, keepdim=True) + self.eps)
        return torch.reshape(normal * self.weight[:, None] + self.bias[:, None], features.shape)


class _Where(nn.Module):
    """(condition, value where it holds, value elsewhere); either value may be a stored tensor instead of a step."""

    left: Tensor
    right: Tensor

    def __init__(self, left: Sequence[int] | None, right: Sequence[int] | None):
        super().__init__()
        self.stored = (left is not None, right is not None)
        for name, shape in (("left", left), ("right", right)):
            if shape is not None:
                self.register_buffer(name, torch.zeros(tuple(shape)))

    def forward(self, condition: Tensor, *values: Tensor) -> Tensor:
        first = self.left if self.stored[0] else values[0]
        return torch.where(condition.bool(), first, self.right if self.stored[1] else values[-1])


def _slice(s: Mapping[str, Any]) -> nn.Module:
    places = tuple(slice(None) if place is None else slice(*place) for place in s["places"])
    return _Function(lambda x: x[places])


def _arithmetic(kind: str) -> Callable[[Mapping[str, Any]], nn.Module]:
    def build_step(s: Mapping[str, Any]) -> nn.Module:
        if "constant" in s:
            return _WithConstant(ARITHMETIC[kind], s["constant"], bool(s.get("first")))
        return _Function(ARITHMETIC[kind])

    return build_step


def _unary(kind: str) -> Callable[[Mapping[str, Any]], nn.Module]:
    return lambda s: _Function(_UNARY[kind])


KINDS: dict[str, Callable[[Mapping[str, Any]], nn.Module]] = {
    "conv": _conv,
    "fc": lambda s: nn.Linear(s["inputs"], s["outputs"], bias=s.get("bias", True)),
    "bn": _norm,
    "pool": _pool,
    "gap": lambda s: nn.AdaptiveAvgPool2d(1),
    "gmp": lambda s: nn.AdaptiveMaxPool2d(1),
    "pad": lambda s: nn.ConstantPad2d(tuple(s["pads"]), float(s.get("value", 0.0))),
    "reshape": _reshape,
    "permute": lambda s: _Function(lambda x: torch.permute(x, (0, *s["axes"]))),
    "concat": lambda s: _Function(lambda *xs: torch.cat(xs, dim=s["axis"])),
    "mean": _mean,
    "slice": _slice,
    "where": lambda s: _Where(s.get("left"), s.get("right")),
    "amax": _extreme(torch.amax),
    "amin": _extreme(torch.amin),
    "widen": _widen,
    "instancenorm": lambda s: _InstanceNorm(s["features"], float(s["eps"])),
    "celu": lambda s: nn.CELU(float(s.get("alpha", 1.0))),
    "softsign": lambda s: nn.Softsign(),
    "mish": lambda s: nn.Mish(),
    "relu": lambda s: nn.ReLU(),
    "elu": lambda s: nn.ELU(float(s.get("alpha", 1.0))),
    "leakyrelu": lambda s: nn.LeakyReLU(float(s.get("alpha", 0.01))),
    "prelu": lambda s: nn.PReLU(int(s["count"])),
    "selu": lambda s: nn.SELU(),
    "gelu": lambda s: nn.GELU(approximate=s.get("approximate", "none")),
    "softplus": lambda s: nn.Softplus(),
    "sigmoid": lambda s: nn.Sigmoid(),
    "hardsigmoid": lambda s: nn.Hardsigmoid(),
    "hardswish": lambda s: nn.Hardswish(),
    "tanh": lambda s: nn.Tanh(),
    "clip": lambda s: nn.Hardtanh(float(s["low"]), float(s["high"])),
    "softmax": lambda s: nn.Softmax(dim=s["axis"]),
    "logsoftmax": lambda s: nn.LogSoftmax(dim=s["axis"]),
    **{kind: _arithmetic(kind) for kind in ARITHMETIC},
    **{kind: _unary(kind) for kind in _UNARY},
}


class Program(nn.Module):
    """The steps as a module: (B, C, H, W) -> the tensor of the last step. Built by `build`; fx can trace it."""

    def __init__(self, steps: Sequence[Step]):
        super().__init__()
        self.steps = tuple(steps)
        self._wiring: list[tuple[str, tuple[str, ...], tuple[str, ...]]] = []
        last_use = {source: i for i, step in enumerate(steps) for source in step.inputs}
        for i, step in enumerate(steps):
            self.add_module(step.name, module_of(step))
            spent = tuple(s for s in dict.fromkeys(step.inputs) if last_use[s] == i)
            self._wiring.append((step.name, step.inputs, spent))

    def forward(self, images: Tensor) -> Tensor:
        tensors = {INPUT: images}
        latest = images
        for name, inputs, spent in self._wiring:
            latest = self.get_submodule(name)(*[tensors[source] for source in inputs])
            for source in spent:
                del tensors[source]
            tensors[name] = latest
        return latest


def module_of(step: Step) -> nn.Module:
    """The module of one step, with fresh weights. Raises NetworkError."""
    try:
        return KINDS[step.kind](step.settings)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise NetworkError(f"The step {step.name} ({step.kind}) cannot be built.") from error


def build(steps: Sequence[Step]) -> Program:
    """The module of a list of steps, with fresh weights. Raises NetworkError if a name is missing or used twice."""
    known = {INPUT}
    for step in steps:
        if step.name in known or not step.name.isidentifier():
            raise NetworkError(f"The step name {step.name!r} is used twice or is no plain word.")
        if not step.inputs or not set(step.inputs) <= known:
            raise NetworkError(f"The step {step.name} works on a tensor that no earlier step gives.")
        known.add(step.name)
    if not steps:
        raise NetworkError("The network has no step.")
    return Program(steps)


def to_json(steps: Sequence[Step]) -> str:
    return json.dumps([asdict(step) for step in steps], separators=(",", ":"))


def from_json(text: str) -> tuple[Step, ...]:
    """The steps that `to_json` wrote. Raises NetworkError."""
    try:
        return tuple(
            Step(str(item["name"]), str(item["kind"]), tuple(item["inputs"]), dict(item["settings"]))
            for item in json.loads(text)
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise NetworkError("The stored steps of the network cannot be read.") from error


def describe(steps: Sequence[Step]) -> str:
    """The steps in the words of an architecture text where it has them: `conv 16 4x4/2 p1, relu, ..., fc 10`."""
    words = []
    for step in steps:
        s = step.settings
        if step.kind == "conv":
            stride, padding = _one(s["stride"]), _one(s.get("padding", (0, 0)))
            words.append(f"conv {s['outputs']} {s['kernel'][0]}x{s['kernel'][1]}/{stride}" + _padded(padding))
        elif step.kind == "fc":
            words.append(f"fc {s['outputs']}")
        elif step.kind == "pool":
            kind = "avgpool" if s["average"] else "maxpool"
            words.append(f"{kind} {_one(s['kernel'])}/{_one(s['stride'])}" + _padded(_one(s.get("padding", (0, 0)))))
        elif step.kind == "reshape" and len(s["shape"]) == 1:
            words.append("flatten")
        else:
            words.append(step.kind)
    return ", ".join(words)


def _one(pair: Sequence[int]) -> str:
    return str(pair[0]) if len(set(pair)) == 1 else "x".join(map(str, pair))


def _padded(padding: str) -> str:
    return "" if padding == "0" else f" p{padding}"
