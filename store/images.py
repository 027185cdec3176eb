"""The images that audits use, so that screens show them without the data sets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, select

from store import tables
from store.database import Database, insert_ignoring
from store.errors import StoreError
from store.records import ImageRecord


def put(
    db: Database,
    dataset: str,
    split: str,
    indices: Sequence[int],
    labels: Sequence[int],
    pixels: Sequence[NDArray[np.uint8]] | NDArray[np.uint8],
) -> list[int]:
    """Store images, (N, H, W, C) uint8, and return their ids in the same order; images that are known stay.

    Raises StoreError where another image is known under the same place in the data set: distances are kept by it.
    """
    rows: list[dict[str, Any]] = [
        {
            "dataset": dataset,
            "split": split,
            "index": int(index),
            "label": int(label),
            "shape": list(image.shape),
            "pixels": np.ascontiguousarray(image, dtype=np.uint8).tobytes(),
        }
        for index, label, image in zip(indices, labels, pixels, strict=True)
    ]
    known = ids(db, dataset, split, indices)
    _compare(db, rows, known)
    new = sorted((row for row in rows if row["index"] not in known), key=lambda row: row["index"])
    if new:
        with db.write() as connection:
            connection.execute(insert_ignoring(db, tables.images), new)
        known = ids(db, dataset, split, indices)
    return [known[int(index)] for index in indices]


def _compare(db: Database, rows: list[dict[str, Any]], known: dict[int, int]) -> None:
    stored = get(db, list(known.values()))
    for row in rows:
        if row["index"] in known:
            kept = stored[known[row["index"]]]
            if (kept.label, kept.pixels.tobytes()) != (row["label"], row["pixels"]):
                raise StoreError(
                    f"Image {row['index']} of {row['dataset']} ({row['split']}) in the database is another one than in "
                    "the files of this machine; are some of its files missing here?"
                )


def ids(db: Database, dataset: str, split: str, indices: Sequence[int]) -> dict[int, int]:
    """Index in the data set -> id, for those of `indices` that are stored."""
    with db.read() as connection:
        return _ids(connection, dataset, split, [int(index) for index in indices])


def get(db: Database, image_ids: Sequence[int]) -> dict[int, ImageRecord]:
    """Id -> image. Raises StoreError if one of them is not stored."""
    wanted = [int(i) for i in image_ids]
    with db.read() as connection:
        rows = connection.execute(select(tables.images).where(tables.images.c.id.in_(wanted))).all()
    found = {row.id: _record(row) for row in rows}
    missing = set(wanted) - found.keys()
    if missing:
        raise StoreError(f"The database holds no image with the id {min(missing)}.")
    return found


def _ids(connection: Connection, dataset: str, split: str, indices: list[int]) -> dict[int, int]:
    image = tables.images.c
    rows = connection.execute(
        select(image.index, image.id).where(image.dataset == dataset, image.split == split, image.index.in_(indices))
    ).all()
    return {index: image_id for index, image_id in rows}


def _record(row: Any) -> ImageRecord:
    return ImageRecord(
        id=row.id,
        dataset=row.dataset,
        split=row.split,
        index=row.index,
        label=row.label,
        pixels=np.frombuffer(row.pixels, np.uint8).reshape(row.shape),
    )
