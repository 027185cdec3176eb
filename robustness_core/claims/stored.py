"""The verdicts that come with Strata, as `claims --json` wrote them, for whoever has no time to judge anew."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustness_core import zoo

FILE = "claims.json"


@dataclass(frozen=True)
class Stored:
    """`claims`: the entries of the JSON. `changed`: names of files that are other ones now than those judged by."""

    claims: tuple[Mapping[str, Any], ...]
    changed: tuple[str, ...]


def stored(folder: Path = zoo.ZOO) -> Stored | None:
    """What is stored in a folder; None if nothing is. Cost: some hashes of a few megabytes."""
    if not (path := folder / FILE).is_file():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    changed = tuple(name for name, sha256 in found["files"].items() if _sha256(folder / name) != sha256)
    return Stored(tuple(found["claims"]), changed)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
