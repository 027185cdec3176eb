"""At which budget PGD fools a network on single images."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "attacks",
        sa.Column("network_id", sa.Integer(), sa.ForeignKey("networks.id"), primary_key=True),
        sa.Column("image_id", sa.Integer(), sa.ForeignKey("images.id"), primary_key=True),
        sa.Column("epsilon", sa.Double(), nullable=False),
        sqlite_with_rowid=False,
    )
