"""A database for each test, once on SQLite and once on PostgreSQL."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from store import Database, connect
from store.database import open_engine
from store.tables import metadata
from tests.store import server
from tests.store.world import Clock

_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The URL of a server's maintenance database; skips, with the reason, where no server is installed."""
    if server.binaries() is None:
        pytest.skip("no PostgreSQL server is installed (Debian: apt install postgresql)")
    with server.running() as url:
        yield url


@pytest.fixture
def postgresql_url(postgresql: str) -> Iterator[str]:
    """The URL of a new, empty database on the server."""
    name = f"strata{next(_numbers)}"
    _administer(postgresql, f"CREATE DATABASE {name}")
    yield postgresql.replace("/postgres?", f"/{name}?")
    _administer(postgresql, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def shared_postgresql_url(postgresql: str) -> str:
    """The URL of a database whose tables are emptied before each test: quicker than a new one for each."""
    _administer(postgresql, "CREATE DATABASE shared")
    return postgresql.replace("/postgres?", "/shared?")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database without rows."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'strata.db'}"
    shared = str(request.getfixturevalue("shared_postgresql_url"))
    database = connect(shared)
    with database.write() as connection:
        connection.execute(text(f"TRUNCATE {', '.join(metadata.tables)} RESTART IDENTITY"))
    database.close()
    return shared


def _administer(url: str, statement: str) -> None:
    engine = open_engine(url)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(statement))
    engine.dispose()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def db(url: str, clock: Clock) -> Iterator[Database]:
    database = connect(url, clock=clock)
    yield database
    database.close()
