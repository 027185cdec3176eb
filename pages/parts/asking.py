"""Asking for what is not known: how long it would take, and the audits that compute it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from pages.parts import cost, login, screen
from robustness_core.spec import AuditSpec, SpecError
from store import StoreError, audits
from store.database import Database
from store.records import NetworkRecord


@dataclass(frozen=True)
class Lack:
    """A question of which `missing` pairs are not known."""

    network: NetworkRecord
    spec: AuditSpec
    missing: int


def duration(db: Database, lacks: Sequence[Lack]) -> str:
    """How long computing all that is missing would take, in words."""
    past = audits.recent(db, 30, "done", kind="audit")
    return screen.seconds(sum(cost.estimate(lack.spec, lack.network, lack.missing, past) for lack in lacks))


def start(db: Database, specs: Sequence[AuditSpec]) -> None:
    """Queue these questions; a refusal is shown in words. A callback."""
    try:
        for spec in specs:
            audits.submit(db, spec, requested_by=login.user() or "browser")
    except (SpecError, StoreError) as error:
        st.toast(screen.escape(str(error)))
