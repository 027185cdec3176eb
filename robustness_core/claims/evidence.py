"""What claims are judged by: the audits that come with Strata and the cards of its networks. No store, no torch."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from robustness_core import datasets, zoo
from robustness_core.claims.resampling import Measured, Side
from robustness_core.found import Floats
from robustness_core.optimal_loss.conflict_graph import input_distances
from robustness_core.optimal_loss.statistics import LeftOut, half_budget_without_one, mean_distance_without_one
from robustness_core.shipped import Shipped, read
from robustness_core.spec import METHODS, PAPERS, AuditSpec
from robustness_core.spec.fields import FIELDS

FILES = ("first-look.npz", "paper.npz")  # in the folder of the bundled networks
STARTS = "starts.json"
ENOUGH = 5  # projections; more images count for more than more projections from here on


@dataclass(frozen=True, eq=False)
class Audit:
    """A shipped audit and the name of the file that holds it."""

    file: str
    shipped: Shipped

    @property
    def spec(self) -> AuditSpec:
        return self.shipped.spec

    @property
    def network(self) -> str:
        return self.spec.network

    @property
    def seeds(self) -> int:
        """N, the most projections of a layer."""
        return self.spec.search.projections

    def matrices(self, layer: str, m: int | None) -> dict[int, Floats]:
        """Distances (L, R) of a layer seen through m mixtures, by the seed of the projection."""
        places = {one.seed: i for i, one in enumerate(self.shipped.series) if (one.layer, one.m) == (layer, m)}
        return {seed: self.shipped.found.distance[place] for seed, place in places.items()}

    def whole(self, layer: str, m: int | None) -> bool:
        """Whether every pair is known."""
        return not any(np.isnan(one).any() for one in self.matrices(layer, m).values())

    @property
    def sides(self) -> tuple[Side, Side]:
        """Which images stand at the rows and at the columns."""
        sample = self.spec.sample
        left, right = (
            (sample.dataset, sample.split, label, numbers)
            for label, numbers in zip(sample.classes, self.shipped.indices, strict=True)
        )
        return left, right


@dataclass(frozen=True, eq=False)
class Evidence:
    """Audits of two classes, cards by the name of their network, and the SHA-256 of every file by its name.

    `starts`: what `python -m benchmarks.starts` found, None where that file is not there.
    """

    audits: tuple[Audit, ...]
    cards: Mapping[str, Mapping[str, Any]]
    files: Mapping[str, str]
    starts: Mapping[str, Any] | None = None
    _measured: dict[tuple[Any, ...], Measured] = field(default_factory=dict)

    def layers(self, network: str) -> list[str]:
        """From input to output; none of an unknown network."""
        return [layer["name"] for layer in self.cards.get(network, {}).get("layers", ())]

    def features(self, network: str, layer: str) -> int:
        return next(int(one["features"]) for one in self.cards[network]["layers"] if one["name"] == layer)

    def pixels(self, network: str) -> int:
        return int(np.prod(self.cards[network]["input_shape"]))

    def find(
        self,
        network: str,
        layers: Sequence[str],
        m: Sequence[int | None] = (10,),
        *,
        classes: tuple[int, ...] = (3, 7),
        seed: int | None = 0,
        size: int | None = None,
        whole: bool = False,
    ) -> list[Audit]:
        """Audits of these layers and m by the usual search, best first. seed: of the images, None: any."""
        found = [
            audit
            for audit in self.audits
            if audit.network == network
            and audit.spec.sample.classes == classes
            and (seed is None or audit.spec.sample.seed == seed)
            and (size is None or audit.spec.sample.size == size)
            and (audit.spec.search.method, audit.spec.search.preset) == ("balanced", "default")
            and audit.spec.search.threat == PAPERS
            and all(audit.matrices(layer, k) for layer in layers for k in m)
            and (not whole or all(audit.whole(layer, k) for layer in layers for k in m))
        ]
        return sorted(found, key=_worth, reverse=True)

    def together(self, asked: Mapping[str, Sequence[str]], **named: Any) -> list[Audit]:
        """An audit of each network with these layers, all of one sample size; none if there is no such size."""
        sizes = {audit.spec.sample.size for audit in self.audits}
        choices: list[list[Audit]] = []
        for size in sizes:
            found = [self.find(network, layers, size=size, **named) for network, layers in asked.items()]
            if all(found):
                choices.append([one[0] for one in found])
        return max(choices, key=lambda chosen: min(_worth(one) for one in chosen), default=[])

    def half(self, audit: Audit, layer: str, m: int | None = 10) -> Measured:
        """ε½ of a layer."""
        return self._known(audit, layer, m, half_budget_without_one)

    def mean(self, audit: Audit, layer: str, m: int | None = 10) -> Measured:
        """The mean distance of a layer, where every pair is known."""
        return self._known(audit, layer, m, mean_distance_without_one)

    def input(self, audit: Audit) -> Measured:
        """The mean distance of the images themselves, ½‖x − x′‖."""
        sample = audit.spec.sample
        pixels = datasets.load(sample.dataset, sample.split).pixels
        left, right = (pixels[list(numbers)] for numbers in audit.shipped.indices)
        return Measured([mean_distance_without_one(input_distances(left, right))], None, *audit.sides, sample.size)

    def _known(self, audit: Audit, layer: str, m: int | None, statistic: Callable[[Floats], LeftOut]) -> Measured:
        key = (id(audit), layer, m, statistic.__name__)
        if key not in self._measured:
            matrices, size = audit.matrices(layer, m), audit.spec.sample.size
            drawn = m is not None and m < self.features(audit.network, layer)
            values = [statistic(one) for one in (matrices.values() if drawn else [*matrices.values()][:1])]
            self._measured[key] = Measured(values, tuple(matrices) if drawn else None, *audit.sides, size)
        return self._measured[key]


def _worth(audit: Audit) -> tuple[int, int, int]:
    return min(audit.seeds, ENOUGH), audit.spec.sample.size, audit.seeds


def gather(folder: Path = zoo.ZOO) -> Evidence:
    """All that is shipped in a folder: `FILES`, cards, and `STARTS`. Cost: a second to check who is who.

    Audits of a network that is not bundled any more, or by another version of a method, are left out.
    """
    paths = [folder / name for name in FILES if (folder / name).is_file()]
    named = {path.stem for path in folder.glob("*.safetensors")} | set(_later().values())
    cards = {path.stem: path for path in sorted(folder.glob("*.json")) if path.stem in named}
    starts = [path for path in [folder / STARTS] if path.is_file() and _name(_json(path)["sha256"]) is not None]
    return Evidence(
        audits=tuple(_audits(paths)),
        cards={name: _json(path) for name, path in cards.items()},
        files={path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (*paths, *cards.values(), *starts)},
        starts=_json(starts[0]) if starts else None,
    )


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _later() -> dict[str, str]:
    """The names of bundled networks that a package has no room for, by the SHA-256 of their files."""
    return {sha256: name.removesuffix(".safetensors") for name, sha256 in zoo.larger().items()}


def _name(sha256: str) -> str | None:
    return zoo.name_of(sha256) or _later().get(sha256)


def _audits(paths: Sequence[Path]) -> Iterator[Audit]:
    for path in paths:
        for shipped in read(path):
            current = all(one.method_version == METHODS[one.method].version for one in shipped.series)
            if _name(shipped.network) == shipped.spec.network and current and len(shipped.spec.sample.classes) == 2:
                yield Audit(path.name, shipped)


def command(spec: AuditSpec) -> str:
    """The command line that computes an audit from nothing."""
    options = [word for one in FIELDS.values() if one.name != "epsilon" for word in one.option(spec)]
    said = ["python", "-m", "robustness_core", "audit", f"--network={spec.network}", *map(str, options)]
    return shlex.join([*said, "--json", f"{spec.network}.json"])
