"""Uploaded files: copied to disk at once, then looked at in a confined process (robustness_core.sandbox)."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from robustness_core import sandbox
from store.records import LayerRecord

SUFFIXES = ("safetensors", "pt", "pth", "th", "ckpt", "bin", "tar", "onnx")
_BLOCK = 2**20


class UploadError(ValueError):
    """A file that is refused; its text is one sentence for the user."""


@dataclass(frozen=True)
class Inspected:
    """What a file is: the report of `inspect`, and a clean copy of the network that needs no hints to be read."""

    report: dict[str, Any]
    layers: tuple[LayerRecord, ...]
    weights: bytes

    @property
    def sha256(self) -> str:
        """Of the clean copy: under this hash the network stands on the shelf."""
        return hashlib.sha256(self.weights).hexdigest()


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


def inspect(path: Path, hints: Mapping[str, Any]) -> Inspected:
    """Look at a file; `hints` are those of `sandbox.inspect`. Raises UploadError."""
    copy = path.with_name("clean.safetensors")
    try:
        report = sandbox.inspect(path, hints, copy=copy)
        layers = tuple(
            LayerRecord(
                str(layer["name"]),
                tuple(int(size) for size in layer["shape"]),
                int(layer["features"]),
                bool(layer["affine"]),
                bool(layer["main"]),
            )
            for layer in report["layers"]
        )
        return Inspected(report, layers, copy.read_bytes())
    except sandbox.UploadRefused as error:
        raise UploadError(str(error)) from None
    except (KeyError, TypeError, ValueError, OSError):
        raise UploadError("The file could not be looked at to the end; it may be damaged.") from None
