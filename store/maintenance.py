"""Looking after a database: a backup while it runs, a check, a copy into another one."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from sqlalchemy import Connection, func, insert, inspect, select, text

from store import tables
from store.database import Database, connect, count_rows
from store.errors import StoreError

_ROWS_AT_ONCE = 5000


def backup(db: Database, target: Path) -> None:
    """Write a consistent copy of an SQLite database to `target`, also while others write. Raises StoreError.

    The copy is made beside the target and put in its place at the end, so a backup is whole or not there.
    """
    if not db.is_sqlite:
        raise StoreError("This is a PostgreSQL database; back it up with pg_dump, or use `python -m store copy`.")
    beside = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        beside.unlink(missing_ok=True)
        with closing(sqlite3.connect(db.name)) as source, closing(sqlite3.connect(beside)) as copy:
            source.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # one file, without a -wal beside it
        os.replace(beside, target)
    except (OSError, sqlite3.Error) as error:
        with suppress(OSError):
            beside.unlink()
        raise StoreError(f"The backup {target} cannot be written: {error}.") from error


def check(db: Database) -> list[str]:
    """Everything that is wrong with a database, one sentence each; an empty list means that it is sound."""
    findings: list[str] = []
    with db.read() as connection:
        if db.is_sqlite:
            found = connection.exec_driver_sql("PRAGMA integrity_check").scalars().all()
            findings += [f"SQLite reports: {line}." for line in found if line != "ok"]
            orphans = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
            findings += [f"A row of {row[0]} refers to a missing row of {row[2]}." for row in orphans]
        findings += _inconsistencies(connection)
    return findings


def _inconsistencies(connection: Connection) -> list[str]:
    audit, network, image = tables.audits.c, tables.networks.c, tables.images.c
    questions = {
        "audits run without a lease": select(func.count()).where(audit.state == "running", audit.lease_until.is_(None)),
        "audits are done without all their pairs": select(func.count()).where(
            audit.state == "done", audit.done != audit.total
        ),
        "networks have no weights": select(func.count()).where(func.length(network.weights) == 0),
        "images have no pixels": select(func.count()).where(func.length(image.pixels) == 0),
        "distances join an image with itself": select(func.count()).where(
            tables.distances.c.left_id == tables.distances.c.right_id
        ),
    }
    answers = {what: connection.execute(query).scalar_one() for what, query in questions.items()}
    return [f"{count} {what}." for what, count in answers.items() if count]


def copy(source: Database, target_url: str) -> dict[str, int]:
    """Copy everything into an empty database, made if need be; return the rows of each table. Raises StoreError.

    Reads one state of the source, also while others write; the target appears whole or stays empty.
    """
    target = connect(target_url)
    try:
        with source.read() as reading, target.write() as writing:
            if any(count_rows(writing).values()):
                raise StoreError(f"The database {target.name} is not empty; copy into a new one.")
            for table in tables.metadata.sorted_tables:
                rows = reading.execution_options(yield_per=_ROWS_AT_ONCE).execute(select(table))
                for part in rows.mappings().partitions(_ROWS_AT_ONCE):
                    writing.execute(insert(table), [dict(row) for row in part])
            if not target.is_sqlite:
                _set_sequences(writing)
            return count_rows(writing)
    finally:
        target.close()


def _set_sequences(connection: Connection) -> None:
    """Let PostgreSQL count on after the ids that were copied."""
    for table in inspect(connection).get_table_names():
        if table in tables.metadata.tables and "id" in tables.metadata.tables[table].c:
            connection.execute(
                text(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), (SELECT MAX(id) FROM {table}))")
            )
