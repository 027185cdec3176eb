"""The precision of the descent: bfloat16 or TF32 where this device is faster in it, which a measurement decides."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

PAYS = 1.3  # times as fast as float32 a pass must be; where bfloat16 is emulated it is slower
FEW = 64  # outputs; a Linear of fewer stays float32: it costs little, and what it rounds stands in g itself
WORTH = 4096  # weights to convert; with fewer, conversions cost what products save
_CHANNELS, _IMAGES, _ROUNDS = 64, 32, 5  # of the measurement, which takes about 0.1 s on one core


@dataclass(frozen=True, eq=False)
class Descent:
    """An extractor, (K, C, H, W) -> (K, ...), as the descent computes it, and the name of its precision."""

    extractor: nn.Module
    precision: str = "float32"

    @staticmethod
    def of(extractor: nn.Module, shape: tuple[int, ...], precision: str) -> Descent:
        """`extractor`, in float32, in this precision or, where it or its device has not got that, one less coarse.

        `shape`: (C, H, W); `precision`: one of spec.PRECISIONS.
        """
        weight = next(extractor.parameters(), None)
        device = torch.device("cpu") if weight is None else weight.device
        wanted = fastest(device) if precision == "auto" else precision
        if wanted == "bfloat16":
            converted = in_bfloat16(extractor)
            if converted is not None and runs(converted, shape, device):
                return Descent(converted, "bfloat16")
        return Descent(extractor, "tfloat32" if wanted != "float32" and device.type == "cuda" else "float32")


def in_bfloat16(extractor: nn.Module) -> nn.Module | None:
    """A copy whose convolutions and large linear layers are bfloat16; None where they are too small to be worth it.

    All else, the normalisation and a projection among it, stays float32 or takes the type of what comes in. Weights are
    converted once, images and features where a module of another type begins.
    """
    copied, weights = copy.deepcopy(extractor), 0
    for module in copied.modules():
        if isinstance(module, _ConvNd) or (isinstance(module, nn.Linear) and module.out_features >= FEW):
            module.to(torch.bfloat16)
            weights += module.weight.numel()
        if isinstance(module, _BatchNorm):
            continue  # takes features of either type
        if any(parameter.is_floating_point() for parameter in module.parameters(recurse=False)):
            module.register_forward_pre_hook(_to_own_type)
    return copied if weights >= WORTH else None


def _to_own_type(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    own = next(module.parameters(recurse=False)).dtype
    return tuple(x.to(own) if isinstance(x, Tensor) and x.is_floating_point() else x for x in inputs)


def runs(extractor: nn.Module, shape: tuple[int, ...], device: torch.device) -> bool:
    """Whether the extractor can be computed as it is; a module of somebody else's may want one type throughout."""
    try:
        with torch.no_grad():
            extractor(torch.zeros(2, *shape, device=device))
    except RuntimeError:
        return False
    return True


@cache
def fastest(device: torch.device) -> str:
    """float32, or what is faster than it on this device by PAYS: bfloat16 first, on CUDA then tfloat32."""
    if device.type not in ("cpu", "cuda"):
        return "float32"
    tried = ("float32", "bfloat16", "tfloat32") if device.type == "cuda" else ("float32", "bfloat16")
    best = dict.fromkeys(tried, float("inf"))
    with torch.random.fork_rng(devices=[]):
        layer = nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1).requires_grad_(False).to(device)
    for _ in range(_ROUNDS):  # side by side, and the least of each, so that other work on the machine does not decide
        for name in tried:
            best[name] = min(best[name], _seconds(layer, name))
    return next((name for name in tried[1:] if best[name] * PAYS <= best["float32"]), "float32")


def _seconds(layer: nn.Conv2d, precision: str) -> float:
    """Seconds of a forward and a backward pass of a layer of a medium network."""
    weight = next(layer.parameters())
    if precision == "bfloat16":
        layer = copy.deepcopy(layer).bfloat16()
    images = torch.zeros((_IMAGES, _CHANNELS, 14, 14), device=weight.device)
    images = images.contiguous(memory_format=torch.channels_last).requires_grad_()

    def passes() -> None:
        torch.autograd.grad(layer(images.to(layer.weight.dtype)).float().sum(), images)
        if weight.device.type == "cuda":
            torch.cuda.synchronize(weight.device)

    with tensor_cores(precision == "tfloat32"):
        passes()
        start = time.perf_counter()
        passes()
        return time.perf_counter() - start


@contextmanager
def tensor_cores(allowed: bool) -> Iterator[None]:
    """Whether products of float32 numbers may be rounded to TF32 (CUDA); convolutions stay deterministic."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    try:
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=allowed):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
