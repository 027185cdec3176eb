"""The tables of the database; store/migrations makes them, and a test holds the two together."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    false,
    text,
)

REVISION = "0009"  # the newest revision in store/migrations/versions

STATES = ("queued", "running", "done", "failed", "cancelled")
ACTIVE = ("queued", "running")


class UtcTime(TypeDecorator[datetime]):
    """An aware UTC time in Python, a plain UTC time in the database (SQLite knows no time zones)."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC)


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_N_label)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

networks = Table(
    "networks",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(200), nullable=False, unique=True),
    Column("sha256", String(64), nullable=False, unique=True),
    Column("source", String(20), nullable=False),  # zoo or upload
    Column("format", String(20), nullable=False),  # safetensors, torch or onnx
    Column("architecture", Text, nullable=False),
    Column("input_shape", JSON, nullable=False),
    Column("mean", JSON),
    Column("std", JSON),
    Column("layers", JSON, nullable=False),
    Column("card", JSON, nullable=False),
    Column("note", Text, nullable=False),
    Column("tags", JSON, nullable=False),
    Column("created", UtcTime, nullable=False),
    Column("weights", LargeBinary, nullable=False),  # last: SQLite reads a row up to the columns it needs
)

networks_aside = Table(
    "networks_aside",  # that nobody sees any more, and that can come back
    metadata,
    Column("network_id", ForeignKey("networks.id"), primary_key=True, autoincrement=False),
    Column("since", UtcTime, nullable=False),
)

images = Table(
    "images",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("dataset", String(50), nullable=False),
    Column("split", String(10), nullable=False),
    Column("index", Integer, nullable=False),
    Column("label", Integer, nullable=False),
    Column("shape", JSON, nullable=False),  # height, width, channels
    Column("pixels", LargeBinary, nullable=False),  # uint8, row by row
    UniqueConstraint("dataset", "split", "index"),
)

image_sets = Table(
    "image_sets",  # of users' own, beside the data sets that have a name everywhere
    metadata,
    Column("name", String(50), primary_key=True),  # holds a part of the hash
    Column("sha256", String(64), nullable=False),  # ImageSet.sha256
    Column("about", JSON, nullable=False),  # ImageSet.about: class names, shape and what else the registry says
    Column("created", UtcTime, nullable=False),
    Column("content", LargeBinary, nullable=False),  # ImageSet.to_bytes
)

workers = Table(
    "workers",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("host", String(200), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("device", String(200), nullable=False),
    Column("versions", JSON, nullable=False),
    Column("state", String(10), nullable=False),  # running, stopping (asked to stop), stopped or killed
    Column("started", UtcTime, nullable=False),
    Column("heartbeat", UtcTime, nullable=False),
    Column("log_path", Text, nullable=False),
)

series = Table(
    "series",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("key", String(32), nullable=False, unique=True),  # SeriesSpec.key: everything that decides a distance
    Column("network_id", ForeignKey("networks.id"), nullable=False, index=True),
    Column("spec", JSON, nullable=False),
)

distances = Table(
    "distances",
    metadata,
    Column("series_id", ForeignKey("series.id"), primary_key=True),
    Column("left_id", ForeignKey("images.id"), primary_key=True),  # of the lower class
    Column("right_id", ForeignKey("images.id"), primary_key=True),
    Column("distance", Double, nullable=False),
    Column("residual", Double, nullable=False),
    Column("collided", Boolean, nullable=False),
    Column("passes", Double, nullable=False),
    Column("worker_id", ForeignKey("workers.id"), nullable=False),
    Column("turned", Boolean, nullable=False, server_default=false()),  # searched when the higher class stood left
    Column("precision", String(10)),  # of the search's steps; of rows from before that was noted, nothing
    Column("again", Boolean, nullable=False, server_default=false()),  # found by a second search, nearer than the first
    CheckConstraint("distance >= 0", name="distance_not_negative"),
    sqlite_with_rowid=False,  # the rows lie in the order of the primary key: one series is read in one sweep
)

set_distances = Table(
    "set_distances",  # of three and more images of distinct classes
    metadata,
    Column("series_id", ForeignKey("series.id"), primary_key=True),
    Column("images", String(400), primary_key=True),  # their ids, ascending, with commas between them
    Column("distance", Double, nullable=False),
    Column("residual", Double, nullable=False),
    Column("collided", Boolean, nullable=False),
    Column("passes", Double, nullable=False),
    Column("worker_id", ForeignKey("workers.id"), nullable=False),
    CheckConstraint("distance >= 0", name="set_distance_not_negative"),
    sqlite_with_rowid=False,
)

attacks = Table(
    "attacks",  # of single images by PGD among all classes, in ℓ2 within the pixel range
    metadata,
    Column("network_id", ForeignKey("networks.id"), primary_key=True),
    Column("image_id", ForeignKey("images.id"), primary_key=True),
    Column("epsilon", Double, nullable=False),  # the least budget tried that fools it; infinite where none does
    sqlite_with_rowid=False,
)

findings = Table(
    "findings",
    metadata,
    Column("series_id", ForeignKey("series.id"), primary_key=True),
    Column("sample", String(64), primary_key=True),  # SampleSpec.key
    Column("finding", JSON, nullable=False),  # robustness_core.found.Finding
    sqlite_with_rowid=False,
)

collisions = Table(
    "collisions",
    metadata,
    Column("series_id", ForeignKey("series.id"), primary_key=True),
    Column("left_id", ForeignKey("images.id"), primary_key=True),
    Column("right_id", ForeignKey("images.id"), primary_key=True),
    Column("shape", JSON, nullable=False),  # channels, height, width
    Column("predictions", JSON, nullable=False),
    Column("left", LargeBinary, nullable=False),  # float32
    Column("right", LargeBinary, nullable=False),
)

spectra = Table(
    "spectra",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("network_id", ForeignKey("networks.id"), nullable=False),
    Column("layer", String(200), nullable=False),  # an affine one
    Column("frobenius", Double, nullable=False),
    Column("r4", Double, nullable=False),
    Column("exact", Boolean, nullable=False),
    UniqueConstraint("network_id", "layer"),
)

lengths = Table(
    "lengths",  # of L(x - x') at an affine layer, whatever the projection
    metadata,
    Column("spectrum_id", ForeignKey("spectra.id"), primary_key=True),
    Column("left_id", ForeignKey("images.id"), primary_key=True),
    Column("right_id", ForeignKey("images.id"), primary_key=True),
    Column("length", Double, nullable=False),
    sqlite_with_rowid=False,
)

audits = Table(
    "audits",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("kind", String(10), nullable=False),  # audit or pair
    Column("key", String(64), nullable=False),  # equal questions have equal keys
    Column("spec", JSON, nullable=False),
    Column("network_id", ForeignKey("networks.id"), nullable=False, index=True),
    Column("state", String(10), nullable=False),
    Column("priority", Integer, nullable=False),
    Column("done", Integer, nullable=False),
    Column("total", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),  # the fence: every claim raises it
    Column("lapses", Integer, nullable=False),  # leases that ran out since the last recorded block
    Column("worker_id", ForeignKey("workers.id")),
    Column("lease_until", UtcTime),
    Column("error", Text),
    Column("final_epsilon", Double),
    Column("created", UtcTime, nullable=False),
    Column("started", UtcTime),
    Column("finished", UtcTime),
    Column("note", Text, nullable=False),
    Column("tags", JSON, nullable=False),
    Column("requested_by", String(200), nullable=False),
    Column("least_left", Double),  # seconds, as its worker last knew
    Column("most_left", Double),
    Column("aside", UtcTime),  # since when nobody sees it any more; it can come back
    CheckConstraint("state IN ('queued', 'running', 'done', 'failed', 'cancelled')", name="state_known"),
    Index("ix_audits_queue", "state", "priority", "id"),
    # One question is worked on once, however often it is asked at the same moment.
    Index(
        "uq_audits_active_key",
        "key",
        unique=True,
        sqlite_where=text("state IN ('queued', 'running')"),
        postgresql_where=text("state IN ('queued', 'running')"),
    ),
)
