"""What an ONNX file must be before anything of it is converted: its size, its operations, its tensors, its input."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from robustness_core.checkpoints.containers import shown
from robustness_core.checkpoints.onnx.constants import FOLDED
from robustness_core.errors import CheckpointError
from robustness_core.operations import ONNX

_MOST_NODES = 2_000  # torch's export of ResNet-110 has some 400
_OLDEST, _NEWEST = 7, 30  # opsets
_IR = 8  # version of the format in which nodes are checked: it matters to none of the operations
CLASSES = ("ArgMax", "ArgMin", "TopK", "Hardmax")  # what gives classes in place of scores
STANDARD = ("", "ai.onnx")  # domains


def check_model(model: Any) -> None:
    graph = model.graph
    if not graph.node or not graph.input or not graph.output:
        raise CheckpointError("The ONNX file holds no graph with nodes, inputs and outputs; export the network again.")
    if len(graph.node) > _MOST_NODES or len(graph.initializer) > 2 * _MOST_NODES:
        raise CheckpointError(f"The ONNX graph has {len(graph.node)} nodes; at most {_MOST_NODES} are accepted.")
    if len(model.functions) > 0:
        raise CheckpointError("The ONNX file defines functions of its own; export it with standard operations only.")
    found = opset(model)
    if not _OLDEST <= found <= _NEWEST:
        raise CheckpointError(f"The ONNX opset {found} is not read; opsets {_OLDEST} to {_NEWEST} are accepted.")
    if len(graph.sparse_initializer) > 0:
        raise CheckpointError("The ONNX file holds sparse weights; only dense float weights are accepted.")
    for kinds, what in _KINDS.items():
        if met := next((node for node in graph.node if re.search(kinds, f"{node.domain}.{node.op_type}")), None):
            raise CheckpointError(f"The ONNX graph is {what} (it uses {shown(met.op_type)}).")
    end = next((node for node in graph.node if graph.output[0].name in node.output), None)
    if end is not None and end.op_type in CLASSES:
        raise CheckpointError(
            f"The ONNX graph ends in a class and not in scores ({end.op_type}); export it without that last step."
        )
    for node in graph.node:
        if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
            raise CheckpointError("The ONNX graph holds graphs within graphs, which are not supported.")
        _check_node(node, found)
    for tensor in _tensors(model):
        _check_tensor(tensor)


def opset(model: Any) -> int:
    """The version of the standard operations. Raises CheckpointError unless the file names exactly one."""
    versions = {entry.version for entry in model.opset_import if entry.domain in STANDARD}
    if len(versions) != 1:
        raise CheckpointError(
            f"The ONNX file names {len(versions)} versions of the standard operations (opsets) where one is wanted."
        )
    return int(versions.pop())


# Networks that take other things than images, or give other things than scores: what they are, by an operation.
_KINDS = {
    r"^\w[\w.]*\.ml\.": "a model of ai.onnx.ml, as scikit-learn exports them; only networks are read",
    r"\.(Q(uant|Linear|Gemm)\w*|Dyn\w*Quantize\w*|(Conv|MatMul)Integer\w*|Fused\w*Quant\w*)$":
        "quantised, and rounded steps have no gradient to search along; export the network in float",
    r"\.(NonMaxSuppression|RoiAlign|MaxRoiPool)$": "a detector: it gives boxes, not one number for each class",
    r"\.(\w*Attention|SkipLayerNormalization|EmbedLayerNormalization|RotaryEmbedding)$":
        "a transformer, whose attention is not supported",
    r"\.(LSTM|GRU|RNN)$": "a recurrent network, which reads sequences; networks on images are accepted",
    r"\.(Random\w+|Multinomial|Bernoulli)$": "random: it draws numbers while it runs",
    r"\.(ConvTranspose|Resize|Upsample|DepthToSpace|GridSample|Col2Im|MaxUnpool)$":
        "a generator, or another network that makes images larger; networks that give classes are accepted",
    r"\.(Loop|If|Scan|Sequence\w+)$": "a program that decides or repeats while it runs, which is not supported",
}  # fmt: skip


def _check_node(node: Any, version: int) -> None:
    """Known, and with the inputs and attributes that the operation has in this opset."""
    from onnx import checker

    name = shown(node.op_type)
    if node.domain not in STANDARD:
        raise CheckpointError(
            f"The ONNX graph uses operations of the domain {shown(node.domain)}; only standard ones are accepted."
        )
    if node.op_type not in ONNX and node.op_type not in FOLDED:
        raise CheckpointError(f"The ONNX operation {name} is none of those that are supported.")
    context = checker.DEFAULT_CONTEXT.__class__()
    context.ir_version, context.opset_imports = _IR, {domain: version for domain in STANDARD}
    try:
        checker.check_node(node, context)
    except Exception as error:  # a ValidationError, or what protobuf raises
        said = str(error)
        if match := re.search(r"Unrecognized attribute: (.*) for operator", said):
            reason = f"has the attribute {shown(match[1])}, which the operation does not know"
        elif match := re.search(r"has (in|out)put size (\d+) not in range", said):
            reason = f"has {match[2]} {match[1]}puts, which the operation does not allow"
        elif match := re.search(r"Required attribute '(.*)' is missing", said):
            reason = f"lacks the attribute {shown(match[1])}"
        elif "No Op registered" in said or "deprecated" in said:
            reason = "does not exist"
        else:
            reason = "has an attribute of a wrong kind"
        raise CheckpointError(f"The ONNX operation {name} {reason} in opset {version}; export it again.") from None


def _tensors(model: Any) -> Iterator[Any]:
    yield from model.graph.initializer
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("sparse_tensor") or attribute.sparse_tensors:
                raise CheckpointError("The ONNX file holds sparse weights; only dense float weights are accepted.")


FLOATS, UINT8 = (1, 10, 11, 16), 2
_NUMBERS = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}  # data_type -> bytes


def _check_tensor(tensor: Any) -> None:
    name = shown(tensor.name)
    if tensor.data_location != 0 or tensor.external_data:
        raise CheckpointError(
            "The ONNX file keeps weights in another file; upload both in one zip, or export it with its weights inside."
        )
    if tensor.data_type not in _NUMBERS:
        raise CheckpointError(f"The ONNX tensor {name} holds numbers of a kind that is not supported; use float32.")
    if any(size < 0 for size in tensor.dims) or len(tensor.dims) > 8:
        raise CheckpointError(f"The ONNX tensor {name} has a negative size; export the network again.")
    count = math.prod(tensor.dims)
    width = _NUMBERS[tensor.data_type]
    if tensor.HasField("segment"):
        raise CheckpointError(f"The ONNX tensor {name} is stored in segments, which nothing writes; export it again.")
    if tensor.HasField("raw_data"):
        held, exact = len(tensor.raw_data) // width, len(tensor.raw_data) % width == 0
    else:
        numbers = {1: tensor.float_data, 7: tensor.int64_data, 11: tensor.double_data, 13: tensor.uint64_data}
        numbers[12] = tensor.uint64_data
        held, exact = len(numbers.get(tensor.data_type, tensor.int32_data)), True
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
    if not value.type.HasField("tensor_type") or kind.elem_type not in (*FLOATS, UINT8):
        raise CheckpointError("The input of the ONNX graph is no tensor of floats or pixels; export it with float32.")
    sizes = [int(dim.dim_value) if dim.HasField("dim_value") else 0 for dim in kind.shape.dim]
    if any(size < 0 or size > 1 << 20 for size in sizes):
        raise CheckpointError("The input of the ONNX graph has an impossible size; export the network again.")
    return sizes
