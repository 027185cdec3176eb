"""What a user asks (AuditSpec) and what decides a distance (SeriesSpec): validated, hashed, free of torch."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np

# The version of a method changes whenever its distances may change: distances of two versions never mix.
METHODS: Mapping[str, int] = {"balanced": 3, "algorithm1": 3}
PRESETS = ("fast", "default", "thorough")
TOLERANCE = 1e-4  # largest relative residual at which a pair counts as a collision (METHOD.md section 1)


class SpecError(ValueError):
    """A question that cannot be asked; its text is one sentence for the user."""


def _key(payload: Mapping[str, Any]) -> str:
    canonical = json.dumps(payload, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]


def _require(condition: bool, sentence: str) -> None:
    if not condition:
        raise SpecError(sentence)


def _is_int(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


@dataclass(frozen=True)
class EpsilonGrid:
    """Budgets from `start` to `stop`, both included, `count` of them, as L2 norms in [0, 1] pixel units."""

    start: float = 0.0
    stop: float = 8.0
    count: int = 81

    def __post_init__(self) -> None:
        _require(math.isfinite(self.start) and math.isfinite(self.stop), "The budgets ε must be finite numbers.")
        _require(self.start >= 0, f"The smallest ε is {self.start:g}; it must be 0 or more.")
        _require(
            self.stop > self.start,
            f"The largest ε ({self.stop:g}) must be above the smallest ({self.start:g}).",
        )
        _require(
            _is_int(self.count) and 2 <= self.count <= 2001,
            f"The number of budgets is {self.count}; it must be a whole number from 2 to 2001.",
        )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `start:stop:count`, for example `0:8:81`."""
        try:
            start, stop, count = text.split(":")
            return cls(float(start), float(stop), int(count))
        except SpecError:
            raise
        except ValueError:
            raise SpecError(f"The ε range {text!r} must read start:stop:count, for example 0:8:81.") from None

    def values(self) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """The budgets, (count,), with 12 digits at most: 0.3, not 0.30000000000000004; both ends are exact."""
        inner = [float(f"{budget:.12g}") for budget in np.linspace(self.start, self.stop, self.count)[1:-1].tolist()]
        return np.array([self.start, *inner, self.stop], dtype=np.float64)


@dataclass(frozen=True)
class SeriesSpec:
    """Everything besides the two images that decides a distance: one network, layer, projection and method.

    `network` is the SHA-256 of the network (its name may change), `m` the rows of the projection (None: none),
    `seed` the seed of the projection.
    """

    network: str
    layer: str
    m: int | None
    seed: int
    method: str = "balanced"
    preset: str = "default"
    method_version: int = 0  # 0 is replaced by the current version of the method

    def __post_init__(self) -> None:
        _require(self.method in METHODS, f"The method {self.method!r} is not one of {', '.join(METHODS)}.")
        if self.method_version == 0:
            object.__setattr__(self, "method_version", METHODS[self.method])
        if self.m is None:
            object.__setattr__(self, "seed", 0)  # without a projection there is nothing to draw

    @property
    def key(self) -> str:
        return _key(asdict(self))


@dataclass(frozen=True)
class AuditSpec:
    """An audit: network x layers x m's x N projections x class pair x sample x method.

    `network` is a name on the shelf (or a path, for the command line). `m` holds one or more projection
    dimensions; None stands for "no projection". Projection i uses the seed `projection_seed + i`, so asking for one
    more projection keeps the others; `projection_seed` None stands for `seed`. The sample of a class is the first
    `samples` of a permutation drawn from `seed`, so a larger sample contains the smaller one; images that are
    `left_out`, by their number in the split, make room for the next ones of it.
    """

    network: str
    dataset: str
    classes: tuple[int, int]
    samples: int
    layers: tuple[str, ...]
    m: tuple[int | None, ...] = (10,)
    projections: int = 1
    seed: int = 0
    method: str = "balanced"
    preset: str = "default"
    epsilon: EpsilonGrid = EpsilonGrid()
    split: str = "train"
    left_out: tuple[int, ...] = ()
    projection_seed: int | None = None

    def __post_init__(self) -> None:
        for name in ("classes", "layers", "m", "left_out"):  # JSON gives lists
            object.__setattr__(self, name, tuple(getattr(self, name)))
        _require(bool(self.network), "Choose a network.")
        _require(bool(self.dataset), "Choose a data set.")
        _require(bool(self.split), "Choose a split of the data set.")
        _require(
            len(self.classes) == 2 and all(_is_int(c) and c >= 0 for c in self.classes),
            "The classes must be two whole numbers of 0 or more.",
        )
        _require(
            self.classes[0] != self.classes[1],
            f"The two classes must differ; both are {self.classes[0]}.",
        )
        _require(
            _is_int(self.samples) and self.samples >= 1,
            f"The sample size S is {self.samples}; it must be a whole number of 1 or more.",
        )
        _require(len(self.layers) > 0, "Choose at least one layer.")
        _require(len(set(self.layers)) == len(self.layers), "A layer is listed twice; list each layer once.")
        _require(len(self.m) > 0, "Choose at least one projection dimension m.")
        _require(len(set(self.m)) == len(self.m), "A projection dimension m is listed twice; list each once.")
        for m in self.m:
            _require(
                m is None or (_is_int(m) and m >= 1),
                f"The projection dimension m is {m}; it must be a whole number of 1 or more.",
            )
        _require(
            _is_int(self.projections) and 1 <= self.projections <= 1000,
            f"The number of projections N is {self.projections}; it must be a whole number from 1 to 1000.",
        )
        _require(
            _is_int(self.seed) and 0 <= self.seed < 2**31,
            f"The seed is {self.seed}; it must be a whole number of 0 or more.",
        )
        _require(self.method in METHODS, f"The method {self.method!r} is not one of {', '.join(METHODS)}.")
        _require(self.preset in PRESETS, f"The preset {self.preset!r} is not one of {', '.join(PRESETS)}.")
        _require(
            all(_is_int(number) and number >= 0 for number in self.left_out),
            "Images are left out by their numbers, which are whole and 0 or more.",
        )
        _require(
            self.projection_seed is None or (_is_int(self.projection_seed) and 0 <= self.projection_seed < 2**31),
            f"The seed of the projections is {self.projection_seed}; it must be a whole number of 0 or more.",
        )
        if self.projection_seed == self.seed:  # one question, one key
            object.__setattr__(self, "projection_seed", None)
        object.__setattr__(self, "left_out", tuple(sorted({int(number) for number in self.left_out})))

    def check_layers(self, features: Mapping[str, int]) -> None:
        """Raise SpecError unless every layer exists and m <= nj; `features` maps layer name -> size nj."""
        for layer in self.layers:
            _require(
                layer in features,
                f"The network has no layer {layer!r}; it has {', '.join(features)}.",
            )
            for m in self.m:
                _require(
                    m is None or m <= features[layer],
                    f"m = {m} is larger than the {features[layer]} features of layer {layer}; "
                    f"choose m from 1 to {features[layer]}.",
                )

    def too_large(self, features: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
        """Each (layer, m) whose m is above the layer's size nj: they are left out of an audit of several layers.

        `features` maps layer name -> nj. Raises SpecError where a layer does not exist or nothing else is asked.
        """
        for layer in self.layers:
            self.replace(layers=(layer,), m=(None,)).check_layers(features)
        found = tuple((one, m) for one in self.layers for m in self.m if m is not None and m > features[one])
        if len(found) == len(self.layers) * len(self.m):
            self.check_layers(features)
        return found

    def check_samples(self, available: Mapping[int, int]) -> None:
        """Raise SpecError if a class does not exist or S is larger; `available`: every class -> number of images."""
        for label in self.classes:
            _require(
                label in available,
                f"There is no class {label} in {self.dataset}: its classes are {min(available)} to {max(available)}.",
            )
            _require(
                self.samples <= available[label] - len(self.left_out),
                f"The sample size S = {self.samples} is larger than class {label}, "
                f"which has {available[label]} images in {self.dataset} ({self.split})"
                + (f", of which up to {len(self.left_out)} are left out." if self.left_out else "."),
            )

    def series(self, network_sha256: str) -> list[SeriesSpec]:
        """The series of this audit, projection by projection within m within layer; without m only one."""
        return [
            SeriesSpec(network_sha256, layer, m, self.first_projection + i, self.method, self.preset)
            for layer in self.layers
            for m in self.m
            for i in range(1 if m is None else self.projections)
        ]

    @property
    def first_projection(self) -> int:
        """The seed of the first projection."""
        return self.seed if self.projection_seed is None else self.projection_seed

    @property
    def seeds(self) -> str:
        """Both seeds in words: 0, or 0 for the images and 5 for the projections."""
        if self.projection_seed is None:
            return str(self.seed)
        return f"{self.seed} for the images and {self.projection_seed} for the projections"

    @property
    def key(self) -> str:
        return _key(self.to_json())

    def to_json(self) -> dict[str, Any]:
        payload = asdict(self)
        payload |= {name: list(payload[name]) for name in ("classes", "layers", "m", "left_out")}
        if not self.left_out:  # so that questions from before there was this field keep their keys
            del payload["left_out"]
        if self.projection_seed is None:
            del payload["projection_seed"]
        return payload

    @classmethod
    def from_json(cls, payload: Mapping[str, Any]) -> Self:
        fields = dict(payload)
        fields["epsilon"] = EpsilonGrid(**fields["epsilon"])
        return cls(**fields)

    def replace(self, **changes: Any) -> Self:
        return replace(self, **changes)


def too_large_words(too_large: Sequence[tuple[str, int]], features: Mapping[str, int]) -> str:
    """What `AuditSpec.too_large` found, in a sentence; empty if that is nothing."""
    if not too_large:
        return ""
    named = ", ".join(f"{layer} ({features[layer]}) at m = {m}" for layer, m in too_large)
    return f"Left out, for m is above the number of features: {named}."


def sample_indices(
    labels: np.ndarray[Any, np.dtype[np.integer[Any]]],
    label: int,
    samples: int,
    seed: int,
    left_out: Sequence[int] = (),
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The sample of one class: indices into `labels`, (S,) int64, nested in S for a fixed seed; none is `left_out`."""
    members = np.flatnonzero(labels == label)
    order = np.random.default_rng([seed, label]).permutation(members)
    if left_out:
        order = order[~np.isin(order, left_out)]
    return order[:samples].astype(np.int64)
