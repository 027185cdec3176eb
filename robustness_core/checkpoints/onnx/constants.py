"""The ONNX operations on constants, computed while a graph is read: sizes, axes, reshaped weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from robustness_core.checkpoints.onnx.steps import MOST_FOLDED, Array, Node
from robustness_core.errors import CheckpointError

Arrays = Sequence[Any]


def _fold_constant(node: Node, arrays: Arrays) -> Array:
    from onnx import numpy_helper

    (name, value), *_ = node.attributes.items()
    if name == "value":
        return np.asarray(numpy_helper.to_array(value))
    kinds = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    return np.asarray(value, dtype=kinds[name])


def _fold_of_shape(node: Node, arrays: Arrays) -> Array:
    from onnx import numpy_helper

    sizes = [int(size) for size in arrays[0].reshape(-1)]
    if any(size < 0 for size in sizes) or math.prod(sizes) > MOST_FOLDED:
        raise CheckpointError("The ONNX operation ConstantOfShape asks for an impossible size; export it again.")
    value = node.attributes.get("value")
    filler = np.zeros(1, np.float32) if value is None else np.asarray(numpy_helper.to_array(value))
    return np.full(sizes, filler.reshape(-1)[0])


def _fold_slice(node: Node, arrays: Arrays) -> Array:
    starts, ends = arrays[1].reshape(-1), arrays[2].reshape(-1)
    axes = arrays[3].reshape(-1) if len(arrays) > 3 and arrays[3] is not None else range(len(starts))
    strides = arrays[4].reshape(-1) if len(arrays) > 4 and arrays[4] is not None else [1] * len(starts)
    places = [slice(None)] * arrays[0].ndim
    for start, end, axis, stride in zip(starts, ends, axes, strides, strict=True):
        places[int(axis)] = slice(int(start), int(end), int(stride))
    return np.asarray(arrays[0][tuple(places)])


def _fold_reshape(node: Node, arrays: Arrays) -> Array:
    sizes = [int(size) for size in arrays[1].reshape(-1)]
    sizes = [arrays[0].shape[place] if size == 0 else size for place, size in enumerate(sizes)]
    return np.asarray(arrays[0].reshape(sizes))


def _fold_axes(node: Node, arrays: Arrays) -> list[int]:
    given = node.integers("axes", ()) if "axes" in node.attributes else arrays[1].reshape(-1)
    return [int(axis) for axis in given]


def _fold_unsqueeze(node: Node, arrays: Arrays) -> Array:
    return np.expand_dims(arrays[0], tuple(_fold_axes(node, arrays)))


def _fold_squeeze(node: Node, arrays: Arrays) -> Array:
    has_axes = "axes" in node.attributes or len(arrays) > 1
    return np.asarray(np.squeeze(arrays[0], tuple(_fold_axes(node, arrays)) if has_axes else None))


_CASTS = {1: np.float32, 6: np.int32, 7: np.int64, 9: np.bool_, 10: np.float16, 11: np.float64}


def _fold_div(node: Node, arrays: Arrays) -> Array:
    whole = np.issubdtype(arrays[0].dtype, np.integer)
    return np.asarray(arrays[0] // arrays[1] if whole else arrays[0] / arrays[1])


def _broadcast(function: Callable[[Any, Any], Any]) -> Callable[[Node, Arrays], Array]:
    def fold(node: Node, arrays: Arrays) -> Array:
        if math.prod(np.broadcast_shapes(arrays[0].shape, arrays[1].shape)) > MOST_FOLDED:
            raise CheckpointError("The ONNX graph computes a constant that is too large.")
        return np.asarray(function(arrays[0], arrays[1]))

    return fold


FOLDED: dict[str, Callable[[Node, Arrays], Array]] = {
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
    "Equal": _broadcast(np.equal),
    "Where": lambda node, a: np.asarray(np.where(a[0], a[1], a[2])),
    "Mod": _broadcast(np.mod),
    "ReduceProd": lambda node, a: np.asarray(np.prod(a[0], keepdims=bool(node.integer("keepdims", 1)))),
    "Sqrt": lambda node, a: np.sqrt(a[0]),
    "Neg": lambda node, a: np.negative(a[0]),
}
