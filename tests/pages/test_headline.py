"""The sentences above the figures: they name what the intervals carry, and nothing else."""

import numpy as np
import pytest

from pages.parts.headline import head, projected, unprojected
from robustness_core.optimal_loss.statistics import mean_without_one, without_one

NAMES = ["input", "conv1", "logits"]
SCATTER = np.array([-0.1, 0.05, 0.0, 0.1, -0.05])


def test_projected_names_the_largest_certain_change_with_both_numbers_and_the_input() -> None:
    said = projected(NAMES, [0.5 + SCATTER, 1.5 + SCATTER[::-1], 4.0 + SCATTER], 10)
    assert said.startswith("Seen through m = 10 random mixtures, logits needs ε½ = 4.00 (3.90 to 4.10), ")
    assert "the layer before it, conv1, 1.50 (1.40 to 1.60), the input, through the same m, 0.50" in said
    assert "+2.50 (" in said
    assert "N = 5, 95 % for all 2 together" in said
    assert said.endswith("it is not information kept or lost.")
    assert "lost;" not in said


def test_projected_names_a_fall_too_and_the_input_once() -> None:
    said = projected(NAMES, [2.0 + SCATTER, 1.0 + SCATTER[::-1], 1.01 + SCATTER], 3)
    assert "conv1 needs ε½ = 1.00" in said
    assert said.count("the input") == 1
    assert "-1.00 (" in said


@pytest.mark.parametrize("count", [1, 2, 4])
def test_projected_names_no_change_of_fewer_than_five_projections(count: int) -> None:
    said = projected(NAMES, [[0.5] * count, [1.5] * count, [9.0] * count], 10)
    assert f"with N = {count} no change between layers is named; N ≥ 5" in said
    assert "needs" not in said.replace("needed", "")


def test_projected_names_nothing_that_scatters_more_than_it_changes() -> None:
    rng = np.random.default_rng(0)
    said = projected(NAMES, [1.0 + rng.normal(size=5), 1.3 + rng.normal(size=5), 1.1 + rng.normal(size=5)], 10)
    assert "stands out from the scatter of N = 5 projections" in said
    assert "ε½ =" not in said
    unreached = projected(NAMES, [[1.0] * 5, [np.inf] * 5, [np.inf] * 5], 10)
    assert "stands out" in unreached


def test_projected_seldom_names_what_is_not_there() -> None:
    """Of 200 audits whose six layers do not differ at most 5 % + 3 standard errors name a change: all at once."""
    rng = np.random.default_rng(1)
    names = ["input", *(f"layer{i}" for i in range(6))]
    named = ["Seen" in projected(names, list(rng.normal(2, 0.3, (7, 5))), 10) for _ in range(200)]
    assert np.mean(named) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)


def clouds(size: int = 20) -> np.ndarray:
    left, right = np.random.default_rng(2).normal(size=(2, size, 4))
    right[:, 0] += 4
    return np.linalg.norm(left[:, None] - right[None], axis=2) / 2


def test_unprojected_says_what_cannot_be_undone_and_where_it_grows() -> None:
    distances = clouds()
    losses = [without_one(distances * factor, 1.0) for factor in (1.0, 0.99, 0.5)]
    said = unprojected(NAMES, losses, 1.0)
    assert said.startswith("What no classifier on logits can undo at ε = 1: at least L* = ")
    assert f"{losses[-1].value:.2f} (" in said
    assert f"against {losses[0].value:.2f} (" in said
    assert "It grows most at logits" in said
    assert "a difference of two lower bounds" in said
    first = unprojected(NAMES, [losses[0], losses[2], losses[2]], 1.0)
    assert "It grows most at conv1" in first
    assert "difference of two" not in first  # the input is exact


def test_unprojected_decides_nothing_that_the_images_do_not_carry() -> None:
    distances = clouds()
    same = [without_one(distances * factor, 1.0) for factor in (1.0, 0.995, 0.99)]
    assert "does not stand out, on this sample" in unprojected(NAMES, same, 1.0)
    nothing = [without_one(distances, 0.01)] * 3
    assert "does not stand out" in unprojected(NAMES, nothing, 0.01)
    everything = [without_one(distances, 99.0)] * 3
    assert "does not stand out" in unprojected(NAMES, everything, 99.0)
    falls = [without_one(distances * factor, 1.0) for factor in (0.5, 0.7, 1.0)]  # an error of a search
    assert "does not stand out" in unprojected(NAMES, falls, 1.0)


def test_head_states_both_errors_and_the_cost_only_if_it_is_certain() -> None:
    nothing = without_one(np.full((20, 20), 9.0), 2.0, zero_one=True)
    wrong = np.array([1.0] * 8 + [0.0] * 12)
    said = head(mean_without_one(wrong, wrong), nothing, 2.0, 40, "best of FAB and DDN")
    assert "On the same 40 images at ε = 2 the network errs on at least 40.0% (best of FAB and DDN)" in said
    assert "no classifier on its logits can err on less than 0.0%; the head costs about 40.0% (" in said
    assert "Attacks stay within the pixel range" in said
    assert "pixel range" not in head(mean_without_one(wrong, wrong), nothing, 2.0, 40, "FAB", box=True)
    few = np.array([1.0] + [0.0] * 19)
    undecided = head(mean_without_one(few, few * 0), nothing, 2.0, 40, "FAB")
    assert "does not decide what the head costs" in undecided
    assert "costs about" not in undecided
