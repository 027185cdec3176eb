"""A guess of the distances of a series, fitted on those that were found: hints of the images, rows and columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from robustness_core.found import Floats

UNFITTED = 0.25  # standard deviation of a logarithm while too few pairs are found to measure it
_FEW = 24  # pairs, from which on the deviation is measured
_LEAST = 1e-3  # of a deviation: where the hints are exact, rounding and the search's tolerance remain
_SHARED = 2.0  # pairs of a row or column after which its own effect counts for half
_TRUST = 0.02  # of the prior that a distance grows as its first hint, in pairs
_ROUNDS = 6  # of the fit, hints and effects in turn
_TINY = 1e-12  # a distance of 0 has no logarithm


@dataclass(frozen=True, eq=False)
class Guess:
    """Logarithms of the distances of all pairs, (L, R), each with the same standard `deviation`."""

    mean: Floats
    deviation: float

    def below(self, times: float) -> Floats:
        """Distances `times` standard deviations below the guess, (L, R): their optimistic end."""
        below: Floats = np.exp(self.mean - times * self.deviation)
        return below

    def chance(self, epsilon: float, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> Floats:
        """The chance that the distances of these pairs are at most `epsilon`, by the normal distribution."""
        with np.errstate(divide="ignore"):
            chance: Floats = ndtr((np.log(epsilon) - self.mean[rows, columns]) / self.deviation)
        return chance

    def above(self, distance: Floats) -> Floats:
        """How many standard deviations found distances lie above the guess, (L, R); NaN where unknown."""
        above: Floats = (np.log(np.maximum(distance, _TINY)) - self.mean) / self.deviation
        return above


def fit(hints: Floats, distance: Floats) -> Guess:
    """The guess from `hints`, (P, L, R), and what is found, (L, R), NaN where unknown.

    log distance = constant + slopes . hints + an effect of each left and each right image, by least squares with
    ridges: without any distance it is the first hint. The deviation is that of the residuals.
    """
    rows, columns = np.nonzero(~np.isnan(distance))
    count = len(rows)
    L, R = distance.shape
    if count == 0:
        return Guess(hints[0], UNFITTED)
    y = np.log(np.maximum(distance[rows, columns], _TINY))
    centred = hints - hints.mean(axis=(1, 2), keepdims=True)
    X = np.column_stack([np.ones(count), *centred[:, rows, columns]])
    prior = np.eye(X.shape[1])[1]
    trust = np.diag([0.0, *[_TRUST] * len(hints)])
    in_row, in_column = np.bincount(rows, minlength=L), np.bincount(columns, minlength=R)
    of_row, of_column = np.zeros(L), np.zeros(R)
    for _ in range(_ROUNDS):
        rest = y - of_row[rows] - of_column[columns]
        slopes = np.linalg.solve(X.T @ X + trust, X.T @ rest + trust @ prior)
        rest = y - X @ slopes
        of_row = np.bincount(rows, rest - of_column[columns], minlength=L) / (in_row + _SHARED)
        of_column = np.bincount(columns, rest - of_row[rows], minlength=R) / (in_column + _SHARED)
    left_over = rest - of_row[rows] - of_column[columns]
    used = X.shape[1] + sum((n / (n + _SHARED)).sum() for n in (in_row, in_column))  # degrees of freedom
    deviation = np.sqrt((left_over**2).sum() / max(count - used, count / 4)) if count >= _FEW else UNFITTED
    mean = slopes[0] + np.tensordot(slopes[1:], centred, 1) + of_row[:, None] + of_column
    return Guess(mean, max(float(deviation), _LEAST))
