"""The workers: who they are, whether they live, and how they are asked to stop."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy import select, update

from store import tables
from store.database import Database
from store.records import WorkerRecord, WorkerState

ALIVE_SECONDS = 15.0
AT_WORK: tuple[WorkerState, ...] = ("running", "stopping")


def register(db: Database, device: str, versions: Mapping[str, str], *, log_path: str = "") -> WorkerRecord:
    """Enter this process as a worker. Its row stays for good: distances name the worker that found them."""
    with db.write() as connection:
        now = db.now(connection)
        worker_id = connection.execute(
            tables.workers.insert()
            .values(
                host=socket.gethostname(),
                pid=os.getpid(),
                device=device,
                versions=dict(versions),
                state="running",
                started=now,
                heartbeat=now,
                log_path=log_path,
            )
            .returning(tables.workers.c.id)
        ).scalar_one()
        row = connection.execute(select(tables.workers).where(tables.workers.c.id == worker_id)).one()
    return record(row)


def beat(db: Database, worker_id: int) -> WorkerState:
    """Give a sign of life and learn the state: `stopping` means that somebody asked this worker to stop."""
    with db.write() as connection:
        state = connection.execute(
            update(tables.workers)
            .where(tables.workers.c.id == worker_id)
            .values(heartbeat=db.now(connection))
            .returning(tables.workers.c.state)
        ).scalar_one_or_none()
    return state or "stopping"  # a worker whose row is gone has no business here


def alive(db: Database, within_seconds: float = ALIVE_SECONDS) -> list[WorkerRecord]:
    """The workers that gave a sign of life lately, the longest-serving first."""
    worker = tables.workers.c
    with db.read() as connection:
        since = db.now(connection) - timedelta(seconds=within_seconds)
        rows = connection.execute(
            select(tables.workers).where(worker.state.in_(AT_WORK), worker.heartbeat >= since).order_by(worker.id)
        ).all()
    return [record(row) for row in rows]


def unfinished(db: Database, host: str) -> list[WorkerRecord]:
    """The workers of a machine that never said that they stopped: they run, or they were killed."""
    worker = tables.workers.c
    with db.read() as connection:
        rows = connection.execute(
            select(tables.workers).where(worker.host == host, worker.state.in_(AT_WORK)).order_by(worker.id)
        ).all()
    return [record(row) for row in rows]


def retire(db: Database, worker_id: int) -> None:
    """This worker has stopped."""
    _set_state(db, worker_id, "stopped", AT_WORK)


def bury(db: Database, worker_id: int) -> None:
    """This worker has ended without a word."""
    _set_state(db, worker_id, "killed", AT_WORK)


def killed(db: Database, within_seconds: float) -> list[WorkerRecord]:
    """The workers that ended without a word and gave their last sign of life lately, the last of them first."""
    worker = tables.workers.c
    with db.read() as connection:
        since = db.now(connection) - timedelta(seconds=within_seconds)
        rows = connection.execute(
            select(tables.workers)
            .where(worker.state == "killed", worker.heartbeat >= since)
            .order_by(worker.heartbeat.desc())
        ).all()
    return [record(row) for row in rows]


def request_stop(db: Database, worker_id: int) -> None:
    """Ask a worker to stop after its present block; its audit goes back to the queue."""
    _set_state(db, worker_id, "stopping", ("running",))


def record(row: Any, prefix: str = "") -> WorkerRecord:
    values = {column.name: getattr(row, prefix + column.name) for column in tables.workers.c}
    return WorkerRecord(**values)


def _set_state(db: Database, worker_id: int, state: WorkerState, before: tuple[WorkerState, ...]) -> None:
    with db.write() as connection:
        connection.execute(
            update(tables.workers)
            .where(tables.workers.c.id == worker_id, tables.workers.c.state.in_(before))
            .values(state=state)
        )
