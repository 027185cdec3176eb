"""`python -m tests.store.keep`: write released/<revision>.db, the database that later revisions must upgrade."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from robustness_core.engine.tasks import Norms
from robustness_core.found import Finding, Gap
from store import audits, connect, distances, findings, maintenance, spectra, tables
from testing import world


def main() -> None:
    target = Path(__file__).parent / "released" / f"{tables.REVISION}.db"
    scratch = target.with_suffix(".scratch")
    db = connect(str(scratch), clock=world.Clock())
    running = world.running(db, layers=("conv1",))
    left, right = world.some_images(db, 4), world.some_images(db, 4, start=4, label=7)
    series = distances.series(db, world.audit().search.series(world.SHA256, {})[0])
    world.block(db, running, series.id, left, right)
    spectra.record(db, 1, "conv1.pre", Norms(3.0, 7.0, True, np.full((4, 4), 2.5)), left, right)
    found = Finding(16, 16, 0.05, gap=Gap(2, 1.01, 1.02))
    findings.put(
        db,
        audit_id=running.id,
        attempt=running.attempt,
        series_id=series.id,
        sample=world.audit().sample,
        finding=found,
    )
    audits.finish(db, running)
    maintenance.backup(db, target)
    db.close()
    for path in target.parent.glob(f"{scratch.name}*"):
        path.unlink()


if __name__ == "__main__":
    main()
