"""A real Dask scheduler with two worker processes on this machine, one of them killed in the middle."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from robustness_core.engine.audit import ExecutorError
from robustness_core.engine.tasks import Distances, Machine, NetworkFile, Task
from store import Database, audits
from testing import fakes, search
from testing.fakes import expected, matrix, series
from testing.networks import task
from testing.processes import Cluster, cluster
from testing.world import audit
from worker import process
from worker.executors import Compute, DaskExecutor, LocalExecutor, open_executor

pytest.importorskip("distributed", reason="Dask is not installed (the extra cluster)")


@pytest.fixture
def two_workers(tmp_path: Path) -> Iterator[Cluster]:
    with cluster(tmp_path) as running:
        yield running


def connect_when_ready(address: str, workers: int, compute: Compute) -> DaskExecutor:
    end = time.monotonic() + 60
    while True:
        try:
            executor = open_executor(address, device="cpu", compute=compute)
            assert isinstance(executor, DaskExecutor)
            executor._client.wait_for_workers(workers, timeout=60)
            return executor
        except ExecutorError:
            if time.monotonic() > end:
                raise


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_an_audit_finishes_although_a_worker_of_the_cluster_dies(db: Database, two_workers: Cluster) -> None:
    address, processes = two_workers
    executor = connect_when_ready(address, 2, search.compute)
    try:
        assert executor.free() == 4
        spec = audit(samples=12)
        asked = audits.submit(db, spec)
        worker = fakes.worker(db, executor, block_seconds=0.0, poll_seconds=0.02)
        submit, submitted = executor.submit, []

        def counted(task: Task, *, urgent: bool) -> object:
            submitted.append(task)
            if len(submitted) == 12:
                processes[0].send_signal(signal.SIGKILL)
            return submit(task, urgent=urgent)

        executor.submit = counted  # type: ignore[assignment,method-assign]
        worker.run(wanted=lambda: False)
        over = audits.get(db, asked.id)
        assert (over.state, over.done, over.error) == ("done", 288, None)
        assert len(submitted) > 12
        assert processes[0].wait() == -signal.SIGKILL
        for one in series(db, spec):
            np.testing.assert_array_equal(matrix(db, spec, one).distance, expected(spec, one.layer))
    finally:
        executor.close()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_a_scheduler_that_went_away_ends_the_worker_and_leaves_the_queue(db: Database, two_workers: Cluster) -> None:
    executor = connect_when_ready(two_workers[0], 1, search.compute)
    try:
        scheduler = next(
            process for process in psutil.Process().children() if "dask_scheduler" in str(process.cmdline())
        )
        scheduler.kill()
        scheduler.wait(30)
        asked = [audits.submit(db, audit(samples=count)) for count in (3, 4)]
        with pytest.raises(ExecutorError, match="does not answer any more"):
            fakes.worker(db, executor).run(wanted=lambda: False)
        assert [audits.get(db, one.id).state for one in asked] == ["queued", "queued"]
    finally:
        executor.close()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_the_cluster_computes_the_same_bits_as_this_machine(two_workers: Cluster, network: NetworkFile) -> None:
    executor = connect_when_ready(two_workers[0], 1, process.run)
    local = LocalExecutor([Machine()])
    try:
        for one in (executor, local):
            assert one.describe().versions["python"] == sys.version.split()[0]
        whole = task(network, pairs=9)
        there, here = (one.submit(whole).result(timeout=120) for one in (executor, local))
        assert isinstance(there, Distances)
        assert isinstance(here, Distances)
        np.testing.assert_array_equal(there.found.distance, here.found.distance)
        assert executor.layers(network) == local.layers(network)
    finally:
        executor.close()
        local.close()


def test_a_scheduler_that_does_not_answer_is_a_sentence() -> None:
    with pytest.raises(ExecutorError, match=r"The Dask scheduler tcp://127\.0\.0\.1:1 does not answer"):
        DaskExecutor("tcp://127.0.0.1:1", Machine(), timeout=1)
