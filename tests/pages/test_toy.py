"""The small extractors of Learn agree with the closed forms of the method."""

import numpy as np
import pytest

from pages.parts import toy

LEFT, RIGHT = np.array([-0.9, -0.5]), np.array([0.9, 0.6])


@pytest.mark.parametrize("degrees", [0, 30, 77, 140])
def test_distance_of_a_linear_feature_is_half_of_what_it_sees(degrees: int) -> None:
    direction = np.array([np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))])
    found = toy.meet(toy.linear(degrees), LEFT, RIGHT)
    exact = toy.meet_linear(degrees, LEFT, RIGHT)
    assert exact.distance == pytest.approx(abs(direction @ (LEFT - RIGHT)) / 2)
    assert exact.left @ direction == pytest.approx(exact.right @ direction) == pytest.approx(exact.level)
    moves = [np.linalg.norm(exact.left - LEFT), np.linalg.norm(exact.right - RIGHT)]
    assert moves == pytest.approx([exact.distance, exact.distance])
    assert found.distance == pytest.approx(exact.distance, abs=0.03)  # twice the grid's spacing


def test_piecewise_linear_distance_is_at_most_half_the_way() -> None:
    feature = toy.piecewise_linear(30)
    found = toy.meet(feature, LEFT, RIGHT)
    assert found.distance <= np.linalg.norm(LEFT - RIGHT) / 2 + 0.02
    assert feature(found.left) == pytest.approx(feature(found.right), abs=0.05)
    assert found.distance == pytest.approx(
        max(np.linalg.norm(found.left - LEFT), np.linalg.norm(found.right - RIGHT)), abs=1e-12
    )


def test_algorithm1_is_exact_after_one_step_for_a_linear_feature() -> None:
    feature = toy.linear(50)
    path = toy.algorithm1(feature, LEFT, RIGHT, 1)
    np.testing.assert_allclose(path[0], np.repeat([(LEFT + RIGHT) / 2], 2, axis=0))
    assert feature(path[1, 0]) == pytest.approx(feature(path[1, 1]), abs=1e-9)
    exact = abs(feature(LEFT) - feature(RIGHT)) / 2
    assert np.linalg.norm(path[1, 0] - LEFT) == pytest.approx(exact, abs=1e-8)


def test_algorithm1_ends_in_a_collision_near_the_true_distance() -> None:
    path = toy.algorithm1(toy.smooth, LEFT, RIGHT, 20)
    assert toy.smooth(path[-1, 0]) == pytest.approx(toy.smooth(path[-1, 1]), abs=1e-6)
    moved = max(np.linalg.norm(path[-1, 0] - LEFT), np.linalg.norm(path[-1, 1] - RIGHT))
    truth = toy.meet(toy.smooth, LEFT, RIGHT).distance
    assert truth - 0.03 <= moved <= truth + 0.05


def test_weak_features_steepen_the_mixture() -> None:
    _, points = toy.grid()
    slopes = [np.abs(np.diff(toy.many_features(weak, 3)(points), axis=0)).mean() for weak in (0, 50, 200)]
    assert slopes == sorted(slopes)
    assert slopes[2] > 3 * slopes[0]
