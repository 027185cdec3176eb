"""A database with the network `tiny`, a worker whose blocks run in this process, and a real network to compute with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from robustness_core.engine.tasks import NetworkFile
from store import Database, connect
from testing import world
from testing.fakes import Inline
from testing.networks import tiny_file


@pytest.fixture
def db(tmp_path: Path, clock: world.Clock) -> Iterator[Database]:
    database = connect(str(tmp_path / "strata.db"), clock=clock)
    world.network(database)
    yield database
    database.close()


@pytest.fixture
def inline() -> Inline:
    return Inline()


@pytest.fixture(scope="session")
def network() -> NetworkFile:
    return tiny_file()
