"""A real PostgreSQL server for tests, from the binaries of the system: in a temporary folder, on a Unix socket."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def binaries() -> Path | None:
    """The folder of initdb and pg_ctl, or None where no server is installed."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return folders[-1] if folders else None


@contextmanager
def running() -> Iterator[str]:
    """Start a server and give the URL of its maintenance database; stop it and remove its folder at the end."""
    folder = binaries()
    assert folder is not None
    home = Path(tempfile.mkdtemp(prefix="strata-pg-"))  # short: the path of a socket has at most 107 characters
    # The server refuses to run as root, which is who runs tests in a container.
    who: dict[str, Any] = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
    if who:
        shutil.chown(home, "postgres", "postgres")

    def call(*command: str) -> None:
        subprocess.run(command, check=True, cwd=home, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT, **who)

    data = str(home / "data")
    try:
        call(str(folder / "initdb"), "-D", data, "-U", "strata", "--auth=trust", "--encoding=UTF8", "--no-sync")
        settings = f"-c listen_addresses='' -c unix_socket_directories={home} -c fsync=off -c max_connections=60"
        call(str(folder / "pg_ctl"), "-D", data, "-l", str(home / "log"), "-o", settings, "-w", "start")
        try:
            yield f"postgresql+psycopg://strata@/postgres?host={home}"
        finally:
            call(str(folder / "pg_ctl"), "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(home, ignore_errors=True)
