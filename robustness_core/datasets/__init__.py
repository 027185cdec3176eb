"""The images that networks are audited on: one registry (`registry.py`), a reader for each data set; no torch."""

from __future__ import annotations

from robustness_core.datasets.registry import (
    REGISTRY,
    SPLITS,
    Dataset,
    Entry,
    Shape,
    bundled,
    class_label,
    class_name,
    counts,
    fetch,
    fitting,
    get,
    load,
    to_float,
)

__all__ = [
    "REGISTRY",
    "SPLITS",
    "Dataset",
    "Entry",
    "Shape",
    "bundled",
    "class_label",
    "class_name",
    "counts",
    "fetch",
    "fitting",
    "get",
    "load",
    "to_float",
]
