"""Audits: what is asked, how far it is, who works on it, and what went wrong; cancel, retry, annotate, remove."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import streamlit as st

from pages.parts import progress, question, screen, undo, words
from robustness_core.spec import AuditSpec
from store import StoreError, audits, networks, shipped, supervisor, workers
from store.database import Database
from store.records import AuditRecord, AuditState, NetworkRecord, WorkerRecord

SHOWN = 200
STOP_HELP = "After its present block; its audit waits in the queue until a worker goes on with it."
STATES: dict[str, tuple[AuditState, ...]] = {
    "all": (),
    "active": ("running", "queued"),
    "done": ("done",),
    "failed": ("failed",),
    "cancelled": ("cancelled",),
}
NONE_OF = {
    "active": "No audit is queued or running.",
    "done": "No audit is done yet.",
    "failed": "No audit has failed.",
    "cancelled": "No audit was cancelled.",
}
# Of columns, in pixels. What a reader looks for comes first: a narrow window shows the first columns only.
WIDTHS = {
    "id": 50, "state": 80, "network": 170, "question": 370, "note": 150, "tags": 80, "asked by": 80, "asked": 95,
    "time": 65, "worker": 80,
}  # fmt: skip


def main() -> None:
    screen.begin("Audits")
    db = screen.database()
    question.forget("state", STATES)
    state = st.segmented_control(
        "State", list(STATES), default="all", key="state", bind="query-params", required=True, width="stretch"
    )
    pairs = st.toggle("Show single pairs too", key="pairs", bind="query-params")
    moving = _moving(db)

    @st.fragment(run_every=1.0 if moving else None)
    def live() -> None:
        listed = _listed(db, state, pairs)
        if moving and not _moving(db):
            st.rerun()
        _workers(db)
        undo.show(db, "Audits")
        if not listed:
            _empty(db, state)
            return
        available = networks.all(db)
        _table(listed, available)
        _details(db, listed, available)

    live()


def _moving(db: Database) -> bool:
    """Whether anything on this screen changes by itself: an active audit, a worker that starts or stops."""
    alive = workers.alive(db)
    starting = not alive and supervisor.lives(db)
    stopping = any(worker.state == "stopping" for worker in alive)
    return starting or stopping or any(audit.active for audit in _listed(db, "active", pairs=True))


def _listed(db: Database, state: str, pairs: bool) -> list[AuditRecord]:
    kind = None if pairs else "audit"
    wanted = STATES[state] or (None,)
    return [audit for one in wanted for audit in audits.recent(db, SHOWN, one, kind=kind)]  # type: ignore[arg-type]


def _empty(db: Database, state: str) -> None:
    if state != "all" and audits.recent(db, 1):
        st.info(NONE_OF[state])
        return
    st.info("Nothing was asked yet.")
    st.page_link("pages/explore.py", label="Ask the first question in Explore")


def _workers(db: Database) -> None:
    """Who computes, with buttons to stop and start the workers of this machine, and their logs."""
    alive = workers.alive(db)
    with st.container(horizontal=True, vertical_alignment="center"):
        if alive:
            named = ", ".join(f"{worker.host} ({worker.device}{_leaving(worker)})" for worker in alive)
            st.caption(f"{len(alive)} {'worker' if len(alive) == 1 else 'workers'}: {screen.escape(named)}")
        elif supervisor.lives(db):
            st.info("The worker is starting or stopping; this takes a few seconds.")
        elif supervisor.elsewhere():
            st.warning("No worker is alive, so nothing is computed. Start one where it shall run: python -m worker")
        elif supervisor.stopped(db):
            st.warning("The worker was stopped, so nothing is computed. Press Start worker to go on.")
        else:
            st.warning("No worker is alive, so nothing is computed. One is being started.")
        if not supervisor.elsewhere():
            here = [worker for worker in alive if worker.host == supervisor.HOST and worker.state == "running"]
            if here:
                st.button("Stop worker", on_click=_order, args=(supervisor.stop, db), help=STOP_HELP)
            else:
                st.button("Start worker", on_click=_order, args=(supervisor.start, db), disabled=supervisor.lives(db))
    told = progress.what_happened(db)
    if told:
        st.caption(screen.escape(told))
    _logs(db, alive)


def _leaving(worker: WorkerRecord) -> str:
    return ", stops after its present block" if worker.state == "stopping" else ""


def _order(door: Callable[[Database], object], db: Database) -> None:
    try:
        door(db)
    except (OSError, StoreError) as error:
        st.toast(screen.escape(f"This was not possible: {error}"))


def _logs(db: Database, alive: list[WorkerRecord]) -> None:
    """The end of the log of each worker of this machine, and of the dashboard's worker also when it is gone."""
    paths = {f"process {worker.pid}": worker.log_path for worker in alive if worker.host == supervisor.HOST}
    last = str(supervisor.log_path(db))
    if last not in paths.values():
        paths["the last worker of the dashboard"] = last
    logs = {name: log for name, path in paths.items() if (log := supervisor.log_tail(path))}
    if logs:
        with st.expander("Log of the workers of this machine"):
            name = next(iter(logs)) if len(logs) == 1 else st.selectbox("Worker", list(logs), key="log_of")
            st.code(logs.get(name, ""), language=None, height=320)


def _table(listed: list[AuditRecord], available: list[NetworkRecord]) -> None:
    main = words.main_layers(available)
    rows = pd.DataFrame(
        {
            "id": [audit.id for audit in listed],
            "state": [audit.state for audit in listed],
            "network": [words.network_of(audit, available) for audit in listed],
            "question": [words.describe(audit, main) for audit in listed],
            "note": [audit.note for audit in listed],
            "tags": [" ".join(f"#{tag}" for tag in audit.tags) for audit in listed],
            "progress": [100 * audit.done / audit.total if audit.total else 0.0 for audit in listed],
            "asked by": ["" if audit.requested_by == "browser" else audit.requested_by for audit in listed],
            "asked": [words.ago(audit.created) for audit in listed],
            "time": [words.duration(audit) for audit in listed],
            "worker": ["" if a.worker is None else f"{a.worker.host}, {a.worker.device}" for a in listed],
        }
    )
    rows = rows.drop(columns=[name for name in ("note", "tags", "asked by") if not any(rows[name])])
    ids = rows["id"].tolist()
    _tick(ids)
    st.dataframe(
        rows,
        hide_index=True,
        width="stretch",
        height=min(38 + 35 * len(rows), 420),
        key="audits",
        alt="Audits, the newest first",
        on_select=lambda: _select(ids),
        selection_mode="single-row",
        column_config={
            **{name: st.column_config.Column(width=width) for name, width in WIDTHS.items()},
            "progress": st.column_config.ProgressColumn(format="%.0f %%", min_value=0, max_value=100, width=110),
        },
    )


def _tick(ids: list[int]) -> None:
    """Tick the row of the audit that the address names, wherever it stands in the list by now.

    In every run: the browser never hears of what a run has set that gave way to another one.
    """
    wanted = st.query_params.get("audit", "")
    rows = [row for row, one in enumerate(ids) if str(one) == wanted]
    st.session_state["audits"] = {"selection": {"rows": rows}}


def _select(ids: list[int]) -> None:
    rows = st.session_state["audits"]["selection"]["rows"]
    if rows:
        st.query_params["audit"] = str(ids[rows[0]])
    else:
        st.query_params.pop("audit", None)


def _details(db: Database, listed: list[AuditRecord], available: list[NetworkRecord]) -> None:
    wanted = st.query_params.get("audit", "")
    audit = next((one for one in listed if str(one.id) == wanted), None)
    if audit is None:
        if wanted:
            st.info("The audit that the address names is not in this list.")
        else:
            st.caption("Tick a row to see an audit closely.")
        return
    st.subheader(f"Audit {audit.id}", anchor=False)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.badge(audit.state, color=screen.STATE_COLOURS[audit.state])
        network = words.network_of(audit, available)
        st.markdown(f"**{screen.escape(network)}**: {screen.escape(words.describe(audit))}")
    if audit.active:
        progress.strip(db, audit)
    elif audit.error:
        st.error(screen.escape(audit.error))
    else:
        st.caption(f"{audit.done:,} of {audit.total:,} pairs{_how_made(audit)}.")
    with st.container(horizontal=True, vertical_alignment="center"):
        if isinstance(audit.spec, AuditSpec):
            words.link_to_audit(audit.spec)
        if audit.state in ("failed", "cancelled"):
            st.button("Retry", key=f"retry_{audit.id}", on_click=progress.retry, args=(db, audit.id))
        if not audit.active:
            with st.popover("Remove"):
                st.markdown("Forget this audit? Its distances stay known.")
                st.button("Remove it", key=f"remove_{audit.id}", on_click=_remove, args=(db, audit.id))
        screen.link_button()
    _notes(db, audit)
    if audit.worker is not None:
        with st.expander("Worker and its log"):
            versions = ", ".join(f"{name} {text}" for name, text in audit.worker.versions.items())
            st.caption(
                screen.escape(f"{audit.worker.host}, process {audit.worker.pid}, {audit.worker.device}, {versions}")
            )
            log = supervisor.log_tail(audit.worker.log_path, 100) if audit.worker.log_path else ""
            st.code(log or "No log of this worker is on this machine.", language=None, height=260)


def _how_made(audit: AuditRecord) -> str:
    """How the pairs of an audit came about; one that was cancelled in the queue took no time."""
    if audit.worker is not None and audit.worker.host in (shipped.HOST, shipped.PUBLISHED):
        return f", {audit.worker.host}"
    duration = words.duration(audit)
    return f" in {duration}" if duration else ""


def _notes(db: Database, audit: AuditRecord) -> None:
    with st.container(horizontal=True):
        st.text_input(
            "Note", audit.note, key=f"note_{audit.id}", max_chars=2000, on_change=_annotate, args=(db, audit.id)
        )
        st.text_input(
            "Tags", " ".join(audit.tags), key=f"tags_{audit.id}", max_chars=200, on_change=_annotate,
            args=(db, audit.id), help="Words with spaces between them",
        )  # fmt: skip


def _annotate(db: Database, audit_id: int) -> None:
    note, tags = (st.session_state.get(f"{name}_{audit_id}", "") for name in ("note", "tags"))
    try:
        audits.annotate(db, audit_id, note=note, tags=list(dict.fromkeys(tags.split())))
    except StoreError as error:
        st.toast(screen.escape(str(error)))


def _remove(db: Database, audit_id: int) -> None:
    try:
        audits.set_aside(db, audit_id)
    except StoreError as error:
        st.toast(screen.escape(str(error)))
    else:
        undo.offer("Audits", f"Audit {audit_id} was removed; its distances stay known.", audits.restore, audit_id)


main()
