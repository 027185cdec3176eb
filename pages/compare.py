"""Compare: two to six networks on the same axes, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import streamlit as st

from charts import compare
from charts.curves import Curve, value_at
from pages.parts import cost, known, progress, question, screen, words
from robustness_core.spec import AuditSpec, SpecError
from store import StoreError, audits, networks
from store.database import Database
from store.records import NetworkRecord

MOST = 6


@dataclass(frozen=True)
class Side:
    """One network of the comparison and what is asked of it."""

    network: NetworkRecord
    spec: AuditSpec


def main() -> None:
    screen.begin("Compare")
    db = screen.database()
    shelf = {network.name: network for network in networks.all(db)}
    if len(shelf) < 2:
        st.info("A comparison needs two networks on the shelf.")
        st.page_link("pages/networks.py", label="Add a network →")
        return
    left, right = st.columns([1, 2.8], gap="large")
    with left:
        sides = _ask(shelf)
    with right:
        if not sides:
            return
        running = progress.active(db, {side.network.name for side in sides})
        progress.follow(db, running, lambda moved: _draw(db, sides, idle=not moved))


def _ask(shelf: dict[str, NetworkRecord]) -> list[Side]:
    chosen = st.multiselect(
        "Networks", list(shelf), list(shelf)[:2], key="networks", bind=question.BOUND, max_selections=MOST, wrap=True
    )
    if not chosen:
        st.error("Choose two to six networks.")
        return []
    shapes = {shelf[name].input_shape for name in chosen}
    if len(shapes) > 1:
        st.error("These networks take images of different shapes; choose networks of one data set.")
        return []
    form = question.Form(shapes.pop())
    sides = []
    for name in chosen:
        layers = tuple(layer.name for layer in shelf[name].layers if layer.main)
        spec = form.spec(shelf[name], layers)
        if spec is None:
            return []
        sides.append(Side(shelf[name], spec))
    return sides


def _draw(db: Database, sides: list[Side], *, idle: bool) -> None:
    answers = {side.network.name: known.answer(db, side.spec, side.network.sha256) for side in sides}
    reference = known.input_space(sides[0].spec)
    curves = {side.network.name: known.curves(answers[side.network.name], side.network.features) for side in sides}
    if idle:
        _standing(db, sides, answers)
    spec = sides[0].spec
    epsilon = spec.epsilon.values()
    at = question.choose_epsilon(epsilon)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        relative = st.toggle("Align by relative depth", key="relative", bind=question.BOUND)
        minus = st.selectbox(
            "Subtract", ["nothing", *curves], key="minus", bind=question.BOUND, width=260,
            help="Shows differences to this network.",
        )  # fmt: skip
    figure = compare.loss_by_depth(
        epsilon, curves, at, relative=relative, minus=None if minus == "nothing" else minus, dark=screen.dark()
    )
    screen.show(figure, "depth", "strata-depth", f"Loss by layer of each network at the budget ε = {at:g}")
    st.dataframe(_table(sides, curves, at), hide_index=True, placeholder="–", alt="Networks with loss and accuracies")
    st.subheader("Curves", anchor=False)
    columns = 2 if len(curves) in (2, 4) else 3
    multiples = compare.small_multiples(epsilon, curves, columns=columns, input_space=reference, dark=screen.dark())
    screen.show(multiples, "multiples", "strata-compare", "Layer curves of each network on the same axes")
    m = "no projection" if spec.m[0] is None else f"m = {spec.m[0]}"
    st.caption(
        screen.escape(
            f"{spec.dataset} ({spec.split}), class {spec.classes[0]} against {spec.classes[1]}, S = {spec.samples}, "
            f"{m}, N = {spec.projections}, method {spec.method}, preset {spec.preset}, seed {spec.seed}. Lines run "
            "from the first layer (dark or cool) to the logits (light or warm); dotted: input space; dashed: log 2. "
            "Unknown pairs count as no edge, so every curve is a lower bound."
        )
    )


def _standing(db: Database, sides: list[Side], answers: dict[str, known.Answer]) -> None:
    lacking = [side for side in sides if answers[side.network.name].missing]
    if not lacking:
        return
    past = audits.recent(db, 30, "done", kind="audit")
    missing = [answers[side.network.name].missing for side in lacking]
    seconds = sum(
        cost.estimate(side.spec, side.network, pairs, past) for side, pairs in zip(lacking, missing, strict=True)
    )
    with st.container(horizontal=True, vertical_alignment="center"):
        st.info(f"{sum(missing):,} pairs are not known yet, about {screen.seconds(seconds)} of work.")
        st.button("Start", type="primary", shortcut="Ctrl+Enter", on_click=_start, args=(db, lacking))


def _start(db: Database, lacking: list[Side]) -> None:
    try:
        for side in lacking:
            audits.submit(db, side.spec, requested_by="browser")
    except (SpecError, StoreError) as error:
        st.toast(screen.escape(str(error)))


def _table(sides: list[Side], curves: dict[str, list[Curve]], at: float) -> pd.DataFrame:
    rows = []
    for side in sides:
        shown = [curve for curve in curves[side.network.name] if curve.known]
        epsilon = side.spec.epsilon.values()
        rows.append(
            {
                "network": side.network.name,
                "training": words.training(side.network),
                "accuracy": words.accuracies(side.network),
                f"first layer at ε = {at:g}": float(value_at(epsilon, shown[0].losses, at).mean()) if shown else None,
                f"logits at ε = {at:g}": float(value_at(epsilon, shown[-1].losses, at).mean()) if shown else None,
            }
        )
    return pd.DataFrame(rows)


main()
