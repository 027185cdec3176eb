"""The store as the engine's keeper of results: what is missing there, blocks recorded, closest collisions kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustness_core.engine.scheduler import Block, Scheduler
from robustness_core.engine.tasks import Distances, Kept
from robustness_core.found import Finding, Found, Set
from robustness_core.spec import AuditSpec, SeriesSpec
from store import Database, audits, distances, findings, sets
from store.records import AuditRecord, NetworkRecord, PairSpec
from worker.pace import Pace

Ids = tuple[list[int], list[int]]  # of the left and the right images of a sample in the store


class StoreResults:
    """Results of one attempt at an audit; `keep`: of so many closest pairs of a series the colliding images too."""

    def __init__(
        self, db: Database, audit: AuditRecord, network: NetworkRecord, ids: Ids, asked: NDArray[np.bool_], keep: int
    ):
        assert audit.worker is not None
        self._db = db
        self._audit = audit
        self._worker_id = audit.worker.id
        self._left_ids, self._right_ids = ids
        self._asked = asked
        self._keep = keep
        self._pace = Pace(network)
        self._series_ids: dict[SeriesSpec, int] = {}
        self._closest: dict[SeriesSpec, dict[tuple[int, int], tuple[float, Kept]]] = {}  # the closest collisions seen

    def missing(self, series: SeriesSpec) -> int:
        known = distances.find(self._db, series)
        if known is None:
            return int(self._asked.sum())
        return int((self._asked & distances.missing(self._db, known.id, self._left_ids, self._right_ids)).sum())

    def known(self, series: SeriesSpec) -> NDArray[np.float64]:
        left, right = self._left_ids, self._right_ids
        known = distances.find(self._db, series)
        if known is None:
            return Found.nothing(len(left), len(right)).distance
        return distances.matrix(self._db, known.id, left, right).distance

    def sets(self, series: SeriesSpec) -> dict[Set, float]:
        known = distances.find(self._db, series)
        if known is None:
            return {}
        found = sets.find(self._db, [known.id], self._left_ids)[known.id]
        return {places: one.distance for places, one in found.items()}

    def settled(self, series: SeriesSpec) -> bool:
        spec = self._audit.spec
        if isinstance(spec, PairSpec):
            return True
        known = distances.find(self._db, series)
        if known is None:
            return False
        finding = findings.find(self._db, [known.id], spec.sample).get(known.id)
        return finding is not None and finding.largest_set >= spec.search.sets

    def record(self, block: Block, answer: Distances) -> None:
        """Raises Fenced if the audit was taken away."""
        if block.sets:
            ids = [tuple(self._left_ids[place] for place in one) for one in block.sets]
            sets.record(
                self._db,
                audit_id=self._audit.id,
                attempt=self._audit.attempt,
                series_id=self._id(block.series),
                found=dict(zip(ids, answer.found.sets, strict=True)),
                worker_id=self._worker_id,
            )
            return
        pairs = [(self._left_ids[i], self._right_ids[j]) for i, j in zip(block.left, block.right, strict=True)]
        counts = np.ones(len(block), dtype=bool)
        row: dict[str, Any] = {
            "audit_id": self._audit.id,
            "attempt": self._audit.attempt,
            "series_id": self._id(block.series),
            "left_ids": [left for left, _ in pairs],
            "right_ids": [right for _, right in pairs],
            "found": answer.found,
            "worker_id": self._worker_id,
        }
        if block.kind == "again":
            counts = distances.improve(self._db, **row)
        elif block.kind == "distances":
            distances.record(self._db, **row)
            self._pace.block((block.series.layer, block.series.m), len(block), answer.seconds)
        seen = self._closest.setdefault(block.series, {})
        seen |= {
            pairs[kept.place]: (float(answer.found.distance[kept.place]), kept)
            for kept in answer.kept
            if counts[kept.place]
        }
        if block.kind == "collisions":
            self.finish(block.series, None)
        else:
            self._closest[block.series] = dict(sorted(seen.items(), key=lambda item: item[1][0])[: self._keep])

    def finish(self, series: SeriesSpec, finding: Finding | None) -> Sequence[tuple[int, int]]:
        """Store the finding, and the collisions of the closest pairs that are at hand; the places of those without."""
        seen, lacking = self._closest.pop(series, {}), []
        series_id, audit = self._id(series), self._audit
        if finding is not None and isinstance(audit.spec, AuditSpec):
            findings.put(
                self._db, audit_id=audit.id, attempt=audit.attempt, series_id=series_id,
                sample=audit.spec.sample, finding=finding,
            )  # fmt: skip
        closest, _ = distances.closest(self._db, series_id, self._left_ids, self._right_ids, self._keep)
        for left, right in closest:
            if (left, right) in seen:
                kept = seen[left, right][1]
                distances.put_collision(self._db, series_id, left, right, kept.left, kept.right, kept.predictions)
            elif distances.get_collision(self._db, series_id, left, right) is None:
                lacking.append((self._left_ids.index(left), self._right_ids.index(right)))
        return lacking

    def progress(self, scheduler: Scheduler) -> None:
        """Say how far the audit is."""
        final, left = scheduler.final_epsilon(), self._pace.left(scheduler.left)
        audits.progress(self._db, self._audit, scheduler.done, scheduler.total, final, left)

    def _id(self, series: SeriesSpec) -> int:
        if series not in self._series_ids:
            self._series_ids[series] = distances.series(self._db, series).id
        return self._series_ids[series]
