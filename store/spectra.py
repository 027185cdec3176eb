"""What is known of affine layers beyond distances: norms of their matrix L, and the lengths of L(x - x')."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, delete, select

from robustness_core.engine.tasks import Norms
from store import tables
from store.database import Database, insert_ignoring
from store.errors import StoreError
from store.records import SpectrumRecord

Ids = Sequence[int] | NDArray[np.integer[Any]]


def find(db: Database, network_id: int, layer: str) -> SpectrumRecord | None:
    """The spectrum of a layer if it was measured."""
    with db.read() as connection:
        return _find(connection, network_id, layer)


def lengths(db: Database, spectrum_id: int, left_ids: Ids, right_ids: Ids) -> NDArray[np.float64]:
    """The lengths of L(x - x') for these images, (L, R) in the order of the ids, NaN where not known."""
    left, right = ({int(id_): place for place, id_ in enumerate(ids)} for ids in (left_ids, right_ids))
    row = tables.lengths.c
    query = select(row.left_id, row.right_id, row.length).where(
        row.spectrum_id == spectrum_id, row.left_id.in_(list(left))
    )
    found = np.full((len(left), len(right)), np.nan)
    with db.read() as connection:
        for left_id, right_id, length in connection.execute(query):
            if right_id in right:
                found[left[left_id], right[right_id]] = length
    return found


def record(db: Database, network_id: int, layer: str, norms: Norms, left_ids: Ids, right_ids: Ids) -> None:
    """Keep the spectrum of a layer and the lengths (L, R) of all pairs of these images; what is known stays.

    Raises StoreError if a number is not finite or the network was removed.
    """
    if not (np.isfinite([norms.frobenius, norms.r4]).all() and np.isfinite(norms.lengths).all()):
        raise StoreError("The norms of this layer are not finite numbers.")
    own = {"network_id": network_id, "layer": layer}
    with db.write() as connection:
        found = select(tables.networks.c.id).where(tables.networks.c.id == network_id)
        if connection.execute(found).scalar_one_or_none() is None:
            raise StoreError("This network was removed.")
        connection.execute(
            insert_ignoring(db, tables.spectra),
            {**own, "frobenius": norms.frobenius, "r4": norms.r4, "exact": norms.exact},
        )
        spectrum = _find(connection, network_id, layer)
        assert spectrum is not None
        rows = [
            {
                "spectrum_id": spectrum.id,
                "left_id": int(left),
                "right_id": int(right),
                "length": float(norms.lengths[i, j]),
            }
            for i, left in enumerate(left_ids)
            for j, right in enumerate(right_ids)
        ]
        connection.execute(insert_ignoring(db, tables.lengths), rows)


def remove(connection: Connection, network_id: int) -> None:
    """Remove all that is known of a network's layers, within the transaction of its removal."""
    own = select(tables.spectra.c.id).where(tables.spectra.c.network_id == network_id)
    connection.execute(delete(tables.lengths).where(tables.lengths.c.spectrum_id.in_(own)))
    connection.execute(delete(tables.spectra).where(tables.spectra.c.network_id == network_id))


def _find(connection: Connection, network_id: int, layer: str) -> SpectrumRecord | None:
    row = tables.spectra.c
    found = connection.execute(
        select(row.id, row.frobenius, row.r4, row.exact).where(row.network_id == network_id, row.layer == layer)
    ).one_or_none()
    return None if found is None else SpectrumRecord(*found)
