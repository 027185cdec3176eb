"""Where the bundled networks lie: zoo/<name>.safetensors, each with its card zoo/<name>.json."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from robustness_core.errors import StrataError

ZOO = Path(__file__).resolve().parent.parent / "zoo"


def names() -> list[str]:
    """The names of the bundled networks, in alphabetical order."""
    return sorted(path.stem for path in ZOO.glob("*.safetensors"))


def name_of(sha256: str) -> str | None:
    """The name of the bundled network whose file has this SHA-256, whatever else it is called; None if none has.

    Cost: every file is read once in a process, and again when it has changed.
    """
    for path in sorted(ZOO.glob("*.safetensors")):
        about = path.stat()
        if _sha256(path, about.st_size, about.st_mtime_ns) == sha256:
            return path.stem
    return None


@lru_cache(maxsize=256)
def _sha256(path: Path, size: int, changed: int) -> str:
    """The SHA-256 of a file; `size` and `changed` (nanoseconds) tell its versions apart."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find(network: str) -> Path:
    """The file of a bundled network's name, or of a path. Raises StrataError."""
    bundled = ZOO / f"{network}.safetensors"
    if network in names():
        return bundled
    if Path(network).is_file():
        return Path(network)
    raise StrataError(
        f"There is no network {network!r}: give a file, or one of {', '.join(names()) or 'none bundled'}."
    )
