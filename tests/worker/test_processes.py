"""`python -m worker` as users run it: started, killed, started again, asked to stop, refused."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustness_core.checkpoints import save
from robustness_core.engine.tasks import Machine
from robustness_core.spec import AuditSpec
from store import Database, audits, connect, distances, networks, supervisor, workers
from store.database import PROJECT
from store.records import AuditRecord
from testing.networks import tiny
from testing.processes import until
from worker.executors import LocalExecutor
from worker.seed import seed

SPEC = AuditSpec.of(
    "tiny", dataset="mnist-5k", classes=(3, 7), samples=8, layers=("conv1", "logits"), m=(5,), projections=2
)
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with a tiny real network; each test takes a copy."""
    folder = tmp_path_factory.mktemp("prepared")
    save(tiny(), folder / "tiny.safetensors", {"note": "untrained"})
    (folder / "broken.safetensors").write_bytes(b"not a network")
    db = connect(str(folder / "strata.db"))
    executor = LocalExecutor([Machine()])
    try:
        assert [network.name for network in seed(db, executor, folder)] == ["tiny"]
        assert [network.name for network in seed(db, executor, folder)] == ["tiny"]
    finally:
        executor.close()
        db.close()
    return folder / "strata.db"


@pytest.fixture
def db(prepared: Path, tmp_path: Path) -> Iterator[Database]:
    with closing(sqlite3.connect(prepared)) as source, closing(sqlite3.connect(tmp_path / "strata.db")) as copy:
        source.backup(copy)
    database = connect(str(tmp_path / "strata.db"))
    yield database
    database.close()


def start(db: Database, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    """A worker with one compute process, an empty zoo and short blocks."""
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from robustness_core import zoo\n"
        "import worker.__main__ as program, worker.seed\n"
        "worker.seed.seed.__defaults__ = (Path('/nonexistent'),)\n"
        "original = program.Settings\n"
        "program.Settings = lambda batch: original(batch=batch, block_seconds=0.1)\n"
        "if __name__ == '__main__':\n"
        "    sys.exit(program.main(sys.argv[1:]))\n"
    )
    command = [sys.executable, "-c", code, "--database", db.url, "--executor", "local:1", "--device", "cpu", *arguments]
    return subprocess.Popen(command, cwd=PROJECT, env=ENVIRONMENT, text=True, **options)


def results(db: Database, audit: AuditRecord) -> list[np.ndarray]:
    network = networks.by_name(db, "tiny")
    assert network is not None
    assert isinstance(audit.spec, AuditSpec)
    with sqlite3.connect(db.name) as connection:
        ids = [[row[0] for row in connection.execute(f"SELECT id FROM images WHERE label = {c}")] for c in (3, 7)]
    connection.close()
    found = []
    for spec in audit.spec.search.series(network.sha256, network.features):
        series = distances.find(db, spec)
        assert series is not None
        found.append(distances.matrix(db, series.id, *ids).distance)
    return found


def test_killed_in_the_middle_it_finishes_after_a_restart_as_if_undisturbed(db: Database, prepared: Path) -> None:
    asked = audits.submit(db, SPEC)
    first = start(db)
    until(lambda: audits.get(db, asked.id).done > 16)
    first.kill()
    first.wait()
    middle = audits.get(db, asked.id)
    assert middle.state == "running"
    assert middle.done < middle.total
    with sqlite3.connect(db.name) as connection:
        before = connection.execute("SELECT count(*) FROM distances").fetchone()[0]
    connection.close()
    assert 16 < before < middle.total

    assert start(db, "--once").wait(60) == 0
    over = audits.get(db, asked.id)
    assert (over.state, over.done) == ("done", over.total)

    undisturbed = connect(db.name + ".other")
    with closing(sqlite3.connect(prepared)) as source, closing(sqlite3.connect(undisturbed.name)) as copy:
        source.backup(copy)
    alone = audits.submit(undisturbed, SPEC)
    assert start(undisturbed, "--once").wait(60) == 0
    for mine, others in zip(results(db, over), results(undisturbed, alone), strict=True):
        assert not np.isnan(mine).any()
        np.testing.assert_array_equal(mine, others)
    undisturbed.close()


def test_asked_to_stop_it_gives_back_its_audit_and_leaves_cleanly(db: Database) -> None:
    asked = audits.submit(db, SPEC.replace(samples=60))
    process = start(db, stderr=subprocess.PIPE)
    until(lambda: audits.get(db, asked.id).done > 0)
    (record,) = workers.alive(db)
    assert record.pid == process.pid
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=30)
    assert process.returncode == 0
    assert audits.get(db, asked.id).state == "queued"
    assert workers.alive(db) == []
    assert f"worker={record.id} has stopped" in log
    # A process that is ended while it starts leaves Python's own tracker a line to say, on stderr alone.
    assert log.startswith(supervisor.log_tail(record.log_path))


def test_one_worker_a_machine_when_asked_for(db: Database) -> None:
    with supervisor.sole_worker(db) as free:
        assert free
        process = start(db, "--sole", stderr=subprocess.PIPE)
        _, log = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "another worker of this machine is at work" in log


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--executor", "remote"], "The executor 'remote' must read local:N"),
        (["--device", "cuda:77"], "The device 'cuda:77' is not available here; use auto or cpu."),
    ],
)
def test_what_cannot_be_used_is_one_line_and_exit_2(db: Database, arguments: list[str], sentence: str) -> None:
    process = start(db, *arguments, stderr=subprocess.PIPE)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 2
    assert error.startswith(f"strata: {sentence}")
    assert error.count("\n") == 1


def test_a_database_that_cannot_be_used_is_one_line_and_exit_2(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("These are my notes. " * 50)
    done = subprocess.run(
        [sys.executable, "-m", "worker", "--database", str(tmp_path / "notes.txt")],
        cwd=PROJECT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert "is not a Strata database or is damaged" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_bundled_networks_are_registered(tmp_path: Path) -> None:
    url = str(tmp_path / "new.db")
    done = subprocess.run(
        [sys.executable, "-m", "worker", "seed", "--database", url, "--executor", "local:1"],
        cwd=PROJECT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    bundled = sorted(path.stem for path in (PROJECT / "zoo").glob("*.safetensors"))
    assert done.stdout.split() == bundled
    db = connect(url)
    for network in networks.all(db):
        card = json.loads((PROJECT / "zoo" / f"{network.name}.json").read_text())
        assert network.card == card
        assert network.source == "zoo"
        assert network.layers[-1].name == "logits"
    assert [network.name for network in networks.all(db)] == bundled
    db.close()


def test_the_worker_itself_loads_no_torch() -> None:
    code = "import sys, worker.__main__; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True)
