"""Explore: one network, layer by layer: ask, watch the curves grow, and go down to the pair."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from charts import attribution, matrix, paper, style
from charts import errors as charts_errors
from charts.captions import Caption, images_of, method_of, range_of
from charts.curves import layer_curves
from pages.parts import (
    asking,
    captions,
    export,
    headline,
    known,
    mistakes,
    pair,
    progress,
    question,
    reading,
    references,
    report,
    resting,
    screen,
    take_away,
    words,
)
from robustness_core import datasets
from robustness_core.errors import StrataError
from robustness_core.spec import AuditSpec
from store import audits
from store.database import Database
from store.records import AuditRecord

LOSSES = ("ε½", "interval", "loss", "change")  # columns of the table of layers, which have a table of their own
# Of the numbers in the table of layers.
FORMATS = {
    "loss": "%.4f",
    "change": "%+.4f",
    "ε½": "%.4f",
    "loss, no projection": "%.4f",
    "ε½, no projection": "%.4f",
    "mean distance": "%.4f",
    "least distance": "%.4f",
    "search gap": "%.3f",
    "passes a pair": "%.0f",
}


@dataclass(frozen=True, eq=False)
class View:
    """Everything the results draw from: the answer to the question, and its readings.

    `projected` is None where the question asks for no projection; `whole` is the reading of all features;
    `mistakes` are the numbers of images on which the network is known to err without any attack.
    """

    db: Database
    question: question.Question
    answer: known.Answer
    projected: reading.Reading | None
    whole: reading.Reading
    mistakes: tuple[int, ...]

    @property
    def asked(self) -> reading.Reading:
        """The reading that the question asks for."""
        return self.projected or self.whole

    @property
    def mark(self) -> tuple[object, ...]:
        """What decides the curves."""
        return self.question.spec.key, self.answer.known, self.whole.answer.known

    def exactly(self) -> View:
        """The same with every step of the curves, which takes a moment at the first time."""
        projected = None if self.projected is None else reading.exactly(self.projected)
        return replace(self, projected=projected, whole=reading.exactly(self.whole))

    @property
    def drawn(self) -> list[reading.Reading]:
        """The readings of which something is known, that of the question always."""
        beside = [self.whole] if self.projected is not None and self.whole.answer.known else []
        return [self.asked, *beside]


@dataclass
class Shown:
    """What of the figures is shown. Kept for the session: the fragment that draws changes it, the report reads it."""

    at: float = 0.0
    single: bool = False
    input_space: bool = True
    attacks: bool = False
    attack: str = ""  # whose losses are drawn
    gap: bool = False
    bars: str = question.HALF
    headline: tuple[str, ...] = ()
    view: View | None = None
    matrix: known.Projection | None = None


def main() -> None:
    db, available = screen.begin_with_networks("Explore")
    left, right = st.columns([1, 2.8], gap="large")
    with left:
        asked = question.ask(db, available)
        asking.start(db, [] if asked is None else [(asked.network, asked.spec)])
    with right:
        if asked is None:
            st.info("The question cannot be asked as it stands; the reason is beside the settings.")
            return
        running = sorted(progress.active(db, {asked.network.name}), key=lambda audit: audit.spec != asked.spec)
        try:
            view = _view(db, asked)
        except StrataError as error:
            st.error(screen.escape(str(error)))
            return
        shown = st.session_state.setdefault("shown", Shown())
        _live(view, running[0] if running else None, shown)
        if view.answer.known:
            _pairs(view, shown)
            take_away.show(
                f"strata-{asked.spec.key[:8]}",
                lambda: [_part(shown.view or view, shown)],  # while an audit runs, what it has found since
                lambda: _report(shown.view or view, shown),
                lambda: _panels((shown.view or view).exactly(), shown),
                {"network": asked.network.name},
            )
        else:
            screen.link_button({"network": asked.network.name})
        reading.prepare([one.layers for one in view.drawn], view.mark)


def _view(db: Database, asked: question.Question) -> View:
    network = asked.network
    answer = known.answer(db, asked.spec, network)
    numbers = np.concatenate([answer.sample.left, answer.sample.right]).tolist()
    ids = np.concatenate([answer.left_ids, answer.right_ids]).tolist()
    wrong = mistakes.find(db, network, asked.spec, dict(zip(numbers, ids, strict=True)))
    if asked.spec.search.m == (None,):
        return View(db, asked, answer, None, reading.of(answer, network), wrong)
    whole = known.answer(db, _unprojected(asked.spec), network)
    return View(db, asked, answer, reading.of(answer, network), reading.of(whole, network), wrong)


def _unprojected(spec: AuditSpec) -> AuditSpec:
    """The same question without projection, where there is one answer whatever N."""
    return spec.replace(m=(None,), projections=1)


def _live(view: View, running: AuditRecord | None, shown: Shown) -> None:
    """Progress, headline, curves, bars and the table; redrawn on its own while an audit of this network is active."""

    def draw(moved: object, own: bool) -> None:
        if not moved:
            _standing(view)
            _draw(view.exactly() if reading.prepared(view.mark) else view, shown)
            return
        mark = (moved, view.question.spec.key, screen.dark())
        kept = st.session_state.get("live_view")
        if kept is None or kept[0] != mark:  # read again only when the audit has moved
            kept = (mark, _view(view.db, view.question))
            st.session_state["live_view"] = kept
        if not own:
            _standing(kept[1])
        _draw(kept[1], shown, None if running is None else audits.get(view.db, running.id))

    specs = [view.question.spec, _unprojected(view.question.spec)]
    progress.follow(view.db, [] if running is None else [running], specs, draw)


def _standing(view: View) -> None:
    """What is known and what Start would do, where nothing runs."""
    missing, spec = view.answer.missing, view.question.spec
    if missing == 0 and view.answer.left_out:
        st.success(
            f"{view.answer.known:,} of {view.answer.total:,} pairs are known; the others cannot change these curves, "
            "as far as can be guessed. Nothing needs computing; choose Pairs: all for every distance."
        )
        return
    if missing == 0:
        st.success(f"All {view.answer.total:,} pairs are known; nothing needs computing.")
        return
    duration = asking.duration(view.db, [asking.Lack(view.question.network, view.question.spec, missing)])
    if view.answer.known == 0:
        st.info(f"Nothing is known yet. Start computes {missing:,} pairs, {duration}.")
    else:
        st.info(
            f"{view.answer.known:,} of {view.answer.total:,} pairs are known. Start computes "
            f"{f'those of the other {missing:,} that matter' if spec.needed else f'the other {missing:,}'}, {duration}."
        )
    last = next((audit for audit in audits.recent(view.db, 5, kind="audit") if audit.spec == view.question.spec), None)
    if last is not None and last.state == "failed":
        st.error(f"The last try failed: {screen.escape(last.error or 'the reason is not known.')}")


def _draw(view: View, shown: Shown, running: AuditRecord | None = None) -> None:
    """The figures, and then what takes longer: how sure they are over the images."""
    shown.view = view
    sentences = st.container()
    _say_mistakes(view)
    _choose_shown(view, shown)
    places = st.columns(2, gap="medium") if view.projected is not None else [st.container()]
    readings = [view.asked] if view.projected is None else [view.projected, view.whole]
    for place, one in zip(places, readings, strict=True):
        with place:
            _draw_curves(view, shown, one, running)
    shown.bars = question.choose_number()
    places = st.columns(len(readings), gap="medium")
    table = st.container()
    errors = st.container()
    for place, one in zip(places, readings, strict=True):
        if one in view.drawn:
            with place:
                _draw_bars(view, shown, one)
    with table:
        whole = _table(view, shown.at)
        losses = [name for name in whole if name.split(",")[0] in ("layer", *LOSSES)]
        others = ["layer", *(name for name in whole if name not in losses)]
        # Two tables, since one of all columns is cut in a window of 1440 pixels.
        for columns, alt in ((losses, "Layers with ε½ and losses"), (others, "Layers with distances and sizes")):
            st.dataframe(
                whole[columns],
                hide_index=True,
                width="stretch",
                placeholder="–",
                column_config=screen.number_columns(FORMATS),
                alt=alt,
            )
    head = _errors(view, shown, dark=screen.dark())
    if head is not None:
        with errors:
            st.subheader("What the head costs", anchor=False)
            alt = "Error of the network under attack beside the least error of any classifier on its logits"
            screen.show(head, "errors", f"strata-errors-{view.question.spec.key[:8]}", alt)
            captions.show(_errors_caption(view))
    shown.headline = _headline(view, shown)
    with sentences:
        for sentence in shown.headline:
            st.markdown(screen.escape(sentence))


def _draw_curves(view: View, shown: Shown, one: reading.Reading, running: AuditRecord | None) -> None:
    """One reading: what it is, its curves and their caption; or how to get it."""
    st.subheader(_title(one), anchor=False)
    st.caption(screen.escape(reading.ABOUT[one.m is None]))
    same = running is not None and running.spec == one.answer.spec
    if one not in view.drawn:
        _offer(view, one, at_work=same)
        return
    final = running.final_epsilon if running is not None and same else None
    figure = _curves(view, shown, one, final=final, dark=screen.dark())
    name = _name(one)
    screen.show(figure, f"curves{name}", f"strata-curves{name}-{one.answer.spec.key[:8]}", ALT[one.m is None])
    if one is not view.asked and one.answer.missing:
        _offer(view, one, at_work=same)
    captions.show(_caption(view, shown, one))


ALT = {
    False: "Optimal loss over the budget ε through random mixtures, a line a layer",
    True: "Optimal loss over the budget ε without projection, a line a layer",
}


def _title(one: reading.Reading) -> str:
    return "Without projection" if one.m is None else f"Through m = {one.m} mixtures"


def _name(one: reading.Reading) -> str:
    """Of its figures and files."""
    return "_whole" if one.m is None else ""


def _offer(view: View, one: reading.Reading, *, at_work: bool) -> None:
    """One button computes the reading that was not asked for, unless it is at work already."""
    if at_work:
        st.caption(
            "The first pairs are being searched …" if not one.answer.known else "More pairs are being searched …"
        )
        return
    missing = one.answer.missing
    lack = asking.Lack(view.question.network, one.answer.spec, missing)
    which = "Nothing is known" if not one.answer.known else f"{one.answer.known:,} of {one.answer.total:,} pairs known"
    st.caption(f"{which} without projection yet; {missing:,} pairs, about {asking.duration(view.db, [lack])}.")
    other = question.Question(view.question.network, one.answer.spec)
    st.button("Compute without projection", key="compute_whole", on_click=_start_beside, args=(view.db, other))
    if st.session_state.pop("started_beside", False):
        st.rerun()  # the whole screen: it follows the audits that were active when it was drawn


def _start_beside(db: Database, other: question.Question) -> None:
    asking.submit(db, [(other.network, other.spec)])
    st.session_state["started_beside"] = True


def _say_mistakes(view: View) -> None:
    """Images that are misclassified without any attack, and how to leave them out."""
    if st.session_state.pop("left_some_out", False):
        st.rerun()  # the whole screen, for the question is another one
    if not view.mistakes:
        return
    numbers = ", ".join(str(number) for number in view.mistakes)
    spec = view.question.spec
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(
            f"Without any attack {screen.escape(spec.network)} errs on {len(view.mistakes)} of these "
            f"{2 * spec.sample.size} images, as far as is known: {numbers}.",
            width="content",
        )
        left_out = mistakes.to_leave_out(view.question.network, spec, view.mistakes)
        st.button("Leave out", key="leave_out", on_click=_leave_out, args=(left_out,))


def _leave_out(numbers: tuple[int, ...]) -> None:
    st.session_state["left_out"] = " ".join(str(number) for number in numbers)
    st.session_state["left_some_out"] = True


def _choose_shown(view: View, shown: Shown) -> None:
    """The widgets above the figures."""
    spec, network = view.question.spec, view.question.network
    with st.container(horizontal=True, vertical_alignment="center"):
        shown.single = st.toggle("Single projections", key="single", bind=question.BOUND) and _many(view.asked)
        shown.input_space = st.toggle(
            "Input", value=True, key="input", bind=question.BOUND, help="The images themselves, seen as the layers are."
        )
        shown.gap = any(resting.gap(group) for group in view.answer.groups.values()) and st.toggle(
            "Search gap", key="gap", bind=question.BOUND,
            help="How much higher a curve would lie if every distance were shorter by what several searches found on "
            "random pairs (90 % quantile), and the pairs left out as near as they could well be.",
        )  # fmt: skip
        measured = _attacked(view)
        losses = [] if measured is None else list(measured.losses)
        stated = bool(losses) or words.pgd_accuracy(network, spec) is not None
        shown.attacks = stated and st.toggle(
            "Attacks",
            key="attacks",
            bind=question.BOUND,
            help="Loss under attack and PGD accuracy, from the network's card",
        )
        if shown.attacks and len(losses) > 1:
            question.forget("attack", losses)
            shown.attack = str(
                st.selectbox(
                    "Attack", losses, key="attack", bind=question.BOUND, label_visibility="collapsed", width=170
                )
            )
        else:
            shown.attack = losses[0] if losses else ""
    shown.at = question.choose_epsilon(spec.epsilon.values(), spec.search.threat)


def _curves(
    view: View, shown: Shown, one: reading.Reading, *, final: float | None = None, dark: bool = False
) -> go.Figure:
    """The curves of one reading."""
    spec, network = view.question.spec, view.question.network
    measured = _attacked(view) if shown.attacks else None
    curves = one.curves
    if shown.gap:
        curves = [
            replace(curve, upper=resting.upper(one.answer, group))
            for curve, group in zip(curves, one.answer.groups.values(), strict=True)
        ]
    return layer_curves(
        spec.epsilon.values(),
        curves,
        _colours(view, dark),
        images=one.images_curve if shown.input_space else None,
        overlays={shown.attack: measured.losses[shown.attack]} if measured and shown.attack else None,
        said=measured.gaps(shown.attack) if measured else (),
        accuracy=words.pgd_accuracy(network, spec) if shown.attacks else None,
        single=shown.single,
        mark=shown.at,
        final=final,
        threat=spec.search.threat,
        dark=dark,
    )


def _attacked(view: View) -> references.References | None:
    """What the card states of attacks on the images of the sample; None where one of them was left out."""
    left_out = view.question.spec.sample.left_out
    return None if left_out else references.of(view.question.network, view.question.spec)


def _draw_bars(view: View, shown: Shown, one: reading.Reading) -> None:
    name = _name(one)
    alt = f"{_title(one)}: {shown.bars} of each layer"
    figure = _bars(view, shown, one, dark=screen.dark())
    screen.show(figure, f"by_layer{name}", f"strata-layers{name}-{one.answer.spec.key[:8]}", alt)
    captions.show(_bars_caption(view, shown, one))


def _bars(view: View, shown: Shown, one: reading.Reading, *, dark: bool = False) -> go.Figure:
    """ε½ by layer, or the loss by layer at the chosen budget."""
    colours = _colours(view, dark)
    threat = view.question.spec.search.threat
    layers = one.layers if shown.input_space and one.images_curve is not None else one.layers[1:]
    if shown.bars == question.LOSS:
        epsilon = view.question.spec.epsilon.values()
        return attribution.loss_by_layer(epsilon, [layer.curve for layer in layers], shown.at, colours, dark=dark)
    bars = reading.half_bars(one)[-len(layers) :]
    digits = 2 if threat.norm == "l2" else 3
    return attribution.by_layer(bars, colours, f"ε½ ({threat.symbol} norm)", digits=digits, dark=dark)


def _errors(view: View, shown: Shown, *, dark: bool = False) -> go.Figure | None:
    """The network's error beside the least error at its logits, on the same images; None where either is not known."""
    network, epsilon = view.question.network, view.question.spec.epsilon
    head = reading.head(view.drawn, network)
    if head is None:
        return None
    return charts_errors.errors(
        epsilon.values(),
        *head.curves(epsilon),
        gaps=head.gaps(epsilon),
        colour=_colours(view, dark)[network.layers[-1].name],
        mark=shown.at,
        threat=view.question.spec.search.threat,
        dark=dark,
    )


def _errors_caption(view: View) -> Caption:
    network = view.question.network
    measured = references.of(network, view.question.spec)
    attack, about = ("", "") if measured is None else (measured.best, measured.about)
    return Caption(
        f"Errors of {network.name} on {images_of(view.question.spec)}, asked for these two classes only."
        f"{captions.in_doubt(network)}",
        f"Solid: the share that an attack ({attack}) misleads "
        "with a perturbation of at most ε, within the pixel range. Dashed: the share on which every classifier errs "
        f"that sees {network.layers[-1].name} alone, a lower bound from found collisions, which may leave the pixel "
        "range. Dotted: the same for every classifier of the images. Between solid and dashed lies the head's cost."
        f"{about}",
    )


def _colours(view: View, dark: bool) -> dict[str, str]:
    return style.layer_colours([layer.name for layer in view.question.network.layers], dark)


def _headline(view: View, shown: Shown) -> tuple[str, ...]:
    """One sentence a reading of which every pair is known, and one about the head."""
    said = []
    if view.projected is not None and view.projected.whole and view.projected.m and view.projected.images_curve:
        layers = view.projected.layers
        said.append(headline.projected([one.name for one in layers], [one.halves for one in layers], view.projected.m))
    if view.whole.whole:
        layers = view.whole.layers
        losses = [reading.without_one(one.matrices[0], shown.at) for one in layers]
        said.append(headline.unprojected([one.name for one in layers], losses, shown.at))
    head = reading.head(view.drawn, view.question.network)
    if head is not None:
        spec = view.question.spec
        images, box = 2 * spec.sample.size, spec.search.threat.box
        said.append(headline.head(*head.at(shown.at), shown.at, images, head.attack, box=box))
    return tuple(said)


def _caption(view: View, shown: Shown, one: reading.Reading) -> Caption:
    """The caption of the curves, with a sentence for each overlay that is drawn."""
    spec, network = view.question.spec, view.question.network
    drawn = "a line each" if shown.single else captions.band_of(one)
    settings = captions.of_question(one.answer, one.curves, network, drawn=drawn)
    sentences = [settings.more + captions.one_serves_all(one)]
    sentences.append(
        f"Log 2: no better than guessing under attack, from {'f(x)' if one.m is None else 'A f(x)'}, on this sample. "
        "Between the budgets of the range too a curve is nowhere above that bound."
    )
    if shown.input_space:
        mixtures = "" if one.m is None else f", seen through m = {one.m} random mixtures of their pixels"
        drawn_images = one.images_curve is not None
        sentences.append(f"Dotted: the images themselves{mixtures}; exact." if drawn_images else reading.NO_INPUT)
    if one.m is None and spec.search.threat.norm != "l2":
        sentences.append(
            "Layers of more than 1,024 features are searched here for what is small in ℓ2: their ℓ∞ distances are "
            "upper bounds that can be far too large."
        )
    measured = _attacked(view) if shown.attacks else None
    if measured is not None and shown.attack:
        sentences.append(measured.of_losses(shown.attack))
    if shown.attacks and words.pgd_accuracy(network, spec):
        sentences.append(
            f"PGD accuracy, right axis: {words.pgd_images(network)} of the two classes, asked for these two only, "
            f"under PGD in {spec.search.threat.symbol}."
        )
    return Caption(settings.first, " ".join(sentences))


def _bars_caption(view: View, shown: Shown, one: reading.Reading) -> Caption:
    """What the bars are, and what their whiskers."""
    what = f"loss at ε = {shown.at:g}"
    if shown.bars == question.HALF:
        what = "ε½, the least budget at which the loss reaches ½ log 2"
    whiskers = captions.whiskers_of(one, half=shown.bars == question.HALF)
    meaning = "a difference of two bounds but for the first"
    if one.m is not None:
        meaning += ", which rises and falls, and is neither lost nor kept"
    bounds = ""
    if any(curve.known and curve.lower for curve in one.curves):
        bounds = " Hatched: a bound only, for pairs are unknown; no change is stated beside it."
    if not all(curve.known for curve in one.curves):
        bounds += " Of a layer marked ? nothing is known yet."
    return Caption(
        f"{_title(one)}: {what}{whiskers}.{captions.in_doubt(view.question.network)}",
        f"Below each layer stands the change from the one before: {meaning}. Found distances make every loss a lower "
        f"bound, and every ε½ an upper one.{captions.one_serves_all(one)}{bounds}",
    )


def _many(one: reading.Reading) -> bool:
    """Whether some layer has several projections; without projection there is one answer, whatever N."""
    return any(len(curve.losses) > 1 for curve in one.curves)


def _table(view: View, at: float) -> pd.DataFrame:
    """A row a layer, the input first: ε½ and loss at the budget `at` in both readings, distances and certificate."""
    shapes = {layer.name: "×".join(str(size) for size in layer.shape) for layer in view.question.network.layers}
    shapes[reading.INPUT] = "×".join(str(size) for size in view.question.network.input_shape)
    asked = _numbers(view, view.asked, at)
    beside = _numbers(view, view.whole, at) if view.whole in view.drawn[1:] else None
    rows = []
    before: int | None = None
    for place, layer in enumerate(view.asked.layers):
        curve = layer.curve
        row: dict[str, object] = {"layer": layer.name, **asked[place]}
        if beside is not None:
            row |= {f"{name}, no projection": beside[place][name] for name in ("ε½", "interval", "loss")}
        row |= _distances(view, layer)
        row |= {
            "shape": shapes[layer.name],
            "features nj": curve.features,
            "to the one before": question.ratio(before, curve.features).strip(" ()") if place > 1 else "",
        }
        rows.append(row | _certificate(view, layer))
        before = curve.features
    return pd.DataFrame(rows)


def _numbers(view: View, one: reading.Reading, at: float) -> list[dict[str, object]]:
    """ε½ and loss of every layer of a reading, and the change of the loss from the one before."""
    losses = attribution.loss_bars(view.question.spec.epsilon.values(), [layer.curve for layer in one.layers], at)
    halves = reading.half_bars(one)
    changes = [None, *attribution.changes_of(losses)]
    digits = 2 if view.question.spec.search.threat.norm == "l2" else 3
    return [
        {"ε½": half.value, "interval": attribution.interval_of(half, digits), "loss": loss.value, "change": change}
        for half, loss, change in zip(halves, losses, changes, strict=True)
    ]


def _distances(view: View, layer: reading.Layer) -> dict[str, object]:
    """The mean is of whole projections: of some pairs only it would be too small, the nearest are computed first."""
    if layer.name == reading.INPUT and not layer.matrices:
        return {"mean distance": None, "least distance": None, "known": "", "search gap": None}
    if layer.name == reading.INPUT:
        every = np.concatenate([one.ravel() for one in layer.matrices])
        return {"mean distance": float(every.mean()), "least distance": float(every.min()), "known": "exact",
                "search gap": None}  # fmt: skip
    curve, group = layer.curve, view.answer.groups[layer.name, layer.curve.m]
    complete = [projection.matrix.distance.ravel() for projection in group if projection.matrix.complete]
    whole = np.concatenate(complete or [np.empty(0)])
    distance = np.concatenate([projection.matrix.distance.ravel() for projection in group])
    found = distance[np.isfinite(distance)]
    return {
        "mean distance": float(whole.mean()) if whole.size else None,
        "least distance": float(found.min()) if found.size else None,
        "known": f"{curve.known:,} of {curve.total:,}",
        "search gap": None if (gap := resting.gap(group)) is None else gap.mean,
    }


def _certificate(view: View, layer: reading.Layer) -> dict[str, object]:
    if layer.name == reading.INPUT:
        return {"collided": "", "passes a pair": None}
    group = view.answer.groups[layer.name, layer.curve.m]
    found = np.concatenate([projection.matrix.known.ravel() for projection in group])
    collided = np.concatenate([projection.matrix.collided.ravel() for projection in group])
    passes = np.concatenate([projection.matrix.passes.ravel() for projection in group])
    return {
        "collided": f"{collided[found].mean():.1%}" if found.any() else "",
        "passes a pair": float(passes[found].mean()) if found.any() else None,
    }


def _pairs(view: View, shown: Shown) -> None:
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
    shown.matrix = projection
    rows, columns = matrix.nearest_first(projection.matrix.distance)
    left, right = view.answer.sample.left[rows], view.answer.sample.right[columns]
    chosen = pair.in_address(left.tolist(), right.tolist())
    pair.say_if_strange(left.tolist(), right.tolist())
    picture, table = st.columns([1.15, 1], gap="medium")
    with picture:
        screen.show(
            _matrix(view, projection, chosen, dark=screen.dark()),
            "matrix",
            "strata-distances",
            "Distances of all pairs; the table beside it offers the closest ones to the keyboard",
            on_select=lambda: _clicked_cell(left.tolist(), right.tolist()),
            selection_mode="points",
        )
        captions.show(_matrix_caption(view, projection, layer))
    with table:
        closest = _closest(projection, view)
        pair.table(closest, 440)
    if chosen is not None:
        _open_pair(view, (layer, number), *chosen, closest)


def _matrix(
    view: View, projection: known.Projection, chosen: tuple[int, int] | None = None, *, dark: bool = False
) -> go.Figure:
    """The distances of a projection, the nearest images first; the cell of the images `chosen` is framed."""
    rows, columns = matrix.nearest_first(projection.matrix.distance)
    left, right = view.answer.sample.left[rows].tolist(), view.answer.sample.right[columns].tolist()
    return matrix.distance_matrix(
        projection.matrix.distance[np.ix_(rows, columns)],
        projection.matrix.collided[np.ix_(rows, columns)],
        left,
        right,
        _class_names(view),
        norm=view.question.spec.search.threat.symbol,
        edge=([i in view.mistakes for i in left], [i in view.mistakes for i in right]),
        chosen=None if chosen is None else (left.index(chosen[0]), right.index(chosen[1])),
        dark=dark,
    )


def _matrix_caption(view: View, projection: known.Projection, layer: str) -> Caption:
    spec, series = view.question.spec, projection.spec
    n = view.question.network.features[layer]
    m = (
        f"no projection, nj = {n:,}"
        if series.m is None
        else f"nj = {n:,}, m = {series.m}, projection seed {series.seed}"
    )
    drawn = "every pair" if spec.sample.size <= matrix.LARGEST else f"the nearest {matrix.LARGEST} images of each class"
    return Caption(
        f"Distance of {drawn} at {layer} ({m}). Click a cell to open its pair."
        f"{captions.doubts([view.question.network])}",
        f"{images_of(spec)}; {method_of(spec, series.method_version)}. A cross marks pairs for which no collision was "
        f"verified. {range_of(spec)}."
        + (
            " A red bar at the edge marks images on which the network errs without any attack." if view.mistakes else ""
        ),
    )


def _class_names(view: View) -> tuple[str, str]:
    spec = view.question.spec
    first, second = (datasets.class_name(spec.sample.dataset, label) for label in spec.sample.classes)
    return first, second


def _clicked_cell(left: list[int], right: list[int]) -> None:
    points = st.session_state["figure_matrix"].selection.points
    if points:
        i, j, *_ = points[0]["customdata"]
        pair.go(left[int(i)], right[int(j)])


def _closest(projection: known.Projection, view: View) -> pd.DataFrame:
    found, answer = projection.matrix, view.answer
    i, j = np.nonzero(found.known)
    order = np.argsort(found.distance[i, j], kind="stable")[: pair.LISTED]
    i, j = i[order], j[order]
    closest = pd.DataFrame(
        {
            "x": answer.sample.left[i],
            "x′": answer.sample.right[j],
            "distance": found.distance[i, j].round(4),
            "residual": found.residual[i, j],
            "collided": found.collided[i, j],
            "passes": found.passes[i, j].round().astype(int),
        }
    )
    mistakes.mark(closest, view.mistakes)
    return closest


def _open_pair(view: View, shown: tuple[str, int], left: int, right: int, closest: pd.DataFrame) -> None:
    """The pair of the images `left` and `right` at the layer and the number of the projection that are `shown`."""
    spec = view.question.spec
    layer, number = shown
    projection = view.answer.groups[layer, spec.search.m[0]][number - 1]
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
    opened = [pair.Chosen(projection.spec, spec.sample.dataset, spec.sample.split, left, right)]
    asked = [one.spec for group in view.answer.groups.values() for one in group]
    there, lacking = pair.gather(view.db, opened, asked)
    if there:
        pair.show(there)
    pair.wait_for(view.db, opened, lacking)


def _panels(view: View, shown: Shown) -> list[paper.Panel]:
    """The figures of what is shown, in the light theme whatever the screen's."""
    panels = []
    for one in view.drawn:
        panels.append((_title(one), _curves(view, shown, one)))
        number = shown.bars if shown.bars == question.HALF else f"loss at ε = {shown.at:g}"
        panels.append((f"{_title(one)}: {number}", _bars(view, shown, one)))
    head = _errors(view, shown)
    if head is not None:
        panels.append(("What the head costs", head))
    if shown.matrix is not None:
        panels.append((f"Distances at {shown.matrix.spec.layer}", _matrix(view, shown.matrix)))
    return panels


def _report(view: View, shown: Shown) -> str:
    """The report of what is shown."""
    view = view.exactly()
    said = [*shown.headline]
    for one in view.drawn:
        said += [
            f"{_title(one)}: {reading.ABOUT[one.m is None]}",
            str(_caption(view, shown, one)),
            str(_bars_caption(view, shown, one)),
        ]
    if _errors(view, shown) is not None:
        said.append(str(_errors_caption(view)))
    if shown.matrix is not None:
        said.append(str(_matrix_caption(view, shown.matrix, shown.matrix.spec.layer)))
    return report.page(
        f"{view.question.network.name}: robustness layer by layer",
        [_part(view, shown)],
        [figure for _, figure in _panels(view, shown)],
        {f"Layers at ε = {shown.at:g}": _table(view, shown.at)},
        " ".join(said),
        FORMATS,
    )


def _part(view: View, shown: Shown) -> export.Part:
    """What is shown, with every overlay that is on."""
    spec, network = view.question.spec, view.question.network
    epsilon = spec.epsilon.values()
    overlays = []
    if shown.input_space:
        overlays += [export.of_images(epsilon, curve) for one in view.drawn if (curve := one.images_curve)]
    overlays += [
        export.Overlay("no projection", epsilon, curve.mean, curve=curve, answer=view.whole.answer)
        for one in view.drawn[1:]
        for curve in one.curves
        if curve.known
    ]
    if shown.attacks:
        measured = _attacked(view)
        for name, loss in ({} if measured is None else measured.losses).items():  # all of them, whichever is drawn
            overlays += export.of_card(name, loss)
        overlays += export.of_card("PGD accuracy", words.pgd_accuracy(network, spec))
    return export.Part(network, view.answer, view.asked.curves, tuple(overlays))


main()
