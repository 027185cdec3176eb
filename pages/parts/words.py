"""Records in words and the addresses that lead to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from pages.parts import screen
from robustness_core import datasets
from robustness_core.datasets import class_label
from robustness_core.spec import PAPERS, AuditSpec
from robustness_core.spec.fields import BUDGETS, FIELDS
from store.records import AuditRecord, NetworkRecord

Layers = Mapping[str, tuple[str, ...]]


def main_layers(available: Sequence[NetworkRecord]) -> Layers:
    """The layers of each network, by its name, that are asked for at first."""
    return {network.name: tuple(layer.name for layer in network.layers if layer.main) for network in available}


def describe(audit: AuditRecord, main: Layers | None = None) -> str:
    """What an audit asks, in a line; with the `main` layers of its network it says that it asks all of these."""
    spec = audit.spec
    if not isinstance(spec, AuditSpec):
        layers = ", ".join(series.layer for series in spec.series)
        return f"pair {spec.left[2]} and {spec.right[2]} at {layers}"
    return question(spec, main)


def question(spec: AuditSpec, main: Layers | None = None) -> str:
    """A question in a line, as `describe` has it."""
    m = ", ".join("none" if value is None else str(value) for value in spec.search.m)
    layers = ", ".join(spec.search.layers)
    if main is not None and len(spec.search.layers) > 1 and spec.search.layers == main.get(spec.network):
        layers = f"all {len(spec.search.layers)} layers"
    return (
        f"{layers}; m {m}; N {spec.search.projections}; S {spec.sample.size}; "
        f"{_classes(spec)} of {spec.sample.dataset}"
        + (f" without {', '.join(str(number) for number in spec.sample.left_out)}" if spec.sample.left_out else "")
        + f"; {spec.search.method}"
        + ("" if spec.search.threat == PAPERS else f"; {spec.search.threat.words}")
    )


def _classes(spec: AuditSpec) -> str:
    """3 against 7; of more than two classes 10 classes, or their numbers where that is not all."""
    classes, known = spec.sample.classes, datasets.REGISTRY.get(spec.sample.dataset)  # own images may be removed
    if len(classes) == 2:
        return " against ".join(class_label(spec.sample.dataset, one) for one in classes)
    if known is not None and len(classes) == len(known.class_names):
        return f"all {len(classes)} classes"
    return f"classes {', '.join(map(str, classes))}"


def network_of(audit: AuditRecord, available: Sequence[NetworkRecord] = ()) -> str:
    """The network of an audit; a pair knows only its hash, for which its name stands if it is registered."""
    if isinstance(audit.spec, AuditSpec):
        return audit.spec.network
    sha256 = audit.spec.series[0].network
    return next((network.name for network in available if network.sha256 == sha256), sha256[:8])


def address(spec: AuditSpec) -> dict[str, str | list[str]]:
    """The query of the address at which Explore asks this."""
    m = spec.search.m[0]
    query: dict[str, str | list[str]] = {
        "network": spec.network,
        "layers": list(spec.search.layers),
        **dict(zip("ab", (class_label(spec.sample.dataset, one) for one in spec.sample.classes), strict=False)),
    }
    for field in (*FIELDS.values(), *BUDGETS.values()):
        said = " ".join(map(str, field.words(spec)))
        if len(field.keys) == 1 and said and field.keys[0] not in (*query, "m"):
            query[field.keys[0]] = said
    if any(layer.endswith(".pre") for layer in spec.search.layers):
        query["pre"] = "true"
    return {**query, "full": "true"} if m is None else {**query, "m": str(m)}


def address_of_pair(
    spec: AuditSpec, layer: str, projection: int, pair: tuple[int, int]
) -> dict[str, str | list[str]]:  # fmt: skip
    """The query of the address at which Pairs shows two images; `projection` counts from 1."""
    budgets = {key for field in BUDGETS.values() for key in field.keys}
    asked = {name: value for name, value in address(spec).items() if name not in ("layers", "pre", *budgets)}
    return {**asked, "layer": layer, "projection": str(projection), "pair": f"{pair[0]}-{pair[1]}"}


def link_to_audit(spec: AuditSpec, label: str = "") -> None:
    """A link to the screen that draws this question: Scaling for several m of a layer, Classes for more than two of
    them, else Explore."""
    page, query = "explore", address(spec)
    if len(spec.search.m) > 1 and len(spec.search.layers) == 1:
        page, dimensions = "scaling", ["none" if m is None else str(m) for m in spec.search.m]
        query = {name: value for name, value in query.items() if name not in ("layers", "pre", "m", "full")}
        query |= {"one": spec.search.layers[0], "ms": dimensions}
    elif len(spec.sample.classes) > 2:
        page, query = "classes", address_of_classes(spec)
    st.page_link(f"pages/{page}.py", label=label or f"Open in {page.capitalize()}", query_params=query)


def address_of_classes(spec: AuditSpec) -> dict[str, str | list[str]]:
    """The query of the address at which Classes asks this."""
    query = {name: value for name, value in address(spec).items() if name not in ("layers", "pre", "a", "b", "sets")}
    labels = [class_label(spec.sample.dataset, one) for one in spec.sample.classes]
    return {**query, "classes": labels, **({} if spec.search.sets > 2 else {"pairs_alone": "true"})}


def link_to_explore(label: str, query: Mapping[str, str | list[str]]) -> None:
    st.page_link("pages/explore.py", label=label, query_params=query)


def ago(moment: datetime) -> str:
    """How long ago: just now, 5 min ago, 3 days ago."""
    seconds = (datetime.now(UTC) - moment).total_seconds()
    if seconds < 60:
        return "just now"
    if seconds < 48 * 3600:
        return f"{screen.seconds(max(seconds, 90))} ago"
    return f"{seconds / 86400:.0f} days ago"


def duration(audit: AuditRecord) -> str:
    """How long an audit took or takes."""
    if audit.started is None:
        return ""
    end = audit.finished or datetime.now(UTC)
    return screen.seconds((end - audit.started).total_seconds())


def training(network: NetworkRecord) -> str:
    """How a network was trained, from its card: PGD, ε = 2, on mnist; of an uploaded one, that it is one."""
    said = _training(network)
    said = f"uploaded, {said}" if network.source == "upload" else said
    return f"{said}; {open_}" if (open_ := not_settled(network)) else said


def normalisation(network: NetworkRecord) -> str:
    """The normalisation by its name where it has one: none, CIFAR-10; else by its numbers."""
    name = part(network.card, "inspected").get("normalisation_name")
    if network.mean is None or network.std is None:
        return "none"
    if isinstance(name, str) and name not in ("none", "given"):
        return name
    mean, std = (" ".join(f"{value:g}" for value in values) for values in (network.mean, network.std))
    return f"mean {mean}, std {std}"


def normalisation_doubt(network: NetworkRecord) -> str:
    """Why the normalisation of an upload is not settled, as a clause; empty where it is."""
    inspected = part(network.card, "inspected")
    if "normalisation_doubt" in inspected:
        return str(inspected["normalisation_doubt"])
    # Cards of before this was noted: what could not be measured went in as it was.
    unmeasured = inspected.get("normalisation_name") == "none" and inspected.get("accuracy") is None
    return "no accuracy was measured" if unmeasured else ""


def architecture_doubt(network: NetworkRecord) -> str:
    """Why the architecture of an upload is not settled, as a clause; empty where it is."""
    return str(part(network.card, "inspected").get("architecture_doubt", ""))


def not_settled(network: NetworkRecord) -> str:
    """What of an upload is not settled, in a few words; empty where all is."""
    doubts = {"architecture": architecture_doubt(network), "normalisation": normalisation_doubt(network)}
    found = [name for name, doubt in doubts.items() if doubt]
    return f"{' and '.join(found)} not settled" if found else ""


def rival(network: NetworkRecord) -> str:
    """How far the distances of a few pairs differ in the reading that is not told apart, as a clause; mostly empty."""
    return str(part(part(network.card, "inspected"), "rival").get("words", "")) if not_settled(network) else ""


def vanishing(network: NetworkRecord) -> str:
    """The layers of an upload at which the gradient vanishes, so that no search moves there; mostly empty."""
    found = part(network.card, "inspected").get("vanishing")
    return ", ".join(map(str, found)) if isinstance(found, list) else ""


def _training(network: NetworkRecord) -> str:
    how = part(network.card, "training")
    method = {"pgd": "PGD", "trades": "TRADES", "benign": "benign"}.get(str(how.get("method", "")))
    if method is None:
        return "training not stated"
    budget = how.get("epsilon")
    norm = "" if how.get("threat", "l2") == "l2" else "ℓ∞ "
    words = method if method == "benign" or budget is None else f"{method}, {norm}ε = {budget:.4g}"
    dataset = how.get("dataset", network.card.get("dataset"))
    return words if dataset is None else f"{words}, on {dataset}"


def accuracies(network: NetworkRecord) -> str:
    """Measured accuracies from the card: 97.8% clean, 87.0% under PGD at ε = 1.5 (500 images), on test images."""
    evaluation = part(network.card, "evaluation")
    clean, robust = part(evaluation, "clean"), part(evaluation, "robust")
    inspected = part(network.card, "inspected")
    words = []
    if isinstance(inspected.get("accuracy"), int | float):
        count = f"{inspected['images']:,} " if isinstance(inspected.get("images"), int) else ""
        words.append(f"{inspected['accuracy']:.1%} clean on {count}test images")
    measured = []
    if isinstance(clean.get("accuracy"), int | float):
        measured.append(f"{clean['accuracy']:.1%} clean")
    budgets, values = robust.get("epsilon"), robust.get("accuracy")
    if isinstance(budgets, list) and isinstance(values, list):
        some = robust.get("images") != clean.get("images")  # else both are of the whole test set
        of = f" ({robust['images']:,} images)" if some and isinstance(robust.get("images"), int) else ""
        norm = "" if robust.get("threat", "l2") == "l2" else "ℓ∞ "
        measured += [
            f"{value:.1%} under {norm}PGD at ε = {at:.4g}{of}" for at, value in zip(budgets, values, strict=False)
        ]
    if measured:
        split = evaluation.get("split")
        named = split in datasets.SPLITS
        words += [*measured, f"on {split} images" if named else "on images that the card does not name"]
    return ", ".join(words)


Line = tuple[NDArray[np.float64], NDArray[np.float64]]


def pgd_accuracy(network: NetworkRecord, spec: AuditSpec) -> Line | None:
    """Accuracy under PGD over budgets, from 0 (clean), that the card states for the two classes; None if none.

    None too where it was measured in another norm than the question asks for.
    """
    measured = part(part(network.card, "evaluation"), "class_pair")
    if measured.get("threat", "l2") != spec.search.threat.norm:
        return None
    budgets, values = measured.get("epsilon"), measured.get("pgd")
    if measured.get("classes") != list(spec.sample.classes) or not (
        isinstance(budgets, list) and isinstance(values, list)
    ):
        return None
    if isinstance(measured.get("clean"), int | float) and 0 not in budgets:
        budgets, values = [0, *budgets], [measured["clean"], *values]
    return line(budgets, values)


def pgd_images(network: NetworkRecord) -> str:
    """What `pgd_accuracy` is measured on: 250 test images; without their number where the card does not state it."""
    count = part(part(network.card, "evaluation"), "class_pair").get("images")
    return f"{count} test images" if isinstance(count, int) else "test images"


def line(x: object, y: object) -> Line | None:
    """A line that a card states; None where it is missing or of another form."""
    try:
        both = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    return both if both[0].ndim == 1 and both[0].shape == both[1].shape and both[0].size > 1 else None


def part(card: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A part of a card; an empty one where it is missing or of another form."""
    found = card.get(name)
    return found if isinstance(found, Mapping) else {}
