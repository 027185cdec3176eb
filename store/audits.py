"""The queue: what is asked, who works on it, and how far it is.

A worker claims an audit with one guarded UPDATE, renews its lease while it works, and passes `attempt` with every
write. An expired lease puts the audit back; the late worker's writes are then refused (Fenced).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Update, and_, case, delete, func, or_, select, update
from sqlalchemy.exc import IntegrityError

from robustness_core import datasets
from robustness_core.errors import SpecError
from robustness_core.spec import AuditSpec
from store import image_sets, networks, tables, workers
from store.database import Database
from store.errors import Fenced, StoreError
from store.records import AuditKind, AuditRecord, AuditState, ImageKey, NetworkRecord, PairSpec

# Move -> the states it starts from and the state it ends in. Nothing else happens to an audit.
MOVES: dict[str, tuple[tuple[AuditState, ...], AuditState]] = {
    "claim": (("queued",), "running"),
    "release": (("running",), "queued"),  # its worker stopped or fell silent
    "finish": (("running",), "done"),
    "fail": (("running",), "failed"),
    "cancel": (("queued", "running"), "cancelled"),
    "retry": (("failed", "cancelled"), "queued"),
}
PAIR_PRIORITY = 10
LONGEST_LEASE = timedelta(minutes=2)  # a lease that reaches further was given by a clock that has jumped back
MOST_LAPSES = 5  # so many workers in a row died on this audit before any recorded a block: it is poisonous
ANSWERED = 300  # of the finished audits, among which screens look for what is known
MARKED = 50  # of the audits asked last, that tell whether something has changed
_POISONOUS = (
    f"The worker stopped {MOST_LAPSES} times in a row while it worked on this audit, so it was given up; "
    "see the worker's log."
)


def submit(db: Database, spec: AuditSpec | PairSpec, *, priority: int = 0, requested_by: str = "") -> AuditRecord:
    """Queue a question. An equal one that is queued or running is returned instead (with the higher priority).

    Raises SpecError or DatasetError, and queues nothing, for an unknown network, layer, data set or class, m above the
    layer's features, a sample larger than the class, or an image that does not exist. Questions about a pair get
    priority 10.
    """
    image_sets.enter(db)
    network = _check_audit(db, spec) if isinstance(spec, AuditSpec) else _check_pair(db, spec)
    kind: AuditKind = "audit" if isinstance(spec, AuditSpec) else "pair"
    # A network may be renamed, so the key is that of the question with the network's hash in place of its name.
    key = spec.replace(network=network.sha256).key if isinstance(spec, AuditSpec) else spec.key
    priority = max(priority, PAIR_PRIORITY) if kind == "pair" else priority
    audit = tables.audits.c
    while True:
        with db.write() as connection:
            twin = connection.execute(
                update(tables.audits)
                .where(audit.kind == kind, audit.key == key, audit.state.in_(tables.ACTIVE))
                .values(priority=case((audit.priority < priority, priority), else_=audit.priority))
                .returning(audit.id)
            ).scalar_one_or_none()
            if twin is not None:
                return _get(connection, twin)
            values = {
                "kind": kind,
                "key": key,
                "spec": spec.to_json(),
                "network_id": network.id,
                "state": "queued",
                "priority": priority,
                "done": 0,
                "total": _pairs(spec, network.features),
                "attempt": 0,
                "lapses": 0,
                "created": db.now(connection),
                "note": "",
                "tags": [],
                "requested_by": requested_by,
            }
            try:
                with connection.begin_nested():
                    made = connection.execute(tables.audits.insert().values(values).returning(audit.id)).scalar_one()
                return _get(connection, made)
            except IntegrityError as error:
                if "foreign key" in str(error.orig).lower():
                    raise StoreError("This network was removed.") from error
        # On PostgreSQL the twin was queued at this very moment; the next round finds it.


def claim(
    db: Database,
    worker_id: int,
    *,
    lease_seconds: float = 30,
    kinds: Sequence[AuditKind] = ("audit", "pair"),
    above_priority: int | None = None,
    only: int | None = None,
) -> AuditRecord | None:
    """Take the most urgent queued audit, the oldest first, or None. First puts back what has an expired lease.

    `above_priority`: only audits more urgent than this, to serve them in between; `only`: this audit alone. One
    guarded UPDATE: however many workers claim at once, each audit goes to one of them.
    """
    audit = tables.audits.c
    conditions = [audit.state == "queued", audit.kind.in_(list(kinds))]
    if above_priority is not None:
        conditions.append(audit.priority > above_priority)
    if only is not None:
        conditions.append(audit.id == only)
    next_one = select(audit.id).where(*conditions).order_by(audit.priority.desc(), audit.id).limit(1)
    with db.read() as connection:
        now = db.now(connection)
        if (
            connection.execute(next_one).first() is None
            and connection.execute(select(audit.id).where(_expired(now)).limit(1)).first() is None
        ):
            return None  # the usual case of an idle worker takes no write lock
    with db.write() as connection:
        now = db.now(connection)
        _requeue_expired(connection, now)
        claimed = connection.execute(
            _move(
                "claim",
                audit.id == next_one.with_for_update(skip_locked=True).scalar_subquery(),
                attempt=audit.attempt + 1,
                worker_id=worker_id,
                lease_until=now + timedelta(seconds=lease_seconds),
                started=case((audit.started.is_(None), now), else_=audit.started),
            ).returning(audit.id)
        ).scalar_one_or_none()
        return None if claimed is None else _get(connection, claimed)


def requeue_expired(db: Database) -> int:
    """Put back every audit whose worker fell silent; return how many. An audit that kills its workers fails."""
    with db.write() as connection:
        return _requeue_expired(connection, db.now(connection))


def requeue_of(db: Database, worker_ids: Sequence[int]) -> int:
    """Put back what these workers hold, without waiting for their leases: they are known to be dead."""
    with db.write() as connection:
        theirs = tables.audits.c.worker_id.in_(list(worker_ids))
        return _put_back(connection, and_(tables.audits.c.state == "running", theirs), db.now(connection))


def renew(db: Database, audit: AuditRecord, *, lease_seconds: float = 30) -> bool:
    """Extend the lease. False: the audit was cancelled, removed or given to another worker."""
    with db.write() as connection:
        until = db.now(connection) + timedelta(seconds=lease_seconds)
        renewed = connection.execute(update(tables.audits).where(*_held(audit)).values(lease_until=until))
        return renewed.rowcount == 1


def progress(
    db: Database,
    audit: AuditRecord,
    done: int,
    total: int,
    final_epsilon: float | None = None,
    seconds_left: tuple[float, float] | None = None,
) -> None:
    """Say how many pairs are known of how many, up to which budget the curve is final, and the least and the most
    seconds that the rest will take. Raises Fenced."""
    least, most = seconds_left or (None, None)
    with db.write() as connection:
        values = {"done": done, "total": total, "final_epsilon": final_epsilon, "least_left": least, "most_left": most}
        _fenced(connection, update(tables.audits).where(*_held(audit)).values(**values))


def finish(db: Database, audit: AuditRecord) -> None:
    """All pairs are known. Raises Fenced."""
    with db.write() as connection:
        values = {"done": tables.audits.c.total, "finished": db.now(connection), "lease_until": None}
        _fenced(connection, _move("finish", *_held(audit), **values))


def fail(db: Database, audit: AuditRecord, sentence: str) -> None:
    """Give the audit up, with one sentence for the user; what is recorded stays. Raises Fenced."""
    with db.write() as connection:
        values = {"error": sentence, "finished": db.now(connection), "lease_until": None}
        _fenced(connection, _move("fail", *_held(audit), **values))


def release(db: Database, audit: AuditRecord) -> None:
    """Put a running audit back into the queue, because its worker stops; what is recorded stays. Raises Fenced."""
    with db.write() as connection:
        _fenced(connection, _move("release", *_held(audit), worker_id=None, lease_until=None))


def cancel(db: Database, audit_id: int) -> AuditRecord:
    """Stop working on an audit; what is recorded stays. Raises StoreError if it is over already."""
    with db.write() as connection:
        values = {"finished": db.now(connection), "lease_until": None}
        moved = connection.execute(_move("cancel", tables.audits.c.id == audit_id, **values))
        record = _get(connection, audit_id)
    if moved.rowcount == 0:
        raise StoreError(f"This audit is {record.state} already, so it cannot be cancelled.")
    return record


def retry(db: Database, audit_id: int) -> AuditRecord:
    """Queue a failed or cancelled audit again. Raises StoreError if it is in another state or asked again already."""
    values = {"error": None, "finished": None, "lapses": 0, "worker_id": None}
    with db.write() as connection:
        try:
            with connection.begin_nested():
                moved = connection.execute(_move("retry", tables.audits.c.id == audit_id, **values))
        except IntegrityError:
            raise StoreError("The same audit is queued or running already.") from None
        record = _get(connection, audit_id)
    if moved.rowcount == 0:
        raise StoreError(f"This audit is {record.state}; only a failed or cancelled one can be tried again.")
    return record


def get(db: Database, audit_id: int) -> AuditRecord:
    """One audit. Raises StoreError if it was removed."""
    with db.read() as connection:
        return _get(connection, audit_id)


def recent(
    db: Database, limit: int = 50, state: AuditState | None = None, *, kind: AuditKind | None = None
) -> list[AuditRecord]:
    """The audits asked last, the newest first; `state` and `kind` narrow them down."""
    audit = tables.audits.c
    conditions = ([audit.state == state] if state else []) + ([audit.kind == kind] if kind else [])
    with db.read() as connection:
        rows = connection.execute(_query().where(*conditions).order_by(audit.id.desc()).limit(limit)).all()
    return [_record(row) for row in rows]


def answered(db: Database) -> list[AuditSpec]:
    """What the audits asked that were finished, of the last ANSWERED of them, the newest first; no pairs."""
    done = recent(db, ANSWERED, "done", kind="audit")
    return [audit.spec for audit in done if isinstance(audit.spec, AuditSpec)]


def mark(db: Database) -> tuple[tuple[Any, ...], ...]:
    """Something to compare: it differs once an audit was asked, has begun, ended or gone, or a network came or went.

    Not by the progress of an audit, and not by pairs. Two small queries.
    """
    audit, network = tables.audits.c, tables.networks.c
    last = select(audit.id).where(audit.kind == "audit").order_by(audit.id.desc()).limit(MARKED)
    with db.read() as connection:
        states = connection.execute(
            select(audit.id, audit.state, audit.attempt)
            .where(audit.kind == "audit", audit.aside.is_(None))
            .where(or_(audit.state.in_(tables.ACTIVE), audit.id.in_(last)))
            .order_by(audit.id)
        ).all()
        available = connection.execute(
            select(func.count(), func.max(network.id)).where(network.id.not_in(_aside()))
        ).one()
    return tuple(map(tuple, (*states, available)))


def annotate(db: Database, audit_id: int, *, note: str | None = None, tags: Sequence[str] | None = None) -> None:
    """Change the note or the tags of an audit; None leaves as it is."""
    changes: dict[str, Any] = {} if note is None else {"note": note}
    if tags is not None:
        changes["tags"] = list(tags)
    if changes:
        with db.write() as connection:
            done = connection.execute(update(tables.audits).where(tables.audits.c.id == audit_id).values(**changes))
            if done.rowcount == 0:
                raise StoreError("This audit was removed.")


def set_aside(db: Database, audit_id: int) -> None:
    """Show an audit that is over no more; `restore` brings it back. Raises StoreError while it is queued or running."""
    audit = tables.audits.c
    with db.write() as connection:
        over = connection.execute(
            update(tables.audits)
            .where(audit.id == audit_id, audit.state.not_in(tables.ACTIVE))
            .values(aside=db.now(connection))
        )
    if over.rowcount == 0:
        raise StoreError("Cancel the audit before you remove it.")


def restore(db: Database, audit_id: int) -> None:
    """Show an audit again that was set aside. Raises StoreError once it is gone for good."""
    with db.write() as connection:
        found = connection.execute(update(tables.audits).where(tables.audits.c.id == audit_id).values(aside=None))
    if found.rowcount == 0:
        raise StoreError("This audit is gone for good.")


def remove(db: Database, audit_id: int) -> None:
    """Forget an audit that is over; the distances stay. Raises StoreError while it is queued or running."""
    audit = tables.audits.c
    with db.write() as connection:
        connection.execute(delete(tables.audits).where(audit.id == audit_id, audit.state.not_in(tables.ACTIVE)))
        if connection.execute(select(audit.id).where(audit.id == audit_id)).first() is not None:
            raise StoreError("Cancel the audit before you remove it.")


def _check_audit(db: Database, spec: AuditSpec) -> NetworkRecord:
    network = networks.by_name(db, spec.network)
    if network is None:
        available = [known.name for known in networks.all(db)]
        names = f"there are: {', '.join(available)}" if available else "there is none yet"
        raise SpecError(f"There is no network called {spec.network!r}; {names}.")
    spec.search.check(network.features)
    spec.sample.check(_class_sizes(spec.sample.dataset, spec.sample.split))
    _check_shape(network, spec.sample.dataset)
    return network


def _check_pair(db: Database, spec: PairSpec) -> NetworkRecord:
    network = networks.by_sha256(db, spec.series[0].network)
    if network is None:
        raise SpecError("The network of this pair is not here any more.")
    for series in spec.series:
        if series.layer not in network.features:
            raise SpecError(f"The network has no layer {series.layer!r}; it has {', '.join(network.features)}.")
        if series.m is not None and not 1 <= series.m <= network.features[series.layer]:
            raise SpecError(
                f"m = {series.m} does not fit the {network.features[series.layer]} features of layer {series.layer}."
            )
    for image in (spec.left, spec.right):
        _check_image(image)
        _check_shape(network, image[0])
    return network


def _check_image(image: ImageKey) -> None:
    dataset, split, index = image
    available = sum(_class_sizes(dataset, split).values())
    if not 0 <= index < available:
        raise SpecError(f"There is no image {index} in {dataset} ({split}), which has {available} images.")


def _check_shape(network: NetworkRecord, dataset: str) -> None:
    shape = datasets.get(dataset).input_shape
    if network.input_shape != shape:
        sizes = ["×".join(str(size) for size in sizes) for sizes in (network.input_shape, shape)]
        raise SpecError(f"The network {network.name} takes {sizes[0]} images; those of {dataset} are {sizes[1]}.")


def _class_sizes(dataset: str, split: str) -> dict[int, int]:
    return datasets.counts(dataset, split)


def _pairs(spec: AuditSpec | PairSpec, features: Mapping[str, int]) -> int:
    if isinstance(spec, PairSpec):
        return len(spec.series)
    return spec.sample.pairs * len(spec.search.series("any", features))


def _expired(now: datetime) -> Any:
    audit = tables.audits.c
    late = or_(audit.lease_until < now, audit.lease_until > now + LONGEST_LEASE, audit.lease_until.is_(None))
    return and_(audit.state == "running", late)


def _requeue_expired(connection: Connection, now: datetime) -> int:
    return _put_back(connection, _expired(now), now)


def _put_back(connection: Connection, abandoned: Any, now: datetime) -> int:
    """Queue audits again whose workers are gone; one that has seen MOST_LAPSES of them go is given up."""
    lapses = tables.audits.c.lapses
    poisonous = and_(abandoned, lapses + 1 >= MOST_LAPSES)
    given_up = connection.execute(_move("fail", poisonous, error=_POISONOUS, finished=now, lease_until=None))
    put_back = connection.execute(_move("release", abandoned, lapses=lapses + 1, worker_id=None, lease_until=None))
    return given_up.rowcount + put_back.rowcount


def _move(name: str, *conditions: Any, **values: Any) -> Update:
    """The guarded UPDATE of one move."""
    sources, target = MOVES[name]
    return update(tables.audits).where(tables.audits.c.state.in_(sources), *conditions).values(state=target, **values)


def _held(held: AuditRecord) -> list[Any]:
    """The fence: this attempt still has the audit."""
    audit = tables.audits.c
    return [audit.id == held.id, audit.attempt == held.attempt, audit.state == "running"]


def _fenced(connection: Connection, statement: Update) -> None:
    if connection.execute(statement).rowcount == 0:
        raise Fenced("The audit was cancelled or given to another worker.")


def _aside() -> Any:
    return select(tables.networks_aside.c.network_id)


def _query() -> Any:
    worker = [column.label(f"worker_{column.name}") for column in tables.workers.c]
    audit = [column for column in tables.audits.c if column.name != "worker_id"]
    return (
        select(*audit, tables.networks.c.name.label("network_name"), *worker)
        .join(tables.networks, tables.networks.c.id == tables.audits.c.network_id)
        .outerjoin(tables.workers, tables.workers.c.id == tables.audits.c.worker_id)
        .where(tables.audits.c.aside.is_(None), tables.networks.c.id.not_in(_aside()))
    )


def _get(connection: Connection, audit_id: int) -> AuditRecord:
    row = connection.execute(_query().where(tables.audits.c.id == audit_id)).one_or_none()
    if row is None:
        raise StoreError("This audit was removed.")
    return _record(row)


def _record(row: Any) -> AuditRecord:
    spec: AuditSpec | PairSpec
    if row.kind == "audit":
        spec = AuditSpec.from_json({**row.spec, "network": row.network_name})
    else:
        spec = PairSpec.from_json(row.spec)
    names = [
        "id", "kind", "state", "priority", "done", "total", "attempt", "error", "final_epsilon",
        "created", "started", "finished", "note", "requested_by",
    ]  # fmt: skip
    return AuditRecord(
        **{name: getattr(row, name) for name in names},
        spec=spec,
        seconds_left=None if row.least_left is None else (row.least_left, row.most_left),
        tags=tuple(row.tags),
        worker=None if row.worker_id is None else workers.record(row, "worker_"),
    )
