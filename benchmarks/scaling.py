"""What an audit costs as it grows: measured here, and counted for networks and devices that are not here.

`python -m benchmarks.scaling` prints every figure of docs/SCALING.md; name parts to print only those:
size (processor seconds of an audit at three samples), blocks (what a block costs besides its search, on this machine
and on a Dask cluster of two workers), rows (rows, bytes and query times at a million and ten million distances),
flops (of each layer's prefix, and the GPU hours that follow).
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sqlalchemy import text
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from robustness_core import checkpoints, datasets
from robustness_core.checkpoints.families import PreActivationBlock, PreActivationNet, ResidualBlock, ResNet
from robustness_core.engine.audit import ExecutorError, run_audit
from robustness_core.engine.tasks import Distances, NetworkFile, Task
from robustness_core.found import Found
from robustness_core.layers import cuts, extractor
from robustness_core.networks import build
from robustness_core.spec import AuditSpec, SeriesSpec
from robustness_core.zoo import ZOO
from store import Database, audits, connect, distances, images, workers
from testing import synthetic
from testing.processes import cluster
from worker.executors import Executor, open_executor

NETWORK = "mnist-small-pgd2"
SIZES = (10, 20, 40)  # images a class
PASSES = 112  # of the balanced search, default preset, mean over the layers: benchmarks/RESULTS.md
IMAGES = 2  # a pass takes both images of a pair through the prefix, forward or backward
SHARE = 0.4  # of a GPU's float32 peak that convolutions of this size are assumed to reach
GPUS = {"A100": 19.5e12, "H100 SXM": 67e12}  # float32 operations a second on the data sheet; TF32 is switched off
SIDE = 100  # images a class, of the made-up rows and of the audits that are counted: 10,000 pairs a series
PROJECTIONS = 10


# ------------------------------------------------------------------------------------- an audit at three sizes


def size() -> None:
    network = checkpoints.load(ZOO / f"{NETWORK}.safetensors")
    layers = tuple(cut.name for cut in cuts(network, network.input_shape) if cut.main)
    torch.set_num_threads(1)

    def seconds(samples: int) -> float:
        begin = time.process_time()
        run_audit(
            AuditSpec.of(NETWORK, dataset="mnist-5k", classes=(3, 7), samples=samples, layers=layers), network, "0" * 64
        )
        return time.process_time() - begin

    seconds(4)  # loads what is loaded once
    print(f"{NETWORK}, {len(layers)} layers, N = 1, m = 10, balanced, default, one thread")
    taken = [seconds(samples) for samples in SIZES]
    for samples, spent in zip(SIZES, taken, strict=True):
        pairs = len(layers) * samples**2
        each = 1000 * spent / pairs
        print(f"  S = {samples:3d}: {pairs:5,} pairs, {spent:6.1f} s of processor time, {each:.1f} ms a pair")
    exponent = np.polyfit(np.log(SIZES), np.log(taken), 1)[0]
    print(f"  fitted: time grows with S to the power {exponent:.2f} (the model says 2)")


# ------------------------------------------------------------------------------------- what a block costs besides


def blocks(count: int = 40) -> None:
    file, task = _task(pairs=16)
    with tempfile.TemporaryDirectory(prefix="strata-dask-") as folder, cluster(Path(folder)) as (address, _):
        for name, setting in (("local:1", "local:1"), ("Dask, two workers", address)):
            executor = _open(setting)
            try:
                executor.layers(file)
                for _ in range(6):  # each process sees the network once
                    executor.submit(task).result()
                bare = replace(task, network=replace(file, content=None))
                over = statistics.median(_overhead(executor, bare) for _ in range(count))
            finally:
                executor.close()
            print(f"  {name}: {1000 * over:.1f} ms a block of 16 pairs besides its search, median of {count}")
    print(f"  the network's file, sent once to each process: {len(file.content or b'') / 1e6:.2f} MB")


def _overhead(executor: Executor, task: Task) -> float:
    begin = time.perf_counter()
    answer = executor.submit(task).result()
    if not isinstance(answer, Distances):
        raise RuntimeError(f"the block was not computed: {answer}")
    return time.perf_counter() - begin - answer.seconds


def _task(pairs: int) -> tuple[NetworkFile, Task]:
    """A block of the cheapest layer, so that what is not search stands out."""
    path = ZOO / f"{NETWORK}.safetensors"
    network = checkpoints.load(path)
    first = cuts(network, network.input_shape)[0]
    content = path.read_bytes()
    file = NetworkFile(hashlib.sha256(content).hexdigest(), "safetensors", "", network.input_shape, None, None, content)
    data = datasets.load("mnist-5k")
    left, right = (data.pixels[data.labels == label][:pairs] for label in (3, 7))
    series = SeriesSpec(file.sha256, first.name, 10, 0, preset="fast")
    return file, Task("distances", file, series, first.features, left, right)


def _open(setting: str) -> Executor:
    end = time.monotonic() + 120
    while True:
        try:
            executor = open_executor(setting, device="cpu")
            executor.describe()
            return executor
        except ExecutorError:
            if time.monotonic() > end:
                raise
            time.sleep(1)


# ------------------------------------------------------------------------------------- the database as it grows


def rows(url: str | None, millions: tuple[int, ...] = (1, 10)) -> None:
    with tempfile.TemporaryDirectory(prefix="strata-scaling-") as folder:
        db = connect(url or f"sqlite:///{Path(folder) / 'scaling.db'}")
        try:
            _rows(db, millions)
        finally:
            db.close()


def _rows(db: Database, millions: tuple[int, ...]) -> None:
    ids = _prepare(db)
    made = 0
    for million in millions:
        wanted = million * 1_000_000 // SIDE**2
        begin = time.monotonic()
        _fill(db, ids, made, wanted)
        made = wanted
        print(f"  {million} M distances, {wanted} series of {SIDE} x {SIDE} ({time.monotonic() - begin:.0f} s to make)")
        if db.is_sqlite:
            print(f"    file: {Path(db.name).stat().st_size / (wanted * SIDE**2):.1f} bytes a distance, all included")
        for name, query in _queries(db, ids, wanted):
            print(f"    {name}: {1000 * _median(query):.1f} ms")


def _median(query: Callable[[], Any], times: int = 5) -> float:
    spent = []
    for _ in range(times):
        begin = time.perf_counter()
        query()
        spent.append(time.perf_counter() - begin)
    return statistics.median(spent)


@dataclass(frozen=True)
class _Ids:
    """What the made-up rows refer to."""

    network: str  # sha256
    left: list[int]
    right: list[int]
    worker: int
    audit: int
    attempt: int


def _prepare(db: Database) -> _Ids:
    record = synthetic.network(db)
    worker = workers.register(db, "made-up device", {})
    data = datasets.load("mnist-5k")
    sides = []
    for label in (3, 7):
        chosen = np.flatnonzero(data.labels == label)[:SIDE]
        sides.append(images.put(db, "mnist-5k", "train", chosen.tolist(), [label] * SIDE, data.pixels[chosen]))
    audits.submit(db, synthetic.question(samples=SIDE))
    claimed = audits.claim(db, worker.id, lease_seconds=100_000)
    assert claimed is not None
    return _Ids(record.sha256, sides[0], sides[1], worker.id, claimed.id, claimed.attempt)


def _series(ids: _Ids, number: int) -> SeriesSpec:
    return SeriesSpec(ids.network, synthetic.SMALL[number % 7].name, 10, number // 7)


def _fill(db: Database, ids: _Ids, first: int, last: int, at_once: int = 20) -> None:
    """Distances of the series from `first` to before `last`, made by the database itself."""
    made = [distances.series(db, _series(ids, number)).id for number in range(first, last)]
    for begin in range(0, len(made), at_once):
        with db.write() as connection:
            connection.execute(
                text(
                    "INSERT INTO distances "
                    "(series_id, left_id, right_id, distance, residual, collided, passes, worker_id) "
                    "SELECT s.id, l.id, r.id, 1.5 + 0.001 * ((37 * s.id + 11 * l.id + 5 * r.id) % 997), "
                    "1e-6, TRUE, 89.0, :worker FROM series s CROSS JOIN images l CROSS JOIN images r "
                    "WHERE s.id BETWEEN :first AND :last AND l.label = 3 AND r.label = 7 ORDER BY s.id, l.id, r.id"
                ),
                {"worker": ids.worker, "first": made[begin], "last": made[begin : begin + at_once][-1]},
            )


def _queries(db: Database, ids: _Ids, made: int) -> Iterator[tuple[str, Callable[[], Any]]]:
    some = [distances.series(db, _series(ids, made // 2 + number)).id for number in range(7)]
    yield "is a series of 10,000 pairs complete?", lambda: distances.missing(db, some[0], ids.left, ids.right)
    yield "one matrix, 10,000 distances", lambda: distances.matrix(db, some[0], ids.left, ids.right)
    yield "a screen of seven layers, 70,000 distances", lambda: distances.matrices(db, some, ids.left, ids.right)
    few = (ids.left[:20], ids.right[:20])
    yield "a screen of seven layers, S = 20", lambda: distances.matrices(db, some, *few)
    yield "the 50 closest pairs of a series", lambda: distances.closest(db, some[0], ids.left, ids.right, 50)
    number = iter(range(10 * made, 11 * made))

    def record() -> None:
        fresh = distances.series(db, _series(ids, next(number))).id
        values = np.ones(64)
        distances.record(
            db, audit_id=ids.audit, attempt=ids.attempt, series_id=fresh, left_ids=[ids.left[0]] * 64,
            right_ids=ids.right[:64], found=Found(values, values, values > 0, values), worker_id=ids.worker,
        )  # fmt: skip

    yield "a new series, and a block of 64 recorded", record


# ------------------------------------------------------------------------------------- counted, not measured


def flops() -> None:
    for name, network, shape in _networks():
        layers = [(cut.name, _flops(network, cut.name, shape)) for cut in cuts(network, shape) if cut.main]
        whole, total = layers[-1][1], sum(count for _, count in layers)
        work = PASSES * IMAGES * total * SIDE**2 * PROJECTIONS
        print(
            f"  {name}: {whole / 1e9:.3f} GFLOP an image forward, {len(layers)} layers, {total / 1e9:.2f} GFLOP to all"
        )
        print("    " + ", ".join(f"{layer} {count / 1e9:.3g}" for layer, count in layers))
        hours = ", ".join(f"{work / (peak * SHARE) / 3600:,.2f} h {gpu}" for gpu, peak in GPUS.items())
        print(f"    S = {SIDE}, N = {PROJECTIONS}: {work:.2e} FLOP; at {SHARE:.0%} of the float32 peak {hours}")


def _flops(network: nn.Module, layer: str, shape: tuple[int, int, int]) -> int:
    """Floating-point operations of one image up to a layer, a multiplication and an addition counted as two."""
    prefix = extractor(network, layer, shape).to("meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        prefix(torch.empty(1, *shape, device="meta"))
    return int(counter.get_total_flops())


def _networks() -> Iterator[tuple[str, nn.Module, tuple[int, int, int]]]:
    yield "medium, MNIST", build("medium", (1, 28, 28)), (1, 28, 28)
    yield "medium, CIFAR-10", build("medium", (3, 32, 32)), (3, 32, 32)
    yield "Wide ResNet-28-10, CIFAR-10", wide_resnet(28, 10), (3, 32, 32)
    yield "ResNet-50, ImageNet", resnet50(), (3, 224, 224)


def wide_resnet(depth: int, width: int) -> nn.Module:
    """Wide ResNet of Zagoruyko & Komodakis 2016 for images of 32 x 32, untrained."""
    before, stages = 16, []
    for i, after in enumerate((16 * width, 32 * width, 64 * width)):
        blocks = []
        for j in range((depth - 4) // 6):
            stride = 2 if i > 0 and j == 0 else 1
            blocks.append(PreActivationBlock(before, after, stride, bias=False, early=True, projects=before != after))
            before = after
        stages.append(blocks)
    return PreActivationNet(nn.Conv2d(3, 16, 3, 1, 1, bias=False), stages, before, 10, norm=True).eval()


def resnet50() -> nn.Module:
    """ResNet-50 of He et al. 2016 with the stride in the 3 x 3 convolution, for images of 224 x 224, untrained."""
    before, stages = 64, []
    for i, (count, narrow) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512))):
        blocks = []
        for j in range(count):
            stride, after = 2 if i > 0 and j == 0 else 1, 4 * narrow
            shortcut = None
            if before != after:
                shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
            kernels = [(before, narrow, 1, 1), (narrow, narrow, 3, stride), (narrow, after, 1, 1)]
            blocks.append(ResidualBlock(kernels, norm=True, bias=False, shortcut=shortcut))
            before = after
        stages.append(blocks)
    stem = (nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64))
    return ResNet(stem, stages, before, 1000, shrinks=True).eval()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help="size, blocks, rows, flops; default: all")
    parser.add_argument(
        "--database", metavar="URL", help="an empty database for rows; default: SQLite in a temporary folder"
    )
    options = parser.parse_args()
    parts: dict[str, Callable[[], None]] = {
        "size": size, "blocks": blocks, "rows": lambda: rows(options.database), "flops": flops,
    }  # fmt: skip
    unknown = [part for part in options.parts if part not in parts]
    if unknown:
        parser.error(f"there is no part {unknown[0]!r}; choose from {', '.join(parts)}")
    for name in options.parts or parts:
        print(f"{name}:", flush=True)
        parts[name]()
    return 0


if __name__ == "__main__":
    sys.exit(main())
