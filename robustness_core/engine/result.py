"""What an audit found, and its JSON: written and read here alone."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from robustness_core.errors import StrataError
from robustness_core.found import Finding, Floats, Found, FoundSet, Set, mirrored
from robustness_core.spec import AuditSpec, SeriesSpec

NOTE = "Distances are upper bounds found by search; losses are lower bounds, in nats, on the optimal loss."

SET = ("distance", "residual", "collided", "passes")  # of a FoundSet
SIDES = ("left_indices", "right_indices")  # of two classes, in JSON


@dataclass(frozen=True, eq=False)
class SeriesResult:
    """What is found of the `pairs` pairs of one series, (L, R) as in SampleSpec; `loss` (E,) is its curve in nats,
    from pairs and `sets`, which are known by the places of their images, of more than two classes.

    Where another series of the audit found a nearer collision that is one of this series too (nesting.implies), its
    distance and residual stand here; passes are those of its own search. While pairs are unknown the curve is that of
    the known ones, a lower bound too. `finding`: what the curve rests on, once all is known that is wanted.
    """

    series: SeriesSpec
    features: int
    found: Found
    pairs: int
    loss: Floats
    finding: Finding | None = None
    needed: bool = False
    sets: Mapping[Set, FoundSet] = field(default_factory=dict)

    @property
    def missing(self) -> int:
        """Pairs that are unknown, and wanted."""
        return 0 if self.needed and self.finding is not None else self.pairs - int(self.found.known.sum())

    @property
    def complete(self) -> bool:
        """Every pair is known."""
        return self.pairs == int(self.found.known.sum())


@dataclass(frozen=True, eq=False)
class AuditResult:
    """An audit as far as it is known. Distances are upper bounds, so every loss is a lower bound on the optimal loss.

    `indices`: the images of each class. `series` in the order of the question; `too_large` holds each (layer, m) of it
    whose m is above the layer's size. `remarks`: sentences about what it rests on, for whoever reads its numbers.
    """

    spec: AuditSpec
    network_sha256: str
    indices: tuple[npt.NDArray[np.int64], ...]
    series: tuple[SeriesResult, ...]
    input_loss: Floats
    device: str
    versions: Mapping[str, str]
    too_large: tuple[tuple[str, int], ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def known(self) -> int:
        """Pairs whose distances are known, over all series."""
        return sum(int(one.found.known.sum()) for one in self.series)

    @property
    def total(self) -> int:
        return sum(one.pairs for one in self.series)

    @property
    def missing(self) -> int:
        """Pairs that are unknown, and wanted."""
        return sum(one.missing for one in self.series)

    @property
    def layers(self) -> dict[tuple[str, int | None], list[SeriesResult]]:
        """(layer, m) -> its projections."""
        groups: dict[tuple[str, int | None], list[SeriesResult]] = {}
        for one in self.series:
            groups.setdefault((one.series.layer, one.series.m), []).append(one)
        return groups

    def to_json(self) -> dict[str, Any]:
        """The audit as DESIGN.md fixes it for `audit --json`, with what is needed to compute it again.

        null stands for unknown: of a pair that is not known yet, and then `partial` is there and true, or that the
        curve does not need (`finding`), or of two images of one class. Of more than two classes the matrices are
        symmetric, with the images in the order of `indices`.
        """
        spec, sample, search = self.spec, self.spec.sample, self.spec.search
        chosen = [one.tolist() for one in self.indices]
        images = dict(zip(SIDES, chosen, strict=True)) if len(chosen) == 2 else {"indices": chosen}
        document = {
            "network": spec.network,
            "network_sha256": self.network_sha256,
            "dataset": sample.dataset,
            "split": sample.split,
            "classes": list(sample.classes),
            **images,
            "epsilon": spec.epsilon.values().tolist(),
            "layers": [_layer(layer, m, group, len(chosen) > 2) for (layer, m), group in self.layers.items()],
            "layers_left_out": [{"layer": layer, "m": m} for layer, m in self.too_large],
            "input_loss": self.input_loss.tolist(),
            "method": search.method,
            "method_version": self.series[0].series.method_version,
            "preset": search.preset,
            "threat": asdict(search.threat),
            "spec": spec.to_json(),
            "device": self.device,
            "versions": dict(self.versions),
            "note": NOTE,
        }
        if self.remarks:
            document["remarks"] = list(self.remarks)
        return {**document, "partial": True} if self.missing else document

    @classmethod
    def from_json(cls, payload: Mapping[str, Any]) -> Self:
        """What `to_json` wrote; of the passes only their mean is known, which stands at every pair."""
        spec = AuditSpec.from_json(payload["spec"])
        way = SeriesSpec(
            payload["network_sha256"], "", None, 0, spec.search.method, spec.search.preset, payload["method_version"],
            spec.search.threat,
        )  # fmt: skip
        return cls(
            spec,
            way.network,
            tuple(np.array(one, dtype=np.int64) for one in payload.get("indices") or [payload[side] for side in SIDES]),
            tuple(
                SeriesResult(
                    replace(way, layer=layer["layer"], m=layer["m"], seed=one["seed"]),
                    layer["features"],
                    _found(one, spec.sample.asked),
                    spec.sample.pairs,
                    np.zeros(spec.epsilon.count) if one["loss"] is None else np.array(one["loss"]),
                    None if one.get("finding") is None else Finding.from_json(one["finding"]),
                    spec.needed,
                    {tuple(each["images"]): FoundSet(*(each[name] for name in SET)) for each in one.get("sets", ())},
                )
                for layer in payload["layers"]
                for one in layer["projections"]
            ),
            np.array(payload["input_loss"]),
            payload["device"],
            payload["versions"],
            tuple((one["layer"], one["m"]) for one in payload["layers_left_out"]),
            tuple(map(str, payload.get("remarks", ()))),
        )


def read(path: Path) -> AuditResult:
    """The audit of a file that `audit --json` or a screen wrote. Raises StrataError."""
    try:
        return from_text(path.read_bytes(), path)
    except OSError as error:
        raise StrataError(f"{path} cannot be read: {error.strerror or error}.") from error


def from_text(text: bytes, path: Path) -> AuditResult:
    """The audit of JSON that stands in the file `path`. Raises StrataError."""
    try:
        return AuditResult.from_json(json.loads(text))
    except (KeyError, TypeError, ValueError) as error:
        raise StrataError(f"{path} is not the JSON of an audit; `audit --json` writes one.") from error


def _layer(layer: str, m: int | None, group: list[SeriesResult], several: bool) -> dict[str, Any]:
    """The mean is that of the projections wholly known, or while there is none of those begun."""
    averaged = [one for one in group if not one.missing] or [one for one in group if one.found.known.any()]
    return {
        "layer": layer,
        "features": group[0].features,
        "m": m,
        "projections": [_projection(one, several) for one in group],
        "mean_loss": np.mean([one.loss for one in averaged], axis=0).tolist() if averaged else None,
    }


def _projection(one: SeriesResult, several: bool) -> dict[str, Any]:
    found, known = one.found, one.found.known
    matrices = [found.distance, found.residual, np.where(known, found.collided.astype(float), np.nan)]
    distance, residual, collided = (mirrored(each) if several else each for each in matrices)
    return {
        "seed": one.series.seed,
        "distances": _nullable(distance),
        "residuals": _nullable(residual),
        "collided": [[None if value is None else bool(value) for value in row] for row in _nullable(collided)],
        "loss": one.loss.tolist() if known.any() else None,
        "finding": None if one.finding is None else one.finding.to_json(),
        "mean_passes": float(found.passes[known].mean()) if known.any() else None,
        "precisions": list(found.precisions),
        **(
            {"sets": [{"images": list(places), **asdict(each)} for places, each in one.sets.items()]} if several else {}
        ),
    }


def _nullable(matrix: Floats) -> list[list[float | None]]:
    return [[value if math.isfinite(value) else None for value in row] for row in matrix.tolist()]


def _found(one: Mapping[str, Any], asked: npt.NDArray[np.bool_]) -> Found:
    matrices = (np.array(one[name], dtype=np.float64) for name in ("distances", "residuals", "collided"))
    distance, residual, collided = (np.where(asked, each, np.nan) for each in matrices)
    known = ~np.isnan(distance)
    residual[known & np.isnan(residual)] = np.inf
    passes = np.where(known, np.nan if one["mean_passes"] is None else one["mean_passes"], np.nan)
    precisions = tuple(one.get("precisions", ()))
    return Found(distance, residual, collided == 1, passes, precisions=precisions)
