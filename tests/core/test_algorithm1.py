"""Algorithm 1 step by step, against iterates computed by hand."""

import numpy as np
import torch
from torch import Tensor, nn

from robustness_core.collision.algorithm1 import SCHEDULES, Schedule, algorithm1
from robustness_core.collision.constraint import Constraint


class Parabola(nn.Module):
    """f(u, v) = u² + v on images of two pixels, with the gradient (2u, 1)."""

    def forward(self, x: Tensor) -> Tensor:
        u, v = x.flatten(1).unbind(1)
        return (u.square() + v).unsqueeze(1)


def searched(f: nn.Module, pair: list[list[float]], schedule: Schedule) -> tuple[np.ndarray, float]:
    """The last iterate of one pair, (2, 2), in float64, and its passes."""
    originals = torch.tensor([pair], dtype=torch.float64)
    constraint = Constraint(f, (1, 1, 2), originals)
    return algorithm1(constraint, originals, schedule)[0].numpy(), float(constraint.passes[0])


def test_two_iterates_by_hand() -> None:
    """x = (2, 0), x' = (0, 0), α_0 = 0.8, γ = 0.5, written as (x̃, x̃') in R⁴.

    i = 0, α = 1. The midpoint (1, 0) has the gradient (2, 1), so J = (2, 1, -2, -1), ‖J‖² = 10. The originals
    p = (2, 0, 0, 0) have J p = 4, and z = p - 4/10 J = (1.2, -0.4, 0.8, 0.4). Both features are 1.04: g = 0.

    i = 1, α = α_0 γ = 0.4. p = 0.6 z + 0.4 (2, 0, 0, 0) = (1.52, -0.24, 0.48, 0.24); J = (2.4, 1, -1.6, -1), ‖J‖² =
    10.32, J (p - z) = 2.4 · 0.32 + 0.16 + 1.6 · 0.32 + 0.16 = 1.6, and z = p - 1.6/10.32 J = p - 20/129 J.
    """
    pair = [[2.0, 0.0], [0.0, 0.0]]
    first, _ = searched(Parabola(), pair, Schedule(iterations=1, alpha=0.8, gamma=0.5))
    np.testing.assert_allclose(first, [[1.2, -0.4], [0.8, 0.4]], rtol=1e-9)
    second, passes = searched(Parabola(), pair, Schedule(iterations=2, alpha=0.8, gamma=0.5))
    share = 20 / 129
    by_hand = [[1.52 - 2.4 * share, -0.24 - share], [0.48 + 1.6 * share, 0.24 + share]]
    np.testing.assert_allclose(second, by_hand, rtol=1e-9)
    assert passes == 1 + 1 + 2  # m = 1: the originals, the midpoint (one image), a forward and a backward pass


def test_every_iterate_is_the_projection_of_a_pull_that_decays() -> None:
    """Six iterates, each from the one before by the formulas of lines 3, 4 and 6 for f(u, v) = u² + v."""
    originals, alpha, gamma = np.array([1.5, 0.2, -0.4, 0.9]), 0.9, 0.7
    z, pull = np.tile((originals[:2] + originals[2:]) / 2, 2), 1.0
    for i in range(6):
        J = np.array([2 * z[0], 1, -2 * z[2], -1])
        g = z[0] ** 2 + z[1] - z[2] ** 2 - z[3]
        p = (1 - pull) * z + pull * originals
        z = p - J * (g + J @ (p - z)) / (J @ J)
        pull = alpha * gamma ** (i + 1)
        found, _ = searched(Parabola(), originals.reshape(2, 2).tolist(), Schedule(i + 1, alpha, gamma, threshold=0))
        np.testing.assert_allclose(found.ravel(), z, rtol=1e-9)


def test_a_pair_that_has_converged_costs_nothing_more() -> None:
    """The first step is exact for a linear feature; line 5 sees that in the second, at the iterate before it."""
    f = nn.Sequential(nn.Flatten(), nn.Linear(2, 1, bias=False)).double().eval()
    for schedule in SCHEDULES.values():
        found, passes = searched(f, [[0.9, 0.1], [0.2, 0.3]], schedule)
        assert passes == 1 + 1 + 2  # originals, midpoint, one iteration
        left, right = f(torch.from_numpy(found).view(2, 1, 1, 2)).flatten().tolist()
        assert abs(left - right) < 1e-12


def test_from_the_images_a_linear_feature_is_met_in_one_step_as_from_the_midpoint() -> None:
    """The subspace of a linear feature is the same wherever it is computed: d = ½ |w·(x − x')| / ‖w‖ (section 4.2)."""
    linear = nn.Sequential(nn.Flatten(), nn.Linear(2, 1)).double()
    originals = torch.tensor([[[1.0, 0.3], [-0.2, 0.8]]], dtype=torch.float64)
    w = linear[1].weight.detach()[0]
    half = ((originals[0, 0] - originals[0, 1]) @ w).abs() / w.norm() / 2
    for start in (None, originals):
        found = algorithm1(Constraint(linear, (1, 1, 2), originals), originals, Schedule(1, 0.8, 0.5), start)
        np.testing.assert_allclose((found - originals)[0].norm(dim=1).detach(), torch.stack([half, half]).detach())
