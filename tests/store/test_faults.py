"""What users get when the database is new, old, foreign, damaged, read-only, full, locked or gone."""

from __future__ import annotations

import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import create_engine, event, text

from store import Database, StoreError, connect, networks, tables
from store.database import PROJECT, default_url, parse_url
from testing import world


def test_the_setting_is_a_url_or_a_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("STRATA_DATABASE", raising=False)
    assert default_url() == f"sqlite:///{PROJECT}/var/strata.db"
    monkeypatch.setenv("STRATA_DATABASE", "postgresql://ada:secret@db/strata")
    assert parse_url(None).drivername == "postgresql+psycopg"
    monkeypatch.chdir(tmp_path)
    assert parse_url("some.db").database == str(tmp_path / "some.db")
    for wrong in ("://", "sqlite://"):
        with pytest.raises(StoreError, match=r"^The database .* write sqlite:///FILE"):
            parse_url(wrong)


def test_messages_never_hold_a_password() -> None:
    with pytest.raises(StoreError) as caught:
        connect("postgresql://ada:secret@127.0.0.1:1/strata?connect_timeout=2")
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_driver_is_named() -> None:
    with pytest.raises(StoreError, match="No driver for mysql databases"):
        connect("mysql://ada@db/strata")


def test_a_newer_database_is_refused(url: str) -> None:
    connect(url).close()
    engine = create_engine(parse_url(url))
    try:
        with engine.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        with pytest.raises(StoreError, match="made by a newer version of Strata"):
            connect(url)
    finally:
        with engine.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = :now"), {"now": tables.REVISION})
        engine.dispose()


def test_another_programs_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE cats (name TEXT)")
    connection.commit()
    connection.close()
    with pytest.raises(StoreError, match="belongs to another program"):
        connect(str(path))
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("cats",)]
    connection.close()


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(b"These are my notes. " * 100)
    with pytest.raises(StoreError, match="is not a Strata database or is damaged; restore a backup"):
        connect(str(path))
    assert path.read_bytes().startswith(b"These are my notes.")


def test_a_damaged_database_is_reported(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)  # every page but the first
    file.write_bytes(content)
    with pytest.raises(StoreError, match="damaged; restore a backup"):
        connect(str(file))


@pytest.mark.parametrize("whole_folder", [True, False])
def test_a_read_only_database_is_reported(file: Path, whole_folder: bool) -> None:
    folder = Path(tempfile.mkdtemp(prefix="strata-"))
    try:
        target = folder / "strata.db"
        shutil.copy(file, target)
        target.chmod(stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH)
        folder.chmod(0o555 if whole_folder else 0o777)
        code = (
            "import os, sys\n"
            "from store import StoreError, connect, workers\n"
            "if os.geteuid() == 0:\n"  # root may write everywhere, so become nobody
            "    os.setgid(65534)\n"
            "    os.setuid(65534)\n"
            "try:\n"
            "    workers.register(connect(sys.argv[1]), 'cpu', {})\n"
            "except StoreError as error:\n"
            "    print(error)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(target)], cwd=PROJECT, capture_output=True, text=True, check=True
        )
        assert done.stdout.count("\n") == 1
        assert "read-only" in done.stdout or "cannot be opened; check its folder and permissions" in done.stdout
    finally:
        folder.chmod(0o777)
        shutil.rmtree(folder)


def test_a_folder_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"The folder of the database .* cannot be made"):
        connect(str(tmp_path / "file" / "strata.db"))


def test_a_full_disk_is_reported_and_undoes_the_transaction(sqlite_db: Database) -> None:
    @event.listens_for(sqlite_db.engine, "begin")
    def few_pages(connection: object) -> None:
        connection.exec_driver_sql("PRAGMA max_page_count = 40")  # type: ignore[attr-defined]

    def fill() -> None:
        for start in range(0, 4000, 100):
            world.some_images(sqlite_db, 100, start=start)

    with pytest.raises(StoreError, match="is full; free some space"):
        fill()
    with sqlite_db.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM images")).scalar_one() % 100 == 0
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"


def test_a_locked_database_is_waited_for(sqlite_db: Database, file: Path) -> None:
    other = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    free = threading.Timer(0.5, lambda: other.execute("COMMIT"))
    free.start()
    start = time.monotonic()
    world.network(sqlite_db, "second")
    assert time.monotonic() - start >= 0.4
    free.join()
    other.close()
    assert len(networks.all(sqlite_db)) == 2


def test_a_database_locked_for_too_long_is_reported(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("store.database.BUSY_SECONDS", 0.1)
    database = connect(str(file))
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="stayed locked by another program"):
        world.network(database, "second")
    assert [network.name for network in networks.all(database)] == ["tiny"]  # readers do not wait for writers
    other.close()
    database.close()


def test_readers_keep_their_view_while_others_write(sqlite_db: Database) -> None:
    with sqlite_db.read() as connection:
        before = connection.execute(text("SELECT count(*) FROM networks")).scalar_one()
        world.network(sqlite_db, "second")
        assert connection.execute(text("SELECT count(*) FROM networks")).scalar_one() == before
