"""An executor in the process of the test, and a worker with settings for tests."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from store import Database, workers
from tests.worker import search
from worker.loop import Worker
from worker.running import Settings
from worker.tasks import Answer, Description, Machine, NetworkFile, Task


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
    options = {"batch": 4, "block_seconds": 0.08, "poll_seconds": 0.0, "estimate_pairs": 64, **settings}
    return Worker(db, executor, workers.register(db, "this process", {"torch": "none"}), Settings(**options))
