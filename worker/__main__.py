"""`python -m worker`: work on what is asked; `seed`: register the bundled networks; `pack`: keep what they
show at first in zoo/first-look.npz."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import time
from contextlib import ExitStack
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from robustness_core.errors import StrataError
from robustness_core.spec import PRECISIONS
from store import Database, connect, supervisor, workers
from worker import first_look
from worker.executors import Executor, open_executor
from worker.loop import Worker, register
from worker.running import Settings
from worker.seed import seed

log = logging.getLogger("worker")


def main(arguments: list[str] | None = None) -> int:
    """Returns 0 after a clean stop; 1 if shipped distances are not in order, 2 with one line on stderr if the database
    or the executor cannot be used."""
    options = _parser().parse_args(arguments)
    if options.command == "check":
        broken = first_look.check()
        print("\n".join(broken) or f"{first_look.FILE}: every distance is in order")
        return 1 if broken else 0
    try:
        db = connect(options.database)
        log_path = _log_to(db, options.sole, options.verbose)
        with ExitStack() as stack:
            if options.sole and not stack.enter_context(supervisor.sole_worker(db, patience=1.0)):
                log.info("another worker of this machine is at work on this database; nothing to do")
                return 0
            return _work(db, options, log_path)
    except StrataError as error:
        print(f"strata: {error}", file=sys.stderr)
        return 2


def _work(db: Database, options: argparse.Namespace, log_path: Path) -> int:
    if options.command == "pack":
        print(f"{first_look.FILE}: {first_look.pack(db)} audits")
        return 0
    memory = None if options.memory is None else options.memory * 2**30
    executor = open_executor(
        options.dask or options.executor, device=options.device, memory=memory, precision=options.precision
    )
    try:
        if options.command == "seed":
            for network in seed(db, executor):
                print(network.name)
            return 0
        record, batch = register(db, executor, log_path=str(log_path))
        log.info("worker=%d pid=%d device=%s database=%s", record.id, os.getpid(), record.device, db.name)
        try:
            executor.warm()  # a pair that somebody opens finds its process ready, also during the first audit
            worker = Worker(db, executor, record, Settings(batch=batch))
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: worker.stop())
            worker.run(
                first=lambda: seed(db, executor),
                wanted=lambda: not options.once and (not options.sole or supervisor.attended(db)),
            )
        finally:
            workers.retire(db, record.id)
            log.info("worker=%d has stopped", record.id)
        return 0
    finally:
        _close(executor)


def _close(executor: Executor) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    executor.close()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m worker", description="Work on the audits in the queue.")
    parser.add_argument(
        "command",
        nargs="?",
        choices=["seed", "pack", "check"],
        help="seed: only register the bundled networks; pack: their finished audits to zoo/first-look.npz; "
        "check: whether that file holds what theory says of all distances",
    )
    parser.add_argument("--database", metavar="URL", help="default: STRATA_DATABASE, else var/strata.db")
    parser.add_argument("--device", default="auto", help="auto (cuda, then mps, then cpu), cpu, cuda, cuda:1, mps")
    parser.add_argument("--once", action="store_true", help="stop when nothing is queued")
    parser.add_argument("--executor", default="local", metavar="local:N", help="N processes; default one a GPU or core")
    parser.add_argument("--dask", metavar="SCHEDULER", help="compute on a Dask cluster, for example tcp://host:8786")
    parser.add_argument("--memory", type=float, metavar="GIB", help="that each search may use")
    parser.add_argument("--precision", default="auto", choices=PRECISIONS, help="of the steps of each search")
    parser.add_argument(
        "--sole",
        action="store_true",
        help="as a dashboard starts it: stop if this machine has a worker, or once no dashboard is left",
    )
    parser.add_argument("--verbose", action="store_true", help="log every block")
    return parser


def _log_to(db: Database, sole: bool, verbose: bool) -> Path:
    """Log to stderr, and to a file that screens can show; the supervisor has led stderr into that file already."""
    path = supervisor.log_path(db)
    handlers: list[Any] = [logging.StreamHandler()]
    if not sole:
        path = path.with_name(f"{path.stem}-{os.getpid()}.log")
        path.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(RotatingFileHandler(path, maxBytes=2_000_000, backupCount=2))
    formatter = logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%SZ")
    formatter.converter = time.gmtime
    for handler in handlers:
        handler.setFormatter(formatter)
    for logger in (log, logging.getLogger("robustness_core")):
        for handler in handlers:
            logger.addHandler(handler)
        logger.setLevel(logging.DEBUG if verbose else logging.INFO)
    return path


if __name__ == "__main__":
    sys.exit(main())
