"""The ONNX operations that work on images, each as the steps that do the same."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from robustness_core.checkpoints.chain import times
from robustness_core.checkpoints.onnx.steps import (
    Builder,
    Features,
    Inputs,
    Node,
    Value,
    as_any,
    as_constant,
    as_features,
    as_floats,
    mixes,
)
from robustness_core.errors import CheckpointError
from robustness_core.operations import ONNX, WORDS

_HUGE = 3.4e38  # stands for an open end of Clip and for minus infinity around a maximum pool


def _alias(c: Builder, node: Node, inputs: Inputs) -> Value:
    return as_any(inputs[0])


def _cast(c: Builder, node: Node, inputs: Inputs) -> Value:
    x, kind = as_any(inputs[0]), node.integer("to", 0)
    if kind not in (1, 9):  # float32, to which all floats were widened, and truth values
        raise CheckpointError("The ONNX graph rounds the image to whole numbers (Cast), which is not supported.")
    wanted = torch.float32 if kind == 1 else torch.bool
    return x if x.kind == wanted else c.emit("cast", [x], {"to": "float" if kind == 1 else "bool"})


def _selu(c: Builder, node: Node, inputs: Inputs) -> Value:
    x, alpha, gamma = as_features(inputs[0]), node.number("alpha", 1.67326), node.number("gamma", 1.0507)
    if abs(alpha - 1.67326) < 1e-4 and abs(gamma - 1.0507) < 1e-4:
        return c.emit("selu", [x])
    return _scaled(c, c.emit("elu", [x], {"alpha": alpha}), gamma)


def _scaled(c: Builder, x: Features, factor: float, shift: float = 0.0) -> Features:
    for word, number, idle in (("mul", factor, 1.0), ("add", shift, 0.0)):
        if number != idle:
            x = c.emit(word, [x], {"constant": ()}, {"value": torch.tensor(number)})
    return x


def _elementwise(c: Builder, node: Node, inputs: Inputs) -> Value:
    settings = {
        key: node.text(key, usual) if isinstance(usual, str) else node.number(key, usual)
        for key, usual in WORDS[node.word].settings.items()
    }
    WORDS[node.word].module(settings)(torch.zeros(1, 1))  # raises what torch says of settings that are none
    return c.emit(node.word, [as_features(inputs[0])], settings)


def _window(node: Node, kernel: Sequence[int], shape: Sequence[int]) -> tuple[list[int], list[int], list[int]]:
    """Strides, dilations and pads (top, left, bottom, right) of a convolution or a pool on images."""
    if len(kernel) != 2 or len(shape) != 4:
        raise CheckpointError(f"The ONNX operation {node.op} works on {len(kernel)}-D data; only images are supported.")
    strides, dilations = node.integers("strides", (1, 1)), node.integers("dilations", (1, 1))
    pads = node.integers("pads", (0, 0, 0, 0))
    if len(strides) != 2 or len(dilations) != 2 or len(pads) != 4 or min(*strides, *dilations, *kernel) < 1:
        raise ValueError("malformed window")
    if max(*kernel, *strides, *dilations, *pads) > 4096 or min(pads) < 0:
        raise ValueError("impossible window")
    same = node.text("auto_pad", "NOTSET")
    if same in ("SAME_UPPER", "SAME_LOWER"):
        before, after = [], []
        for size, k, stride, dilation in zip(shape[2:], kernel, strides, dilations, strict=True):
            total = (-(-size // stride) - 1) * stride + (k - 1) * dilation + 1 - size
            if total < 0:  # the standard's sum is negative then, and programs read it in different ways
                raise CheckpointError(
                    f"The ONNX operation {node.op} pads by {same} with steps of {stride} that leap over pixels, which "
                    "programs read differently; export it with pads."
                )
            first = total // 2 if same == "SAME_UPPER" else total - total // 2
            before.append(first)
            after.append(total - first)
        pads = before + after
    elif same == "VALID":
        pads = [0, 0, 0, 0]
    return strides, dilations, pads


def _pad_first(c: Builder, x: Features, pads: Sequence[int], value: float = 0.0) -> Features:
    top, left, bottom, right = pads
    settings = {"pads": (left, right, top, bottom), "value": value}
    return c.emit("pad", [x], settings)


def _conv(c: Builder, node: Node, inputs: Inputs) -> Value:
    x, weight = as_features(inputs[0]), as_floats(inputs[1])
    kernel = list(weight.shape[2:])
    strides, dilations, pads = _window(node, kernel, x.shape)
    padding = pads[:2]
    if pads[:2] != pads[2:]:
        x, padding = _pad_first(c, x, pads), [0, 0]
    groups = node.integer("group", 1)
    bias = as_floats(inputs[2]) if len(inputs) > 2 and inputs[2] is not None else None
    settings = {
        "inputs": weight.shape[1] * groups, "outputs": weight.shape[0], "kernel": kernel, "stride": strides,
        "dilation": dilations, "padding": padding, "groups": groups, "bias": bias is not None,
    }  # fmt: skip
    return c.emit("conv", [x], settings, {"weight": weight} | ({} if bias is None else {"bias": bias}))


def _linear(c: Builder, x: Features, weight: Tensor, bias: Tensor | None) -> Features:
    settings = {"inputs": weight.shape[1], "outputs": weight.shape[0], "bias": bias is not None}
    return c.emit("fc", [x], settings, {"weight": weight} | ({} if bias is None else {"bias": bias}))


def _gemm(c: Builder, node: Node, inputs: Inputs) -> Value:
    x, weight = as_features(inputs[0]), as_floats(inputs[1])
    if node.integer("transA", 0) or len(x.shape) != 2 or weight.dim() != 2:
        raise mixes("Gemm")
    weight = weight if node.integer("transB", 0) else weight.T
    bias = None
    if len(inputs) > 2 and inputs[2] is not None:
        bias = (as_floats(inputs[2]) * node.number("beta", 1.0)).broadcast_to((1, weight.shape[0])).reshape(-1)
        bias = bias.contiguous()
    return _linear(c, x, (weight * node.number("alpha", 1.0)).contiguous(), bias)


def _matmul(c: Builder, node: Node, inputs: Inputs) -> Value:
    if isinstance(inputs[0], np.ndarray):  # W x with one column an image
        x, weight = as_features(inputs[1]), as_floats(inputs[0])
        if len(x.shape) != 3 or x.shape[2] != 1 or weight.dim() != 2:
            raise CheckpointError("The ONNX graph multiplies a matrix from the left, which is not supported here.")
        flat = c.emit("reshape", [x], {"shape": (x.shape[1],)})
        return c.emit("reshape", [_linear(c, flat, weight, None)], {"shape": (weight.shape[0], 1)})
    if isinstance(inputs[1], Features):
        raise CheckpointError("The ONNX graph multiplies two tensors of an image (attention), which is not supported.")
    x, weight = as_features(inputs[0]), as_floats(inputs[1])
    if weight.dim() != 2 or len(x.shape) < 2:
        raise CheckpointError("The ONNX operation MatMul is supported with a matrix of weights only.")
    return _linear(c, x, weight.T.contiguous(), None)


def _norm(c: Builder, node: Node, inputs: Inputs) -> Value:
    x = as_features(inputs[0])
    if not node.integer("spatial", 1):
        raise CheckpointError("The ONNX graph normalises each number of a channel by itself, which is not supported.")
    if node.integer("training_mode", 0) or any(node.node.output[1:]):  # statistics come out in training alone
        raise CheckpointError("The ONNX graph normalises over its batch (training mode); export it in evaluation mode.")
    scale, shift, mean, variance = (as_floats(value) for value in inputs[1:5])
    if bool((variance < 0).any()):
        raise CheckpointError("The ONNX file holds a negative variance; the file is damaged.")
    settings = {"features": scale.numel(), "eps": node.number("epsilon", 1e-5), "image": len(x.shape) == 4}
    weights = {"weight": scale, "bias": shift, "running_mean": mean, "running_var": variance}
    return c.emit("bn", [x], settings, weights)


def _pool(c: Builder, node: Node, inputs: Inputs) -> Value:
    x = as_features(inputs[0])
    kernel, average = node.integers("kernel_shape", ()), node.op == "AveragePool"
    strides, dilations, pads = _window(node, kernel, x.shape)
    if dilations != [1, 1]:
        raise CheckpointError("The ONNX graph pools with gaps (dilations), which is not supported.")
    padding, counted = pads[:2], bool(node.integer("count_include_pad", 0))
    share: Tensor | None = None
    if pads[:2] != pads[2:] or any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
        if node.integer("ceil_mode", 0):
            raise CheckpointError("The ONNX graph pools over uneven borders and rounds up, which is not supported.")
        if average and not counted:  # of each window, how much is image and not border
            top, left, bottom, right = pads
            ones = F.pad(torch.ones(1, 1, *x.shape[2:]), (left, right, top, bottom))
            share = F.avg_pool2d(ones, kernel, strides)
        x, padding = _pad_first(c, x, pads, 0.0 if average else -_HUGE), [0, 0]
    settings = {
        "average": average, "kernel": kernel, "stride": strides, "padding": padding,
        "ceil": bool(node.integer("ceil_mode", 0)), "count_padding": counted,
    }  # fmt: skip
    pooled = c.emit("pool", [x], settings)
    return pooled if share is None else c.emit("div", [pooled], {"constant": tuple(share.shape)}, {"value": share})


def _global_pool(c: Builder, node: Node, inputs: Inputs) -> Value:
    x = as_features(inputs[0])
    if len(x.shape) != 4:
        raise ValueError("a pool needs images")
    return c.emit(node.word, [x])


def _pad(c: Builder, node: Node, inputs: Inputs) -> Value:
    x = as_features(inputs[0])
    rank = len(x.shape)
    pads = node.integers("pads", ()) if "pads" in node.attributes else [int(p) for p in as_constant(inputs[1])]
    value = node.number("value", 0.0)
    if len(inputs) > 2 and inputs[2] is not None:
        value = float(as_constant(inputs[2]).reshape(-1)[0])
    axes = node.axes(inputs, 3, rank) or list(range(rank))
    if len(pads) != 2 * len(axes) or max(map(abs, pads), default=0) > 4096 or not math.isfinite(value):
        raise ValueError("malformed pads")
    before, after = [0] * rank, [0] * rank
    for place, axis in enumerate(axes):
        before[axis], after[axis] = pads[place], pads[len(axes) + place]
    if not any(before) and not any(after):
        return x
    if before[0] or after[0]:
        raise mixes("Pad")
    if node.text("mode", "constant") != "constant":
        raise CheckpointError("The ONNX operation Pad is supported with a constant only.")
    if rank == 4 and not before[1] and not after[1]:
        return _pad_first(c, x, (before[2], before[3], after[2], after[3]), value)
    # Channels of zeros, as in the shortcuts without weights of He et al. 2016.
    sizes = [size for axis in reversed(range(1, rank)) for size in (before[axis], after[axis])]
    return c.emit("widen", [x], {"pads": sizes, "value": value})


def _reshaped(c: Builder, x: Features, shape: Sequence[int], op: str) -> Features:
    """A reshape that keeps the batch first: `shape` holds it too."""
    if not shape or shape[0] != c.batch or math.prod(shape) != math.prod(x.shape):
        raise mixes(op)
    if tuple(shape) == x.shape:
        return x
    return c.emit("reshape", [x], {"shape": tuple(shape[1:])}) if len(shape) > 1 else _refuse_flat(op)


def _refuse_flat(op: str) -> Features:
    raise mixes(op)


def _reshape(c: Builder, node: Node, inputs: Inputs) -> Value:
    x = as_features(inputs[0])
    wanted = [int(size) for size in as_constant(inputs[1]).reshape(-1)]
    if len(wanted) > 8 or wanted.count(-1) > 1 or min(wanted, default=0) < -1:
        raise ValueError("malformed shape")
    if not node.integer("allowzero", 0):
        wanted = [x.shape[place] if size == 0 else size for place, size in enumerate(wanted)]
    if -1 in wanted:
        known = -math.prod(wanted)
        if known <= 0 or math.prod(x.shape) % known:
            raise ValueError("the sizes do not fit")
        wanted[wanted.index(-1)] = math.prod(x.shape) // known
    return _reshaped(c, x, wanted, "Reshape")


def _flatten(c: Builder, node: Node, inputs: Inputs) -> Value:
    x = as_features(inputs[0])
    axis = node.integer("axis", 1)
    axis += len(x.shape) if axis < 0 else 0
    return _reshaped(c, x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])), "Flatten")


def _squeeze(c: Builder, node: Node, inputs: Inputs) -> Value:
    x = as_features(inputs[0])
    axes = node.axes(inputs, 1, len(x.shape))
    if axes is None:
        axes = [axis for axis, size in enumerate(x.shape) if size == 1 and axis > 0]
    if 0 in axes or any(x.shape[axis] != 1 for axis in axes):
        raise mixes("Squeeze")
    return _reshaped(c, x, [size for axis, size in enumerate(x.shape) if axis not in axes], "Squeeze")


def _unsqueeze(c: Builder, node: Node, inputs: Inputs) -> Value:
    x = as_features(inputs[0])
    given = node.attributes.get("axes")
    count = len(given) if given is not None else as_constant(inputs[1]).size
    if count > 4:
        raise ValueError("too many axes")
    axes = node.axes(inputs, 1, len(x.shape) + count) or []
    shape = list(x.shape)
    for axis in sorted(axes):
        shape.insert(axis, 1)
    if 0 in axes:
        raise mixes("Unsqueeze")
    return _reshaped(c, x, shape, "Unsqueeze")


def _transpose(c: Builder, node: Node, inputs: Inputs) -> Value:
    x = as_features(inputs[0])
    axes = node.integers("perm", tuple(reversed(range(len(x.shape)))))
    if sorted(axes) != list(range(len(x.shape))):
        raise ValueError("not a permutation")
    if axes[0] != 0:
        raise mixes("Transpose")
    made = next((step for step in c.steps if step.name == x.step), None)
    if made is not None and made.kind == "permute":  # two turns are one
        first = (0, *made.settings["axes"])
        axes = [first[axis] for axis in axes]
        x = c.of(made.inputs[0])
    return x if axes == sorted(axes) else c.emit("permute", [x], {"axes": tuple(axes[1:])})


def _concat(c: Builder, node: Node, inputs: Inputs) -> Value:
    parts = [as_features(value) for value in inputs if not isinstance(value, np.ndarray)]
    axis, rank = node.integer("axis", 1), len(parts[0].shape)
    axis = axis % rank if axis < 0 else axis
    if axis == 0:
        raise mixes("Concat")
    if len(parts) == len(inputs):
        return c.emit("concat", parts, {"axis": axis})
    # Stored numbers among them: zeros are left where these stand, and they are added there.
    stored: list[Tensor] = []
    gaps = [0] * (len(parts) + 1)  # before each part, and behind the last
    place = 0
    for value in inputs:
        if isinstance(value, np.ndarray):
            constant = as_floats(value)
            if constant.dim() != rank or bool((constant != constant[:1]).any()):
                raise mixes("Concat")
            stored.append(constant[:1])
            gaps[place] += constant.shape[axis]
        else:
            stored.append(torch.zeros((1, *parts[place].shape[1:])))
            place += 1
    for i, part in enumerate(parts):
        before, after = (gaps[0] if i == 0 else 0), gaps[i + 1]
        if before or after:
            parts[i] = c.emit("widen", [part], {"pads": [0, 0] * (rank - 1 - axis) + [before, after], "value": 0.0})
    joined = c.emit("concat", parts, {"axis": axis}) if len(parts) > 1 else parts[0]
    total = torch.cat(stored, axis)
    return c.emit("add", [joined], {"constant": tuple(total.shape)}, {"value": total})


def _where(c: Builder, node: Node, inputs: Inputs) -> Value:
    condition, *values = inputs
    sources, settings, weights = [as_any(condition)], {}, {}
    for name, value in zip(("left", "right"), values, strict=True):
        if isinstance(value, Features):
            sources.append(as_features(value))
            continue
        constant = as_floats(value)
        if constant.dim() == len(sources[0].shape) and constant.shape[0] != 1:
            raise mixes(node.op)
        settings[name], weights[name] = tuple(constant.shape), constant
    return c.emit("where", sources, settings, weights)


def _largest(c: Builder, node: Node, inputs: Inputs) -> Value:
    """ReduceMax and ReduceMin."""
    x = as_features(inputs[0])
    axes = node.axes(inputs, 1, len(x.shape))
    if not axes or 0 in axes:
        raise mixes(node.op)
    return c.emit(node.word, [x], {"axes": sorted(axes), "keep": bool(node.integer("keepdims", 1))})


def _instance_norm(c: Builder, node: Node, inputs: Inputs) -> Value:
    x = as_features(inputs[0])
    scale, shift = as_floats(inputs[1]), as_floats(inputs[2])
    settings = {"features": scale.numel(), "eps": node.number("epsilon", 1e-5)}
    return c.emit("instancenorm", [x], settings, {"weight": scale, "bias": shift})


def _reduce(c: Builder, node: Node, inputs: Inputs) -> Value:
    x = as_features(inputs[0])
    axes = node.axes(inputs, 1, len(x.shape))
    if not axes:
        raise mixes(node.op)
    keep, total = bool(node.integer("keepdims", 1)), node.op == "ReduceSum"
    if 0 in axes:
        raise mixes(node.op)
    if sorted(axes) == [2, 3] and len(x.shape) == 4 and keep and not total:
        return c.emit("gap", [x])
    return c.emit("mean", [x], {"axes": sorted(axes), "keep": keep, "sum": total})


def _softmax(c: Builder, node: Node, inputs: Inputs) -> Value:
    x = as_features(inputs[0])
    rank = len(x.shape)
    axis = node.integer("axis", 1 if node.opset < 13 else -1) % rank
    if axis == 0:
        raise mixes(node.op)
    if node.opset < 13 and axis != rank - 1:  # over all that follows, as one axis
        flat = _reshaped(c, x, (*x.shape[:axis], math.prod(x.shape[axis:])), node.op)
        return _reshaped(c, c.emit(node.word, [flat], {"axis": axis}), x.shape, node.op)
    return c.emit(node.word, [x], {"axis": axis})


def _clip(c: Builder, node: Node, inputs: Inputs) -> Value:
    def bound(name: str, place: int, default: float) -> float:
        if len(inputs) > place and inputs[place] is not None:
            return float(as_constant(inputs[place]).reshape(-1)[0])
        return node.number(name, default)

    low, high = max(bound("min", 1, -_HUGE), -_HUGE), min(bound("max", 2, _HUGE), _HUGE)
    if math.isnan(low) or math.isnan(high):
        raise CheckpointError("The ONNX operation Clip has NaN for an end; the file is damaged.")
    x = as_features(inputs[0])
    if low == 0.0 and high >= _HUGE:
        return c.emit("relu", [x])
    return c.emit("clip", [x], {"low": low, "high": high})


def _hard_sigmoid(c: Builder, node: Node, inputs: Inputs) -> Value:
    x, alpha, beta = as_features(inputs[0]), node.number("alpha", 0.2), node.number("beta", 0.5)
    if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5:
        return c.emit("hardsigmoid", [x])
    return c.emit("clip", [_scaled(c, x, alpha, beta)], {"low": 0.0, "high": 1.0})


def _prelu(c: Builder, node: Node, inputs: Inputs) -> Value:
    x, slope = as_features(inputs[0]), as_floats(inputs[1])
    rank, count = len(x.shape), slope.numel()
    padded = (1,) * (rank - slope.dim()) + tuple(slope.shape)
    if len(padded) > rank or any(size not in (1, have) for size, have in zip(padded, x.shape, strict=False)):
        raise CheckpointError(
            f"The slopes of the ONNX operation PRelu ({times(slope.shape)}) do not fit its input ({times(x.shape)})."
        )
    if padded[0] != 1:
        raise mixes(node.op)
    if count == 1 or (len(padded) > 1 and padded[1] == count == x.shape[1]):
        return c.emit("prelu", [x], {"count": count}, {"weight": slope.reshape(-1)})
    return c.emit("prelu", [x], {"shape": tuple(slope.shape)}, {"weight": slope})


def _slice(c: Builder, node: Node, inputs: Inputs) -> Value:
    x = as_features(inputs[0])
    rank = len(x.shape)
    if "starts" in node.attributes:
        starts, ends = node.integers("starts", ()), node.integers("ends", ())
        axes = node.integers("axes", range(len(starts)))
        strides = [1] * len(starts)
    else:
        starts, ends = ([int(n) for n in as_constant(value).reshape(-1)] for value in inputs[1:3])
        axes = node.axes(inputs, 3, rank) or list(range(len(starts)))
        given = inputs[4] if len(inputs) > 4 else None
        strides = [1] * len(starts) if given is None else [int(n) for n in as_constant(given).reshape(-1)]
    places: list[tuple[int, int, int] | None] = [None] * rank
    for start, end, axis, stride in zip(starts, ends, axes, strides, strict=True):
        if stride < 1:
            raise CheckpointError("The ONNX operation Slice is supported in forward order only.")
        first, last, _ = slice(start, end, stride).indices(x.shape[axis % rank])
        places[axis % rank] = (first, last, stride)
    if places[0] not in (None, (0, c.batch, 1)):
        raise mixes("Slice")
    places[0] = None
    return c.emit("slice", [x], {"places": places})


def _arithmetic(c: Builder, node: Node, inputs: Inputs) -> Value:
    """Two tensors, or any number of them from the left (Sum, Max, Min); stored ones among them or not."""
    if len(inputs) == 1:
        return as_features(inputs[0])
    if len(inputs) > 2:
        found = sorted(inputs, key=lambda value: isinstance(value, np.ndarray))  # these do not mind their order
        rest = _arithmetic(c, node, found[:-1])
        return _arithmetic(c, node, [rest, found[-1]])
    left, right = inputs
    if isinstance(left, Features) and isinstance(right, Features):
        return c.emit(node.word, [as_features(left), as_features(right)])
    first = isinstance(left, np.ndarray)
    x, constant = as_features(right if first else left), as_floats(left if first else right)
    rank = len(x.shape)
    if constant.dim() > rank or (constant.dim() == rank and constant.shape[0] != 1):
        raise mixes(node.op)
    if node.word == "add" and (home := _bias(c, x, constant)) is not None:
        return home
    settings = {"constant": tuple(constant.shape)} | ({"first": True} if first else {})
    return c.emit(node.word, [x], settings, {"value": constant})


def _bias(c: Builder, x: Features, constant: Tensor) -> Features | None:
    """A constant added to a product without bias, as that product's bias; None if it is none."""
    made = next((step for step in c.steps if step.name == x.step), None)
    if made is None or made.kind not in ("fc", "conv") or made.settings["bias"]:
        return None
    # What else the product is called: each name past the first took one use of another.
    names = [name for name, value in c.values.items() if isinstance(value, Features) and value.step == x.step]
    if sum(c.users[name] for name in names) - (len(names) - 1) != 1:
        return None
    outputs = made.settings["outputs"]
    shape = [1] * len(x.shape)
    shape[-1 if made.kind == "fc" else 1] = outputs
    padded = constant.reshape([1] * (len(shape) - constant.dim()) + list(constant.shape))
    if list(padded.shape) != shape or not torch.isfinite(constant).all():
        return None
    return c.extend(made.name, {"bias": constant.reshape(-1).contiguous()}, {"bias": True})


# What ONNX says of these in more than numbers named as in the table.
_READERS = {
    "Conv": _conv, "Gemm": _gemm, "MatMul": _matmul, "BatchNormalization": _norm, "MaxPool": _pool,
    "AveragePool": _pool, "GlobalAveragePool": _global_pool, "GlobalMaxPool": _global_pool, "Pad": _pad,
    "Reshape": _reshape, "Flatten": _flatten, "Squeeze": _squeeze, "Unsqueeze": _unsqueeze, "Transpose": _transpose,
    "Concat": _concat, "ReduceMean": _reduce, "ReduceSum": _reduce, "ReduceMax": _largest, "ReduceMin": _largest,
    "Where": _where, "InstanceNormalization": _instance_norm, "Softmax": _softmax, "LogSoftmax": _softmax,
    "Clip": _clip, "Slice": _slice, "PRelu": _prelu, "HardSigmoid": _hard_sigmoid, "Selu": _selu,
    "Identity": _alias, "Dropout": _alias, "Cast": _cast,
}  # fmt: skip
_GENERAL = {"activation": _elementwise, "elementwise": _elementwise, "pair": _arithmetic}
OPERATIONS = {name: _READERS.get(name) or _GENERAL[row.kind] for name, row in ONNX.items()}
