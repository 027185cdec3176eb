"""Alembic's entry: runs revisions on the connection that store.database hands over, or on STRATA_DATABASE."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from store.database import open_engine
from store.tables import metadata


def run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        render_as_batch=True,  # SQLite changes a table by copying it
        transactional_ddl=True,  # SQLite can too, since store.database begins transactions itself
    )
    with context.begin_transaction():
        context.run_migrations()


given: Connection | None = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    with open_engine(None).connect() as own, own.execution_options(strata_write=True).begin():
        run(own)
