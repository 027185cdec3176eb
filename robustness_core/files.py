"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Mapping
from pathlib import Path

from robustness_core.errors import StrataError


def check_writable(path: Path) -> None:
    """Raises StrataError if no file can be written there, before hours are spent on what it shall hold."""
    folder = path.resolve().parent
    if not folder.is_dir():
        raise StrataError(f"The folder of {str(path)!r} does not exist; name a file in a folder that does.")
    if path.is_dir():
        raise StrataError(f"{str(path)!r} is a folder; name a file.")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise StrataError(f"{str(path)!r} cannot be written: {error.strerror or error}.") from error


def write_whole(path: Path, content: bytes) -> None:
    """Write beside `path`, then replace it, so that a full disk leaves the old file whole. Raises StrataError."""
    write_together({path: content})


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write files that belong together: none is replaced before all of them lie on the disk. Raises StrataError."""
    beside = {path: path.with_name(f"{path.name}.{secrets.token_hex(4)}.part") for path in contents}
    try:
        for path, content in contents.items():
            with beside[path].open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for path, part in beside.items():
            os.replace(part, path)
    except OSError as error:
        path = next(iter(contents))
        raise StrataError(f"{path} could not be written: {error.strerror or error}.") from error
    finally:
        for part in beside.values():
            part.unlink(missing_ok=True)
