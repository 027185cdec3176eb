"""Makes the files that an upload must survive: functions that return their bytes, so that none is kept here."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import subprocess
import tempfile
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from onnx import AttributeProto, GraphProto, ModelProto, TensorProto, helper, numpy_helper
from torch import Tensor, nn

WITNESS = Path(tempfile.gettempdir()) / f"strata-witness-{os.getpid()}"  # the folder that a payload would make


class Payload:
    """What unpickles into a call of a function."""

    def __init__(self, function: Callable[..., Any] | None = None, *arguments: Any):
        self.call = (function or os.mkdir, arguments or (str(WITNESS),))

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


class _Copy:
    """What unpickles into a copy of a dictionary that the pickle holds once."""

    shared: ClassVar[dict[Any, Any]] = dict.fromkeys(range(5000))

    def __reduce__(self) -> tuple[Any, ...]:
        return OrderedDict, (self.shared,)


class Small(nn.Module):
    """A network of the test module, for whole-module pickles."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(784, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(images.flatten(1))  # type: ignore[no-any-return]


def chain() -> nn.Sequential:
    """A small plain network on 1×28×28, with the same weights every time."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 4, 2, 1), nn.ReLU(), nn.Conv2d(4, 8, 4, 2, 1), nn.ReLU(), nn.Flatten(),
        nn.Linear(392, 16), nn.ReLU(), nn.Linear(16, 10),
    )  # fmt: skip


def state() -> dict[str, Tensor]:
    return dict(chain().state_dict())


def zipped(value: Any) -> bytes:
    """torch.save as it is today."""
    target = io.BytesIO()
    torch.save(value, target)
    return target.getvalue()


def legacy(value: Any) -> bytes:
    """torch.save as it was before version 1.6."""
    target = io.BytesIO()
    torch.save(value, target, _use_new_zipfile_serialization=False)
    return target.getvalue()


def safetensors(tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> bytes:
    from safetensors.torch import save

    return save(dict(tensors), metadata)


def repacked(data: bytes, change: Callable[[str, bytes], tuple[str, bytes] | None], **options: Any) -> bytes:
    """A zip written again, entry by entry; None leaves an entry out."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(target, "w", **options) as new:
        for name in old.namelist():
            kept = change(name, old.read(name))
            if kept is not None:
                new.writestr(*kept)
    return target.getvalue()


def with_entry(data: bytes, name: str, content: bytes, **options: Any) -> bytes:
    target = io.BytesIO(repacked(data, lambda n, c: (n, c)))
    with zipfile.ZipFile(target, "a", **options) as archive:
        archive.writestr(name, content)
    return target.getvalue()


def header(entries: Mapping[str, Any], body: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file from a header of one's own."""
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


# ------------------------------------------------------------------------------------------------------------- pickles


def nested(depth: int) -> Any:
    value: Any = state()
    for _ in range(depth):
        value = {"inner": value}
    return value


def cycle() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["self"] = value
    return value


def bomb() -> bytes:
    """Lists of lists that hold the same list ten times: 10^30 entries in a few hundred bytes."""
    value: list[Any] = []
    for _ in range(30):
        value = [value] * 10
    return zipped({"state_dict": value})


def giant(numel: int) -> bytes:
    """A tensor that declares far more numbers than are stored."""
    small = zipped({"fc.weight": torch.zeros(10, 784)})
    return repacked(small, lambda n, c: (n, c.replace(struct.pack("<H", 784), struct.pack("<H", numel))))


def pickles() -> dict[str, bytes]:
    """Files of torch's kind, each wrong in one way."""
    good, old = zipped(state()), legacy(state())
    payload = Payload()
    evil = {**state(), "extra": payload}
    script = io.BytesIO()
    torch.jit.save(torch.jit.script(Small()), script)
    numbers = io.BytesIO()
    np.savez(numbers, weights=np.array([payload], dtype=object))
    stride = {"0.weight": torch.zeros(1).expand(1 << 20, 1 << 20), "2.weight": torch.zeros(10, 10)}
    flipped = bytearray(good)
    flipped[good.index(b"/data/0PK") if b"/data/0PK" in good else len(good) // 2] ^= 1
    weights = bytearray(good)
    weights[good.rindex(state()["5.weight"].numpy().tobytes()[:64]) + 3] ^= 0x10
    compressed = repacked(good, lambda n, c: (n, c), compression=zipfile.ZIP_DEFLATED)
    inflating = with_entry(good, "archive/data/99", bytes(1 << 26), compression=zipfile.ZIP_DEFLATED)
    lying = bytearray(good)
    place = good.rindex(b"PK\x01\x02")
    lying[place + 20 : place + 28] = struct.pack("<II", 1 << 31, 1 << 31)
    dead = {name: torch.zeros_like(tensor) for name, tensor in state().items()}
    return {
        "code, raw": pickle.dumps(payload),
        "code, raw, protocol 0": pickle.dumps(payload, protocol=0),
        "code, zipped": zipped(payload),
        "code, legacy": legacy(payload),
        "code beside weights, zipped": zipped(evil),
        "code beside weights, legacy": legacy(evil),
        "code in eval": zipped({**state(), "x": Payload(eval, "1+1")}),
        "code in subprocess": zipped({**state(), "x": Payload(subprocess.Popen, ["true"])}),
        "code in torch": zipped({**state(), "x": Payload(torch.load, "x")}),
        "code in a pickle opcode of old": b"\x80\x02(cposix\nmkdir\nS'a'\nox.",
        "code in a numpy archive": numbers.getvalue(),
        "whole module, zipped": zipped(Small()),
        "whole module, legacy": legacy(Small()),
        "TorchScript": script.getvalue(),
        "pt2": with_entry(good, "archive/archive_format", b"pt2"),
        "exported program": with_entry(good, "serialized_exported_program.json", b"{}"),
        "a zip": repacked(good, lambda n, c: (n + ".txt", c)),
        "cut at a quarter": good[: len(good) // 4],
        "cut in the directory": good[:-40],
        "cut by a byte": good[:-1],
        "legacy cut in the magic": old[:9],
        "legacy cut in the pickle": old[:200],
        "legacy cut in the weights": old[:-100],
        "legacy cut by a byte": old[:-1],
        "legacy and more": old + b"more",
        "bit flip in the middle": bytes(flipped),
        "bit flip in the weights": bytes(weights),
        "stride 0": zipped(stride),
        "declared giant": giant(65000),
        "legacy declared giant": legacy({"a": torch.zeros(10, 784)}).replace(
            struct.pack("<H", 784), struct.pack("<H", 65000)
        ),
        "compressed": compressed,
        "deflate bomb": inflating,
        "lying directory": bytes(lying),
        "an entry twice": _twice(good),
        "names that climb": with_entry(good, "../../etc/cron.d/x", b"x"),
        "absolute names": with_entry(good, "/etc/cron.d/x", b"x"),
        "names with backslashes": with_entry(good, "archive\\..\\x", b"x"),
        "20,000 keys": zipped({f"layer{i}": torch.zeros(1, 1) for i in range(20_000)}),
        "20,000 keys in one storage": zipped(_shared(20_000)),
        "400-fold nesting": zipped(nested(400)),
        "a cycle": zipped(cycle()),
        "copies of a dictionary": zipped([_Copy() for _ in range(1000)]),
        "a key of 5,000 digits": zipped({**state(), 10**5000: 1}),
        "a bomb of references": bomb(),
        "NaN": zipped({**state(), "0.weight": torch.full((4, 1, 4, 4), torch.nan)}),
        "infinity": zipped({**state(), "7.bias": torch.full((10,), torch.inf)}),
        "too large for float32": zipped({**state(), "7.bias": torch.full((10,), 1e300, dtype=torch.float64)}),
        "complex": zipped({**state(), "7.bias": torch.zeros(10, dtype=torch.complex64)}),
        "whole numbers": zipped({**state(), "7.weight": torch.zeros(10, 16, dtype=torch.int64)}),
        "quantised": zipped({"a": torch.quantize_per_tensor(torch.zeros(2, 2), 0.1, 0, torch.qint8)}),
        "sparse": zipped({**state(), "7.weight": torch.zeros(10, 16).to_sparse()}),
        "missing key": zipped({k: v for k, v in state().items() if k != "2.weight"}),
        "extra key": zipped({**state(), "9.gamma": torch.zeros(3)}),
        "wrongly shaped key": zipped({**state(), "5.weight": torch.zeros(16, 391)}),
        "bias of a wrong shape": zipped({**state(), "7.bias": torch.zeros(11)}),
        "an empty dict": zipped({}),
        "a number": zipped(3),
        "scalars only": zipped({"a": torch.zeros(())}),
        "empty tensors": zipped({"a.weight": torch.zeros(0, 784), "b.weight": torch.zeros(10, 0)}),
        "dead": zipped(dead),
    }


def _shared(count: int) -> dict[str, Tensor]:
    one = torch.zeros(1000, 1000)
    return {f"layer{i}": one for i in range(count)}


def _twice(data: bytes) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return with_entry(data, "archive/data.pkl", b"\x80\x02N.")


# --------------------------------------------------------------------------------------------------------- safetensors


def tensors_files() -> dict[str, bytes]:
    good = safetensors(state())
    body = bytes(40)
    entry = {"dtype": "F32", "shape": [10], "data_offsets": [0, 40]}
    deep = "[" * 100_000
    return {
        "header longer than the file": struct.pack("<Q", 1 << 60) + good[8:],
        "header of a gigabyte": struct.pack("<Q", 1 << 30) + b"{" + bytes(1000),
        "header that is no JSON": struct.pack("<Q", 10) + b"{" + bytes(100),
        "header nested deeply": struct.pack("<Q", len(deep) + 1) + b"{" + deep.encode(),
        "header with a list": struct.pack("<Q", 9) + b'{"a": [ ]' + body,
        "header with numbers": header({"a": 3}, body),
        "overlapping": header({"a": entry, "b": entry}, body),
        "a gap": header({"a": entry, "b": {**entry, "data_offsets": [80, 120]}}, bytes(120)),
        "more than declared": header({"a": entry}, bytes(80)),
        "less than declared": header({"a": entry}, bytes(20)),
        "a giant": header({"a": {**entry, "shape": [1 << 30, 1 << 30]}}, body),
        "negative sizes": header({"a": {**entry, "shape": [-10]}}, body),
        "huge offsets": header({"a": {**entry, "data_offsets": [0, 1 << 70]}}, body),
        "an unknown kind": header({"a": {**entry, "dtype": "F8_E4M3"}}, body),
        "a name twice": struct.pack("<Q", 134) + (
            b'{"a": {"dtype":"F32","shape":[10],"data_offsets":[0,40]}, "a": {"dtype":"F32","shape":[10],'
            b'"data_offsets":[0,40]}}'.ljust(134)
        ) + body,
        "metadata that are no texts": header({"__metadata__": {"a": 3}, "a": entry}, body),
        "cut": good[:-1],
        "cut in the header": good[:50],
        "20,000 keys": safetensors({f"a{i}": torch.zeros(1, 1) for i in range(20_000)}),
        "NaN": safetensors({**state(), "0.weight": torch.full((4, 1, 4, 4), torch.nan)}),
        "whole numbers": safetensors({"a": torch.zeros(10, 16, dtype=torch.int32)}),
        "an own architecture that does not fit": safetensors(
            state(), {"architecture": "flatten, fc 10", "input_shape": "[1, 28, 28]"}
        ),
        "an own architecture of giants": safetensors(
            state(), {"architecture": "conv 999999 9x9/1 p4, relu, flatten, fc 10", "input_shape": "[1, 28, 28]"}
        ),
        "an own input shape of giants": safetensors(
            state(), {"architecture": "flatten, fc 10", "input_shape": "[1000000, 1000000, 1000000]"}
        ),
        "own steps of giants": safetensors(
            {"fc.weight": torch.zeros(2, 2)},
            {"architecture": "x", "input_shape": "[1, 28, 28]", "program": json.dumps([
                {"name": "fc", "kind": "fc", "inputs": ["input"], "settings": {"inputs": 1 << 40, "outputs": 1 << 20}}
            ])},
        ),
        "an own architecture of 5,000 digits": _own(architecture="flatten, fc " + "9" * 5000),
        "an own pool of giants": _own(architecture="maxpool 99999999999999999999, flatten, fc 10"),
        "an own padding of giants": _own(architecture="conv 4 4x4 p99999999999999999999, flatten, fc 10"),
        "an own mean of 400 digits": _own(mean="[1" + "0" * 400 + "]", std="[1]"),
        "an own input shape of infinity": _own(input_shape="[1e400,28,28]"),
        "an own input shape of nothing": _own(input_shape="null"),
        **{f"own steps, {name}": _own(program=json.dumps(steps)) for name, steps in _broken_steps().items()},
        "a kernel of no size": header({"a.weight": {**entry, "shape": [5, 1, 0, 0], "data_offsets": [0, 0]}}),
        "a scalar for a running mean": safetensors(
            {**state(), "8.running_mean": torch.zeros(()), "8.running_var": torch.ones(())}
        ),
        "a negative variance": safetensors(
            {**state(), "1.running_mean": torch.zeros(4), "1.running_var": torch.tensor([1.0, 1.0, -1e-3, 1.0])}
        ),
        "shapes that no ResNet has": safetensors(
            {"conv1.weight": torch.zeros(8, 3, 3, 3), "layer1.0.conv1.weight": torch.zeros(8),
             "layer2.0.bn1.weight": torch.zeros(()), "layer2.0.conv1.weight": torch.zeros(8, 4, 3, 3),
             "fc.weight": torch.zeros(8)}
        ),
        "own steps of an unknown kind": safetensors(
            {"fc.weight": torch.zeros(2, 2)},
            {"architecture": "x", "input_shape": "[1, 28, 28]", "program": json.dumps([
                {"name": "fc", "kind": "__import__", "inputs": ["input"], "settings": {}}
            ])},
        ),
    }  # fmt: skip


def _own(**said: str) -> bytes:
    """A file that says what it is in these words, which do not fit."""
    usual = {"architecture": "x", "input_shape": "[1, 28, 28]"}
    return safetensors({"logits.weight": torch.zeros(10, 784), "logits.bias": torch.zeros(10)}, usual | said)


def _broken_steps() -> dict[str, Any]:
    """Steps before a full connection that nothing here has written."""
    flat = {"name": "flat", "kind": "reshape", "inputs": ["input"], "settings": {"shape": [784]}}

    def before(kind: str, inputs: list[Any], **settings: Any) -> list[dict[str, Any]]:
        last = {"name": "logits", "kind": "fc", "inputs": ["a"], "settings": {"inputs": 784, "outputs": 10}}
        return [flat, {"name": "a", "kind": kind, "inputs": inputs, "settings": settings}, last]

    return {
        "two tensors to one activation": before("relu", ["flat", "flat"]),
        "inputs that are lists": before("relu", [["flat"]]),
        "a stride of 0": before("slice", ["flat"], places=[None, [0, 784, 0]]),
        "a border of giants": before("pad", ["input"], pads=[100_000] * 4),
        "an activation with a number for a word": before("gelu", ["flat"], approximate=1.0),
        "a softmax over a text": before("softmax", ["flat"], axis="x"),
    }


# ---------------------------------------------------------------------------------------------------------------- ONNX


def model(
    nodes: list[Any],
    tensors: Mapping[str, Any] | None = None,
    *,
    input_shape: tuple[Any, ...] = (1, 1, 28, 28),
    outputs: tuple[str, ...] = ("y",),
    opset: int = 13,
) -> ModelProto:
    """A model with the input x and the outputs named."""
    initializers = [numpy_helper.from_array(np.asarray(t), name) for name, t in (tensors or {}).items()]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, input_shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def linear(*before: Any, source: str = "x", tensors: Mapping[str, Any] | None = None) -> ModelProto:
    """Nodes, then flatten and ten outputs; the nodes must leave `source` with 784 numbers an image."""
    weight = np.random.default_rng(0).standard_normal((10, 784)).astype(np.float32)
    nodes = [
        *before,
        helper.make_node("Flatten", [source], ["flat"]),
        helper.make_node("Gemm", ["flat", "w"], ["y"], transB=1),
    ]
    return model(nodes, {"w": weight, **(tensors or {})})


def external(location: str) -> bytes:
    made = linear()
    tensor = made.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    return bytes(made.SerializeToString())


def with_dims(dims: list[int]) -> bytes:
    made = linear()
    del made.graph.initializer[0].dims[:]
    made.graph.initializer[0].dims.extend(dims)
    return bytes(made.SerializeToString())


def loop() -> ModelProto:
    """A Loop whose condition is always true."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["d"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, ()),
            helper.make_tensor_value_info("c", TensorProto.BOOL, ()),
        ],
        [helper.make_tensor_value_info("d", TensorProto.BOOL, ())],
    )
    return linear(helper.make_node("Loop", ["", "true"], [], body=body), tensors={"true": np.array(True)})


def subgraph() -> ModelProto:
    """A supported operation with a graph hidden in an attribute."""
    node = helper.make_node("Relu", ["x"], ["r"])
    node.attribute.append(AttributeProto(name="hidden", type=AttributeProto.GRAPH, g=GraphProto(name="inner")))
    return linear(node, source="r")


def graphs() -> dict[str, bytes]:
    """ONNX files, each wrong in one way."""
    n = helper.make_node
    good = linear().SerializeToString()
    ints = np.array
    relu = [n("Relu", [f"t{i}" if i else "x"], [f"t{i + 1}"]) for i in range(5000)]
    sparse = linear()
    sparse.graph.sparse_initializer.add().values.name = "s"
    functions = linear()
    functions.functions.add().name = "f"
    dims = {"-1": -1, "2^40": 1 << 40}
    huge = model([n("Flatten", ["x"], ["y"])], input_shape=(1, 1, 1 << 40, 28))
    big = np.array([1 << 20, 1 << 20], np.int64)
    made: dict[str, ModelProto] = {
        "an unknown operation": linear(n("Nonsense", ["x"], ["r"]), source="r"),
        "an unknown domain": linear(n("Relu", ["x"], ["r"], domain="evil.example"), source="r"),
        "a circle": linear(n("Add", ["x", "b"], ["a"]), n("Relu", ["a"], ["b"]), source="b"),
        "a tensor of itself": linear(n("Add", ["x", "a"], ["a"]), source="a"),
        "a name twice": linear(n("Relu", ["x"], ["a"]), n("Tanh", ["x"], ["a"]), source="a"),
        "a missing tensor": linear(n("Add", ["x", "nowhere"], ["a"]), source="a"),
        "5,000 nodes": linear(*relu, source="t5000"),
        "an endless loop": loop(),
        "a hidden graph": subgraph(),
        "sparse weights": sparse,
        "own functions": functions,
        "ConstantOfShape": linear(
            n("ConstantOfShape", ["big"], ["c"]), n("Add", ["x", "c"], ["a"]), source="a", tensors={"big": big}
        ),
        "ConstantOfShape, negative": linear(
            n("ConstantOfShape", ["s"], ["c"]), n("Add", ["x", "c"], ["a"]), source="a",
            tensors={"s": np.array([-1, 4], np.int64)},
        ),
        "Tile": linear(n("Tile", ["x", "big"], ["a"]), source="a", tensors={"big": big}),
        "Expand": linear(n("Expand", ["x", "big"], ["a"]), source="a", tensors={"big": big}),
        "Resize": linear(
            n("Resize", ["x", "", "s"], ["a"]), source="a", tensors={"s": np.array([1, 1, 1e6, 1e6], np.float32)}
        ),
        "a constant that grows": linear(
            n("Add", ["p", "q"], ["r"]), n("Add", ["r", "x"], ["a"]), source="a",
            tensors={"p": np.zeros((1 << 14, 1), np.float32), "q": np.zeros((1, 1 << 14), np.float32)},
        ),
        "Pad": linear(
            n("Pad", ["x", "p"], ["a"]), source="a", tensors={"p": ints([0, 0, 1 << 30, 0, 0, 0, 0, 0], np.int64)}
        ),
        "padding of a convolution": linear(
            n("Conv", ["x", "k"], ["a"], pads=[1 << 30] * 4), source="a",
            tensors={"k": np.ones((1, 1, 3, 3), np.float32)},
        ),
        "a tensor that grows": linear(
            *[n("Concat", [f"g{i}" if i else "x"] * 2, [f"g{i + 1}"], axis=1) for i in range(40)], source="g40"
        ),
        "Reshape to a negative size": linear(
            n("Reshape", ["x", "s"], ["a"]), source="a", tensors={"s": ints([-5, 784], np.int64)}
        ),
        "the batch lost": model(
            [n("Reshape", ["x", "s"], ["a"]), n("MatMul", ["a", "w"], ["y"])],
            {"s": ints([784, 1], np.int64), "w": np.ones((1, 10), np.float32)},
        ),
        "the batch mixed": linear(n("ReduceMean", ["x"], ["m"], axes=[0]), n("Sub", ["x", "m"], ["a"]), source="a"),
        "a convolution without weights": linear(n("Conv", ["x"], ["a"]), source="a"),
        "weights from the image": linear(n("Conv", ["x", "x"], ["a"]), source="a"),
        "NaN": linear(
            n("Conv", ["x", "k"], ["a"]), source="a", tensors={"k": np.full((1, 1, 1, 1), np.nan, np.float32)}
        ),
        "whole weights": linear(
            n("Conv", ["x", "k"], ["a"]), source="a", tensors={"k": np.ones((1, 1, 1, 1), np.int64)}
        ),
        "a negative variance": linear(
            n("BatchNormalization", ["x", "one", "one", "one", "minus"], ["a"]), source="a",
            tensors={"one": np.ones(1, np.float32), "minus": -np.ones(1, np.float32)},
        ),
        "an answer of infinity": linear(
            n("Div", ["x", "zero"], ["a"]), source="a", tensors={"zero": np.zeros((1,), np.float32)}
        ),
        "an input of giants": huge,
        "two inputs": model([n("Add", ["x", "z"], ["y"])]),
        "no output": model([n("Relu", ["x"], ["r"])]),
        "an output of constants": model(
            [n("Constant", [], ["y"], value=numpy_helper.from_array(np.zeros((1, 10), np.float32)))]
        ),
        "opset 3": model([n("Flatten", ["x"], ["y"])], opset=3),
        "opset 99": model([n("Flatten", ["x"], ["y"])], opset=99),
        "no nodes": model([]),
    }  # fmt: skip
    made["two inputs"].graph.input.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, (1, 1, 28, 28)))
    return {
        **{name: bytes(m.SerializeToString()) for name, m in made.items()},
        **{f"dims of {name}": with_dims([10, size]) for name, size in dims.items()},
        "cut": good[: len(good) // 2],
        "cut by a byte": good[:-1],
        **{
            f"data in {place}": external(place)
            for place in ("/etc/passwd", "../../../etc/passwd", "neighbour.bin", "/dev/zero", "/proc/self/environ")
        },
    }


# ------------------------------------------------------------------------------------------------- other kinds of file


def others() -> dict[str, bytes]:
    return {
        "empty": b"",
        "one byte": b"\x80",
        "zeros": bytes(10_000),
        "text": b"hello, world\n" * 100,
        "HTML": b"<html><script>alert(1)</script></html>",
        "PNG": b"\x89PNG\r\n\x1a\n" + bytes(100),
        "gzip": b"\x1f\x8b\x08" + bytes(100),
        "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(100),
        "numpy": b"\x93NUMPY\x01\x00" + bytes(100),
        "a zip of nothing": b"PK\x05\x06" + bytes(18),
        "tar": b"weights".ljust(257, b"\0") + b"ustar\0" + bytes(1000),
        "noise": bytes(np.random.default_rng(1).integers(128, 256, 10_000, dtype=np.uint8)),
        "a line of Python": b"import os; os.system('x')",
    }


NAMES = (
    "<script>alert(1)</script>.weight",
    "[a](javascript:alert(1)).weight",
    "'; DROP TABLE networks; --.weight",
    "a\0b.weight",
    "x" * 5000 + ".weight",
    "\x1b[31mred.weight",
    "‮desrever.weight",
)


def with_name(name: str) -> bytes:
    """A state_dict that must be refused for the layer of this name, so that the name is wanted in the sentence."""
    return zipped(OrderedDict({**state(), name: torch.zeros(3, 3, 3)}))
