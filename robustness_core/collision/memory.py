"""How many pairs fit in memory at once: measured on the extractor, against a budget."""

from __future__ import annotations

import ctypes
from functools import cache

import psutil
import torch
from torch import Tensor, nn

from robustness_core.collision.matrix_free import MANY_ROWS

SHARE = 0.25  # of the free memory, unless told otherwise
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of malloc.h
LARGEST = {"cpu": 64, "cuda": 512}  # pairs; more is not faster (benchmarks/RESULTS.md)


def pairs_within(extractor: nn.Module, image: Tensor, memory: float | None = None) -> int:
    """Pairs that a search can hold at once within `memory` bytes (default: SHARE of what is free); 1 or more.

    `image`: one image, (1, C, H, W), on the extractor's device. What one image needs is measured: the bytes that
    autograd keeps for its backward pass, plus its rows of the Jacobian, in float32 and float64 (above
    matrix_free.MANY_ROWS rows no Jacobian is formed; some vectors of features take its place).
    """
    kept: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # the tensor itself would hold its graph, and that the weights, for ever

    weights = {t.untyped_storage().data_ptr() for t in [*extractor.parameters(), *extractor.buffers()]}
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        features = extractor(image.detach().requires_grad_())
    activations = sum(size for place, size in kept.items() if place not in weights)
    rows = features[0].numel()
    jacobian = rows * image.numel() * (3 * 4 + 2 * 8) if rows <= MANY_ROWS else 8 * rows * 8
    per_pair = 2 * (2 * activations + jacobian) + 16 * image.numel() * 8
    budget = free_bytes(image.device) * SHARE if memory is None else memory
    return int(max(1, min(budget // per_pair, LARGEST.get(image.device.type, LARGEST["cpu"]))))


@cache
def keep() -> None:
    """Let this process keep the memory that it frees, up to 2 GiB, where its allocator is glibc's.

    Otherwise every pass asks the system for its activations again, page by page: a tenth of the time of a search.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):  # another system
        return
    mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, 2**31 - 1)


def free_bytes(device: torch.device) -> float:
    """Free memory of the device that would compute, in bytes."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    return float(psutil.virtual_memory().available)
