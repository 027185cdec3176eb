"""Compare: up to six networks on the same axes, layer by layer, or up to three with and without the pixel range."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from charts import attribution, compare, paper, style
from charts.captions import Caption, range_of
from charts.curves import Curve, value_at
from pages.parts import (
    asking,
    captions,
    export,
    known,
    progress,
    question,
    reading,
    report,
    screen,
    take_away,
    words,
)
from robustness_core.found import Floats
from robustness_core.spec import AuditSpec, Threat
from store.database import Database
from store.records import NetworkRecord

MOST = 6
# Of the numbers in the table of networks; each stands there at the chosen budget.
FORMATS = {"loss of first layer": "%.4f", "loss of logits": "%.4f", "PGD accuracy": "%.1f %%"}


@dataclass(frozen=True)
class Side:
    """One network of the comparison, what is asked of it, and what it is called if its name does not say enough."""

    network: NetworkRecord
    spec: AuditSpec
    label: str = ""


def main() -> None:
    db, found = screen.begin_with_networks("Compare")
    available = {network.name: network for network in found}
    left, right = st.columns([1, 2.8], gap="large")
    with left:
        sides = _ask(available)
        asking.start(db, [(side.network, side.spec) for side in sides])
    with right:
        if not sides:
            return
        running = progress.active(db, {side.network.name for side in sides})
        specs = [side.spec for side in sides]
        drawn: list[reading.Reading] = []

        def draw(_: object, own: bool) -> None:
            drawn[:] = _draw(db, sides, idle=not own)

        progress.follow(db, running, specs, draw)
        reading.prepare([one.layers for one in drawn], _mark(drawn))


def _mark(readings: list[reading.Reading]) -> object:
    """What decides the curves."""
    return [(one.answer.spec.key, one.answer.known) for one in readings]


def _ask(available: dict[str, NetworkRecord]) -> list[Side]:
    question.forget("networks", available)
    chosen = st.multiselect(
        "Networks",
        list(available),
        question.shown_first(list(available), 2),
        key="networks",
        bind=question.BOUND,
        max_selections=MOST,
        wrap=True,
    )
    if not chosen:
        st.error("Choose two to six networks.")
        return []
    shapes = {available[name].input_shape for name in chosen}
    if len(shapes) > 1:
        st.error("These networks take images of different shapes; choose networks of one data set.")
        return []
    form = question.Form(shapes.pop(), both=True)
    if form.both and 2 * len(chosen) > MOST:
        st.error(f"Choose at most {MOST // 2} networks, for each is drawn twice.")
        return []
    if len(chosen) == 1 and not form.both:
        st.info("A comparison needs a second network, or any and valid images side by side.")
    sides = []
    for name in chosen:
        layers = tuple(layer.name for layer in available[name].layers if layer.main)
        spec = form.spec(available[name], layers)
        if spec is None:
            return []
        if form.both:
            norm = spec.search.threat.norm
            sides += [
                Side(available[name], spec.replace(threat=Threat(norm, box=box)), f"{name} ({which})")
                for box, which in ((False, "any images"), (True, "valid images"))
            ]
        else:
            sides.append(Side(available[name], spec))
    return sides


@dataclass(frozen=True, eq=False)
class View:
    """What is drawn: a reading and a part of each network, and how it is looked at.

    `number` is what is drawn by layer, at the budget `at` where that is the loss; `taken` the network whose numbers are
    taken away from all, if any.
    """

    readings: list[reading.Reading]
    parts: list[export.Part]
    at: float
    number: str
    relative: bool
    taken: str | None

    @property
    def spec(self) -> AuditSpec:
        return self.parts[0].answer.spec

    @property
    def names(self) -> list[str]:
        return [part.name for part in self.parts]

    @property
    def both(self) -> bool:
        """Whether each network is drawn with and without the pixel range."""
        return len({part.answer.spec.search.threat for part in self.parts}) > 1

    @property
    def images(self) -> reading.Layer:
        """The images themselves, the same for all networks; with the pixel range, where that is drawn beside."""
        return self.readings[-1].images

    @property
    def images_curve(self) -> Curve | None:
        return self.readings[-1].images_curve

    @property
    def most(self) -> int:
        """The projections that a mean is over, of the layer that has most."""
        return max(len(curve.averaged) for one in self.readings for curve in one.curves)

    def measured(self) -> dict[str, list[compare.Measured]]:
        """The number of each layer of each network."""
        return {
            name: [self._of(layer) for layer in one.layers[1:]]
            for name, one in zip(self.names, self.readings, strict=True)
        }

    def of_images(self) -> compare.Measured | None:
        """Those of the images, where they are known."""
        return self._of(self.images) if self.images.curve.known else None

    def _of(self, layer: reading.Layer) -> compare.Measured:
        if self.number == question.HALF:
            return compare.Measured(layer.curve, np.array(layer.halves))
        (found,) = compare.losses(self.spec.epsilon.values(), [layer.curve], self.at)
        return found


def _draw(db: Database, sides: list[Side], *, idle: bool) -> list[reading.Reading]:
    """Everything that is shown; returns what the curves are drawn from."""
    answers = [known.answer(db, side.spec, side.network) for side in sides]
    readings = [reading.of(answer, side.network) for side, answer in zip(sides, answers, strict=True)]
    if reading.prepared(_mark(readings)):
        readings = [reading.exactly(one) for one in readings]
    parts = [_part(side, one) for side, one in zip(sides, readings, strict=True)]
    if idle:
        _standing(db, parts)
    (m,) = sides[0].spec.search.m
    st.subheader("Without projection" if m is None else f"Through m = {m} mixtures", anchor=False)
    st.caption(screen.escape(reading.ABOUT[m is None]))
    view = _look(readings, parts)
    accuracies = {part.name: _accuracy(view, part) for part in parts}
    measured = any(accuracies.values())

    def figures(*, dark: bool) -> tuple[go.Figure, go.Figure, go.Figure | None]:
        return (
            _by_depth(view, dark=dark),
            compare.small_multiples(
                view.spec.epsilon.values(),
                {part.name: part.curves for part in parts},
                columns=2 if len(parts) in (2, 4) else 3,
                images=view.images_curve,
                threat=view.spec.search.threat,
                dark=dark,
            ),
            compare.accuracy_by_budget(accuracies, view.at, dark=dark) if measured else None,
        )

    def panels() -> list[paper.Panel]:
        headings = _what(view), "Curves", "Accuracy under PGD"
        return [(name, one) for name, one in zip(headings, figures(dark=False), strict=True) if one is not None]

    table, halves = _table(parts, accuracies, view.at), _halves(view)
    in_rows = _in_rows(view, halves)
    means = ", means over projections" if view.most > 1 else ""
    by_depth, multiples, accuracy = figures(dark=screen.dark())
    left, right = st.columns([3, 2])
    with left:
        screen.show(by_depth, "depth", "strata-depth", f"{_what(view)} of each network{means}")
    with right:
        if accuracy is not None:
            alt = "Accuracy of each network under PGD over the budget"
            screen.show(accuracy, "accuracy", "strata-accuracy", alt)
        else:
            st.info(f"No card states an accuracy under PGD in {view.spec.search.threat.symbol} for these two classes.")
    formats = {f"{name} at ε = {view.at:g}": form for name, form in FORMATS.items()}
    # Cells of these tables break into lines: a table of streamlit's other kind cuts its last columns.
    st.table(report.in_text(table, formats).map(screen.escape), hide_index=True, alt="Networks, loss and accuracies")
    st.subheader("ε½ of each layer", anchor=False)
    st.table(in_rows.map(screen.escape), hide_index=True, alt="ε½ of each layer with its interval")
    st.subheader("Curves", anchor=False)
    screen.show(multiples, "multiples", "strata-compare", f"Layer curves of each network on the same axes{means}")
    caption = _caption(view, [part.network for part in parts if accuracies[part.name]])
    captions.show(caption)
    tables = {"Half budgets": lambda: pd.concat(halves)}
    if view.taken is not None:
        tables["Differences"] = lambda: _differences(view)
    take_away.show(
        f"strata-compare-{view.spec.key[:8]}",
        lambda: parts,
        lambda: report.page(
            f"Robustness layer by layer: {', '.join(view.names)}",
            parts,
            [figure for _, figure in panels()],
            {"Networks": table, "ε½ of each layer": in_rows},
            str(caption),
            formats,
        ),
        panels,
        {"networks": list(dict.fromkeys(part.network.name for part in parts))},
        tables,
    )
    return readings


def _look(readings: list[reading.Reading], parts: list[export.Part]) -> View:
    """The widgets above the figures: which number of each layer, at which budget, aligned and subtracted how."""
    names = [part.name for part in parts]
    number = question.choose_number()
    at = question.choose_epsilon(parts[0].answer.spec.epsilon.values(), parts[0].answer.spec.search.threat)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        relative = st.toggle(
            "Align by relative depth", key="relative", bind=question.BOUND,
            help="Puts the first layer of each network at 0 and its logits at 1, however many layers it has.",
        )  # fmt: skip
        question.forget("minus", ["nothing", *names])
        minus = st.selectbox(
            "Subtract", ["nothing", *names], key="minus", bind=question.BOUND, width=260,
            help="Draws every network's number minus that of this one, at the layer of the same place or, aligned by "
            "relative depth, interpolated. Both are bounds, so that their difference is none.",
        )  # fmt: skip
    # Differences are drawn once a layer of the network that is taken away is known for good, see `differences`.
    taken = next((part.name for part in parts if part.name == minus and _has_base(part)), None)
    return View(readings, parts, at, number, relative, taken)


def _by_depth(view: View, *, dark: bool) -> go.Figure:
    """The number by layer, or its difference to that of the network that is taken away."""
    half = view.number == question.HALF
    norm = f"({view.spec.search.threat.symbol} norm)"
    title = f"ε½ {norm}" if half else f"loss at ε = {view.at:g} (nats)"
    if view.taken is not None:
        of = f"upper bounds, ε½ {norm}" if half else f"lower bounds at ε = {view.at:g} (nats)"
        title = f"difference of {of}"
    return compare.by_depth(
        view.measured(),
        title,
        images=view.of_images(),
        top=None if half else style.LOG2,
        relative=view.relative,
        minus=view.taken,
        dark=dark,
    )


def _part(side: Side, one: reading.Reading) -> export.Part:
    """What is drawn of one network, with the overlays of its panel and its accuracies."""
    curve = one.images_curve
    images = () if curve is None else (export.of_images(side.spec.epsilon.values(), curve),)
    accuracy = export.of_card("PGD accuracy", words.pgd_accuracy(side.network, side.spec))
    return export.Part(side.network, one.answer, one.curves, (*images, *accuracy), side.label)


def _accuracy(view: View, part: export.Part) -> words.Line | None:
    """What the card states of PGD, whose images are valid; of a network that is drawn twice only beside such."""
    spec = part.answer.spec
    return None if view.both and not spec.search.threat.box else words.pgd_accuracy(part.network, spec)


def _halves(view: View) -> list[pd.DataFrame]:
    """Of each network a row a layer, the images first: ε½ with its interval, of one projection over the images."""
    tables = []
    for one, part in zip(view.readings, view.parts, strict=True):
        bars, digits = reading.half_bars(one), 2 if view.spec.search.threat.norm == "l2" else 3
        table = pd.DataFrame(
            {
                "layer": [bar.layer for bar in bars],
                "features": [layer.curve.features for layer in one.layers],
                "m": "" if one.m is None else one.m,
                "projections": [len(layer.matrices) for layer in one.layers],
                "half budget": [bar.value for bar in bars],
                "low": [bar.low for bar in bars],
                "high": [bar.high for bar in bars],
                "interval over": ["images" if len(layer.matrices) == 1 else "projections" for layer in one.layers],
                "is": ["bound, pairs lack" if bar.sign else "" for bar in bars],
                "in words": [attribution.interval_words(bar, digits) for bar in bars],
            }
        )
        tables.append(export.with_settings(table, part))
    return tables


def _in_rows(view: View, halves: list[pd.DataFrame]) -> pd.DataFrame:
    """ε½ in words, a row a layer by order and a column a network; the images stand in the first row."""
    columns = dict(zip(view.names, halves, strict=True))
    layers = {tuple(column["layer"]) for column in columns.values()}
    most = max(len(column) for column in columns.values())
    same = len(layers) == 1
    rows: dict[str, list[str]] = {
        "layer": list(layers.pop()) if same else [str(i) if i else "input" for i in range(most)]
    }
    for name, column in columns.items():
        cells = [
            text if same or i == 0 else f"{layer}: {text}"
            for i, (layer, text) in enumerate(zip(column["layer"], column["in words"], strict=True))
        ]
        rows[name] = cells + ["–"] * (most - len(cells))
    return pd.DataFrame(rows)


def _has_base(part: export.Part) -> bool:
    """Whether something can be taken away from the other networks: a layer of which more than a bound is known."""
    return any(not curve.lower for curve in part.curves)


def _differences(view: View) -> pd.DataFrame:
    """A row a layer of each network: what the first figure draws while the network `taken` is taken away."""
    taken = view.taken or ""
    apart = compare.differences(view.measured(), taken, relative=view.relative)
    tables = [
        pd.DataFrame(
            {
                "layer": [curve.layer for curve in part.curves],
                "features": [curve.features for curve in part.curves],
                "number": "half budget" if view.number == question.HALF else "loss",
                "epsilon": "" if view.number == question.HALF else view.at,
                "difference": [one.value for one in apart[part.name]],
                "low": [one.low for one in apart[part.name]],
                "high": [one.high for one in apart[part.name]],
                "to": export.plain(taken),
                "aligned by": "relative depth" if view.relative else "layer order",
            }
        )
        for part in view.parts
    ]
    return pd.concat([export.with_settings(table, part) for table, part in zip(tables, view.parts, strict=True)])


def _what(view: View) -> str:
    """What the first figure draws."""
    number = "ε½ by layer" if view.number == question.HALF else f"Optimal loss by layer at the budget ε = {view.at:g}"
    if view.taken is None:
        return number
    how = "interpolated over relative depth" if view.relative else "the same layer by order"
    return f"Difference to {view.taken} ({how}) in {number[0].lower() if number[0] == 'O' else number[0]}{number[1:]}"


def _caption(view: View, measured: list[NetworkRecord]) -> Caption:
    """What the figures draw: a number by layer, the losses over ε, and the accuracies of those `measured`."""
    (m,) = view.spec.search.m
    images = (
        "the images themselves"
        if m is None
        else f"the images themselves, seen through m = {m} mixtures of their pixels"
    )
    first = f"{_what(view)} of {', '.join(view.names)}, and the losses over ε."
    sentences = [
        "ε½: the least budget at which the optimal loss reaches ½ log 2.",
        f"{captions.settings(view.parts[0].answer)}.",
        f"Layers with their features nj: {_layers(view.parts)}.",
        "Over ε lines run from the first layer (dark or cool) to the logits (light or warm); dashed: log 2, no better "
        "than guessing under attack, on this sample.",
        reading.NO_INPUT if view.images_curve is None else f"Dotted: {images}, exact.",
        "Distances are of collisions that were found, and unknown pairs count as no edge: every loss is a lower bound, "
        "every ε½ an upper bound, and a difference of two bounds is none. Thin lines and hollow markers lack pairs"
        f"{'; layers of which no projection is wholly known have no difference' if view.taken else ''}.",
        f"{_range(view)}.",
    ]
    if view.most > 1:
        whiskers = "Student's 95 % intervals of two stand in the table only"
        whiskers = whiskers if view.most == 2 else "whiskers: Student's 95 % intervals"
        order = "" if view.most == 2 else " No order of layers or networks is meant inside them."
        lone = captions.one_serves_all(view.readings[0])
        sentences.insert(2, f"Means over projections are drawn, of these images; {whiskers}.{lone}{order}")
    if view.most == 1:
        sentences.insert(2, "Intervals in the table are over the images (jackknife, 95 %).")
    if measured:
        sentences.append(f"Accuracy: {_tested(measured)}, asked for these two only, under PGD of 40 steps.")
    return Caption(first + captions.doubts([part.network for part in view.parts]), " ".join(sentences))


def _range(view: View) -> str:
    """Where the images that collide lie, and those of PGD."""
    if view.both:
        return (
            "The images that collide stay in the pixel range [0, 1] where a name says valid images and may leave it "
            "where it says any images; those of PGD stay in it"
        )
    return f"{range_of(view.spec)}; those of PGD {'do too' if view.spec.search.threat.box else 'do not'}"


def _layers(parts: list[export.Part]) -> str:
    """The layers with their sizes and how many pairs are known, network by network where they differ."""
    said = []
    for part in parts:
        answer = part.answer
        sizes = ", ".join(f"{layer} ({part.network.features[layer]:,})" for layer in answer.spec.search.layers)
        said.append(f"{sizes}; {answer.known:,} of {answer.total:,} pairs are known" if answer.missing else sizes)
    if len(set(said)) == 1:
        return said[0]
    return ". ".join(f"{part.name}: {one}" for part, one in zip(parts, said, strict=True))


def _tested(measured: list[NetworkRecord]) -> str:
    """On how many images accuracies are measured, network by network where the numbers differ."""
    counts = [words.pgd_images(network) for network in measured]
    if len(set(counts)) == 1:
        return f"{counts[0]} of the two classes"
    each = "; ".join(f"{network.name}: {count}" for network, count in zip(measured, counts, strict=True))
    return f"images of the two classes ({each})"


def _standing(db: Database, parts: list[export.Part]) -> None:
    lacks = [asking.Lack(part.network, part.answer.spec, part.answer.missing) for part in parts if part.answer.missing]
    if not lacks:
        return
    missing = sum(lack.missing for lack in lacks)
    st.info(f"{missing:,} pairs are not known yet; Start computes them, {asking.duration(db, lacks)}.")


def _table(parts: list[export.Part], accuracies: dict[str, words.Line | None], at: float) -> pd.DataFrame:
    """A row a network: what is known, losses at both ends, accuracy of the pair at this budget, on all classes."""

    def loss(curve: Curve, epsilon: Floats) -> float | None:
        return float(value_at(epsilon, curve.averaged, at).mean()) if curve.known else None

    rows = []
    for part in parts:
        line = accuracies[part.name]
        epsilon = part.answer.spec.epsilon.values()
        rows.append(
            {
                "network": part.name,
                "training": words.training(part.network),
                "pairs known": f"{part.answer.known:,} of {part.answer.total:,}",
                f"loss of first layer at ε = {at:g}": loss(part.curves[0], epsilon),
                f"loss of logits at ε = {at:g}": loss(part.curves[-1], epsilon),
                f"PGD accuracy at ε = {at:g}": None  # in per cent
                if line is None or at > line[0][-1]
                else 100 * float(np.interp(at, *line)),
                "all classes": words.accuracies(part.network),
            }
        )
    return pd.DataFrame(rows)


main()
