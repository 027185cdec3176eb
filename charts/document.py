"""The figures of an audit from its JSON, as the command line and the screens write it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from charts import attribution, paper, style
from charts.curves import Curve, Floats, layer_curves
from robustness_core.found import Set
from robustness_core.optimal_loss import loss_steps
from robustness_core.optimal_loss.statistics import half_budget, student
from robustness_core.spec import PAPERS, Threat


def panels_of(document: Mapping[str, Any], at: float | None = None) -> list[paper.Panel]:
    """The panels of one network, two for each m; of each layer its ε½, or its loss at the budget `at` if given."""
    epsilon = np.array(document["epsilon"], dtype=np.float64)
    layers, threat = document["layers"], Threat(**document.get("threat", {}))
    colours = style.layer_colours(list(dict.fromkeys(layer["layer"] for layer in layers)))
    panels = []
    for m in dict.fromkeys(layer["m"] for layer in layers):
        found = [(matrices_of(layer), layer) for layer in layers if layer["m"] == m]
        curves = [curve_of(document, layer, matrices, epsilon) for matrices, layer in found]
        name = f"{document['network']}, {'without projection' if m is None else f'through m = {m} mixtures'}"
        name += "" if threat == PAPERS else f", in {threat.words}"
        figure = layer_curves(
            epsilon, curves, colours, images=_images(document, m), mark=at, classes=classes_of(document), threat=threat
        )
        panels.append((name, figure))
        if at is not None:
            panels.append((f"{name}: loss at ε = {at:g}", attribution.loss_by_layer(epsilon, curves, at, colours)))
        else:
            bars = [_half(curve, *of) for curve, of in zip(curves, found, strict=True)]
            digits = 2 if threat.norm == "l2" else 3
            halves = attribution.by_layer(bars, colours, f"ε½ ({threat.symbol} norm)", digits=digits)
            panels.append((f"{name}: ε½", halves))
    return panels


def matrices_of(layer: Mapping[str, Any]) -> list[Floats]:
    """The distances of each projection, NaN where a pair is unknown."""
    return [np.array(one["distances"], dtype=np.float64) for one in layer["projections"]]


def classes_of(document: Mapping[str, Any]) -> int:
    """How many classes the audit is about."""
    return len(document.get("classes", (0, 1)))


def curve_of(document: Mapping[str, Any], layer: Mapping[str, Any], matrices: list[Floats], epsilon: Floats) -> Curve:
    """The curve of a layer of `document`. Of more than two classes each pair counts twice, as it stands there."""
    known = tuple(int(np.isfinite(matrix).sum()) for matrix in matrices)
    losses = [one["loss"] or np.zeros(len(epsilon)) for one in layer["projections"]]
    within = sum(len(images) ** 2 for images in document.get("indices", ()))  # two images of one class are no pair
    pairs = [matrix.size - within for matrix in matrices]
    # A finding says that what is unknown is not needed; audits from before there were any have none.
    left_out = tuple(
        count - found if one.get("finding") else 0
        for count, found, one in zip(pairs, known, layer["projections"], strict=True)
    )
    whole = sum(known) + sum(left_out) == sum(pairs)
    # Steps that sets bring are not computed: curves with sets are drawn at their budgets.
    steps = tuple(map(loss_steps, matrices)) if whole and not any(_sets(layer)) else ()
    return Curve(
        layer["layer"], layer["features"], layer["m"], np.array(losses), sum(known), sum(pairs), known, left_out, steps,
        most=math.log(classes_of(document)),
    )  # fmt: skip


def _sets(layer: Mapping[str, Any]) -> list[dict[Set, float]]:
    """The distances of each projection's sets of three and more images."""
    return [{tuple(each["images"]): each["distance"] for each in one.get("sets", ())} for one in layer["projections"]]


def _half(curve: Curve, matrices: list[Floats], layer: Mapping[str, Any]) -> attribution.Bar:
    """ε½ of a layer with Student's interval over its projections."""
    if not curve.known:
        return attribution.Bar(curve.layer, None)
    sets = _sets(layer)
    interval = student([half_budget(matrices[index], sets[index]) for index in curve.whole or curve.begun])
    low = float(np.maximum(interval.low, 0.0))  # a budget is not below 0
    return attribution.Bar(curve.layer, interval.value, low, interval.high, "≤" if curve.lower else "")


def _images(document: Mapping[str, Any], m: int | None) -> Curve | None:
    """The curve of the images themselves, as far as the file has it: without projection, and what a screen drew."""
    lines = {(one["kind"], one.get("m")): one["y"] for one in document.get("overlays", ())}
    loss = (
        lines.get(("input, same m", m)) if m is not None else lines.get(("input space", m), document.get("input_loss"))
    )
    return None if loss is None else Curve("input", 0, m, np.array([loss], dtype=np.float64), 1, 1)
