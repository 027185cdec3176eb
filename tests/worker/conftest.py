"""A database with the network `tiny`, and a worker whose blocks run in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from store import Database, connect
from tests.store.conftest import postgresql, shared_postgresql_url, url
from tests.store.world import Clock, network
from tests.worker.fakes import Inline

__all__ = ["postgresql", "shared_postgresql_url", "url"]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def db(tmp_path: Path, clock: Clock) -> Iterator[Database]:
    database = connect(str(tmp_path / "strata.db"), clock=clock)
    network(database)
    yield database
    database.close()


@pytest.fixture
def inline() -> Inline:
    return Inline()
