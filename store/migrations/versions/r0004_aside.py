"""Networks and audits that are set aside, and can come back."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("audits", sa.Column("aside", sa.DateTime(), nullable=True))
    op.create_table(
        "networks_aside",
        sa.Column("network_id", sa.Integer(), nullable=False),
        sa.Column("since", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(["network_id"], ["networks.id"], name=op.f("fk_networks_aside_network_id_networks")),
        sa.PrimaryKeyConstraint("network_id", name=op.f("pk_networks_aside")),
    )


def downgrade() -> None:
    raise NotImplementedError("A newer database is not taken back; restore a backup.")
