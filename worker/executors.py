"""Where blocks run: processes of this machine (`local:N`), or a Dask cluster (`tcp://host:8786`)."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from robustness_core.engine import audit
from robustness_core.engine.audit import ExecutorError
from robustness_core.engine.tasks import Answer, Description, Machine, NetworkFile, Task
from worker import process

Compute = Callable[[Task, Machine], Answer]
POLITENESS = 5  # compute gives way to the dashboard when the cores are all busy
MOST_PROCESSES = 8  # unless told otherwise; each takes some 400 MB


class Executor(audit.Executor, Protocol):
    """Runs tasks elsewhere."""

    def describe(self) -> Description:
        """What computes. Raises StrataError if nothing does."""

    def layers(self, file: NetworkFile) -> list[dict[str, Any]]:
        """The layers of a network, read where torch is."""

    def warm(self) -> None:
        """Load what blocks need in every process that has not, without waiting for it."""

    def close(self) -> None:
        """End everything that was started."""


class LocalExecutor:
    """One process a device or core, each restarted alone when it dies or hangs, and one more for urgent tasks.

    The processes die with the worker, even if that is killed. All but the urgent one give way to other programs.
    """

    def __init__(self, machines: list[Machine], compute: Compute = process.run):
        self._machines = [*machines, machines[0]]  # the last is for urgent tasks
        self._compute = compute
        self._pools: list[ProcessPoolExecutor | None] = [None] * len(self._machines)
        self._running: dict[Future[Any], int] = {}
        self._warm: set[int] = set()  # places that have loaded, or are loading, all that a block needs

    def free(self, *, urgent: bool = False) -> int:
        return len(self._idle(urgent))

    def submit(self, task: Task, *, urgent: bool = False) -> Future[Answer]:
        place = self._idle(urgent)[-1 if urgent else 0]
        return self._start(place, self._compute, task, self._machines[place])

    def abandon(self, future: Future[Answer]) -> None:
        place = self._running.pop(future, None)
        if place is not None:
            self._kill(place)

    def describe(self) -> Description:
        return self._start(0, process.describe, self._machines[0]).result()  # type: ignore[no-any-return]

    def layers(self, file: NetworkFile) -> list[dict[str, Any]]:
        return self._start(0, process.layers, file).result()  # type: ignore[no-any-return]

    def warm(self) -> None:
        for place in self._idle(urgent=True):
            if place not in self._warm:
                self._warm.add(place)
                self._start(place, process.warm, self._machines[place])

    def close(self) -> None:
        idle = self._idle(urgent=True)
        for place, pool in enumerate(self._pools):
            if place in idle and pool is not None:
                pool.shutdown()
            else:
                self._kill(place)

    def _start(self, place: int, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        try:
            future = self._pool(place).submit(function, *arguments)
        except BrokenProcessPool:  # its process died while it had nothing to do
            self._kill(place)
            future = self._pool(place).submit(function, *arguments)
        self._running[future] = place
        return future

    def _idle(self, urgent: bool) -> list[int]:
        for future in [future for future in self._running if future.done()]:
            place = self._running.pop(future)
            if isinstance(future.exception(), BrokenProcessPool):  # the next task gets a new process
                self._kill(place)
        busy = set(self._running.values())
        return [place for place in range(len(self._machines) - (not urgent)) if place not in busy]

    def _pool(self, place: int) -> ProcessPoolExecutor:
        pool = self._pools[place]
        if pool is None:
            context = multiprocessing.get_context("spawn")
            politeness = 0 if place == len(self._machines) - 1 else POLITENESS
            pool = ProcessPoolExecutor(
                1, mp_context=context, initializer=process.prepare, initargs=(os.getpid(), politeness)
            )
            self._pools[place] = pool
        return pool

    def _kill(self, place: int) -> None:
        pool, self._pools[place] = self._pools[place], None
        self._warm.discard(place)
        if pool is not None:
            for process in list((pool._processes or {}).values()):
                process.kill()
            pool.shutdown(wait=True, cancel_futures=True)


class DaskExecutor:
    """A Dask cluster, through its interface for concurrent.futures. Lost workers are Dask's business."""

    def __init__(self, scheduler: str, machine: Machine, compute: Compute = process.run, *, timeout: float = 10):
        try:
            from distributed import Client
        except ModuleNotFoundError as error:
            raise ExecutorError(
                "Dask is not installed here: python3 install.py cluster, or pip install distributed."
            ) from error
        try:
            open_client: Any = Client  # the package has no types
            self._client = open_client(scheduler, timeout=timeout, set_as_default=False)
        except (OSError, ValueError, TimeoutError) as error:
            raise ExecutorError(f"The Dask scheduler {scheduler} does not answer; is it running?") from error
        self._executor = self._client.get_executor(pure=False, retries=2)
        self._scheduler = scheduler
        self._machine = machine
        self._compute = compute
        self._running: set[Future[Answer]] = set()

    def free(self, *, urgent: bool = False) -> int:
        """Each thread of the cluster gets one task to work on and one to go on with, and an urgent one."""
        self._running = {future for future in self._running if not future.done()}
        try:
            threads: int = sum(self._client.nthreads().values())
        except Exception as error:  # of many kinds, and another one once the client has given up
            raise ExecutorError(f"The Dask scheduler {self._scheduler} does not answer any more.") from error
        return max(0, (3 if urgent else 2) * threads - len(self._running))

    def submit(self, task: Task, *, urgent: bool = False) -> Future[Answer]:
        future: Future[Answer] = self._executor.submit(self._compute, task, self._machine)
        self._running.add(future)
        return future

    def abandon(self, future: Future[Answer]) -> None:
        future.cancel()
        self._running.discard(future)

    def describe(self) -> Description:
        if not self._client.nthreads():
            raise ExecutorError(f"The Dask scheduler {self._scheduler} has no workers yet; start some.")
        one: Description = self._executor.submit(process.describe, self._machine).result(timeout=120)
        return replace(one, device=f"Dask, {one.device}")

    def layers(self, file: NetworkFile) -> list[dict[str, Any]]:
        return self._executor.submit(process.layers, file).result(timeout=120)  # type: ignore[no-any-return]

    def warm(self) -> None:
        pass

    def close(self) -> None:
        self._client.close()  # which lets go of every future


def open_executor(
    text: str,
    *,
    device: str = "auto",
    memory: float | None = None,
    precision: str = "auto",
    compute: Compute = process.run,
) -> Executor:
    """`local:N`, N processes of one thread; `local`, one for each GPU or else each core; or a Dask scheduler.

    `memory`: bytes that each search may use; `precision`: of its steps, one of spec.PRECISIONS. Raises ExecutorError.
    """
    if "://" in text:
        return DaskExecutor(text, Machine(device, memory, precision=precision), compute)
    kind, _, number = text.partition(":")
    if kind != "local" or (number and not number.isdigit()) or number == "0":
        raise ExecutorError(f"The executor {text!r} must read local:N, or be a Dask scheduler like tcp://host:8786.")
    count = int(number) if number else _gpus(device) or min(os.cpu_count() or 1, MOST_PROCESSES)
    return LocalExecutor([Machine(device, memory, place, count, precision) for place in range(count)], compute)


def _gpus(device: str) -> int:
    """GPUs that processes can be spread over; one process where a single device was named."""
    if device == "cpu":
        return 0
    if device == "auto":
        return len(list(Path("/dev").glob("nvidia[0-9]*"))) or int(sys.platform == "darwin")
    return 1
