"""A search that can be computed by hand, and its faults; light, since compute processes load it."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robustness_core.engine.tasks import (
    Answer,
    Description,
    Distances,
    Failure,
    Fooled,
    Hints,
    Kept,
    Machine,
    NeedsContent,
    NetworkFile,
    Norms,
    Task,
)
from robustness_core.found import Found
from robustness_core.optimal_loss import least_ball
from robustness_core.spec import SeriesSpec


def distance(left: NDArray[np.uint8], right: NDArray[np.uint8], layer: str) -> NDArray[np.float64]:
    """Half the distance of the images, plus something of the layer: (B, H, W, C) uint8 -> (B,)."""
    apart = (left.astype(float) - right).reshape(len(left), -1) / 255
    half: NDArray[np.float64] = np.linalg.norm(apart, axis=1) / 2
    return half + len(layer)


def task(layer: str = "conv1") -> Task:
    """Three pairs of images of noise."""
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 28, 28, 1), dtype=np.uint8)
    network = NetworkFile("0" * 64, "safetensors", "", (1, 28, 28), None, None)
    return Task("distances", network, SeriesSpec("0" * 64, layer, 5, 0), 196, *pixels)


def compute(task: Task, machine: Machine) -> Answer:
    """Answers like engine.compute, without torch."""
    if task.kind == "norms":
        return Norms(2.0, 50.0, True, np.array([[float(a.sum()) + b.sum() for b in task.right] for a in task.left]))
    if task.kind == "hints":
        rows = [distance(np.broadcast_to(one, task.right.shape), task.right, task.series.layer) for one in task.left]
        return Hints(np.log(np.stack(rows))[None], 0.001)
    if task.kind == "attack":
        return Fooled(np.array([task.budgets[label % len(task.budgets)] for label in task.labels]))
    if task.kind == "sets":
        values = np.array([radius(one, task.series.layer) for one in task.left])
        return Distances(_found(values), (), seconds=len(values) * 0.01)
    values = distance(task.left, task.right, task.series.layer)
    kept = []
    for place in np.argsort(values)[: task.keep]:
        image = np.moveaxis(task.left[place].astype(np.float32) / 255, -1, 0)
        kept.append(Kept(int(place), image, image, {"left": [1.0, 0.0]}))
    return Distances(_found(values), tuple(kept), seconds=len(task) * 0.01)


def radius(images: NDArray[np.uint8], layer: str) -> float:
    """Of the least ball around a set's images, plus something of the layer: (T, H, W, C) uint8."""
    apart = [distance(np.broadcast_to(one, images.shape), images, "") for one in images]
    return least_ball(np.stack(apart))[0] + len(layer)


def _found(values: NDArray[np.float64]) -> Found:
    count = len(values)
    return Found(values, np.zeros(count), np.ones(count, dtype=bool), np.full(count, 10.0))


def describe(machine: Machine) -> Description:
    """Says what it is without loading torch."""
    return Description("fake", {}, 4)


def warm(machine: Machine) -> None:
    """Has nothing to load."""


def demanding(task: Task, machine: Machine) -> Answer:
    """Wants the network's content once a process."""
    if not hasattr(demanding, "seen"):
        if task.network.content is None:
            return NeedsContent()
        demanding.seen = task.network.content  # type: ignore[attr-defined]
    return compute(task, machine)


def faulty(folder: Path, task: Task, machine: Machine) -> Answer:
    """Misbehaves as the files in `folder` say; `LAYER.once` is removed before it is obeyed."""
    if task.kind == "distances":
        for path in folder.glob(f"{task.series.layer}*"):
            fault = path.read_text()
            if path.suffix == ".once":
                path.unlink()
            if fault == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if fault == "hang":
                time.sleep(600)
            if fault == "raise":
                return Failure("The computation failed: no luck.", False, "no luck")
    return compute(task, machine)


def half_a_second_a_pair(task: Task, machine: Machine) -> Answer:
    """Slow, and says so."""
    answer = compute(task, machine)
    if not isinstance(answer, Distances):
        return answer
    time.sleep(0.5 * len(task))
    return replace(answer, seconds=0.5 * len(task))
