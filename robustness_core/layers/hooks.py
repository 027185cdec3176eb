"""Layers of a network that cannot be traced: the outputs of its named modules, by forward hooks.

Nothing proves that such a layer is a cut: information may pass beside it, and then a collision at the layer says
nothing of what comes after it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from robustness_core import operations
from robustness_core.errors import NetworkError
from robustness_core.layers.dominators import Cut

_BATCH = 3  # a tensor of so many rows holds features of so many images


@dataclass(frozen=True)
class _Call:
    """One module that ran: its path, what it works on and what it gives, by identity, and its shape without rows."""

    path: str
    kind: str
    reads: int
    gives: int
    shape: tuple[int, ...]


def cuts(network: nn.Module, input_shape: Sequence[int]) -> list[Cut]:
    """The outputs of the named modules, in the order in which they are done; the last is the network's own.

    Left out: modules that run not once, or give no floating tensor with a row an image; reshapes; and what only passes
    on the tensor of a module before it. None counts as affine. Cost: one pass of three images. Raises NetworkError.
    """
    calls, output = _run(network, tuple(input_shape))
    times = [call.path for call in calls]
    seen: set[int] = set()
    kept: list[_Call] = []
    for call in calls:
        if times.count(call.path) == 1 and call.gives not in seen and call.kind != "reshape":
            kept.append(call)
        seen.add(call.gives)
    if not kept or kept[-1].gives != output.gives:
        kept.append(output)
    last = len(kept) - 1
    return [
        Cut("logits" if place == last else call.path, call.shape, math.prod(call.shape), False, place == last or main)
        for place, call in enumerate(kept)
        for main in (not any(one.reads == call.gives and one.kind in ("activation", "norm") for one in kept),)
    ]


def extractor(network: nn.Module, cut_name: str, input_shape: Sequence[int] | None = None) -> nn.Module:
    """The network up to the output of a module; as `dominators.extractor`, but what comes after it is not run."""
    shape = tuple(input_shape if input_shape is not None else getattr(network, "input_shape", ()))
    names = [cut.name for cut in cuts(network, shape)]
    if cut_name not in names:
        raise NetworkError(f"The network has no layer {cut_name!r}; it has {', '.join(names)}.")
    frozen = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in network.parameters()}
    own = copy.deepcopy(network, frozen).eval()
    return _UpTo(own, "" if cut_name == names[-1] else cut_name)


class _Reached(Exception):
    def __init__(self, features: Tensor):
        self.features = features


class _UpTo(nn.Module):
    """(B, C, H, W) -> what the module at `path` of the network's body gives; the network's own output without one."""

    affine = False

    def __init__(self, network: nn.Module, path: str):
        super().__init__()
        self.network, self.path = network, path

    def forward(self, pixels: Tensor) -> Tensor:
        if not self.path:
            return self.network(pixels)  # type: ignore[no-any-return]

        def reached(module: nn.Module, inputs: Any, output: Tensor) -> None:
            raise _Reached(output)

        handle = _body(self.network).get_submodule(self.path).register_forward_hook(reached)
        try:
            self.network(pixels)
        except _Reached as end:
            return end.features
        finally:
            handle.remove()
        raise NetworkError(f"The module {self.path} did not run for these images; choose another layer.")


def _body(network: nn.Module) -> nn.Module:
    body = getattr(network, "body", network)
    return body if isinstance(body, nn.Module) else network


def _run(network: nn.Module, shape: tuple[int, ...]) -> tuple[list[_Call], _Call]:
    """What ran on three images, in the order in which it was done; the network's own output."""
    calls: list[_Call] = []
    held: list[Any] = []  # so that no two tensors have one identity

    def watch(path: str, module: nn.Module) -> Callable[..., None]:
        def done(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if isinstance(output, Tensor) and output.ndim > 1 and len(output) == _BATCH and output.is_floating_point():
                held.extend([*inputs, output])
                reads = id(inputs[0]) if inputs else 0
                sizes = tuple(int(size) for size in output.shape[1:])
                calls.append(_Call(path, operations.of(module).kind, reads, id(output), sizes))

        return done

    handles = [
        module.register_forward_hook(watch(path, module)) for path, module in _body(network).named_modules() if path
    ]
    weight = next(network.parameters(), torch.empty(0))
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad():
            output = network(torch.zeros((_BATCH, *shape), device=weight.device, dtype=weight.dtype))
    except Exception as error:  # the network's own code may raise anything
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise NetworkError(f"The network cannot be run: {reason[:200]}") from error
    finally:
        network.train(was_training)
        for handle in handles:
            handle.remove()
    if not isinstance(output, Tensor) or output.ndim < 2 or len(output) != _BATCH:
        raise NetworkError("The network must give one tensor with a row for each image.")
    held.append(output)
    return calls, _Call("", "other", 0, id(output), tuple(int(size) for size in output.shape[1:]))
