"""Asking for what is not known: how long it would take, and the audits that compute it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import streamlit as st

from pages.parts import cost, login, screen
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
    """How long computing all that is missing would take, in words: 14 s to 1 min."""
    past = audits.recent(db, 30, "done", kind="audit")
    each = [cost.estimate(lack.spec, lack.network, lack.missing, past) for lack in lacks]
    return screen.span(sum(least for least, _ in each), sum(most for _, most in each))


def start_button(*, disabled: bool = False, width: Literal["stretch", "content"] = "stretch") -> bool:
    """Start; true once after it was pressed.

    What it starts is done in the script, after the widgets have made the question, and not in its callback: a callback
    has the question of the run before, and a number that is typed just before the click would be left out.
    """
    st.button(
        "Start",
        type="primary",
        shortcut="Ctrl+Enter",
        disabled=disabled,
        width=width,
        on_click=_press,
        help="Computes what is not known yet.",
    )
    return bool(st.session_state.pop("start_pressed", False))


def _press() -> None:
    st.session_state["start_pressed"] = True


def start(db: Database, specs: Sequence[AuditSpec]) -> None:
    """Queue these questions; a refusal is shown in words."""
    try:
        for spec in specs:
            audits.submit(db, spec, requested_by=login.user() or "browser")
    except StrataError as error:
        st.toast(screen.escape(str(error)))
