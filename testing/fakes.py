"""An executor in the process of the test, a worker with settings for tests, and what it must find."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustness_core import datasets
from robustness_core.engine.tasks import Answer, Description, Machine, NetworkFile, Task
from robustness_core.found import Found
from robustness_core.spec import AuditSpec, SeriesSpec, sample_indices
from store import Database, distances, images, networks, workers
from testing import search
from worker.loop import Worker
from worker.running import Settings

Indices = NDArray[np.int64]


class Inline:
    """An executor that runs each task when it is submitted. `before` is called with each task first."""

    def __init__(self, compute: Callable[[Task, Machine], Answer] = search.compute):
        self.compute = compute
        self.before: Callable[[Task], None] = lambda task: None
        self.tasks: list[Task] = []
        self._busy = False

    def free(self, *, urgent: bool = False) -> int:
        """One task at a time: none is free right after a submission, until the worker has looked again."""
        free, self._busy = int(not self._busy), False
        return free

    def submit(self, task: Task, *, urgent: bool = False) -> Future[Answer]:
        self.tasks.append(task)
        self._busy = True
        self.before(task)
        future: Future[Answer] = Future()
        future.set_result(self.compute(task, Machine()))
        return future

    def abandon(self, future: Future[Answer]) -> None:
        raise AssertionError("nothing hangs here")

    def describe(self) -> Description:
        return Description("this process", {"torch": "none"}, 4)

    def layers(self, file: NetworkFile) -> list[dict[str, Any]]:
        return [{"name": "logits", "shape": (10,), "features": 10, "affine": False, "main": True}]

    def warm(self) -> None:
        pass

    def close(self) -> None:
        pass

    @property
    def blocks(self) -> list[Task]:
        return [task for task in self.tasks if task.kind == "distances"]

    @property
    def pairs(self) -> int:
        """Pairs whose distances were computed."""
        return sum(len(task) for task in self.blocks)


def worker(db: Database, executor: Any, **settings: Any) -> Worker:
    options = {"batch": 4, "block_seconds": 0.08, "poll_seconds": 0.0, **settings}
    return Worker(db, executor, workers.register(db, "this process", {"torch": "none"}), Settings(**options))


def sample(spec: AuditSpec) -> tuple[Indices, Indices]:
    """The images of a question of mnist-5k."""
    data = datasets.load("mnist-5k")
    left, right = (
        sample_indices(data.labels, label, spec.sample.size, spec.sample.seed) for label in spec.sample.classes
    )
    return left, right


def matrix(db: Database, spec: AuditSpec, series: SeriesSpec) -> Found:
    """What the store knows of a series and the images of a question."""
    found = distances.find(db, series)
    assert found is not None
    left, right = ([images.ids(db, "mnist-5k", "train", side.tolist())[i] for i in side] for side in sample(spec))
    return distances.matrix(db, found.id, left, right)


def expected(spec: AuditSpec, layer: str) -> NDArray[np.float64]:
    """What `search.compute` finds at a layer."""
    pixels = datasets.load("mnist-5k").pixels
    left, right = sample(spec)
    a, b = (grid.ravel() for grid in np.meshgrid(left, right, indexing="ij"))
    return search.distance(pixels[a], pixels[b], layer).reshape(len(left), len(right))


def series(db: Database, spec: AuditSpec) -> list[SeriesSpec]:
    network = networks.by_name(db, spec.network)
    assert network is not None
    return spec.search.series(network.sha256, network.features)
