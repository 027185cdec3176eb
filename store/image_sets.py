"""Users' own image sets: kept whole, so that every worker and screen of this database has them."""

from __future__ import annotations

from functools import partial

from sqlalchemy import delete, select

from robustness_core.datasets import REGISTRY, own
from robustness_core.errors import DatasetError
from store import tables
from store.database import Database, insert_ignoring

_entered: dict[str, frozenset[str]] = {}  # what the registry has of each database, by its URL


def put(db: Database, images: own.ImageSet) -> str:
    """Keep a set and enter it into the registry; its name. One that is known stays as it is."""
    with db.write() as connection:
        row = {
            "name": images.name,
            "sha256": images.sha256,
            "about": images.about,
            "created": db.now(connection),
            "content": images.to_bytes(),
        }
        connection.execute(insert_ignoring(db, tables.image_sets), row)
    enter(db)
    return images.name


def enter(db: Database) -> list[str]:
    """Enter every set of this database into the registry of this process, and drop those that are gone; their names.

    One small query where nothing is new.
    """
    row = tables.image_sets.c
    with db.read() as connection:
        names = connection.scalars(select(row.name).order_by(row.created, row.name)).all()
        new = [name for name in names if name not in REGISTRY]
        about = connection.execute(select(row.name, row.about).where(row.name.in_(new))).all() if new else []
    for name, said in about:
        own.enter(name, said, partial(_content, db, name))
    for name in _entered.get(db.url, frozenset()).difference(names):
        REGISTRY.pop(name, None)
    _entered[db.url] = frozenset(names)
    return list(names)


def remove(db: Database, name: str) -> None:
    """Remove a set. What was found on it stays known, with the images that were asked."""
    with db.write() as connection:
        connection.execute(delete(tables.image_sets).where(tables.image_sets.c.name == name))
    enter(db)


def _content(db: Database, name: str) -> own.ImageSet:
    query = select(tables.image_sets.c.content).where(tables.image_sets.c.name == name)
    with db.read() as connection:
        content = connection.execute(query).scalar_one_or_none()
    if content is None:
        raise DatasetError(f"The images {name} were removed; add them again for an audit of more of them.")
    return own.ImageSet.from_bytes(bytes(content))
