"""One record for what is found about pairs, whatever the shape of its arrays."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from robustness_core.found import COLUMNS, Found


def made_up(seed: int, *shape: int) -> Found:
    rng = np.random.default_rng(seed)
    found = Found(rng.random(shape), rng.random(shape), rng.random(shape) < 0.5, rng.random(shape), ("cpu",))
    return replace(found, precisions=("bfloat16",) if seed % 2 else ("float32",))


def equal(one: Found, other: Found) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in COLUMNS)


@given(st.integers(0, 1000), st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_blocks_joined_are_the_whole_and_put_in_any_order_they_fill_it(seed: int, sizes: list[int]) -> None:
    whole = made_up(seed, sum(sizes))
    order = np.random.default_rng(seed).permutation(sum(sizes))
    blocks = np.split(order, np.cumsum(sizes)[:-1])
    assert equal(Found.joined([whole[places] for places in blocks]), whole[order])
    filled = Found.nothing(sum(sizes))
    for places in blocks:
        assert not filled.complete
        assert not filled.known[places].any()
        filled.put(places, whole[places])
        assert filled.known[places].all()
    assert filled.complete
    assert equal(filled, whole)
    assert (filled.devices, filled.precisions) == (whole.devices, whole.precisions)


def test_what_two_machines_found_names_both() -> None:
    half, single = made_up(1, 3), made_up(2, 3)
    matrix = Found.nothing(2, 3)
    matrix.put(0, half)
    assert matrix.precisions == ("bfloat16",)
    matrix.put(1, single)
    for both in (matrix, Found.joined([single, half, half])):
        assert (both.devices, both.versions, both.precisions) == (("cpu",), (), ("bfloat16", "float32"))


def test_one_pair_of_a_matrix_keeps_what_computed_it() -> None:
    matrix = made_up(0, 3, 4)
    one = matrix[1, 2]
    assert (one.distance, one.collided, one.devices) == (matrix.distance[1, 2], matrix.collided[1, 2], ("cpu",))
    nothing = Found.nothing(2, 3)
    assert nothing.distance.shape == (2, 3)
    assert not nothing.known.any()
    assert not nothing.collided.any()
    assert np.isnan(nothing.residual).all()
