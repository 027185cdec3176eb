"""At which budget an attack fools a network on single images."""

from __future__ import annotations

import numpy as np
from sqlalchemy import Connection, select

from robustness_core.found import Floats
from store import tables
from store.database import Database, insert_ignoring
from store.distances import Ids


def record(db: Database, network_id: int, image_ids: Ids, epsilon: Floats) -> None:
    """Keep the least budgets of these images, (n,), infinite where the attack found nothing; known ones stay."""
    with db.write() as connection:
        put(db, connection, network_id, image_ids, epsilon)


def put(db: Database, connection: Connection, network_id: int, image_ids: Ids, epsilon: Floats) -> None:
    """As `record`, in a transaction of the caller's."""
    rows = [
        {"network_id": network_id, "image_id": int(image), "epsilon": float(one)}
        for image, one in zip(image_ids, epsilon, strict=True)
    ]
    if rows:
        connection.execute(insert_ignoring(db, tables.attacks), rows)


def find(db: Database, network_id: int, image_ids: Ids) -> Floats:
    """The least budget of each image, (n,); NaN where it was not attacked."""
    row = tables.attacks.c
    wanted = [int(i) for i in image_ids]
    query = select(row.image_id, row.epsilon).where(row.network_id == network_id, row.image_id.in_(wanted))
    with db.read() as connection:
        known = {image: epsilon for image, epsilon in connection.execute(query)}
    return np.array([known.get(image, np.nan) for image in wanted])
