"""Distances never fall with m, nor grow with depth without projection: what is searched apart is put together."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from robustness_core.engine import nesting
from robustness_core.engine.audit import run_audit
from robustness_core.found import Found
from robustness_core.networks import build
from robustness_core.spec import AuditSpec, SeriesSpec

torch.set_num_threads(1)
FEATURES = {"conv1": 90, "fc1": 30, "logits": 10}


def series(layer: str, m: int | None, seed: int = 0, **changes: Any) -> SeriesSpec:
    return SeriesSpec("a", layer, m, seed, **changes)


@pytest.mark.parametrize(
    ("one", "other", "does"),
    [
        (series("fc1", 10), series("fc1", 5), True),
        (series("fc1", 5), series("fc1", 10), False),
        (series("fc1", 10), series("fc1", 5, 1), False),  # another projection
        (series("fc1", 10), series("logits", 5), False),  # A f meets, f need not
        (series("fc1", None), series("logits", None), True),
        (series("logits", None), series("fc1", None), False),
        (series("fc1", None), series("logits", 5, 3), True),
        (series("fc1", 10), series("fc1", None), False),
        (series("logits", 10), series("logits", None), True),  # A is invertible
        (series("logits", 10), series("logits", 5, 1), True),
        (series("fc1", 30, 2), series("logits", 10), True),
        (series("fc1", 10, method="algorithm1"), series("fc1", 5), False),
        (series("fc1", 10, preset="fast"), series("fc1", 5), False),
    ],
)
def test_a_collision_of_one_series_is_one_of_another(one: SeriesSpec, other: SeriesSpec, does: bool) -> None:
    assert nesting.implies(one, other, FEATURES) is does


@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.3]))
def test_the_nearest_is_the_running_minimum_of_what_was_searched(seed: int, unknown: float) -> None:
    rng = np.random.default_rng(seed)
    rows = [series("fc1", m) for m in (1, 2, 5, None)]
    found = [np.where(rng.random((2, 3)) < unknown, np.nan, rng.random((2, 3))) for _ in rows]
    nothing = np.full((2, 3), np.nan)
    given = [Found(distance, nothing, np.zeros((2, 3), dtype=bool), nothing) for distance in found]
    for place, nested in enumerate(nesting.nested(rows, given, FEATURES)):
        least = nested.distance
        known = ~np.isnan(found[place])
        assert np.array_equal(np.isnan(least), ~known)
        running = np.nan_to_num(np.stack(found[place:]), nan=np.inf).min(axis=0)
        np.testing.assert_array_equal(least[known], running[known])


@pytest.mark.parametrize("seed", range(3))
def test_an_audit_is_nested_over_m_and_over_depth_without_projection(seed: int) -> None:
    torch.manual_seed(seed)
    network = build("conv 2 4x4/4, relu, flatten, fc 12, relu, fc 10", (1, 28, 28))
    spec = AuditSpec.of(
        "a",
        dataset="mnist-5k",
        classes=(3, 7),
        samples=2,
        layers=tuple(FEATURES),
        m=(1, 2, 5, 10, None),
        projections=2,
        preset="fast",
    )
    sizes = {"conv1": 98, "fc1": 12, "logits": 10}
    found = {
        (r.series.layer, r.series.m, r.series.seed): r.found.distance for r in run_audit(spec, network, "a" * 64).series
    }
    for layer in FEATURES:
        for projection in (0, 1):
            rising = [found[layer, m, 0 if m in (None, sizes[layer]) else projection] for m in (1, 2, 5, 10, None)]
            assert (np.diff(np.stack(rising), axis=0) >= 0).all()
    np.testing.assert_array_equal(found["logits", 10, 0], found["logits", None, 0])  # one question, asked twice
    assert (np.diff(np.stack([found[layer, None, 0] for layer in FEATURES]), axis=0) <= 0).all()
