"""The Audits screen and the workers: who lives, how they are stopped and started, and what they logged."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import time
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from store import supervisor, workers
from store.database import PROJECT
from testing.processes import until
from testing.screens import labels, words


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch, db, tmp_path: Path):
    """The dashboard starts workers itself; in place of `python -m worker` one that holds the lock and waits."""
    (tmp_path / "worker.py").write_text(
        "import sys, time\n"
        f"sys.path.insert(0, {str(PROJECT)!r})\n"
        "from store import connect, supervisor, workers\n"
        "db = connect()\n"
        "with supervisor.sole_worker(db, patience=1.0) as free:\n"
        "    print('the log of the worker', flush=True)\n"
        "    here = workers.register(db, 'made-up device', {}, log_path=str(supervisor.log_path(db)))\n"
        "    while free and workers.beat(db, here.id) == 'running':\n"
        "        time.sleep(0.1)\n"
        "    workers.retire(db, here.id)\n"
    )
    monkeypatch.setattr(supervisor, "PROJECT", tmp_path)
    monkeypatch.delenv("STRATA_WORKER")
    before = len(supervisor._started)
    yield
    for process in supervisor._started[before:]:
        process.kill()
        process.wait()


def press(screen: AppTest, label: str) -> None:
    next(button for button in screen.button if button.label == label).click().run()
    assert not screen.exception


def test_the_worker_is_stopped_and_started_and_its_log_read(db, open_screen, beside) -> None:
    screen = open_screen("audits")
    until(lambda: workers.alive(db))
    screen.run()
    assert "1 worker" in words(screen)
    assert "made\\-up device" in words(screen)
    assert screen.code[0].value == "the log of the worker"

    press(screen, "Stop worker")
    until(lambda: not supervisor.lives(db))
    screen.run()
    assert "Press Start worker" in words(screen)
    assert labels(screen) == ["Start worker"]
    assert "the log of the worker" in screen.code[0].value  # also readable when it is gone
    assert workers.alive(db) == []  # no screen starts it again by itself

    press(screen, "Start worker")
    until(lambda: workers.alive(db))
    screen.run()
    assert labels(screen) == ["Stop worker"]


def test_a_worker_that_starts_is_not_started_twice(db, open_screen, monkeypatch) -> None:
    monkeypatch.delenv("STRATA_WORKER")
    with supervisor.lock_path(db).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        screen = open_screen("audits")
        assert "starting or stopping" in words(screen)
        assert [button.disabled for button in screen.button if button.label == "Start worker"] == [True]


def test_where_workers_run_elsewhere_the_screen_has_no_buttons_for_them(db, open_screen) -> None:
    screen = open_screen("audits")
    assert "python -m worker" in words(screen)
    assert labels(screen) == []


def test_a_glance_at_the_lock_does_not_send_a_starting_worker_away(db) -> None:
    code = (
        "import sys\n"
        "from store import connect, supervisor\n"
        "db = connect(sys.argv[1])\n"
        "print('ready', flush=True)\n"
        "with supervisor.sole_worker(db, patience=30) as free:\n"
        "    print(free, flush=True)\n"
    )
    with supervisor.lock_path(db).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        worker = subprocess.Popen([sys.executable, "-c", code, db.url], cwd=PROJECT, stdout=subprocess.PIPE, text=True)
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
        time.sleep(0.2)
    assert worker.communicate(timeout=60)[0] == "True\n"
