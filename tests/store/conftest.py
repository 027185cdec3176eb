"""A database for each test, once on SQLite and once on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from store import Database, connect
from testing import world


@pytest.fixture
def db(url: str, clock: world.Clock) -> Iterator[Database]:
    database = connect(url, clock=clock)
    yield database
    database.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A sound SQLite database with one network in it."""
    path = tmp_path / "strata.db"
    database = connect(str(path))
    world.network(database)
    database.close()
    return path


@pytest.fixture
def sqlite_db(file: Path) -> Iterator[Database]:
    database = connect(str(file))
    yield database
    database.close()
