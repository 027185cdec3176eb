"""Sees that one worker runs beside the dashboard; free of torch, since the web process calls it."""

from __future__ import annotations

import fcntl
import hashlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import psutil

from store import audits, workers
from store.database import PROJECT, Database, connect, home
from store.errors import StoreError

HOST = socket.gethostname()
MOST_LOG = 2_000_000  # bytes; a worker that finds more begins a new file
LOOK_SECONDS = 2.0  # how often it is looked whether the worker of a dashboard lives
_LONGEST_PAUSE = 60.0  # before another try, where workers end as soon as they begin
_LONG_LINE = 500  # bytes
_started: list[subprocess.Popen[bytes]] = []
_attending: dict[Path, int] = {}  # file descriptors, open until this process ends


def lock_path(db: Database) -> Path:
    """The file that the worker of a dashboard keeps locked while it lives: one for each database and machine."""
    digest = hashlib.sha256(db.name.encode()).hexdigest()[:12]
    folder = Path(db.engine.url.database or "").resolve().parent if db.is_sqlite else home()
    return folder / f"worker-{digest}.lock"


def log_path(db: Database) -> Path:
    """Where that worker writes its log."""
    return lock_path(db).with_suffix(".log")


@contextmanager
def sole_worker(db: Database, *, patience: float = 0.0) -> Iterator[bool]:
    """Hold the lock of the one worker; gives False if another process of this machine holds it.

    `patience`: for how many seconds to try again, since screens hold it for a moment when they look.
    The operating system frees the lock however the process ends, so a killed worker never blocks the next.
    """
    end = time.monotonic() + patience
    path = lock_path(db)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        while not _locked(file):
            if time.monotonic() >= end:
                yield False
                return
            time.sleep(0.05)
        yield True


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lives(db: Database) -> bool:
    """Whether the worker of a dashboard of this machine lives: it works, starts or comes to its end."""
    with sole_worker(db) as free:
        return not free


def attend(db: Database, *, inheritable: bool = False) -> None:
    """Say, for as long as this process lives, that it shows screens and wants a worker beside them.

    `inheritable`: also if it becomes another program with `exec`.
    """
    path = _attendance(db)
    if path not in _attending:
        path.parent.mkdir(parents=True, exist_ok=True)
        _attending[path] = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(_attending[path], fcntl.LOCK_SH)
    if inheritable:
        os.set_inheritable(_attending[path], True)


def attended(db: Database) -> bool:
    """Whether any process of this machine attends; a killed one does not."""
    with _attendance(db).open("a") as file:
        return not _locked(file)


def _attendance(db: Database) -> Path:
    return lock_path(db).with_suffix(".screens")


def elsewhere() -> bool:
    """Whether the setting STRATA_WORKER=none says that workers run elsewhere, so that a dashboard starts none."""
    return os.environ.get("STRATA_WORKER") == "none"


def ensure(db: Database, *, device: str = "auto") -> int | None:
    """Start `python -m worker` in the background unless one runs for this database here; the new process id or None.

    Starts nothing after `stop`, until `start`. The worker outlives the caller. Two callers at the same moment start
    two processes, of which one ends at once.
    """
    if stopped(db):
        return None
    attend(db)
    for process in _started:
        process.poll()  # takes leave of those that have ended
    if lives(db):
        return None
    bury(db)
    path = log_path(db)
    if path.exists() and path.stat().st_size > MOST_LOG:
        path.replace(path.with_suffix(".log.1"))
    with path.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "worker", "--sole", "--device", device],
            cwd=PROJECT,
            env={**os.environ, "STRATA_DATABASE": db.url},  # not an argument: others can read those, password included
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    _started.append(process)
    return process.pid


def bury(db: Database, *, but: int | None = None) -> int:
    """Put back at once what killed workers of this machine held, instead of after their leases; return how many audits.

    `but`: the worker that asks.
    """
    dead = [
        worker.id
        for worker in workers.unfinished(db, HOST)
        if worker.id != but and (worker.pid == os.getpid() or _gone(worker.pid))
    ]
    count = audits.requeue_of(db, dead) if dead else 0
    for worker_id in dead:
        workers.bury(db, worker_id)
    return count


def _gone(pid: int) -> bool:
    """Whether this process has ended, be it that its parent has not asked how."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def watch(url: str | None = None) -> None:
    """Keep a worker beside this process for as long as it lives, unless workers run elsewhere; in a thread."""
    if not elsewhere():
        threading.Thread(target=_watch, args=(url,), name="supervisor", daemon=True).start()


def _watch(url: str | None) -> None:
    db: Database | None = None
    pause = LOOK_SECONDS
    while True:
        start, pid = time.monotonic(), None
        try:
            db = db or connect(url)
            pid = ensure(db)
        except (OSError, StoreError):  # a screen says so; here another try is all there is to do
            pass
        if pid is not None:
            next(process for process in _started if process.pid == pid).wait()
            lived = time.monotonic() - start
            pause = LOOK_SECONDS if lived > _LONGEST_PAUSE else min(2 * pause, _LONGEST_PAUSE)
        time.sleep(pause)


def stop(db: Database) -> None:
    """Ask the workers of this machine to stop after their present block, and keep `ensure` from starting another."""
    _stop_mark(db).touch()
    for worker in workers.alive(db):
        if worker.host == HOST:
            workers.request_stop(db, worker.id)


def start(db: Database, *, device: str = "auto") -> int | None:
    """Undo `stop`, and start a worker unless one still runs."""
    _stop_mark(db).unlink(missing_ok=True)
    return ensure(db, device=device)


def stopped(db: Database) -> bool:
    """Whether somebody stopped the workers of this machine with `stop`."""
    return _stop_mark(db).exists()


def _stop_mark(db: Database) -> Path:
    return lock_path(db).with_suffix(".stopped")


def log_tail(path: str | Path, lines: int = 200) -> str:
    """The last lines of a log, or an empty text where there is none on this machine. Reads no more than it needs."""
    try:
        with Path(path).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - lines * _LONG_LINE))
            tail = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    return "".join(tail.splitlines(keepends=True)[-lines:])
