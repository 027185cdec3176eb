"""Processes beside a test or benchmark: waiting for what they do, a free port, a Dask cluster."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from store.database import PROJECT

Cluster = tuple[str, list[subprocess.Popen[bytes]]]  # the scheduler's address, its worker processes


def until(condition: Callable[[], bool], *, seconds: float = 60) -> None:
    """Return once `condition` holds; fail after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """The address of a Dask scheduler and its two worker processes, without nannies: what dies stays dead."""
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    common = ["--no-dashboard", "--host", "127.0.0.1"]
    worker = ["distributed.cli.dask_worker", address, "--nthreads", "1", "--no-nanny", *common]
    scheduler = ["distributed.cli.dask_scheduler", "--no-show", "--port", str(port), *common]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "PYTHONWARNINGS": "ignore"}
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", *command], cwd=folder, env=environment,
                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                )
            )
            for command in (scheduler, worker, worker)
        ]  # fmt: skip
        try:
            yield address, processes[1:]
        finally:
            for process in reversed(processes):
                process.kill()
