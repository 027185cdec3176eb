"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Write beside `path`, then replace it, so that a full disk leaves the old file whole. Raises OSError."""
    write_together({path: content})


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write files that belong together: none is replaced before all of them lie on the disk. Raises OSError."""
    beside = {path: path.with_name(f"{path.name}.{secrets.token_hex(4)}.part") for path in contents}
    try:
        for path, content in contents.items():
            with beside[path].open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for path, part in beside.items():
            os.replace(part, path)
    finally:
        for part in beside.values():
            part.unlink(missing_ok=True)
