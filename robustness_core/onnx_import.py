"""ONNX graphs as networks of this project: read as data, converted step by step, compared with onnxruntime."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from robustness_core import programs
from robustness_core.containers import CheckpointError, shown
from robustness_core.programs import INPUT, Step

Array = npt.NDArray[Any]

_MOST_NODES = 2_000  # torch's export of ResNet-110 has some 400
_MOST_FEATURES = 1 << 24  # numbers of one tensor for one image
_DEAREST = 2e10  # multiplications that one image may cost
_MOST_FOLDED = 1 << 22  # numbers of a constant computed while reading
_HUGE = 3.4e38  # stands for an open end of Clip and for minus infinity around a maximum pool
_OLDEST, _NEWEST = 7, 30  # opsets
_IMAGES = {784: (1, 28, 28), 1024: (1, 32, 32), 3072: (3, 32, 32), 2352: (3, 28, 28)}  # flat sizes of images


@dataclass(frozen=True, eq=False)
class Imported:
    """A converted graph: `steps` take images (B, *input_shape); `weights` are the program's state_dict.

    `notes` are sentences about what was assumed.
    """

    steps: tuple[Step, ...]
    weights: Mapping[str, Tensor]
    input_shape: tuple[int, int, int]
    notes: tuple[str, ...]

    def body(self) -> programs.Program:
        """The network as a module with its weights."""
        with torch.device("meta"):
            body = programs.build(self.steps)
        body.load_state_dict(dict(self.weights), assign=True)
        return body.eval()


@dataclass(frozen=True)
class _Layout:
    """How the graph wants its images: the shape (C, H, W) they have here, and the steps that bring them there."""

    input_shape: tuple[int, int, int]
    steps: tuple[Step, ...]
    note: str = ""


def convert(data: bytes, *, verify: bool = True) -> list[Imported]:
    """The network in an ONNX file, once for each way in which it may want its images; most files allow only one.

    Covers 2-D convolutional and fully connected networks of opset 7 on, whatever the batch size they were written
    for. Nothing outside `data` is read. Raises CheckpointError with one sentence.
    """
    model = _parse(data)
    _check_model(model)
    found = [_Converter(model, layout).run() for layout in _layouts(model)]
    if verify:
        for imported in found:
            _check_batches(imported)
        _compare(data, model, found[0])
    return found


def _parse(data: bytes) -> Any:
    try:
        import onnx  # an optional part of the installation
    except ImportError:
        raise CheckpointError(
            "Reading ONNX files needs the package onnx; install it, or upload a state_dict or safetensors."
        ) from None
    try:
        return onnx.load_model_from_string(data)
    except Exception:  # protobuf's errors have no public base class
        raise CheckpointError(
            "The file is no ONNX model, or it is damaged or cut short; accepted are ONNX, safetensors and state_dicts."
        ) from None


# ---------------------------------------------------------------------------------------------- checks before reading


def _check_model(model: Any) -> None:
    graph = model.graph
    if not graph.node or not graph.input or not graph.output:
        raise CheckpointError("The ONNX file holds no graph with nodes, inputs and outputs; export the network again.")
    if len(graph.node) > _MOST_NODES or len(graph.initializer) > 2 * _MOST_NODES:
        raise CheckpointError(f"The ONNX graph has {len(graph.node)} nodes; at most {_MOST_NODES} are accepted.")
    if len(model.functions) > 0:
        raise CheckpointError("The ONNX file defines functions of its own; export it with standard operations only.")
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    if len(versions) != 1 or not _OLDEST <= versions[0] <= _NEWEST:
        raise CheckpointError(
            f"The ONNX opset {versions[0] if versions else 'is missing and'} is not read; "
            f"opsets {_OLDEST} to {_NEWEST} are accepted."
        )
    if len(graph.sparse_initializer) > 0:
        raise CheckpointError("The ONNX file holds sparse weights; only dense float weights are accepted.")
    for node in graph.node:
        if node.domain not in ("", "ai.onnx"):
            raise CheckpointError(
                f"The ONNX graph uses operations of the domain {shown(node.domain)}; only standard ones are accepted."
            )
        if node.op_type not in _OPERATIONS and node.op_type not in _FOLDED:
            raise CheckpointError(
                f"The ONNX operation {shown(node.op_type)} is not supported; supported are "
                f"{', '.join(sorted(_OPERATIONS))}."
            )
        for attribute in node.attribute:
            if attribute.HasField("g") or attribute.graphs:
                raise CheckpointError("The ONNX graph holds graphs within graphs, which are not supported.")
    for tensor in _tensors(model):
        _check_tensor(tensor)


def _tensors(model: Any) -> Iterator[Any]:
    yield from model.graph.initializer
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("sparse_tensor") or attribute.sparse_tensors:
                raise CheckpointError("The ONNX file holds sparse weights; only dense float weights are accepted.")


_NUMBERS = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}  # data_type -> bytes


def _check_tensor(tensor: Any) -> None:
    name = shown(tensor.name)
    if tensor.data_location != 0 or tensor.external_data:
        raise CheckpointError(
            "The ONNX file keeps weights in another file, which is never read; export it with its weights inside."
        )
    if tensor.data_type not in _NUMBERS:
        raise CheckpointError(f"The ONNX tensor {name} holds numbers of a kind that is not supported; use float32.")
    if any(size < 0 for size in tensor.dims) or len(tensor.dims) > 8:
        raise CheckpointError(f"The ONNX tensor {name} has a negative size; export the network again.")
    count = math.prod(tensor.dims)
    if tensor.HasField("raw_data"):
        held = len(tensor.raw_data) // _NUMBERS[tensor.data_type]
        exact = len(tensor.raw_data) % _NUMBERS[tensor.data_type] == 0
    else:
        fields = (tensor.float_data, tensor.int32_data, tensor.int64_data, tensor.double_data, tensor.uint64_data)
        held, exact = max(len(numbers) for numbers in fields), True
    if held != count or not exact:
        raise CheckpointError(
            f"The ONNX tensor {name} declares {count} numbers but holds {held}; the file is damaged or cut short."
        )


# ----------------------------------------------------------------------------------------------- what the input wants


def _graph_input(model: Any) -> Any:
    stored = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in stored]
    if len(inputs) != 1:
        raise CheckpointError(f"The ONNX graph takes {len(inputs)} inputs; it must take one batch of images.")
    return inputs[0]


def _dims(value: Any) -> list[int]:
    """The sizes of a graph's input; 0 where the file leaves one open."""
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type") or kind.elem_type not in (1, 10, 11):
        raise CheckpointError("The input of the ONNX graph is no tensor of floats; export the network with float32.")
    sizes = [int(dim.dim_value) if dim.HasField("dim_value") else 0 for dim in kind.shape.dim]
    if any(size < 0 or size > 1 << 20 for size in sizes):
        raise CheckpointError("The input of the ONNX graph has an impossible size; export the network again.")
    return sizes


def _layouts(model: Any) -> list[_Layout]:
    """The ways from images (B, C, H, W) to the input of the graph, the likeliest first."""
    sizes = _dims(_graph_input(model))
    rest = tuple(sizes[1:])
    if len(rest) == 3 and 0 in rest and rest[0] in (1, 3):  # open height and width
        rest = (rest[0], *((28, 28) if rest[0] == 1 else (32, 32)))
    elif len(rest) == 3 and 0 in rest and rest[2] in (1, 3):
        rest = (*((28, 28) if rest[2] == 1 else (32, 32)), rest[2])
    if not rest or 0 in rest or math.prod(rest) > 1 << 20:
        raise CheckpointError(
            f"The input of the ONNX graph has the sizes {sizes}; accepted are images N×C×H×W, N×H×W×C or N×(C·H·W)."
        )
    if len(rest) == 3 and rest[0] in (1, 3) and min(rest[1:]) > 4:
        return [_Layout((rest[0], rest[1], rest[2]), ())]
    if len(rest) == 3 and rest[2] in (1, 3) and min(rest[:2]) > 4:
        turn = Step("channels_last", "permute", (INPUT,), {"axes": (2, 3, 1)})
        return [_Layout((rest[2], rest[0], rest[1]), (turn,), "The graph wants its images channels last (NHWC).")]
    if math.prod(rest) not in _IMAGES:
        raise CheckpointError(
            f"The input of the ONNX graph has the sizes {sizes}; accepted are images N×C×H×W, N×H×W×C or N×(C·H·W)."
        )
    image = _IMAGES[math.prod(rest)]
    flat = Step("pixels", "reshape", (INPUT,), {"shape": rest})
    layouts = [_Layout(image, (flat,), f"The graph wants its images as {'×'.join(map(str, rest))} numbers each.")]
    if image[0] > 1:
        turn = Step("channels_last", "permute", (INPUT,), {"axes": (2, 3, 1)})
        after = replace(flat, inputs=("channels_last",))
        layouts.append(_Layout(image, (turn, after), f"{layouts[0].note} The colours of a pixel stand together."))
    return layouts


# ------------------------------------------------------------------------------------------------------ the conversion


@dataclass(frozen=True, eq=False)
class _Features:
    """A tensor that depends on the images: the step that gives it, and its shape for a batch."""

    step: str
    shape: tuple[int, ...]


_Value = _Features | Array


class _Converter:
    """Walks the nodes of a graph in their order. Axis 0 of every tensor must stay the batch."""

    def __init__(self, model: Any, layout: _Layout):
        graph = model.graph
        self.graph, self.layout = graph, layout
        self.opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
        self.batch = max(_dims(_graph_input(model))[0], 1)
        self.steps: list[Step] = []
        self.weights: dict[str, dict[str, Tensor]] = {}
        self.values: dict[str, _Value] = {}
        self.shapes: dict[str, tuple[int, ...]] = {INPUT: (self.batch, *layout.input_shape)}
        self.numbered: Counter[str] = Counter()
        self.cost = 0.0  # multiplications of one image
        self.users = Counter(name for node in graph.node for name in node.input)
        self.users.update(value.name for value in graph.output)
        self.notes = [layout.note] if layout.note else []

    def run(self) -> Imported:
        from onnx import numpy_helper

        for tensor in self.graph.initializer:
            self._define(tensor.name, numpy_helper.to_array(tensor))
        source = INPUT
        for step in self.layout.steps:
            source = self.emit(step.kind, [self._of(source)], dict(step.settings), name=step.name).step
        self._define(_input_name(self.graph), self._of(source))
        for node in self.graph.node:
            self._node(node)
        result = self.values.get(self.graph.output[0].name)
        if not isinstance(result, _Features):
            raise CheckpointError("The output of the ONNX graph does not depend on its input; export it again.")
        if len(self.graph.output) > 1:
            self.notes.append(f"The graph has {len(self.graph.output)} outputs; the first is used.")
        if len(result.shape) > 2:
            result = self.emit("reshape", [result], {"shape": (math.prod(result.shape[1:]),)})
        if len(result.shape) != 2 or result.shape[1] < 2:
            raise CheckpointError("The output of the ONNX graph is not one number for each class.")
        steps = _needed(self.steps, result.step)
        last = [step for step in steps if step.kind == "fc"]
        renamed = {last[-1].name: "logits"} if last else {}
        weights = {
            f"{renamed.get(step.name, step.name)}.{key}": tensor
            for step in steps
            for key, tensor in self.weights.get(step.name, {}).items()
        }
        return Imported(_rename(steps, renamed), weights, self.layout.input_shape, tuple(self.notes))

    def _of(self, step: str) -> _Features:
        return _Features(step, self.shapes[step])

    def _define(self, name: str, value: _Value) -> None:
        if name in self.values:
            raise CheckpointError(f"The ONNX graph gives the name {shown(name)} to two tensors; export it again.")
        self.values[name] = value

    def _node(self, node: Any) -> None:
        if not node.output or len(node.input) > 64:
            raise CheckpointError(f"The ONNX node {node.op_type} has no output or too many inputs; export it again.")
        inputs: list[_Value | None] = []
        for name in node.input:
            if name and name not in self.values:
                raise CheckpointError(
                    f"The ONNX graph uses {shown(name)} before it is computed, or runs in a circle; export it again."
                )
            inputs.append(self.values[name] if name else None)
        constant = all(value is None or isinstance(value, np.ndarray) for value in inputs)
        try:
            if node.op_type in _FOLDED and (constant or node.op_type in ("Shape", "Size")):
                result: _Value = self._fold(node, inputs)
            elif node.op_type in _OPERATIONS:
                result = _OPERATIONS[node.op_type](self, _Node(node, self.opset), inputs)
            else:
                raise CheckpointError(
                    f"The ONNX operation {node.op_type} is supported on constants only; export with a fixed image size."
                )
        except CheckpointError:
            raise
        except (ValueError, IndexError, KeyError, TypeError, AttributeError, RuntimeError, OverflowError) as error:
            raise CheckpointError(
                f"The ONNX node {node.op_type} (giving {shown(node.output[0])}) is malformed; export the network again."
            ) from error
        self._define(node.output[0], result)

    def _fold(self, node: Any, inputs: Sequence[_Value | None]) -> Array:
        arrays = [np.array(v.shape, np.int64) if isinstance(v, _Features) else v for v in inputs]
        if node.op_type in ("Shape", "Size") and isinstance(inputs[0], np.ndarray):
            arrays[0] = np.array(inputs[0].shape, np.int64)
        with np.errstate(all="ignore"):
            return _bounded(_FOLDED[node.op_type](_Node(node, self.opset), arrays))

    def emit(
        self,
        kind: str,
        inputs: Sequence[_Features],
        settings: Mapping[str, Any] | None = None,
        weights: Mapping[str, Tensor] | None = None,
        *,
        name: str = "",
    ) -> _Features:
        """One more step; its shape is computed on the meta device, which costs nothing."""
        chosen = name or self._name(kind, inputs)
        step = Step(chosen, kind, tuple(value.step for value in inputs), dict(settings or {}))
        with torch.device("meta"):
            module = programs.module_of(step).eval()
            shape = tuple(module(*[torch.empty(value.shape) for value in inputs]).shape)
        if math.prod(shape[1:]) > _MOST_FEATURES or math.prod(shape) < 1:
            raise CheckpointError(
                f"The ONNX graph makes a tensor of {math.prod(shape)} numbers; at most {_MOST_FEATURES} are accepted."
            )
        if shape[0] != self.batch:
            raise _mixes(kind)
        if kind in ("conv", "fc"):
            kernel = math.prod(module.get_parameter("weight").shape[1:])
            self.cost += math.prod(shape[1:]) * kernel
        if self.cost > _DEAREST:
            raise CheckpointError(
                f"The ONNX graph takes over {_DEAREST:.2g} multiplications an image, too many to audit."
            )
        for key, tensor in (weights or {}).items():
            if not torch.isfinite(tensor).all():
                raise CheckpointError("The ONNX file holds NaN or infinite weights; only finite weights are accepted.")
            if tuple(tensor.shape) != tuple(module.state_dict()[key].shape):
                raise ValueError("the weights do not fit")
        self.steps.append(step)
        self.shapes[chosen] = shape
        self.weights[chosen] = dict(weights or {})
        if kind == "bn":
            self.weights[chosen]["num_batches_tracked"] = torch.zeros((), dtype=torch.int64)
        return _Features(chosen, shape)

    def _name(self, kind: str, inputs: Sequence[_Features]) -> str:
        if kind in _ACTIVATIONS and inputs[0].step != INPUT and not inputs[0].step.endswith(kind):
            chosen = f"{inputs[0].step}_{kind}"
            if chosen not in self.shapes:
                return chosen
        base = "flatten" if kind == "reshape" else kind
        while True:
            self.numbered[base] += 1
            if f"{base}{self.numbered[base]}" not in self.shapes:
                return f"{base}{self.numbered[base]}"

    def extend(self, step: str, weights: Mapping[str, Tensor], settings: Mapping[str, Any]) -> _Features:
        """The step made last for a tensor, with more weights: how a bias added by its own node gets home."""
        place = next(i for i, made in enumerate(self.steps) if made.name == step)
        self.steps[place] = replace(self.steps[place], settings={**self.steps[place].settings, **settings})
        self.weights[step].update(weights)
        return self._of(step)


_ACTIVATIONS = {
    "relu", "elu", "leakyrelu", "prelu", "selu", "gelu", "softplus", "sigmoid", "hardsigmoid", "hardswish", "tanh",
    "clip",
}  # fmt: skip


def _mixes(kind: str) -> CheckpointError:
    return CheckpointError(
        f"The ONNX graph mixes the images of a batch (at {shown(kind)}); export it with the batch as its first axis."
    )


def _input_name(graph: Any) -> str:
    stored = {tensor.name for tensor in graph.initializer}
    return next(str(value.name) for value in graph.input if value.name not in stored)


def _needed(steps: Sequence[Step], last: str) -> list[Step]:
    """The steps that the step `last` depends on."""
    wanted, kept = {last}, []
    for step in reversed(steps):
        if step.name in wanted:
            wanted.update(step.inputs)
            kept.append(step)
    return kept[::-1]


def _rename(steps: Sequence[Step], names: Mapping[str, str]) -> tuple[Step, ...]:
    return tuple(
        replace(s, name=names.get(s.name, s.name), inputs=tuple(names.get(i, i) for i in s.inputs)) for s in steps
    )


class _Node:
    """The attributes of a node, and the opset they are meant in."""

    def __init__(self, node: Any, opset: int):
        import onnx

        self.op, self.opset, self.node = str(node.op_type), opset, node
        self.attributes: dict[str, Any] = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}

    def integer(self, name: str, default: int) -> int:
        return int(self.attributes.get(name, default))

    def number(self, name: str, default: float) -> float:
        return float(self.attributes.get(name, default))

    def integers(self, name: str, default: Sequence[int]) -> list[int]:
        return [int(value) for value in self.attributes.get(name, default)]

    def text(self, name: str, default: str) -> str:
        value = self.attributes.get(name, default)
        return value.decode("utf-8") if isinstance(value, bytes) else str(value)

    def axes(self, inputs: Sequence[_Value | None], place: int, rank: int) -> list[int] | None:
        """The axes of an operation, an attribute in old opsets and an input in new ones, counted from the front."""
        if "axes" in self.attributes:
            axes = self.integers("axes", ())
        elif len(inputs) > place and inputs[place] is not None:
            axes = [int(axis) for axis in _constant(inputs[place]).reshape(-1)]
        else:
            return None
        if any(not -rank <= axis < rank for axis in axes):
            raise ValueError("an axis is out of range")
        return [axis % rank for axis in axes]


def _features(value: _Value | None) -> _Features:
    if not isinstance(value, _Features):
        raise TypeError("a tensor that depends on the images is wanted here")
    return value


def _constant(value: _Value | None) -> Array:
    if not isinstance(value, np.ndarray):
        raise CheckpointError("The ONNX graph computes weights or sizes from the image, which is not supported.")
    return value


def _float(value: _Value | None) -> Tensor:
    array = _constant(value)
    if not np.issubdtype(array.dtype, np.floating):
        raise CheckpointError("The ONNX file holds weights that are whole numbers; only float weights are accepted.")
    return torch.from_numpy(np.array(array, dtype=np.float32, order="C"))


def _bounded(array: Array) -> Array:
    if array.size > _MOST_FOLDED:
        raise CheckpointError(f"The ONNX graph computes a constant of {array.size} numbers, which is too large.")
    return array


_Inputs = Sequence[_Value | None]


def _alias(c: _Converter, node: _Node, inputs: _Inputs) -> _Value:
    value = inputs[0]
    if value is None:
        raise ValueError("an input is missing")
    return value


def _activation(kind: str, **defaults: float) -> Callable[[_Converter, _Node, _Inputs], _Value]:
    def operation(c: _Converter, node: _Node, inputs: _Inputs) -> _Value:
        settings = {key: node.number(key, value) for key, value in defaults.items()}
        return c.emit(kind, [_features(inputs[0])], settings)

    return operation


def _window(node: _Node, kernel: Sequence[int], shape: Sequence[int]) -> tuple[list[int], list[int], list[int]]:
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
            total = max((-(-size // stride) - 1) * stride + (k - 1) * dilation + 1 - size, 0)
            first = total // 2 if same == "SAME_UPPER" else total - total // 2
            before.append(first)
            after.append(total - first)
        pads = before + after
    elif same == "VALID":
        pads = [0, 0, 0, 0]
    return strides, dilations, pads


def _pad_first(c: _Converter, x: _Features, pads: Sequence[int], value: float = 0.0) -> _Features:
    top, left, bottom, right = pads
    settings = {"pads": (left, right, top, bottom), "value": value}
    return c.emit("pad", [x], settings)


def _conv(c: _Converter, node: _Node, inputs: _Inputs) -> _Value:
    x, weight = _features(inputs[0]), _float(inputs[1])
    kernel = list(weight.shape[2:])
    strides, dilations, pads = _window(node, kernel, x.shape)
    padding = pads[:2]
    if pads[:2] != pads[2:]:
        x, padding = _pad_first(c, x, pads), [0, 0]
    groups = node.integer("group", 1)
    bias = _float(inputs[2]) if len(inputs) > 2 and inputs[2] is not None else None
    settings = {
        "inputs": weight.shape[1] * groups, "outputs": weight.shape[0], "kernel": kernel, "stride": strides,
        "dilation": dilations, "padding": padding, "groups": groups, "bias": bias is not None,
    }  # fmt: skip
    return c.emit("conv", [x], settings, {"weight": weight} | ({} if bias is None else {"bias": bias}))


def _linear(c: _Converter, x: _Features, weight: Tensor, bias: Tensor | None) -> _Features:
    settings = {"inputs": weight.shape[1], "outputs": weight.shape[0], "bias": bias is not None}
    return c.emit("fc", [x], settings, {"weight": weight} | ({} if bias is None else {"bias": bias}))


def _gemm(c: _Converter, node: _Node, inputs: _Inputs) -> _Value:
    x, weight = _features(inputs[0]), _float(inputs[1])
    if node.integer("transA", 0) or len(x.shape) != 2 or weight.dim() != 2:
        raise _mixes("Gemm")
    weight = weight if node.integer("transB", 0) else weight.T
    bias = None
    if len(inputs) > 2 and inputs[2] is not None:
        bias = (_float(inputs[2]) * node.number("beta", 1.0)).broadcast_to((1, weight.shape[0])).reshape(-1)
        bias = bias.contiguous()
    return _linear(c, x, (weight * node.number("alpha", 1.0)).contiguous(), bias)


def _matmul(c: _Converter, node: _Node, inputs: _Inputs) -> _Value:
    if isinstance(inputs[0], np.ndarray):  # W x with one column an image
        x, weight = _features(inputs[1]), _float(inputs[0])
        if len(x.shape) != 3 or x.shape[2] != 1 or weight.dim() != 2:
            raise CheckpointError("The ONNX graph multiplies a matrix from the left, which is not supported here.")
        flat = c.emit("reshape", [x], {"shape": (x.shape[1],)})
        return c.emit("reshape", [_linear(c, flat, weight, None)], {"shape": (weight.shape[0], 1)})
    if isinstance(inputs[1], _Features):
        raise CheckpointError("The ONNX graph multiplies two tensors of an image (attention), which is not supported.")
    x, weight = _features(inputs[0]), _float(inputs[1])
    if weight.dim() != 2 or len(x.shape) < 2:
        raise CheckpointError("The ONNX operation MatMul is supported with a matrix of weights only.")
    return _linear(c, x, weight.T.contiguous(), None)


def _norm(c: _Converter, node: _Node, inputs: _Inputs) -> _Value:
    x = _features(inputs[0])
    if node.integer("training_mode", 0) or not node.integer("spatial", 1):
        raise CheckpointError("The ONNX graph normalises over its batch (training mode); export it in evaluation mode.")
    scale, shift, mean, variance = (_float(value) for value in inputs[1:5])
    if bool((variance < 0).any()):
        raise CheckpointError("The ONNX file holds a negative variance; the file is damaged.")
    settings = {"features": scale.numel(), "eps": node.number("epsilon", 1e-5), "image": len(x.shape) == 4}
    weights = {"weight": scale, "bias": shift, "running_mean": mean, "running_var": variance}
    return c.emit("bn", [x], settings, weights)


def _pool(average: bool) -> Callable[[_Converter, _Node, _Inputs], _Value]:
    def operation(c: _Converter, node: _Node, inputs: _Inputs) -> _Value:
        x = _features(inputs[0])
        kernel = node.integers("kernel_shape", ())
        strides, dilations, pads = _window(node, kernel, x.shape)
        if dilations != [1, 1]:
            raise CheckpointError("The ONNX graph pools with gaps (dilations), which is not supported.")
        padding, counted = pads[:2], bool(node.integer("count_include_pad", 0))
        lopsided = pads[:2] != pads[2:] or any(2 * p > k for p, k in zip(padding, kernel, strict=True))
        if lopsided:
            if average and not counted:
                raise CheckpointError("The ONNX graph averages over uneven borders, which is not supported.")
            x, padding = _pad_first(c, x, pads, 0.0 if average else -_HUGE), [0, 0]
        settings = {
            "average": average, "kernel": kernel, "stride": strides, "padding": padding,
            "ceil": bool(node.integer("ceil_mode", 0)), "count_padding": counted,
        }  # fmt: skip
        return c.emit("pool", [x], settings)

    return operation


def _global_pool(kind: str) -> Callable[[_Converter, _Node, _Inputs], _Value]:
    def operation(c: _Converter, node: _Node, inputs: _Inputs) -> _Value:
        x = _features(inputs[0])
        if len(x.shape) != 4:
            raise ValueError("a pool needs images")
        return c.emit(kind, [x])

    return operation


def _pad(c: _Converter, node: _Node, inputs: _Inputs) -> _Value:
    x = _features(inputs[0])
    rank = len(x.shape)
    pads = node.integers("pads", ()) if "pads" in node.attributes else [int(p) for p in _constant(inputs[1])]
    value = node.number("value", 0.0)
    if len(inputs) > 2 and inputs[2] is not None:
        value = float(_constant(inputs[2]).reshape(-1)[0])
    axes = node.axes(inputs, 3, rank) or list(range(rank))
    if len(pads) != 2 * len(axes) or max(map(abs, pads), default=0) > 4096 or not math.isfinite(value):
        raise ValueError("malformed pads")
    before, after = [0] * rank, [0] * rank
    for place, axis in enumerate(axes):
        before[axis], after[axis] = pads[place], pads[len(axes) + place]
    if not any(before) and not any(after):
        return x
    if node.text("mode", "constant") != "constant" or rank != 4 or any(before[:2]) or any(after[:2]):
        raise CheckpointError("The ONNX operation Pad is supported with a constant around images only.")
    return _pad_first(c, x, (before[2], before[3], after[2], after[3]), value)


def _reshaped(c: _Converter, x: _Features, shape: Sequence[int], op: str) -> _Features:
    """A reshape that keeps the batch first: `shape` holds it too."""
    if not shape or shape[0] != c.batch or math.prod(shape) != math.prod(x.shape):
        raise _mixes(op)
    if tuple(shape) == x.shape:
        return x
    return c.emit("reshape", [x], {"shape": tuple(shape[1:])}) if len(shape) > 1 else _refuse_flat(op)


def _refuse_flat(op: str) -> _Features:
    raise _mixes(op)


def _reshape(c: _Converter, node: _Node, inputs: _Inputs) -> _Value:
    x = _features(inputs[0])
    wanted = [int(size) for size in _constant(inputs[1]).reshape(-1)]
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


def _flatten(c: _Converter, node: _Node, inputs: _Inputs) -> _Value:
    x = _features(inputs[0])
    axis = node.integer("axis", 1) % (len(x.shape) + 1) if node.integer("axis", 1) < 0 else node.integer("axis", 1)
    return _reshaped(c, x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])), "Flatten")


def _squeeze(c: _Converter, node: _Node, inputs: _Inputs) -> _Value:
    x = _features(inputs[0])
    axes = node.axes(inputs, 1, len(x.shape))
    if axes is None:
        axes = [axis for axis, size in enumerate(x.shape) if size == 1 and axis > 0]
    if 0 in axes or any(x.shape[axis] != 1 for axis in axes):
        raise _mixes("Squeeze")
    return _reshaped(c, x, [size for axis, size in enumerate(x.shape) if axis not in axes], "Squeeze")


def _unsqueeze(c: _Converter, node: _Node, inputs: _Inputs) -> _Value:
    x = _features(inputs[0])
    given = node.attributes.get("axes")
    count = len(given) if given is not None else _constant(inputs[1]).size
    if count > 4:
        raise ValueError("too many axes")
    axes = node.axes(inputs, 1, len(x.shape) + count) or []
    shape = list(x.shape)
    for axis in sorted(axes):
        shape.insert(axis, 1)
    if 0 in axes:
        raise _mixes("Unsqueeze")
    return _reshaped(c, x, shape, "Unsqueeze")


def _transpose(c: _Converter, node: _Node, inputs: _Inputs) -> _Value:
    x = _features(inputs[0])
    axes = node.integers("perm", tuple(reversed(range(len(x.shape)))))
    if sorted(axes) != list(range(len(x.shape))):
        raise ValueError("not a permutation")
    if axes[0] != 0:
        raise _mixes("Transpose")
    made = next((step for step in c.steps if step.name == x.step), None)
    if made is not None and made.kind == "permute":  # two turns are one
        first = (0, *made.settings["axes"])
        axes = [first[axis] for axis in axes]
        x = c._of(made.inputs[0])
    return x if axes == sorted(axes) else c.emit("permute", [x], {"axes": tuple(axes[1:])})


def _concat(c: _Converter, node: _Node, inputs: _Inputs) -> _Value:
    parts = [_features(value) for value in inputs]
    axis = node.integer("axis", 1)
    axis = axis % len(parts[0].shape) if axis < 0 else axis
    if axis == 0:
        raise _mixes("Concat")
    return c.emit("concat", parts, {"axis": axis})


def _reduce(total: bool) -> Callable[[_Converter, _Node, _Inputs], _Value]:
    def operation(c: _Converter, node: _Node, inputs: _Inputs) -> _Value:
        x = _features(inputs[0])
        axes = node.axes(inputs, 1, len(x.shape))
        if not axes:
            raise _mixes(node.op)
        keep = bool(node.integer("keepdims", 1))
        if 0 in axes:
            raise _mixes(node.op)
        if sorted(axes) == [2, 3] and len(x.shape) == 4 and keep and not total:
            return c.emit("gap", [x])
        return c.emit("mean", [x], {"axes": sorted(axes), "keep": keep, "sum": total})

    return operation


def _softmax(kind: str) -> Callable[[_Converter, _Node, _Inputs], _Value]:
    def operation(c: _Converter, node: _Node, inputs: _Inputs) -> _Value:
        x = _features(inputs[0])
        rank = len(x.shape)
        axis = node.integer("axis", 1 if node.opset < 13 else -1) % rank
        if axis == 0 or (node.opset < 13 and axis != rank - 1):
            raise _mixes(node.op)
        return c.emit(kind, [x], {"axis": axis})

    return operation


def _clip(c: _Converter, node: _Node, inputs: _Inputs) -> _Value:
    def bound(name: str, place: int, default: float) -> float:
        if len(inputs) > place and inputs[place] is not None:
            return float(_constant(inputs[place]).reshape(-1)[0])
        return node.number(name, default)

    low, high = max(bound("min", 1, -_HUGE), -_HUGE), min(bound("max", 2, _HUGE), _HUGE)
    x = _features(inputs[0])
    if low == 0.0 and high >= _HUGE:
        return c.emit("relu", [x])
    return c.emit("clip", [x], {"low": low, "high": high})


def _hard_sigmoid(c: _Converter, node: _Node, inputs: _Inputs) -> _Value:
    if abs(node.number("alpha", 0.2) - 1 / 6) > 1e-6 or node.number("beta", 0.5) != 0.5:
        raise CheckpointError("The ONNX operation HardSigmoid is supported with alpha 1/6 and beta 1/2 only.")
    return c.emit("hardsigmoid", [_features(inputs[0])])


def _gelu(c: _Converter, node: _Node, inputs: _Inputs) -> _Value:
    return c.emit("gelu", [_features(inputs[0])], {"approximate": node.text("approximate", "none")})


def _prelu(c: _Converter, node: _Node, inputs: _Inputs) -> _Value:
    x, slope = _features(inputs[0]), _float(inputs[1])
    if slope.numel() != 1 and slope.numel() != x.shape[1]:
        raise CheckpointError("The ONNX operation PRelu is supported with one slope, or one a channel, only.")
    return c.emit("prelu", [x], {"count": slope.numel()}, {"weight": slope.reshape(-1)})


def _slice(c: _Converter, node: _Node, inputs: _Inputs) -> _Value:
    x = _features(inputs[0])
    rank = len(x.shape)
    if "starts" in node.attributes:
        starts, ends = node.integers("starts", ()), node.integers("ends", ())
        axes = node.integers("axes", range(len(starts)))
        strides = [1] * len(starts)
    else:
        starts, ends = ([int(n) for n in _constant(value).reshape(-1)] for value in inputs[1:3])
        axes = node.axes(inputs, 3, rank) or list(range(len(starts)))
        given = inputs[4] if len(inputs) > 4 else None
        strides = [1] * len(starts) if given is None else [int(n) for n in _constant(given).reshape(-1)]
    places: list[tuple[int, int, int] | None] = [None] * rank
    for start, end, axis, stride in zip(starts, ends, axes, strides, strict=True):
        if stride < 1:
            raise CheckpointError("The ONNX operation Slice is supported in forward order only.")
        first, last, _ = slice(start, end, stride).indices(x.shape[axis % rank])
        places[axis % rank] = (first, last, stride)
    if places[0] not in (None, (0, c.batch, 1)):
        raise _mixes("Slice")
    places[0] = None
    return c.emit("slice", [x], {"places": places})


def _arithmetic(kind: str) -> Callable[[_Converter, _Node, _Inputs], _Value]:
    def operation(c: _Converter, node: _Node, inputs: _Inputs) -> _Value:
        if len(inputs) != 2:
            return _chain(kind)(c, node, inputs)
        left, right = inputs
        if isinstance(left, _Features) and isinstance(right, _Features):
            return c.emit(kind, [left, right])
        first = isinstance(left, np.ndarray)
        x, constant = _features(right if first else left), _float(left if first else right)
        rank = len(x.shape)
        if constant.dim() > rank or (constant.dim() == rank and constant.shape[0] != 1):
            raise _mixes(node.op)
        if kind == "add" and (home := _bias(c, node, x, constant)) is not None:
            return home
        settings = {"constant": tuple(constant.shape)} | ({"first": True} if first else {})
        return c.emit(kind, [x], settings, {"value": constant})

    return operation


def _chain(kind: str) -> Callable[[_Converter, _Node, _Inputs], _Value]:
    """Sum, Max and Min of any number of tensors."""

    def operation(c: _Converter, node: _Node, inputs: _Inputs) -> _Value:
        result = _features(inputs[0])
        for value in inputs[1:]:
            result = c.emit(kind, [result, _features(value)])
        return result

    return operation


def _bias(c: _Converter, node: _Node, x: _Features, constant: Tensor) -> _Features | None:
    """A constant added to a product without bias, as that product's bias; None if it is none."""
    made = next((step for step in c.steps if step.name == x.step), None)
    source = next(name for name in node.node.input if c.values.get(name) is x)
    if made is None or made.kind not in ("fc", "conv") or made.settings["bias"] or c.users[source] != 1:
        return None
    outputs = made.settings["outputs"]
    shape = [1] * len(x.shape)
    shape[-1 if made.kind == "fc" else 1] = outputs
    padded = constant.reshape([1] * (len(shape) - constant.dim()) + list(constant.shape))
    if list(padded.shape) != shape or not torch.isfinite(constant).all():
        return None
    return c.extend(made.name, {"bias": constant.reshape(-1).contiguous()}, {"bias": True})


def _unary(kind: str) -> Callable[[_Converter, _Node, _Inputs], _Value]:
    return lambda c, node, inputs: c.emit(kind, [_features(inputs[0])])


_OPERATIONS: dict[str, Callable[[_Converter, _Node, _Inputs], _Value]] = {
    "Conv": _conv, "Gemm": _gemm, "MatMul": _matmul, "BatchNormalization": _norm, "MaxPool": _pool(False),
    "AveragePool": _pool(True), "GlobalAveragePool": _global_pool("gap"), "GlobalMaxPool": _global_pool("gmp"),
    "Pad": _pad, "Reshape": _reshape, "Flatten": _flatten, "Squeeze": _squeeze, "Unsqueeze": _unsqueeze,
    "Transpose": _transpose, "Concat": _concat, "ReduceMean": _reduce(False), "ReduceSum": _reduce(True),
    "Softmax": _softmax("softmax"), "LogSoftmax": _softmax("logsoftmax"), "Clip": _clip, "Slice": _slice,
    "Relu": _activation("relu"), "Elu": _activation("elu", alpha=1.0),
    "LeakyRelu": _activation("leakyrelu", alpha=0.01), "Selu": _activation("selu"), "Gelu": _gelu, "PRelu": _prelu,
    "Softplus": _activation("softplus"), "Sigmoid": _activation("sigmoid"), "HardSigmoid": _hard_sigmoid,
    "HardSwish": _activation("hardswish"), "Tanh": _activation("tanh"), "Add": _arithmetic("add"),
    "Sub": _arithmetic("sub"), "Mul": _arithmetic("mul"), "Div": _arithmetic("div"), "Pow": _arithmetic("pow"),
    "Max": _arithmetic("max"), "Min": _arithmetic("min"), "Sum": _arithmetic("add"), "Neg": _unary("neg"),
    "Exp": _unary("exp"), "Sqrt": _unary("sqrt"), "Abs": _unary("abs"), "Erf": _unary("erf"), "Log": _unary("log"),
    "Reciprocal": _unary("reciprocal"), "Identity": _alias, "Dropout": _alias, "Cast": _alias,
}  # fmt: skip


# ------------------------------------------------------------------------------------- constants computed while reading

_Arrays = Sequence[Any]


def _fold_constant(node: _Node, arrays: _Arrays) -> Array:
    from onnx import numpy_helper

    (name, value), *_ = node.attributes.items()
    if name == "value":
        return np.asarray(numpy_helper.to_array(value))
    kinds = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    return np.asarray(value, dtype=kinds[name])


def _fold_of_shape(node: _Node, arrays: _Arrays) -> Array:
    from onnx import numpy_helper

    sizes = [int(size) for size in arrays[0].reshape(-1)]
    if any(size < 0 for size in sizes) or math.prod(sizes) > _MOST_FOLDED:
        raise CheckpointError("The ONNX operation ConstantOfShape asks for an impossible size; export it again.")
    value = node.attributes.get("value")
    filler = np.zeros(1, np.float32) if value is None else np.asarray(numpy_helper.to_array(value))
    return np.full(sizes, filler.reshape(-1)[0])


def _fold_slice(node: _Node, arrays: _Arrays) -> Array:
    starts, ends = arrays[1].reshape(-1), arrays[2].reshape(-1)
    axes = arrays[3].reshape(-1) if len(arrays) > 3 and arrays[3] is not None else range(len(starts))
    strides = arrays[4].reshape(-1) if len(arrays) > 4 and arrays[4] is not None else [1] * len(starts)
    places = [slice(None)] * arrays[0].ndim
    for start, end, axis, stride in zip(starts, ends, axes, strides, strict=True):
        places[int(axis)] = slice(int(start), int(end), int(stride))
    return np.asarray(arrays[0][tuple(places)])


def _fold_reshape(node: _Node, arrays: _Arrays) -> Array:
    sizes = [int(size) for size in arrays[1].reshape(-1)]
    sizes = [arrays[0].shape[place] if size == 0 else size for place, size in enumerate(sizes)]
    return np.asarray(arrays[0].reshape(sizes))


def _fold_axes(node: _Node, arrays: _Arrays) -> list[int]:
    given = node.integers("axes", ()) if "axes" in node.attributes else arrays[1].reshape(-1)
    return [int(axis) for axis in given]


def _fold_unsqueeze(node: _Node, arrays: _Arrays) -> Array:
    return np.expand_dims(arrays[0], tuple(_fold_axes(node, arrays)))


def _fold_squeeze(node: _Node, arrays: _Arrays) -> Array:
    has_axes = "axes" in node.attributes or len(arrays) > 1
    return np.asarray(np.squeeze(arrays[0], tuple(_fold_axes(node, arrays)) if has_axes else None))


_CASTS = {1: np.float32, 6: np.int32, 7: np.int64, 9: np.bool_, 10: np.float16, 11: np.float64}


def _fold_div(node: _Node, arrays: _Arrays) -> Array:
    whole = np.issubdtype(arrays[0].dtype, np.integer)
    return np.asarray(arrays[0] // arrays[1] if whole else arrays[0] / arrays[1])


def _broadcast(function: Callable[[Any, Any], Any]) -> Callable[[_Node, _Arrays], Array]:
    def fold(node: _Node, arrays: _Arrays) -> Array:
        if math.prod(np.broadcast_shapes(arrays[0].shape, arrays[1].shape)) > _MOST_FOLDED:
            raise CheckpointError("The ONNX graph computes a constant that is too large.")
        return np.asarray(function(arrays[0], arrays[1]))

    return fold


_FOLDED: dict[str, Callable[[_Node, _Arrays], Array]] = {
    "Constant": _fold_constant,
    "ConstantOfShape": _fold_of_shape,
    "Shape": lambda node, a: np.asarray(a[0][node.integer("start", 0) : node.attributes.get("end")]),
    "Size": lambda node, a: np.asarray(a[0].prod()),
    "Gather": lambda node, a: np.asarray(np.take(a[0], a[1].astype(np.int64), axis=node.integer("axis", 0))),
    "Concat": lambda node, a: np.concatenate(a, axis=node.integer("axis", 0)),
    "Slice": _fold_slice,
    "Reshape": _fold_reshape,
    "Unsqueeze": _fold_unsqueeze,
    "Squeeze": _fold_squeeze,
    "Transpose": lambda node, a: np.transpose(a[0], node.attributes.get("perm")),
    "Cast": lambda node, a: np.asarray(a[0].astype(_CASTS[node.integer("to", 1)])),
    "Identity": lambda node, a: np.asarray(a[0]),
    "Add": _broadcast(np.add),
    "Sub": _broadcast(np.subtract),
    "Mul": _broadcast(np.multiply),
    "Div": _fold_div,
    "Sqrt": lambda node, a: np.sqrt(a[0]),
    "Neg": lambda node, a: np.negative(a[0]),
}


# ------------------------------------------------------------------------------------------------------- verification


def _probe(shape: Sequence[int]) -> Tensor:
    return torch.rand(tuple(shape), generator=torch.Generator().manual_seed(0))


def _check_batches(imported: Imported) -> None:
    """Each image must be answered as if it were alone."""
    images = _probe((3, *imported.input_shape))
    body = imported.body()
    try:
        with torch.no_grad():
            together, alone = body(images), torch.cat([body(image[None]) for image in images])
    except RuntimeError as error:
        if "size" in str(error) or "shape" in str(error):
            raise CheckpointError(
                "The ONNX graph works for its own batch size only; export it with a dynamic batch."
            ) from error
        raise CheckpointError(
            "The network in the ONNX file needs too much memory; smaller networks are accepted."
        ) from error
    if not torch.isfinite(together).all():
        raise CheckpointError("The network in the ONNX file answers NaN or infinity; it cannot be audited.")
    if not torch.allclose(together, alone, rtol=1e-3, atol=1e-4 * float(alone.abs().max())):
        raise _mixes("its output")


def _compare(data: bytes, model: Any, imported: Imported) -> None:
    """The converted network must answer as onnxruntime does, where that is installed."""
    try:
        import onnxruntime
    except ImportError:
        return
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    value = _graph_input(model)
    sizes = _dims(value)
    batch = max(sizes[0], 1)
    images = _probe((batch, *imported.input_shape))
    kind = {1: np.float32, 10: np.float16, 11: np.float64}[value.type.tensor_type.elem_type]
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        given = _as_graph_input(model, images).numpy().astype(kind)
        wanted = session.run([model.graph.output[0].name], {value.name: given})[0]
    except Exception:  # onnxruntime refuses some old but sound files; the conversion then stands on its own
        return
    with torch.no_grad():
        got = imported.body()(images).numpy().astype(np.float64)
    wanted = np.asarray(wanted, np.float64).reshape(got.shape)
    gap, scale = float(np.abs(got - wanted).max()), float(np.abs(wanted).max())
    if not gap <= 1e-3 * max(scale, 1e-6):
        raise CheckpointError(
            f"The converted network differs from onnxruntime by {gap:.2g}; this ONNX graph cannot be used."
        )


def _as_graph_input(model: Any, images: Tensor) -> Tensor:
    layout = _layouts(model)[0]
    for step in layout.steps:
        images = programs.module_of(step)(images)
    return images
