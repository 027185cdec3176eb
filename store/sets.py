"""What is known of sets of three and more images that collide at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, select

from robustness_core.found import FoundSet, Set
from store import tables
from store.database import Database, insert_ignoring
from store.distances import Ids, hold


def record(
    db: Database, *, audit_id: int, attempt: int, series_id: int, found: Mapping[Set, FoundSet], worker_id: int
) -> None:
    """Record what was found of sets, ids of their images -> what. Those that are known stay. Raises Fenced."""
    with db.write() as connection:
        hold(connection, audit_id, attempt)
        put(db, connection, series_id, found, worker_id)


def put(db: Database, connection: Connection, series_id: int, found: Mapping[Set, FoundSet], worker_id: int) -> None:
    """As `record`, in a transaction of the caller's."""
    rows = [
        {
            "series_id": series_id,
            "images": ",".join(str(i) for i in sorted(ids)),
            "distance": one.distance,
            "residual": one.residual,
            "collided": one.collided,
            "passes": one.passes,
            "worker_id": worker_id,
        }
        for ids, one in found.items()
    ]
    if rows:
        connection.execute(insert_ignoring(db, tables.set_distances), rows)


def find(db: Database, series_ids: Sequence[int], image_ids: Ids) -> dict[int, dict[Set, FoundSet]]:
    """Series id -> what is known of sets of these images, by their places in `image_ids`, ascending; one query."""
    row = tables.set_distances.c
    query = select(row.series_id, row.images, row.distance, row.residual, row.collided, row.passes)
    place = {int(i): at for at, i in enumerate(image_ids)}
    found: dict[int, dict[Set, FoundSet]] = {series_id: {} for series_id in series_ids}
    with db.read() as connection:
        for series_id, images, *rest in connection.execute(query.where(row.series_id.in_(list(series_ids)))):
            ids = [int(i) for i in images.split(",")]
            if all(i in place for i in ids):
                found[series_id][tuple(sorted(place[i] for i in ids))] = FoundSet(*rest)
    return found
