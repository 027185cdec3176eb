"""Scaling: how the distance and the loss of one layer grow with the projection dimension m."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from charts import scaling, style
from pages.parts import cost, known, progress, question, screen
from robustness_core.spec import AuditSpec, SpecError
from robustness_core.theory import ExponentFit, fit_exponent
from store import StoreError, audits, networks
from store.database import Database
from store.records import NetworkRecord

STEPS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)
WITHOUT = "none"


@dataclass(frozen=True)
class Asked:
    """One layer of one network, at several m."""

    network: NetworkRecord
    spec: AuditSpec


def main() -> None:
    screen.begin("Scaling")
    db = screen.database()
    shelf = networks.all(db)
    if not shelf:
        st.info("No network is on the shelf yet.")
        st.page_link("pages/networks.py", label="Add a network →")
        return
    left, right = st.columns([1, 2.8], gap="large")
    with left:
        asked = _ask(db, shelf)
    with right:
        if asked is None:
            return
        progress.follow(
            db, progress.active(db, {asked.network.name}), lambda moved: _draw(db, asked, idle=not moved)
        )  # fmt: skip


def _ask(db: Database, shelf: list[NetworkRecord]) -> Asked | None:
    network = question.choose_network(shelf)
    main = [layer.name for layer in network.layers if layer.main]
    layer = question.choose_layer(network, "one", main[0])
    features = network.features[layer]
    options = [str(m) for m in STEPS if m < features] + [str(features), WITHOUT]
    kept = st.session_state.get("ms")
    if kept is not None and not set(kept) <= set(options):
        st.session_state["ms"] = [m for m in kept if m in options]
    chosen = st.multiselect(
        f"Projection dimensions m (nj = {features:,})", options, [m for m in options[:-2] if int(m) <= 50], key="ms",
        bind=question.BOUND, wrap=True, help="none: no projection, the limit m ≥ nj",
    )  # fmt: skip
    form = question.Form(network.input_shape, one_m=False)
    m = tuple(None if value == WITHOUT else int(value) for value in options if value in chosen)
    spec = form.spec(network, (layer,), m)
    if spec is None:
        return None
    asked = Asked(network, spec)
    st.button(
        "Start", type="primary", shortcut="Ctrl+Enter", width="stretch", on_click=_start, args=(db, asked),
        help="Computes what is not known yet.",
    )  # fmt: skip
    return asked


def _start(db: Database, asked: Asked) -> None:
    try:
        audits.submit(db, asked.spec, requested_by="browser")
    except (SpecError, StoreError) as error:
        st.toast(screen.escape(str(error)))


def _draw(db: Database, asked: Asked, *, idle: bool) -> None:
    answer = known.answer(db, asked.spec, asked.network.sha256)
    reference = known.input_space(asked.spec)
    spec = asked.spec
    missing = answer.missing
    if idle and missing:
        past = audits.recent(db, 30, "done", kind="audit")
        seconds = cost.estimate(spec, asked.network, missing, past)
        st.info(f"{missing:,} of {answer.total:,} pairs are not known yet; Start computes them, about "
                f"{screen.seconds(seconds)}.")  # fmt: skip
    groups = {m: group for (_, m), group in answer.groups.items() if all(p.complete for p in group)}
    means = {m: np.array([float(p.matrix.distance.mean()) for p in group]) for m, group in groups.items()}
    dimensions = [m for m in means if m is not None]
    curves = {curve.m: curve.losses for curve in known.curves(answer, asked.network.features) if curve.known}
    colour = style.layer_colours([one.name for one in asked.network.layers], screen.dark())[spec.layers[0]]
    if not curves:
        st.info("Nothing is known of this layer yet.")
        return
    dark = screen.dark()
    st.subheader("Loss curves for each m", anchor=False)
    by_m = scaling.curves_by_m(spec.epsilon.values(), curves, input_space=reference, dark=dark)
    screen.show(by_m, "by_m", "strata-m", "Optimal loss over the budget, a line for each projection dimension")
    if not dimensions:
        return
    st.subheader("Distance against m", anchor=False)
    shown = [means[m] for m in dimensions]
    law = fitted(dimensions, shown)
    exponent = None if law is None else (law.exponent, law.low, law.high)
    screen.show(
        scaling.distance_against_m(dimensions, shown, exponent=exponent, colour=colour, dark=dark),
        "law", "strata-scaling", "Mean distance against m on log axes with the √m line",
    )  # fmt: skip
    if law is not None:
        st.caption(
            f"Fitted exponent {law.exponent:.3f} (95 % interval {law.low:.3f} to {law.high:.3f}); the theory "
            "expects 0.5 while m is far above 1 and far below √r4. Only m of which every pair is known are drawn."
        )
    if spec.projections > 1:
        st.subheader("Spread over projections", anchor=False)
        screen.show(
            scaling.spread_against_m(dimensions, shown, colour, dark=dark),
            "spread", "strata-spread", "Relative standard deviation over projections against m",
        )  # fmt: skip


def fitted(m: list[int], distance: list[NDArray[np.float64]]) -> ExponentFit | None:
    """The exponent of distance ∝ m^k; None where there are too few points."""
    try:
        return fit_exponent(m, np.stack(distance))
    except ValueError:
        return None


main()
