"""What is searched for each pair of images (SearchSpec), and one series of it (SeriesSpec)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from robustness_core.spec.checks import check_seed, is_int, key_of, require
from robustness_core.spec.methods import METHODS, PAPERS, PRECISIONS
from robustness_core.spec.threat import Threat


def check_method(method: str, preset: str, threat: Threat) -> None:
    """Raise SpecError unless the registry has the method, with this preset, for this threat model."""
    require(method in METHODS, f"The method {method!r} is not one of {', '.join(METHODS)}.")
    presets, threats = METHODS[method].presets, METHODS[method].threats
    require(preset in presets, f"The preset {preset!r} is not one of {', '.join(presets)}.")
    require(
        threat in threats,
        f"The method {method} does not serve the threat model {threat}; it serves {', '.join(map(str, threats))}.",
    )


def check_precision(precision: str) -> None:
    """Raise SpecError unless it is one of PRECISIONS."""
    require(precision in PRECISIONS, f"The precision {precision!r} is not one of {', '.join(PRECISIONS)}.")


@dataclass(frozen=True)
class SeriesSpec:
    """Everything besides the two images that decides a distance: one network, layer, projection, method and threat.

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
    threat: Threat = PAPERS

    def __post_init__(self) -> None:
        check_method(self.method, self.preset, self.threat)
        if self.method_version == 0:
            object.__setattr__(self, "method_version", METHODS[self.method].version)
        if self.m is None:
            object.__setattr__(self, "seed", 0)  # without a projection there is nothing to draw

    def identity(self) -> dict[str, Any]:
        """What decides a distance, without the threat model where it is the paper's: before, there was no other."""
        named = {
            "network": self.network,
            "layer": self.layer,
            "m": self.m,
            "seed": self.seed,
            "method": self.method,
            "preset": self.preset,
            "method_version": self.method_version,
        }
        return named | threat_identity(self.threat)

    @property
    def key(self) -> str:
        return key_of(self.identity())

    @classmethod
    def from_json(cls, payload: Mapping[str, Any]) -> Self:
        """The series of an `identity`."""
        return cls(**{**payload, "threat": Threat(**payload.get("threat", {}))})


def threat_identity(threat: Threat) -> dict[str, Any]:
    """The threat model as a part of an identity; nothing where it is the paper's."""
    return {} if threat == PAPERS else {"threat": {"norm": threat.norm, "box": threat.box}}


PAIRS = ("needed", "all")  # which pairs are searched


@dataclass(frozen=True)
class SearchSpec:
    """What is searched for each pair: layers x m's x N projections, by a method, under a threat model.

    `m` holds one or more projection dimensions; None stands for "no projection". Projection i uses the seed
    `seed + i`, so asking for one more projection keeps the others. `pairs`: all, or those needed for the curves, which
    are the pairs that could change one as far as can be guessed (engine.plan). `sets`: of more than two classes
    collisions of up to so many images at once are looked for (engine.sets); 2: pairs alone. Raises SpecError.
    """

    layers: tuple[str, ...]
    m: tuple[int | None, ...] = (10,)
    projections: int = 1
    seed: int = 0
    method: str = "balanced"
    preset: str = "default"
    threat: Threat = PAPERS
    pairs: str = "all"
    sets: int = 2

    def __post_init__(self) -> None:
        for name in ("layers", "m"):  # JSON gives lists
            object.__setattr__(self, name, tuple(getattr(self, name)))
        require(len(self.layers) > 0, "Choose at least one layer.")
        require(len(set(self.layers)) == len(self.layers), "A layer is listed twice; list each layer once.")
        require(len(self.m) > 0, "Choose at least one projection dimension m.")
        require(len(set(self.m)) == len(self.m), "A projection dimension m is listed twice; list each once.")
        for m in self.m:
            require(
                m is None or (is_int(m) and m >= 1),
                f"The projection dimension m is {m}; it must be a whole number of 1 or more.",
            )
        require(
            is_int(self.projections) and 1 <= self.projections <= 1000,
            f"The number of projections N is {self.projections}; it must be a whole number from 1 to 1000.",
        )
        check_seed(self.seed, " of the projections")
        require(
            is_int(self.sets) and self.sets >= 2,
            f"Sets are of 2 or more images, a whole number; {self.sets} is none.",
        )
        require(self.pairs in PAIRS, f"The pairs {self.pairs!r} are not one of {', '.join(PAIRS)}.")
        check_method(self.method, self.preset, self.threat)

    def check(self, features: Mapping[str, int]) -> None:
        """Raise SpecError unless every layer exists and m <= nj; `features` maps layer name -> size nj."""
        for layer in self.layers:
            require(layer in features, f"The network has no layer {layer!r}; it has {', '.join(features)}.")
            for m in self.m:
                require(
                    m is None or m <= features[layer],
                    f"m = {m} is larger than the {features[layer]} features of layer {layer}; "
                    f"choose m from 1 to {features[layer]}.",
                )

    def too_large(self, features: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
        """Each (layer, m) whose m is above the layer's size nj: they are left out of an audit of several layers.

        `features` maps layer name -> nj. Raises SpecError where a layer does not exist or nothing else is asked.
        """
        for layer in self.layers:
            replace(self, layers=(layer,), m=(None,)).check(features)
        found = tuple((one, m) for one in self.layers for m in self.m if m is not None and m > features[one])
        if len(found) == len(self.layers) * len(self.m):
            self.check(features)
        return found

    def series(self, network_sha256: str, features: Mapping[str, int]) -> list[SeriesSpec]:
        """The series, projection by projection within m within layer.

        Only one where the projections would all ask the same question: without m, and where m is the number of
        `features` nj of a layer, since A is invertible then whatever its seed.
        """
        return [
            SeriesSpec(network_sha256, layer, m, seed, self.method, self.preset, threat=self.threat)
            for layer in self.layers
            for m in self.m
            for seed in ([0] if m in (None, features.get(layer)) else range(self.seed, self.seed + self.projections))
        ]

    def identity(self) -> dict[str, Any]:
        """What decides the search but its first seed, without fields at their historical defaults."""
        named = {
            "layers": list(self.layers),
            "m": list(self.m),
            "projections": self.projections,
            "method": self.method,
            "preset": self.preset,
        }
        more = ({"pairs": self.pairs} if self.pairs != "all" else {}) | ({"sets": self.sets} if self.sets != 2 else {})
        return named | threat_identity(self.threat) | more


def too_large_words(too_large: Sequence[tuple[str, int]], features: Mapping[str, int]) -> str:
    """What `SearchSpec.too_large` found, in a sentence; empty if that is nothing."""
    if not too_large:
        return ""
    named = ", ".join(f"{layer} ({features[layer]}) at m = {m}" for layer, m in too_large)
    return f"Left out, for m is above the number of features: {named}."
