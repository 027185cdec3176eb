"""What the store hands out: frozen records, and the question about one pair (PairSpec)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from robustness_core.errors import SpecError
from robustness_core.spec import AuditSpec, SeriesSpec

Source = Literal["zoo", "upload"]
AuditKind = Literal["audit", "pair"]
AuditState = Literal["queued", "running", "done", "failed", "cancelled"]
WorkerState = Literal["running", "stopping", "stopped", "killed"]


@dataclass(frozen=True)
class LayerRecord:
    """A layer: its name, the shape and size nj of its features, whether it is affine, whether it is offered first."""

    name: str
    shape: tuple[int, ...]
    features: int
    affine: bool
    main: bool


@dataclass(frozen=True)
class NetworkRecord:
    """A registered network, without its weights. `input_shape` is (C, H, W); `format` is that of the weights."""

    id: int
    name: str
    sha256: str
    source: Source
    format: str
    architecture: str
    input_shape: tuple[int, ...]
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    layers: tuple[LayerRecord, ...]
    card: dict[str, Any]
    note: str
    tags: tuple[str, ...]
    created: datetime

    @property
    def features(self) -> dict[str, int]:
        """Layer name -> size nj, in order from input to output."""
        return {layer.name: layer.features for layer in self.layers}


@dataclass(frozen=True)
class Dependents:
    """What goes when a network is removed."""

    audits: int
    series: int
    distances: int


ImageKey = tuple[str, str, int]  # data set, split, index in that split


@dataclass(frozen=True, eq=False)
class ImageRecord:
    """An image as it lies in its data set: `pixels` is (H, W, C) uint8."""

    id: int
    dataset: str
    split: str
    index: int
    label: int
    pixels: NDArray[np.uint8]


@dataclass(frozen=True)
class SeriesRecord:
    id: int
    spec: SeriesSpec


@dataclass(frozen=True, eq=False)
class CollisionRecord:
    """The two images that meet, (C, H, W) float32 in [0, 1], and what the network says of the four images.

    `predictions` holds the logits as lists under left, right, collision_left and collision_right.
    """

    series_id: int
    left_id: int
    right_id: int
    left: NDArray[np.float32]
    right: NDArray[np.float32]
    predictions: dict[str, Any]


@dataclass(frozen=True)
class SpectrumRecord:
    """Norms of the matrix L of an affine layer: ‖L‖_F and r4 = ‖L‖_F⁴ / ‖L‖_S4⁴; not `exact`: from random probes."""

    id: int
    frobenius: float
    r4: float
    exact: bool


@dataclass(frozen=True)
class WorkerRecord:
    """A process that works on audits. `heartbeat` is the last sign of life, UTC."""

    id: int
    host: str
    pid: int
    device: str
    versions: dict[str, str]
    started: datetime
    heartbeat: datetime
    state: WorkerState
    log_path: str


@dataclass(frozen=True)
class PairSpec:
    """A question about one pair: its collision in each of `series`, all of one network."""

    series: tuple[SeriesSpec, ...]
    left: ImageKey
    right: ImageKey

    def __post_init__(self) -> None:
        object.__setattr__(self, "series", tuple(self.series))
        object.__setattr__(self, "left", tuple(self.left))
        object.__setattr__(self, "right", tuple(self.right))
        if not self.series:
            raise SpecError("Choose at least one layer for the pair.")
        if len({series.network for series in self.series}) > 1:
            raise SpecError("A pair is looked at in one network at a time.")
        if self.left == self.right:
            raise SpecError("The two images of a pair must differ.")

    @property
    def key(self) -> str:
        """Equal questions have equal keys."""
        canonical = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:32]

    def to_json(self) -> dict[str, Any]:
        return {
            "series": [series.identity() for series in self.series],
            "left": list(self.left),
            "right": list(self.right),
        }

    @classmethod
    def from_json(cls, payload: Mapping[str, Any]) -> Self:
        return cls(
            tuple(SeriesSpec.from_json(series) for series in payload["series"]),
            tuple(payload["left"]),
            tuple(payload["right"]),
        )


@dataclass(frozen=True)
class AuditRecord:
    """Something asked, and how far it is: `done` of `total` pairs over all its series.

    `attempt` counts the claims; results of an earlier attempt are refused. `final_epsilon`: up to this budget the
    curve of the series in work can no longer change, as far as guesses hold (engine.plan.Plan.final_epsilon);
    None while that is not known. `seconds_left`: what is left will take so long, at the least and at
    the most, as its worker last knew; None while that is not known. `error` is one sentence.
    """

    id: int
    kind: AuditKind
    spec: AuditSpec | PairSpec
    state: AuditState
    priority: int
    done: int
    total: int
    attempt: int
    worker: WorkerRecord | None
    error: str | None
    final_epsilon: float | None
    seconds_left: tuple[float, float] | None
    created: datetime
    started: datetime | None
    finished: datetime | None
    note: str
    tags: tuple[str, ...]
    requested_by: str

    @property
    def active(self) -> bool:
        return self.state in ("queued", "running")
