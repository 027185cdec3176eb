"""Distances of sets of three and more images."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "set_distances",
        sa.Column("series_id", sa.Integer(), sa.ForeignKey("series.id"), primary_key=True),
        sa.Column("images", sa.String(400), primary_key=True),
        sa.Column("distance", sa.Double(), nullable=False),
        sa.Column("residual", sa.Double(), nullable=False),
        sa.Column("collided", sa.Boolean(), nullable=False),
        sa.Column("passes", sa.Double(), nullable=False),
        sa.Column("worker_id", sa.Integer(), sa.ForeignKey("workers.id"), nullable=False),
        sa.CheckConstraint("distance >= 0", name="set_distance_not_negative"),
        sqlite_with_rowid=False,
    )
