"""What is known: series, the distances of their pairs, and the collisions that somebody looks at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Integer, Select, case, delete, func, select, type_coerce, update

from robustness_core.found import Found
from robustness_core.spec import PRECISIONS, SeriesSpec
from store import tables
from store.database import Database, insert_ignoring
from store.errors import Fenced, StoreError
from store.records import CollisionRecord, SeriesRecord

_PRECISIONS = (*PRECISIONS, "float64")  # of the steps of a search, or of a closed form
Ids = Sequence[int] | NDArray[np.integer[Any]]


def series(db: Database, spec: SeriesSpec) -> SeriesRecord:
    """The series of this spec, made if nobody asked for it before. Raises StoreError for an unknown network."""
    with db.read() as connection:
        found = _find(connection, spec)
    if found is not None:
        return found
    with db.write() as connection:
        network_id = connection.execute(
            select(tables.networks.c.id).where(tables.networks.c.sha256 == spec.network)
        ).scalar_one_or_none()
        if network_id is None:
            raise StoreError("The network of this series is not here any more.")
        connection.execute(
            insert_ignoring(db, tables.series), {"key": spec.key, "network_id": network_id, "spec": spec.identity()}
        )
        made = _find(connection, spec)
    assert made is not None
    return made


def find(db: Database, spec: SeriesSpec) -> SeriesRecord | None:
    """The series of this spec if anybody asked for it before."""
    with db.read() as connection:
        return _find(connection, spec)


def find_all(db: Database, specs: Sequence[SeriesSpec]) -> dict[str, SeriesRecord]:
    """SeriesSpec.key -> series, for those of `specs` that exist; one query."""
    keys = [spec.key for spec in specs]
    with db.read() as connection:
        rows = connection.execute(select(tables.series).where(tables.series.c.key.in_(keys))).all()
    return {row.key: SeriesRecord(row.id, SeriesSpec.from_json(row.spec)) for row in rows}


def missing(db: Database, series_id: int, left_ids: Ids, right_ids: Ids) -> NDArray[np.bool_]:
    """(L, R) bool: True where the distance of that pair is not known yet."""
    left, right = _Places(left_ids), _Places(right_ids)
    row = tables.distances.c
    query = select(row.left_id, row.right_id).where(row.series_id == series_id, row.left_id.in_(left.ids))
    with db.read() as connection:
        known = _fetch(connection, query, 2)
    result = np.ones((len(left), len(right)), dtype=bool)
    inside = right.holds(known[:, 1])
    result[left.of(known[inside, 0]), right.of(known[inside, 1])] = False
    return result


def matrix(db: Database, series_id: int, left_ids: Ids, right_ids: Ids) -> Found:
    """What is known of one series for these images, (L, R) in the order of the ids."""
    return matrices(db, [series_id], left_ids, right_ids)[series_id]


def matrices(db: Database, series_ids: Sequence[int], left_ids: Ids, right_ids: Ids) -> dict[int, Found]:
    """Series id -> what is known of it for these images; one query for all of them."""
    left, right = _Places(left_ids), _Places(right_ids)
    row = tables.distances.c
    query = select(
        row.series_id,
        row.left_id,
        row.right_id,
        row.distance,
        row.residual,
        type_coerce(row.collided, Integer),
        row.passes,
        row.worker_id,
        type_coerce(row.turned, Integer),
        case({name: place for place, name in enumerate(_PRECISIONS)}, value=row.precision, else_=-1),
    ).where(row.series_id.in_(list(series_ids)), row.left_id.in_(left.ids))
    with db.read() as connection:
        known = _fetch(connection, query, 10)
        workers = {
            worker.id: worker
            for worker in connection.execute(
                select(tables.workers.c.id, tables.workers.c.device, tables.workers.c.versions).where(
                    tables.workers.c.id.in_(np.unique(known[:, 7]).astype(int).tolist())
                )
            )
        }
    known = known[right.holds(known[:, 2])]
    result = {}
    for series_id in series_ids:
        own = known[known[:, 0] == series_id]
        place = (left.of(own[:, 1]), right.of(own[:, 2]))
        found = Found.nothing(len(left), len(right))
        found.put(place, Found(own[:, 3], own[:, 4], own[:, 5] != 0, own[:, 6]))
        makers = [workers[int(i)] for i in np.unique(own[:, 7])]
        result[series_id] = replace(
            found,
            devices=tuple(sorted({maker.device for maker in makers})),
            versions=tuple(sorted({f"{name} {text}" for maker in makers for name, text in maker.versions.items()}))
            + _turned(int(own[:, 8].sum())),
            precisions=tuple(sorted(_PRECISIONS[int(place)] for place in np.unique(own[:, 9]) if place >= 0)),
        )
    return result


def _turned(count: int) -> tuple[str, ...]:
    """What is said of pairs whose row was turned round: a search anew may find another distance in its digits."""
    return (f"{count} pairs searched with the classes the other way round",) if count else ()


def counts(db: Database, series_ids: Sequence[int], left_ids: Ids) -> dict[int, tuple[int, int]]:
    """Series id -> how many distances of it are known for these left images, and how many of those were improved.

    They change whenever a distance does, and are far cheaper than reading them.
    """
    row = tables.distances.c
    query = (
        select(row.series_id, func.count(), func.count().filter(row.again))
        .where(row.series_id.in_(list(series_ids)), row.left_id.in_(_plain(left_ids)))
        .group_by(row.series_id)
    )
    with db.read() as connection:
        found = {series_id: (int(count), int(again)) for series_id, count, again in connection.execute(query)}
    return {series_id: found.get(series_id, (0, 0)) for series_id in series_ids}


def record(
    db: Database,
    *,
    audit_id: int,
    attempt: int,
    series_id: int,
    left_ids: Ids,
    right_ids: Ids,
    found: Found,
    worker_id: int,
) -> int:
    """Record what was found of a block of B pairs in one transaction; return how many were new.

    Pairs that are known keep their distance. Raises Fenced, and records nothing, if the audit was cancelled,
    removed or claimed again since this attempt; StoreError for a distance that is negative or not a number.
    """
    if not (np.isfinite(found.distance).all() and (found.distance >= 0).all()):
        raise StoreError("The search returned a distance that is not a number of 0 or more.")
    rows = rows_of(series_id, worker_id, left_ids, right_ids, found)
    rows.sort(key=lambda row: (row["left_id"], row["right_id"]))  # writers that meet take the rows in one order
    with db.write() as connection:
        hold(connection, audit_id, attempt)
        if not rows:
            return 0
        new = connection.execute(insert_ignoring(db, tables.distances).returning(tables.distances.c.left_id), rows)
        return len(new.all())


def improve(
    db: Database,
    *,
    audit_id: int,
    attempt: int,
    series_id: int,
    left_ids: Ids,
    right_ids: Ids,
    found: Found,
    worker_id: int,
) -> NDArray[np.bool_]:
    """Record what a second search of B known pairs found, where that is nearer: (B,) bool, where it is.

    A kept collision of such a pair goes, since it is farther. Raises Fenced as `record` does.
    """
    row = tables.distances.c
    nearer = np.zeros(len(found.distance), dtype=bool)
    with db.write() as connection:
        hold(connection, audit_id, attempt)
        for place, values in enumerate(rows_of(series_id, worker_id, left_ids, right_ids, found)):
            pair = {name: values.pop(name) for name in ("series_id", "left_id", "right_id")}
            same = [row[name] == value for name, value in pair.items()]
            changed = connection.execute(
                update(tables.distances).where(*same, row.distance > values["distance"]).values(**values, again=True)
            )
            if changed.rowcount:
                nearer[place] = True
                connection.execute(delete(tables.collisions).where(*_same(pair)))
    return nearer


def rows_of(series_id: int, worker_id: int, left_ids: Ids, right_ids: Ids, found: Found) -> list[dict[str, Any]]:
    """The rows of B pairs; a residual that is not a number counts as infinite."""
    residual = np.nan_to_num(np.asarray(found.residual, dtype=np.float64), nan=np.inf, posinf=np.inf)
    columns = (left_ids, right_ids, found.distance, residual, found.collided, found.passes)
    names = ("left_id", "right_id", "distance", "residual", "collided", "passes")
    (precision,) = found.precisions if len(found.precisions) == 1 else (None,)  # a block is searched in one
    own = {"series_id": series_id, "worker_id": worker_id, "precision": precision}
    return [
        {**own, **dict(zip(names, row, strict=True))}
        for row in zip(*(np.asarray(column).tolist() for column in columns), strict=True)
    ]


def hold(connection: Connection, audit_id: int, attempt: int) -> None:
    """The fence: raise Fenced unless this attempt still has the audit; a recorded block clears its lapses."""
    audit = tables.audits.c
    held = connection.execute(
        update(tables.audits)
        .where(audit.id == audit_id, audit.attempt == attempt, audit.state == "running")
        .values(lapses=0)
    )
    if held.rowcount == 0:
        raise Fenced("The audit was cancelled or given to another worker.")


def closest(
    db: Database, series_id: int, left_ids: Ids, right_ids: Ids, limit: int
) -> tuple[list[tuple[int, int]], Found]:
    """The closest K known pairs among these images, the closest first: the ids of both, and what is found (K,)."""
    row = tables.distances.c
    query = (
        select(row.left_id, row.right_id, row.distance, row.residual, type_coerce(row.collided, Integer), row.passes)
        .where(row.series_id == series_id, row.left_id.in_(_plain(left_ids)), row.right_id.in_(_plain(right_ids)))
        .order_by(row.distance, row.left_id, row.right_id)
        .limit(limit)
    )
    with db.read() as connection:
        rows = _fetch(connection, query, 6)
    pairs = [(int(left), int(right)) for left, right in rows[:, :2]]
    return pairs, Found(rows[:, 2], rows[:, 3], rows[:, 4] != 0, rows[:, 5])


def put_collision(
    db: Database,
    series_id: int,
    left_id: int,
    right_id: int,
    left: NDArray[np.float32],
    right: NDArray[np.float32],
    predictions: dict[str, Any],
) -> None:
    """Keep the two images that meet, (C, H, W) float32, and the logits of the four images; replaces an older one."""
    key = {"series_id": series_id, "left_id": left_id, "right_id": right_id}
    with db.write() as connection:
        connection.execute(delete(tables.collisions).where(*_same(key)))
        connection.execute(
            insert_ignoring(db, tables.collisions),
            {
                **key,
                "shape": list(left.shape),
                "predictions": predictions,
                "left": np.ascontiguousarray(left, dtype=np.float32).tobytes(),
                "right": np.ascontiguousarray(right, dtype=np.float32).tobytes(),
            },
        )


def get_collision(db: Database, series_id: int, left_id: int, right_id: int) -> CollisionRecord | None:
    """The collision of a pair if it was kept."""
    key = {"series_id": series_id, "left_id": left_id, "right_id": right_id}
    with db.read() as connection:
        row = connection.execute(select(tables.collisions).where(*_same(key))).one_or_none()
    if row is None:
        return None
    left, right = (np.frombuffer(data, np.float32).reshape(row.shape) for data in (row.left, row.right))
    return CollisionRecord(**key, left=left, right=right, predictions=row.predictions)


def predictions(db: Database, network_id: int, image_ids: Ids) -> dict[int, list[float]]:
    """What a network says of stored images, image id -> logits, as far as collisions of theirs were kept."""
    collision, wanted = tables.collisions.c, set(_plain(image_ids))
    query = (
        select(collision.left_id, collision.right_id, collision.predictions)
        .join(tables.series, tables.series.c.id == collision.series_id)
        .where(tables.series.c.network_id == network_id, collision.left_id.in_(wanted) | collision.right_id.in_(wanted))
    )
    says: dict[int, list[float]] = {}
    with db.read() as connection:
        for left_id, right_id, said in connection.execute(query):
            says |= {i: said[who] for i, who in ((left_id, "left"), (right_id, "right")) if i in wanted and who in said}
    return says


class _Places:
    """Where each id stands in a list of ids, for whole arrays of ids at once."""

    def __init__(self, ids: Ids):
        self.ids = _plain(ids)
        array = np.asarray(self.ids, dtype=np.float64)  # ids are far below 2**53
        self._order = np.argsort(array)
        self._sorted = array[self._order]

    def __len__(self) -> int:
        return len(self.ids)

    def of(self, ids: NDArray[np.float64]) -> NDArray[np.intp]:
        return self._order[np.searchsorted(self._sorted, ids)]

    def holds(self, ids: NDArray[np.float64]) -> NDArray[np.bool_]:
        return np.isin(ids, self._sorted)


def _plain(ids: Ids) -> list[int]:
    return [int(i) for i in ids]


def _fetch(connection: Connection, query: Select[Any], columns: int) -> NDArray[np.float64]:
    """The rows of a query of numbers as one float64 array (rows, columns)."""
    rows = connection.execute(query).cursor.fetchall()  # plain tuples: a third faster than SQLAlchemy's rows
    flat = np.fromiter((value for row in rows for value in row), dtype=np.float64, count=len(rows) * columns)
    return flat.reshape(-1, columns)


def _find(connection: Connection, spec: SeriesSpec) -> SeriesRecord | None:
    found = connection.execute(select(tables.series.c.id).where(tables.series.c.key == spec.key)).scalar_one_or_none()
    return None if found is None else SeriesRecord(found, spec)


def _same(key: dict[str, int]) -> list[Any]:
    return [tables.collisions.c[name] == value for name, value in key.items()]
