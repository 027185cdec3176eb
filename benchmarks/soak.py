"""Kills processes at random moments while audits run, then compares every row with an undisturbed run.

`python -m benchmarks.soak --kills 100`: the victims are the worker, its compute processes and a process that asks for
audits and reads what is known, as the web process does. Prints kills, audits, rows compared, differences, orphans.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil
from sqlalchemy import text

from robustness_core.spec import AuditSpec
from store import Database, StoreError, audits, connect, distances, maintenance, networks
from store.database import PROJECT
from store.records import AuditRecord, LayerRecord
from worker.process import layers

ROWS = """
    SELECT series.key, l."index", r."index", distance, residual, collided, passes FROM distances
    JOIN series ON series.id = series_id JOIN images l ON l.id = left_id JOIN images r ON r.id = right_id
    JOIN networks ON networks.id = network_id WHERE name = 'tiny'
"""
OPEN_AUDITS = 3  # that the asking process keeps in the queue


def spec(number: int) -> AuditSpec:
    """The questions differ in seed and sample, and overlap: every third asks for more of an earlier one."""
    return AuditSpec.of(
        "tiny",
        dataset="mnist-5k",
        classes=(3, 7),
        samples=6 + 2 * (number % 3),
        layers=("conv1", "logits"),
        m=(5,),
        seed=number // 3,
    )


def prepare(url: str) -> Database:
    """A database with a tiny, untrained network."""
    from testing.networks import tiny_file  # here, since the asking process, which is started often, needs no torch

    db = connect(url)
    file = tiny_file()
    found = [LayerRecord(**{**layer, "shape": tuple(layer["shape"])}) for layer in layers(file)]
    networks.register(db, file, name="tiny", source="upload", layers=found, card={})
    return db


def ask_and_read(url: str) -> None:
    """The asking process: keep some audits in the queue, read what is known of the last ones, until killed."""
    db = connect(url)
    while True:
        recent = asked_for(db)
        if sum(audit.active for audit in recent) < OPEN_AUDITS:
            audits.submit(db, spec(len(recent)))
        for audit in recent[:5]:
            network = networks.by_name(db, "tiny")
            if network is not None and isinstance(audit.spec, AuditSpec):
                for series in distances.find_all(
                    db, audit.spec.search.series(network.sha256, network.features)
                ).values():
                    distances.matrix(db, series.id, range(1, 20), range(1, 20))
        time.sleep(0.5)


def asked_for(db: Database) -> list[AuditRecord]:
    """The audits of the soak, latest first; the bundled networks come with audits of their own."""
    recent = audits.recent(db, 10_000, kind="audit")
    return [audit for audit in recent if isinstance(audit.spec, AuditSpec) and audit.spec.network == "tiny"]


def start(url: str, *command: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "STRATA_DATABASE": url, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=PROJECT,
        env=environment,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )


def rows(db: Database) -> dict[tuple[object, ...], tuple[object, ...]]:
    with db.read() as connection:
        return {tuple(row[:3]): tuple(row[3:]) for row in connection.execute(text(ROWS))}


def disturb(url: str, db: Database, kills: int, luck: random.Random) -> tuple[Counter[str], set[int]]:
    """Keep a worker and an asking process alive, and kill one victim after another; also all process ids seen."""
    commands = {"worker": ("worker", "--device", "cpu"), "web": ("benchmarks.soak", "--ask")}
    running = {name: start(url, *command) for name, command in commands.items()}
    killed: Counter[str] = Counter()
    seen: set[int] = set()
    try:
        while killed.total() < kills:
            if luck.random() < 0.5:  # else the worker is often killed before its first block
                _wait_for_more(db)
            time.sleep(luck.uniform(0.0, 3.0))
            for name, process in running.items():
                if process.poll() is not None:
                    running[name] = start(url, *commands[name])
            children = psutil.Process(running["worker"].pid).children(recursive=True)
            seen |= {child.pid for child in children}
            victim = luck.choice(["worker", "worker", "compute", "web"])
            if victim == "compute" and not children:
                continue
            target = luck.choice(children).pid if victim == "compute" else running[victim].pid
            with contextlib.suppress(ProcessLookupError):
                os.kill(target, signal.SIGKILL)
                killed[victim] += 1
            if killed.total() % 10 == 0:
                done = sum(audit.state == "done" for audit in asked_for(db))
                print(f"{killed.total()} kills, {done} audits finished, {len(rows(db))} distances", flush=True)
    finally:
        for process in running.values():
            process.kill()
            process.wait()
    return killed, seen


def _wait_for_more(db: Database, most_seconds: float = 60) -> None:
    """Until another block is recorded."""
    before, end = len(rows(db)), time.monotonic() + most_seconds
    while len(rows(db)) == before and time.monotonic() < end:
        time.sleep(0.05)


def finish(url: str, db: Database) -> int:
    """Let a worker finish what is queued; audits that were given up are tried again. How many were."""
    retried = 0
    while True:
        start(url, "worker", "--device", "cpu", "--once").wait()
        given_up = audits.recent(db, 10_000, "failed")
        for audit in given_up:
            with contextlib.suppress(StoreError):
                audits.retry(db, audit.id)
                retried += 1
        if not given_up and not any(audit.active for audit in audits.recent(db, 10_000)):
            return retried
        time.sleep(1)


def main() -> int:
    """Returns 0 if nothing was lost, doubled or changed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--database", metavar="URL", help="an empty database; default: SQLite in a temporary folder")
    parser.add_argument("--ask", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ask:
        ask_and_read(os.environ["STRATA_DATABASE"])
    with tempfile.TemporaryDirectory(prefix="strata-soak-") as folder:
        url = options.database or f"sqlite:///{Path(folder) / 'disturbed.db'}"
        db = prepare(url)
        begin = time.monotonic()
        killed, seen = disturb(url, db, options.kills, random.Random(options.seed))
        retried = finish(url, db)
        seconds = time.monotonic() - begin
        asked = asked_for(db)
        orphans = [pid for pid in seen if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"]

        calm_url = f"sqlite:///{Path(folder) / 'undisturbed.db'}"
        calm = prepare(calm_url)
        for audit in reversed(asked):
            audits.submit(calm, audit.spec)
        finish(calm_url, calm)
        mine, theirs = rows(db), rows(calm)
        lost, extra = len(theirs.keys() - mine.keys()), len(mine.keys() - theirs.keys())
        changed = sum(mine[key] != theirs[key] for key in mine.keys() & theirs.keys())
        findings = maintenance.check(db)
        attempts = sum(audit.attempt for audit in asked)
        print(f"kills: {killed.total()} ({', '.join(f'{count} {name}' for name, count in sorted(killed.items()))})")
        print(
            f"audits finished: {len(asked)} in {attempts} attempts, {retried} of them retried by hand, {seconds:.0f} s"
        )
        print(f"rows compared: {len(theirs)}; lost: {lost}; not asked for: {extra}; differences: {changed}")
        print(f"orphan processes: {len(orphans)}; findings of the check: {len(findings)}")
        db.close()
        calm.close()
    return int(bool(lost or extra or changed or orphans or findings))


if __name__ == "__main__":
    sys.exit(main())
