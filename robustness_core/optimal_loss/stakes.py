"""Which pairs, not searched yet, could still change the optimal loss, and how much is at stake."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from robustness_core.optimal_loss.conflict_graph import Bools, Floats, check_distances
from robustness_core.optimal_loss.solve import probabilities

Chance = Callable[[float, npt.NDArray[np.intp], npt.NDArray[np.intp]], Floats]
_NOTHING = 1e-9  # of probability: rounding


def stakes(distances: npt.ArrayLike, budgets: npt.ArrayLike, chance: Chance, *, asked: Bools | None = None) -> Floats:
    """What is at stake in each unknown pair, (L, R) in [0, 1]; 0 where the distance is known, or no pair is `asked`.

    At a budget ε an unknown pair (u, v) can change the optimal loss only if q_u + q_v > 1 in the solution of what is
    known (METHOD.md section 8): else that solution stays feasible, whatever the distance. What is at stake there is the
    chance that its distance is at most ε, times q_u + q_v - 1; the stake of a pair is the largest of all budgets.
    A pair whose stake is 0 changes no loss, as far as chances of 0 hold.

    distances: (L, R), NaN where unknown. budgets: (E,) ascending. chance: (ε, rows, columns) -> the
    chances of those pairs, in [0, 1], not falling with ε. asked: (L, R), where there is a pair; None for everywhere.
    Cost: that of `loss_curve`, and E operations a pair.
    """
    matrix = check_distances(distances)
    rows, columns = np.nonzero(np.isnan(matrix) if asked is None else np.isnan(matrix) & asked)
    most = np.zeros(len(rows))
    for budget, left, right in probabilities(matrix, budgets):
        excess = left[rows] + right[columns] - 1
        open_ = np.flatnonzero(excess > _NOTHING)
        if len(open_):
            most[open_] = np.maximum(most[open_], chance(budget, rows[open_], columns[open_]) * excess[open_])
        elif left.max() + right.max() <= 1 + _NOTHING:
            break  # any edge that may still come is satisfied already
    at_stake = np.zeros(matrix.shape)
    at_stake[rows, columns] = most
    return at_stake
