"""Tests of conflict graphs and input-space distances."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from robustness_core.optimal_loss.conflict_graph import conflict_graph, input_distances


def test_edges_are_the_distances_within_the_budget() -> None:
    distances = [[0.0, 1.0, 2.0], [np.inf, np.nan, 1.0]]
    expected = np.array([[True, True, False], [False, False, True]])
    np.testing.assert_array_equal(conflict_graph(distances, 1.0), expected)


def test_an_unknown_distance_makes_no_edge_even_at_an_infinite_budget() -> None:
    assert conflict_graph([[np.nan, 3.0]], np.inf).tolist() == [[False, True]]


@pytest.mark.parametrize("epsilon", [-1.0, np.nan])
def test_a_budget_that_is_none_is_refused(epsilon: float) -> None:
    with pytest.raises(ValueError, match="must be 0 or more"):
        conflict_graph([[1.0]], epsilon)


@pytest.mark.parametrize("distances", [[1.0, 2.0], np.empty((0, 3)), [[-1.0]]])
def test_distances_of_another_form_are_refused(distances: object) -> None:
    with pytest.raises(ValueError, match=r"^Distances must be"):
        conflict_graph(distances, 1.0)  # type: ignore[arg-type]


def test_input_distances_are_half_the_norms() -> None:
    left, right = np.zeros((1, 2, 2, 1)), np.array([[[[3.0], [0.0]], [[0.0], [4.0]]], [[[0.0], [0.0]], [[0.0], [0.0]]]])
    np.testing.assert_array_equal(input_distances(left, right), [[2.5, 0.0]])


@pytest.mark.parametrize(("order", "metric"), [(np.inf, "chebyshev"), (1, "cityblock"), (2, "euclidean")])
def test_input_distances_in_any_norm_are_those_of_scipy(order: float, metric: str) -> None:
    random = np.random.default_rng(0)
    left, right = (random.integers(0, 256, (5, 4, 4, 1), dtype=np.uint8) for _ in range(2))
    expected = cdist(left.reshape(5, -1) / 255, right.reshape(5, -1) / 255, metric) / 2
    np.testing.assert_allclose(input_distances(left, right, order), expected, rtol=1e-12)


def test_uint8_and_float_pixels_give_the_same_distances() -> None:
    random = np.random.default_rng(0)
    left = random.integers(256, size=(4, 7, 7, 3), dtype=np.uint8)
    right = random.integers(256, size=(5, 7, 7, 3), dtype=np.uint8)
    # float32 pixels are rounded to 6e-8 of themselves
    expected = input_distances((left / 255).astype(np.float32), (right / 255).astype(np.float32))
    np.testing.assert_allclose(input_distances(left, right), expected, rtol=1e-6)
    bright, dark = np.full((1, 1), 255, np.uint8), np.zeros((1, 1), np.uint8)
    assert input_distances(dark, bright)[0, 0] == input_distances(bright, dark)[0, 0] == 0.5  # no wrap-around


def test_nearly_equal_images_keep_their_digits() -> None:
    left = np.full((1, 784), 0.7)
    right = left + 1e-9 * np.eye(784)[:1]
    # 0.7 is stored to 1e-16, that is 1e-7 of the difference; a Gram matrix would lose all digits
    np.testing.assert_allclose(input_distances(left, right), [[0.5e-9]], rtol=1e-6)


def test_nearly_equal_photographs_are_as_far_apart_as_their_pixels_say() -> None:
    """One step of one pixel of a bright image of CIFAR-10's size, and none at all."""
    left = np.random.default_rng(0).integers(100, 255, (4, 32, 32, 3), dtype=np.uint8)
    right = left.copy()
    right[0, 5, 6, 1] += 1
    distances = input_distances(left, right)
    assert distances[0, 0] == 0.5 / 255
    assert (distances.diagonal()[1:] == 0).all()
    other = cdist(*(images.reshape(4, -1) / 255 for images in (left, right)))  # by differences
    np.testing.assert_allclose(distances, other / 2, rtol=1e-9)


def test_images_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        input_distances(np.zeros((1, 4)), np.zeros((1, 5)))
    with pytest.raises(ValueError, match="uint8 or floating"):
        input_distances(np.zeros((1, 4), np.int64), np.zeros((1, 4), np.int64))
