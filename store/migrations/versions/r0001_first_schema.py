"""The first schema: networks, images, workers, series, distances, collisions, audits."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "images",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("dataset", sa.String(length=50), nullable=False),
        sa.Column("split", sa.String(length=10), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("label", sa.Integer(), nullable=False),
        sa.Column("shape", sa.JSON(), nullable=False),
        sa.Column("pixels", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_images")),
        sa.UniqueConstraint("dataset", "split", "index", name=op.f("uq_images_dataset_split_index")),
    )
    op.create_table(
        "networks",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("source", sa.String(length=20), nullable=False),
        sa.Column("format", sa.String(length=20), nullable=False),
        sa.Column("architecture", sa.Text(), nullable=False),
        sa.Column("input_shape", sa.JSON(), nullable=False),
        sa.Column("mean", sa.JSON(), nullable=True),
        sa.Column("std", sa.JSON(), nullable=True),
        sa.Column("layers", sa.JSON(), nullable=False),
        sa.Column("card", sa.JSON(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("weights", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_networks")),
        sa.UniqueConstraint("name", name=op.f("uq_networks_name")),
        sa.UniqueConstraint("sha256", name=op.f("uq_networks_sha256")),
    )
    op.create_table(
        "workers",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("host", sa.String(length=200), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("device", sa.String(length=200), nullable=False),
        sa.Column("versions", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("started", sa.DateTime(), nullable=False),
        sa.Column("heartbeat", sa.DateTime(), nullable=False),
        sa.Column("log_path", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workers")),
    )
    op.create_table(
        "audits",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("network_id", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("done", sa.Integer(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("lapses", sa.Integer(), nullable=False),
        sa.Column("worker_id", sa.Integer(), nullable=True),
        sa.Column("lease_until", sa.DateTime(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("final_epsilon", sa.Double(), nullable=True),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("started", sa.DateTime(), nullable=True),
        sa.Column("finished", sa.DateTime(), nullable=True),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("requested_by", sa.String(length=200), nullable=False),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'done', 'failed', 'cancelled')", name=op.f("ck_audits_state_known")
        ),
        sa.ForeignKeyConstraint(["network_id"], ["networks.id"], name=op.f("fk_audits_network_id_networks")),
        sa.ForeignKeyConstraint(["worker_id"], ["workers.id"], name=op.f("fk_audits_worker_id_workers")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audits")),
    )
    with op.batch_alter_table("audits") as batch_op:
        batch_op.create_index(batch_op.f("ix_audits_network_id"), ["network_id"], unique=False)
        batch_op.create_index("ix_audits_queue", ["state", "priority", "id"], unique=False)
        batch_op.create_index(
            "uq_audits_active_key",
            ["key"],
            unique=True,
            sqlite_where=sa.text("state IN ('queued', 'running')"),
            postgresql_where=sa.text("state IN ('queued', 'running')"),
        )

    op.create_table(
        "series",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(length=32), nullable=False),
        sa.Column("network_id", sa.Integer(), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["network_id"], ["networks.id"], name=op.f("fk_series_network_id_networks")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_series")),
        sa.UniqueConstraint("key", name=op.f("uq_series_key")),
    )
    with op.batch_alter_table("series") as batch_op:
        batch_op.create_index(batch_op.f("ix_series_network_id"), ["network_id"], unique=False)

    op.create_table(
        "collisions",
        sa.Column("series_id", sa.Integer(), nullable=False),
        sa.Column("left_id", sa.Integer(), nullable=False),
        sa.Column("right_id", sa.Integer(), nullable=False),
        sa.Column("shape", sa.JSON(), nullable=False),
        sa.Column("predictions", sa.JSON(), nullable=False),
        sa.Column("left", sa.LargeBinary(), nullable=False),
        sa.Column("right", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["left_id"], ["images.id"], name=op.f("fk_collisions_left_id_images")),
        sa.ForeignKeyConstraint(["right_id"], ["images.id"], name=op.f("fk_collisions_right_id_images")),
        sa.ForeignKeyConstraint(["series_id"], ["series.id"], name=op.f("fk_collisions_series_id_series")),
        sa.PrimaryKeyConstraint("series_id", "left_id", "right_id", name=op.f("pk_collisions")),
    )
    op.create_table(
        "distances",
        sa.Column("series_id", sa.Integer(), nullable=False),
        sa.Column("left_id", sa.Integer(), nullable=False),
        sa.Column("right_id", sa.Integer(), nullable=False),
        sa.Column("distance", sa.Double(), nullable=False),
        sa.Column("residual", sa.Double(), nullable=False),
        sa.Column("collided", sa.Boolean(), nullable=False),
        sa.Column("passes", sa.Double(), nullable=False),
        sa.Column("worker_id", sa.Integer(), nullable=False),
        sa.CheckConstraint("distance >= 0", name=op.f("ck_distances_distance_not_negative")),
        sa.ForeignKeyConstraint(["left_id"], ["images.id"], name=op.f("fk_distances_left_id_images")),
        sa.ForeignKeyConstraint(["right_id"], ["images.id"], name=op.f("fk_distances_right_id_images")),
        sa.ForeignKeyConstraint(["series_id"], ["series.id"], name=op.f("fk_distances_series_id_series")),
        sa.ForeignKeyConstraint(["worker_id"], ["workers.id"], name=op.f("fk_distances_worker_id_workers")),
        sa.PrimaryKeyConstraint("series_id", "left_id", "right_id", name=op.f("pk_distances")),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    raise NotImplementedError("A newer database is not taken back; restore a backup.")
