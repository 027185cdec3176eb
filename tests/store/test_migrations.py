"""The revisions build exactly the tables of store/tables.py, for old databases and for several starters at once."""

from __future__ import annotations

import dataclasses
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from store import audits, connect, distances, maintenance, networks, spectra, tables
from store.database import PROJECT

RELEASED = sorted((Path(__file__).parent / "released").glob("*.db"))


def test_the_newest_revision_is_the_one_the_code_expects() -> None:
    scripts = ScriptDirectory.from_config(Config(PROJECT / "store" / "alembic.ini"))
    assert scripts.get_current_head() == tables.REVISION


def test_the_migrated_schema_is_that_of_the_tables(url: str) -> None:
    database = connect(url)
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, tables.metadata) == []
    database.close()


def test_several_starters_make_one_database(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        opened = list(pool.map(lambda _: connect(str(tmp_path / "new.db")), range(8)))
    assert all(networks.all(database) == [] for database in opened)
    for database in opened:
        database.close()


def test_several_starters_make_one_postgresql_database(postgresql_url: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        opened = list(pool.map(lambda _: connect(postgresql_url), range(8)))
    assert all(networks.all(database) == [] for database in opened)
    for database in opened:
        database.close()


def test_there_is_a_kept_database_of_every_revision() -> None:
    scripts = ScriptDirectory.from_config(Config(PROJECT / "store" / "alembic.ini"))
    assert [path.stem for path in RELEASED] == sorted(revision.revision for revision in scripts.walk_revisions())


@pytest.mark.parametrize("path", RELEASED, ids=lambda path: path.stem)
def test_a_kept_database_upgrades_with_all_it_holds(path: Path, tmp_path: Path) -> None:
    """Each kept file holds the network `tiny`, one finished audit and its 16 distances in one series."""
    shutil.copy(path, tmp_path / "old.db")
    database = connect(str(tmp_path / "old.db"))
    assert maintenance.check(database) == []
    (network,) = networks.all(database)
    (audit,) = audits.recent(database)
    assert (network.name, audit.state, audit.total) == ("tiny", "done", 16)
    (spec,) = audit.spec.search.series(network.sha256)  # type: ignore[union-attr]
    version = 1 if path.stem < "0003" else 2  # of the method when the file was kept
    series = distances.find(database, dataclasses.replace(spec, method_version=version))
    assert series is not None
    matrix = distances.matrix(database, series.id, [1, 2, 3, 4], [5, 6, 7, 8])
    assert matrix.known.all()
    assert matrix.distance[1, 2] == 2 + 7 / 1000
    spectrum = spectra.find(database, network.id, "conv1.pre")
    if path.stem == "0001":  # knew no spectra
        assert spectrum is None
    else:
        assert spectrum is not None
        assert (spectra.lengths(database, spectrum.id, [1, 2, 3, 4], [5, 6, 7, 8]) == 2.5).all()
    database.close()
