"""Projections: drawn from the seed, standard normal, nested in m."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from robustness_core.errors import StrataError
from robustness_core.mixtures import seen_distances
from robustness_core.optimal_loss.conflict_graph import input_distances
from robustness_core.projection import draw, project
from testing import oracles


def test_the_same_seed_gives_the_same_matrix_and_another_seed_another() -> None:
    torch.testing.assert_close(draw(50, 10, 3), draw(50, 10, 3), rtol=0, atol=0)
    assert (draw(50, 10, 3) != draw(50, 10, 4)).all()


def test_a_smaller_m_is_the_top_of_a_larger() -> None:
    torch.testing.assert_close(draw(50, 20, 0)[:10], draw(50, 10, 0), rtol=0, atol=0)


def test_the_first_numbers_are_those_of_the_documented_generator() -> None:
    expected = np.random.default_rng(7).standard_normal(12).reshape(3, 4).astype(np.float32)
    np.testing.assert_array_equal(draw(4, 3, 7).numpy(), expected)


def test_entries_are_standard_normal() -> None:
    entries = draw(1000, 100, 0)
    assert abs(float(entries.mean())) < 5 / np.sqrt(entries.numel())  # five standard errors
    assert abs(float(entries.var()) - 1) < 5 * np.sqrt(2 / entries.numel())


def test_projecting_is_a_matrix_product() -> None:
    f = nn.Sequential(nn.Flatten(), nn.Linear(16, 6), nn.Tanh())
    images = torch.rand(5, 1, 4, 4)
    torch.testing.assert_close(project(f, 6, 4, 0)(images), f(images) @ draw(6, 4, 0).T)
    torch.testing.assert_close(project(f, 6, None, 0)(images), f(images))


@pytest.mark.parametrize("m", [0, -1, 7])
def test_a_dimension_outside_1_to_nj_is_refused(m: int) -> None:
    with pytest.raises(StrataError, match="from 1 to 6"):
        draw(6, m, 0)


def test_images_seen_through_a_projection_are_at_the_closed_form_of_an_affine_layer() -> None:
    rng = np.random.default_rng(0)
    left, right = rng.random((3, 1, 4, 4)), rng.random((2, 1, 4, 4))
    for m, seed in ((1, 0), (3, 5), (15, 2)):
        A = draw(16, m, seed).double().numpy()
        expected = [[oracles.affine_distance(A, (x - y).ravel()) for y in right] for x in left]
        np.testing.assert_allclose(seen_distances(left, right, m, seed), expected, rtol=1e-9)


def test_images_seen_through_more_mixtures_are_farther_apart_up_to_half_their_distance() -> None:
    rng = np.random.default_rng(1)
    left, right = rng.random((3, 1, 4, 4)), rng.random((4, 1, 4, 4))
    seen = [seen_distances(left, right, m, 0) for m in (1, 2, 8, 15, 16, 40)]
    assert all((more >= less * (1 - 1e-12)).all() for less, more in itertools.pairwise(seen))
    for whole in (seen[-2], seen[-1], seen_distances(left, right, None, 0)):
        np.testing.assert_array_equal(whole, input_distances(left, right))
