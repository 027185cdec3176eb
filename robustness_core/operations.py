"""The table of operations: what each is to layers, to torch and to ONNX, and its word. All else reads it here."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Settings = Mapping[str, Any]
Make = Callable[[Settings], nn.Module]


@dataclass(frozen=True, eq=False)
class Operation:
    """One row. Fields that say nothing are left out.

    `kind`: an activation (elementwise; it ends a layer), a softmax, a reshape (the same features in another shape,
    between borders or as they are: no layer of its own), a batch norm, a pool, elementwise, of a pair of tensors, else.
    `modules`: the modules of torch that are it; without `make` the first of them is built.
    `names`: its functions in torch, torch.nn.functional and operator, and its methods of tensors, in place (relu_) too.
    `onnx`: its names there. Those of activations, elementwise and pairs need no code, others a reader in
    checkpoints/onnx/operations.py.
    `affine`: a map that is affine in all its arguments jointly, in one if the others are constant (alone), in the
    first if the others are constant (divided), or never.
    `word`: its name in a program (empty: no program holds it); of an activation without `make` also in an
    architecture text.
    `settings`: the arguments of the module in their order, with the values where nothing is said; ONNX has the names.
    `make`: builds the module from the settings of a step.
    `usual`: an activation that a file may have without saying so; the first is taken for granted.
    """

    word: str
    kind: Literal["activation", "softmax", "reshape", "norm", "pool", "elementwise", "pair", "other"]
    modules: tuple[type[nn.Module], ...] = ()
    names: str = ""
    onnx: str = ""
    affine: Literal["never", "jointly", "alone", "divided"] = "never"
    settings: Mapping[str, float | str] = field(default_factory=dict)
    make: Make | None = None
    usual: bool = False

    def module(self, settings: Settings) -> nn.Module:
        """The module of torch, with fresh weights. Raises what torch raises for settings that are none."""
        if self.make is not None:
            return self.make(settings)
        return self.modules[0](*(type(usual)(settings.get(key, usual)) for key, usual in self.settings.items()))


# ----------------------------------------------------------------------------------------- modules that torch has not


class _Function(nn.Module):
    """A step without weights, as a module so that its name is kept in the traced graph."""

    def __init__(self, function: Callable[..., Tensor]):
        super().__init__()
        self.function = function

    def forward(self, *tensors: Tensor) -> Tensor:
        return self.function(*tensors)


class _Slopes(nn.Module):
    """PReLU with slopes of any shape that the features take."""

    def __init__(self, shape: Sequence[int]):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(tuple(shape)))

    def forward(self, features: Tensor) -> Tensor:
        return torch.where(features > 0, features, features * self.weight)


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


# ---------------------------------------------------------------------------------- modules that need several settings


def _conv(s: Settings) -> nn.Module:
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


def _norm(s: Settings) -> nn.Module:
    kind = nn.BatchNorm2d if s["image"] else nn.BatchNorm1d
    return kind(s["features"], eps=s["eps"])


def _pool(s: Settings) -> nn.Module:
    kernel, stride, padding = tuple(s["kernel"]), tuple(s["stride"]), tuple(s.get("padding", (0, 0)))
    if s["average"]:
        return nn.AvgPool2d(kernel, stride, padding, s.get("ceil", False), s.get("count_padding", False))
    return nn.MaxPool2d(kernel, stride, padding, ceil_mode=s.get("ceil", False))


def _clip(s: Settings) -> nn.Module:
    low, high = float(s["low"]), float(s["high"])
    return nn.Hardtanh(low, high) if low < high else _Function(lambda x: torch.clamp(x, low, high))


def _cast(s: Settings) -> nn.Module:
    kind = {"float": torch.float32, "bool": torch.bool}[s["to"]]
    return _Function(lambda x: x.to(kind))


def _reshape(s: Settings) -> nn.Module:
    shape = tuple(s["shape"])
    return nn.Flatten() if len(shape) == 1 else _Function(lambda x: torch.reshape(x, (-1, *shape)))


def _widen(s: Settings) -> nn.Module:
    pads, value = [int(size) for size in s["pads"]], float(s.get("value", 0.0))
    return _Function(lambda x: F.pad(x, pads, value=value))


def _slice(s: Settings) -> nn.Module:
    places = tuple(slice(None) if place is None else slice(*place) for place in s["places"])
    return _Function(lambda x: x[places])


def _over_axes(function: Callable[..., Tensor], other: Callable[..., Tensor] | None = None) -> Make:
    """A mean, maximum or minimum over axes; `other` where the settings ask for a sum."""

    def make(s: Settings) -> nn.Module:
        chosen = other if other is not None and s.get("sum") else function
        axes, keep = list(s["axes"]), bool(s["keep"])
        return _Function(lambda x: chosen(x, dim=axes, keepdim=keep))

    return make


def _plain(function: Callable[[Tensor], Tensor]) -> Make:
    return lambda s: _Function(function)


def _pair(function: Callable[[Any, Any], Any]) -> Make:
    def make(s: Settings) -> nn.Module:
        if "constant" in s:
            return _WithConstant(function, s["constant"], bool(s.get("first")))
        return _Function(function)

    return make


# ------------------------------------------------------------------------------------------------------------ the table

TABLE = (
    Operation("relu", "activation", (nn.ReLU,), "relu", "Relu", usual=True),
    Operation("tanh", "activation", (nn.Tanh,), "tanh", "Tanh", usual=True),
    Operation("sigmoid", "activation", (nn.Sigmoid,), "sigmoid", "Sigmoid", usual=True),
    Operation("elu", "activation", (nn.ELU,), "elu", "Elu", settings={"alpha": 1.0}, usual=True),
    Operation("leakyrelu", "activation", (nn.LeakyReLU,), "leaky_relu", "LeakyRelu", settings={"alpha": 0.01},
              usual=True),
    Operation("gelu", "activation", (nn.GELU,), "gelu", "Gelu", settings={"approximate": "none"}, usual=True),
    Operation("softplus", "activation", (nn.Softplus,), "softplus", "Softplus", usual=True),
    Operation("celu", "activation", (nn.CELU,), "celu", "Celu", settings={"alpha": 1.0}),
    Operation("selu", "activation", (nn.SELU,), "selu", "Selu"),
    Operation("silu", "activation", (nn.SiLU,), "silu", usual=True),
    Operation("mish", "activation", (nn.Mish,), "mish", "Mish"),
    Operation("softsign", "activation", (nn.Softsign,), "softsign", "Softsign"),
    Operation("relu6", "activation", (nn.ReLU6,), "relu6"),
    Operation("rrelu", "activation", (nn.RReLU,), "rrelu"),  # evaluated with its mean slope
    Operation("hardsigmoid", "activation", (nn.Hardsigmoid,), "hardsigmoid", "HardSigmoid"),
    Operation("hardswish", "activation", (nn.Hardswish,), "hardswish", "HardSwish"),
    Operation("logsigmoid", "activation", (nn.LogSigmoid,), "logsigmoid"),
    Operation("hardshrink", "activation", (nn.Hardshrink,), "hardshrink"),
    Operation("softshrink", "activation", (nn.Softshrink,), "softshrink"),
    Operation("tanhshrink", "activation", (nn.Tanhshrink,), "tanhshrink"),
    Operation("threshold", "activation", (nn.Threshold,), "threshold", "ThresholdedRelu",
              settings={"alpha": 1.0, "value": 0.0}),
    Operation("prelu", "activation", (nn.PReLU, _Slopes), "prelu", "PRelu",
              make=lambda s: _Slopes(s["shape"]) if "shape" in s else nn.PReLU(int(s["count"]))),
    Operation("clip", "activation", (nn.Hardtanh,), "hardtanh clamp clip", "Clip", make=_clip),
    Operation("softmax", "softmax", (nn.Softmax, nn.Softmax2d, nn.Softmin), "softmax softmin", "Softmax",
              make=lambda s: nn.Softmax(dim=s["axis"])),
    Operation("logsoftmax", "softmax", (nn.LogSoftmax,), "log_softmax", "LogSoftmax",
              make=lambda s: nn.LogSoftmax(dim=s["axis"])),

    Operation("", "reshape", (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout),
              "dropout contiguous to float clone", "Identity Dropout", affine="jointly"),
    Operation("reshape", "reshape", (nn.Flatten, nn.Unflatten), "flatten unflatten reshape view squeeze unsqueeze",
              "Reshape Flatten Squeeze Unsqueeze", affine="jointly", make=_reshape),
    Operation("permute", "reshape", (), "permute transpose", "Transpose", affine="jointly",
              make=lambda s: _Function(lambda x: torch.permute(x, (0, *s["axes"])))),
    Operation("pad", "reshape", (nn.ZeroPad2d, nn.ConstantPad2d), "pad", "Pad", affine="jointly",
              make=lambda s: nn.ConstantPad2d(tuple(s["pads"]), float(s.get("value", 0.0)))),
    Operation("widen", "reshape", affine="jointly", make=_widen),  # more channels; ONNX calls it Pad too

    Operation("bn", "norm", (nn.BatchNorm1d, nn.BatchNorm2d), "batch_norm", "BatchNormalization", affine="alone",
              make=_norm),
    Operation("instancenorm", "other", (nn.GroupNorm, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d), "",
              "InstanceNormalization", make=lambda s: _InstanceNorm(s["features"], float(s["eps"]))),

    Operation("pool", "pool", (nn.MaxPool2d,), "max_pool2d", "MaxPool", make=_pool),
    Operation("pool", "pool", (nn.AvgPool2d,), "avg_pool2d", "AveragePool", affine="alone", make=_pool),
    Operation("gap", "pool", (nn.AdaptiveAvgPool2d,), "adaptive_avg_pool2d", "GlobalAveragePool", affine="alone",
              make=lambda s: nn.AdaptiveAvgPool2d(1)),
    Operation("gmp", "pool", (nn.AdaptiveMaxPool2d,), "adaptive_max_pool2d", "GlobalMaxPool",
              make=lambda s: nn.AdaptiveMaxPool2d(1)),

    Operation("conv", "other", (nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d), "conv1d conv2d conv_transpose2d", "Conv",
              affine="alone", make=_conv),
    Operation("fc", "other", (nn.Linear,), "linear matmul", "Gemm MatMul", affine="alone",
              make=lambda s: nn.Linear(s["inputs"], s["outputs"], bias=s.get("bias", True))),
    Operation("", "other", (nn.Upsample,), "interpolate", affine="alone"),
    Operation("mean", "other", (), "mean sum", "ReduceMean ReduceSum", affine="alone",
              make=_over_axes(torch.mean, torch.sum)),
    Operation("slice", "other", (), "getitem", "Slice", affine="alone", make=_slice),
    Operation("concat", "other", (), "cat concat", "Concat", affine="jointly",
              make=lambda s: _Function(lambda *xs: torch.cat(xs, dim=s["axis"]))),
    Operation("amax", "other", (), "amax", "ReduceMax", make=_over_axes(torch.amax)),
    Operation("amin", "other", (), "amin", "ReduceMin", make=_over_axes(torch.amin)),
    Operation("cast", "other", (), "", "Cast", make=_cast),
    Operation("where", "other", (), "where", "Where", make=lambda s: _Where(s.get("left"), s.get("right"))),

    Operation("add", "pair", (), "add iadd", "Add Sum", affine="jointly", make=_pair(operator.add)),
    Operation("sub", "pair", (), "sub isub", "Sub", affine="jointly", make=_pair(operator.sub)),
    Operation("mul", "pair", (), "mul imul", "Mul", affine="alone", make=_pair(operator.mul)),
    Operation("div", "pair", (), "div truediv itruediv", "Div", affine="divided", make=_pair(operator.truediv)),
    Operation("pow", "pair", (), "pow", "Pow", make=_pair(torch.pow)),
    Operation("max", "pair", (), "maximum", "Max", make=_pair(torch.maximum)),
    Operation("min", "pair", (), "minimum", "Min", make=_pair(torch.minimum)),
    Operation("greater", "pair", (), "gt", "Greater", make=_pair(torch.gt)),
    Operation("less", "pair", (), "lt", "Less", make=_pair(torch.lt)),
    Operation("atleast", "pair", (), "ge", "GreaterOrEqual", make=_pair(torch.ge)),
    Operation("atmost", "pair", (), "le", "LessOrEqual", make=_pair(torch.le)),
    Operation("neg", "elementwise", (), "neg", "Neg", affine="jointly", make=_plain(torch.neg)),
    Operation("exp", "elementwise", (), "exp", "Exp", make=_plain(torch.exp)),
    Operation("sqrt", "elementwise", (), "sqrt", "Sqrt", make=_plain(torch.sqrt)),
    Operation("abs", "elementwise", (), "abs", "Abs", make=_plain(torch.abs)),
    Operation("erf", "elementwise", (), "erf", "Erf", make=_plain(torch.erf)),
    Operation("log", "elementwise", (), "log", "Log", make=_plain(torch.log)),
    Operation("reciprocal", "elementwise", (), "reciprocal", "Reciprocal", make=_plain(torch.reciprocal)),
)  # fmt: skip
UNKNOWN = Operation("", "other")
DEAREST = 1e10  # multiplications that one image may cost
_MEMORY = 10  # multiplications in the time that one number takes through memory, or an exponential on it


def effort(module: nn.Module) -> float:
    """About how many multiplications one number that a module without parts gives takes."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        return float(module.weight[0].numel())
    row = of(module)
    if row.kind == "pool" and isinstance(kernel := getattr(module, "kernel_size", None), tuple):
        return float(_MEMORY * kernel[0] * kernel[1])
    return 0.0 if row.kind == "reshape" else float(_MEMORY)


WORDS = {row.word: row for row in TABLE if row.word}
ONNX = {name: row for row in TABLE for name in row.onnx.split()}
ACTIVATIONS = {row.word: row for row in TABLE if row.kind == "activation" and row.make is None}  # words of a text
USUAL = {row.word: row for row in TABLE if row.usual}


def _spellings(row: Operation) -> set[object]:
    """The modules, functions and methods (as text) that are an operation."""
    found: set[object] = set(row.modules)
    for name in row.names.split():
        for form in (name, f"{name}_"):
            found |= {f for home in (torch, F, operator) if callable(f := getattr(home, form, None))}
            found |= {form} if hasattr(Tensor, form) else set()
    return found


_KNOWN = {spelling: row for row in TABLE for spelling in _spellings(row)}


def of(target: object) -> Operation:
    """The operation that a module, a function or a method of tensors (its name) is; UNKNOWN if the table has none."""
    keys = type(target).__mro__ if isinstance(target, nn.Module) else (target,)
    return next((_KNOWN[key] for key in keys if key in _KNOWN), UNKNOWN)
