"""What a user asks (AuditSpec): a network, its sample, its search, and the range of budgets that is looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Self

from robustness_core.spec.checks import key_of, require
from robustness_core.spec.methods import PAPERS
from robustness_core.spec.sample import SampleSpec
from robustness_core.spec.search import SearchSpec
from robustness_core.spec.threat import Threat
from robustness_core.spec.view import EpsilonGrid

ALL_UP_TO = 20  # images of each of two classes: of few pairs all are searched, since single ones weigh much (measured)


@dataclass(frozen=True)
class AuditSpec:
    """An audit: a network, which images, which search; and the budgets of its curves, which are no part of it.

    `network` is the name of a network (or a path, for the command line). Audits that differ in `epsilon` alone are
    equal and have one key. Sets have at most an image of each class. Up to
    ALL_UP_TO images of each of two classes all pairs are searched, whatever was asked.
    """

    network: str
    sample: SampleSpec
    search: SearchSpec
    epsilon: EpsilonGrid = field(default=EpsilonGrid(), compare=False)

    def __post_init__(self) -> None:
        require(bool(self.network), "Choose a network.")
        if self.search.pairs != "all" and self.sample.size <= ALL_UP_TO and len(self.sample.classes) == 2:
            object.__setattr__(self, "search", replace(self.search, pairs="all"))
        if self.search.sets > (most := len(self.sample.classes)):  # the images of a set are of distinct classes
            object.__setattr__(self, "search", replace(self.search, sets=most))
        require(
            self.search.sets == 2 or self.search.threat == PAPERS,
            "Sets of three and more images are searched in ℓ2 without the box alone; ask for pairs, or for l2.",
        )
        require(
            self.search.sets == 2 or self.search.method == "balanced",
            f"Sets of three and more images are searched by balanced alone; {self.search.method} knows pairs.",
        )

    @classmethod
    def of(cls, network: str, **named: Any) -> Self:
        """An audit from the fields of its parts, by name; `samples` is S, `projection_seed` is `seed` unless given.

        The names are those of the JSON, where all lie beside each other; `threat` may be a norm, beside `box`.
        """
        threat, box = named.pop("threat", PAPERS), named.pop("box", None)
        threat = threat if isinstance(threat, Threat) else Threat(threat)
        named["threat"] = threat if box is None else replace(threat, box=box)
        seed = named.get("seed", 0)
        first = named.pop("projection_seed", None)
        named["size"] = named.pop("samples")
        view = {"epsilon": named.pop("epsilon")} if "epsilon" in named else {}
        sample = SampleSpec(**{one.name: named.pop(one.name) for one in fields(SampleSpec) if one.name in named})
        return cls(network, sample, SearchSpec(**named, seed=seed if first is None else first), **view)

    @property
    def needed(self) -> bool:
        """Whether only the pairs are searched that the curves need."""
        return self.search.pairs == "needed"

    @property
    def seeds(self) -> str:
        """Both seeds in words: 0, or 0 for the images and 5 for the projections."""
        if self.search.seed == self.sample.seed:
            return str(self.sample.seed)
        return f"{self.sample.seed} for the images and {self.search.seed} for the projections"

    def fitting(self, features: Mapping[str, int]) -> list[Self]:
        """The same without what `SearchSpec.too_large` finds, in as few audits as ask for all their layers at all m."""
        left_out = self.search.too_large(features)
        parts: dict[tuple[str, ...], list[int | None]] = {}
        for m in self.search.m:
            layers = tuple(layer for layer in self.search.layers if (layer, m) not in left_out)
            parts.setdefault(layers, []).append(m)
        return [self.replace(layers=layers, m=m) for layers, m in parts.items() if layers]

    def identity(self) -> dict[str, Any]:
        """What decides the distances: everything but the budgets."""
        seeds = {} if self.search.seed == self.sample.seed else {"projection_seed": self.search.seed}
        return {"network": self.network, **self.sample.identity(), **self.search.identity(), **seeds}

    @property
    def key(self) -> str:
        return key_of(self.identity())

    def to_json(self) -> dict[str, Any]:
        return self.identity() | {"epsilon": asdict(self.epsilon)}

    @classmethod
    def from_json(cls, payload: Mapping[str, Any]) -> Self:
        parts = {"epsilon": EpsilonGrid(**payload["epsilon"]), "threat": Threat(**payload.get("threat", {}))}
        return cls.of(**{**payload, **parts})

    def replace(self, **changes: Any) -> Self:
        """The audit with other fields, of its own or of its parts, by the names that `of` takes."""
        own = {"epsilon": self.epsilon, "threat": self.search.threat}
        return self.of(**{**self.identity(), **own, **changes})
