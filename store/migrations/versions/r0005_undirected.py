"""Pairs have no direction: the image of the lower class stands left. And keys of audits without their budgets."""

from __future__ import annotations

import hashlib
import json

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# Rows whose left image is of the higher class.
_REVERSED = """
    FROM {table} AS old JOIN images AS l ON l.id = old.left_id JOIN images AS r ON r.id = old.right_id
    WHERE l.label > r.label
"""
_TURN = "INSERT INTO {table} ({key}, left_id, right_id, {rest}) SELECT old.{key}, old.right_id, old.left_id, {values}"
_SAYS = {"left": "right", "right": "left", "collision_left": "collision_right", "collision_right": "collision_left"}


def upgrade() -> None:
    op.add_column("distances", sa.Column("turned", sa.Boolean(), nullable=False, server_default=sa.false()))
    _turn("distances", "series_id", ["distance", "residual", "collided", "passes", "worker_id"], turned=True)
    _turn("lengths", "spectrum_id", ["length"])
    _turn_collisions()
    _new_keys()


def _turn(table: str, key: str, columns: list[str], *, turned: bool = False) -> None:
    """Turn the rows round; where the pair is known both ways, the one that stands right stays."""
    rest = ", ".join([*columns, *(["turned"] if turned else [])])
    values = ", ".join([*(f"old.{name}" for name in columns), *(["true"] if turned else [])])
    insert = _TURN.format(table=table, key=key, rest=rest, values=values) + _REVERSED.format(table=table)
    connection = op.get_bind()
    if connection.execute(sa.text(f"SELECT 1 {_REVERSED.format(table=table)} LIMIT 1")).first() is None:
        return
    connection.execute(sa.text(insert + " ON CONFLICT DO NOTHING"))
    connection.execute(
        sa.text(
            f"DELETE FROM {table} WHERE (SELECT label FROM images WHERE id = left_id)"
            " > (SELECT label FROM images WHERE id = right_id)"
        )
    )


def _turn_collisions() -> None:
    connection = op.get_bind()
    collisions = sa.Table("collisions", sa.MetaData(), autoload_with=connection)
    place = sa.text(f"SELECT old.series_id, old.left_id, old.right_id {_REVERSED.format(table='collisions')}")
    for series_id, left_id, right_id in connection.execute(place).all():
        row = collisions.c
        old = sa.and_(row.series_id == series_id, row.left_id == left_id, row.right_id == right_id)
        new = sa.and_(row.series_id == series_id, row.left_id == right_id, row.right_id == left_id)
        found = connection.execute(sa.select(collisions).where(old)).one()
        connection.execute(sa.delete(collisions).where(old))
        if connection.execute(sa.select(row.series_id).where(new)).first() is None:
            says = found.predictions if isinstance(found.predictions, dict) else json.loads(found.predictions)
            turned = {
                **found._asdict(),
                "left_id": right_id,
                "right_id": left_id,
                "left": found.right,
                "right": found.left,
                "predictions": {_SAYS.get(name, name): value for name, value in says.items()},
            }
            connection.execute(sa.insert(collisions).values(turned))


def _new_keys() -> None:
    """What decides the distances of an audit is all of its question but the budgets; 32 digits of its SHA-256.

    Of those that are queued or running and were different questions by their budgets alone, the first goes on.
    """
    connection = op.get_bind()
    audits = sa.Table("audits", sa.MetaData(), autoload_with=connection)
    networks = sa.table("networks", sa.column("id"), sa.column("sha256"))
    active: set[str] = set()
    query = (
        sa.select(audits.c.id, audits.c.spec, audits.c.state, audits.c.created, networks.c.sha256)
        .join(networks, networks.c.id == audits.c.network_id)
        .where(audits.c.kind == "audit")
        .order_by(audits.c.id)
    )
    for audit_id, spec, state, created, sha256 in connection.execute(query).all():
        asked = spec if isinstance(spec, dict) else json.loads(spec)
        identity = {name: value for name, value in asked.items() if name != "epsilon"}
        identity |= {"network": sha256, "classes": sorted(asked["classes"])}
        text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
        values = {"key": hashlib.sha256(text.encode()).hexdigest()[:32]}
        if state in ("queued", "running"):
            if values["key"] in active:
                values |= {"state": "cancelled", "finished": created}
            active.add(values["key"])
        connection.execute(sa.update(audits).where(audits.c.id == audit_id).values(values))


def downgrade() -> None:
    raise NotImplementedError("A newer database is not taken back; restore a backup.")
