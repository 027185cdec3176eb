"""ONNX graphs as networks of this project: read as data, converted step by step, compared with onnx's evaluator."""

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
from robustness_core.checkpoints.onnx.checks import CLASSES, FLOATS, UINT8, check_model, dims, graph_input, opset
from robustness_core.checkpoints.onnx.constants import FOLDED, fold
from robustness_core.checkpoints.onnx.operations import OPERATIONS
from robustness_core.checkpoints.onnx.prepare import prepare
from robustness_core.checkpoints.onnx.steps import Builder, Features, Node, Value
from robustness_core.checkpoints.onnx.verify import verify
from robustness_core.errors import CheckpointError
from robustness_core.networks import programs
from robustness_core.networks.programs import INPUT, Step

_FLAT = {1024: (1, 32, 32), 2352: (3, 28, 28), **FLAT}  # of images that are flat: their sizes


@dataclass(frozen=True, eq=False)
class Imported:
    """A converted graph: `steps` take images (B, *input_shape); `weights` are the program's state_dict.

    `notes` are sentences about what was assumed, `outputs` the names of all outputs of the graph, in its order.
    """

    steps: tuple[Step, ...]
    weights: Mapping[str, Tensor]
    input_shape: tuple[int, int, int]
    notes: tuple[str, ...]
    outputs: tuple[str, ...] = ()

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

    def arrange(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) as the graph wants them."""
        for step in self.steps:
            images = programs.module_of(step)(images)
        return images


def convert(data: bytes, output: str | None = None) -> list[Imported]:
    """The network in an ONNX file, once for each way in which it may want its images; most files allow only one.

    Covers 2-D convolutional and fully connected networks of opset 7 on, whatever the batch size they were written
    for. `output` is the name of one of several outputs; without, the first is taken. Nothing outside `data` is read.
    What is converted has answered as onnx's own evaluator does, on images in [-3, 3]. Raises
    CheckpointError with one sentence.
    """
    model = _parse(data)
    outputs = _take_output(model, output)
    check_model(model)
    prepare(model)
    layouts = _layouts(model)
    converters = [_Converter(model, layout) for layout in layouts]
    found = [converter.run() for converter in converters]
    for converter, imported in zip(converters, found, strict=True):
        verify(model, imported.body(), imported.input_shape, converter.cost, converter.layout.arrange)
    return [replace(imported, outputs=outputs) for imported in found]


def _take_output(model: Any, name: str | None) -> tuple[str, ...]:
    """Leave of several outputs the one of that name, the first of scores without, and the nodes that it needs.

    Gives the names of all, those of scores first. Nodes that hold graphs stay, and all where a name is made twice:
    `check_model` says so.
    """
    graph = model.graph
    made_by = [(made, place) for place, node in enumerate(graph.node) for made in node.output if made]
    makers = dict(made_by)
    classes = {made for node in graph.node if node.op_type in CLASSES for made in node.output}
    classes |= {value.name for value in graph.output if value.type.tensor_type.elem_type not in (0, *FLOATS)}
    outputs = sorted(graph.output, key=lambda value: value.name in classes)
    names = tuple(value.name for value in outputs)
    chosen = next((value for value in outputs if name in (None, value.name, shown(value.name))), None)
    if chosen is None and name is not None:
        raise CheckpointError(f"The ONNX graph has no output {shown(name)}; it has {', '.join(map(shown, names))}.")
    if chosen is None or chosen.name not in makers or len(makers) < len(made_by):
        return names
    kept = type(chosen)()
    kept.CopyFrom(chosen)
    del graph.output[:]
    graph.output.append(kept)
    holding = {place for place, node in enumerate(graph.node) if any(one.HasField("g") for one in node.attribute)}
    waiting, needed = [kept.name, *(name for place in holding for name in graph.node[place].input)], holding
    while waiting:
        place = makers.get(waiting.pop())
        if place is not None and place not in needed:
            needed.add(place)
            waiting.extend(graph.node[place].input)
    for place in reversed(range(len(graph.node))):
        if place not in needed:
            del graph.node[place]
    return names


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
        self.model, self.graph, self.layout = model, graph, layout
        self.opset = opset(model)
        self.notes = [layout.note] if layout.note else []

    def run(self) -> Imported:
        from onnx import numpy_helper

        for tensor in self.graph.initializer:
            self._define(tensor.name, numpy_helper.to_array(tensor))
        source = INPUT
        for step in self.layout.steps:
            source = self.emit(step.kind, [self.of(source)], dict(step.settings), name=step.name).step
        if graph_input(self.model).type.tensor_type.elem_type == UINT8:
            scale = {"value": torch.tensor(255.0)}
            source = self.emit("mul", [self.of(source)], {"constant": ()}, scale, name="pixels_255").step
            self.notes.append("The graph takes pixels from 0 to 255; images in [0, 1] are multiplied by 255 first.")
        self._define(graph_input(self.model).name, self.of(source))
        for node in self.graph.node:
            self._node(node)
        result = self.values.get(self.graph.output[0].name)
        if not isinstance(result, Features):
            raise CheckpointError("The output of the ONNX graph does not depend on its input; export it again.")
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
        name = shown(node.op_type)
        if not node.output or len(node.input) > 64:
            raise CheckpointError(f"The ONNX node {name} has no output or too many inputs; export it again.")
        inputs = [self._input(source) for source in node.input]
        arrays = [value for value in inputs if isinstance(value, np.ndarray)]
        try:
            if node.op_type in ("Shape", "Size") and isinstance(inputs[0], Features):
                arrays = [np.broadcast_to(np.False_, inputs[0].shape)]  # takes no memory
            sources = [source for source in node.input if source]
            if node.op_type in FOLDED and len(arrays) == len(sources):
                results = fold(node, self.opset, dict(zip(sources, arrays, strict=True)))
                for output, result in zip(node.output, results, strict=False):
                    self._define(output, result)
            elif node.op_type in OPERATIONS:
                self._define(node.output[0], OPERATIONS[node.op_type](self, Node(node, self.opset), inputs))
            else:
                raise CheckpointError(
                    f"The ONNX operation {name} is supported on stored numbers only, not on an image."
                )
        except CheckpointError:
            raise
        except Exception as error:  # of torch, numpy and onnx, whose evaluator raises kinds of its own
            raise CheckpointError(
                f"The ONNX node {name} (giving {shown(node.output[0])}) cannot be computed: its inputs or attributes "
                f"do not fit together; export the network again."
            ) from error

    def _input(self, name: str) -> Value | None:
        if not name:
            return None
        if name not in self.values:
            raise CheckpointError(
                f"The ONNX graph uses {shown(name)}, which nothing gives or only a result beside the first of an "
                f"operation; export it again."
            )
        return self.values[name]


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
