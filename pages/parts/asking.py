"""Asking for what is not known: how long it would take, and the audits that compute it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from pages.parts import cost, known, login, screen
from robustness_core.errors import StrataError
from robustness_core.spec import AuditSpec
from store import audits
from store.database import Database
from store.records import NetworkRecord


@dataclass(frozen=True)
class Lack:
    """A question of which `missing` pairs are not known."""

    network: NetworkRecord
    spec: AuditSpec
    missing: int


def duration(db: Database, lacks: Sequence[Lack]) -> str:
    """How long computing all that is missing would take, in words: 14 s to 1 min; and whether that is a guess."""
    past = audits.recent(db, 30, "done", kind="audit")
    each = [cost.estimate(lack.spec, lack.network, lack.missing, past) for lack in lacks]
    guess = "" if all(one.measured for one in each) else "; a guess, for no audit of this kind has run here"
    return screen.span(sum(one.least for one in each), sum(one.most for one in each)) + guess


def start(db: Database, asked: Sequence[tuple[NetworkRecord, AuditSpec]], *, norms: bool = False) -> None:
    """Start, below the settings of every screen that asks; pressed, it queues those of `asked` that lack pairs.

    `norms`: queue those that lack none too, since an audit measures the norms of its affine layers besides.

    What it starts is done in the script, after the widgets have made the question, and not in its callback: a callback
    has the question of the run before, and a number that is typed just before the click would be left out.
    """
    st.button(
        "Start",
        type="primary",
        shortcut="Ctrl+Enter",
        disabled=not asked,
        width="stretch",
        on_click=_press,
        help="Computes what is not known yet.",
    )
    if st.session_state.pop("start_pressed", False):
        submit(db, asked, norms=norms)


def _press() -> None:
    st.session_state["start_pressed"] = True


def submit(db: Database, asked: Sequence[tuple[NetworkRecord, AuditSpec]], *, norms: bool = False) -> None:
    """Queue the questions of which pairs are not known, or norms may not be; a refusal is shown in words."""
    try:
        lacking = [spec for network, spec in asked if norms or known.answer(db, spec, network).lacking]
        if asked and not lacking:
            st.toast("Every pair of this question is known already; nothing needs computing.")
        for spec in lacking:
            audits.submit(db, spec, requested_by=login.user() or "browser")
    except StrataError as error:
        st.error(screen.escape(str(error)))
