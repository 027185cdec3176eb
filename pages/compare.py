"""Compare: two to six networks on the same axes, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from charts import compare
from charts.curves import Curve, value_at
from pages.parts import asking, captions, export, known, progress, question, report, screen, take_away, words
from robustness_core.spec import AuditSpec
from store.database import Database
from store.records import NetworkRecord

MOST = 6
# Of the numbers in the table of networks; each stands there at the chosen budget.
FORMATS = {"loss of first layer": "%.4f", "loss of logits": "%.4f", "PGD accuracy": "%.1f %%"}


@dataclass(frozen=True)
class Side:
    """One network of the comparison and what is asked of it."""

    network: NetworkRecord
    spec: AuditSpec


def main() -> None:
    db, found = screen.begin_with_networks("Compare", 2, "A comparison needs two networks on the shelf.")
    shelf = {network.name: network for network in found}
    left, right = st.columns([1, 2.8], gap="large")
    with left:
        sides = _ask(shelf)
    with right:
        if not sides:
            return
        running = progress.active(db, {side.network.name for side in sides})
        specs = [side.spec for side in sides]
        progress.follow(db, running, specs, lambda _, own: _draw(db, sides, idle=not own))


def _ask(shelf: dict[str, NetworkRecord]) -> list[Side]:
    question.forget("networks", shelf)
    chosen = st.multiselect(
        "Networks",
        list(shelf),
        question.shown_first(list(shelf), 2),
        key="networks",
        bind=question.BOUND,
        max_selections=MOST,
        wrap=True,
    )
    if not chosen:
        st.error("Choose two to six networks.")
        return []
    shapes = {shelf[name].input_shape for name in chosen}
    if len(chosen) == 1:
        st.info("A comparison needs a second network.")
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
    answers = [known.answer(db, side.spec, side.network.sha256) for side in sides]
    parts = [_part(side, answer) for side, answer in zip(sides, answers, strict=True)]
    if idle:
        _standing(db, parts)
    epsilon = sides[0].spec.epsilon.values()
    names = [part.network.name for part in parts]
    at = question.choose_epsilon(epsilon)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        relative = st.toggle(
            "Align by relative depth",
            key="relative",
            bind=question.BOUND,
            help="Puts the first layer of each network at 0 and its logits at 1, however many layers it has.",
        )
        question.forget("minus", ["nothing", *names])
        minus = st.selectbox(
            "Subtract", ["nothing", *names], key="minus", bind=question.BOUND, width=260,
            help="Draws every network's loss minus that of this one, at the layer of the same place or, aligned by "
            "relative depth, interpolated.",
        )  # fmt: skip

    # Differences are drawn once a layer of the network that is taken away is known for good, see `loss_by_depth`.
    taken = next((part.network.name for part in parts if part.network.name == minus and _has_base(part)), None)
    accuracies = {part.network.name: words.pgd_accuracy(part.network, part.answer.spec) for part in parts}
    measured = any(accuracies.values())

    def figures(*, dark: bool) -> tuple[go.Figure, go.Figure, go.Figure | None]:
        curves = {part.network.name: part.curves for part in parts}
        return (
            compare.loss_by_depth(epsilon, curves, at, relative=relative, minus=taken, dark=dark),
            compare.small_multiples(
                epsilon,
                curves,
                columns=2 if len(curves) in (2, 4) else 3,
                input_space=known.input_space(parts[0].answer.spec),
                dark=dark,
            ),
            compare.accuracy_by_budget(accuracies, at, dark=dark) if measured else None,
        )

    table = _table(parts, accuracies, at)
    means = ", means over projections" if _many(parts) else ""
    by_depth, multiples, accuracy = figures(dark=screen.dark())
    left, right = st.columns([3, 2])
    with left:
        alt = f"{_what(taken, relative=relative)} of each network at the budget ε = {at:g}{means}"
        screen.show(by_depth, "depth", "strata-depth", alt)
    with right:
        if accuracy is not None:
            alt = "Accuracy of each network under PGD over the budget"
            screen.show(accuracy, "accuracy", "strata-accuracy", alt)
        else:
            st.info("No card states an accuracy under PGD for these two classes.")
    formats = {f"{name} at ε = {at:g}": form for name, form in FORMATS.items()}
    # Its cells break into lines: a table of streamlit's other kind cuts its last columns.
    st.table(report.in_text(table, formats).map(screen.escape), hide_index=True, alt="Networks, loss and accuracies")
    st.subheader("Curves", anchor=False)
    screen.show(multiples, "multiples", "strata-compare", f"Layer curves of each network on the same axes{means}")
    caption = _caption(parts, at, taken, relative, [part.network for part in parts if accuracies[part.network.name]])
    st.caption(screen.escape(caption))
    take_away.show(
        f"strata-compare-{parts[0].answer.spec.key[:8]}",
        lambda: parts,
        lambda: report.page(
            f"Robustness layer by layer: {', '.join(names)}",
            parts,
            [figure for figure in figures(dark=False) if figure is not None],
            {"Networks": table},
            caption,
            formats,
        ),
        {"networks": names},
        {} if taken is None else {"Differences": lambda: _differences(parts, at, taken, relative=relative)},
    )


def _part(side: Side, answer: known.Answer) -> export.Part:
    """What is drawn of one network, with the overlays of its panel and its accuracies."""
    images = export.Overlay("input space", side.spec.epsilon.values(), known.input_space(side.spec))
    accuracy = export.of_card("PGD accuracy", words.pgd_accuracy(side.network, side.spec))
    return export.Part(side.network, answer, known.curves(answer, side.network.features), (images, *accuracy))


def _has_base(part: export.Part) -> bool:
    """Whether something can be taken away from the other networks: a layer of which more than a bound is known."""
    return any(not curve.lower for curve in part.curves)


def _differences(parts: list[export.Part], at: float, taken: str, *, relative: bool) -> pd.DataFrame:
    """A row a layer of each network: what the first figure draws while the network `taken` is taken away."""
    epsilon = parts[0].answer.spec.epsilon.values()
    curves = {part.network.name: part.curves for part in parts}
    apart = compare.differences(epsilon, curves, at, taken, relative=relative)
    tables = [
        pd.DataFrame(
            {
                "layer": [curve.layer for curve in part.curves],
                "features": [curve.features for curve in part.curves],
                "epsilon": at,
                "difference": apart[part.network.name],
                "to": export.plain(taken),
                "aligned by": "relative depth" if relative else "layer order",
            }
        )
        for part in parts
    ]
    return pd.concat([export.with_settings(table, part) for table, part in zip(tables, parts, strict=True)])


def _many(parts: list[export.Part]) -> bool:
    """Whether means over several projections are drawn."""
    return any(len(curve.losses) > 1 for curve in parts[0].curves)


def _what(taken: str | None, *, relative: bool) -> str:
    """What the first figure draws; `taken` is the network whose losses are taken away."""
    if taken is None:
        return "Optimal loss by layer"
    how = "interpolated over relative depth" if relative else "the same layer by order"
    return f"Difference to {taken} ({how}) in optimal loss by layer"


def _caption(
    parts: list[export.Part], at: float, taken: str | None, relative: bool, measured: list[NetworkRecord]
) -> str:
    """What the figures draw: losses or differences to the network `taken`, and the accuracies of those `measured`."""
    names = ", ".join(part.network.name for part in parts)
    over = "over ε" if taken is None else "the losses themselves over ε"
    bound = "a lower bound"
    if taken is not None:
        bound += " and a difference is none; layers of which no projection is wholly known have no difference"
    sentences = [
        f"{_what(taken, relative=relative)} of {names} at the budget ε = {at:g}, and {over}.",
        f"{captions.settings(parts[0].answer)}.",
        f"Layers with their features nj: {_layers(parts)}.",
        "Over ε lines run from the first layer (dark or cool) to the logits (light or warm); dotted: input space; "
        "dashed: log 2.",
        f"Unknown pairs count as no edge, so every curve is {bound}; thin lines and hollow markers lack pairs.",
    ]
    if _many(parts):
        sentences.insert(2, "Means over projections are drawn.")
    if measured:
        sentences.append(f"Accuracy: {_tested(measured)}, asked for these two only, under PGD of 40 steps.")
    return " ".join(sentences) + captions.doubts([part.network for part in parts])


def _layers(parts: list[export.Part]) -> str:
    """The layers with their sizes and how many pairs are known, network by network where they differ."""
    said = []
    for part in parts:
        answer = part.answer
        sizes = ", ".join(f"{layer} ({part.network.features[layer]:,})" for layer in answer.spec.layers)
        said.append(f"{sizes}; {answer.known:,} of {answer.total:,} pairs are known" if answer.missing else sizes)
    if len(set(said)) == 1:
        return said[0]
    return ". ".join(f"{part.network.name}: {one}" for part, one in zip(parts, said, strict=True))


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
    with st.container(horizontal=True, vertical_alignment="center"):
        st.info(f"{missing:,} pairs are not known yet, {asking.duration(db, lacks)} of work.")
        if asking.start_button(width="content"):
            asking.start(db, [lack.spec for lack in lacks])
            st.rerun()


def _table(parts: list[export.Part], accuracies: dict[str, words.Line | None], at: float) -> pd.DataFrame:
    """A row a network: what is known, losses at both ends, accuracy of the pair at this budget, on all classes."""

    def loss(curve: Curve, epsilon: known.Floats) -> float | None:
        return float(value_at(epsilon, curve.averaged, at).mean()) if curve.known else None

    rows = []
    for part in parts:
        line = accuracies[part.network.name]
        epsilon = part.answer.spec.epsilon.values()
        rows.append(
            {
                "network": part.network.name,
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
