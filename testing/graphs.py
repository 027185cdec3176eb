"""Random ONNX graphs: one operation on images with random shapes, attributes and opset, or a chain of several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, helper, numpy_helper

Random = np.random.Generator
Array = npt.NDArray[Any]
Drawn = tuple[Sequence[Any], dict[str, Any]]  # what a node takes beside its first input ("" leaves it out), attributes
FIRST = {"Erf": 9, "Where": 9, "Mish": 18, "Gelu": 20, "HardSwish": 14, "Celu": 12, "ThresholdedRelu": 10,
         "GreaterOrEqual": 12, "LessOrEqual": 12}  # fmt: skip
COMPARED = ("Greater", "Less", "GreaterOrEqual", "LessOrEqual")
PAIRS = ("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Sum")


def floats(random: Random, *shape: int, low: float = -1.5, high: float = 1.5) -> Array:
    return random.uniform(low, high, shape).astype(np.float32)


def whole(*numbers: int) -> Array:
    return np.array(numbers, np.int64)


def _window(random: Random, shape: Sequence[int], pool: bool) -> dict[str, Any]:
    """Kernel, strides, and pads or automatic padding of a convolution or pool."""
    kernel = [int(random.integers(1, min(size, 4) + 1)) for size in shape[2:]]
    made: dict[str, Any] = {"kernel_shape": kernel, "strides": [int(random.integers(1, 4)) for _ in kernel]}
    kind = random.integers(4)
    if kind == 0:
        made["auto_pad"] = str(random.choice(["SAME_UPPER", "SAME_LOWER", "VALID"]))
    elif kind > 1:
        made["pads"] = [int(random.integers(0, size)) for size in kernel * 2]
        if kind == 2:
            made["pads"] = made["pads"][:2] * 2
    return made


def _conv(random: Random, shape: Sequence[int], opset: int) -> Drawn:
    made, channels = _window(random, shape, False), shape[1]
    groups = channels if random.random() < 0.3 else 1
    outputs = groups * int(random.integers(1, 4))
    if random.random() < 0.3 and "auto_pad" not in made and 2 * max(made["kernel_shape"]) - 1 <= min(shape[2:]):
        made["dilations"] = [2, 2]
    weight = floats(random, outputs, channels // groups, *made["kernel_shape"])
    bias = [floats(random, outputs)] if random.random() < 0.6 else []
    if random.random() < 0.5:
        del made["kernel_shape"]
    return [weight, *bias], made | ({"group": groups} if groups > 1 else {})


def _pool(op: str) -> Callable[[Random, Sequence[int], int], Drawn]:
    def draw(random: Random, shape: Sequence[int], opset: int) -> Drawn:
        made = _window(random, shape, True)
        if opset >= 10 and random.random() < 0.3:
            made["ceil_mode"] = 1
        if op == "AveragePool" and random.random() < 0.5:
            made["count_include_pad"] = 1
        return [], made

    return draw


def _axes(random: Random, shape: Sequence[int], opset: int, since: int, *, ones: bool = False) -> Drawn:
    places = [place for place, size in enumerate(shape) if place and (size == 1 or not ones)]
    chosen = (
        sorted(random.choice(places, int(random.integers(1, len(places) + 1)), replace=False).tolist())
        if places
        else [1]
    )
    chosen = [int(place) - (len(shape) if random.random() < 0.3 else 0) for place in chosen]
    return ([whole(*chosen)], {}) if opset >= since else ([], {"axes": chosen})


def _reduce(since: int) -> Callable[[Random, Sequence[int], int], Drawn]:
    def draw(random: Random, shape: Sequence[int], opset: int) -> Drawn:
        rest, made = _axes(random, shape, opset, since)
        return rest, made | ({"keepdims": int(random.integers(2))} if random.random() < 0.7 else {})

    return draw


def _broadcastable(random: Random, shape: Sequence[int]) -> Array:
    sizes = [1] + [size if random.random() < 0.5 else 1 for size in shape[1:]]
    return floats(random, *sizes[int(random.integers(0, len(sizes) + 1)) :])


def _pair(op: str) -> Callable[[Random, Sequence[int], int], Drawn]:
    def draw(random: Random, shape: Sequence[int], opset: int) -> Drawn:
        count = int(random.integers(1, 4)) if op in ("Max", "Min", "Sum") else 1
        found: list[Any] = [_broadcastable(random, shape) for _ in range(count)]
        if op == "Pow":
            found = [np.float32(random.choice([2.0, 3.0]))]
        if op == "Div":
            found = [np.abs(one) + np.float32(0.2) for one in found]
        return found, {}

    return draw


def _clip(random: Random, shape: Sequence[int], opset: int) -> Drawn:
    low, high = np.float32(random.uniform(-2, 0.5)), np.float32(random.uniform(-0.5, 2))
    given = int(random.integers(4))
    if opset < 11:
        return [], {name: float(v) for bit, (name, v) in enumerate((("min", low), ("max", high))) if given >> bit & 1}
    return [low if given & 1 else "", *([high] if given & 2 else [])], {}


def _pad(random: Random, shape: Sequence[int], opset: int) -> Drawn:
    pads = [0 if place in (0, len(shape)) else int(random.integers(0, 3)) for place in range(2 * len(shape))]
    value = float(random.choice([0.0, 0.5, -1.0]))
    if opset < 11:
        return [], {"pads": pads, "value": value}
    if random.random() < 0.2:
        pads = [
            -1 if 1 < place < len(shape) and size > 2 else 0 for place, size in enumerate([*shape, *[0] * len(shape)])
        ]
    return [whole(*pads), np.float32(value)], {}


def _slice(random: Random, shape: Sequence[int], opset: int) -> Drawn:
    axes = sorted(random.choice(range(1, len(shape)), int(random.integers(1, len(shape))), replace=False).tolist())
    starts = [int(random.integers(-shape[axis], shape[axis])) for axis in axes]
    ends = [int(random.choice([1 << 31, *range(1, shape[axis] + 1)])) for axis in axes]
    if opset < 10:
        return [], {"axes": axes, "starts": starts, "ends": ends}
    steps = [whole(*(int(random.integers(1, 3)) for _ in axes))] if random.random() < 0.5 else []
    return [whole(*starts), whole(*ends), whole(*axes), *steps], {}


def _reshape(random: Random, shape: Sequence[int], opset: int) -> Drawn:
    rest = int(np.prod(shape[1:]))
    sizes = {0: [-1, rest], 1: [0, -1], 2: [0, shape[1], -1], 3: [1, -1], 4: [0, 0, -1, 1]}[int(random.integers(5))]
    return [whole(*sizes)], {}


def _unsqueeze(random: Random, shape: Sequence[int], opset: int) -> Drawn:
    axis = int(random.integers(1, len(shape) + 1)) - (len(shape) + 1 if random.random() < 0.3 else 0)
    return ([whole(axis)], {}) if opset >= 13 else ([], {"axes": [axis]})


def _gemm(random: Random, shape: Sequence[int], opset: int) -> Drawn:
    turned, outputs = int(random.integers(2)), int(random.integers(1, 6))
    weight = floats(random, *((outputs, shape[1]) if turned else (shape[1], outputs)))
    bias = (
        [floats(random, *[(outputs,), (1, outputs), (1,), ()][int(random.integers(4))])]
        if random.random() < 0.6
        else []
    )
    if opset < 11 and not bias:
        bias = [floats(random, outputs)]
    made: dict[str, Any] = {"transB": turned}
    if random.random() < 0.4:
        made |= {"alpha": 0.5, "beta": float(random.choice([0.0, 2.0]))}
    return [weight, *bias], made


def _norm(random: Random, shape: Sequence[int], opset: int) -> Drawn:
    positive = floats(random, shape[1], low=0.1, high=2.0)
    rest = [floats(random, shape[1]) for _ in range(3)]
    return [*rest, positive], {"epsilon": float(random.choice([1e-5, 1e-3, 0.1]))}


def _instance(random: Random, shape: Sequence[int], opset: int) -> Drawn:
    return [floats(random, shape[1]), floats(random, shape[1])], {"epsilon": float(random.choice([1e-5, 0.1]))}


def _numbers(*names: str, **usual: float) -> Callable[[Random, Sequence[int], int], Drawn]:
    def draw(random: Random, shape: Sequence[int], opset: int) -> Drawn:
        return [], {name: float(np.float32(random.uniform(0.1, 2.5))) for name in names if random.random() < 0.7}

    return draw


def _prelu(random: Random, shape: Sequence[int], opset: int) -> Drawn:
    return [_broadcastable(random, shape)], {}


def _softmax(random: Random, shape: Sequence[int], opset: int) -> Drawn:
    return [], {"axis": int(random.integers(-len(shape) + 1, len(shape)))} if random.random() < 0.8 else {}


def _flatten(random: Random, shape: Sequence[int], opset: int) -> Drawn:
    return [], {} if random.random() < 0.5 else {"axis": 1}


def _transpose(random: Random, shape: Sequence[int], opset: int) -> Drawn:
    return [], {"perm": [0, *(random.permutation(len(shape) - 1) + 1).tolist()]}


def _matmul(random: Random, shape: Sequence[int], opset: int) -> Drawn:
    return [floats(random, shape[-1], int(random.integers(1, 6)))], {}


def _where(random: Random, shape: Sequence[int], opset: int) -> Drawn:
    return [_broadcastable(random, shape), "x" if random.random() < 0.5 else _broadcastable(random, shape)], {}


def _nothing(random: Random, shape: Sequence[int], opset: int) -> Drawn:
    return [], {}


def _gelu(random: Random, shape: Sequence[int], opset: int) -> Drawn:
    return [], {"approximate": str(random.choice(["none", "tanh"]))} if random.random() < 0.7 else {}


def _concat(random: Random, shape: Sequence[int], opset: int) -> Drawn:
    axis, more = int(random.integers(1, len(shape))), int(random.integers(1, 3))
    stored = [1, *shape[1:axis], int(random.integers(1, 4)), *shape[axis + 1 :]]
    rest: list[Any] = ["x" if random.random() < 0.5 else floats(random, *stored) for _ in range(more)]
    return rest, {"axis": axis}


def _cast(random: Random, shape: Sequence[int], opset: int) -> Drawn:
    return [], {"to": int(random.choice([1, 6, 7, 9, 10, 11]))}


DRAW: dict[str, Callable[[Random, Sequence[int], int], Drawn]] = {
    "Conv": _conv, "MaxPool": _pool("MaxPool"), "AveragePool": _pool("AveragePool"), "Gemm": _gemm, "MatMul": _matmul,
    "BatchNormalization": _norm, "InstanceNormalization": _instance, "Clip": _clip, "Pad": _pad, "Slice": _slice,
    "Reshape": _reshape, "Unsqueeze": _unsqueeze, "Transpose": _transpose, "Flatten": _flatten, "PRelu": _prelu,
    "Squeeze": lambda r, s, o: _axes(r, s, o, 13, ones=True), "ReduceMean": _reduce(18), "ReduceSum": _reduce(13),
    "ReduceMax": _reduce(18), "ReduceMin": _reduce(18), "Softmax": _softmax, "LogSoftmax": _softmax,
    "Elu": _numbers("alpha"), "LeakyRelu": _numbers("alpha"), "Celu": _numbers("alpha"), "Gelu": _gelu,
    "Selu": _numbers("alpha", "gamma"), "ThresholdedRelu": _numbers("alpha"), "HardSigmoid": _numbers("alpha", "beta"),
    "Concat": _concat, "Cast": _cast, "Where": _where, **{name: _pair(name) for name in PAIRS},
    **{name: _pair(name) for name in COMPARED},
}  # fmt: skip


def graph(random: Random, ops: Sequence[str]) -> ModelProto:
    """A graph with these operations one after the other, on images (N, C, H, W) whose sizes are drawn.

    Shapes between the nodes are those that onnx infers; an operation that wants another rank gets a Reshape before.
    """
    from onnx import shape_inference

    opset = int(random.integers(max(7, *(FIRST.get(op, 7) for op in ops)), 22))
    batch: Any = [1, "N"][int(random.integers(2))]
    image = [int(random.choice([1, 3])), 28 if random.random() < 0.3 else int(random.integers(6, 9)), 0]
    image[2] = image[1]
    nodes: list[Any] = []
    constants: dict[str, Array] = {}
    now, shape = "x", [1, *image]
    for op in ops:
        if len(shape) < 2:  # one number an image is left
            break
        place = len(nodes)
        wanted = _wanted_shape(random, op, shape)
        if wanted != shape:
            constants[f"s{place}"] = whole(0, *wanted[1:])
            nodes.append(helper.make_node("Reshape", [now, f"s{place}"], [f"r{place}"]))
            now, shape = f"r{place}", wanted
        rest, attributes = DRAW.get(op, _nothing)(random, shape, opset)
        names = []
        for i, value in enumerate(rest):
            if isinstance(value, str):
                names.append(now if value == "x" else "")
                continue
            constants[f"c{place}_{i}"] = np.asarray(value)
            names.append(f"c{place}_{i}")
        sources = [now, *names]
        if op in (*PAIRS, *COMPARED) and op != "Pow" and len(sources) == 2 and random.random() < 0.3:
            sources = [now, now] if random.random() < 0.3 else sources[::-1]
        if op == "Concat":
            random.shuffle(sources)
        if op in ("Sqrt", "Log", "Reciprocal"):
            nodes.append(helper.make_node("Abs", [now], [f"a{place}"]))
            constants[f"t{place}"] = np.full((), 0.3, np.float32)
            nodes.append(helper.make_node("Add", [f"a{place}", f"t{place}"], [f"b{place}"]))
            sources[0] = f"b{place}"
        if op == "Where":
            nodes.append(helper.make_node("Greater", [now, _zero(constants)], [f"g{place}"]))
            sources = [f"g{place}", *sources[1:]]
        nodes.append(helper.make_node(op, sources, [f"y{place}"], **attributes))
        now = f"y{place}"
        if op in (*COMPARED, "Cast"):
            nodes.append(helper.make_node("Cast", [now], [f"f{place}"], to=1))
            now = f"f{place}"
        shape = _shape(shape_inference, nodes, constants, [1, *image], now, opset) or shape
    nodes.append(helper.make_node("Flatten", [now], ["y"]))
    return _model(nodes, constants, [batch, *image], opset)


def _zero(constants: dict[str, Array]) -> str:
    constants["zero"] = np.zeros(1, np.float32)
    return "zero"


def _wanted_shape(random: Random, op: str, shape: list[int]) -> list[int]:
    rest = int(np.prod(shape[1:]))
    if op == "Gemm":
        return [1, rest]
    if op in ("Conv", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"):
        return shape if len(shape) == 4 else [1, 1, 1, rest]
    if op == "Squeeze" and random.random() < 0.7:
        return [1, rest, 1]
    if random.random() < 0.3:
        return [[1, rest], [1, shape[1], rest // shape[1]], [1, rest // shape[-1], 1, shape[-1]]][
            int(random.integers(3))
        ]
    return shape


def _model(nodes: list[Any], constants: dict[str, Array], shape: Sequence[Any], opset: int) -> ModelProto:
    made = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", 1, shape)], [helper.make_tensor_value_info("y", 1, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )  # fmt: skip
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def _shape(
    inference: Any, nodes: list[Any], constants: dict[str, Array], shape: Sequence[int], name: str, opset: int
) -> list[int] | None:
    inferred = inference.infer_shapes(_model(nodes, constants, shape, opset), data_prop=True)
    for value in inferred.graph.value_info:
        if value.name == name:
            sizes = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
            return sizes if sizes and all(sizes) else None
    return None
