"""Uploaded files: copied to disk at once, looked at by `robustness_core inspect` in a process with limits."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from store.database import PROJECT

SUFFIXES = ("safetensors", "pt", "pth", "th", "ckpt", "bin", "tar", "onnx")
SECONDS = 180.0
_MEMORY = 12 * 2**30  # address space, of which torch alone reserves some
_BLOCK = 2**20


class UploadError(ValueError):
    """A file that is refused; its text is one sentence for the user."""


@dataclass(frozen=True)
class Inspected:
    """What a file is: the report of `inspect`, and a clean copy of the network that needs no hints to be read."""

    report: dict[str, Any]
    weights: bytes


@contextmanager
def on_disk(file: BinaryIO, suffix: str) -> Iterator[Path]:
    """The uploaded bytes in a file of their own, in a folder that goes with them; its name is ours, not the user's."""
    with tempfile.TemporaryDirectory(prefix="strata-upload-") as folder:
        path = Path(folder) / f"upload.{suffix if suffix in SUFFIXES else 'pt'}"
        file.seek(0)
        with path.open("wb") as target:
            while block := file.read(_BLOCK):
                target.write(block)
        yield path


def inspect(path: Path, hints: Sequence[str] = ()) -> Inspected:
    """Look at a file in a child process that cannot take all memory or time. Raises UploadError."""
    copy = path.with_name("clean.safetensors")
    command = [sys.executable, "-m", "robustness_core", "inspect", str(path), "--json", "--copy", str(copy), *hints]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, cwd=PROJECT, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        if hasattr(resource, "prlimit"):
            resource.prlimit(child.pid, resource.RLIMIT_AS, (_MEMORY, _MEMORY))
            resource.prlimit(child.pid, resource.RLIMIT_CPU, (int(SECONDS) * 2, int(SECONDS) * 2))
        try:
            out, errors = child.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            raise UploadError(f"The file was given up: looking at it took over {SECONDS:.0f} seconds.") from None
    if child.returncode == 2:
        raise UploadError(_last_line(errors).removeprefix("strata: ") or "The file was refused.")
    try:
        if child.returncode != 0:
            raise ValueError
        return Inspected(json.loads(out), copy.read_bytes())
    except (ValueError, OSError):
        raise UploadError("The file could not be looked at: it may be damaged or need too much memory.") from None


def _last_line(errors: bytes) -> str:
    lines = errors.decode(errors="replace").strip().splitlines()
    return lines[-1][:1000] if lines else ""
