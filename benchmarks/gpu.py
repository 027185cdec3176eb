"""`python -m benchmarks.gpu --out FOLDER`: all that is worth measuring where a GPU is at hand, in one command.

One after the other, until `--minutes` are over: the CUDA tests, `benchmarks.search --compare` (each precision beside
float32), the memory that searches take against what was foreseen, and audits of the bundled networks at S = 100,
N = 10, a layer at a time. `report.txt` says all of it; `audits-1.npz` and on hold the audits that were finished, in the
form of zoo/first-look.npz, at most 16 MB each: `python -m benchmarks.gpu --enter FOLDER` enters them into a database.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.search import SEED, measured_pairs
from robustness_core import datasets, zoo
from robustness_core.checkpoints import load
from robustness_core.collision import find_collisions
from robustness_core.collision.memory import pairs_within
from robustness_core.engine.compute import choose_device, device_name
from robustness_core.files import write_whole
from robustness_core.found import COLUMNS
from robustness_core.layers import cuts, extractor
from robustness_core.projection import project
from robustness_core.spec import AuditSpec
from store import Database, StoreError, audits, connect
from worker import first_look
from worker.executors import open_executor
from worker.loop import Worker, register
from worker.running import Settings
from worker.seed import seed

LARGEST = 15_000_000  # bytes of a file
# Most wanted first; the layers of each from the deepest on, since their searches rank the presets.
NETWORKS = ("mnist-medium-pgd2", "cifar10-medium-pgd0.5", "mnist-medium-trades2", "cifar10-medium-trades0.5",
            "mnist-large-pgd2", "cifar10-large-pgd0.5", "mnist-small-pgd2", "cifar10-small-pgd0.5")  # fmt: skip
SHARE = 0.25  # of the time, at most, for each part before the audits


class Report:
    """Lines for the terminal and for report.txt, which is whole after each of them."""

    def __init__(self, path: Path):
        self._path, self._text = path, ""

    def add(self, text: str) -> None:
        print(text, flush=True)
        self._text += text.rstrip("\n") + "\n"
        write_whole(self._path, self._text.encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    folder = parser.add_mutually_exclusive_group(required=True)
    folder.add_argument("--out", type=Path, metavar="FOLDER", help="where the results go")
    folder.add_argument("--enter", type=Path, metavar="FOLDER", help="only enter the audits of such a folder")
    parser.add_argument("--database", metavar="URL", help="of --enter; default: STRATA_DATABASE, else var/strata.db")
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--layers", default="", help="default: every layer of each network")
    parser.add_argument("--pairs", type=int, default=256, help="of benchmarks.search and of the memory")
    parser.add_argument("--samples", type=int, default=100, help="S of the audits")
    parser.add_argument("--projections", type=int, default=10, help="N of the audits")
    args = parser.parse_args()
    if args.enter is not None:
        print(f"{enter(args.enter, args.database)} audits were entered")
        return
    end = time.monotonic() + 60 * args.minutes
    device = choose_device(args.device)
    args.out.mkdir(parents=True, exist_ok=True)
    report = Report(args.out / "report.txt")
    report.add(
        f"{device_name(device)}, torch {torch.__version__}, {time.strftime('%d %B %Y')}, {args.minutes:g} minutes"
    )
    names = args.networks.split(",")
    layers = args.layers.split(",") if args.layers else []
    report.add("\nCUDA tests")
    report.add(
        _output([sys.executable, "-m", "pytest", "-q", "-m", "cuda", "tests/core"], 60 * args.minutes * SHARE, last=3)
    )
    report.add("\nbenchmarks.search, each precision beside float32")
    stop = time.monotonic() + 60 * args.minutes * SHARE
    for name in names[:2]:
        command = [sys.executable, "-m", "benchmarks.search", "--compare", "3", "--network", name, *_images(name)]
        command += ["--device", args.device, "--pairs", str(args.pairs), *(["--layers", args.layers] if layers else [])]
        report.add(_output(command, stop - time.monotonic()))
    report.add("\nMemory of a search, GB: at its most, and as foreseen by pairs_within")
    for line in memory(names[:2], layers, args.pairs, device):
        report.add(line)
    report.add(f"\nAudits at S = {args.samples}, N = {args.projections}")
    for line in audited(names, layers, args, end):
        report.add(line)
    report.add(f"{60 * args.minutes - (end - time.monotonic()):.0f} s in all")


def _output(command: Sequence[str], seconds: float, last: int = 1000) -> str:
    """The last lines that a command printed, or that it took too long."""
    if seconds <= 0:
        return "no time was left"
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired as late:
        text = late.stdout.decode() if isinstance(late.stdout, bytes) else late.stdout or ""
        return f"{text}stopped after {seconds:.0f} s"
    return "\n".join((done.stdout + (done.stderr if done.returncode else "")).strip().splitlines()[-last:])


def _images(name: str) -> list[str]:
    dataset = datasets.get(_dataset(name))
    return ["--dataset", dataset.name, "--classes", *map(str, dataset.pair)]


def _dataset(name: str) -> str:
    return "mnist-5k" if name.startswith("mnist") else "cifar10-2k"


def memory(names: Sequence[str], layers: Sequence[str], pairs: int, device: torch.device) -> Iterator[str]:
    """What a batch of `pairs` pairs took at each layer; known of CUDA alone."""
    if device.type != "cuda":
        yield f"not measured on {device}"
        return
    for name in names:
        network = load(zoo.find(name)).to(device)
        left, right = measured_pairs(_dataset(name), datasets.get(_dataset(name)).pair, pairs, str(device))
        for cut in cuts(network, network.input_shape):
            if not cut.main or cut.affine or (layers and cut.name not in layers):
                continue
            f = project(extractor(network, cut.name), cut.features, 10, SEED)
            foreseen = 1e9 / pairs_within(f, left[:1], 1e9)
            torch.cuda.reset_peak_memory_stats(device)
            before = torch.cuda.memory_allocated(device)
            find_collisions(f, left, right, preset="fast")
            most = torch.cuda.max_memory_allocated(device) - before
            yield f"{name:<24}{cut.name:<8}{len(left):>5} pairs {most / 1e9:>8.3f} {foreseen * len(left) / 1e9:>8.3f}"


def audited(names: Sequence[str], layers: Sequence[str], args: argparse.Namespace, end: float) -> Iterator[str]:
    """Ask for audits, one a layer, work on them until `end`, and keep those that were finished."""
    with tempfile.TemporaryDirectory(prefix="strata-gpu-") as folder:
        bundled = Path(folder) / "zoo"  # without the audits that come with them
        bundled.mkdir()
        for path in (path for name in names for path in (zoo.find(name), zoo.find(name).with_suffix(".json"))):
            (bundled / path.name).symlink_to(path.resolve())
        db = connect(f"sqlite:///{Path(folder) / 'gpu.db'}")
        executor = open_executor("local:1" if args.device != "cpu" else "local", device=args.device)
        try:
            known = {record.name: record for record in seed(db, executor, bundled)}
            for name in names:
                for layer in reversed([cut.name for cut in known[name].layers if cut.main]):
                    if not layers or layer in layers:
                        audits.submit(db, _spec(name, layer, args.samples, args.projections))
            record, batch = register(db, executor)
            worker = Worker(db, executor, record, Settings(batch=batch))
            timer = threading.Timer(max(1.0, end - time.monotonic() - 15), worker.stop)
            timer.start()
            worker.run(first=lambda: None, wanted=lambda: False)
            timer.cancel()
        finally:
            executor.close()
        for audit in audits.recent(db, 1000, "done")[::-1]:
            if isinstance(audit.spec, AuditSpec) and audit.started and audit.finished:
                seconds = (audit.finished - audit.started).total_seconds()
                line = (
                    f"{audit.spec.network:<26}{audit.spec.search.layers[0]:<8}{audit.done:>9,} pairs {seconds:>7.1f} s"
                )
                yield f"{line} {1000 * seconds / max(1, audit.done):>8.2f} ms a pair"
        try:
            yield _kept(db, Path(folder) / "all.npz", args.out)
        except StoreError as error:
            yield str(error)
        db.close()


def _spec(name: str, layer: str, samples: int, projections: int) -> AuditSpec:
    return AuditSpec.of(
        name, dataset=_dataset(name), classes=datasets.get(_dataset(name)).pair, samples=samples, layers=(layer,),
        m=(10,), projections=projections,
    )  # fmt: skip


def _kept(db: Database, whole: Path, out: Path) -> str:
    """The finished audits as files of at most LARGEST bytes; a sentence."""
    count = first_look.pack(db, whole)
    parts: list[list[int]] = [[]]
    with np.load(io.BytesIO(whole.read_bytes()), allow_pickle=False) as file:
        entries = json.loads(str(file["audits"]))

        def packed(numbers: Sequence[int]) -> bytes:
            content = io.BytesIO()
            arrays = {f"{name}_{i}": file[f"{name}_{number}"] for i, number in enumerate(numbers) for name in COLUMNS}
            np.savez_compressed(content, audits=np.array(json.dumps([entries[n] for n in numbers])), **arrays)
            return content.getvalue()

        for number in range(count):
            if parts[-1] and len(packed([*parts[-1], number])) > LARGEST:
                parts.append([])
            parts[-1].append(number)
        for place, numbers in enumerate(parts, start=1):
            write_whole(out / f"audits-{place}.npz", packed(numbers))
    return f"{count} finished audits are in {len(parts)} files"


def enter(folder: Path, url: str | None) -> int:
    """Enter the audits of such files, of bundled networks that the database has, as those that come with Strata."""
    db = connect(url)
    executor = open_executor("local:1", device="cpu")
    try:
        bundled = seed(db, executor)
        return sum(first_look.load(db, bundled, path) for path in sorted(folder.glob("audits-*.npz")))
    finally:
        executor.close()
        db.close()


if __name__ == "__main__":
    main()
