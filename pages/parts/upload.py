"""Uploaded files: copied to disk at once, then looked at in a confined process (robustness_core.sandbox)."""

from __future__ import annotations

import hashlib
import math
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from robustness_core.datasets.own import ImageSet
from robustness_core.datasets.pictures import Fit
from robustness_core.engine.tasks import NetworkFile
from robustness_core.errors import CheckpointError
from robustness_core.sandbox import parent as sandbox
from store import networks
from store.database import Database
from store.records import LayerRecord, NetworkRecord

SUFFIXES = ("zip", "safetensors", "pt", "pth", "th", "ckpt", "bin", "tar", "onnx")
_BLOCK = 2**20


@dataclass(frozen=True)
class Inspected:
    """What a file is: the report of `inspect`, and a clean copy of the network that needs no hints to be read."""

    report: dict[str, Any]
    layers: tuple[LayerRecord, ...]
    weights: bytes

    @property
    def sha256(self) -> str:
        """Of the clean copy: under this hash the network is registered."""
        return hashlib.sha256(self.weights).hexdigest()


def numbers(text: str) -> list[float]:
    """The numbers in a text; NaN, which is refused, where a word is none."""
    parts = text.replace(",", " ").split()
    return [float(part) if re.fullmatch(r"-?\d*\.?\d+", part) else math.nan for part in parts]


def add(db: Database, found: Inspected, name: str) -> NetworkRecord:
    """Register the network with the report in its card. Raises StoreError."""
    report = found.report
    normalisation = report["normalisation"] or {"mean": None, "std": None}
    inspected = {key: value for key, value in report.items() if key not in ("layers", "candidates")}
    others = dict.fromkeys(one["architecture"] for one in report["candidates"])
    inspected["architectures"] = [text for text in others if text != report["architecture"]]
    return networks.register(
        db,
        NetworkFile(
            sha256=found.sha256,
            format=report["format"],
            architecture=report["architecture"],
            input_shape=report["input_shape"],
            mean=normalisation["mean"],
            std=normalisation["std"],
            content=found.weights,
        ),
        name=name,
        source="upload",
        layers=found.layers,
        card={"inspected": {**inspected, "normalisations": measured(report)}},
    )


def measured(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The normalisations that were measured of the network in a report of `inspect`, the best first."""
    columns = ("normalisation_name", "normalisation", "accuracy", "images")
    same = [one for one in report["candidates"] if one["architecture"] == report["architecture"]]
    return [{name: one[name] for name in columns} for one in same]


@contextmanager
def on_disk(file: BinaryIO, suffix: str, beside: Mapping[str, BinaryIO] | None = None) -> Iterator[Path]:
    """The uploaded bytes in a file of their own, in a folder that goes with them; its name is ours, not the user's.

    With the files `beside` an ONNX graph, by name, it is a zip of all of them, as the reader of graphs takes it.
    """
    with tempfile.TemporaryDirectory(prefix="strata-upload-") as folder:
        path = Path(folder) / f"upload.{suffix if suffix in SUFFIXES else 'pt'}"
        file.seek(0)
        if beside:
            with zipfile.ZipFile(path, "w") as archive:
                for name, part in {"graph.onnx": file, **beside}.items():
                    with archive.open(name, "w", force_zip64=True) as entry:
                        part.seek(0)
                        shutil.copyfileobj(part, entry, _BLOCK)
        else:
            with path.open("wb") as target:
                shutil.copyfileobj(file, target, _BLOCK)
        yield path


def images(path: Path, title: str, shape: Sequence[int] | None, fit: Fit) -> ImageSet:
    """The images in a file, decoded in a confined process. Raises DatasetError."""
    return sandbox.images(path, title=title, shape=shape, fit=fit)


def inspect(path: Path, hints: Mapping[str, Any]) -> Inspected:
    """Look at a file; `hints` are those of `sandbox.inspect`. Raises CheckpointError."""
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
    except CheckpointError:
        raise
    except (KeyError, TypeError, ValueError, OSError):
        raise CheckpointError("The file could not be looked at to the end; it may be damaged.") from None
