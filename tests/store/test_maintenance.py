"""Backup while others write, check, copy between the two kinds of database, and the command line."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select, text

from store import Database, StoreError, audits, connect, distances, maintenance, networks, tables
from store.__main__ import main
from testing import world


def fill(db: Database) -> None:
    running = world.running(db)
    left, right = world.some_images(db, 4), world.some_images(db, 4, start=50, label=7)
    series = distances.series(db, world.audit().search.series(world.SHA256, {})[0])
    world.block(db, running, series.id, left, right)
    picture = np.zeros((1, 28, 28), np.float32)
    distances.put_collision(db, series.id, left[0], right[0], picture, picture, {"left": [1.0]})
    audits.finish(db, running)


def content(db: Database) -> dict[str, list[tuple[object, ...]]]:
    with db.read() as connection:
        return {
            table.name: [tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key))]
            for table in tables.metadata.sorted_tables
        }


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[Database]:
    database = connect(str(tmp_path / "strata.db"))
    fill(database)
    yield database
    database.close()


def test_a_backup_is_a_whole_database(filled: Database, tmp_path: Path) -> None:
    target = tmp_path / "backups" / "monday.db"
    maintenance.backup(filled, target)
    assert [path.name for path in target.parent.iterdir()] == ["monday.db"]
    copy = connect(str(target))
    assert content(copy) == content(filled)
    assert maintenance.check(copy) == []
    copy.close()


def test_a_backup_while_others_write_is_consistent(filled: Database, tmp_path: Path) -> None:
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            with filled.write() as connection:  # both or none
                for kind in ("a", "b"):
                    connection.execute(
                        text("UPDATE networks SET note = :note, architecture = :note").bindparams(note=f"{number}")
                        if kind == "b"
                        else text("UPDATE networks SET note = 'half'")
                    )

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(5):
            maintenance.backup(filled, tmp_path / f"{number}.db")
    finally:
        stop.set()
        writer.join()
    for number in range(5):
        copy = connect(str(tmp_path / f"{number}.db"))
        (network,) = networks.all(copy)
        assert network.note in ("", network.architecture)
        assert maintenance.check(copy) == []
        copy.close()


def test_a_backup_that_cannot_be_written_leaves_the_old_one(filled: Database, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StoreError, match="cannot be written"):
        maintenance.backup(filled, tmp_path / "file" / "monday.db")
    assert (tmp_path / "file").read_text() == "not a folder"


def test_check_finds_what_is_wrong(filled: Database) -> None:
    assert maintenance.check(filled) == []
    connection = sqlite3.connect(filled.name)
    connection.execute("PRAGMA foreign_keys = OFF")
    connection.execute("UPDATE audits SET state = 'running'")
    connection.execute("DELETE FROM workers")
    connection.commit()
    connection.close()
    findings = maintenance.check(filled)
    assert "1 audits run without a lease." in findings
    assert "A row of distances refers to a missing row of workers." in findings


def test_a_copy_to_postgresql_and_back_is_the_same(filled: Database, postgresql_url: str, tmp_path: Path) -> None:
    maintenance.copy(filled, postgresql_url)
    middle = connect(postgresql_url)
    assert content(middle) == content(filled)
    assert world.network(middle, "new").id == 2  # the server counts on after the copied ids
    networks.remove(middle, 2)
    rows = maintenance.copy(middle, str(tmp_path / "back.db"))
    back = connect(str(tmp_path / "back.db"))
    assert content(back) == content(filled)
    assert rows["distances"] == 16
    with pytest.raises(StoreError, match="back it up with pg_dump"):
        maintenance.backup(middle, tmp_path / "x.db")
    middle.close()
    back.close()


def test_a_copy_needs_an_empty_target(filled: Database, tmp_path: Path) -> None:
    maintenance.copy(filled, str(tmp_path / "copy.db"))
    with pytest.raises(StoreError, match="is not empty"):
        maintenance.copy(filled, str(tmp_path / "copy.db"))


def test_the_command_line(filled: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = ["--database", filled.name]
    assert main([*at, "upgrade"]) == 0
    assert main([*at, "check"]) == 0
    assert "is sound" in capsys.readouterr().out
    assert main([*at, "backup", str(tmp_path / "b.db")]) == 0
    assert main(["copy", str(tmp_path / "b.db"), str(tmp_path / "c.db")]) == 0
    assert "distances: 16 rows" in capsys.readouterr().out
    assert main(["copy", str(tmp_path / "b.db"), str(tmp_path / "c.db")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    with filled.write() as connection:
        connection.execute(text("UPDATE networks SET weights = x''"))
    assert main([*at, "check"]) == 1
    assert "1 networks have no weights." in capsys.readouterr().out
