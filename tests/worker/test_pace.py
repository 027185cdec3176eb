"""The time left of an audit: simulated audits whose end is known say whether the told range holds it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.records import LayerRecord, NetworkRecord
from testing import synthetic, world
from worker.pace import Pace, Part

LAYERS = (
    LayerRecord("conv1.pre", (4, 10, 10), 400, affine=True, main=False),
    LayerRecord("conv1", (4, 10, 10), 400, affine=False, main=True),
    LayerRecord("fc1", (100,), 100, affine=False, main=True),
    LayerRecord("logits", (10,), 10, affine=False, main=True),
)
BLOCK = 16


@pytest.fixture(scope="module")
def network() -> NetworkRecord:
    return replace(synthetic.MADE_UP, layers=LAYERS)


def run(network: NetworkRecord, costs: dict[Part, list[float]], side_by_side: int):
    """Blocks of 16 pairs of part after part, `costs` seconds a pair each; (told, true) after each block."""
    clock = world.Clock()
    pace = Pace(network, clock=lambda: clock.time.timestamp())
    ends = [block * BLOCK / side_by_side for blocks in costs.values() for block in blocks]
    missing = {part: BLOCK * len(blocks) for part, blocks in costs.items()}
    told = []
    for part, blocks in costs.items():
        for cost in blocks:
            clock.turn(cost * BLOCK / side_by_side)
            missing[part] -= BLOCK
            pace.block(part, BLOCK, cost * BLOCK)
            told.append((pace.left(missing), sum(ends[len(told) + 1 :])))
    return told


def test_steady_blocks_tell_the_exact_time(network: NetworkRecord) -> None:
    for left, true in run(network, {("conv1", 10): [0.5] * 20}, 1)[2:]:
        assert left == pytest.approx((true, true))


@given(st.integers(0, 2**31), st.integers(1, 8))
def test_range_holds_the_truth_where_costs_grow_with_the_features_on_the_way(
    network: NetworkRecord, seed: int, side_by_side: int
) -> None:
    """And where the costs of blocks vary by 20 % and pairs of a later projection cost what those of an earlier did."""
    rng = np.random.default_rng(seed)
    way = {"conv1": 800, "fc1": 900, "logits": 910}
    costs = {
        (layer, m): (rng.uniform(0.9, 1.1, 12) * features / 800 * 0.3).tolist()
        for m in (10, 20)
        for layer, features in way.items()
    }
    told = run(network, costs, side_by_side)
    assert all(left is None for left, _ in told[:2])
    # The first block is the only one that ran by itself, so what ran beside it is not known until later.
    for left, true in told[12:]:
        assert left is not None
        assert left[0] * 0.8 <= true <= left[1] * 1.25 + 1e-9


def test_nothing_is_told_of_searches_from_closed_forms_alone(network: NetworkRecord) -> None:
    told = run(network, {("conv1.pre", 10): [0.001] * 5, ("conv1", 10): [0.5] * 5}, 1)
    assert [left is None for left, _ in told] == [True] * 5 + [False] * 5
    (least, most), true = told[5]
    assert least <= true <= most
