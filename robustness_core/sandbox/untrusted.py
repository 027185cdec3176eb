"""Networks from files of anybody: parsed in the sandbox's child, loaded from the clean copy that it leaves."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robustness_core.checkpoints import load as load_here
from robustness_core.files import described
from robustness_core.networks import Network
from robustness_core.sandbox import parent as sandbox


def load(path: Path, hints: Mapping[str, Any] | None = None) -> tuple[Network, tuple[str, ...]]:
    """The network in a file, and sentences about what was guessed to get it.

    Only a safetensors file of the project's own, which names its architecture, is read in this process, and that only
    where no other normalisation than its own is asked for. `hints` are those of `sandbox.inspect`. Cost: some seconds
    for any other file. Raises CheckpointError with one sentence.
    """
    if described(path) and not {"mean", "std"} & set(hints or {}):
        return load_here(path), ()
    with tempfile.TemporaryDirectory(prefix="strata-upload-") as folder:
        copy = Path(folder) / "copy.safetensors"
        report = sandbox.inspect(path, hints, copy=copy)
        return load_here(copy), tuple(str(warning) for warning in report["warnings"])
