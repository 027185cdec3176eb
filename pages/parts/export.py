"""Downloads: the curves as CSV, everything as JSON, each with all that is needed to repeat it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from charts.curves import Curve
from pages.parts import known, reading, resting, words
from pages.parts.known import Answer, Projection
from robustness_core.engine.result import AuditResult, SeriesResult
from robustness_core.found import Floats
from robustness_core.optimal_loss.statistics import student
from store.records import NetworkRecord


@dataclass(frozen=True, eq=False)
class Overlay:
    """A line that is drawn beside the layers: `y` (E,) over the budgets `x` (E,), losses in nats or shares in [0, 1].

    `kind` names it as the screen does: input space; input, same m; no projection; FAB loss; PGD accuracy. `curve` is
    the layer whose line it is; None where it is that of no layer.
    `answer` is where its numbers come from if that is another question than the layers'.
    """

    kind: str
    x: Floats
    y: Floats
    unit: Literal["nats", "share"] = "nats"
    curve: Curve | None = None
    answer: Answer | None = None


@dataclass(frozen=True, eq=False)
class Part:
    """What a screen shows of one network: what is known of its question, the curves drawn from it, and overlays.

    `label` is what the screen calls it where the network's name alone would not tell it from another part.
    """

    network: NetworkRecord
    answer: Answer
    curves: Sequence[Curve]
    overlays: tuple[Overlay, ...] = ()
    label: str = ""

    @property
    def name(self) -> str:
        return self.label or self.network.name


def of_images(epsilon: Floats, curve: Curve) -> Overlay:
    """The line of the images themselves, through m mixtures of their pixels or as they are."""
    return Overlay("input space" if curve.m is None else "input, same m", epsilon, curve.mean, curve=curve)


def of_card(kind: str, line: tuple[Floats, Floats] | None) -> tuple[Overlay, ...]:
    """The overlay of a line that the network's card states; nothing if it states none."""
    return () if line is None else (Overlay(kind, *line, "share" if kind == "PGD accuracy" else "nats"),)


def settings(part: Part, answer: Answer | None = None) -> dict[str, Any]:
    """Where the numbers come from, of the layers or of another `answer`: spec, network, versions, devices."""
    answer, network = answer or part.answer, part.network
    series = next(iter(answer.groups.values()))[0].spec
    return {
        "spec": answer.spec.to_json(),
        "network_sha256": network.sha256,
        "architecture": network.architecture,
        "normalisation": None if network.mean is None else {"mean": network.mean, "std": network.std},
        "normalisation_doubt": words.normalisation_doubt(network),
        "architecture_doubt": words.architecture_doubt(network),
        "method_version": series.method_version,
        "devices": answer.devices,
        "versions": answer.versions,
        "known_pairs": answer.known,
        "total_pairs": answer.total,
        "pairs_left_out": answer.left_out,
    }


def computed_on(parts: Sequence[Part]) -> tuple[list[str], list[str]]:
    """The devices that computed what the parts show, and the versions of what ran there."""
    devices = sorted({device for part in parts for device in part.answer.devices})
    return devices, sorted({version for part in parts for version in part.answer.versions})


def as_json(parts: Sequence[Part]) -> str:
    """One part in the form of `python -m robustness_core audit --json` with its settings; several as a list of such."""
    documents = [_document(part) for part in parts]
    return json.dumps(documents[0] if len(documents) == 1 else documents)


def _document(part: Part) -> dict[str, Any]:
    """The form of `audit --json`, and more: a mean that `mean_is_bound` lacks pairs, and is a lower bound for want of
    them too; `half_budget` is ε½, an upper bound, null where half of log 2 is not reached; overlays and settings.
    """
    answer = part.answer
    layers = list(zip(part.curves, answer.groups.values(), strict=True))
    series = tuple(
        SeriesResult(
            projection.spec,
            curve.features,
            projection.matrix,
            answer.spec.sample.pairs,
            loss,
            projection.finding,
            projection.needed,
        )
        for curve, group in layers
        for projection, loss in zip(group, curve.losses, strict=True)
    )
    versions: dict[str, str] = {}
    for name, text in (one.split(" ") for one in answer.versions if one.count(" ") == 1):
        versions[name] = f"{versions[name]}, {text}" if name in versions else text
    images = known.input_space(answer.spec)
    device = "; ".join(answer.devices)
    result = AuditResult(answer.spec, part.network.sha256, answer.sample.indices, series, images, device, versions)
    document = result.to_json()
    for one, (curve, group) in zip(document["layers"], layers, strict=True):
        one |= {"mean_is_bound": curve.lower, "half_budget": _half(curve, group)}
        for written, projection in zip(one["projections"], group, strict=True):
            written["half_budget"] = _finite(reading.half(projection.graph))
    overlays = [_overlay(part, overlay) for overlay in part.overlays]
    return {**document, "overlays": overlays, "settings": settings(part)}


def _half(curve: Curve, group: Sequence[Projection]) -> dict[str, float | None]:
    """The mean ε½ of a layer with Student's interval over its projections."""
    averaged = [group[index].graph for index in curve.whole or curve.begun]
    interval = student([reading.half(distances) for distances in averaged])
    return {"mean": _finite(interval.value), "low": _finite(interval.low), "high": _finite(interval.high)}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _overlay(part: Part, overlay: Overlay) -> dict[str, Any]:
    said = {"kind": overlay.kind, "unit": overlay.unit, "x": overlay.x.tolist(), "y": overlay.y.tolist()}
    if overlay.curve is None:
        return said
    curve = overlay.curve
    pairs = {"known_pairs": curve.known, "total_pairs": curve.total}
    own = {} if overlay.answer is None else {"settings": settings(part, overlay.answer)}
    return {**said, "layer": curve.layer, "features": curve.features, "m": curve.m, **pairs, **own}


def as_csv(parts: Sequence[Part]) -> str:
    """One row a budget, layer and projection, and one a budget of each overlay.

    The settings are columns, so that rows of two files can be mixed; what does not apply to a row is empty.
    """
    return str(pd.concat([frame for part in parts for frame in _frames(part)]).to_csv(index=False))


def distances_as_csv(parts: Sequence[Part]) -> str:
    """One row a pair of every layer and projection that is known: both images and what was found of them."""
    frames = []
    for part in parts:
        sample, answer = part.answer.sample, part.answer
        settled = _columns(part)
        for (layer, m), group in answer.groups.items():
            for projection in group:
                matrix = projection.matrix
                rows, columns = np.nonzero(matrix.known)
                found = pd.DataFrame(
                    {
                        "layer": layer,
                        "m": "" if m is None else m,
                        "projection_seed": projection.spec.seed,
                        "left_index": sample.left[rows],
                        "right_index": sample.right[columns],
                        "distance": matrix.distance[rows, columns],
                        "residual": matrix.residual[rows, columns],
                        "collided": matrix.collided[rows, columns],
                    }
                )
                frames.append(found.assign(**{name: plain(value) for name, value in settled.items()}))
    return str(pd.concat(frames).to_csv(index=False))


def _frames(part: Part) -> list[pd.DataFrame]:
    """A frame a layer and projection, and one an overlay."""
    answer = part.answer
    frames = []
    for curve, group in zip(part.curves, answer.groups.values(), strict=True):
        for projection, loss in zip(group, curve.losses, strict=True):
            columns = {
                "layer": curve.layer,
                "features": curve.features,
                "m": "" if curve.m is None else curve.m,
                "projection_seed": projection.spec.seed,
                "known_pairs": projection.known,
                "total_pairs": projection.sample.pairs,
                "pairs_left_out": projection.left_out,
                "search_gap": "" if (gap := resting.gap([projection])) is None else gap.mean,
                "search_gap_q90": "" if gap is None else gap.q90,
                # Of some pairs only it would be too small: those that look nearest are computed first.
                "mean_distance": "" if not projection.complete else np.nanmean(projection.matrix.distance),
                "half_budget": reading.half(projection.graph) if projection.known else "",
            }
            stated = loss if projection.known else ""
            frames.append(_frame(_columns(part), "layer", answer.spec.epsilon.values(), stated, "", columns))
    for overlay in part.overlays:
        loss, accuracy = (overlay.y, "") if overlay.unit == "nats" else ("", overlay.y)
        own = _columns(part, overlay.answer)
        frames.append(_frame(own, overlay.kind, overlay.x, loss, accuracy, _layer_of(overlay)))
    return frames


def _frame(
    settled: dict[str, object],
    kind: str,
    x: Floats,
    loss: Floats | str,
    accuracy: Floats | str,
    columns: dict[str, object],
) -> pd.DataFrame:
    """The rows of one line, all of the same columns."""
    frame = pd.DataFrame({"kind": kind, "epsilon": x, "loss": loss, "accuracy": accuracy})
    return frame.assign(**{name: plain(value) for name, value in {**columns, **settled}.items()})


def _layer_of(overlay: Overlay) -> dict[str, object]:
    """The columns of an overlay that say which layer it is of."""
    curve = overlay.curve
    return {
        "layer": "" if curve is None else curve.layer,
        "features": "" if curve is None else curve.features,
        "m": "" if curve is None or curve.m is None else curve.m,
        "projection_seed": "",
        "known_pairs": "" if curve is None else curve.known,
        "total_pairs": "" if curve is None else curve.total,
        "mean_distance": "",
        "half_budget": "",
    }


def with_settings(table: pd.DataFrame, part: Part) -> pd.DataFrame:
    """A table with the settings as columns; those that it has already stay."""
    return table.assign(**{name: plain(value) for name, value in _columns(part).items() if name not in table})


def _columns(part: Part, answer: Answer | None = None) -> dict[str, object]:
    """Where every number of a part, or of another `answer`, comes from, name of the column -> value."""
    answer, network = answer or part.answer, part.network
    spec = answer.spec
    return {
        "network": network.name,
        "network_sha256": network.sha256,
        "dataset": spec.sample.dataset,
        "split": spec.sample.split,
        "classes": " ".join(str(label) for label in spec.sample.classes),
        "samples": spec.sample.size,
        "left_out": " ".join(str(number) for number in spec.sample.left_out),
        "norm": spec.search.threat.norm,
        "valid_images_only": spec.search.threat.box,
        "seed": spec.sample.seed,
        "first_projection": spec.search.seed,
        "method": spec.search.method,
        "preset": spec.search.preset,
        "method_version": settings(part, answer)["method_version"],
        "devices": "; ".join(answer.devices),
        "versions": "; ".join(answer.versions),
    }


def plain(value: object) -> object:
    """A text that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@") else value
