"""Audits: what is asked, how far it is, who works on it, and what went wrong; cancel, retry, annotate, remove."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from pages.parts import progress, screen, words
from robustness_core.spec import AuditSpec
from store import StoreError, audits, workers
from store.database import Database
from store.records import AuditRecord, AuditState
from store.supervisor import log_tail

SHOWN = 200
STATES: dict[str, tuple[AuditState, ...]] = {
    "all": (),
    "active": ("running", "queued"),
    "done": ("done",),
    "failed": ("failed",),
    "cancelled": ("cancelled",),
}


def main() -> None:
    screen.begin("Audits")
    db = screen.database()
    state = st.segmented_control(
        "State", list(STATES), default="all", key="state", bind="query-params", required=True, width="stretch"
    )
    pairs = st.toggle("Show single pairs too", key="pairs", bind="query-params")
    busy = any(audit.active for audit in _listed(db, "active", pairs=True))

    @st.fragment(run_every=1.0 if busy else None)
    def live() -> None:
        listed = _listed(db, state, pairs)
        if busy and not any(audit.active for audit in _listed(db, "active", pairs=True)):
            st.rerun()
        _workers(db)
        if not listed:
            _empty(db, state)
            return
        _table(listed)
        _details(db, listed)

    live()


def _listed(db: Database, state: str, pairs: bool) -> list[AuditRecord]:
    kind = None if pairs else "audit"
    wanted = STATES[state] or (None,)
    return [audit for one in wanted for audit in audits.recent(db, SHOWN, one, kind=kind)]  # type: ignore[arg-type]


def _empty(db: Database, state: str) -> None:
    if state != "all" and audits.recent(db, 1):
        st.info(f"No audit is {state} at the moment.")
        return
    st.info("Nothing was asked yet.")
    st.page_link("pages/explore.py", label="Ask the first question in Explore")


def _workers(db: Database) -> None:
    alive = workers.alive(db)
    if not alive:
        st.warning("No worker is alive, so nothing is computed. Start one with: python -m worker")
        return
    named = ", ".join(f"{worker.host} ({worker.device})" for worker in alive)
    st.caption(f"{len(alive)} {'worker' if len(alive) == 1 else 'workers'}: {screen.escape(named)}")


def _table(listed: list[AuditRecord]) -> None:
    rows = pd.DataFrame(
        {
            "id": [audit.id for audit in listed],
            "state": [audit.state for audit in listed],
            "progress": [100 * audit.done / audit.total if audit.total else 0.0 for audit in listed],
            "network": [words.network_of(audit) for audit in listed],
            "question": [words.describe(audit) for audit in listed],
            "asked": [words.ago(audit.created) for audit in listed],
            "time": [words.duration(audit) for audit in listed],
            "worker": ["" if a.worker is None else f"{a.worker.host}, {a.worker.device}" for a in listed],
            "note": [" ".join((*(f"#{tag}" for tag in audit.tags), audit.note)).strip() for audit in listed],
        }
    )
    st.dataframe(
        rows,
        hide_index=True,
        width="stretch",
        height=min(38 + 35 * len(rows), 420),
        key="audits",
        alt="Audits, the newest first",
        on_select=lambda: _select(rows["id"].tolist()),
        selection_mode="single-row",
        column_config={
            "id": st.column_config.NumberColumn(width=60),
            "progress": st.column_config.ProgressColumn(format="%.0f %%", min_value=0, max_value=100),
            "question": st.column_config.TextColumn(width="large"),
        },
    )


def _select(ids: list[int]) -> None:
    rows = st.session_state["audits"].selection.rows
    if rows:
        st.query_params["audit"] = str(ids[rows[0]])


def _details(db: Database, listed: list[AuditRecord]) -> None:
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
        st.markdown(f"**{screen.escape(words.network_of(audit))}**: {screen.escape(words.describe(audit))}")
    if audit.active:
        progress.strip(db, audit)
    elif audit.error:
        st.error(screen.escape(audit.error))
    else:
        st.caption(f"{audit.done:,} of {audit.total:,} pairs in {words.duration(audit) or 'no time'}.")
    with st.container(horizontal=True, vertical_alignment="center"):
        if isinstance(audit.spec, AuditSpec):
            words.link_to_explore("Open in Explore", words.address(audit.spec))
        if audit.state in ("failed", "cancelled"):
            st.button("Retry", key=f"retry_{audit.id}", on_click=progress.retry, args=(db, audit.id))
        if not audit.active:
            with st.popover("Remove"):
                st.markdown("Forget this audit? Its distances stay known.")
                st.button("Remove it", key=f"remove_{audit.id}", on_click=_remove, args=(db, audit.id))
    _notes(db, audit)
    if audit.worker is not None:
        with st.expander("Worker and its log"):
            versions = ", ".join(f"{name} {text}" for name, text in audit.worker.versions.items())
            st.caption(
                screen.escape(f"{audit.worker.host}, process {audit.worker.pid}, {audit.worker.device}, {versions}")
            )
            log = log_tail(audit.worker.log_path, 100) if audit.worker.log_path else ""
            st.code(log or "No log of this worker is on this machine.", language=None, height=260)


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
        audits.remove(db, audit_id)
    except StoreError as error:
        st.toast(screen.escape(str(error)))


main()
