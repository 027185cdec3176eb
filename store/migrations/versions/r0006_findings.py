"""What curves rest on (findings), and how each distance was searched: in which precision, and whether once more."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "findings",
        sa.Column("series_id", sa.Integer(), sa.ForeignKey("series.id"), primary_key=True),
        sa.Column("sample", sa.String(64), primary_key=True),
        sa.Column("finding", sa.JSON(), nullable=False),
        sqlite_with_rowid=False,
    )
    op.add_column("distances", sa.Column("precision", sa.String(10)))
    op.add_column("distances", sa.Column("again", sa.Boolean(), nullable=False, server_default=sa.false()))
