"""Building blocks of the ONNX conversion: values, the attributes of a node, and the list of steps made so far."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from robustness_core.checkpoints.containers import shown
from robustness_core.errors import CheckpointError
from robustness_core.networks import programs
from robustness_core.networks.programs import INPUT, Step
from robustness_core.operations import DEAREST, ONNX, UNKNOWN, WORDS, effort

Array = npt.NDArray[Any]

MOST_FOLDED = 1 << 22  # numbers of a constant computed while reading
_MOST_FEATURES = 1 << 24  # numbers of one tensor for one image


@dataclass(frozen=True, eq=False)
class Features:
    """A tensor that depends on the images: the step that gives it, its shape for a batch, its kind of numbers."""

    step: str
    shape: tuple[int, ...]
    kind: torch.dtype = torch.float32


Value = Features | Array
Inputs = Sequence[Value | None]


class Builder:
    """The steps made so far, with their weights and shapes. Axis 0 of every tensor must stay the batch.

    `values` holds the tensors of the graph by their names, `users` how often each is used.
    """

    def __init__(self, input_shape: Sequence[int], batch: int, users: Counter[str]):
        self.batch, self.users = batch, users
        self.steps: list[Step] = []
        self.weights: dict[str, dict[str, Tensor]] = {}
        self.values: dict[str, Value] = {}
        self.made: dict[str, Features] = {INPUT: Features(INPUT, (batch, *input_shape))}
        self.numbered: Counter[str] = Counter()
        self.cost = 0.0  # multiplications of one image

    def of(self, step: str) -> Features:
        return self.made[step]

    def emit(
        self,
        kind: str,
        inputs: Sequence[Features],
        settings: Mapping[str, Any] | None = None,
        weights: Mapping[str, Tensor] | None = None,
        *,
        name: str = "",
    ) -> Features:
        """One more step; its shape is computed on the meta device, which costs little."""
        chosen = name or self._name(kind, inputs)
        step = Step(chosen, kind, tuple(value.step for value in inputs), dict(settings or {}))
        with torch.device("meta"):
            module = programs.module_of(step).eval()
            given = [torch.empty(value.shape, dtype=value.kind) for value in inputs]
            # Each number by itself: to ask torch would load its compiler, which takes seconds.
            result = given[0] if WORDS[kind].kind in ("activation", "elementwise") else module(*given)
        shape = tuple(result.shape)
        if math.prod(shape[1:]) > _MOST_FEATURES or math.prod(shape) < 1:
            raise CheckpointError(
                f"The ONNX graph makes a tensor of {math.prod(shape)} numbers; at most {_MOST_FEATURES} are accepted."
            )
        if shape[0] != self.batch:
            raise mixes(kind)
        self.cost += math.prod(shape[1:]) * effort(module)
        if self.cost > DEAREST:
            raise CheckpointError(
                f"The ONNX graph takes over {DEAREST:.2g} multiplications an image: too dear to audit."
            )
        for key, tensor in (weights or {}).items():
            if not torch.isfinite(tensor).all():
                raise CheckpointError("The ONNX file holds NaN or infinite weights; only finite weights are accepted.")
            if tuple(tensor.shape) != tuple(module.state_dict()[key].shape):
                raise ValueError("the weights do not fit")
        self.steps.append(step)
        self.made[chosen] = Features(chosen, shape, result.dtype)
        self.weights[chosen] = dict(weights or {})
        if kind == "bn":
            self.weights[chosen]["num_batches_tracked"] = torch.zeros((), dtype=torch.int64)
        return self.made[chosen]

    def _name(self, kind: str, inputs: Sequence[Features]) -> str:
        if WORDS[kind].kind == "activation" and inputs[0].step != INPUT and not inputs[0].step.endswith(kind):
            chosen = f"{inputs[0].step}_{kind}"
            if chosen not in self.made:
                return chosen
        base = "flatten" if kind == "reshape" else kind
        while True:
            self.numbered[base] += 1
            if f"{base}{self.numbered[base]}" not in self.made:
                return f"{base}{self.numbered[base]}"

    def extend(self, step: str, weights: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Features:
        """The step made last for a tensor, with more weights: how a bias added by its own node gets home."""
        place = next(i for i, made in enumerate(self.steps) if made.name == step)
        self.steps[place] = replace(self.steps[place], settings={**self.steps[place].settings, **settings})
        self.weights[step].update(weights)
        return self.of(step)


def mixes(kind: str) -> CheckpointError:
    return CheckpointError(
        f"The ONNX graph mixes the images of a batch (at {shown(kind)}); export it with the batch as its first axis."
    )


class Node:
    """The attributes of a node, the opset they are meant in, and the word of its operation (empty: it has none)."""

    def __init__(self, node: Any, opset: int):
        import onnx

        self.op, self.opset, self.node = str(node.op_type), opset, node
        self.word = ONNX.get(self.op, UNKNOWN).word
        self.attributes: dict[str, Any] = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}

    def integer(self, name: str, default: int) -> int:
        return int(self.attributes.get(name, default))

    def number(self, name: str, default: float) -> float:
        return float(self.attributes.get(name, default))

    def integers(self, name: str, default: Sequence[int]) -> list[int]:
        return [int(value) for value in self.attributes.get(name, default)]

    def text(self, name: str, default: str) -> str:
        value = self.attributes.get(name, default)
        return value.decode("utf-8") if isinstance(value, bytes) else str(value)

    def axes(self, inputs: Sequence[Value | None], place: int, rank: int) -> list[int] | None:
        """The axes of an operation, an attribute in old opsets and an input in new ones, counted from the front."""
        if "axes" in self.attributes:
            axes = self.integers("axes", ())
        elif len(inputs) > place and inputs[place] is not None:
            axes = [int(axis) for axis in as_constant(inputs[place]).reshape(-1)]
        else:
            return None
        if any(not -rank <= axis < rank for axis in axes):
            raise ValueError("an axis is out of range")
        return [axis % rank for axis in axes]


def as_any(value: Value | None) -> Features:
    """A tensor of the images, of any kind of numbers."""
    if not isinstance(value, Features):
        raise CheckpointError("The ONNX graph uses a stored tensor where one of the images is wanted; export it again.")
    return value


def as_features(value: Value | None) -> Features:
    features = as_any(value)
    if features.kind != torch.float32:
        raise CheckpointError(
            "The ONNX graph computes with whole numbers or truth values made of the image; only floats are supported."
        )
    return features


def as_constant(value: Value | None) -> Array:
    if not isinstance(value, np.ndarray):
        raise CheckpointError("The ONNX graph computes weights or sizes from the image, which is not supported.")
    return value


def as_floats(value: Value | None) -> Tensor:
    array = as_constant(value)
    if array.dtype.kind != "f":
        raise CheckpointError("The ONNX file holds weights that are whole numbers; only float weights are accepted.")
    return torch.from_numpy(np.array(array, dtype=np.float32, order="C"))
