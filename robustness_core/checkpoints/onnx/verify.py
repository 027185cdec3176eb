"""The check that every converted graph passes: it answers as onnx's own evaluator does."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robustness_core.checkpoints.containers import shown
from robustness_core.checkpoints.onnx.checks import UINT8, dims, graph_input
from robustness_core.checkpoints.onnx.evaluator import evaluator_of
from robustness_core.checkpoints.onnx.steps import Array, mixes
from robustness_core.errors import CheckpointError

_RANGES = ((0.0, 1.0), (-3.0, 3.0), (0.0, 3.0), (-3.0, 3.0))  # of the images compared: a search may leave [0, 1]
_CHEAP = 5e8  # multiplications of an image, above which two are compared
_LARGEST_BATCH = 128
_GAP = 1e-3  # of the largest number of an answer


def probes(shape: Sequence[int], count: int = len(_RANGES)) -> Tensor:
    """Images (count, *shape), uniform in the ranges above."""
    images = torch.rand((count, *shape), generator=torch.Generator().manual_seed(0))
    low, high = (torch.tensor([one[end] for one in _RANGES[:count]]).view(-1, 1, 1, 1) for end in (0, 1))
    return low + images * (high - low)


def verify(
    model: Any, body: nn.Module, input_shape: Sequence[int], cost: float, arrange: Callable[[Tensor], Tensor]
) -> None:
    """Compare a program with the graph that it was made from.

    `arrange` brings images (B, C, H, W) to what the graph takes; `cost` is in multiplications an image. Takes some
    images through onnx's evaluator. Raises CheckpointError where a number differs
    by more than a thousandth of the largest, where it is not finite on pixels, or where images do not stay apart.
    """
    images = probes(input_shape, len(_RANGES) if cost < _CHEAP else 2)
    pixels = graph_input(model).type.tensor_type.elem_type == UINT8
    if pixels:
        images = (images.abs() * 85).round() / 255
    with torch.no_grad():
        got = body(images)
        alone = torch.cat([body(image[None]) for image in images])
    if not got.is_floating_point():
        raise CheckpointError("The output of the ONNX graph is not one number for each class.")
    if not torch.isfinite(got[0]).all():
        raise CheckpointError("The network in the ONNX file answers NaN or infinity; it cannot be audited.")
    if not _alike(got, alone):
        raise mixes("its output")
    given = arrange(images).numpy()
    wanted = _reference(model, np.rint(given * 255).astype(np.uint8) if pixels else given)
    if wanted.size != got.numel() or not _alike(got, torch.from_numpy(wanted).reshape(got.shape)):
        raise CheckpointError(
            "The converted network does not answer as onnx's evaluator does; this ONNX graph cannot be used."
        )


def _alike(got: Tensor, wanted: Tensor) -> bool:
    """Whether every number is right to a thousandth of the largest of its image; what is not finite, exactly."""
    finite = wanted.isfinite()
    if not torch.equal(finite, got.isfinite()) or not torch.equal(
        got[~finite].nan_to_num(), wanted[~finite].nan_to_num()
    ):
        return False
    got, wanted = (torch.where(finite, one.double(), 0.0) for one in (got, wanted))
    largest = wanted.abs().amax(1, keepdim=True).clamp_min(1e-6)
    return bool(((got - wanted).abs() <= _GAP * largest).all())


def _reference(model: Any, given: Array) -> Array:
    """What onnx's evaluator answers: all images at once, or in batches of the size that the graph was written for."""
    value, output = graph_input(model), model.graph.output[0].name
    declared = dims(value)[0]

    def answer(batch: Array) -> Array:
        with np.errstate(all="ignore"):
            results: Any = evaluator.run([output], {value.name: batch})
            return np.asarray(results[0], np.float32)

    try:
        evaluator = evaluator_of(model)
        if declared != 1:
            with contextlib.suppress(Exception):  # sizes of a batch may be fixed within the graph
                return answer(given)
        if 1 < declared <= _LARGEST_BATCH:
            return answer(np.resize(given, (declared, *given.shape[1:])))[: len(given)]
        return np.concatenate([answer(image[None]).reshape(1, -1) for image in given])
    except Exception as error:  # of kinds of its own
        reason = f"it holds for batches of {declared} images only" if declared > 1 else shown(type(error).__name__)
        raise CheckpointError(
            f"The ONNX graph does not run in onnx's evaluator ({reason}); export it again."
        ) from error
