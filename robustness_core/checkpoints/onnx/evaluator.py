"""onnx's own evaluator, with the few operations that version 1.23 gets wrong written anew from the standard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from robustness_core.checkpoints.onnx.steps import Array


def evaluator_of(model: Any) -> Any:
    """What answers as the standard says. Batch norm before opset 14 normalised over the batch; pools went wrong where
    they round up or pad unevenly, and walked through images in Python; softmax meant another thing before opset 13; the
    others fell out of the range of float32."""
    from onnx.reference import ReferenceEvaluator
    from onnx.reference.op_run import OpRun

    class BatchNormalization(OpRun):
        op_domain = ""

        def _run(self, x: Array, *constants: Array, epsilon: float = 1e-5, **_: Any) -> tuple[Array]:
            scale, shift, mean, variance = (one.reshape(-1, *[1] * (x.ndim - 2)) for one in constants)
            return (((x - mean) / np.sqrt(variance + np.float32(epsilon)) * scale + shift).astype(x.dtype),)

    class MaxPool(OpRun):
        op_domain = ""

        def _run(self, x: Array, **attributes: Any) -> tuple[Array]:
            return (_windows(x, -np.inf, -np.inf, **attributes).max((4, 5)),)

    class AveragePool(OpRun):
        op_domain = ""

        def _run(self, x: Array, count_include_pad: int = 0, **attributes: Any) -> tuple[Array]:
            counted = np.broadcast_to(np.float32(1), (1, 1, *x.shape[2:]))
            count = _windows(counted, float(count_include_pad or 0), 0.0, **attributes).sum((4, 5))
            return ((_windows(x, 0.0, 0.0, **attributes).sum((4, 5)) / count).astype(x.dtype),)

    old = next(entry.version for entry in model.opset_import if entry.domain == "") < 13

    class LogSoftmax(OpRun):
        op_domain = ""

        def _run(self, x: Array, axis: int | None = None) -> tuple[Array]:
            if axis is None or not self.onnx_node.attribute:  # else what stands there is the newest default
                axis = 1 if old else -1
            over = x.reshape(*x.shape[: axis % x.ndim], -1) if old else x  # all that follows, as one axis
            shifted = over - over.max(-1 if old else axis, keepdims=True)
            sums = np.log(np.exp(shifted).sum(-1 if old else axis, keepdims=True))
            return ((shifted - sums).reshape(x.shape),)

    class Softmax(LogSoftmax):
        op_domain = ""

        def _run(self, x: Array, axis: int | None = None) -> tuple[Array]:
            return (np.exp(super()._run(x, axis)[0]),)

    class Softplus(OpRun):
        op_domain = ""

        def _run(self, x: Array) -> tuple[Array]:
            return (np.logaddexp(np.float32(0), x),)

    class Mish(OpRun):
        op_domain = ""

        def _run(self, x: Array) -> tuple[Array]:
            return (x * np.tanh(np.logaddexp(np.float32(0), x)),)

    operations = [BatchNormalization, MaxPool, AveragePool, LogSoftmax, Softmax, Softplus, Mish]
    return ReferenceEvaluator(model, new_ops=operations)


def _windows(
    x: Array,
    border: float,
    beyond: float,
    *,
    kernel_shape: Sequence[int],
    strides: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    **_: Any,
) -> Array:
    """The windows (N, C, H', W', h, w) of a pool on (N, C, H, W) within `border`; `beyond` is what rounding up adds."""
    before, after, rest, steps = [], [], [], []
    ends: list[int] = list(pads or [0] * 4)
    for axis, kernel in enumerate(kernel_shape):
        size, stride, gap = x.shape[2 + axis], (strides or [1, 1])[axis], (dilations or [1, 1])[axis]
        reach = (kernel - 1) * gap + 1
        first, last = (ends[axis], ends[2 + axis]) if auto_pad == "NOTSET" else (0, 0)
        if auto_pad.startswith("SAME"):
            total = max((-(-size // stride) - 1) * stride + reach - size, 0)
            first = total // 2 if auto_pad == "SAME_UPPER" else total - total // 2
            last = total - first
        room = size + first + last - reach
        number = room // stride + 1
        if ceil_mode and room % stride and number * stride < size + first:  # no window starts beyond the image
            number += 1
        before.append(first)
        after.append(last)
        rest.append(max((number - 1) * stride + reach - size - first - last, 0))
        steps.append((reach, stride, gap, number))
    padded = np.pad(x, [(0, 0), (0, 0), *zip(before, after, strict=True)], constant_values=border)
    padded = np.pad(padded, [(0, 0), (0, 0), *((0, more) for more in rest)], constant_values=beyond)
    windows = np.lib.stride_tricks.sliding_window_view(padded, [one[0] for one in steps], (2, 3))
    (down, high, rows), (across, wide, columns) = (one[1:] for one in steps)
    return windows[:, :, ::down, ::across, ::high, ::wide][:, :, :rows, :columns]
