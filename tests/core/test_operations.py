"""The table of operations: complete for torch's activations, and every row true in layers, ONNX, text and affinity."""

from __future__ import annotations

import functools
import operator
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from onnx import helper
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules import activation

from robustness_core import layers, operations
from robustness_core.checkpoints import CheckpointError
from robustness_core.checkpoints.onnx import importer, verify
from robustness_core.networks import build, programs
from testing import graphs
from testing.hostile_files import model

SHAPE = (3, 6, 6)
NO_ACTIVATIONS = {
    "GLU": "halves the channels",
    "MultiheadAttention": "mixes places and has weights",
    "Softmin": "a softmax: its outputs depend on each other",
    "Softmax": "a softmax",
    "Softmax2d": "a softmax",
    "LogSoftmax": "a softmax",
}
ELEMENTWISE = sorted(set(activation.__all__) - set(NO_ACTIVATIONS))
ARGUMENTS = {"threshold": (0.1, 0.0), "prelu": (torch.tensor([0.3]),), "clip": (-0.5, 0.5)}  # what has no usual values


class Net(nn.Module):
    """A convolution, what is given, and a full connection."""

    def __init__(self, between: Callable[[Tensor], Tensor]):
        super().__init__()
        self.conv1, self.fc, self.between = nn.Conv2d(3, 2, 3), nn.Linear(32, 4), between

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.between(self.conv1(images)).flatten(1))


def names(network: nn.Module) -> list[str]:
    return [cut.name for cut in layers.cuts(network, SHAPE)]


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_every_activation_of_torch_ends_the_layer_before_it(name: str) -> None:
    module = getattr(nn, name)(*((0.1, 0.0) if name == "Threshold" else ()))
    network = nn.Sequential(
        OrderedDict(conv1=nn.Conv2d(3, 2, 3), between=module, flatten=nn.Flatten(), fc=nn.Linear(32, 4))
    )
    assert names(network) == ["conv1.pre", "conv1", "logits"]
    assert layers.main_layers(network, SHAPE) == ["conv1", "logits"]
    after = layers.extractor(network, "conv1", SHAPE)(images := torch.rand(2, *SHAPE))
    torch.testing.assert_close(after, module.eval()(network.conv1(images)), rtol=0, atol=0)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_the_functions_of_an_activation_are_in_the_row_of_its_module(name: str) -> None:
    row = operations.of(getattr(nn, name)(*((0.1, 0.0) if name == "Threshold" else ())))
    same = [f for f in dir(F) if f.strip("_").replace("_", "") == name.lower() and not f.startswith("_")]
    assert row.kind == "activation"
    assert same
    assert all(operations.of(getattr(F, f)) is row for f in same)


ACTIVATION_CALLS = [
    (spelling, row.word)
    for spelling, row in operations._KNOWN.items()
    if row.kind == "activation" and not isinstance(spelling, type)
]


@pytest.mark.parametrize(("spelling", "word"), ACTIVATION_CALLS, ids=lambda v: getattr(v, "__name__", str(v)))
def test_an_activation_written_as_a_function_or_a_method_ends_the_layer_before_it(spelling: Any, word: str) -> None:
    rest = ARGUMENTS.get(word, ())
    if isinstance(spelling, str):
        network = Net(lambda x: getattr(x, spelling)(*rest))
    else:
        network = Net(lambda x: spelling(x, *rest))
    assert names(network) == ["conv1.pre", "conv1", "logits"]


def test_no_spelling_stands_in_two_rows_and_each_is_something() -> None:
    assert sum(len(operations._spellings(row)) for row in operations.TABLE) == len(operations._KNOWN)
    assert sum(len(row.onnx.split()) for row in operations.TABLE) == len(operations.ONNX)
    assert all(operations.WORDS[row.word].make is row.make for row in operations.TABLE if row.word)
    homes = (torch, F, operator, Tensor)
    assert not [n for row in operations.TABLE for n in row.names.split() if not any(hasattr(h, n) for h in homes)]


@pytest.mark.parametrize("word", operations.ACTIVATIONS)
def test_every_activation_is_a_word_of_an_architecture_text(word: str) -> None:
    network = build(f"conv 2 3x3/1, {word}, flatten, fc 4", SHAPE)
    assert names(network) == ["conv1.pre", "conv1", "logits"]


# ------------------------------------------------------------------------------------------------------ ONNX and torch


@dataclass(frozen=True)
class Case:
    """A node on x (B, 3, 6, 6) and `constants`, the function that does the same, and a node before it that makes h."""

    function: Callable[..., Tensor]
    constants: Sequence[Any] = ()
    attributes: dict[str, Any] = field(default_factory=dict)
    before: tuple[str, dict[str, Any]] | None = None
    inputs: tuple[str, ...] = ("x",)


def floats(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(sum(shape)).uniform(0.5, 1.5, shape).astype(np.float32)


def whole(*numbers: int) -> np.ndarray[Any, Any]:
    return np.array(numbers, np.int64)


ROW, TURN = floats(1, 3, 1, 1), ("Transpose", {"perm": [0, 1, 3, 2]})
KERNEL, CHANNEL, MATRIX = floats(4, 3, 3, 3), floats(3), floats(6, 5)
CASES = {
    "Relu": Case(F.relu),
    "Tanh": Case(torch.tanh),
    "Sigmoid": Case(torch.sigmoid),
    "Elu": Case(lambda x: F.elu(x, 0.7), attributes={"alpha": 0.7}),
    "LeakyRelu": Case(lambda x: F.leaky_relu(x, 0.2), attributes={"alpha": 0.2}),
    "LeakyRelu as usual": Case(lambda x: F.leaky_relu(x, 0.01)),
    "Gelu": Case(F.gelu),
    "Gelu by tanh": Case(lambda x: F.gelu(x, approximate="tanh"), attributes={"approximate": "tanh"}),
    "Softplus": Case(F.softplus),
    "Celu": Case(lambda x: F.celu(x, 0.6), attributes={"alpha": 0.6}),
    "Selu": Case(F.selu),
    "Selu with its own numbers": Case(lambda x: 2 * F.elu(x, 0.5), attributes={"alpha": 0.5, "gamma": 2.0}),
    "Mish": Case(F.mish),
    "Softsign": Case(F.softsign),
    "HardSigmoid": Case(lambda x: (x / 6 + 0.5).clamp(0, 1), attributes={"alpha": 1 / 6}),
    "HardSigmoid as usual": Case(lambda x: (x * 0.2 + 0.5).clamp(0, 1)),
    "HardSwish": Case(lambda x: x * (x / 6 + 0.5).clamp(0, 1)),
    "ThresholdedRelu": Case(lambda x: x * (x > 0.4), attributes={"alpha": 0.4}),
    "PRelu": Case(lambda x, slope: torch.where(x > 0, x, x * slope), [floats(3, 1, 1)]),
    "PRelu over rows": Case(lambda x, slope: torch.where(x > 0, x, x * slope), [floats(6, 1)]),
    "Clip to one number": Case(lambda x, low, high: 0 * x + 0.5, [np.float32(0.5), np.float32(0.5)]),
    "Clip": Case(lambda x, low, high: torch.clamp(x, low, high), [np.float32(-0.3), np.float32(0.2)]),
    "Softmax": Case(lambda x: x.exp() / x.exp().sum(1, keepdim=True), attributes={"axis": 1}),
    "LogSoftmax": Case(lambda x: x - x.exp().sum(1, keepdim=True).log(), attributes={"axis": 1}),
    "Identity": Case(lambda x: x),
    "Dropout": Case(lambda x: x),
    "Cast": Case(lambda x: x, attributes={"to": 1}),
    "Cast to truth values": Case(lambda x: (x != 0).float(), attributes={"to": 1}, before=("Cast", {"to": 9})),
    "Reshape": Case(lambda x, _: x.reshape(-1, 9, 12), [whole(1, 9, 12)]),
    "Flatten": Case(lambda x: x.flatten(1)),
    "Squeeze": Case(lambda x, _: x.amax(2), [whole(2)], before=("MaxPool", {"kernel_shape": [6, 1]})),
    "Unsqueeze": Case(lambda x, _: x.unsqueeze(1), [whole(1)]),
    "Transpose": Case(lambda x: x.permute(0, 2, 3, 1), attributes={"perm": [0, 2, 3, 1]}),
    "Pad": Case(lambda x, *_: F.pad(x, (4, 8, 3, 7), value=0.5), [whole(0, 0, 3, 4, 0, 0, 7, 8), np.float32(0.5)]),
    "Pad with channels": Case(lambda x, _: F.pad(x, (0, 0, 0, 0, 1, 2)), [whole(0, 1, 0, 0, 0, 2, 0, 0)]),
    "BatchNormalization": Case(
        lambda x, *v: F.batch_norm(x, v[2], v[3], v[0], v[1]), [CHANNEL, CHANNEL + 1, CHANNEL + 2, CHANNEL + 3]
    ),
    "InstanceNormalization": Case(lambda x, a, b: F.instance_norm(x, weight=a, bias=b), [CHANNEL, CHANNEL + 1]),
    "MaxPool": Case(lambda x: F.max_pool2d(x, 3, 2), attributes={"kernel_shape": [3, 3], "strides": [2, 2]}),
    "AveragePool": Case(lambda x: F.avg_pool2d(x, 2, 2), attributes={"kernel_shape": [2, 2], "strides": [2, 2]}),
    "GlobalAveragePool": Case(lambda x: x.mean((2, 3))),
    "GlobalMaxPool": Case(lambda x: x.amax((2, 3))),
    "Conv": Case(lambda x, w, b: F.conv2d(x, w, b, 2, 1), [KERNEL, floats(4)], {"strides": [2, 2], "pads": [1] * 4}),
    "Gemm": Case(lambda x, w, b: x.flatten(1) @ w.T + b, [floats(5, 108), floats(5)], {"transB": 1}, ("Flatten", {})),
    "MatMul": Case(torch.matmul, [MATRIX]),
    "ReduceMean": Case(lambda x, _: x.mean((2, 3)), [whole(2, 3)]),
    "ReduceMean of channels": Case(lambda x, _: x.mean(1), [whole(1)], {"keepdims": 0}),
    "ReduceSum": Case(lambda x, _: x.sum((2, 3)), [whole(2, 3)]),
    "ReduceMax": Case(lambda x, _: x.amax((2, 3)), [whole(2, 3)]),
    "ReduceMin": Case(lambda x, _: x.amin((2, 3)), [whole(2, 3)]),
    "Slice": Case(lambda x, *_: x[:, 1:, :, ::2], [whole(1, 0), whole(3, 6), whole(1, 3), whole(1, 2)]),
    "Concat": Case(lambda x: torch.cat([x, x], 1), attributes={"axis": 1}, inputs=("x", "x")),
    "Neg": Case(torch.neg),
    "Exp": Case(torch.exp),
    "Sqrt": Case(torch.sqrt),
    "Abs": Case(torch.abs),
    "Erf": Case(torch.erf),
    "Log": Case(torch.log),
    "Reciprocal": Case(torch.reciprocal),
}  # fmt: skip
PAIRS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Add": torch.add, "Sum": torch.add, "Sub": torch.sub, "Mul": torch.mul, "Div": torch.div, "Pow": torch.pow,
    "Max": torch.maximum, "Min": torch.minimum,
}  # fmt: skip
COMPARED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Greater": torch.gt, "Less": torch.lt, "GreaterOrEqual": torch.ge, "LessOrEqual": torch.le,
}  # fmt: skip
PAIRS |= {name: lambda a, b, f=f: f(a, b) * a.expand_as(a + b) for name, f in COMPARED.items()}  # Where(a > b, a, 0)
for name, function in PAIRS.items():  # a constant on the right, on the left, and none
    CASES[f"{name} x c"] = Case(function, [ROW])
    CASES[f"{name} c x"] = Case(lambda x, c, function=function: function(c, x), [ROW], inputs=("c0", "x"))
    CASES[f"{name} x h"] = Case(lambda x, function=function: function(x, x.mT), before=TURN, inputs=("x", "h"))


RANDOM = 12  # graphs of each operation


@pytest.mark.parametrize("op", [*operations.ONNX, "several"])
def test_random_graphs_of_an_operation_answer_as_the_standard_says(op: str) -> None:
    """Random attributes, shapes, opsets and constants, on images in [-3, 3]: what is accepted is right."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="the second opinion is a developer's package")
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    accepted = 0
    for seed in range(RANDOM):
        random = np.random.default_rng([seed, *op.encode()])
        ops = [op] if op != "several" else random.choice(list(graphs.DRAW), 4).tolist()
        made = graphs.graph(random, ops).SerializeToString()
        try:
            imported = importer.convert(made)[0]
        except CheckpointError:
            continue
        images = verify.probes(imported.input_shape)
        try:
            session = onnxruntime.InferenceSession(made, options, providers=["CPUExecutionProvider"])
            answers = [session.run(None, {"x": image[None].numpy()})[0].reshape(1, -1) for image in images]
        except Exception:  # onnxruntime lacks some
            continue
        accepted += 1
        with torch.no_grad():
            got, wanted = imported.body()(images), torch.from_numpy(np.concatenate(answers).astype(np.float32))
        largest = wanted.abs().amax(1, keepdim=True).clamp_min(1e-6)
        torch.testing.assert_close(got / largest, wanted / largest, rtol=1e-3, atol=1e-3, equal_nan=True)
    assert accepted > 0


@functools.cache
def converted(label: str) -> importer.Imported:
    case, op = CASES[label], label.split()[0]
    constants = {f"c{place}": np.asarray(value) for place, value in enumerate(case.constants)}
    inputs = ("h",) if case.before and case.inputs == ("x",) else case.inputs
    nodes = [helper.make_node(case.before[0], ["x"], ["h"], **case.before[1])] if case.before else []
    rest = [] if "c0" in inputs else list(constants)
    nodes.append(helper.make_node(op, [*inputs, *rest], ["b" if op in COMPARED else "y"], **case.attributes))
    if op in COMPARED:
        nodes.append(helper.make_node("Where", ["b", inputs[0], "zero"], ["y"]))
        constants["zero"] = np.zeros(1, np.float32)
    return importer.convert(model(nodes, constants, input_shape=(1, *SHAPE), opset=20).SerializeToString())[0]


@pytest.mark.parametrize("label", CASES)
def test_every_onnx_operation_is_converted_to_what_torch_does(label: str) -> None:
    case, images = CASES[label], torch.rand(3, *SHAPE) * 2 - 1
    with torch.no_grad():
        got = converted(label).body()(images)
        wanted = case.function(images, *(torch.from_numpy(np.asarray(value)) for value in case.constants)).flatten(1)
    torch.testing.assert_close(got.float(), wanted.float(), rtol=1e-5, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("label", CASES)
def test_a_network_of_one_operation_is_taken_for_affine_where_it_is(label: str) -> None:
    if label in ("Clip to one number", "Cast to truth values"):
        pytest.skip("affine only because it hardly changes: nothing says so")
    body = converted(label).body().double()
    x, y, z = torch.rand(3, 4, *SHAPE, dtype=torch.float64) * 4 - 2
    with torch.no_grad():
        gap = (body(x + y - z).double() - body(x).double() - body(y).double() + body(z).double()).abs().max()
    assert layers.is_affine(body) == bool(gap < 1e-9)


def test_every_onnx_name_and_every_word_of_a_program_has_a_case() -> None:
    assert {label.split()[0] for label in CASES} | {"Where"} == set(operations.ONNX)  # Where follows comparisons
    made = {step.kind for label in CASES for step in converted(label).steps}
    assert made | set(operations.ACTIVATIONS) == set(operations.WORDS)


def test_an_activation_without_onnx_name_is_a_step_too() -> None:
    body = programs.build([programs.Step("a", "hardshrink", (programs.INPUT,))])
    torch.testing.assert_close(body(torch.tensor([-0.6, 0.4, 0.6])), torch.tensor([-0.6, 0.0, 0.6]))
