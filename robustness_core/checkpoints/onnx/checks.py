"""What an ONNX file must be before anything of it is converted: its size, its operations, its tensors, its input."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from robustness_core.checkpoints.containers import shown
from robustness_core.checkpoints.onnx.constants import FOLDED
from robustness_core.errors import CheckpointError
from robustness_core.operations import ONNX

_MOST_NODES = 2_000  # torch's export of ResNet-110 has some 400
_OLDEST, _NEWEST = 7, 30  # opsets


def check_model(model: Any) -> None:
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
        if node.op_type not in ONNX and node.op_type not in FOLDED:
            raise CheckpointError(
                f"The ONNX operation {shown(node.op_type)} is not supported; supported are {', '.join(sorted(ONNX))}."
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


def graph_input(model: Any) -> Any:
    stored = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in stored]
    if len(inputs) != 1:
        raise CheckpointError(f"The ONNX graph takes {len(inputs)} inputs; it must take one batch of images.")
    return inputs[0]


def dims(value: Any) -> list[int]:
    """The sizes of a graph's input; 0 where the file leaves one open."""
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type") or kind.elem_type not in (1, 10, 11):
        raise CheckpointError("The input of the ONNX graph is no tensor of floats; export the network with float32.")
    sizes = [int(dim.dim_value) if dim.HasField("dim_value") else 0 for dim in kind.shape.dim]
    if any(size < 0 or size > 1 << 20 for size in sizes):
        raise CheckpointError("The input of the ONNX graph has an impossible size; export the network again.")
    return sizes
