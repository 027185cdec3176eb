"""What the curve of a series on a sample rests on: pairs left out, pairs searched again, the search gap."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, select

from robustness_core.found import Finding
from robustness_core.spec import SampleSpec
from store import tables
from store.database import Database
from store.distances import hold


def put(db: Database, *, audit_id: int, attempt: int, series_id: int, sample: SampleSpec, finding: Finding) -> None:
    """Keep a finding in place of an older one. Raises Fenced if the audit was taken away."""
    row = tables.findings.c
    with db.write() as connection:
        hold(connection, audit_id, attempt)
        connection.execute(delete(tables.findings).where(row.series_id == series_id, row.sample == sample.key))
        values = {"series_id": series_id, "sample": sample.key, "finding": finding.to_json()}
        connection.execute(tables.findings.insert().values(values))


def find(db: Database, series_ids: Sequence[int], sample: SampleSpec) -> dict[int, Finding]:
    """Series id -> its finding on this sample, for those that have one; one query."""
    row = tables.findings.c
    query = select(row.series_id, row.finding).where(row.series_id.in_(list(series_ids)), row.sample == sample.key)
    with db.read() as connection:
        return {series_id: Finding.from_json(finding) for series_id, finding in connection.execute(query)}
