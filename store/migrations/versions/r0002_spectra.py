"""Spectra of affine layers and the lengths of differences there, for the square-root law."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "spectra",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("network_id", sa.Integer(), nullable=False),
        sa.Column("layer", sa.String(length=200), nullable=False),
        sa.Column("frobenius", sa.Double(), nullable=False),
        sa.Column("r4", sa.Double(), nullable=False),
        sa.Column("exact", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["network_id"], ["networks.id"], name=op.f("fk_spectra_network_id_networks")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_spectra")),
        sa.UniqueConstraint("network_id", "layer", name=op.f("uq_spectra_network_id_layer")),
    )
    op.create_table(
        "lengths",
        sa.Column("spectrum_id", sa.Integer(), nullable=False),
        sa.Column("left_id", sa.Integer(), nullable=False),
        sa.Column("right_id", sa.Integer(), nullable=False),
        sa.Column("length", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["left_id"], ["images.id"], name=op.f("fk_lengths_left_id_images")),
        sa.ForeignKeyConstraint(["right_id"], ["images.id"], name=op.f("fk_lengths_right_id_images")),
        sa.ForeignKeyConstraint(["spectrum_id"], ["spectra.id"], name=op.f("fk_lengths_spectrum_id_spectra")),
        sa.PrimaryKeyConstraint("spectrum_id", "left_id", "right_id", name=op.f("pk_lengths")),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    raise NotImplementedError("A newer database is not taken back; restore a backup.")
