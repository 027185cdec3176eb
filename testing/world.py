"""A small world for tests of the store and the worker: a clock to turn, a network, images and an audit."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from robustness_core.engine.tasks import NetworkFile
from robustness_core.found import COLUMNS, Found
from robustness_core.spec import AuditSpec
from store import Database, audits, distances, images, networks, workers
from store.records import AuditRecord, LayerRecord, NetworkRecord, Source

ARCHITECTURE = "conv 4 4x4/4, relu, flatten, fc 10"  # `testing.networks` builds it
SHA256 = "tiny".ljust(64, "0")
LAYERS = (
    LayerRecord("conv1.pre", (4, 7, 7), 196, affine=True, main=False),
    LayerRecord("conv1", (4, 7, 7), 196, affine=False, main=True),
    LayerRecord("logits", (10,), 10, affine=False, main=True),
)


class Clock:
    """A clock that stands until a test turns it."""

    def __init__(self) -> None:
        self.time = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time

    def turn(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


def network(
    db: Database,
    name: str = "tiny",
    sha256: str | None = None,
    input_shape: tuple[int, int, int] = (1, 28, 28),
    source: Source = "zoo",
) -> NetworkRecord:
    return networks.register(
        db,
        NetworkFile(
            sha256=sha256 or name.ljust(64, "0"),
            format="safetensors",
            architecture=ARCHITECTURE,
            input_shape=input_shape,
            mean=(0.1307,),
            std=(0.3081,),
            content=b"weights of " + name.encode(),
        ),
        name=name,
        source=source,
        layers=LAYERS,
        card={"accuracy": 0.98},
    )


def audit(**changes: object) -> AuditSpec:
    spec = AuditSpec.of("tiny", dataset="mnist-5k", classes=(3, 7), samples=4, layers=("conv1", "logits"), m=(5,))
    return spec.replace(**changes)


def running(db: Database, **changes: object) -> AuditRecord:
    """An audit of the network `tiny`, both put there, which a worker has claimed."""
    network(db)
    audits.submit(db, audit(**changes), requested_by="Ada")
    claimed = audits.claim(db, workers.register(db, "two cores", {"torch": "2.13"}).id)
    assert claimed is not None
    return claimed


def some_images(db: Database, count: int, *, start: int = 0, label: int = 3) -> list[int]:
    pixels = np.random.default_rng(start).integers(0, 256, (count, 28, 28, 1), dtype=np.uint8)
    return images.put(db, "mnist-5k", "train", range(start, start + count), [label] * count, pixels)


def block(db: Database, audit: AuditRecord, series_id: int, left: list[int], right: list[int], **changes: Any) -> int:
    """Record all pairs of `left` x `right`: the distance of the ids (a, b) is a + b/1000."""
    a, b = (grid.ravel() for grid in np.meshgrid(left, right, indexing="ij"))
    assert audit.worker is not None
    found = Found(a + b / 1000, a * 1e-6, a % 2 == 0, b * 1.0)
    values: dict[str, Any] = {
        "audit_id": audit.id,
        "attempt": audit.attempt,
        "series_id": series_id,
        "left_ids": a,
        "right_ids": b,
        "found": replace(found, **{name: changes.pop(name) for name in COLUMNS if name in changes}),
        "worker_id": audit.worker.id,
    }
    return distances.record(db, **{**values, **changes})
