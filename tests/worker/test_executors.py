"""Compute processes: they die, hang and are orphaned, and the work goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest

from robustness_core.engine.audit import ExecutorError
from robustness_core.engine.tasks import Answer, Distances, Machine, Task
from store import Database, audits, workers
from store.database import PROJECT
from testing import fakes, search
from testing.processes import until
from testing.search import task
from testing.world import audit
from worker.executors import LocalExecutor, open_executor


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where tests say what goes wrong (search.faulty)."""
    path = tmp_path / "faults"
    path.mkdir()
    return path


@pytest.fixture
def executor(folder: Path) -> Iterator[LocalExecutor]:
    local = LocalExecutor([Machine(), Machine(place=1)], partial(search.faulty, folder))
    yield local
    local.close()


def test_each_process_takes_one_task_at_a_time(executor: LocalExecutor) -> None:
    assert executor.free() == 2
    futures = [executor.submit(task()), executor.submit(task("logits"))]
    answers = [future.result(timeout=60) for future in futures]
    assert executor.free() == 2
    for answer, layer in zip(answers, ("conv1", "logits"), strict=True):
        assert isinstance(answer, Distances)
        np.testing.assert_array_equal(answer.found.distance, search.distance(task().left, task().right, layer))


def test_there_is_room_for_an_urgent_task_while_all_processes_are_busy(executor: LocalExecutor, folder: Path) -> None:
    (folder / "conv1").write_text("hang")
    busy = [executor.submit(task("conv1")) for _ in range(2)]
    assert (executor.free(), executor.free(urgent=True)) == (0, 1)
    assert isinstance(executor.submit(task("logits"), urgent=True).result(timeout=60), Distances)
    for future in busy:
        executor.abandon(future)


def test_an_idle_worker_has_all_its_processes_ready(executor: LocalExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.process.warm", search.warm)
    executor.submit(task()).result(timeout=60)
    executor.warm()
    until(lambda: executor.free(urgent=True) == 3)
    executor.warm()
    assert executor.free(urgent=True) == 3


def test_a_process_that_dies_takes_only_its_own_block_with_it(executor: LocalExecutor, folder: Path) -> None:
    (folder / "conv1.once").write_text("die")
    dying, living = executor.submit(task("conv1")), executor.submit(task("logits"))
    assert dying.exception(timeout=60) is not None
    assert isinstance(living.result(timeout=60), Distances)
    assert isinstance(executor.submit(task("conv1")).result(timeout=60), Distances)


def test_a_process_that_died_while_it_had_nothing_to_do_is_replaced(executor: LocalExecutor) -> None:
    before = set(psutil.Process().children())
    executor.submit(task()).result(timeout=60)
    (process,) = [child for child in set(psutil.Process().children()) - before if "spawn_main" in str(child.cmdline())]
    process.kill()
    process.wait(30)
    time.sleep(0.5)  # the pool notices by itself
    assert executor.free() == 2
    assert isinstance(executor.submit(task()).result(timeout=60), Distances)


def test_a_hung_process_is_ended(executor: LocalExecutor, folder: Path) -> None:
    (folder / "conv1").write_text("hang")
    before = set(psutil.Process().children())
    future = executor.submit(task("conv1"))
    until(future.running)
    (process,) = set(psutil.Process().children()) - before
    executor.abandon(future)
    assert not process.is_running()
    assert executor.free() == 2
    assert isinstance(executor.submit(task("logits")).result(timeout=60), Distances)


# A block's limit counts the start of its process, which takes seconds where other work fills the cores.
LIMIT = {"die": 600.0, "hang": 10.0}


@pytest.mark.parametrize("fault", ["die", "hang"])
def test_one_such_block_is_tried_again_and_the_audit_finishes(
    db: Database, executor: LocalExecutor, folder: Path, fault: str
) -> None:
    (folder / "conv1.once").write_text(fault)
    asked = audits.submit(db, audit(samples=5))
    fakes.worker(db, executor, hang_seconds=LIMIT[fault], poll_seconds=0.05).run(wanted=lambda: False)
    over = audits.get(db, asked.id)
    assert (over.state, over.done) == ("done", 50)


def test_a_slow_block_is_tried_again_in_parts(db: Database) -> None:
    """What takes longer than the limit as one block is done in parts, and the next blocks are small at once."""
    sizes: list[int] = []
    slow = LocalExecutor([Machine()], search.half_a_second_a_pair)
    submit = slow.submit

    def counted(task: Task, *, urgent: bool = False) -> Future[Answer]:
        if task.kind == "distances":
            sizes.append(len(task))
        return submit(task, urgent=urgent)

    slow.submit = counted  # type: ignore[method-assign]
    asked = audits.submit(db, audit(samples=5, layers=("conv1",)))
    try:
        slow.submit(task("logits")).result(timeout=60)  # its process has started
        sizes.clear()
        fakes.worker(db, slow, hang_seconds=6.0, poll_seconds=0.05, batch=16).run(wanted=lambda: False)
    finally:
        slow.close()
    over = audits.get(db, asked.id)
    assert (over.state, over.done) == ("done", 25)
    assert sizes[0] == 16
    assert max(sizes[1:]) <= 4


@pytest.mark.parametrize(
    ("fault", "reason"), [("die", "The compute process died"), ("hang", "A block took longer than 10 seconds")]
)
def test_an_audit_that_kills_its_processes_fails_and_others_go_on(
    db: Database, executor: LocalExecutor, folder: Path, fault: str, reason: str
) -> None:
    (folder / "conv1").write_text(fault)
    bad, good = audits.submit(db, audit()), audits.submit(db, audit(layers=("logits",)))
    fakes.worker(db, executor, hang_seconds=LIMIT[fault], tries=2, drain_seconds=0.1, poll_seconds=0.05).run(
        wanted=lambda: False
    )
    failed = audits.get(db, bad.id)
    assert failed.state == "failed"
    assert (failed.error or "").startswith(f"A block of layer conv1 failed 2 times: {reason}")
    assert audits.get(db, good.id).state == "done"


def test_no_process_outlives_a_killed_worker() -> None:
    code = (
        "import numpy as np, psutil, time\n"
        "from testing import search\nfrom testing.search import task\n"
        "from worker.executors import LocalExecutor, Machine\n"
        "if __name__ == '__main__':\n"
        "    local = LocalExecutor([Machine(), Machine()], search.compute)\n"
        "    [future.result() for future in [local.submit(task()), local.submit(task())]]\n"
        "    print(*[child.pid for child in psutil.Process().children()], flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=PROJECT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        children = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(children) >= 2
        os.kill(parent.pid, signal.SIGKILL)
    until(lambda: not any(_alive(pid) for pid in children))


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("text", ["local:0", "local:x", "remote", "local:-1"])
def test_an_executor_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ExecutorError, match="must read local:N"):
        open_executor(text)


def test_there_is_a_process_for_each_core_or_gpu_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    for text, device, machines in (
        ("local:2", "cpu", [Machine("cpu", None, 0, 2), Machine("cpu", None, 1, 2)]),
        ("local", "cpu", [Machine("cpu", None, place, 4) for place in range(4)]),
        ("local", "cuda:1", [Machine("cuda:1", None, 0, 1)]),
    ):
        local = open_executor(text, device=device)
        assert isinstance(local, LocalExecutor)
        assert local._machines[:-1] == machines


def test_the_lease_is_renewed_while_blocks_run(db: Database, folder: Path) -> None:
    """With a lease far shorter than the work, and a clock that goes on, nobody else can take the audit."""
    from datetime import UTC, datetime

    real = Database(db.engine, lambda: datetime.now(UTC))
    asked = audits.submit(real, audit(samples=6))
    stealer = workers.register(real, "other", {})
    stolen: list[object] = []
    inline = fakes.Inline()

    def slow(task: Task) -> None:
        time.sleep(0.15)
        stolen.append(audits.claim(real, stealer.id))

    inline.before = slow
    fakes.worker(real, inline, lease_seconds=0.6).run(wanted=lambda: False)
    over = audits.get(real, asked.id)
    assert (over.state, over.attempt) == ("done", 1)
    assert stolen == [None] * len(stolen)
    assert len(stolen) * 0.15 > 2 * 0.6
