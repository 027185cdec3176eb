"""Many processes on one database: claims are unique, nothing is lost, nobody is told that it is locked."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

import numpy as np

from robustness_core.spec import SeriesSpec
from store import Database, audits, connect, distances, images, workers
from testing import world

PROCESSES = 4


def _claim_all(url: str) -> list[int]:
    db = connect(url)
    worker_id = workers.register(db, "cpu", {}).id
    claimed = []
    while (audit := audits.claim(db, worker_id)) is not None:
        claimed.append(audit.id)
    db.close()
    return claimed


def _write_and_read(url: str, number: int) -> int:
    """Put the same images as everybody, claim an audit of one's own, record a block in halves, read it back."""
    db = connect(url)
    pixels = np.zeros((30, 28, 28, 1), np.uint8)
    left = images.put(db, "mnist-5k", "train", range(30), [3] * 30, pixels)
    right = images.put(db, "mnist-5k", "train", range(30, 60), [7] * 30, pixels)
    audit = audits.claim(db, workers.register(db, "cpu", {}).id)
    assert audit is not None
    series = distances.series(db, SeriesSpec(world.SHA256, "conv1", 5, 0))
    order: Sequence[int] = np.random.default_rng(number).permutation(30).tolist()
    new = 0
    for row in order:  # all processes race for the same pairs
        new += world.block(db, audit, series.id, [left[row]], right)
        audits.progress(db, audit, 1, 2)
        distances.matrix(db, series.id, left, right)
    db.close()
    return new


def test_each_audit_is_claimed_once(db: Database, url: str) -> None:
    world.network(db)
    asked = [audits.submit(db, world.audit(seed=seed)).id for seed in range(80)]
    with ProcessPoolExecutor(PROCESSES, mp_context=multiprocessing.get_context("spawn")) as pool:
        claimed = [audit_id for part in pool.map(_claim_all, [url] * PROCESSES) for audit_id in part]
    assert sorted(claimed) == asked


def test_racing_writers_lose_and_double_nothing(db: Database, url: str) -> None:
    world.network(db)
    for seed in range(PROCESSES):
        audits.submit(db, world.audit(seed=seed))
    with ProcessPoolExecutor(PROCESSES, mp_context=multiprocessing.get_context("spawn")) as pool:
        new = list(pool.map(_write_and_read, [url] * PROCESSES, range(PROCESSES)))
    assert sum(new) == 900
    series = distances.find(db, SeriesSpec(world.SHA256, "conv1", 5, 0))
    assert series is not None
    left = list(images.ids(db, "mnist-5k", "train", range(30)).values())
    right = list(images.ids(db, "mnist-5k", "train", range(30, 60)).values())
    assert not distances.missing(db, series.id, left, right).any()
