"""The registry of methods: nothing else lists methods, presets, their cost or what their numbers bound."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from robustness_core.spec.threat import NORMS, Threat

TOLERANCE = 1e-4  # largest relative residual at which a pair counts as a collision (METHOD.md section 1)
PAPERS = Threat()  # ℓ2 without the box
THREATS = tuple(Threat(norm, box) for norm in NORMS for box in (False, True))
# Of the search's steps; auto takes the fastest of the device. Polish is in float32, verification in float64 always.
PRECISIONS = ("auto", "float32", "tfloat32", "bfloat16")


@dataclass(frozen=True)
class Method:
    """A way to search collisions.

    `version` changes whenever its distances may change: distances of two versions never mix. `passes`: preset -> the
    forward and backward passes, both images counted, that a pair is expected to cost at m = 10. `searches`: of each
    threat model that it serves the function as `module:name`, which is called as (constraint, originals, features of
    the originals, preset, seed, goal, number of the first start, threat model); a name, so that the web process, which
    reads this table, needs no torch. `bounds`: what its number is. `descends`: whether it has steps that need not be
    exact, which a lower precision serves.
    """

    name: str
    version: int
    passes: Mapping[str, int]
    searches: Mapping[Threat, str]
    bounds: str
    descends: bool = False

    @property
    def presets(self) -> tuple[str, ...]:
        return tuple(self.passes)

    @property
    def threats(self) -> tuple[Threat, ...]:
        return tuple(self.searches)

    def load(self, threat: Threat) -> Callable[..., Any]:
        """The function of the search for a threat model; imports torch."""
        module, name = self.searches[threat].split(":")
        function: Callable[..., Any] = getattr(import_module(module), name)
        return function


_BALANCED, _PROXIMAL = (f"robustness_core.collision.{name}:search" for name in ("balanced", "proximal"))
_UPPER = "an upper bound on the distance of the pair, that of a collision verified in float64"

METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        Method(
            name="balanced",
            version=3,
            passes={"fast": 75, "default": 150, "thorough": 270},
            searches={threat: _BALANCED if threat.norm == "l2" else _PROXIMAL for threat in THREATS},
            bounds=_UPPER,
            descends=True,
        ),
        Method(
            name="algorithm1",
            version=3,
            passes={"fast": 124, "default": 234, "thorough": 564},
            searches={PAPERS: "robustness_core.collision.algorithm1:search"},
            bounds=_UPPER,
        ),
    )
}
PRESETS = METHODS["balanced"].presets  # every method has the same
