"""The registry of methods: nothing else lists methods, presets, their cost or what their numbers bound."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from robustness_core.spec.threat import Threat

TOLERANCE = 1e-4  # largest relative residual at which a pair counts as a collision (METHOD.md section 1)
PAPERS = Threat()  # ℓ2 without the box
# Of the search's steps; auto takes the fastest of the device. Polish is in float32, verification in float64 always.
PRECISIONS = ("auto", "float32", "tfloat32", "bfloat16")


@dataclass(frozen=True)
class Method:
    """A way to search collisions.

    `version` changes whenever its distances may change: distances of two versions never mix. `passes`: preset -> the
    forward and backward passes, both images counted, that a pair is expected to cost at m = 10. `threats`: the threat
    models that it serves. `bounds`: what its number is. `descends`: whether it has steps that need not be exact, which
    a lower precision serves. `search`: its function as `module:name`, which is called as (constraint, originals,
    features of the originals, preset, seed, goal, number of the first start); a name, so that the web process, which
    reads this table, needs no torch.
    """

    name: str
    version: int
    passes: Mapping[str, int]
    threats: tuple[Threat, ...]
    bounds: str
    search: str
    descends: bool = False

    @property
    def presets(self) -> tuple[str, ...]:
        return tuple(self.passes)

    def load(self) -> Callable[..., Any]:
        """The function of the search; imports torch."""
        module, name = self.search.split(":")
        function: Callable[..., Any] = getattr(import_module(module), name)
        return function


_UPPER = "an upper bound on the distance of the pair, that of a collision verified in float64"

METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        Method(
            name="balanced",
            version=3,
            passes={"fast": 75, "default": 150, "thorough": 270},
            threats=(PAPERS,),
            bounds=_UPPER,
            search="robustness_core.collision.balanced:search",
            descends=True,
        ),
        Method(
            name="algorithm1",
            version=3,
            passes={"fast": 124, "default": 234, "thorough": 564},
            threats=(PAPERS,),
            bounds=_UPPER,
            search="robustness_core.collision.algorithm1:search",
        ),
    )
}
PRESETS = METHODS["balanced"].presets  # every method has the same
