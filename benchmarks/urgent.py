"""Seconds until a pair that a user opens is known while a long audit runs: `python -m benchmarks.urgent`.

The audit is of a bundled network, all layers. A pair is asked as Explore asks it, at one layer (the last, which costs
most), or as the Pairs screen asks it, at all layers at once, and counts as known when its collisions are in the store.
First with an idle worker, then beside the audit.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.soak import start
from robustness_core import datasets
from robustness_core.spec import AuditSpec, SeriesSpec, sample_indices
from robustness_core.zoo import find
from store import Database, audits, connect, networks
from store.records import PairSpec

BOUND = 3.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.urgent", description=__doc__)
    parser.add_argument("--network", default="mnist-medium-pgd2")
    parser.add_argument("--samples", type=int, default=100, help="of the long audit")
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--executor", default="local:2")
    options = parser.parse_args()
    find(options.network)  # raises for a name that no network will ever have
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, {options.executor}")
    with tempfile.TemporaryDirectory(prefix="strata-urgent-") as folder:
        url = f"sqlite:///{Path(folder) / 'urgent.db'}"
        db = connect(url)
        worker = start(url, "worker", "--executor", options.executor)
        try:
            while (network := networks.by_name(db, options.network)) is None:  # the worker registers them
                if worker.poll() is not None:
                    parser.error("The worker ended before it had registered it.")
                time.sleep(0.2)
            layers = tuple(layer.name for layer in network.layers if layer.main)
            spec = AuditSpec.of(
                network.name,
                dataset="mnist-5k",
                classes=(3, 7),
                samples=options.samples,
                layers=layers,
                m=(10,),
                seed=77,
            )
            series = spec.search.series(network.sha256, network.features)
            opened(db, spec, series, 2, first=300)  # until the worker's processes are warm
            say("the worker waits, one layer", opened(db, spec, series[-1:], options.pairs, first=0))
            say("the worker waits, all layers", opened(db, spec, series, options.pairs, first=100))
            audit = audits.submit(db, spec)
            while not audits.get(db, audit.id).done:
                time.sleep(0.1)
            say("a long audit runs, one layer", opened(db, spec, series[-1:], options.pairs, first=50))
            say("a long audit runs, all layers", opened(db, spec, series, options.pairs, first=150))
            print(f"of the audit {audits.get(db, audit.id).done} of {audit.total} pairs were known by then")
        finally:
            worker.terminate()
            worker.wait()
            db.close()


def opened(db: Database, spec: AuditSpec, series: Sequence[SeriesSpec], count: int, *, first: int) -> list[float]:
    """Seconds of each of `count` pairs, asked one after the other with a pause between."""
    labels = datasets.load(spec.sample.dataset).labels
    left, right = (sample_indices(labels, label, 400, 5) for label in spec.sample.classes)
    times = []
    for turn in range(count):
        i = (first + turn) % len(left)
        pair = PairSpec(
            tuple(series), (spec.sample.dataset, "train", int(left[i])), (spec.sample.dataset, "train", int(right[i]))
        )
        began = time.perf_counter()
        asked = audits.submit(db, pair)
        while (state := audits.get(db, asked.id).state) in ("queued", "running"):
            time.sleep(0.02)
        assert state == "done", state
        times.append(time.perf_counter() - began)
        time.sleep(float(np.random.default_rng(turn).uniform(0.2, 1)))
    return times


def say(when: str, times: list[float]) -> None:
    print(f"{when}: {len(times)} pairs, median {statistics.median(times):.2f} s, longest {max(times):.2f} s "
          f"(bound {BOUND:g} s)", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
