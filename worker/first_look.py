"""The first look: audits of the bundled networks that come with them, so that a new installation shows curves."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustness_core import datasets, shipped
from robustness_core.engine import nesting
from robustness_core.files import write_whole
from robustness_core.found import COLUMNS, Finding, Found
from robustness_core.optimal_loss.conflict_graph import input_distances
from robustness_core.shipped import Shipped
from robustness_core.spec import TOLERANCE, AuditSpec, SeriesSpec, fields, sample_indices
from store import Database, StoreError, attacks, audits, distances, findings, images, networks, sets
from store.records import AuditRecord, NetworkRecord
from store.shipped import ShippedAudit, enter

log = logging.getLogger("worker")
FILE = shipped.FIRST_LOOK


def pack(db: Database, path: Path = FILE) -> int:
    """Write every finished audit of a bundled network into `path`; returns how many.

    The whole curves come first that screens show unasked, so that a new installation has them as early as can be, then
    the oldest. An audit that is a part of another one, and one by a version of its method that is not asked for any
    more, are left out. Raises StoreError if there is none, or if the file cannot be written.
    """
    candidates = _complete(db)
    entries: list[dict[str, Any]] = []
    arrays: dict[str, Any] = {}
    for one in sorted(candidates, key=lambda one: not one.unasked):
        if any(other.holds(one) for other in candidates):
            continue
        audit, spec, network = one.audit, one.spec, one.network
        nested = nesting.nested(one.series, one.found, network.features)
        arrays |= {f"{name}_{len(entries)}": np.stack([getattr(matrix, name) for matrix in nested]) for name in COLUMNS}
        assert audit.worker is not None
        assert audit.finished is not None
        entries.append(
            {
                "network": network.sha256,
                "spec": spec.to_json(),
                "series": [series.identity() for series in one.series],
                "indices": [_sample(spec, label) for label in spec.sample.classes],
                "device": audit.worker.device,
                "versions": audit.worker.versions,
                "finished": audit.finished.isoformat(),
                "findings": [None if finding is None else finding.to_json() for finding in one.findings],
                **_of_several(db, spec, network),
            }
        )
    if not entries:
        raise StoreError("The database holds no finished audit of a bundled network to pack.")
    content = io.BytesIO()
    np.savez_compressed(content, audits=np.array(json.dumps(entries)), **arrays)
    write_whole(path, content.getvalue())
    return len(entries)


@dataclass(frozen=True, eq=False)
class _Finished:
    """A finished audit of a bundled network: its `series`, and what is found of each, (L, R), with what it rests on."""

    audit: AuditRecord
    spec: AuditSpec
    network: NetworkRecord
    series: tuple[SeriesSpec, ...]
    found: list[Found]
    findings: list[Finding | None]

    @cached_property
    def keys(self) -> frozenset[str]:
        return frozenset(one.key for one in self.series)

    @property
    def whole(self) -> bool:
        """Whether all is known that it asks; not if it was worked on by another version of its method."""
        known = [int(one.known.sum()) == self.spec.sample.pairs for one in self.found]
        return all(one or (self.spec.needed and rest) for one, rest in zip(known, self.findings, strict=True))

    @property
    def unasked(self) -> bool:
        """Whether these are curves that screens show unasked."""
        pair = datasets.get(self.spec.sample.dataset).pair
        return len(self.spec.search.layers) > 1 and fields.is_usual(self.spec, pair)

    def holds(self, other: _Finished) -> bool:
        """Whether all of the other one is in this one, and this one is larger, or newer if both are the same."""
        if self.spec.sample != other.spec.sample or not other.keys <= self.keys:
            return False
        if (self.spec.needed and not other.spec.needed) or self.spec.search.sets != other.spec.search.sets:
            return False
        same = (self.keys, self.spec.needed) == (other.keys, other.spec.needed)
        return self.audit.id > other.audit.id if same else True


def _complete(db: Database) -> list[_Finished]:
    """Those that may be packed, the oldest first."""
    complete = []
    for audit in audits.recent(db, 1_000_000, "done", kind="audit")[::-1]:
        spec = audit.spec
        network = networks.by_name(db, spec.network) if isinstance(spec, AuditSpec) else None
        if not isinstance(spec, AuditSpec) or network is None or network.source != "zoo":
            continue
        series = tuple(spec.search.series(network.sha256, network.features))
        ids = [distances.series(db, one).id for one in series]
        matrices, rests = distances.matrices(db, ids, *_ids(db, spec)), findings.find(db, ids, spec.sample)
        one = _Finished(audit, spec, network, series, [matrices[i] for i in ids], [rests.get(i) for i in ids])
        if one.whole:
            complete.append(one)
        else:
            log.info("audit=%d is of another version of its method and is left out", audit.id)
    return complete


def check(path: Path = FILE) -> list[str]:
    """What of the shipped distances breaks what theory says of all of them; a sentence for each audit and kind.

    A collision is verified, and not farther than the midpoint; within an audit, distances never fall with m, nor grow
    with depth without projection (METHOD.md section 2; beyond 1e-6 of themselves).
    """
    broken: list[str] = []
    for audit in shipped.read(path):
        spec, series, found = audit.spec, audit.series, audit.found
        distance = found.distance  # NaN where a pair is not needed: no comparison with it holds
        data = datasets.load(spec.sample.dataset, spec.sample.split)
        sides = spec.sample.sides([data.pixels[list(chosen)] for chosen in audit.indices])
        half = input_distances(*sides, spec.search.threat.order)
        nested = nesting.nested(
            series, [found[place] for place in range(len(series))], dict.fromkeys(spec.search.layers, 0)
        )
        nearest = np.stack([one.distance for one in nested])
        kinds = {
            "collided with a residual above the tolerance": found.collided & (found.residual > TOLERANCE),
            "farther than the midpoint": distance > half * (1 + 1e-6),
            "farther than another series of the audit says": distance > nearest * (1 + 1e-6),
        }
        broken += [
            f"{spec.network}, {len(series)} series, S = {spec.sample.size}: {pairs.sum():,} pairs {kind}."
            for kind, pairs in kinds.items()
            if pairs.any()
        ]
    return broken


def load(db: Database, bundled: Sequence[NetworkRecord], path: Path = FILE) -> int:
    """Enter the shipped audits of these networks that are not known yet; returns how many.

    A data set that is not on this machine is not fetched: its audits are entered at a later start.
    """
    if not path.is_file():
        return 0
    by_sha256 = {network.sha256: network for network in bundled}
    return sum(_enter(db, by_sha256[audit.network], audit) for audit in shipped.read(path, by_sha256))


def _enter(db: Database, network: NetworkRecord, audit: Shipped) -> bool:
    spec = audit.spec
    if audit.series != tuple(spec.search.series(network.sha256, network.features)):
        return False  # of a version of the method that is not asked for any more
    if not datasets.get(spec.sample.dataset).present(spec.sample.split):
        log.info("network=%s has shipped audits of %s, which is not on this machine", network.name, spec.sample.dataset)
        return False
    if tuple(tuple(_sample(spec, label)) for label in spec.sample.classes) != audit.indices:
        log.info("network=%s has shipped audits of another part of %s", network.name, spec.sample.dataset)
        return False
    left_ids, right_ids = _ids(db, spec)
    entered = enter(
        db,
        network,
        ShippedAudit(
            spec,
            audit.series,
            tuple(audit.found[place] for place in range(len(audit.series))),
            audit.device,
            audit.versions,
            datetime.fromisoformat(audit.finished),
            audit.findings,
            sets=audit.sets,
            fooled=audit.fooled,
        ),
        left_ids,
        right_ids,
    )
    if entered:
        log.info("network=%s comes with %d distances", network.name, audit.found.known.sum())
    return entered


def _sample(spec: AuditSpec, label: int) -> list[int]:
    """The images of a class; of CIFAR-10 they depend on the batches that are on this machine."""
    labels = datasets.load(spec.sample.dataset, spec.sample.split).labels
    return sample_indices(labels, label, spec.sample.size, spec.sample.seed, spec.sample.left_out).tolist()


def _ids(db: Database, spec: AuditSpec) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The images at the rows and at the columns, put into the store."""
    return spec.sample.sides([np.array(_images(db, spec, label)) for label in spec.sample.classes])


def _images(db: Database, spec: AuditSpec, label: int) -> list[int]:
    chosen = _sample(spec, label)
    pixels = datasets.load(spec.sample.dataset, spec.sample.split).pixels[chosen]
    return images.put(db, spec.sample.dataset, spec.sample.split, chosen, [label] * len(chosen), pixels)


def _of_several(db: Database, spec: AuditSpec, network: NetworkRecord) -> dict[str, Any]:
    """What an audit of more than two classes has besides: sets of each series, and what PGD does; null: nothing."""
    if len(spec.sample.classes) == 2:
        return {}
    ids, _ = _ids(db, spec)
    series = [distances.series(db, one).id for one in spec.search.series(network.sha256, network.features)]
    known = sets.find(db, series, ids)
    fooled = attacks.find(db, network.id, ids)
    found = {"sets": [[{"images": list(places), **asdict(one)} for places, one in known[i].items()] for i in series]}
    if np.isnan(fooled).any():
        return found
    return {**found, "fooled": [None if np.isinf(one) else one for one in fooled.tolist()]}
