"""The state of an audit in a line: how far it is, how long it will take, who works on it, and how to stop it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import streamlit as st

from pages.parts import screen, words
from robustness_core.errors import StrataError
from robustness_core.spec import AuditSpec
from store import StoreError, audits, supervisor, workers
from store.database import Database
from store.records import AuditRecord

POLL_SECONDS = 0.7
TOLD_SECONDS = 600  # for so long it is told that a worker has ended without a word


def active(db: Database, networks: Collection[str]) -> list[AuditRecord]:
    """The audits of these networks that run, then those that wait, the oldest first."""
    return [
        audit
        for audit in (
            *audits.recent(db, 20, "running", kind="audit"),
            *audits.recent(db, 100, "queued", kind="audit")[::-1],
        )
        if isinstance(audit.spec, AuditSpec) and audit.spec.network in networks
    ]


def follow(
    db: Database, running: Sequence[AuditRecord], asked: Collection[AuditSpec], draw: Callable[[object, bool], None]
) -> None:
    """Call `draw` with a mark that changes whenever one of the audits has moved, and whether one of them is what the
    screen has `asked`; poll only while one is active.

    Of an audit that is another question it is said what it asks.
    """

    @st.fragment(run_every=POLL_SECONDS if running else None)
    def live() -> None:
        try:
            now = [audits.get(db, audit.id) for audit in running]
            if any(not audit.active for audit in now):
                st.rerun()
            for audit in now:
                if audit.spec not in asked:
                    other = screen.escape(f"{words.network_of(audit)}: {words.describe(audit)}")
                    st.caption(f"Another question is at work, {other}")
                strip(db, audit)
            draw(tuple((audit.id, audit.done) for audit in now), any(audit.spec in asked for audit in now))
        except StrataError as error:
            st.error(screen.escape(str(error)))

    live()


def strip(db: Database, audit: AuditRecord) -> None:
    """Progress bar, words and Cancel of an active audit."""
    line(db, audit, audit.done / audit.total if audit.total else 0.0, _words(db, audit))
    told = what_happened(db)
    if told:
        st.caption(screen.escape(told))


def what_happened(db: Database) -> str:
    """That a worker has ended without a word lately, and what that means; nothing if none has.

    That work waits while none is alive is said beside it.
    """
    killed = workers.killed(db, TOLD_SECONDS)
    if not killed:
        return ""
    when = words.ago(killed[0].heartbeat)
    on = "; another one goes on from there" if workers.alive(db) else ""
    return f"A worker ended unexpectedly ({when}, its log is on the Audits screen). What it had found is kept{on}."


def line(db: Database, audit: AuditRecord, share: float, text: str) -> None:
    """A bar that is filled to `share` below its words, and Cancel."""
    left, right = st.columns([5, 1], vertical_alignment="center")
    left.progress(min(share, 1.0), text=text)
    right.button("Cancel", key=f"cancel_{audit.id}", on_click=cancel, args=(db, audit.id), width="stretch")


def _words(db: Database, audit: AuditRecord) -> str:
    if audit.state == "queued":
        alive = workers.alive(db)
        if not alive:
            return no_worker(db)
        return "Waiting for a worker; another audit is before this one." if _someone_busy(db) else "Starting …"
    text = f"{audit.done:,} of {audit.total:,} pairs"
    if audit.seconds_left is not None:
        text += f" · {screen.span(*audit.seconds_left)} left"
    if audit.final_epsilon:
        text += f" · final up to ε = {audit.final_epsilon:.2f}"
    if audit.worker is not None:
        text += f" · {screen.escape(audit.worker.host)}, {screen.escape(audit.worker.device)}"
    return text


def no_worker(db: Database) -> str:
    """What is said of work that waits while no worker is alive."""
    if supervisor.elsewhere():
        return "Waiting: no worker is alive. Start one where it shall run: python -m worker."
    if supervisor.stopped(db):
        return "Waiting: the worker was stopped. Start it on the Audits screen."
    return "Waiting: a worker is being started."


def _someone_busy(db: Database) -> bool:
    return bool(audits.recent(db, 1, "running"))


def cancel(db: Database, audit_id: int) -> None:
    """Stop an audit; a refusal is shown in words."""
    _do(audits.cancel, db, audit_id)


def retry(db: Database, audit_id: int) -> None:
    """Queue an audit again; a refusal is shown in words."""
    _do(audits.retry, db, audit_id)


def _do(door: Callable[[Database, int], object], db: Database, audit_id: int) -> None:
    try:
        door(db, audit_id)
    except StoreError as error:
        st.toast(screen.escape(str(error)))
