"""One worker beside the dashboard: started when there is none, never twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from store import Database, connect, supervisor, workers
from store.__main__ import main
from store.database import PROJECT


@pytest.fixture
def fake_worker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A program in place of `python -m worker`: notes its arguments and setting, holds the lock, waits."""
    (tmp_path / "worker.py").write_text(
        "import os, sys, time\n"
        f"sys.path.insert(0, {str(PROJECT)!r})\n"
        "from store import connect, supervisor\n"
        "with supervisor.sole_worker(connect()) as free:\n"
        "    print('free' if free else 'taken', *sys.argv[1:], flush=True)\n"
        "    time.sleep(60 if free else 0)\n"
    )
    monkeypatch.setattr(supervisor, "PROJECT", tmp_path)
    return tmp_path


def test_the_lock_is_held_by_one_and_freed_by_death(sqlite_db: Database) -> None:
    code = (
        "import sys, time\n"
        "from store import connect, supervisor\n"
        "with supervisor.sole_worker(connect(sys.argv[1])) as free:\n"
        "    print(free, flush=True)\n"
        "    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", code, sqlite_db.name]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        with supervisor.sole_worker(sqlite_db) as free:
            assert not free
        assert supervisor.ensure(sqlite_db) is None
        other.send_signal(signal.SIGKILL)
        other.wait()
    with supervisor.sole_worker(sqlite_db) as free:
        assert free


def test_ensure_starts_one_worker_that_logs_to_a_file(sqlite_db: Database, fake_worker: Path) -> None:
    pid = supervisor.ensure(sqlite_db, device="cpu")
    assert pid is not None
    try:
        for _ in range(200):
            log = supervisor.log_tail(supervisor.log_path(sqlite_db))
            if log:
                break
            time.sleep(0.05)
        assert log == "free --sole --device cpu\n"
        assert supervisor.ensure(sqlite_db) is None
        assert os.getsid(pid) == pid  # closing the terminal does not end it
    finally:
        os.kill(pid, signal.SIGKILL)
        supervisor._started[-1].wait()


def test_a_stopped_worker_is_not_started_again_until_somebody_starts_it(sqlite_db: Database, fake_worker: Path) -> None:
    here = workers.register(sqlite_db, "cpu", {})
    supervisor.stop(sqlite_db)
    assert supervisor.stopped(sqlite_db)
    assert workers.beat(sqlite_db, here.id) == "stopping"
    assert supervisor.ensure(sqlite_db) is None
    pid = supervisor.start(sqlite_db)
    assert pid is not None
    assert not supervisor.stopped(sqlite_db)
    os.kill(pid, signal.SIGKILL)
    supervisor._started[-1].wait()


def attended_until_killed(db: Database, *arguments: str) -> None:
    """Assert that the database is attended from the word of a Python process to its end."""
    screens = subprocess.Popen(
        [sys.executable, *arguments], cwd=PROJECT, env={**os.environ, "STRATA_WORKER": "none"},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert screens.stdout is not None
    assert screens.stdout.readline() == "attending\n"
    assert supervisor.attended(db)
    screens.kill()
    screens.communicate()
    assert not supervisor.attended(db)


def test_a_worker_is_wanted_as_long_as_a_process_with_screens_lives(sqlite_db: Database) -> None:
    assert not supervisor.attended(sqlite_db)
    program = (
        "import sys; from store import connect, supervisor; supervisor.attend(connect(sys.argv[1])); "
        "print('attending', flush=True); sys.stdin.read()"
    )
    attended_until_killed(sqlite_db, "-c", program, sqlite_db.url)


def test_a_command_is_attended_from_its_start_with_a_worker_beside_it(
    sqlite_db: Database, fake_worker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    became: list[list[str]] = []
    monkeypatch.setattr(os, "execvp", lambda _, program: became.append(program))
    monkeypatch.setenv("STRATA_DATABASE", "")
    assert main(["--database", sqlite_db.url, "attend", "python", "-m", "streamlit", "run"]) == 0
    worker = supervisor._started[-1]
    try:
        assert became == [["python", "-m", "streamlit", "run"]]
        assert os.environ["STRATA_DATABASE"] == sqlite_db.url
        assert worker.poll() is None
        assert supervisor.attended(sqlite_db)
    finally:
        worker.kill()
        worker.wait()
        os.close(supervisor._attending.popitem()[1])


def test_attendance_lasts_from_the_command_to_the_end_of_what_it_becomes(sqlite_db: Database) -> None:
    screens = [sys.executable, "-c", "import sys; print('attending', flush=True); sys.stdin.read()"]
    attended_until_killed(sqlite_db, "-m", "store", "--database", sqlite_db.url, "attend", *screens)
    assert not supervisor.log_path(sqlite_db).exists()  # no worker was started


def test_a_command_that_does_not_exist_is_one_sentence(
    sqlite_db: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STRATA_WORKER", "none")
    monkeypatch.setenv("STRATA_DATABASE", "")
    assert main(["--database", sqlite_db.url, "attend", "no-such-program"]) == 2
    assert capsys.readouterr().err == "strata: no-such-program cannot be started: No such file or directory.\n"


def test_databases_have_their_own_locks_and_logs(sqlite_db: Database, tmp_path: Path) -> None:
    other = connect(str(tmp_path / "other.db"))
    with supervisor.sole_worker(sqlite_db) as first, supervisor.sole_worker(other) as second:
        assert first
        assert second
    assert supervisor.log_path(other) != supervisor.log_path(sqlite_db)
    other.close()


def test_the_tail_of_a_log(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("".join(f"{number}\n" for number in range(500)))
    assert supervisor.log_tail(tmp_path / "log", 3) == "497\n498\n499\n"
    assert supervisor.log_tail(tmp_path / "absent") == ""


def test_the_store_reaches_no_torch() -> None:
    code = (
        "import sys, store.audits, store.distances, store.images, store.maintenance, store.supervisor\n"
        "import robustness_core.datasets\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True)
