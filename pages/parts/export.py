"""Downloads: the curves as CSV, everything as JSON, each with all that is needed to repeat it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from charts.curves import Curve
from pages.parts.known import Answer, Floats
from store.records import NetworkRecord


@dataclass(frozen=True, eq=False)
class Part:
    """What a screen shows of one network: what is known of its question, and the curves drawn from it."""

    network: NetworkRecord
    answer: Answer
    curves: Sequence[Curve]


def settings(part: Part) -> dict[str, Any]:
    """Where the numbers come from: spec, network, method version, devices and versions."""
    answer, network = part.answer, part.network
    series = next(iter(answer.groups.values()))[0].spec
    return {
        "spec": answer.spec.to_json(),
        "network_sha256": network.sha256,
        "method_version": series.method_version,
        "devices": answer.devices,
        "versions": answer.versions,
        "known_pairs": answer.known,
        "total_pairs": answer.total,
    }


def as_json(parts: Sequence[Part]) -> str:
    """One part in the form of `python -m robustness_core audit --json` with its settings; several as a list of such."""
    documents = [_document(part) for part in parts]
    return json.dumps(documents[0] if len(documents) == 1 else documents)


def _document(part: Part) -> dict[str, Any]:
    """null stands for unknown."""
    answer = part.answer
    layers = []
    for curve, ((layer, m), group) in zip(part.curves, answer.groups.items(), strict=True):
        projections = [
            {
                "seed": projection.spec.seed,
                "distances": _nested(projection.matrix.distance),
                "residuals": _nested(projection.matrix.residual),
                "collided": projection.matrix.collided.tolist(),
                "loss": loss.tolist(),
            }
            for projection, loss in zip(group, curve.losses, strict=True)
        ]
        layers.append(
            {
                "layer": layer,
                "features": curve.features,
                "m": m,
                "projections": projections,
                "mean_loss": curve.averaged.mean(axis=0).tolist(),
            }
        )
    return {
        "network": part.network.name,
        "dataset": answer.spec.dataset,
        "classes": list(answer.spec.classes),
        "left_indices": answer.sample.left.tolist(),
        "right_indices": answer.sample.right.tolist(),
        "epsilon": answer.spec.epsilon.values().tolist(),
        "layers": layers,
        "settings": settings(part),
    }


def as_csv(parts: Sequence[Part]) -> str:
    """One row a budget, layer and projection; the settings are columns, so that rows of two files can be mixed."""
    return str(pd.concat([frame for part in parts for frame in _frames(part)]).to_csv(index=False))


def _frames(part: Part) -> list[pd.DataFrame]:
    """A frame a layer and projection."""
    answer, origin = part.answer, _columns(part)
    frames = []
    for curve, group in zip(part.curves, answer.groups.values(), strict=True):
        for projection, loss in zip(group, curve.losses, strict=True):
            frame = pd.DataFrame({"epsilon": answer.spec.epsilon.values(), "loss": loss})
            columns = {
                "layer": curve.layer,
                "features": curve.features,
                "m": "" if curve.m is None else curve.m,
                "projection_seed": projection.spec.seed,
                "known_pairs": projection.known,
                "total_pairs": projection.matrix.distance.size,
                "mean_distance": np.nanmean(projection.matrix.distance) if projection.known else "",
                **origin,
            }
            frames.append(frame.assign(**{name: _plain(value) for name, value in columns.items()}))
    return frames


def with_settings(table: pd.DataFrame, part: Part) -> str:
    """A table as CSV, with the settings as columns."""
    settled = table.assign(**{name: _plain(value) for name, value in _columns(part).items()})
    return str(settled.to_csv(index=False))


def _columns(part: Part) -> dict[str, object]:
    """Where every number of a part comes from, name of the column -> value."""
    answer, network = part.answer, part.network
    spec = answer.spec
    return {
        "network": network.name,
        "network_sha256": network.sha256,
        "dataset": spec.dataset,
        "split": spec.split,
        "classes": " ".join(str(label) for label in spec.classes),
        "samples": spec.samples,
        "seed": spec.seed,
        "method": spec.method,
        "preset": spec.preset,
        "method_version": settings(part)["method_version"],
        "devices": "; ".join(answer.devices),
        "versions": "; ".join(answer.versions),
    }


def _plain(value: object) -> object:
    """A text that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@") else value


def _nested(matrix: Floats) -> list[list[float | None]]:
    return [[float(value) if np.isfinite(value) else None for value in row] for row in matrix]
