"""ONNX graphs as networks of this project: read as data, converted step by step, compared with onnxruntime."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustness_core.checkpoints.chain import FLAT, IMAGES
from robustness_core.checkpoints.containers import shown
from robustness_core.checkpoints.onnx.checks import check_model, dims, graph_input
from robustness_core.checkpoints.onnx.constants import FOLDED
from robustness_core.checkpoints.onnx.operations import OPERATIONS
from robustness_core.checkpoints.onnx.steps import Array, Builder, Features, Node, Value, bounded, mixes
from robustness_core.errors import CheckpointError
from robustness_core.networks import programs
from robustness_core.networks.programs import INPUT, Step

_FLAT = {1024: (1, 32, 32), 2352: (3, 28, 28), **FLAT}  # of images that are flat: their sizes


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
    check_model(model)
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


# ----------------------------------------------------------------------------------------------- what the input wants


def _layouts(model: Any) -> list[_Layout]:
    """The ways from images (B, C, H, W) to the input of the graph, the likeliest first."""
    sizes = dims(graph_input(model))
    rest = tuple(sizes[1:])
    if len(rest) == 3 and 0 in rest and rest[0] in (1, 3):  # open height and width
        rest = IMAGES[rest[0]]
    elif len(rest) == 3 and 0 in rest and rest[2] in (1, 3):
        rest = (*IMAGES[rest[2]][1:], rest[2])
    if not rest or 0 in rest or math.prod(rest) > 1 << 20:
        raise CheckpointError(
            f"The input of the ONNX graph has the sizes {sizes}; accepted are images N×C×H×W, N×H×W×C or N×(C·H·W)."
        )
    if len(rest) == 3 and rest[0] in (1, 3) and min(rest[1:]) > 4:
        return [_Layout((rest[0], rest[1], rest[2]), ())]
    if len(rest) == 3 and rest[2] in (1, 3) and min(rest[:2]) > 4:
        turn = Step("channels_last", "permute", (INPUT,), {"axes": (2, 3, 1)})
        return [_Layout((rest[2], rest[0], rest[1]), (turn,), "The graph wants its images channels last (NHWC).")]
    if math.prod(rest) not in _FLAT:
        raise CheckpointError(
            f"The input of the ONNX graph has the sizes {sizes}; accepted are images N×C×H×W, N×H×W×C or N×(C·H·W)."
        )
    image = _FLAT[math.prod(rest)]
    flat = Step("pixels", "reshape", (INPUT,), {"shape": rest})
    layouts = [_Layout(image, (flat,), f"The graph wants its images as {'×'.join(map(str, rest))} numbers each.")]
    if image[0] > 1:
        turn = Step("channels_last", "permute", (INPUT,), {"axes": (2, 3, 1)})
        after = replace(flat, inputs=("channels_last",))
        layouts.append(_Layout(image, (turn, after), f"{layouts[0].note} The colours of a pixel stand together."))
    return layouts


# ------------------------------------------------------------------------------------------------------ the conversion


class _Converter(Builder):
    """Walks the nodes of a graph in their order."""

    def __init__(self, model: Any, layout: _Layout):
        graph = model.graph
        users = Counter(name for node in graph.node for name in node.input)
        users.update(value.name for value in graph.output)
        super().__init__(layout.input_shape, max(dims(graph_input(model))[0], 1), users)
        self.graph, self.layout = graph, layout
        self.opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
        self.notes = [layout.note] if layout.note else []

    def run(self) -> Imported:
        from onnx import numpy_helper

        for tensor in self.graph.initializer:
            self._define(tensor.name, numpy_helper.to_array(tensor))
        source = INPUT
        for step in self.layout.steps:
            source = self.emit(step.kind, [self.of(source)], dict(step.settings), name=step.name).step
        self._define(_input_name(self.graph), self.of(source))
        for node in self.graph.node:
            self._node(node)
        result = self.values.get(self.graph.output[0].name)
        if not isinstance(result, Features):
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

    def _define(self, name: str, value: Value) -> None:
        if name in self.values:
            raise CheckpointError(f"The ONNX graph gives the name {shown(name)} to two tensors; export it again.")
        self.values[name] = value

    def _node(self, node: Any) -> None:
        if not node.output or len(node.input) > 64:
            raise CheckpointError(f"The ONNX node {node.op_type} has no output or too many inputs; export it again.")
        inputs: list[Value | None] = []
        for name in node.input:
            if name and name not in self.values:
                raise CheckpointError(
                    f"The ONNX graph uses {shown(name)} before it is computed, or runs in a circle; export it again."
                )
            inputs.append(self.values[name] if name else None)
        constant = all(value is None or isinstance(value, np.ndarray) for value in inputs)
        try:
            if node.op_type in FOLDED and (constant or node.op_type in ("Shape", "Size")):
                result: Value = self._fold(node, inputs)
            elif node.op_type in OPERATIONS:
                result = OPERATIONS[node.op_type](self, Node(node, self.opset), inputs)
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

    def _fold(self, node: Any, inputs: Sequence[Value | None]) -> Array:
        arrays = [np.array(v.shape, np.int64) if isinstance(v, Features) else v for v in inputs]
        if node.op_type in ("Shape", "Size") and isinstance(inputs[0], np.ndarray):
            arrays[0] = np.array(inputs[0].shape, np.int64)
        with np.errstate(all="ignore"):
            return bounded(FOLDED[node.op_type](Node(node, self.opset), arrays))


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
    if not together.is_floating_point():
        raise CheckpointError("The output of the ONNX graph is not one number for each class.")
    if not torch.isfinite(together).all():
        raise CheckpointError("The network in the ONNX file answers NaN or infinity; it cannot be audited.")
    if not torch.allclose(together, alone, rtol=1e-3, atol=1e-4 * float(alone.abs().max())):
        raise mixes("its output")


def _compare(data: bytes, model: Any, imported: Imported) -> None:
    """The converted network must answer as onnxruntime does, where that is installed."""
    try:
        import onnxruntime
    except ImportError:
        return
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    value = graph_input(model)
    sizes = dims(value)
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
