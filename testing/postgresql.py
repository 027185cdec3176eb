"""A real PostgreSQL server for tests, from the binaries of the system: in a temporary folder, on a Unix socket."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
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
def running(*, listen: str = "", database: str = "postgres", enter: Sequence[str] = ()) -> Iterator[str]:
    """Start a server and give the URL of a database; stop it and remove its folder at the end.

    It also listens at the address `listen`, and asks nobody for a password. `enter` puts a command, run by root, into
    another network.
    """
    folder = binaries()
    assert folder is not None
    home = Path(tempfile.mkdtemp(prefix="strata-pg-"))  # short: the path of a socket has at most 107 characters
    # The server refuses to run as root, which is who runs tests in a container.
    who: dict[str, Any] = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
    if who:
        shutil.chown(home, "postgres", "postgres")

    def call(*command: str) -> None:
        words = [*enter, "runuser", "-u", "postgres", "--", *command] if enter else command
        outputs: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT}
        subprocess.run(words, check=True, cwd=home, **outputs, **({} if enter else who))

    data = str(home / "data")
    try:
        call(str(folder / "initdb"), "-D", data, "-U", "strata", "--auth=trust", "--encoding=UTF8", "--no-sync")
        where = f"-c listen_addresses='{listen}' -c unix_socket_directories={home}"
        options = f"{where} -c fsync=off -c max_connections=60"
        call(str(folder / "pg_ctl"), "-D", data, "-l", str(home / "log"), "-o", options, "-w", "start")
        try:
            if database != "postgres":
                call(str(folder / "createdb"), "-h", str(home), "-U", "strata", database)
            yield f"postgresql+psycopg://strata@/{database}?host={home}"
        finally:
            call(str(folder / "pg_ctl"), "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(home, ignore_errors=True)
