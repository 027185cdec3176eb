"""An ONNX model brought to one form before it is read: sorted, in float32, in evaluation mode."""

from __future__ import annotations

import copy
from graphlib import CycleError, TopologicalSorter
from typing import Any

import numpy as np

from robustness_core.checkpoints.containers import shown
from robustness_core.checkpoints.onnx.checks import FLOATS, STANDARD, opset
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
