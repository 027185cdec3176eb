"""The registry of networks: their records and weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Row, delete, func, not_, select, update
from sqlalchemy.exc import IntegrityError

from robustness_core.engine.tasks import NetworkFile
from store import spectra, tables
from store.database import Database
from store.errors import StoreError
from store.records import Dependents, LayerRecord, NetworkRecord, Source

_COLUMNS = [column for column in tables.networks.c if column.name != "weights"]
_HERE = tables.networks.c.id.not_in(select(tables.networks_aside.c.network_id))
KEPT_ASIDE = timedelta(days=1)


def register(
    db: Database,
    file: NetworkFile,
    *,
    name: str,
    source: Source,
    layers: Iterable[LayerRecord],
    card: Mapping[str, Any],
) -> NetworkRecord:
    """Register a network. The same sha256 again gives the record that is there; a taken name gets " (2)".

    A bundled network that was trained again takes the name, with which screens ask for it; the one before is called
    "… (earlier)" then and keeps its audits. The content of `file` are the bytes of one that
    `robustness_core.checkpoints.load` reads. Raises StoreError.
    """
    if not name.strip():
        raise StoreError("Give the network a name.")
    same = tables.networks.c.sha256 == file.sha256
    with db.write() as connection:
        _restore(connection, same)
        known = _find(connection, same)
        if known is not None:
            return known
        if source == "zoo":
            taken = (tables.networks.c.name == name.strip()) & (tables.networks.c.source == "zoo")
            earlier = _free_name(connection, f"{name.strip()} (earlier)")
            connection.execute(update(tables.networks).where(taken).values(name=earlier))
        values = {
            "name": _free_name(connection, name.strip()),
            "sha256": file.sha256,
            "source": source,
            "format": file.format,
            "architecture": file.architecture,
            "input_shape": list(file.input_shape),
            "mean": None if file.mean is None else list(file.mean),
            "std": None if file.std is None else list(file.std),
            "layers": [asdict(layer) for layer in layers],
            "card": dict(card),
            "note": "",
            "tags": [],
            "created": db.now(connection),
            "weights": file.content,
        }
        try:
            with connection.begin_nested():
                connection.execute(tables.networks.insert().values(values))
        except IntegrityError:  # on PostgreSQL another process may have registered it meanwhile
            known = _find(connection, same)
            if known is None:
                raise
            return known
        record = _find(connection, same)
    assert record is not None
    return record


def all(db: Database) -> list[NetworkRecord]:
    """Every network, by name."""
    with db.read() as connection:
        rows = connection.execute(select(*_COLUMNS).where(_HERE).order_by(tables.networks.c.name)).all()
    return [_record(row) for row in rows]


def by_name(db: Database, name: str) -> NetworkRecord | None:
    with db.read() as connection:
        return _find(connection, tables.networks.c.name == name)


def by_id(db: Database, network_id: int) -> NetworkRecord | None:
    with db.read() as connection:
        return _find(connection, tables.networks.c.id == network_id)


def by_sha256(db: Database, sha256: str) -> NetworkRecord | None:
    with db.read() as connection:
        return _find(connection, tables.networks.c.sha256 == sha256)


def weights(db: Database, network_id: int) -> bytes:
    """The bytes of the network's file. Raises StoreError if the network was removed."""
    with db.read() as connection:
        found = connection.execute(
            select(tables.networks.c.weights).where(tables.networks.c.id == network_id)
        ).scalar_one_or_none()
    if found is None:
        raise StoreError("This network was removed.")
    return bytes(found)


def rename(db: Database, network_id: int, name: str) -> None:
    """Give a network another name; its distances and audits stay. Raises StoreError for a taken or empty name."""
    name = name.strip()
    if not name:
        raise StoreError("Give the network a name.")
    with db.write() as connection:
        holder = connection.execute(select(tables.networks.c.id).where(tables.networks.c.name == name)).scalar()
        if holder not in (None, network_id):
            raise StoreError(f"Another network is called {name!r}; choose another name.")
        _update(connection, network_id, name=name)


def annotate(db: Database, network_id: int, *, note: str | None = None, tags: Sequence[str] | None = None) -> None:
    """Change the note or the tags of a network; None leaves as it is."""
    changes: dict[str, Any] = {} if note is None else {"note": note}
    if tags is not None:
        changes["tags"] = list(tags)
    if changes:
        with db.write() as connection:
            _update(connection, network_id, **changes)


def put_card(db: Database, network_id: int, card: dict[str, Any]) -> None:
    """Replace the card of a network: how it was trained and what was measured of it."""
    with db.write() as connection:
        _update(connection, network_id, card=card)


def dependents(db: Database, network_id: int) -> Dependents:
    """How many audits, series and distances go when this network is removed."""
    own = select(tables.series.c.id).where(tables.series.c.network_id == network_id)
    with db.read() as connection:
        return Dependents(
            audits=connection.scalar(
                select(func.count()).select_from(tables.audits).where(tables.audits.c.network_id == network_id)
            )
            or 0,
            series=connection.scalar(select(func.count()).select_from(own.subquery())) or 0,
            distances=connection.scalar(
                select(func.count()).select_from(tables.distances).where(tables.distances.c.series_id.in_(own))
            )
            or 0,
        )


def set_aside(db: Database, network_id: int) -> None:
    """Remove a network, with its audits; those at work are cancelled. `restore` brings it back.

    Its name is free for another one.
    """
    network, audit = tables.networks.c, tables.audits.c
    with db.write() as connection:
        now = db.now(connection)
        connection.execute(
            update(tables.audits)
            .where(audit.network_id == network_id, audit.state.in_(tables.ACTIVE))
            .values(state="cancelled", finished=now, lease_until=None)
        )
        changed = connection.execute(
            update(tables.networks).where(network.id == network_id, _HERE).values(name=network.name + _mark(network_id))
        )
        if changed.rowcount == 0:
            raise StoreError("This network was removed.")
        connection.execute(tables.networks_aside.insert().values(network_id=network_id, since=now))


def restore(db: Database, network_id: int) -> NetworkRecord:
    """Put back what was set aside. Raises StoreError once it is gone for good."""
    with db.write() as connection:
        _restore(connection, tables.networks.c.id == network_id)
        record = _find(connection, tables.networks.c.id == network_id)
    if record is None:
        raise StoreError("This network is gone for good.")
    return record


def _restore(connection: Connection, condition: Any) -> None:
    network = tables.networks.c
    row = connection.execute(select(network.id, network.name).where(condition, not_(_HERE))).first()
    if row is not None:
        name = _free_name(connection, row.name.removesuffix(_mark(row.id)))
        connection.execute(update(tables.networks).where(network.id == row.id).values(name=name))
        connection.execute(delete(tables.networks_aside).where(tables.networks_aside.c.network_id == row.id))


def _mark(network_id: int) -> str:
    return f" (set aside, {network_id})"


def remove_old(db: Database) -> None:
    """Remove for good what was set aside more than a day ago."""
    aside, audit = tables.networks_aside.c, tables.audits.c
    with db.write() as connection:
        before = db.now(connection) - KEPT_ASIDE
        connection.execute(delete(tables.audits).where(audit.aside < before))
        old = connection.scalars(select(aside.network_id).where(aside.since < before)).all()
    for network_id in old:
        remove(db, network_id)


def remove(db: Database, network_id: int) -> None:
    """Remove a network with everything that depends on it. A worker that is busy with it stops at its next block.

    The audits go first, so that nothing new is recorded; then series by series, so that no transaction is long.
    """
    with db.write() as connection:
        connection.execute(delete(tables.audits).where(tables.audits.c.network_id == network_id))
    with db.read() as connection:
        own = connection.scalars(select(tables.series.c.id).where(tables.series.c.network_id == network_id)).all()
    for series_id in own:
        with db.write() as connection:
            _remove_series(connection, series_id)
    with db.write() as connection:
        connection.execute(delete(tables.audits).where(tables.audits.c.network_id == network_id))
        for series_id in connection.scalars(
            select(tables.series.c.id).where(tables.series.c.network_id == network_id)
        ).all():
            _remove_series(connection, series_id)
        spectra.remove(connection, network_id)
        connection.execute(delete(tables.attacks).where(tables.attacks.c.network_id == network_id))
        connection.execute(delete(tables.networks_aside).where(tables.networks_aside.c.network_id == network_id))
        connection.execute(delete(tables.networks).where(tables.networks.c.id == network_id))


def _remove_series(connection: Connection, series_id: int) -> None:
    for table in (tables.collisions, tables.findings, tables.set_distances, tables.distances):
        connection.execute(delete(table).where(table.c.series_id == series_id))
    connection.execute(delete(tables.series).where(tables.series.c.id == series_id))


def _update(connection: Connection, network_id: int, **values: Any) -> None:
    changed = connection.execute(update(tables.networks).where(tables.networks.c.id == network_id).values(**values))
    if changed.rowcount == 0:
        raise StoreError("This network was removed.")


def _free_name(connection: Connection, name: str) -> str:
    taken = set(connection.scalars(select(tables.networks.c.name)))
    free, number = name, 1
    while free in taken:
        number += 1
        free = f"{name} ({number})"
    return free


def _find(connection: Connection, condition: Any) -> NetworkRecord | None:
    row = connection.execute(select(*_COLUMNS).where(condition, _HERE)).one_or_none()
    return None if row is None else _record(row)


def _record(row: Row[Any]) -> NetworkRecord:
    values = dict(row._mapping)
    for name in ("input_shape", "mean", "std", "tags"):
        values[name] = None if values[name] is None else tuple(values[name])
    values["layers"] = tuple(LayerRecord(**{**layer, "shape": tuple(layer["shape"])}) for layer in values["layers"])
    return NetworkRecord(**values)
