"""Sessions that read and ask at once, first alone, then while a worker writes: `python -m benchmarks.load`.

Each of ten processes does, over and over, what a screen does: the networks, the queue, all matrices of an audit, the
closest pairs, and now and then a new audit or a note. Prints the times of a screen, errors and lost updates.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks.soak import prepare, start
from robustness_core.found import Found
from robustness_core.spec import AuditSpec
from store import Database, StoreError, audits, connect, distances, images, networks, workers

SAMPLES = 100


def fill(db: Database) -> AuditSpec:
    """An audit whose 2 x 100 x 100 distances are known."""
    spec = AuditSpec.of("tiny", dataset="mnist-5k", classes=(3, 7), samples=SAMPLES, layers=("conv1", "logits"), m=(5,))
    audits.submit(db, spec)
    audit = audits.claim(db, workers.register(db, "none", {}).id)
    assert audit is not None
    assert audit.worker is not None
    pixels = np.zeros((SAMPLES, 28, 28, 1), np.uint8)
    left, right = (
        images.put(db, "mnist-5k", "test", range(begin, begin + SAMPLES), [label] * SAMPLES, pixels)
        for begin, label in ((0, 3), (SAMPLES, 7))
    )
    a, b = (grid.ravel() for grid in np.meshgrid(left, right))
    network = networks.by_name(db, "tiny")
    assert network is not None
    for one in spec.search.series(network.sha256, network.features):
        distances.record(
            db, audit_id=audit.id, attempt=audit.attempt, series_id=distances.series(db, one).id, left_ids=a,
            right_ids=b, found=Found(a / b, a * 0.0, a > 0, a * 1.0), worker_id=audit.worker.id,
        )  # fmt: skip
    audits.finish(db, audit)
    return spec


def session(url: str, number: int, seconds: float, asking: bool) -> tuple[list[float], list[str], int]:
    """The seconds of each screen, the errors, and how many of this session's notes were lost."""
    db = connect(url)
    network = networks.by_name(db, "tiny")
    assert network is not None
    ids = sorted(images.ids(db, "mnist-5k", "test", range(2 * SAMPLES)).items())
    left, right = [i for _, i in ids[:SAMPLES]], [i for _, i in ids[SAMPLES:]]
    spec = AuditSpec.of("tiny", dataset="mnist-5k", classes=(3, 7), samples=SAMPLES, layers=("conv1", "logits"), m=(5,))
    times: list[float] = []
    errors: list[str] = []
    notes: dict[int, str] = {}
    end = time.monotonic() + seconds
    turn = 0
    while time.monotonic() < end:
        turn += 1
        try:
            begin = time.perf_counter()
            networks.all(db)
            audits.recent(db, 50)
            found = distances.find_all(db, spec.search.series(network.sha256, network.features))
            known = distances.matrices(db, [series.id for series in found.values()], left, right)
            distances.closest(db, next(iter(known)), left, right, 50)
            times.append(time.perf_counter() - begin)
            if asking and turn % 10 == 0:
                seed = 1000 * (number + 1) + turn
                mine = audits.submit(
                    db,
                    AuditSpec.of(
                        "tiny", dataset="mnist-5k", classes=(3, 7), samples=6, layers=("conv1",), m=(5,), seed=seed
                    ),
                )
                notes[mine.id] = f"session {number}, turn {turn}"
                audits.annotate(db, mine.id, note=notes[mine.id])
        except StoreError as error:
            errors.append(str(error))
        time.sleep(0.2)
    lost = sum(audits.get(db, audit_id).note != note for audit_id, note in notes.items())
    db.close()
    return times, errors, lost


def measure(url: str, sessions: int, seconds: float, *, asking: bool) -> tuple[list[float], list[str], int]:
    with ProcessPoolExecutor(sessions, mp_context=multiprocessing.get_context("spawn")) as pool:
        parts = list(pool.map(session, [url] * sessions, range(sessions), [seconds] * sessions, [asking] * sessions))
    times = [t for part in parts for t in part[0]]
    return times, [error for part in parts for error in part[1]], sum(part[2] for part in parts)


def main() -> int:
    """Returns 0 if nothing failed and nothing was lost."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__)
    parser.add_argument("--sessions", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--database", metavar="URL", help="an empty database; default: SQLite in a temporary folder")
    options = parser.parse_args()
    worker: subprocess.Popen[bytes] | None = None
    with tempfile.TemporaryDirectory(prefix="strata-load-") as folder:
        url = options.database or f"sqlite:///{Path(folder) / 'load.db'}"
        db = prepare(url)
        fill(db)
        try:
            _say("nobody writes", *measure(url, options.sessions, options.seconds, asking=False))
            worker = start(url, "worker", "--device", "cpu")
            audits.submit(
                db,
                AuditSpec.of(
                    "tiny", dataset="mnist-5k", classes=(3, 7), samples=200, layers=("conv1", "logits"), m=(5,)
                ),
            )
            while not any(audit.done for audit in audits.recent(db, 1)):
                time.sleep(0.2)
            before = audits.recent(db, 1)[0].done
            begin = time.monotonic()
            times, errors, lost = measure(url, options.sessions, options.seconds, asking=True)
            _say("a worker writes, all ask", times, errors, lost)
            written = sum(audit.done for audit in audits.recent(db, 10_000)) - before - 2 * SAMPLES**2
            print(f"distances written meanwhile: {written} in {time.monotonic() - begin:.0f} s")
        finally:
            if worker is not None:
                worker.terminate()
                worker.wait()
            db.close()
    return int(bool(errors or lost))


def _say(when: str, times: list[float], errors: list[str], lost: int) -> None:
    times.sort()
    middle, late = statistics.median(times), times[int(0.95 * len(times))]
    print(
        f"{when}: {len(times)} screens, median {1000 * middle:.0f} ms, 95 % within {1000 * late:.0f} ms, "
        f"{len(errors)} errors, {lost} lost updates, load {os.getloadavg()[0]:.1f}",
        flush=True,
    )
    for error in sorted(set(errors)):
        print(f"  {error}")


if __name__ == "__main__":
    sys.exit(main())
