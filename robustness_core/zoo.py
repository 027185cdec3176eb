"""Where the bundled networks lie: zoo/<name>.safetensors, each with its card zoo/<name>.json.

An installed package has no room for the large ones: zoo/larger.txt names them as `sha256sum` does, and `fetch` puts
them into the cache folder.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from robustness_core.errors import StrataError
from robustness_core.files import cache_folder

ZOO = Path(__file__).resolve().parent.parent / "zoo"


def files() -> list[Path]:
    """The files of the bundled networks that are here, in alphabetical order."""
    return sorted([*ZOO.glob("*.safetensors"), *fetched().glob("*.safetensors")], key=lambda path: path.name)


def fetched() -> Path:
    """The folder of those that came later."""
    return cache_folder() / "zoo"


def larger() -> dict[str, str]:
    """The file names of the networks that the package has no room for, with their SHA-256; none in a checkout."""
    listing = ZOO / "larger.txt"
    lines = listing.read_text().splitlines() if listing.exists() else []
    return {name: sha256 for sha256, name in (line.split() for line in lines)}


def names() -> list[str]:
    """The names of the bundled networks that are here, in alphabetical order."""
    return [path.stem for path in files()]


def name_of(sha256: str) -> str | None:
    """The name of the bundled network whose file has this SHA-256, whatever else it is called; None if none has.

    Cost: every file is read once in a process, and again when it has changed.
    """
    for path in files():
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
    for path in files():
        if path.stem == network:
            return path
    if Path(network).is_file():
        return Path(network)
    if f"{network}.safetensors" in larger():
        raise StrataError(f"The network {network} is too large for the package; `strata fetch` brings it.")
    raise StrataError(
        f"There is no network {network!r}: give a file, or one of {', '.join(names()) or 'none bundled'}."
    )
