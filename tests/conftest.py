"""For all tests: the same Hypothesis examples everywhere, a clock, databases on SQLite and PostgreSQL, a data set."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from sqlalchemy import text

from robustness_core import datasets
from store import connect
from store.database import open_engine
from store.tables import metadata
from testing import postgresql as server
from testing.world import Clock

settings.load_profile("ci")  # Hypothesis' own: the same examples every time, so that a change is judged by itself

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


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    """Sets of images that a test enters are gone after it, so that no test depends on the order of them all."""
    before = dict(datasets.REGISTRY)
    yield
    datasets.REGISTRY.clear()
    datasets.REGISTRY.update(before)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def leaves(monkeypatch: pytest.MonkeyPatch) -> datasets.Entry:
    """A data set that is a row in the registry and no more: 3 classes of 8 random images, (1, 5, 7), one split."""

    def read(split: str, files: list[Path]) -> tuple[np.ndarray, np.ndarray, str]:
        rng = np.random.default_rng(0)
        return rng.integers(0, 256, (24, 5, 7, 1), dtype=np.uint8), np.arange(24) % 3, "24 made-up leaves"

    entry = datasets.Entry(
        name="leaves",
        title="Leaves",
        input_shape=(1, 5, 7),
        class_names=("ash", "beech", "cedar"),
        sizes={"train": 24},
        normalisation=((0.5,), (0.29,)),
        epsilon=1.0,
        pair=(0, 2),
        find=lambda split: [Path(__file__)],
        read=read,
    )
    monkeypatch.setitem(datasets.REGISTRY, entry.name, entry)
    return entry
