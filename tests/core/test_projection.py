"""Projections: drawn from the seed, standard normal, nested in m."""

import numpy as np
import pytest
import torch
from torch import nn

from robustness_core.projection import ProjectionError, draw, project


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
    with pytest.raises(ProjectionError, match="from 1 to 6"):
        draw(6, m, 0)
