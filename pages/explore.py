"""Explore: one network, layer by layer: ask, watch the curves grow, and go down to the pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go
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
from store import StoreError, audits
from store.database import Database
from store.records import AuditRecord

# Of the numbers in the table of layers.
FORMATS = {
    "loss": "%.4f",
    "change": "%+.4f",
    "mean distance": "%.4f",
    "least distance": "%.4f",
    "passes a pair": "%.0f",
}


@dataclass(frozen=True, eq=False)
class View:
    """Everything the results draw from."""

    db: Database
    question: question.Question
    answer: known.Answer
    curves: list[Curve]


@dataclass
class Shown:
    """What of the figures is shown. Kept for the session: the fragment that draws changes it, the report reads it."""

    at: float = 0.0
    single: bool = False
    input_space: bool = True
    attacks: bool = False
    unprojected: known.Answer | None = None
    dashed: Sequence[Curve] = ()
    view: View | None = None


def main() -> None:
    db, shelf = screen.begin_with_networks("Explore")
    left, right = st.columns([1, 2.8], gap="large")
    with left:
        asked = question.ask(shelf)
        # Asked for after the widgets, not in a callback: a number typed just before the click is part of the question.
        if asking.start_button(disabled=asked is None) and asked is not None:
            _start(db, asked)
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
        shown = st.session_state.setdefault("shown", Shown())
        _live(view, running[0] if running else None, shown)
        if view.answer.known:
            _pairs(view)
            take_away.show(
                f"strata-{asked.spec.key[:8]}",
                lambda: [_part(shown.view or view, shown)],  # while an audit runs, what it has found since
                lambda: _report(shown.view or view, shown),
                {"network": asked.network.name},
            )
        else:
            screen.link_button({"network": asked.network.name})


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
    return View(db, asked, answer, known.curves(answer, asked.network.features))


def _live(view: View, running: AuditRecord | None, shown: Shown) -> None:
    """Progress, curves, loss by layer and the table; redrawn on its own while an audit of this network is active."""

    def draw(moved: object) -> None:
        if not moved:
            _standing(view)
            _draw(view, shown)
            return
        mark = (moved, view.question.spec.key, screen.dark())
        kept = st.session_state.get("live_view")
        if kept is None or kept[0] != mark:  # read again only when the audit has moved
            kept = (mark, _view(view.db, view.question))
            st.session_state["live_view"] = kept
        now = None if running is None else audits.get(view.db, running.id)
        same = now is not None and now.spec == view.question.spec
        _draw(kept[1], shown, final=now.final_epsilon if now is not None and same else None)

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


def _draw(view: View, shown: Shown, final: float | None = None) -> None:
    shown.view = view
    _choose_shown(view, shown)
    key = view.question.spec.key[:8]
    curves, bars = _figures(view, shown, final=final, dark=screen.dark())
    screen.show(curves, "curves", f"strata-curves-{key}", "Optimal loss over the budget ε, a line a layer")
    st.caption(screen.escape(_caption(view, shown)))
    st.subheader("Loss by layer", anchor=False)
    screen.show(bars, "by_layer", f"strata-layers-{key}", f"Loss of each layer at the budget ε = {shown.at:g}")
    st.caption(screen.escape(_bars_caption(view, shown)))
    st.dataframe(
        _table(view, shown.at),
        hide_index=True,
        width="stretch",
        placeholder="–",
        column_config=screen.number_columns(FORMATS),
        alt="Layers with sizes, distances and losses",
    )


def _choose_shown(view: View, shown: Shown) -> None:
    """The widgets above the figures."""
    spec, network = view.question.spec, view.question.network
    with st.container(horizontal=True, vertical_alignment="center"):
        shown.single = st.toggle("Single projections", key="single", bind=question.BOUND) and _many(view)
        shown.input_space = st.toggle("Input space", value=True, key="input", bind=question.BOUND)
        whole = spec.m[0] is not None and st.toggle(
            "Also without projection",
            key="whole",
            bind=question.BOUND,
            help="Draws the same layers with all their features too, m ≥ nj",
        )
        measured = (words.fab_loss(network, spec) or words.pgd_accuracy(network, spec)) is not None
        shown.attacks = measured and st.toggle(
            "Attacks", key="attacks", bind=question.BOUND, help="FAB loss and PGD accuracy, from the network's card"
        )
    shown.at = question.choose_epsilon(spec.epsilon.values())
    shown.unprojected = _unprojected(view) if whole else None
    lines = [] if shown.unprojected is None else known.curves(shown.unprojected, network.features)
    shown.dashed = [curve for curve in lines if curve.known]
    if whole and not shown.dashed:
        st.caption("Nothing is known without projection yet: choose No projection under Method, and Start.")


def _figures(
    view: View, shown: Shown, *, final: float | None = None, dark: bool = False
) -> tuple[go.Figure, go.Figure]:
    """The layer curves, and the loss by layer at the chosen budget."""
    spec, network = view.question.spec, view.question.network
    epsilon = spec.epsilon.values()
    fab = words.fab_loss(network, spec) if shown.attacks else None
    reference = known.input_space(spec) if shown.input_space else None
    colours = style.layer_colours([layer.name for layer in network.layers], dark)
    curves = layer_curves(
        epsilon,
        [*view.curves, *shown.dashed],
        colours,
        input_space=reference,
        overlays={"FAB loss": fab} if fab else None,
        accuracy=words.pgd_accuracy(network, spec) if shown.attacks else None,
        single=shown.single,
        mark=shown.at,
        final=final,
        dark=dark,
    )
    bars = attribution.loss_by_layer(epsilon, view.curves, shown.at, colours, input_space=reference, dark=dark)
    return curves, bars


def _caption(view: View, shown: Shown) -> str:
    """The caption of the curves, with a sentence for each overlay that is drawn."""
    spec, network = view.question.spec, view.question.network
    drawn = "a line each" if shown.single else "mean; band from min to max"
    sentences = [captions.of_question(view.answer, network, drawn=drawn)]
    if shown.input_space:
        sentences.append("Dotted: the images themselves, without any feature.")
    if shown.dashed:
        sentences.append("Dashed: the same layers without projection, m ≥ nj.")
    if shown.attacks and words.fab_loss(network, spec):
        sentences.append(
            "FAB loss: cross-entropy of the network, asked for these two classes only, on images of this sample's "
            "classes that are moved by ε along FAB's direction."
        )
    if shown.attacks and words.pgd_accuracy(network, spec):
        sentences.append(
            f"PGD accuracy, right axis: {words.pgd_images(network)} of the two classes, asked for these two only, "
            "under L2 PGD."
        )
    return " ".join(sentences)


def _bars_caption(view: View, shown: Shown) -> str:
    many = _many(view)
    bounds = ""
    if any(curve.known and curve.lower for curve in view.curves):
        bounds = " Hatched: a lower bound, for pairs are unknown; no change is stated beside it."
    if not all(curve.known for curve in view.curves):
        bounds += " Of a layer marked ? nothing is known yet."
    return (
        f"Bars: loss at ε = {shown.at:g}{', mean over projections, whiskers from min to max' if many else ''}. Below "
        "each layer stands the change from the one before: robustness is lost where it is above 0, gained where it is "
        f"below.{bounds} Settings as above."
    )


def _many(view: View) -> bool:
    """Whether some layer has several projections; without projection there is one answer, whatever N."""
    return any(len(curve.losses) > 1 for curve in view.curves)


def _unprojected(view: View) -> known.Answer:
    """What is known of the same layers without projection."""
    spec = view.question.spec.replace(m=(None,), projections=1)
    return known.answer(view.db, spec, view.question.network.sha256)


def _table(view: View, at: float) -> pd.DataFrame:
    """A row a layer: its loss at the budget `at`, distances, sizes and certificate."""
    shapes = {layer.name: "×".join(str(size) for size in layer.shape) for layer in view.question.network.layers}
    epsilon = view.question.spec.epsilon.values()
    start = float(np.interp(at, epsilon, known.input_space(view.question.spec)))
    losses = [float(value_at(epsilon, curve.averaged, at).mean()) for curve in view.curves]
    changes = attribution.changes_of([start, *losses], [False, *(curve.lower for curve in view.curves)])
    rows = []
    before: int | None = None
    layers = zip(view.curves, view.answer.groups.values(), losses, changes, strict=True)
    for curve, group, loss, change in layers:
        # The mean is of whole projections: of some pairs only it would be too small, the nearest are computed first.
        whole = np.concatenate([group[index].matrix.distance.ravel() for index in curve.whole] or [np.empty(0)])
        distance = np.concatenate([projection.matrix.distance.ravel() for projection in group])
        collided = np.concatenate([projection.matrix.collided.ravel() for projection in group])
        passes = np.concatenate([projection.matrix.passes.ravel() for projection in group])
        found = np.isfinite(distance)
        rows.append(
            {
                "layer": curve.layer,
                "loss": loss if curve.known else None,
                "change": change,
                "mean distance": float(whole.mean()) if whole.size else None,
                "least distance": float(distance[found].min()) if found.any() else None,
                "known": f"{curve.known:,} of {curve.total:,}",
                "shape": shapes[curve.layer],
                "features nj": curve.features,
                "to the one before": question.ratio(before, curve.features).strip(" ()"),
                "collided": f"{collided[found].mean():.1%}" if found.any() else "",
                "passes a pair": float(passes[found].mean()) if found.any() else None,
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
        question.forget("projection", numbers)
        number = st.selectbox("Projection", numbers, key="projection", bind=question.BOUND, width=140)
    projection = groups[layer][number - 1]
    if projection.known == 0:
        st.info("No pair of this layer and projection is known yet.")
        return
    rows, columns = matrix.nearest_first(projection.matrix.distance)
    distance = projection.matrix.distance[np.ix_(rows, columns)]
    left, right = view.answer.sample.left[rows], view.answer.sample.right[columns]
    chosen = pair.in_address(left.tolist(), right.tolist())
    pair.say_if_strange(left.tolist(), right.tolist())
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
        st.caption(screen.escape(_matrix_caption(view, projection, layer)))
    with table:
        closest = _closest(projection, view.answer)
        pair.table(closest, 440)
    if chosen is not None:
        _open_pair(view, (layer, number), *chosen, closest)


def _matrix_caption(view: View, projection: known.Projection, layer: str) -> str:
    spec, series = view.question.spec, projection.spec
    n = view.question.network.features[layer]
    m = (
        f"no projection, nj = {n:,}"
        if series.m is None
        else f"nj = {n:,}, m = {series.m}, projection seed {series.seed}"
    )
    drawn = "every pair" if spec.samples <= matrix.LARGEST else f"the nearest {matrix.LARGEST} images of each class"
    return (
        f"Distance of {drawn} at {layer} ({m}); {spec.dataset} ({spec.split}), class {spec.classes[0]} against "
        f"{spec.classes[1]}, S = {spec.samples}; method {spec.method}, preset {spec.preset}, version "
        f"{series.method_version}. Click a cell to open its pair. A cross marks pairs for which no collision was "
        f"verified.{captions.doubts([view.question.network])}"
    )


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


def _report(view: View, shown: Shown) -> str:
    """The report of what is shown, in the light theme whatever the screen's."""
    return report.page(
        f"{view.question.network.name}: robustness layer by layer",
        [_part(view, shown)],
        _figures(view, shown),
        {f"Layers at ε = {shown.at:g}": _table(view, shown.at)},
        f"{_caption(view, shown)} {_bars_caption(view, shown)}",
        FORMATS,
    )


def _part(view: View, shown: Shown) -> export.Part:
    """What is shown, with every overlay that is on."""
    spec, network = view.question.spec, view.question.network
    epsilon = spec.epsilon.values()
    overlays = [export.Overlay("input space", epsilon, known.input_space(spec))] if shown.input_space else []
    overlays += [
        export.Overlay("no projection", epsilon, curve.averaged.mean(axis=0), curve=curve, answer=shown.unprojected)
        for curve in shown.dashed
    ]
    if shown.attacks:
        overlays += export.of_card("FAB loss", words.fab_loss(network, spec))
        overlays += export.of_card("PGD accuracy", words.pgd_accuracy(network, spec))
    return export.Part(network, view.answer, view.curves, tuple(overlays))


main()
