"""What is known of a question: its distance matrices and loss curves, in the order that screens draw them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from charts.curves import Curve
from pages.parts import data
from robustness_core.engine import nesting
from robustness_core.found import Finding, Floats, Found, FoundSet, Set
from robustness_core.optimal_loss import loss_curve
from robustness_core.spec import AuditSpec, EpsilonGrid, SampleSpec, SeriesSpec
from store import distances, findings, images, sets
from store.database import Database
from store.records import NetworkRecord


@dataclass(frozen=True, eq=False)
class Projection:
    """One series of the question and what is known of it; `series_id` is None before its first distance.

    `finding`: what its curve rests on, once it was settled; `needed`: whether the question asks for no more.
    """

    spec: SeriesSpec
    series_id: int | None
    matrix: Found
    sample: SampleSpec
    finding: Finding | None = None
    needed: bool = False
    sets: Mapping[Set, FoundSet] = field(default_factory=dict)

    @property
    def known(self) -> int:
        return int(self.matrix.known.sum())

    @property
    def complete(self) -> bool:
        return self.known == self.sample.pairs

    def with_sets(self, budgets: Floats, values: Floats, of: Literal["set_losses", "set_errors"]) -> Floats:
        """A curve of pairs, `values` at `budgets` (E,), and what sets add to it as far as that was computed."""
        if self.finding is None or not self.finding.set_budgets:
            return values
        steps = np.concatenate([[0.0], np.array(getattr(self.finding, of))])
        reached: Floats = steps[np.searchsorted(self.finding.set_budgets, budgets, side="right")]
        return np.maximum(values, reached)

    @property
    def graph(self) -> Floats:
        """The distances as the optimal loss takes them."""
        return self.sample.graph(self.matrix.distance)

    @property
    def left_out(self) -> int:
        """Pairs that the curve does not need, as far as could be guessed."""
        return self.sample.pairs - self.known if self.needed and self.finding is not None else 0

    @property
    def missing(self) -> int:
        return self.sample.pairs - self.known - self.left_out


@dataclass(frozen=True, eq=False)
class Answer:
    """All that is known of a question: `groups` holds, per layer and m in order, the projections.

    `left_ids` and `right_ids` are ids of stored images, -1 where an image is not stored yet.
    """

    spec: AuditSpec
    sample: data.Sample
    left_ids: NDArray[np.int64]
    right_ids: NDArray[np.int64]
    groups: dict[tuple[str, int | None], list[Projection]]

    @property
    def total(self) -> int:
        return sum(len(group) for group in self.groups.values()) * self.spec.sample.pairs

    @property
    def known(self) -> int:
        return sum(p.known for group in self.groups.values() for p in group)

    @property
    def missing(self) -> int:
        return sum(p.missing for group in self.groups.values() for p in group)

    @property
    def left_out(self) -> int:
        """Pairs that the curves do not need, as far as could be guessed."""
        return self.total - self.known - self.missing

    @property
    def lacking(self) -> bool:
        """Whether an audit would find more: pairs are missing, or sets were not looked for."""
        asked = self.spec.search.sets
        every = (p for group in self.groups.values() for p in group)
        return self.missing > 0 or any(p.finding is None or p.finding.largest_set < asked for p in every if asked > 2)

    @property
    def devices(self) -> list[str]:
        return sorted({device for group in self.groups.values() for p in group for device in p.matrix.devices})

    @property
    def versions(self) -> list[str]:
        found = [p.matrix for group in self.groups.values() for p in group]
        steps = {f"steps in {precision}" for one in found for precision in one.precisions}
        return [*sorted({version for one in found for version in one.versions}), *sorted(steps)]


def answer(db: Database, spec: AuditSpec, network: NetworkRecord) -> Answer:
    """Read what is known; six queries at most, whatever the question.

    Each pair has the nearest collision that any series of the question found for it (robustness_core.nesting), as in
    the audit of the command line.
    """
    chosen = data.sample(data.key(spec))
    left_ids, right_ids = image_ids(db, spec)
    asked = spec.search.series(network.sha256, network.features)
    found = distances.find_all(db, asked)
    series_ids = {key: record.id for key, record in found.items()}
    # An image that is not stored gets a number of its own below 0, which no distance has.
    rows, columns = (np.where(side < 0, -1 - np.arange(len(side)) - offset, side)
                     for side, offset in ((left_ids, 0), (right_ids, len(left_ids))))  # fmt: skip
    counts = distances.counts(db, list(series_ids.values()), rows) if series_ids else {}
    known = _matrices(db.name, series_ids, counts, rows, columns, db) if series_ids else {}
    nothing = Found.nothing(len(rows), len(columns))
    matrices = [known[found[one.key].id] if one.key in found else nothing for one in asked]
    settled = findings.find(db, list(series_ids.values()), spec.sample) if series_ids else {}
    of_sets = sets.find(db, list(series_ids.values()), rows) if series_ids and len(spec.sample.classes) > 2 else {}
    groups: dict[tuple[str, int | None], list[Projection]] = {}
    for series, matrix in zip(asked, nesting.nested(asked, matrices, network.features), strict=True):
        record = found.get(series.key)
        groups.setdefault((series.layer, series.m), []).append(
            Projection(
                series, record.id, matrix, spec.sample, settled.get(record.id), spec.needed, of_sets.get(record.id, {})
            )
            if record is not None
            else Projection(series, None, matrix, spec.sample)
        )
    return Answer(spec, chosen, left_ids, right_ids, groups)


def image_ids(db: Database, spec: AuditSpec) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ids of the stored images at the rows and at the columns, -1 where an image is not stored yet."""
    chosen = data.sample(data.key(spec))
    both = np.unique([*chosen.left, *chosen.right]).tolist()
    ids = images.ids(db, spec.sample.dataset, spec.sample.split, both)
    left, right = (np.array([ids.get(int(i), -1) for i in side]) for side in (chosen.left, chosen.right))
    return left, right


# Distances are added or improved: as long as so many are known, and so many improved, these are the matrices.
@st.cache_data(show_spinner=False, max_entries=8)
def _matrices(
    database: str,
    series_ids: dict[str, int],
    counts: dict[int, tuple[int, int]],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    _db: Database,
) -> dict[int, Found]:
    """Series id -> matrix; `series_ids` maps SeriesSpec.key -> id, `counts` as in distances.counts."""
    return distances.matrices(_db, list(series_ids.values()), rows, columns)


def curves(answer: Answer, features: dict[str, int]) -> list[Curve]:
    """The loss curve of every layer and m, in order."""
    drawn = []
    for (layer, m), group in answer.groups.items():
        losses = np.stack([_loss(projection, answer.spec) for projection in group])
        total = len(group) * answer.spec.sample.pairs
        known_of = tuple(projection.known for projection in group)
        left_out_of = tuple(projection.left_out for projection in group)
        most = math.log(len(answer.spec.sample.classes)) if answer.spec.search.sets > 2 else math.log(2)
        drawn.append(
            Curve(layer, features[layer], m, losses, sum(known_of), total, known_of, left_out_of=left_out_of, most=most)
        )
    return drawn


def input_space(spec: AuditSpec) -> Floats:
    """The loss curve of the images themselves: no feature, no projection."""
    return _input_space(data.key(spec), spec.search.threat.order, spec.epsilon, spec.sample)


def _loss(projection: Projection, spec: AuditSpec) -> Floats:
    if projection.known == 0:
        return np.zeros(spec.epsilon.count)
    budgets = spec.epsilon.values()
    return projection.with_sets(budgets, loss_at(projection.graph, budgets), "set_losses")


@st.cache_data(show_spinner=False, max_entries=2000)
def loss_at(distances: Floats, budgets: Floats) -> Floats:
    """The loss of a matrix (L, R) at budgets (E,)."""
    return loss_curve(distances, budgets)


@st.cache_data(show_spinner=False, max_entries=200, hash_funcs={EpsilonGrid: repr})
def _input_space(sample: data.Key, order: float, epsilon: EpsilonGrid, _spec: SampleSpec) -> Floats:
    return loss_curve(_spec.graph(data.input_distances(sample, order)), epsilon.values())
