"""Explore: one network, layer by layer: ask, watch the curves grow, and go down to the pair."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import streamlit as st

from charts import attribution, matrix, style
from charts.curves import Curve, layer_curves, value_at
from pages.parts import (
    asking,
    captions,
    export,
    known,
    login,
    pair,
    progress,
    question,
    report,
    screen,
    take_away,
    words,
)
from robustness_core import datasets
from robustness_core.spec import SpecError
from store import StoreError, audits, networks
from store.database import Database
from store.records import AuditRecord


@dataclass(frozen=True, eq=False)
class View:
    """Everything the results draw from."""

    db: Database
    question: question.Question
    answer: known.Answer
    curves: list[Curve]
    colours: dict[str, str]


def main() -> None:
    screen.begin("Explore")
    db = screen.database()
    shelf = networks.all(db)
    if not shelf:
        _wait_for_networks(db)
        return
    left, right = st.columns([1, 2.8], gap="large")
    with left:
        asked = question.ask(shelf)
        st.button(
            "Start",
            type="primary",
            shortcut="Ctrl+Enter",
            width="stretch",
            disabled=asked is None,
            on_click=_start,
            args=(db, asked),
            help="Computes what is not known yet.",
        )
    with right:
        if asked is None:
            st.info("The question cannot be asked as it stands; the reason is beside the settings.")
            return
        running = sorted(progress.active(db, {asked.network.name}), key=lambda audit: audit.spec != asked.spec)
        try:
            view = _view(db, asked)
        except datasets.DatasetError as error:
            st.error(screen.escape(str(error)))
            return
        _live(view, running[0] if running else None)
        if view.answer.known:
            _pairs(view)
            take_away.show(f"strata-{asked.spec.key[:8]}", [_part(view)], lambda: _report(view))


def _wait_for_networks(db: Database) -> None:
    st.info(
        "No network is on the shelf yet. The worker puts the bundled ones there when it starts, which takes a few "
        "seconds; or add your own under Networks."
    )

    @st.fragment(run_every=1.0)
    def look() -> None:
        if networks.all(db):
            st.rerun()

    look()


def _start(db: Database, asked: question.Question) -> None:
    try:
        answer = known.answer(db, asked.spec, asked.network.sha256)
        if answer.missing == 0:
            st.toast("Every pair of this question is known already; nothing needs computing.")
            return
        audits.submit(db, asked.spec, requested_by=login.user() or "browser")
    except (SpecError, StoreError, datasets.DatasetError) as error:
        st.session_state["refused"] = str(error)


def _view(db: Database, asked: question.Question) -> View:
    answer = known.answer(db, asked.spec, asked.network.sha256)
    main_layers = [layer.name for layer in asked.network.layers]
    return View(
        db,
        asked,
        answer,
        known.curves(answer, asked.network.features),
        style.layer_colours(main_layers, screen.dark()),
    )


def _live(view: View, running: AuditRecord | None) -> None:
    """Progress, curves, loss by layer and the table; redrawn on its own while an audit of this network is active."""

    def draw(moved: object) -> None:
        if not moved:
            _standing(view)
            _draw(view)
            return
        mark = (moved, view.question.spec.key, screen.dark())
        kept = st.session_state.get("live_view")
        if kept is None or kept[0] != mark:  # read again only when the audit has moved
            kept = (mark, _view(view.db, view.question))
            st.session_state["live_view"] = kept
        now = None if running is None else audits.get(view.db, running.id)
        same = now is not None and now.spec == view.question.spec
        _draw(kept[1], final=now.final_epsilon if now is not None and same else None)

    progress.follow(view.db, [] if running is None else [running], [view.question.spec], draw)


def _standing(view: View) -> None:
    """What is known and what Start would do, where nothing runs."""
    refused = st.session_state.pop("refused", None)
    if refused:
        st.error(screen.escape(refused))
    missing = view.answer.missing
    if missing == 0:
        st.success(f"All {view.answer.total:,} pairs are known; nothing needs computing.")
        return
    duration = asking.duration(view.db, [asking.Lack(view.question.network, view.question.spec, missing)])
    if view.answer.known == 0:
        st.info(f"Nothing is known yet. Start computes {missing:,} pairs, about {duration}.")
    else:
        st.info(
            f"{view.answer.known:,} of {view.answer.total:,} pairs are known. Start computes the other {missing:,}, "
            f"about {duration}."
        )
    last = next((audit for audit in audits.recent(view.db, 5, kind="audit") if audit.spec == view.question.spec), None)
    if last is not None and last.state == "failed":
        st.error(f"The last try failed: {screen.escape(last.error or 'the reason is not known.')}")


def _draw(view: View, final: float | None = None) -> None:
    spec = view.question.spec
    epsilon = spec.epsilon.values()
    reference = known.input_space(spec)
    with st.container(horizontal=True, vertical_alignment="center"):
        single = st.toggle("Single projections", key="single", bind=question.BOUND) and spec.projections > 1
        with_input = st.toggle("Input space", value=True, key="input", bind=question.BOUND)
        whole = spec.m[0] is not None and st.toggle(
            "No projection", key="whole", bind=question.BOUND, help="The same layers with all their features, m ≥ nj"
        )
        network = view.question.network
        fab, accuracy = words.fab_loss(network, spec), words.pgd_accuracy(network, spec)
        attacks = (fab or accuracy) is not None and st.toggle(
            "Attacks", key="attacks", bind=question.BOUND, help="FAB loss and PGD accuracy, from the network's card"
        )
    at = question.choose_epsilon(epsilon)
    shown_reference = reference if with_input else None
    unprojected = _unprojected(view) if whole else []
    if whole and not any(curve.known for curve in unprojected):
        st.caption("Nothing is known without projection yet: choose No projection under Method, and Start.")
    dark = screen.dark()
    figure = layer_curves(
        epsilon,
        [*view.curves, *unprojected],
        view.colours,
        input_space=shown_reference,
        overlays={"FAB loss": fab} if attacks and fab else None,
        accuracy=accuracy if attacks else None,
        single=single,
        mark=at,
        final=final,
        dark=dark,
    )
    screen.show(figure, "curves", f"strata-curves-{spec.key[:8]}", "Optimal loss over the budget ε, a line a layer")
    st.caption(screen.escape(captions.of_question(view.answer, view.question.network)))
    st.subheader("Loss by layer", anchor=False)
    bars = attribution.loss_by_layer(epsilon, view.curves, at, view.colours, input_space=shown_reference, dark=dark)
    screen.show(bars, "by_layer", f"strata-layers-{spec.key[:8]}", f"Loss of each layer at the budget ε = {at:g}")
    st.dataframe(
        _table(view, at),
        hide_index=True,
        width="stretch",
        placeholder="–",
        alt="Layers with sizes, distances and losses",
    )


def _unprojected(view: View) -> list[Curve]:
    """What is known of the same layers without projection."""
    network = view.question.network
    spec = view.question.spec.replace(m=(None,), projections=1)
    return known.curves(known.answer(view.db, spec, network.sha256), network.features)


def _table(view: View, at: float) -> pd.DataFrame:
    """A row a layer: sizes, distances, certificate and loss."""
    shapes = {layer.name: "×".join(str(size) for size in layer.shape) for layer in view.question.network.layers}
    epsilon = view.question.spec.epsilon.values()
    rows = []
    before: int | None = None
    for curve, group in zip(view.curves, view.answer.groups.values(), strict=True):
        distance = np.concatenate([projection.matrix.distance.ravel() for projection in group])
        collided = np.concatenate([projection.matrix.collided.ravel() for projection in group])
        passes = np.concatenate([projection.matrix.passes.ravel() for projection in group])
        found = np.isfinite(distance)
        rows.append(
            {
                "layer": curve.layer,
                "shape": shapes[curve.layer],
                "features nj": curve.features,
                "to the one before": question.ratio(before, curve.features).strip(" ()"),
                f"loss at ε = {at:g}": float(value_at(epsilon, curve.losses, at).mean()) if curve.known else None,
                "mean distance": float(distance[found].mean()) if found.any() else None,
                "least distance": float(distance[found].min()) if found.any() else None,
                "collided": f"{collided[found].mean():.1%}" if found.any() else "",
                "passes a pair": float(passes[found].mean()) if found.any() else None,
                "known": f"{curve.known:,} of {curve.total:,}",
            }
        )
        before = curve.features
    return pd.DataFrame(rows)


def _pairs(view: View) -> None:
    """The distance matrix and closest pairs of one layer and projection; a click or a row opens the pair."""
    st.subheader("Pairs", anchor=False)
    groups = {layer: group for (layer, _), group in view.answer.groups.items()}
    question.forget("layer", groups)
    with st.container(horizontal=True):
        layer = st.selectbox("Layer of the matrix", list(groups), key="layer", bind=question.BOUND, width=240)
        numbers = list(range(1, len(groups[layer]) + 1))
        number = st.selectbox("Projection", numbers, key="projection", bind=question.BOUND, width=140)
    projection = groups[layer][number - 1]
    if projection.known == 0:
        st.info("No pair of this layer and projection is known yet.")
        return
    rows, columns = matrix.nearest_first(projection.matrix.distance)
    distance = projection.matrix.distance[np.ix_(rows, columns)]
    left, right = view.answer.sample.left[rows], view.answer.sample.right[columns]
    chosen = pair.in_address(left.tolist(), right.tolist())
    picture, table = st.columns([1.15, 1], gap="medium")
    with picture:
        figure = matrix.distance_matrix(
            distance,
            projection.matrix.collided[np.ix_(rows, columns)],
            left.tolist(),
            right.tolist(),
            _class_names(view),
            chosen=None if chosen is None else (left.tolist().index(chosen[0]), right.tolist().index(chosen[1])),
            dark=screen.dark(),
        )
        screen.show(
            figure,
            "matrix",
            "strata-distances",
            "Distances of all pairs; the table beside it offers the closest ones to the keyboard",
            on_select=lambda: _clicked_cell(left.tolist(), right.tolist()),
            selection_mode="points",
        )
        st.caption("Click a cell to open its pair. A cross marks pairs for which no collision was verified.")
    with table:
        closest = _closest(projection, view.answer)
        pair.table(closest, 440)
    if chosen is not None:
        _open_pair(view, (layer, number), *chosen, closest)


def _class_names(view: View) -> tuple[str, str]:
    names = datasets.CLASS_NAMES[view.question.spec.dataset]
    first, second = view.question.spec.classes
    return names[first], names[second]


def _clicked_cell(left: list[int], right: list[int]) -> None:
    points = st.session_state["figure_matrix"].selection.points
    if points:
        i, j, *_ = points[0]["customdata"]
        pair.go(left[int(i)], right[int(j)])


def _closest(projection: known.Projection, answer: known.Answer) -> pd.DataFrame:
    found = projection.matrix
    i, j = np.nonzero(found.known)
    order = np.argsort(found.distance[i, j], kind="stable")[: pair.LISTED]
    i, j = i[order], j[order]
    return pd.DataFrame(
        {
            "x": answer.sample.left[i],
            "x′": answer.sample.right[j],
            "distance": found.distance[i, j].round(4),
            "residual": found.residual[i, j],
            "collided": found.collided[i, j],
            "passes": found.passes[i, j].round().astype(int),
        }
    )


def _open_pair(view: View, shown: tuple[str, int], left: int, right: int, closest: pd.DataFrame) -> None:
    """The pair of the images `left` and `right` at the layer and the number of the projection that are `shown`."""
    spec = view.question.spec
    layer, number = shown
    projection = view.answer.groups[layer, spec.m[0]][number - 1]
    names = _class_names(view)
    st.subheader(f"The pair {left} ({names[0]}) and {right} ({names[1]})", anchor=False)
    pair.steps(closest, left, right)
    st.page_link(
        "pages/pairs.py",
        label="Open in Pairs: this pair at every layer →",
        query_params=words.address_of_pair(spec, layer, number, (left, right)),
    )
    i = view.answer.sample.left.tolist().index(left)
    j = view.answer.sample.right.tolist().index(right)
    found = projection.matrix
    if found.known[i, j]:
        st.caption(pair.residual_words(float(found.residual[i, j]), bool(found.collided[i, j])))
    opened = [pair.Chosen(projection.spec, spec.dataset, spec.split, left, right)]
    there, lacking = pair.gather(view.db, opened)
    if there:
        pair.show(there)
    pair.wait_for(view.db, opened, lacking)


def _report(view: View) -> str:
    """The report, in the light theme whatever the screen's."""
    spec = view.question.spec
    epsilon, reference = spec.epsilon.values(), known.input_space(spec)
    colours = style.layer_colours([layer.name for layer in view.question.network.layers])
    at = float(st.session_state.get("at", epsilon[len(epsilon) // 4]))
    figures = [
        layer_curves(epsilon, view.curves, colours, input_space=reference),
        attribution.loss_by_layer(epsilon, view.curves, at, colours, input_space=reference),
    ]
    title = f"{view.question.network.name}: robustness layer by layer"
    return report.page(
        title,
        [_part(view)],
        figures,
        {"Layers": _table(view, at)},
        captions.of_question(view.answer, view.question.network),
    )


def _part(view: View) -> export.Part:
    return export.Part(view.question.network, view.answer, view.curves)


main()
