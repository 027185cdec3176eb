"""Where the bundled networks lie: zoo/<name>.safetensors, each with its card zoo/<name>.json."""

from __future__ import annotations

from pathlib import Path

ZOO = Path(__file__).resolve().parent.parent / "zoo"


class ShelfError(ValueError):
    """A network that is neither bundled nor a file; its text is one sentence."""


def names() -> list[str]:
    """The names of the bundled networks, in alphabetical order."""
    return sorted(path.stem for path in ZOO.glob("*.safetensors"))


def find(network: str) -> Path:
    """The file of a bundled network's name, or of a path. Raises ShelfError."""
    bundled = ZOO / f"{network}.safetensors"
    if network in names():
        return bundled
    if Path(network).is_file():
        return Path(network)
    raise ShelfError(f"There is no network {network!r}: give a file, or one of {', '.join(names()) or 'none bundled'}.")
