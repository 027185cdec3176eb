"""How long what is left of an audit will take."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("audits", sa.Column("least_left", sa.Double(), nullable=True))
    op.add_column("audits", sa.Column("most_left", sa.Double(), nullable=True))


def downgrade() -> None:
    raise NotImplementedError("A newer database is not taken back; restore a backup.")
