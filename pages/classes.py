"""Classes: all classes at once; which of them are near each other, and what images, features and head cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st
from numpy.typing import NDArray

from charts import classes, compare, curves, paper, style
from charts.captions import Caption
from charts.curves import Curve
from pages.parts import asking, captions, data, export, known, progress, question, report, screen, take_away, words
from pages.parts.known import Projection
from robustness_core import datasets
from robustness_core.found import Floats
from robustness_core.optimal_loss import error_curve, loss_with_sets
from robustness_core.spec import AuditSpec
from store import attacks, audits
from store.database import Database
from store.records import NetworkRecord

MEAN, LOSS = "mean distance", "loss of the pair at ε"
NUMBERS = {
    MEAN: "mean distance (ℓ2 norm)",
    LOSS: "loss of the two (nats), lower bound",
}
HEADINGS = (
    "Loss over the budget",
    "Which classes are near each other",
    "Who loses the images",
    "Class by class",
    "Networks side by side",
)
Answers = Mapping[str, tuple[NetworkRecord, known.Answer]]  # by the name of the network


@dataclass(frozen=True, eq=False)
class View:
    """What is drawn: an answer with its curves, one of its layers, a budget, and which number of class pairs.

    `attacked` (n,): the least budget at which PGD fools the network on each image, NaN where it was not tried.
    """

    network: NetworkRecord
    answer: known.Answer
    curves: list[Curve]
    layer: str
    at: float
    number: str
    attacked: Floats

    @property
    def spec(self) -> AuditSpec:
        return self.answer.spec

    @property
    def group(self) -> list[Projection]:
        """The projections of the layer that are begun."""
        every = next(group for (layer, _), group in self.answer.groups.items() if layer == self.layer)
        return [one for one in every if one.known]

    @property
    def names(self) -> list[str]:
        return [datasets.class_label(self.spec.sample.dataset, label) for label in self.spec.sample.classes]

    @property
    def exact_at_logits(self) -> bool:
        """Whether the optimal 0-1 loss at the last layer bounds the network's own error: A is invertible there."""
        last = list(self.network.features.items())[-1]
        return last[0] in self.spec.search.layers and self.spec.search.m[0] in (None, last[1])

    @property
    def panels(self) -> dict[str, Floats]:
        """Name -> optimal 0-1 loss over the budgets: of the images, of the chosen layer, and of the last layer."""
        epsilon = self.spec.epsilon.values()
        named = {"images": _error(data.input_distances(data.key(self.spec)), self.spec, epsilon)}
        for (layer, _), group in self.answer.groups.items():
            begun = [one for one in group if one.known]
            if begun and layer in (self.layer, next(reversed(self.answer.groups))[0]):
                named[layer] = np.mean([_error_of(one, epsilon) for one in begun], axis=0)
        return named

    @property
    def network_errors(self) -> tuple[Floats, Floats] | None:
        """Budgets and the share of the images that PGD fools at each, stepwise; None before it was tried on all."""
        if np.isnan(self.attacked).any():
            return None
        x = np.unique(self.attacked[np.isfinite(self.attacked)])
        x = np.unique([0.0, *x, *self.spec.epsilon.values()[-1:]])
        return x, np.array([(self.attacked <= at).mean() for at in x])


def main() -> None:
    db, available = screen.begin_with_networks("Classes")
    left, right = st.columns([1, 2.8], gap="large")
    with left:
        asked = question.ask_classes(available)
        unknown = asked is not None and bool(np.isnan(_attacked(db, asked.spec, asked.network)).any())
        asking.start(db, [] if asked is None else [(asked.network, asked.spec)], norms=unknown)
    with right:
        if asked is None:
            return
        running = progress.active(db, {asked.network.name})
        progress.follow(db, running, [asked.spec], lambda _, own: _draw(db, asked, available, idle=not own))


def _draw(db: Database, asked: question.Question, available: list[NetworkRecord], *, idle: bool) -> None:
    answer = known.answer(db, asked.spec, asked.network)
    st.caption("All classes at once: the network is asked which of them an image shows, as it is in use.")
    if idle and answer.lacking:
        _standing(db, answer, asked.network)
    if answer.known == 0:
        return
    drawn = known.curves(answer, asked.network.features)
    view = _look(answer, drawn, asked.network, _attacked(db, asked.spec, asked.network))
    broken = _contradictions(view)
    if broken:
        st.error(
            f"{broken} pairs of images collide at the last layer within a budget at which PGD fools the network on "
            "neither, which cannot be. Either the attack or the collision is wrong; please report it as an error of "
            "Strata."
        )

    def figures(*, dark: bool) -> list[go.Figure]:
        return [_loss(view, dark=dark), _map(view, dark=dark), _errors(view, dark=dark)]

    loss, heat, errors = figures(dark=screen.dark())
    for heading, figure, key in zip(HEADINGS, (loss, heat, errors), ("loss", "map", "errors"), strict=False):
        st.subheader(heading, anchor=False)
        if key == "map":
            _click(view, figure)
        else:
            screen.show(figure, f"classes_{key}", f"strata-classes-{key}", f"{heading} of {view.spec.network}")
        for words_ in _words(view, key):
            captions.show(words_)
    others = _answers(db, view, available)
    beside = _side_by_side(db, view, others) if view.exact_at_logits else pd.DataFrame()
    if len(others) > 1:
        st.subheader(HEADINGS[4], anchor=False)
        multiples = _multiples(view, others, dark=screen.dark())
        screen.show(multiples, "classes_networks", "strata-classes-networks", "Layer curves of each network")
        st.caption("The same question to each network; dotted: the images themselves, dashed: log 2 and log K.")
    if len(beside) > 1:
        st.dataframe(beside, hide_index=True, width="stretch")
        st.caption(f"At ε = {view.at:g}: what the images, the features and the head take.")
    st.subheader(HEADINGS[3], anchor=False)
    table = _table(view)
    st.dataframe(table, hide_index=True, width="stretch")
    part = export.Part(view.network, answer, drawn, ())

    def panels() -> list[paper.Panel]:
        several = [(HEADINGS[4], _multiples(view, others, dark=False))] if len(others) > 1 else []
        return [*zip(HEADINGS, figures(dark=False), strict=False), *several]

    def whole() -> str:
        said = " ".join(str(one) for key in ("loss", "map", "errors") for one in _words(view, key))
        tables = {HEADINGS[3]: table} | ({HEADINGS[4]: beside} if len(beside) > 1 else {})
        made = [figure for _, figure in panels()]
        return report.page(f"{view.spec.network}, all classes at once", [part], made, tables, said)

    link = words.address_of_classes(view.spec) | {"layer": view.layer}
    take_away.show(
        f"strata-classes-{view.spec.network}", lambda: [part], whole, panels, link, {"Classes": lambda: table}
    )


def _standing(db: Database, answer: known.Answer, network: NetworkRecord) -> None:
    """What is not known yet, and how long Start would take."""
    lack = [asking.Lack(network, answer.spec, max(answer.missing, 1))]
    if answer.known == 0:
        st.info(f"Nothing is known of this question yet. Start searches it: {asking.duration(db, lack)}.")
    elif answer.missing:
        st.info(f"{answer.known:,} pairs are known; Start searches what is missing: {asking.duration(db, lack)}.")
    else:
        st.info("All pairs are known that the curves need; Start looks for sets of three and more images.")


def _look(answer: known.Answer, drawn: list[Curve], network: NetworkRecord, attacked: Floats) -> View:
    """The widgets above the figures."""
    names = [layer for layer, _ in answer.groups]
    begun = [layer for (layer, _), group in answer.groups.items() if any(one.known for one in group)]
    question.forget("layer", names)
    with st.container(horizontal=True, gap="medium", vertical_alignment="bottom"):
        if len(names) > 1:  # a slider wants two places
            layer = st.select_slider("Layer", names, names[-1], key="layer", bind=question.BOUND)
        else:
            layer = names[0]
        at = question.choose_epsilon(answer.spec.epsilon.values())
        number = st.segmented_control(
            "Number of two classes", list(NUMBERS), default=MEAN, required=True, key="number", bind=question.BOUND
        )
    if layer not in begun:
        st.caption(screen.escape(f"Nothing is known of {layer} yet; {begun[-1]} is drawn."))
        layer = begun[-1]
    return View(network, answer, drawn, str(layer), at, str(number), attacked)


def _loss(view: View, *, dark: bool) -> go.Figure:
    epsilon, K = view.spec.epsilon.values(), len(view.spec.sample.classes)
    images = known.input_space(view.spec)
    of_images = Curve("images", 0, None, images[None], 1, 1)
    colours = style.layer_colours(list(view.network.features), dark)
    return curves.layer_curves(
        epsilon, view.curves, colours, images=of_images, mark=view.at, classes=K, threat=view.spec.search.threat,
        dark=dark,
    )  # fmt: skip


def _map(view: View, *, dark: bool) -> go.Figure:
    values, spread, counts = numbers_of(view.group, view.number == MEAN, view.at)
    return classes.heat_map(
        values,
        view.names,
        title=NUMBERS[view.number],
        spread=spread,
        counts=counts,
        chosen=_chosen(view),
        dark=dark,
    )


def numbers_of(group: list[Projection], mean: bool, at: float) -> tuple[Floats, Floats | None, Floats]:
    """Of each two classes (K, K): the mean distance of the pairs drawn at random with its standard error, or their
    optimal loss at a budget, and of how many pairs; means over the projections."""
    sample = group[0].sample
    K, S = len(sample.classes), sample.size
    values, spread, counts = (np.full((K, K), np.nan) for _ in range(3))
    for a in range(K):
        for b in range(a + 1, K):
            block = (slice(a * S, (a + 1) * S), slice(b * S, (b + 1) * S))
            matrices = [one.matrix.distance[block] for one in group]
            whole = all(np.isfinite(one).all() for one in matrices)
            if mean:
                # All pairs where they are known; else those drawn, since near pairs are searched first.
                of = [one.ravel() if whole else one[sample.drawn[block]] for one in matrices]
                found = np.concatenate([one[np.isfinite(one)] for one in of])
                if len(found):
                    values[a, b] = found.mean()
                    spread[a, b] = found.std(ddof=1) / np.sqrt(min(S, len(found))) if len(found) > 1 else np.nan
            else:
                found = np.concatenate([one[np.isfinite(one)] for one in matrices])
                values[a, b] = np.mean([known.loss_at(one, np.array([at]))[0] for one in matrices])
            counts[a, b] = len(found)
            for each in (values, spread, counts):
                each[b, a] = each[a, b]
    return values, spread if mean else None, np.nan_to_num(counts)


def _clicked_cell() -> None:
    points = st.session_state["figure_classes_map"].selection.points
    if points:
        said: Any = points[0]["customdata"]  # a list, or a mapping of its places
        row, column, *_ = said.values() if isinstance(said, Mapping) else said
        st.session_state["classes_chosen"] = (int(row), int(column))


def _chosen(view: View) -> tuple[int, int] | None:
    kept = st.session_state.get("classes_chosen")
    return kept if kept is not None and max(kept) < len(view.spec.sample.classes) else None


def _click(view: View, figure: go.Figure) -> None:
    """The heat map; a click on a cell offers the two-class views of its pair."""
    about = "A number of each two classes"
    screen.show(figure, "classes_map", "strata-classes-map", about, on_select=_clicked_cell, selection_mode="points")
    if (chosen := _chosen(view)) is not None:
        a, b = (view.spec.sample.classes[place] for place in sorted(chosen))
        two = view.spec.replace(classes=(a, b), sets=2)
        label = " against ".join(view.names[place] for place in sorted(chosen))
        words.link_to_explore(f"Open {screen.escape(label)} in Explore →", words.address(two))


def _errors(view: View, *, dark: bool) -> go.Figure:
    colours = style.layer_colours(list(view.network.features), dark)
    return classes.errors(
        view.spec.epsilon.values(), view.panels, colours, network=view.network_errors, at=view.at,
        classes=len(view.spec.sample.classes), dark=dark,
    )  # fmt: skip


def _words(view: View, key: str) -> list[Caption]:
    """The caption of a figure."""
    if key == "loss":
        drawn = "means with Student's 95 % interval"
        return [captions.of_question(view.answer, view.curves, view.network, drawn=drawn), Caption(_up_to(view))]
    if key == "map":
        how = (
            "A number is the mean over pairs of the i-th images of both classes, drawn without regard to their "
            "distance, ± its standard error over images; over all pairs where they are known. Least distances are not "
            "drawn: of so few images they are not stable."
            if view.number == MEAN
            else "From the pairs that are known, which are those that all classes together need: a lower bound on what "
            "Explore finds for the two."
        )
        return [Caption(f"At {view.layer}, class by class. {how}")]
    return [Caption(decomposition(view))]


def _up_to(view: View) -> str:
    """Up to which size of set the curves hold."""
    found = [one.finding for group in view.answer.groups.values() for one in group if one.finding is not None]
    largest = min((one.largest_set for one in found), default=2)
    if largest == 2:
        return "From pairs alone: the loss cannot rise above log 2 here, though the true one may."
    until = min(one.sets_until for one in found)
    sets = sum(len(one.sets) for group in view.answer.groups.values() for one in group)
    return (
        f"From pairs and {sets:,} sets of up to {largest} images, looked for up to ε = {until:.2f} or more, layer by "
        "layer; above it a curve stays a lower bound."
    )


@dataclass(frozen=True)
class Costs:
    """Shares of the images that are lost at a budget: to any classifier at all, to any on the last layer, and to the
    network under PGD. Each is a lower bound: pairs and sets that were not searched could add, and so could an attack.
    """

    images: float
    features: float
    network: float


def costs(answer: known.Answer, attacked: Floats, at: float) -> Costs | None:
    """None before the last layer and the attack are known."""
    group = [one for one in next(reversed(answer.groups.values())) if one.known]
    if not group or np.isnan(attacked).any():
        return None
    budget, images = np.array([at]), data.input_distances(data.key(answer.spec))
    features = np.mean([_error_of(one, budget)[0] for one in group])
    return Costs(float(_error(images, answer.spec, budget)[0]), float(features), float((attacked <= at).mean()))


def decomposition(view: View) -> str:
    """What the images, the features and the head cost at the chosen budget, in a sentence or two."""
    cost, last = costs(view.answer, view.attacked, view.at), next(reversed(view.answer.groups))[0]
    if cost is None:
        return "PGD was not tried on these images yet: Start does, and the errors then come apart."
    said = (
        f"At ε = {view.at:g} PGD fools the network on {cost.network:.1%} of these {len(view.attacked)} images. The "
        f"images alone cost any classifier {cost.images:.1%}"
    )
    if not view.exact_at_logits:
        return (
            f"{said}; {last}, seen through m random mixtures, {cost.features:.1%}. The network reads all of its "
            "features, so the two are of different things; with m = the number of logits they are not."
        )
    return (
        f"{said}, and {last} cost any classifier on them {cost.features:.1%}: what images, features and head take is "
        f"{cost.images:.1%}, {cost.features - cost.images:.1%} and {cost.network - cost.features:.1%}. Each of the "
        "three errors is a lower bound, so the differences are estimates."
    )


def _answers(db: Database, view: View, available: list[NetworkRecord]) -> Answers:
    """What every network that has answered this question says."""
    by_name = {network.name: network for network in available}
    asked: dict[str, AuditSpec] = {}
    for spec in audits.answered(db):
        if spec.network in by_name and _alike(spec, view.spec):
            asked.setdefault(spec.network, spec)
    found = {name: (by_name[name], known.answer(db, spec, by_name[name])) for name, spec in asked.items()}
    return dict(sorted((found | {view.network.name: (view.network, view.answer)}).items()))


def _multiples(view: View, others: Answers, *, dark: bool) -> go.Figure:
    """A panel of layer curves for each network."""
    images = Curve("images", 0, None, known.input_space(view.spec)[None], 1, 1)
    return compare.small_multiples(
        view.spec.epsilon.values(),
        {name: known.curves(answer, network.features) for name, (network, answer) in others.items()},
        columns=2,
        images=images,
        classes=len(view.spec.sample.classes),
        dark=dark,
    )


def _side_by_side(db: Database, view: View, others: Answers) -> pd.DataFrame:
    """What images, features and head cost each network at the chosen budget."""
    rows = []
    for name, (network, answer) in others.items():
        if next(reversed(answer.groups))[0] != list(network.features)[-1]:
            continue
        cost = costs(answer, _attacked(db, answer.spec, network), view.at)
        if cost is not None:
            parts = (cost.images, cost.features - cost.images, cost.network - cost.features, cost.network)
            rows.append([name, *(f"{part:.1%}" for part in parts)])
    return pd.DataFrame(rows, columns=["network", "images", "features", "head", "fooled by PGD"])


def _alike(one: AuditSpec, other: AuditSpec) -> bool:
    """Whether two audits ask the same of their networks, but for the layers."""
    return one.sample == other.sample and replace(one.search, layers=("any",)) == replace(other.search, layers=("any",))


def _table(view: View) -> pd.DataFrame:
    """One row a class: what its images lose at the chosen layer and budget, its nearest class, and PGD."""
    group, sample = view.group, view.spec.sample
    quality = np.mean([_quality(one, view.at) for one in group], axis=0).reshape(len(sample.classes), sample.size)
    means, _, _ = numbers_of(group, True, view.at)
    nearest = [int(np.nanargmin(row)) if np.isfinite(row).any() else -1 for row in means]
    rows = {
        "class": view.names,
        f"lost at {view.layer}": [f"{1 - one:.3f}" for one in quality.mean(axis=1)],
        "nearest class": [view.names[place] if place >= 0 else "" for place in nearest],
        "mean distance to it": [f"{means[i, j]:.3f}" if j >= 0 else "" for i, j in enumerate(nearest)],
    }
    if not np.isnan(view.attacked).any():
        fooled = (view.attacked <= view.at).reshape(len(sample.classes), sample.size).mean(axis=1)
        rows["fooled by PGD"] = [f"{one:.0%}" for one in fooled]
    return pd.DataFrame(rows)


def _quality(one: Projection, at: float) -> Floats:
    sets = tuple(sorted(places for places, found in one.sets.items() if found.distance <= at))
    return _solved(one.graph <= at, sets)


@st.cache_data(show_spinner=False, max_entries=200)
def _solved(graph: NDArray[np.bool_], sets: tuple[tuple[int, ...], ...]) -> Floats:
    """The optimal q of every image, (n,)."""
    return loss_with_sets(graph, sets).quality


def _error_of(one: Projection, epsilon: Floats) -> Floats:
    return one.with_sets(epsilon, _error_curve(one.graph, epsilon), "set_errors")


def _error(distance: Floats, spec: AuditSpec, epsilon: Floats) -> Floats:
    return _error_curve(spec.sample.graph(distance), epsilon)


@st.cache_data(show_spinner=False, max_entries=200)
def _error_curve(graph: Floats, epsilon: Floats) -> Floats:
    return error_curve(graph, epsilon)


def _attacked(db: Database, spec: AuditSpec, network: NetworkRecord) -> Floats:
    ids, _ = known.image_ids(db, spec)
    return np.where(ids < 0, np.nan, attacks.find(db, network.id, ids))


def _contradictions(view: View) -> int:
    """Pairs that collide at the logits within the chosen budget although PGD fools the network on neither image.

    Where the logits are read whole, images that meet there are told alike, so one of the two is fooled at that budget.
    Budgets of the attack are a grid: an image counts as standing if it stood at the budget after.
    """
    if not view.exact_at_logits or np.isnan(view.attacked).any():
        return 0
    group = next(reversed(view.answer.groups.values()))
    tried = np.unique(view.attacked[np.isfinite(view.attacked)])
    later = tried[tried >= view.at]
    if not len(later):
        return 0
    standing = view.attacked > later[0]
    both = standing[:, None] & standing
    collided = [(one.matrix.distance <= view.at) & one.matrix.collided & both for one in group if one.known]
    return max((int(one.sum()) for one in collided), default=0)


main()
