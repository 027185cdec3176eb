"""Closed forms and predictions for distances under random projections (paper, section 4): oracles and guide lines."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from robustness_core.conflict_graph import Floats


def affine_distance(matrix: npt.ArrayLike, difference: npt.ArrayLike) -> Floats:
    """Distance for an affine extractor f(x) = Hx + k: half the part of x - x' that H sees, ½‖V Vᵀ(x - x')‖.

    Paper, section 4.2; exact, also for rank-deficient H. Directions count as unseen when their singular value is
    below the rounding error of the largest one (the rule of numpy.linalg.matrix_rank).

    matrix: H, (m, n), for a projected extractor A·H. difference: x - x', (..., n). Returns (...,) float64.
    """
    H = np.asarray(matrix, dtype=np.float64)
    z = np.asarray(difference, dtype=np.float64)
    if H.ndim != 2 or z.ndim < 1 or z.shape[-1] != H.shape[1]:
        raise ValueError(f"A matrix of shape {H.shape} does not apply to differences of shape {z.shape}.")
    _, sigma, V_transposed = np.linalg.svd(H, full_matrices=False)
    seen = sigma > sigma.max(initial=0.0) * max(H.shape) * np.finfo(np.float64).eps
    distance: Floats = np.asarray(np.linalg.norm(z @ V_transposed[seen].T, axis=-1) / 2)
    return distance


def input_space_mean_square(norm: npt.ArrayLike, m: npt.ArrayLike, features: int) -> Floats:
    """E d² = m / (4 n0) ‖x - x'‖², for a random projection of the input space itself; exact for m <= n0.

    Paper, section 4.2, "Input space calculation". The row space of A is a uniformly distributed subspace, so
    4 d² / ‖x - x'‖² follows the Beta distribution with parameters m/2 and (n0 - m)/2.

    norm: ‖x - x'‖, any shape. m: rows of A, 1 ... n0 (more count as n0). features: n0.
    """
    norms, rows = np.asarray(norm, dtype=np.float64), np.asarray(m, dtype=np.float64)
    return np.asarray(np.minimum(rows, features) / (4 * features) * norms**2)


def square_root_law(m: npt.ArrayLike, feature_distance: npt.ArrayLike, frobenius: float) -> Floats:
    """Predicted distance √m ‖L(x - x')‖ / (2 ‖L‖_F) for a linear extractor L; good for 1 << m << √r4.

    Paper, Proposition 1. For the input space L = I and ‖L‖_F = √n0 (METHOD.md section 2: the paper prints n0).

    m: rows of the projection. feature_distance: ‖L(x - x')‖. frobenius: ‖L‖_F, above 0.
    """
    if not frobenius > 0:
        raise ValueError("The Frobenius norm of L must be above 0.")
    rows, lengths = np.asarray(m, dtype=np.float64), np.asarray(feature_distance, dtype=np.float64)
    return np.asarray(np.sqrt(rows) * lengths / (2 * frobenius))


def r4(singular_values: npt.ArrayLike) -> float:
    """Effective rank r4 = ‖L‖_F⁴ / ‖L‖_S4⁴ = (Σ σ²)² / Σ σ⁴, from 1 to rank(L), of which it is a smooth version.

    Paper, Proposition 1 (which prints the fraction upside down; METHOD.md section 2). Unchanged by scaling.
    """
    sigma = np.asarray(singular_values, dtype=np.float64)
    largest = np.abs(sigma).max(initial=0.0)
    if not (0 < largest < np.inf):
        raise ValueError("The singular values must be finite and not all 0.")
    squares = (sigma / largest) ** 2  # scaled first: fourth powers overflow early
    return float(squares.sum() ** 2 / (squares**2).sum())


def concentration_width(m: npt.ArrayLike, effective_rank: float = np.inf) -> Floats:
    """Relative standard deviation of the distance over random projections, about 1 / √(2m).

    Own derivation (the paper's appendix with the precise statement is not at hand). With z = x - x' the closed
    form is 4 d² = (ALz)ᵀ (A L Lᵀ Aᵀ)⁺ (ALz). Here ALz is Gaussian with covariance ‖Lz‖² I, and A L Lᵀ Aᵀ has mean
    ‖L‖_F² I with entries that fluctuate by about ‖L Lᵀ‖_F = ‖L‖_S4², that is 1/√r4 relative to the mean. So to first
    order 4 d² ‖L‖_F² / ‖Lz‖² is chi-squared with m degrees of freedom, of relative deviation √(2/m), and d has
    half of that (delta method). The factor (r - m) / (r + 2) makes it exact for d² in the input space, where r = n0
    and the Beta distribution of `input_space_mean_square` holds; for another L with r = r4 it is an interpolation.

    m: rows of A, 1 or more. effective_rank: r4 of L, n0 for the input space, infinite for the plain 1 / √(2m).
    Returns 0 where m >= r: nothing is random then.
    """
    rows = np.asarray(m, dtype=np.float64)
    shrink = np.maximum(1 - rows / effective_rank, 0) / (1 + 2 / effective_rank)
    return np.asarray(np.sqrt(shrink / (2 * rows)))


@dataclass(frozen=True)
class ExponentFit:
    """distance ≈ scale · m^exponent, with the confidence interval low ... high of the exponent, NaN for want of one."""

    exponent: float
    low: float
    high: float
    scale: float


def fit_exponent(m: npt.ArrayLike, distances: npt.ArrayLike, *, confidence: float = 0.95) -> ExponentFit:
    """Fit distance = scale · m^exponent by least squares of the logarithms; the √m law says exponent 1/2.

    Paper, section 6.2 ("the distances scale roughly with √m, but not exactly"). Give one row per m and one column per
    independent projection (not per pair: pairs share a projection). The exponent is the mean of the slopes of the
    columns and the interval is Student's over them, so that rows of a column may depend on each other: A at a small m
    is the top of A at a larger one. Of one column there is no interval. Single draws at small m bend the law
    (E log d = ½ψ(m/2) + constant in the input space, slope 0.64 from m = 2 to 16); root mean squares over projections
    do not.

    m: (K,), positive, at least two different. distances: (K,) or (K, N), positive. confidence: in (0, 1).
    """
    rows, values = np.asarray(m, dtype=np.float64), np.asarray(distances, dtype=np.float64)
    if rows.ndim != 1 or values.ndim not in (1, 2) or len(values) != len(rows):
        raise ValueError(f"There must be one row of distances for each m, not {values.shape} for {rows.shape}.")
    x = np.log(rows) if _positive(rows, values) else rows[:0]
    if len(x) * values[:1].size < 3 or np.ptp(x) == 0:
        raise ValueError("A fit needs three or more positive distances at two or more different m.")
    y = np.log(values).reshape(len(x), -1)
    centred = x - x.mean()
    slopes = centred @ y / (centred @ centred)  # (N,)
    exponent, N = float(slopes.mean()), len(slopes)
    half = np.nan
    if N > 1:
        half = float(stdtrit(N - 1, (1 + confidence) / 2) * slopes.std(ddof=1) / np.sqrt(N))
    scale = float(np.exp(y.mean() - exponent * x.mean()))
    return ExponentFit(exponent, exponent - half, exponent + half, scale)


def _positive(*arrays: Floats) -> bool:
    return all(bool((array > 0).all() and np.isfinite(array).all()) for array in arrays)
