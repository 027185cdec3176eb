"""Tests of the attack: its geometry alone, the linear classifier whose worst case is known, and APGD beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyautoattack.autopgd_base import APGDAttack
from torch import nn

from robustness_core import datasets
from robustness_core.checkpoints import load
from robustness_core.training import attacks
from robustness_core.training.evaluation import correct

ZOO = Path(__file__).resolve().parents[2] / "zoo"


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(seed=st.integers(0, 10**6), radius=st.floats(1e-3, 1e3), scale=st.floats(1e-3, 1e3))
@settings(max_examples=50)
def test_the_projection_is_the_closest_point_of_the_ball(seed: int, radius: float, scale: float) -> None:
    images = torch.randn(5, 2, 3, 4, generator=generator(seed), dtype=torch.float64) * scale
    images[0] = 0
    lengths = images.flatten(1).norm(dim=1)
    projected = attacks.project_ball(images, radius)
    for image, length, result in zip(images, lengths, projected, strict=True):
        expected = image if length <= radius else image * (radius / length)
        torch.testing.assert_close(result, expected, rtol=1e-9, atol=0)


def test_unit_scales_each_image_alone_and_keeps_zero() -> None:
    images = torch.stack([torch.full((1, 2, 2), 3.0), torch.full((1, 2, 2), -0.01), torch.zeros(1, 2, 2)])
    expected = torch.stack([torch.full((1, 2, 2), 0.5), torch.full((1, 2, 2), -0.5), torch.zeros(1, 2, 2)])
    torch.testing.assert_close(attacks.unit(images), expected)


@given(seed=st.integers(0, 10**6), epsilon=st.floats(0.01, 5))
@settings(max_examples=30)
def test_starts_and_results_stay_in_ball_and_box(seed: int, epsilon: float) -> None:
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.ReLU(), nn.Linear(8, 3))
    pixels = torch.rand(6, 1, 6, 6)
    labels = torch.randint(0, 3, (6,))
    start = attacks.random_start(pixels, epsilon, generator(seed))
    attacked = attacks.pgd(network, pixels, labels, epsilon, steps=3, generator=generator(seed))
    for images in (pixels + start, attacked):
        # Adding and taking away the pixels rounds to float32.
        assert images.min() >= -1e-6
        assert images.max() <= 1 + 1e-6
        assert attacks.norms(images - pixels).max() <= epsilon * (1 + 1e-5) + 1e-6


@pytest.mark.parametrize("keep_best", [True, False])
def test_a_linear_classifier_is_attacked_to_its_worst_case(keep_best: bool) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 2)).double()
    weight = network[1].weight.detach()
    pixels = torch.full((4, 1, 4, 4), 0.5, dtype=torch.float64)  # the box is not reached with a budget of 0.4
    labels = torch.tensor([0, 1, 0, 1])
    attacked = attacks.pgd(network, pixels, labels, 0.4, steps=30, generator=generator(), keep_best=keep_best)
    direction = (weight[1] - weight[0]) / (weight[1] - weight[0]).norm()
    sign = (1 - 2 * labels).double()[:, None]
    worst = pixels.flatten(1) + 0.4 * sign * direction
    torch.testing.assert_close(attacked.flatten(1), worst, rtol=1e-3, atol=1e-3)  # 30 shrinking steps reach it


def test_a_linear_classifier_is_attacked_to_its_worst_case_in_linf_within_ball_and_box() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 2)).double()
    weight = network[1].weight.detach()
    pixels = torch.rand(4, 1, 4, 4, dtype=torch.float64)  # some near 0 or 1, where the box cuts the ball
    labels = torch.tensor([0, 1, 0, 1])
    attacked = attacks.pgd(network, pixels, labels, 0.2, norm="linf", steps=5, generator=generator())
    sign = (1 - 2 * labels).double()[:, None] * (weight[1] - weight[0]).sign()
    worst = (pixels.flatten(1) + 0.2 * sign).clamp(0, 1)
    torch.testing.assert_close(attacked.flatten(1), worst)


@pytest.mark.parametrize(("shrink", "way"), [(True, 0.01 * (20 + 1) / 2), (False, 0.01 * 20)])
def test_steps_shrink_linearly_or_stay_as_they_are(shrink: bool, way: float) -> None:
    def end(seed: int) -> float:
        walked = attacks.pgd(
            nn.Flatten(),
            torch.full((1, 1, 1, 1), 0.5),
            torch.tensor([0]),
            0.3,
            steps=20,
            step_size=0.01,
            shrink=shrink,
            keep_best=False,
            objective=lambda logits: logits[:, 0],
            generator=generator(seed),
        )
        return round(float(walked), 5)

    ends = {end(seed) for seed in range(9)}
    assert ends == {round(0.2 + way, 5), 0.8}  # a start at -0.3 walks all its steps, one at 0.3 stays at the rim


def test_the_best_iterate_is_never_weaker_than_the_last() -> None:
    torch.manual_seed(1)
    network = nn.Sequential(nn.Flatten(), nn.Linear(36, 20), nn.ReLU(), nn.Linear(20, 4))
    pixels, labels = torch.rand(40, 1, 6, 6), torch.randint(0, 4, (40,))

    def losses(keep_best: bool) -> torch.Tensor:
        # Steps of three budgets leap about, so that the last iterate is often not the best.
        attacked = attacks.pgd(
            network, pixels, labels, 0.5, steps=7, generator=generator(), step_size=1.5, keep_best=keep_best
        )
        logits = network(attacked)
        wrong = logits.argmax(1) != labels
        return nn.functional.cross_entropy(logits, labels, reduction="none").detach() + 100 * wrong

    best, last = losses(True), losses(False)
    assert (best >= last - 1e-5).all()
    assert (best > last + 1e-3).any()


def test_no_budget_leaves_the_pixels() -> None:
    pixels = torch.rand(2, 1, 3, 3)
    network = nn.Sequential(nn.Flatten(), nn.Linear(9, 2))
    torch.testing.assert_close(
        attacks.pgd(network, pixels, torch.tensor([0, 1]), 0.0, steps=2, generator=generator()), pixels
    )


@pytest.mark.parametrize(("epsilon", "steps"), [(-0.1, 3), (float("nan"), 3), (1.0, 0)])
def test_odd_budgets_and_steps_are_refused(epsilon: float, steps: int) -> None:
    with pytest.raises(ValueError, match="must be"):
        attacks.pgd(
            nn.Identity(), torch.rand(1, 1, 2, 2), torch.tensor([0]), epsilon, steps=steps, generator=generator()
        )


def test_pgd_is_no_weaker_than_apgd_by_more_than_two_points() -> None:
    network = load(ZOO / "mnist-small-pgd2.safetensors")
    data = datasets.load("mnist-5k", "test")
    chosen = np.arange(0, 1000, 4)  # 25 digits a class
    pixels, labels = torch.from_numpy(datasets.to_float(data.pixels[chosen])), torch.from_numpy(data.labels[chosen])
    attacked = attacks.pgd(network, pixels, labels, 2.0, steps=40, generator=generator())
    ours = correct(network, attacked, labels).double().mean()
    with torch.random.fork_rng():
        apgd = APGDAttack(network, n_iter=40, norm="L2", eps=2.0, seed=0, loss="ce", device="cpu")
        theirs = correct(network, apgd.perturb(pixels, labels), labels).double().mean()
    assert 0.5 < theirs < 0.9  # neither everything nor nothing falls, so the comparison says something
    assert ours <= theirs + 0.02
