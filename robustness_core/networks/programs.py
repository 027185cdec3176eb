"""A network as a list of steps from a closed vocabulary: what an ONNX graph becomes, and what is stored of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor, nn

from robustness_core import operations
from robustness_core.errors import NetworkError

INPUT = "input"


@dataclass(frozen=True)
class Step:
    """One tensor: the operation with the word `kind` on the steps named in `inputs` (or "input"), with its settings."""

    name: str
    kind: str
    inputs: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)


class Program(nn.Module):
    """The steps as a module: (B, C, H, W) -> the tensor of the last step. Built by `build`; fx can trace it."""

    def __init__(self, steps: Sequence[Step]):
        super().__init__()
        self.steps = tuple(steps)
        self._wiring: list[tuple[str, tuple[str, ...], tuple[str, ...]]] = []
        last_use = {source: i for i, step in enumerate(steps) for source in step.inputs}
        for i, step in enumerate(steps):
            self.add_module(step.name, module_of(step))
            spent = tuple(s for s in dict.fromkeys(step.inputs) if last_use[s] == i)
            self._wiring.append((step.name, step.inputs, spent))

    def forward(self, images: Tensor) -> Tensor:
        tensors = {INPUT: images}
        latest = images
        for name, inputs, spent in self._wiring:
            latest = self.get_submodule(name)(*[tensors[source] for source in inputs])
            for source in spent:
                del tensors[source]
            tensors[name] = latest
        return latest


def module_of(step: Step) -> nn.Module:
    """The module of one step, with fresh weights. Raises NetworkError."""
    try:
        return operations.WORDS[step.kind].module(step.settings)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise NetworkError(f"The step {step.name} ({step.kind}) cannot be built.") from error


def build(steps: Sequence[Step]) -> Program:
    """The module of a list of steps, with fresh weights. Raises NetworkError if a name is missing or used twice."""
    known = {INPUT}
    for step in steps:
        if step.name in known or not step.name.isidentifier():
            raise NetworkError(f"The step name {step.name!r} is used twice or is no plain word.")
        if not step.inputs or not set(step.inputs) <= known:
            raise NetworkError(f"The step {step.name} works on a tensor that no earlier step gives.")
        known.add(step.name)
    if not steps:
        raise NetworkError("The network has no step.")
    return Program(steps)


def to_json(steps: Sequence[Step]) -> str:
    return json.dumps([asdict(step) for step in steps], separators=(",", ":"))


def from_json(text: str) -> tuple[Step, ...]:
    """The steps that `to_json` wrote. Raises NetworkError."""
    try:
        return tuple(
            Step(str(item["name"]), str(item["kind"]), tuple(map(str, item["inputs"])), dict(item["settings"]))
            for item in json.loads(text)
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise NetworkError("The stored steps of the network cannot be read.") from error


def describe(steps: Sequence[Step]) -> str:
    """The steps in the words of an architecture text where it has them: `conv 16 4x4/2 p1, relu, ..., fc 10`."""
    words = []
    for step in steps:
        s = step.settings
        if step.kind == "conv":
            stride, padding = _one(s["stride"]), _one(s.get("padding", (0, 0)))
            words.append(f"conv {s['outputs']} {s['kernel'][0]}x{s['kernel'][1]}/{stride}" + _padded(padding))
            words[-1] += f" g{s['groups']}" if s.get("groups", 1) > 1 else ""
        elif step.kind == "fc":
            words.append(f"fc {s['outputs']}")
        elif step.kind == "pool":
            kind = "avgpool" if s["average"] else "maxpool"
            words.append(f"{kind} {_one(s['kernel'])}/{_one(s['stride'])}" + _padded(_one(s.get("padding", (0, 0)))))
        elif step.kind == "reshape" and len(s["shape"]) == 1:
            words.append("flatten")
        else:
            words.append(step.kind)
    return ", ".join(words)


def _one(pair: Sequence[int]) -> str:
    return str(pair[0]) if len(set(pair)) == 1 else "x".join(map(str, pair))


def _padded(padding: str) -> str:
    return "" if padding == "0" else f" p{padding}"
