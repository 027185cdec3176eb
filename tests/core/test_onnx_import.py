"""Converted ONNX graphs against the torch networks that they were exported from, and against onnxruntime."""

from __future__ import annotations

import contextlib
import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import helper
from torch import Tensor, nn
from torch.nn import functional as F

from robustness_core import layers
from robustness_core.checkpoints import CheckpointError, clean_copy, containers, load
from robustness_core.checkpoints.onnx import importer, operations
from robustness_core.checkpoints.report import Hints, inspect
from robustness_core.networks import Network, programs
from testing.hostile_files import linear, model, safetensors
from testing.layouts import ready

UPLOADS = Path(os.environ.get("STRATA_DATA", "/nowhere")).parent / "uploads"
needs_uploads = pytest.mark.skipif(not UPLOADS.is_dir(), reason="the uploads beside STRATA_DATA are not here")


class Written(nn.Module):
    """A network whose forward is given."""

    def __init__(self, forward: Callable[[Any, Tensor], Tensor]):
        super().__init__()
        self.function = forward
        self.conv = nn.Conv2d(1, 4, 3, 2, 1)
        self.fc = nn.Linear(784, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.function(self, images)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "batch norm, maximum pool": lambda: nn.Sequential(
        nn.Conv2d(1, 4, 4, 2, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(196, 10)
    ),
    "activations": lambda: nn.Sequential(
        nn.Conv2d(1, 4, 4, 2, 1, bias=False), nn.ELU(0.7), nn.Conv2d(4, 4, 3, padding=1, groups=2),
        nn.LeakyReLU(0.2), nn.Sigmoid(), nn.Tanh(), nn.Hardswish(), nn.SiLU(), nn.GELU(),
        nn.SELU(), nn.ReLU6(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(196, 10), nn.LogSoftmax(1),
    ),
    "more activations": lambda: nn.Sequential(
        nn.Conv2d(1, 4, 4, 2, 1), nn.CELU(0.7), nn.Softplus(), nn.Hardtanh(), nn.PReLU(4), nn.Softsign(),
        nn.GELU("tanh"), nn.Mish(), nn.Flatten(), nn.Linear(784, 10),
    ),
    "norms of single images": lambda: nn.Sequential(
        nn.Conv2d(1, 4, 4, 2, 1), nn.GroupNorm(2, 4), nn.ReLU(), nn.InstanceNorm2d(4, affine=True), nn.Flatten(),
        nn.Linear(784, 10),
    ),
    "shortcut that adds channels": lambda: Written(
        lambda s, x: s.fc((F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 1, 2)) + s.conv(x)).flatten(1))
    ),
    "maxima and choices": lambda: Written(
        lambda s, x: s.fc(torch.where(s.conv(x) > 0.1, s.conv(x), s.conv(x) * 0.2).flatten(1)) + x.amax((2, 3))
    ),
    "residual": lambda: Written(
        lambda s, x: s.fc(F.relu(s.conv(x) + torch.tanh(s.conv(x)) * 0.5 - 0.1).flatten(1)).softmax(1)
    ),
    "view by the size": lambda: Written(lambda s, x: s.fc(F.relu(s.conv(x)).view(x.size(0), -1))),
    "normalisation inside": lambda: Written(lambda s, x: s.fc(F.relu(s.conv((x - 0.1307) / 0.3081)).flatten(1))),
    "concatenation": lambda: Written(
        lambda s, x: s.fc(torch.cat([F.relu(s.conv(x))[:, :2], torch.tanh(s.conv(x))[:, 2:]], 1).flatten(1))
    ),
    "means": lambda: Written(lambda s, x: s.fc(s.conv(x).flatten(1)) * s.conv(x).mean((2, 3))[:, :1]),
    "clamp": lambda: Written(lambda s, x: s.fc(torch.clamp(s.conv(x), -0.1, 0.2).flatten(1))),
    "channels last inside": lambda: Written(lambda s, x: s.fc(F.relu(s.conv(x)).permute(0, 2, 3, 1).flatten(1))),
    "uneven padding": lambda: nn.Sequential(
        nn.ZeroPad2d((1, 2, 0, 1)), nn.Conv2d(1, 4, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Dropout(),
        nn.Flatten(), nn.Linear(196, 10),
    ),
    "same padding of an even kernel": lambda: nn.Sequential(
        nn.Conv2d(1, 4, 4, padding="same"), nn.ReLU(), nn.AvgPool2d(3, 3, 1), nn.Flatten(), nn.Linear(400, 10)
    ),
    "pools that round up": lambda: nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(144, 10),
    ),
    "global average": lambda: nn.Sequential(
        nn.Conv2d(1, 10, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ),
    "convolution as the head": lambda: nn.Sequential(nn.Conv2d(1, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 10, 13)),
    "fully connected": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(784, 20), nn.BatchNorm1d(20), nn.ReLU(), nn.Linear(20, 10, bias=False)
    ),
}  # fmt: skip
EXPORTS: dict[str, dict[str, Any]] = {
    "opset 7": {"dynamo": False, "opset_version": 7},
    "opset 9": {"dynamo": False, "opset_version": 9},
    "opset 13, open batch": {
        "dynamo": False, "opset_version": 13, "input_names": ["x"], "dynamic_axes": {"x": {0: "n"}},
    },
    "opset 17": {"dynamo": False, "opset_version": 17},
    "torch today": {"dynamo": True, "verbose": False},
}  # fmt: skip


def export(network: nn.Module, options: dict[str, Any]) -> bytes:
    target = io.BytesIO()
    with contextlib.redirect_stdout(io.StringIO()):
        torch.onnx.export(network, (torch.rand(1, 1, 28, 28),), target, **options)  # type: ignore[arg-type]
    return target.getvalue()


_TODAY = (
    "batch norm, maximum pool",
    "activations",
    "more activations",
    "residual",
    "view by the size",
    "concatenation",
    "means",
)


_LATER = ("shortcut that adds channels", "maxima and choices", "more activations")  # what older opsets cannot say
_EARLY = ("opset 7", "opset 9")


@pytest.mark.filterwarnings("ignore")  # torch's exporters warn of themselves
@pytest.mark.parametrize(
    ("name", "exported"),
    [
        (name, exported)
        for name in NETWORKS
        for exported in EXPORTS
        if not (exported in _EARLY and name in _LATER)
        if not (exported == "opset 7" and name == "activations")  # writes Erf, which came with opset 9
        if exported != "torch today" or name in _TODAY  # the new exporter takes seconds
    ],
)
def test_outputs_and_gradients_are_those_of_the_exported_network(name: str, exported: str) -> None:
    if exported == "torch today":
        pytest.importorskip("onnxscript", reason="torch's exporter needs onnxscript")
    network = ready(NETWORKS[name])
    imported = importer.convert(export(network, EXPORTS[exported]))[0]
    assert imported.input_shape == (1, 28, 28)
    body = imported.body()
    left = torch.rand(5, 1, 28, 28, requires_grad=True)  # five images, though the file was written for one
    right = left.detach().clone().requires_grad_()
    direction = torch.randn(5, 10)
    got, wanted = body(left), network(right).flatten(1)
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-6)
    (got * direction).sum().backward()
    (wanted * direction).sum().backward()
    torch.testing.assert_close(left.grad, right.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NETWORKS)
def test_steps_survive_storage_and_can_be_cut_into_layers(name: str) -> None:
    imported = importer.convert(export(ready(NETWORKS[name]), EXPORTS["opset 13, open batch"]))[0]
    again = programs.from_json(programs.to_json(imported.steps))
    other = importer.Imported(again, imported.weights, imported.input_shape, ())
    images = torch.rand(3, 1, 28, 28)
    with torch.no_grad():
        assert torch.equal(imported.body()(images), other.body()(images))
    network = Network(imported.body(), (1, 28, 28), architecture="")
    for cut in layers.cuts(network, (1, 28, 28)):
        with torch.no_grad():
            assert tuple(layers.extractor(network, cut.name)(images).shape[1:]) == cut.shape


@pytest.mark.filterwarnings("ignore")
def test_layers_have_names_that_a_person_recognises() -> None:
    imported = importer.convert(export(ready(NETWORKS["batch norm, maximum pool"]), EXPORTS["opset 13, open batch"]))[0]
    network = Network(imported.body(), (1, 28, 28), architecture="")
    assert [cut.name for cut in layers.cuts(network, (1, 28, 28)) if cut.main] == ["conv1", "pool1", "logits"]


def turned(data: np.ndarray[Any, Any]) -> Any:
    return np.ascontiguousarray(data.astype(np.float32))


def test_keras_like_graphs_have_their_turns_taken_out() -> None:
    """NHWC input, Transpose, Conv, Transpose, Reshape, MatMul + Add, as tf2onnx writes them."""
    rng = np.random.default_rng(0)
    kernel, bias = turned(rng.standard_normal((4, 3, 4, 4))), turned(rng.standard_normal(4))
    matrix, shift = turned(rng.standard_normal((900, 10))), turned(rng.standard_normal(10))
    nodes = [
        helper.make_node("Transpose", ["x"], ["a"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["a", "k", "b"], ["c"], strides=[2, 2]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Transpose", ["r"], ["t"], perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", ["t", "s"], ["f"]),
        helper.make_node("MatMul", ["f", "m"], ["p"]),
        helper.make_node("Add", ["p", "d"], ["y"]),
    ]
    tensors = {"k": kernel, "b": bias, "m": matrix, "d": shift, "s": np.array([-1, 900], np.int64)}
    made = model(nodes, tensors, input_shape=("n", 32, 32, 3))
    imported = importer.convert(made.SerializeToString())[0]
    assert imported.input_shape == (3, 32, 32)
    assert [step.kind for step in imported.steps] == ["conv", "relu", "permute", "reshape", "fc"]
    images = torch.rand(2, 3, 32, 32)
    features = F.relu(F.conv2d(images, torch.from_numpy(kernel), torch.from_numpy(bias), 2))
    wanted = features.permute(0, 2, 3, 1).flatten(1) @ torch.from_numpy(matrix) + torch.from_numpy(shift)
    torch.testing.assert_close(imported.body()(images), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 784), (1, 784, 1), (1, 1, 784), ("n", 784), (1, 28, 28), (1, 28, 28, 1)])
def test_flat_and_odd_inputs_take_images(shape: tuple[Any, ...]) -> None:
    made = linear()
    del made.graph.input[:]
    made.graph.input.append(helper.make_tensor_value_info("x", 1, shape))
    weight = torch.from_numpy(np.random.default_rng(0).standard_normal((10, 784)).astype(np.float32))
    imported = importer.convert(made.SerializeToString())[0]
    images = torch.rand(3, 1, 28, 28)
    torch.testing.assert_close(imported.body()(images), images.flatten(1) @ weight.T, rtol=1e-4, atol=1e-4)


def test_flat_colour_images_are_offered_in_both_orders() -> None:
    weight = turned(np.random.default_rng(0).standard_normal((3072, 10)))
    made = model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": weight}, input_shape=(1, 3072))
    first, second = (imported.body() for imported in importer.convert(made.SerializeToString()))
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(first(images), images.flatten(1) @ torch.from_numpy(weight), rtol=1e-4, atol=1e-3)
    wanted = images.permute(0, 2, 3, 1).flatten(1) @ torch.from_numpy(weight)
    torch.testing.assert_close(second(images), wanted, rtol=1e-4, atol=1e-3)


def test_a_graph_that_is_converted_wrongly_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Below 0 alone: images in [0, 1] would not show it."""
    monkeypatch.setitem(operations.OPERATIONS, "Relu", lambda c, node, inputs: c.emit("leakyrelu", [inputs[0]]))
    made = linear(helper.make_node("Relu", ["x"], ["r"]), source="r")
    with pytest.raises(CheckpointError, match="does not answer as onnx's evaluator does"):
        importer.convert(made.SerializeToString())


def answer(nodes: list[Any], tensors: dict[str, Any], images: Tensor, **options: Any) -> Tensor:
    with torch.no_grad():
        return importer.convert(model(nodes, tensors, **options).SerializeToString())[0].body()(images)


def test_a_product_that_is_used_twice_keeps_its_bias_to_one_use() -> None:
    """Also where the second use goes by another name."""
    rng, images = np.random.default_rng(0), torch.rand(3, 1, 28, 28)
    matrix, shift = turned(rng.standard_normal((784, 4))), turned(rng.standard_normal(4))
    product = images.flatten(1) @ torch.from_numpy(matrix)
    wanted = torch.cat([product, product + torch.from_numpy(shift)], 1)
    n = helper.make_node
    for alias in ("Identity", "Dropout"):
        for added, joined in (("b", "a"), ("a", "b")):
            nodes = [n("Flatten", ["x"], ["f"]), n("MatMul", ["f", "m"], ["a"]), n(alias, ["a"], ["b"]),
                     n("Add", [added, "c"], ["z"]), n("Concat", [joined, "z"], ["y"], axis=1)]  # fmt: skip
            got = answer(nodes, {"m": matrix, "c": shift}, images)
            torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


def test_masks_add_up_and_whole_numbers_are_divided_towards_zero() -> None:
    n, images = helper.make_node, torch.rand(3, 1, 28, 28)
    masks = [n("Greater", ["x", "h"], ["g"]), n("Less", ["x", "k"], ["l"]), n("Cast", ["g"], ["a"], to=1),
             n("Cast", ["l"], ["b"], to=1), n("Add", ["a", "b"], ["s"]), n("Flatten", ["s"], ["y"])]  # fmt: skip
    got = answer(masks, {"h": np.float32(0.5), "k": np.float32(0.7)}, images)
    torch.testing.assert_close(got, ((images > 0.5).float() + (images < 0.7).float()).flatten(1))
    whole = {"p": np.array([-7]), "q": np.array([2])}
    divided = [n("Div", ["p", "q"], ["d"]), n("Cast", ["d"], ["e"], to=1), n("Mul", ["x", "e"], ["s"])]
    got = answer([*divided, n("Flatten", ["s"], ["y"])], whole, images)
    torch.testing.assert_close(got, -3 * images.flatten(1))


def test_nodes_in_any_order_equal_opsets_and_constants_in_old_forms_are_read() -> None:
    n = helper.make_node
    nodes = [n("Relu", ["x"], ["r"]), n("Slice", ["c"], ["d"], starts=[1], ends=[2]), n("Mul", ["r", "d"], ["s"]),
             n("ReduceProd", ["e"], ["p"], axes=[0], keepdims=0), n("Add", ["s", "p"], ["t"]),
             n("Flatten", ["t"], ["y"])]  # fmt: skip
    tensors = {"c": np.array([2, 3], np.float32), "e": np.array([[1, 2], [3, 4]], np.float32)[:, :1]}
    made = model(nodes[::-1], tensors, opset=9)
    made.opset_import.append(helper.make_opsetid("", 9))
    made.opset_import.append(helper.make_opsetid("ai.onnx", 9))
    images = torch.rand(3, 1, 28, 28) - 0.5
    got = importer.convert(made.SerializeToString())[0].body()(images)
    torch.testing.assert_close(got, (images.relu() * 3 + 3).flatten(1))


@pytest.mark.parametrize("batch", [1, 7, 64, 40_000, 1 << 20])
def test_a_declared_batch_is_no_burden(batch: int) -> None:
    n, images = helper.make_node, torch.rand(2, 1, 28, 28)
    nodes = [n("Conv", ["x", "k"], ["c"]), n("GlobalAveragePool", ["c"], ["g"]), n("Flatten", ["g"], ["y"])]
    kernel = turned(np.random.default_rng(0).standard_normal((4, 1, 3, 3)))
    got = answer(nodes, {"k": kernel}, images, input_shape=(batch, 1, 28, 28))
    torch.testing.assert_close(got, F.conv2d(images, torch.from_numpy(kernel)).mean((2, 3)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "first"),
    [((3, 32, 32), "Unsqueeze"), ((1, 28, 28), "Unsqueeze"), ((3, 32, 32), "Reshape"), ((28, 28), "Reshape")],
)
def test_a_graph_of_one_image_without_a_batch_is_read(shape: tuple[int, ...], first: str) -> None:
    n, count = helper.make_node, int(np.prod(shape))
    weight = turned(np.random.default_rng(0).standard_normal((count, 10)) / 30)
    start = [n("Unsqueeze", ["x", "zero"], ["a"]), n("Flatten", ["a"], ["f"])]
    nodes = [*(start if first == "Unsqueeze" else [n("Reshape", ["x", "flat"], ["f"])]),
             n("MatMul", ["f", "w"], ["p"]), n("Squeeze", ["p", "zero"], ["y"])]  # fmt: skip
    tensors = {"w": weight, "zero": np.array([0]), "flat": np.array([1, count])}
    images = torch.rand(3, *((1, *shape) if len(shape) == 2 else shape))
    got = answer(nodes, tensors, images, input_shape=shape)
    torch.testing.assert_close(got, images.flatten(1) @ torch.from_numpy(weight), rtol=1e-4, atol=1e-4)


def test_a_graph_without_weights_is_read_again_from_its_copy(tmp_path: Path) -> None:
    nodes = [helper.make_node("GlobalMaxPool", ["x"], ["g"]), helper.make_node("Flatten", ["g"], ["y"])]
    path, copy = tmp_path / "a.onnx", tmp_path / "copy.safetensors"
    path.write_bytes(model(nodes, input_shape=(1, 3, 32, 32)).SerializeToString())
    _, network = inspect(path)
    copy.write_bytes(clean_copy(network))
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(load(copy)(images), images.amax((2, 3)))


def test_half_and_double_precision_are_read_as_float32() -> None:
    weight = np.random.default_rng(0).standard_normal((784, 10))
    images = torch.rand(2, 1, 28, 28)
    for kind in (np.float16, np.float64):
        nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])]
        made = model(nodes, {"w": weight.astype(kind)})
        made.graph.input[0].type.tensor_type.elem_type = {np.float16: 10, np.float64: 11}[kind]
        got = importer.convert(made.SerializeToString())[0].body()(images)
        wanted = images.flatten(1) @ torch.from_numpy(weight.astype(kind).astype(np.float32))
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


def split() -> tuple[bytes, bytes, Tensor]:
    """A graph, the weights beside it, and the answers of both to one image."""
    made = linear()
    tensor = made.graph.initializer[0]
    data, images = tensor.raw_data, torch.rand(1, 1, 28, 28)
    wanted = importer.convert(made.SerializeToString())[0].body()(images)
    tensor.ClearField("raw_data")
    tensor.data_location = 1
    for key, value in {"location": "net.data", "offset": "16", "length": str(len(data))}.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return made.SerializeToString(), bytes(16) + data, torch.cat([images.flatten(), wanted.flatten()])


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_graph_and_its_data_are_read_from_one_zip(tmp_path: Path, compression: int) -> None:
    graph, data, both = split()
    path = tmp_path / "upload.zip"
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("folder/net.onnx", graph)
        archive.writestr("folder/net.data", data)
    (read,) = importer.convert(containers.read(path).onnx)
    images, wanted = both[:784].reshape(1, 1, 28, 28), both[784:]
    torch.testing.assert_close(read.body()(images).flatten(), wanted)


@pytest.mark.parametrize(("parts", "sentence"), [
    ({}, "wants the file net.data, which is not in the zip"),
    ({"net.data": bytes(100)}, "goes on after its file ends"),
    ({"other.onnx": b"x"}, "may hold one ONNX graph"),
])  # fmt: skip
def test_a_zip_that_lacks_or_adds_something_is_refused(tmp_path: Path, parts: dict[str, bytes], sentence: str) -> None:
    path = tmp_path / "upload.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {"net.onnx": split()[0], **parts}.items():
            archive.writestr(name, content)
    with pytest.raises(CheckpointError, match=sentence):
        containers.read(path)
    with pytest.raises(CheckpointError, match="upload both in one zip"):
        importer.convert(split()[0])


def test_networks_that_break_on_some_images_or_on_all_are_told(tmp_path: Path) -> None:
    """Logarithms of black pixels; sums to divide by; weights near the end of float32; a std below its range."""
    n, weight = helper.make_node, turned(np.random.default_rng(0).standard_normal((784, 10)) / 30)
    ends = [n("Flatten", ["z"], ["f"]), n("MatMul", ["f", "w"], ["y"])]
    axes = np.array([1, 2, 3], np.int64)
    files = {
        "log": model([n("Log", ["x"], ["z"]), *ends], {"w": weight}),
        "quotient": model(
            [n("ReduceSum", ["x", "a"], ["s"]), n("Div", ["x", "s"], ["z"]), *ends], {"w": weight, "a": axes}
        ),
    }
    paths = {name: tmp_path / name for name in (*files, "huge", "tiny")}
    for name, made in files.items():
        paths[name].write_bytes(made.SerializeToString())
    torch.save({"fc.weight": torch.full((10, 784), 3e38)}, paths["huge"])
    own = {"architecture": "flatten, fc 10", "input_shape": "[1, 28, 28]", "mean": "[0.5]", "std": "[1e-45]"}
    paths["tiny"].write_bytes(safetensors({"fc.weight": torch.from_numpy(weight.T.copy())}, own))
    for name in ("log", "huge", "tiny"):
        with pytest.raises(CheckpointError, match="NaN or infinity for every test image"):
            inspect(paths[name], Hints(dataset="mnist-5k"))
    report, _ = inspect(paths["quotient"], Hints(dataset="mnist-5k", mean=[0.0], std=[1.0]))
    assert "The network answers NaN or infinity for a black image: a search may end there." in report["warnings"]


REFUSED = {
    "has 1 inputs, which the operation does not allow": [helper.make_node("Div", ["x"], ["y"])],
    "has the attribute alfa, which the operation does not know": [helper.make_node("Selu", ["x"], ["y"], alfa=1.0)],
    "lacks the attribute to": [helper.make_node("Cast", ["x"], ["y"])],
    "has an attribute of a wrong kind": [helper.make_node("Softmax", ["x"], ["y"], axis=1.0)],
    r"PRelu \(4\) do not fit its input \(1×1×28×28\)": [helper.make_node("PRelu", ["x", "four"], ["y"])],
    "rounds the image to whole numbers": [helper.make_node("Cast", ["x"], ["y"], to=7)],
    "with whole numbers or truth values": [
        helper.make_node("Cast", ["x"], ["b"], to=9), helper.make_node("Abs", ["b"], ["y"])
    ],
    "runs in a circle": [helper.make_node("Add", ["x", "y"], ["a"]), helper.make_node("Relu", ["a"], ["y"])],
    "which nothing gives": [helper.make_node("Add", ["x", "z"], ["y"])],
    "The ONNX graph is quantised": [helper.make_node("QuantizeLinear", ["x", "four"], ["y"])],
    "The ONNX graph is a transformer": [helper.make_node("Attention", ["x", "x", "x"], ["y"])],
    "The ONNX graph is a detector": [helper.make_node("NonMaxSuppression", ["x", "x"], ["y"])],
    "The ONNX graph is a generator": [helper.make_node("ConvTranspose", ["x", "four"], ["y"])],
    "The ONNX graph is a recurrent network": [helper.make_node("LSTM", ["x", "four", "four"], ["y"])],
    "The ONNX graph is a model of ai.onnx.ml": [
        helper.make_node("LinearClassifier", ["x"], ["y"], domain="ai.onnx.ml")
    ],
    "ends in a class and not in scores": [helper.make_node("ArgMax", ["x"], ["y"])],
    "each number of a channel by itself": [
        helper.make_node("BatchNormalization", ["x", *["four"] * 4], ["y"], spatial=0)
    ],
}  # fmt: skip
OPSETS = {"each number of a channel by itself": 7}  # of these, where it is not 13


@pytest.mark.parametrize("sentence", REFUSED)
def test_what_is_refused_is_named(sentence: str) -> None:
    made = model(REFUSED[sentence], {"four": np.ones(4, np.float32)}, opset=OPSETS.get(sentence, 13))
    with pytest.raises(CheckpointError, match=sentence) as refusal:
        importer.convert(made.SerializeToString())
    assert len(str(refusal.value)) < 200


def test_a_norm_that_gives_its_statistics_is_in_training_mode() -> None:
    """Before opset 14 nothing else says it; onnxruntime normalises over the batch then."""
    norm = helper.make_node("BatchNormalization", ["x", *["one"] * 4], ["r", "m", "v", "mm", "vv"])
    made = linear(norm, source="r", tensors={"one": np.ones(1, np.float32)})
    made.opset_import[0].version = 11
    with pytest.raises(CheckpointError, match=r"over its batch \(training mode\)"):
        importer.convert(made.SerializeToString())
    del norm.output[1:]
    made.graph.node[0].CopyFrom(norm)
    assert importer.convert(made.SerializeToString())


@pytest.mark.parametrize("kind", ["Softmax", "LogSoftmax"])
def test_a_softmax_of_old_opsets_goes_over_all_that_follows(kind: str) -> None:
    """Where no axis is given: from the first axis of an image on, not over the last one."""
    n, images = helper.make_node, torch.rand(3, 1, 28, 28)
    kernel = turned(np.random.default_rng(0).standard_normal((10, 1, 28, 28)))
    nodes = [n("Conv", ["x", "k"], ["c"]), n(kind, ["c"], ["y"])]
    wanted = F.conv2d(images, torch.from_numpy(kernel)).flatten(1).log_softmax(1)
    got = answer(nodes, {"k": kernel}, images, opset=9)
    torch.testing.assert_close(got, wanted.exp() if kind == "Softmax" else wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("axis", [1, -3])
def test_an_axis_of_flatten_counts_from_the_back_too(axis: int) -> None:
    images = torch.rand(3, 3, 32, 32)
    got = answer([helper.make_node("Flatten", ["x"], ["y"], axis=axis)], {}, images, input_shape=(1, 3, 32, 32))
    assert torch.equal(got, images.flatten(1))


def test_nodes_that_the_scores_do_not_need_do_not_matter() -> None:
    """Left over by an editor of graphs, or for the class that scikit-learn's networks give beside."""
    n, images = helper.make_node, torch.rand(3, 1, 28, 28)
    scores, top = n("Flatten", ["x"], ["y"]), n("ArgMax", ["y"], ["top"])
    label = n("ArrayFeatureExtractor", ["classes", "top"], ["label"], domain="ai.onnx.ml")
    made = model([scores, top, label], {"classes": np.arange(784)})
    for outputs in (("y",), ("label", "y")):
        del made.graph.output[:]
        made.graph.output.extend(helper.make_tensor_value_info(one, 1 if one == "y" else 7, None) for one in outputs)
        (imported,) = importer.convert(made.SerializeToString())
        assert torch.equal(imported.body()(images), images.flatten(1))


def test_an_attribute_that_no_activation_has_is_named() -> None:
    made = linear(helper.make_node("Gelu", ["x"], ["g"], approximate="tanj"), source="g")
    made.opset_import[0].version = 20
    with pytest.raises(CheckpointError, match=r"Gelu \(giving g\) cannot be computed"):
        importer.convert(made.SerializeToString())


def test_one_of_several_outputs_is_chosen(tmp_path: Path) -> None:
    """Nodes that it does not need, here a class, matter to nothing."""
    made = linear(helper.make_node("ArgMax", ["x"], ["top"]))
    made.graph.node.append(helper.make_node("Neg", ["y"], ["negative"]))
    made.graph.output.extend(helper.make_tensor_value_info(name, 0, None) for name in ("negative", "top"))
    path = tmp_path / "upload.onnx"
    path.write_bytes(made.SerializeToString())
    images = torch.rand(2, 1, 28, 28)
    given = {"mean": [0.0], "std": [1.0]}
    with torch.no_grad():
        first, negative = (load(path, stage=name, **given)(images) for name in (None, "negative"))
    assert torch.equal(first, -negative)
    report, _ = inspect(path, Hints(dataset="mnist-5k", stage="negative", **given))
    assert (report["stage"], report["stages"]) == ("negative", ["y", "negative", "top"])
    assert (
        "The graph has 3 outputs (y, negative, top); negative is used, and the others can be chosen."
        in report["warnings"]
    )
    with pytest.raises(CheckpointError, match=r"ends in a class and not in scores \(ArgMax\)"):
        load(path, stage="top", **given)
    made.graph.output.insert(0, made.graph.output[2])  # a class before the scores
    del made.graph.output[3]
    path.write_bytes(made.SerializeToString())
    with torch.no_grad():
        assert torch.equal(load(path, **given)(images), first)
    with pytest.raises(CheckpointError, match="has no output other; it has y, negative, top"):
        load(path, stage="other", **given)


def test_a_graph_that_answers_yes_or_no_is_refused() -> None:
    made = model([helper.make_node("Greater", ["x", "c"], ["y"])], {"c": np.zeros(1, np.float32)})
    with pytest.raises(CheckpointError, match="not one number for each class"):
        importer.convert(made.SerializeToString())


@needs_uploads
@pytest.mark.parametrize("path", sorted(UPLOADS.glob("*.onnx")), ids=lambda path: path.name)
def test_real_files_answer_as_onnxruntime_does(path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    imported = importer.convert(path.read_bytes())[0]
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    place = session.get_inputs()[0]
    images = torch.rand(4, *imported.input_shape)
    with torch.no_grad():
        got = imported.body()(images)
    sizes = [1 if not isinstance(size, int) else size for size in place.shape]
    for image, answer in zip(images, got, strict=True):
        fed = image.permute(1, 2, 0) if sizes[-1] == 3 else image
        wanted = session.run(None, {place.name: fed.reshape(sizes).numpy()})[0]
        np.testing.assert_allclose(answer.numpy(), wanted[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("pads", ["SAME_UPPER", "SAME_LOWER"])
def test_pads_that_programs_read_differently_are_refused(pads: str) -> None:
    """Steps of 3 by a kernel of 1 on 6 pixels: the standard's sum of pads is -2."""
    pool = helper.make_node("AveragePool", ["x"], ["p"], kernel_shape=[1, 1], strides=[3, 3], auto_pad=pads)
    flat = helper.make_node("Flatten", ["p"], ["y"])
    with pytest.raises(CheckpointError, match="leap over pixels"):
        importer.convert(model([pool, flat], input_shape=(1, 1, 6, 6)).SerializeToString())
