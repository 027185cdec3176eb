"""A store filled with made-up distances, to time and test screens without computing anything."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from robustness_core import datasets
from robustness_core.engine.tasks import NetworkFile
from robustness_core.found import Finding, Found
from robustness_core.spec import AuditSpec, sample_indices
from store import audits, distances, findings, images, networks, workers
from store.database import Database
from store.records import AuditRecord, LayerRecord, NetworkRecord, Source

SMALL = (
    LayerRecord("conv1.pre", (16, 14, 14), 3136, True, False),
    LayerRecord("conv1", (16, 14, 14), 3136, False, True),
    LayerRecord("conv2.pre", (32, 14, 14), 6272, False, False),
    LayerRecord("conv2", (32, 14, 14), 6272, False, True),
    LayerRecord("fc1.pre", (100,), 100, False, False),
    LayerRecord("fc1", (100,), 100, False, True),
    LayerRecord("logits", (10,), 10, False, True),
)
MADE_UP = NetworkRecord(
    1, "made-up", "a" * 64, "upload", "torch", "fc 10", (1, 28, 28), None, None, SMALL,
    {"inspected": {"sha256": "e" * 64}}, "", (), datetime(2026, 1, 1, tzinfo=UTC),
)  # fmt: skip


def network(
    db: Database,
    name: str = "small-made-up",
    card: dict[str, object] | None = None,
    input_shape: tuple[int, int, int] = (1, 28, 28),
    source: Source = "zoo",
) -> NetworkRecord:
    """A registered network without real weights: good for screens, not for audits."""
    return networks.register(
        db,
        NetworkFile(
            sha256=hashlib.sha256(name.encode()).hexdigest(),
            format="safetensors",
            architecture="conv 16 4x4/2 p1, relu, conv 32 4x4/1 same, relu, flatten, fc 100, relu, fc 10",
            input_shape=input_shape,
            mean=None,
            std=None,
            content=b"none",
        ),
        name=name,
        source=source,
        layers=SMALL,
        card=card or {"dataset": "mnist", "training": {"method": "pgd", "epsilon": 2.0}},
    )


def question(name: str = "small-made-up", samples: int = 20, layers: Sequence[str] = ()) -> AuditSpec:
    """The question that Explore asks by default."""
    chosen = tuple(layers) or tuple(layer.name for layer in SMALL if layer.main)
    return AuditSpec.of(name, dataset="mnist-5k", classes=(3, 7), samples=samples, layers=chosen)


def finish(
    db: Database, spec: AuditSpec, *, share: float = 1.0, seed: int = 0, finding: Finding | None = None
) -> AuditRecord:
    """Submit an audit and record made-up distances for a `share` of its pairs; at 1 it is done, else it runs on.

    With a `finding` of every series it is done whatever the share.
    """
    network_record = networks.by_name(db, spec.network)
    assert network_record is not None
    data = datasets.load(spec.sample.dataset, spec.sample.split)
    left, right = (
        sample_indices(data.labels, label, spec.sample.size, spec.sample.seed, spec.sample.left_out)
        for label in spec.sample.classes
    )
    left_ids, right_ids = (
        images.put(
            db,
            spec.sample.dataset,
            spec.sample.split,
            [int(i) for i in side],
            data.labels[side].tolist(),
            data.pixels[side],
        )
        for side in (left, right)
    )
    worker = workers.register(db, "made-up device", {"torch": "0.0"})
    asked = audits.submit(db, spec, priority=1000)  # before what browsers have asked
    claimed = audits.claim(db, worker.id, lease_seconds=100)
    assert claimed is not None
    assert claimed.id == asked.id
    rng = np.random.default_rng(seed)
    done = 0
    for depth, series in enumerate(spec.search.series(network_record.sha256, network_record.features)):
        values = distances_of(rng, len(left), len(right), depth)
        rows, columns = (side.ravel() for side in np.meshgrid(left_ids, right_ids, indexing="ij"))
        count = int(len(rows) * share)
        collided = np.ones(count, dtype=bool)
        collided[:1] = False
        done += distances.record(
            db,
            audit_id=claimed.id,
            attempt=claimed.attempt,
            series_id=distances.series(db, series).id,
            left_ids=rows[:count].tolist(),
            right_ids=columns[:count].tolist(),
            found=Found(values.ravel()[:count], np.where(collided, 1e-6, 1e-2), collided, np.full(count, 89.0)),
            worker_id=worker.id,
        )
        if finding is not None:
            findings.put(
                db, audit_id=claimed.id, attempt=claimed.attempt, series_id=distances.series(db, series).id,
                sample=spec.sample, finding=finding,
            )  # fmt: skip
    audits.progress(db, claimed, done, audits.get(db, claimed.id).total)
    if share == 1.0 or finding is not None:
        audits.finish(db, claimed)
    return audits.get(db, claimed.id)


def keep_collisions(db: Database, spec: AuditSpec, network: NetworkRecord, left: int, right: int) -> None:
    """Put a made-up collision of two stored images into every series of a question; all four images are called 7."""
    ids = images.ids(db, spec.sample.dataset, spec.sample.split, [left, right])
    shape = datasets.get(spec.sample.dataset).input_shape
    for series in spec.search.series(network.sha256, network.features):
        one, other = (np.full(shape, level, dtype=np.float32) for level in (0.2, 0.3))
        says = {who: [0.0] * 7 + [9.0] + [0.0] * 2 for who in ("left", "right", "collision_left", "collision_right")}
        distances.put_collision(db, distances.series(db, series).id, ids[left], ids[right], one, other, says)


def distances_of(rng: np.random.Generator, rows: int, columns: int, depth: int) -> NDArray[np.float64]:
    """Made-up distances that grow with the layer."""
    near = rng.uniform(0.7, 1.3, (rows, 1)) * rng.uniform(0.7, 1.3, (1, columns))
    values: NDArray[np.float64] = (1.0 + 0.5 * depth) * near * rng.uniform(0.9, 1.1, (rows, columns))
    return values
