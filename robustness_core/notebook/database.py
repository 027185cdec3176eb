"""Audits of a notebook in a database: worked on there as a worker does, or entered once they are known."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np

from robustness_core import datasets, zoo
from robustness_core.datasets import own
from robustness_core.engine import nesting
from robustness_core.engine.audit import InProcess, draw_sample, input_graph
from robustness_core.engine.compute import Computer
from robustness_core.engine.result import AuditResult, SeriesResult
from robustness_core.engine.tasks import Description, Machine, NetworkFile
from robustness_core.errors import NetworkError, StrataError
from robustness_core.files import read_card
from robustness_core.found import Found
from robustness_core.layers import cuts
from robustness_core.notebook.loading import load
from robustness_core.notebook.networks import Loaded
from robustness_core.notebook.results import Result
from robustness_core.optimal_loss import curve_of, loss_curve
from robustness_core.spec import AuditSpec
from store import (
    Database,
    Fenced,
    audits,
    connect,
    distances,
    findings,
    image_sets,
    images,
    networks,
    sets,
    shipped,
    workers,
)
from store.records import AuditRecord, LayerRecord, NetworkRecord, Source, WorkerRecord
from worker.keeper import Keeper
from worker.running import AuditRun, Settings

_LEASE = 30.0  # seconds without a sign of life after which another worker may take an audit over
_NO_FILE = (
    "This network is no chain or graph of steps that a file of Strata can hold, so a database cannot keep it; audit it "
    "without one."
)


def run(url: str, spec: AuditSpec, network: Loaded, device: str, progress: Callable[[int, int], None]) -> AuditResult:
    """Ask the audit there and work on it in this process; at an interrupt what is known, and the audit is cancelled.

    Where a worker has taken it already, its end is waited for. Raises StrataError.
    """
    db = connect(url)
    try:
        record = _enter(db, network)
        _enter_images(db, spec)
        spec = spec.replace(network=record.name)
        computer = Computer(Machine(device), {network.sha256: network})
        for part in spec.fitting(record.features):
            audit = audits.submit(db, part)
            try:
                _work(db, audit, computer, progress)
            except KeyboardInterrupt:
                if audits.get(db, audit.id).active:
                    audits.cancel(db, audit.id)
                break
        return _known(db, spec, record, computer.description)
    finally:
        db.close()


def _work(db: Database, audit: AuditRecord, computer: Computer, progress: Callable[[int, int], None]) -> None:
    description = computer.description
    worker = workers.register(db, description.device, description.versions)
    try:
        claimed = audits.claim(db, worker.id, lease_seconds=_LEASE, only=audit.id)
        if claimed is None:
            _wait(db, audit.id, progress)
            return

        def tell(priority: int) -> None:
            now = audits.get(db, audit.id)
            progress(now.done, now.total)

        with _kept(db, worker, claimed) as keeper:
            settings = Settings(batch=computer.at_once, lease_seconds=_LEASE)
            try:
                AuditRun(db, claimed, InProcess(computer.answer), keeper, settings, tell).run()
            except Fenced:  # the dashboard cancelled it, or gave it to a worker that is alive
                return
            except StrataError as error:
                audits.fail(db, claimed, str(error))
                raise
            audits.finish(db, claimed)
        tell(0)
    finally:
        workers.retire(db, worker.id)


@contextmanager
def _kept(db: Database, worker: WorkerRecord, audit: AuditRecord) -> Iterator[Keeper]:
    """Signs of life while the audit is worked on."""
    keeper = Keeper(db, worker.id, lease_seconds=_LEASE, every=_LEASE / 6)
    keeper.start()
    keeper.hold(audit)
    try:
        yield keeper
    finally:
        keeper.let_go(audit)
        keeper.close()


def _wait(db: Database, audit_id: int, progress: Callable[[int, int], None]) -> None:
    """Until the worker that has the audit is done with it."""
    while (audit := audits.get(db, audit_id)).active:
        progress(audit.done, audit.total)
        time.sleep(0.5)
    if audit.state == "failed":
        raise StrataError(audit.error or "The audit failed.")


def publish(result: Result, url: str | None) -> str:
    """As `Result.publish` says."""
    found = result.found
    if found.missing:
        raise StrataError(f"{found.missing:,} of {found.total:,} pairs are unknown yet; finish the audit first.")
    network = result.network or _bundled(found)
    db = connect(url)
    try:
        record = _enter(db, network)
        if result.images is not None:
            image_sets.put(db, own.ImageSet.from_bytes(result.images))
        ids = _put_images(db, found)
        entered = [
            shipped.enter(db, record, _published(found, part), *found.spec.sample.sides(ids))
            for part in found.spec.fitting(record.features)
        ]
        said = "is in" if any(entered) else "was known already in"
        return f"The audit of {record.name} on {found.spec.sample.dataset} {said} {db.name}."
    finally:
        db.close()


def _published(found: AuditResult, part: AuditSpec) -> shipped.ShippedAudit:
    """What was found of a part of the question."""
    series = [one for layer in part.search.layers for m in part.search.m for one in found.layers[layer, m]]
    return shipped.ShippedAudit(
        spec=part,
        series=tuple(one.series for one in series),
        found=tuple(one.found for one in series),
        device=found.device,
        versions=found.versions,
        finished=datetime.now(UTC),
        findings=tuple(one.finding for one in series),
        sets=tuple(one.sets for one in series),
        host=shipped.PUBLISHED,
        note="Published from a notebook; the command in its report computes it anew.",
        tags=("published",),
    )


def _bundled(found: AuditResult) -> Loaded:
    """The network of an audit that does not hold it."""
    known = next((name for name in zoo.names() if name == found.spec.network), None)
    network = None if known is None else load(known)
    if network is None or network.sha256 != found.network_sha256:
        raise NetworkError(
            f"The network {found.spec.network} is not in the file of the audit and not bundled; save the result under "
            "a name that does not end in .json, and publish that."
        )
    return network


def _enter(db: Database, network: Loaded) -> NetworkRecord:
    if network.content is None:
        raise NetworkError(_NO_FILE)
    shape = network.input_shape
    file = NetworkFile(
        network.sha256, network.format, network.architecture, shape, network.mean, network.std, network.content
    )
    layers = [LayerRecord(**asdict(cut)) for cut in cuts(network, shape)]
    bundled = zoo.name_of(network.sha256)
    card: dict[str, Any] = {} if bundled is None else read_card(zoo.find(bundled))
    source: Source = "upload" if bundled is None else "zoo"
    return networks.register(db, file, name=bundled or network.name, source=source, layers=layers, card=card)


def _enter_images(db: Database, spec: AuditSpec) -> None:
    """The images of the question, if they are of one's own."""
    image_sets.enter(db)
    entry = datasets.get(spec.sample.dataset)
    if own.SPLIT in entry.sizes:
        data = entry.open(own.SPLIT)
        image_sets.put(db, own.ImageSet(entry.title, data.pixels, data.labels, entry.class_names))


def _put_images(db: Database, found: AuditResult) -> list[Any]:
    """The images of an audit, put into the store, a list of ids for each class."""
    sample = found.spec.sample
    data = datasets.fetch(sample.dataset, sample.split)
    drawn = sample.indices(data.labels)
    if any(one.tolist() != other.tolist() for one, other in zip(drawn, found.indices, strict=True)):
        raise StrataError(f"The images of {sample.dataset} on this machine are others than those of the audit.")
    return [
        np.array(images.put(db, sample.dataset, sample.split, of.tolist(), [label] * len(of), data.pixels[of]))
        for label, of in zip(sample.classes, drawn, strict=True)
    ]


def _known(db: Database, spec: AuditSpec, network: NetworkRecord, maker: Description) -> AuditResult:
    """What the database knows of the audit."""
    sample, asked = draw_sample(spec), spec.sample
    ids = [
        [images.ids(db, asked.dataset, asked.split, of.tolist()).get(int(index), -1) for index in of]
        for of in sample.indices
    ]
    left, right = asked.sides([np.array(one) for one in ids])
    too_large = spec.search.too_large(network.features)
    series = spec.search.series(network.sha256, network.features)
    series = [one for one in series if (one.layer, one.m) not in too_large]
    rows = distances.find_all(db, series)
    row_ids = [one.id for one in rows.values()]
    matrices = distances.matrices(db, row_ids, left, right)
    rests, known_sets = findings.find(db, row_ids, asked), sets.find(db, row_ids, left)
    found = []
    for one in series:
        matrix = matrices[rows[one.key].id] if one.key in rows else Found.nothing(len(left), len(right))
        matrix.distance[~asked.asked] = np.nan
        found.append(matrix)
    nested = nesting.nested(series, found, network.features)
    budgets = spec.epsilon.values()
    return AuditResult(
        spec=spec,
        network_sha256=network.sha256,
        indices=tuple(sample.indices),
        series=tuple(
            SeriesResult(
                one,
                network.features[one.layer],
                matrix,
                asked.pairs,
                curve_of(asked.graph(matrix.distance), {of: found.distance for of, found in joint.items()}, budgets),
                rests.get(rows[one.key].id) if one.key in rows else None,
                spec.needed,
                joint,
            )
            for one, matrix in zip(series, nested, strict=True)
            for joint in (known_sets[rows[one.key].id] if one.key in rows else {},)
        ),
        input_loss=loss_curve(input_graph(spec, sample), budgets),
        device="; ".join(sorted({device for one in found for device in one.devices})) or maker.device,
        versions=dict(maker.versions),
        too_large=too_large,
    )
