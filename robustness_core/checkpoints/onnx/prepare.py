"""An ONNX model brought to one form before it is read: sorted, in float32, in evaluation mode."""

from __future__ import annotations

import copy
from graphlib import CycleError, TopologicalSorter
from typing import Any

import numpy as np

from robustness_core.checkpoints.containers import shown
from robustness_core.checkpoints.onnx.checks import FLOATS, STANDARD, graph_input, opset
from robustness_core.errors import CheckpointError

_FLOAT = 1


def prepare(model: Any) -> None:
    """Change a checked model in place, so that the conversion and onnx's evaluator read the same.

    Each node stands behind what it needs, opsets are named once, all floats are float32, dropout is off.
    """
    from onnx import helper

    version = opset(model)
    others = [entry for entry in model.opset_import if entry.domain not in STANDARD]
    del model.opset_import[:]
    model.opset_import.extend([helper.make_opsetid("", version), *others])
    _sort(model.graph)
    for node in model.graph.node:
        node.domain = ""
        if node.op_type == "Dropout":
            del node.input[1:]
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i in FLOATS:
                attribute.i = _FLOAT
            if attribute.HasField("t"):
                _widen(attribute.t)
    for tensor in model.graph.initializer:
        _widen(tensor)
    for value in (*model.graph.input, *model.graph.output):
        if value.type.tensor_type.elem_type in FLOATS:
            value.type.tensor_type.elem_type = _FLOAT
    del model.graph.value_info[:]
    _give_batch(model.graph, graph_input(model))


def _give_batch(graph: Any, value: Any) -> None:
    """A batch axis for a graph that takes one image without: the input gets it in place of the node that adds it.

    Axes that are added in front, or taken away there at the end, are left out; a Reshape or Flatten means the same.
    """
    sizes = [int(dim.dim_value) for dim in value.type.tensor_type.shape.dim]
    colours = len(sizes) == 3 and sizes[0] in (1, 3) and min(sizes[1:]) > 4
    last = len(sizes) == 3 and sizes[2] in (1, 3) and sizes[0] == sizes[1] > 4
    if not (colours or last or (len(sizes) == 2 and sizes[0] == sizes[1] > 4) or (len(sizes) == 1 and sizes[0] > 4)):
        return
    users = [node for node in graph.node if value.name in node.input]
    if not all(node.op_type in ("Unsqueeze", "Reshape", "Flatten") for node in users):
        return
    value.type.tensor_type.shape.dim.insert(0, type(value.type.tensor_type.shape.dim[0])(dim_value=1))
    end = next((node for node in graph.node if graph.output[0].name in node.output), None)
    changed: list[Any] = [*users, *([] if end is None else [end])]
    for node in changed:
        kind = str(node.op_type)
        if kind in ("Unsqueeze", "Squeeze") or (node is end and kind == "Reshape"):
            node.op_type = "Identity"
            del node.input[1:], node.attribute[:]
    for output in graph.output:
        output.type.tensor_type.ClearField("shape")


def _widen(tensor: Any) -> None:
    from onnx import numpy_helper

    if tensor.data_type in FLOATS and tensor.data_type != _FLOAT:
        wide = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(wide, tensor.name))


def _sort(graph: Any) -> None:
    """Each node behind the nodes whose results it takes. Raises CheckpointError where they run in a circle."""
    maker = {name: place for place, node in enumerate(graph.node) for name in node.output if name}
    needs = {place: [maker[name] for name in node.input if name in maker] for place, node in enumerate(graph.node)}
    if all(before < place for place, befores in needs.items() for before in befores):
        return
    try:
        order = list(TopologicalSorter(needs).static_order())
    except CycleError as error:
        place = error.args[1][0]
        raise CheckpointError(
            f"The ONNX graph runs in a circle (through {shown(graph.node[place].output[0])}); export it again."
        ) from None
    nodes = [copy.deepcopy(graph.node[place]) for place in order]
    del graph.node[:]
    graph.node.extend(nodes)
