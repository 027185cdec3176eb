"""The ONNX operations on constants, computed while a graph is read: sizes, axes, reshaped weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from robustness_core.checkpoints.onnx.steps import MOST_FOLDED, Array
from robustness_core.errors import CheckpointError
from robustness_core.operations import ONNX

_BROADCAST = frozenset(
    "Add Sub Mul Div Mod Pow Equal Greater Less GreaterOrEqual LessOrEqual And Or Xor Where Max Min Sum Mean".split()
)
# Left to the evaluator of onnx, which gives each its meaning in its opset.
FOLDED = (_BROADCAST | frozenset(ONNX) | frozenset(
    "Constant ConstantOfShape Shape Size Gather Expand Tile Range Not Floor Ceil Round Sign ReduceProd "
    "DequantizeLinear".split()
)) - {"Pad"}  # fmt: skip


def fold(node: Any, opset: int, given: Mapping[str, Array]) -> list[Array]:
    """What a node gives for constants, computed by onnx's own evaluator. Raises CheckpointError, and what that raises.

    Cost: bounded by `MOST_FOLDED` numbers, which are counted before memory is taken for them.
    """
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    if _size(node, [given[name] for name in node.input if name]) > MOST_FOLDED:
        raise CheckpointError("The ONNX graph computes a constant that is too large.")
    values = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in given.items()
    ]
    names = [name for name in node.output if name]
    graph = helper.make_graph([node], "constant", values, [helper.make_empty_tensor_value_info(name) for name in names])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    with np.errstate(all="ignore"):
        results: Any = ReferenceEvaluator(model).run(names, dict(given))
    return [np.asarray(result) for result in results]


def _size(node: Any, arrays: Sequence[Array]) -> int:
    """At least how many numbers a node gives."""

    def asked(place: int) -> list[int]:
        return [int(size) for size in arrays[place].reshape(-1)]

    if node.op_type == "ConstantOfShape":
        return math.prod(asked(0))
    if node.op_type == "Expand":
        return math.prod(np.broadcast_shapes(arrays[0].shape, tuple(asked(1))))
    if node.op_type == "Tile":
        return int(arrays[0].size) * math.prod(asked(1))
    if node.op_type == "Range":
        start, limit, step = (float(array.reshape(-1)[0]) for array in arrays)
        return max(math.ceil((limit - start) / step), 0) if step else 0
    if node.op_type == "Gather":
        axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
        return int(arrays[0].size // max(arrays[0].shape[axis], 1) * arrays[1].size)
    if node.op_type in _BROADCAST:
        return math.prod(np.broadcast_shapes(*(array.shape for array in arrays)))
    return sum(int(array.size) for array in arrays) if node.op_type not in ("Shape", "Size") else 1
