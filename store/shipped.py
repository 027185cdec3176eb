"""Enters an audit that was computed elsewhere as done, with every distance, in one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from sqlalchemy import Connection, func, select

from robustness_core.found import Finding, Floats, Found, FoundSet, Set
from robustness_core.spec import AuditSpec, SeriesSpec
from store import attacks, sets, tables
from store.database import Database, insert_ignoring
from store.distances import Ids, rows_of
from store.records import NetworkRecord

HOST = "shipped with Strata"  # stands where the name of the machine stands that computed a distance
PUBLISHED = "published from a notebook"  # the same, of an audit that a user entered
_LOCK = 7_243_651  # any number that no other lock of this database has


@dataclass(frozen=True, eq=False)
class ShippedAudit:
    """A finished audit with what it found: one matrix (L, R) for each series, all of the same images.

    `findings`: what the curve of each series rests on, None where nothing is noted. `sets`: what is found of sets of
    images in each series, by the places of their images; none where it is left out. `fooled` (n,): of those of all
    classes the budgets at which PGD fools the network, where that is known.
    """

    spec: AuditSpec
    series: tuple[SeriesSpec, ...]
    found: tuple[Found, ...]
    device: str
    versions: Mapping[str, str]
    finished: datetime
    findings: tuple[Finding | None, ...]
    host: str = HOST
    note: str = "Shipped with Strata, computed on another machine; the command in its report computes it anew."
    tags: tuple[str, ...] = ("shipped",)
    sets: tuple[Mapping[Set, FoundSet], ...] = ()
    fooled: Floats | None = None


def enter(db: Database, network: NetworkRecord, audit: ShippedAudit, left_ids: Ids, right_ids: Ids) -> bool:
    """Enter `audit` of `network` unless all of its distances are known already; returns whether it was entered.

    Distances stay known after their audit was removed, so what a user removed does not come back. Those that this
    installation has found itself stay as they are.
    """
    spec = audit.spec.replace(network=network.name)
    pairs = sum(int(one.known.sum()) for one in audit.found)
    with db.write() as connection:
        if not db.is_sqlite:  # which locks by itself: two workers that start together shall not both enter it
            connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
        if _known(connection, audit.series, left_ids, right_ids) >= pairs:
            _keep_findings(connection, db, audit)  # of an installation from before there were any
            return False
        if audit.fooled is not None:
            attacks.put(db, connection, network.id, left_ids, audit.fooled)
        worker_id = _worker(connection, audit)
        connection.execute(
            tables.audits.insert().values(
                kind="audit",
                key=spec.replace(network=network.sha256).key,
                spec=spec.to_json(),
                network_id=network.id,
                state="done",
                priority=0,
                done=pairs,
                total=pairs,
                attempt=1,
                lapses=0,
                worker_id=worker_id,
                created=audit.finished,
                finished=audit.finished,
                note=audit.note,
                tags=list(audit.tags),
                requested_by="",
            )
        )
        for place, (series, matrix) in enumerate(zip(audit.series, audit.found, strict=True)):
            i, j = np.nonzero(matrix.known)
            left, right = np.asarray(left_ids)[i], np.asarray(right_ids)[j]
            connection.execute(
                insert_ignoring(db, tables.series),
                {"key": series.key, "network_id": network.id, "spec": series.identity()},
            )
            series_id = connection.execute(
                select(tables.series.c.id).where(tables.series.c.key == series.key)
            ).scalar_one()
            rows = rows_of(series_id, worker_id, left, right, matrix[i, j])
            connection.execute(insert_ignoring(db, tables.distances), rows)
            found = audit.sets[place] if audit.sets else {}
            known = {tuple(int(left_ids[at]) for at in places): one for places, one in found.items()}
            sets.put(db, connection, series_id, known, worker_id)
        _keep_findings(connection, db, audit)
    return True


def _keep_findings(connection: Connection, db: Database, audit: ShippedAudit) -> None:
    """Those of the audit, where there is none yet."""
    series = tables.series.c
    own = select(series.key, series.id).where(series.key.in_([one.key for one in audit.series]))
    ids = {key: series_id for key, series_id in connection.execute(own)}
    rows = [
        {"series_id": ids[one.key], "sample": audit.spec.sample.key, "finding": finding.to_json()}
        for one, finding in zip(audit.series, audit.findings, strict=True)
        if finding is not None
    ]
    if rows:
        connection.execute(insert_ignoring(db, tables.findings), rows)


def _known(connection: Connection, series: Sequence[SeriesSpec], left_ids: Ids, right_ids: Ids) -> int:
    """How many distances of these series and images are known."""
    distance = tables.distances.c
    own = select(tables.series.c.id).where(tables.series.c.key.in_([one.key for one in series]))
    left, right = ([int(i) for i in ids] for ids in (left_ids, right_ids))
    return connection.execute(
        select(func.count()).where(
            distance.series_id.in_(own), distance.left_id.in_(left), distance.right_id.in_(right)
        )
    ).scalar_one()


def _worker(connection: Connection, audit: ShippedAudit) -> int:
    """The row of the machine that computed the audit; the same for all audits of one machine."""
    worker = tables.workers.c
    same = select(worker.id, worker.versions).where(worker.host == audit.host, worker.device == audit.device)
    for row in connection.execute(same):
        if row.versions == dict(audit.versions):
            return int(row.id)
    return int(
        connection.execute(
            tables.workers.insert()
            .values(
                host=audit.host,
                pid=0,
                device=audit.device,
                versions=dict(audit.versions),
                state="stopped",
                started=audit.finished,
                heartbeat=audit.finished,
                log_path="",
            )
            .returning(worker.id)
        ).scalar_one()
    )
