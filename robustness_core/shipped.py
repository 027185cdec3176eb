"""The audits that come with Strata: one reader of their files, for what a new installation enters and for claims."""

from __future__ import annotations

import io
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robustness_core import zoo
from robustness_core.found import COLUMNS, Finding, Floats, Found, FoundSet, Set
from robustness_core.spec import AuditSpec, SeriesSpec

FIRST_LOOK = zoo.ZOO / "first-look.npz"


@dataclass(frozen=True, eq=False)
class Shipped:
    """A finished audit: what was asked, of which images, and what was found.

    `network`: the SHA-256 of its file. `found` (K, L, R): a matrix for each of the K `series`. `indices`: the images of
    each class, by their numbers in the split. `findings`: what the curve of each series rests on, None where nothing is
    noted. `finished`: a time in ISO 8601. `sets`: what is found of sets of images in each series, by the places of
    their images; empty of two classes. `fooled` (n,): the budgets at which PGD fools the network, None: not measured.
    """

    network: str
    spec: AuditSpec
    series: tuple[SeriesSpec, ...]
    found: Found
    indices: tuple[tuple[int, ...], ...]
    device: str
    versions: Mapping[str, str]
    finished: str
    findings: tuple[Finding | None, ...]
    sets: tuple[Mapping[Set, FoundSet], ...] = ()
    fooled: Floats | None = None


def read(path: Path = FIRST_LOOK, networks: Collection[str] | None = None) -> Iterator[Shipped]:
    """The audits in a file, of all networks or of those with these SHA-256, one after the other."""
    with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
        for number, entry in enumerate(json.loads(str(file["audits"]))):
            if networks is None or entry["network"] in networks:
                yield _shipped(entry, Found(*(file[f"{name}_{number}"] for name in COLUMNS)))


def _shipped(entry: Mapping[str, Any], found: Found) -> Shipped:
    fooled = np.array(entry["fooled"], dtype=float) if "fooled" in entry else None
    return Shipped(
        network=entry["network"],
        spec=AuditSpec.from_json(entry["spec"]),
        series=tuple(SeriesSpec.from_json(one) for one in entry["series"]),
        found=found,
        indices=tuple(tuple(one) for one in entry["indices"]),
        device=entry["device"],
        versions=entry["versions"],
        finished=entry["finished"],
        findings=tuple(None if one is None else Finding.from_json(one) for one in entry["findings"]),
        sets=tuple(
            {tuple(one["images"]): FoundSet(*(one[name] for name in COLUMNS)) for one in found_sets}
            for found_sets in entry.get("sets", ())
        ),
        fooled=None if fooled is None else np.where(np.isnan(fooled), np.inf, fooled),
    )
