"""The revisions build exactly the tables of store/tables.py, for old databases and for several starters at once."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
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
    (spec,) = audit.spec.search.series(network.sha256, network.features)  # type: ignore[union-attr]
    version = 1 if path.stem < "0003" else 2 if path.stem < "0005" else 3  # of the method when the file was kept
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


def test_pairs_that_were_searched_the_other_way_round_stay_known_and_say_so(tmp_path: Path) -> None:
    """7 against 3, as databases before revision 0005 kept it beside 3 against 7."""
    path = tmp_path / "old.db"
    shutil.copy(Path(__file__).parent / "released" / "0004.db", path)
    with closing(sqlite3.connect(path)) as old:
        kept = old.execute("SELECT * FROM distances WHERE left_id = 1 ORDER BY right_id").fetchall()
        old.execute("DELETE FROM distances WHERE left_id = 1 AND right_id <> 5")
        turned = [(series, right, left, distance + 1, *rest) for series, left, right, distance, *rest in kept]
        old.executemany(f"INSERT INTO distances VALUES ({', '.join('?' * len(turned[0]))})", turned)
        pictures = [np.full((1, 2, 2), value, np.float32) for value in (0.25, 0.75)]
        old.execute(
            "INSERT INTO collisions VALUES (?, 6, 1, '[1, 2, 2]', ?, ?, ?)",
            (kept[0][0], json.dumps({"left": [7.0], "right": [3.0], "collision_left": [1.0]}), *map(bytes, pictures)),
        )
        old.commit()
    database = connect(str(path))
    assert maintenance.check(database) == []
    found = distances.matrix(database, kept[0][0], [1], [5, 6, 7, 8])
    own = np.array([row[3] for row in kept])
    assert found.distance.tolist() == [[own[0], *(own[1:] + 1)]]  # where both ways were known, the usual one counts
    assert "3 pairs searched with the classes the other way round" in found.versions
    assert distances.missing(database, kept[0][0], [1], [5, 6, 7, 8]).sum() == 0
    collision = distances.get_collision(database, kept[0][0], 1, 6)
    assert collision is not None
    assert (collision.left[0, 0, 0], collision.right[0, 0, 0]) == (0.75, 0.25)
    assert collision.predictions == {"left": [3.0], "right": [7.0], "collision_right": [1.0]}
    database.close()


def test_questions_that_differed_by_their_budgets_alone_become_one(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    shutil.copy(Path(__file__).parent / "released" / "0004.db", path)
    with closing(sqlite3.connect(path)) as old:
        columns = [row[1] for row in old.execute("PRAGMA table_info(audits)") if row[1] != "id"]
        row = dict(zip(columns, old.execute(f"SELECT {', '.join(columns)} FROM audits").fetchone(), strict=True))
        for stop in (4, 8):
            spec = {**json.loads(row["spec"]), "epsilon": {"start": 0, "stop": stop, "count": 9}}
            values = {**row, "spec": json.dumps(spec), "key": str(stop), "state": "queued", "finished": None}
            old.execute(
                f"INSERT INTO audits ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})",
                [values[name] for name in columns],
            )
        old.commit()
    database = connect(str(path))
    assert [one.state for one in audits.recent(database)] == ["cancelled", "queued", "done"]
    again = audits.submit(database, audits.recent(database)[0].spec)
    assert again.id == audits.recent(database)[1].id
    database.close()
