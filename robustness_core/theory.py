"""Closed forms and predictions for distances under random projections (paper, section 4): oracles and guide lines."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln

from robustness_core.optimal_loss.conflict_graph import Floats
from robustness_core.optimal_loss.statistics import student


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


def input_space_mean(norm: npt.ArrayLike, m: npt.ArrayLike, features: int) -> Floats:
    """E d = √(m/n0) ‖x - x'‖ / 2 · mean_factor(m) / mean_factor(n0), the images themselves seen through the same m.

    Exact, from the Beta distribution of `input_space_mean_square`; the baseline of every projected layer.

    norm: ‖x - x'‖, any shape. m: rows of A, 1 ... n0 (more count as n0). features: n0.
    """
    rows = np.minimum(np.asarray(m, dtype=np.float64), features)
    root = np.sqrt(input_space_mean_square(norm, rows, features))
    return np.asarray(root * mean_factor(rows) / mean_factor(features))


def square_root_law(m: npt.ArrayLike, feature_distance: npt.ArrayLike, frobenius: float) -> Floats:
    """Predicted root mean square distance √m ‖L(x - x')‖ / (2 ‖L‖_F) for a linear extractor L.

    Times `mean_factor(m)` it is the predicted mean. Paper, Proposition 1. For the input space L = I and ‖L‖_F = √n0
    (METHOD.md section 2: the paper prints n0). The paper asks for m << √r4; that is sufficient, and m << r4 is what
    simulations needed: with r4 = 576 and differences that lie where L is large, root mean square / prediction was 0.98
    to 0.99 at m = 10 to 100 and 0.94 at m = 400 (tests/core/test_theory.py).

    m: rows of the projection. feature_distance: ‖L(x - x')‖. frobenius: ‖L‖_F, above 0.
    """
    if not frobenius > 0:
        raise ValueError("The Frobenius norm of L must be above 0.")
    rows, lengths = np.asarray(m, dtype=np.float64), np.asarray(feature_distance, dtype=np.float64)
    return np.asarray(np.sqrt(rows) * lengths / (2 * frobenius))


def mean_factor(m: npt.ArrayLike) -> Floats:
    """E d / √(E d²) over random projections of m rows: √(2/m) Γ((m+1)/2) / Γ(m/2), about 1 - 1/(4m).

    0.80 at m = 1, 0.95 at 5, 0.995 at 50. Own derivation: to first order 4 d² ‖L‖_F² / ‖L(x - x')‖² is chi-squared
    with m degrees of freedom (see `concentration_width`), and this is the mean of its root, divided by √m.
    """
    rows = np.asarray(m, dtype=np.float64)
    return np.asarray(np.sqrt(2 / rows) * np.exp(gammaln((rows + 1) / 2) - gammaln(rows / 2)))


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


def concentration_width(m: npt.ArrayLike, rank: float = np.inf) -> Floats:
    """Relative standard deviation of the distance over random projections, about 1 / √(2m).

    Own derivation (the paper's appendix with the precise statement is not at hand). With z = x - x' the closed
    form is 4 d² = (ALz)ᵀ (A L Lᵀ Aᵀ)⁺ (ALz). Here ALz is Gaussian with covariance ‖Lz‖² I, and A L Lᵀ Aᵀ has mean
    ‖L‖_F² I with entries that fluctuate by about ‖L Lᵀ‖_F = ‖L‖_S4², that is 1/√r4 relative to the mean. So to first
    order 4 d² ‖L‖_F² / ‖Lz‖² is chi-squared with m degrees of freedom, of relative deviation √(2/m), and d has
    half of that (delta method). From m = rank(L) on A sees all that L sees and nothing is random: the factor
    (rank - m) / (rank + 2) leads there. It makes the deviation of d² exact in the input space, where rank = n0 and the
    Beta distribution of `input_space_mean_square` holds; for another L it is an interpolation.

    m: rows of A, 1 or more. rank: of L, n0 for the input space, infinite for the plain 1 / √(2m); r4 is smaller, and
    at m = r4 the distance is still random. Returns 0 where m >= rank.
    """
    rows = np.asarray(m, dtype=np.float64)
    shrink = np.maximum(1 - rows / rank, 0) / (1 + 2 / rank)
    return np.asarray(np.sqrt(shrink / (2 * rows)))


FITTED_FROM = 5  # the least m of a fit, where larger ones suffice


@dataclass(frozen=True)
class ExponentFit:
    """mean distance ≈ scale · mean_factor(m) · m^exponent, fitted to `m`, K of them in order.

    low ... high is the confidence interval of the exponent, NaN for want of one.
    """

    exponent: float
    low: float
    high: float
    scale: float
    m: tuple[float, ...]


def fit_exponent(m: npt.ArrayLike, distances: npt.ArrayLike, *, confidence: float = 0.95) -> ExponentFit:
    """Fit distance = scale · mean_factor(m) · m^exponent by least squares of the logarithms; the √m law says 1/2.

    Paper, section 6.2 ("the distances scale roughly with √m, but not exactly"). Give one row per m and one column per
    independent projection (not per pair: pairs share a projection). The exponent is the mean of the slopes of the
    columns and the interval is Student's over them, so that rows of a column may depend on each other: A at a small m
    is the top of A at a larger one. Of one column there is no interval.

    Means of distances at a small m are smaller than the law of root mean squares says, and logarithms of single draws
    more so (E log d = ½ψ(m/2) + constant in the input space: slope 0.62 from m = 2 to 16), which bends the plain slope
    upwards: its interval is not one of the law's ½. So the distances are divided by `mean_factor`, and m below
    FITTED_FROM are left out where the others suffice. With the means over the 400 pairs of a sample of MNIST in the
    input space, A nested over m = 1 ... 50, the interval of 95 % then holds ½ in 95, 95 and 94 % of audits of N = 3, 5
    and 10 projections (77, 56 and 20 % without both), and with a single pair in 95, 94 and 94 %.

    m: (K,), positive, at least two different. distances: (K,) or (K, N), positive. confidence: in (0, 1).
    """
    rows, values = np.asarray(m, dtype=np.float64), np.asarray(distances, dtype=np.float64)
    if rows.ndim != 1 or values.ndim not in (1, 2) or len(values) != len(rows):
        raise ValueError(f"There must be one row of distances for each m, not {values.shape} for {rows.shape}.")
    if not _positive(rows, values) or not _enough(rows, values):
        raise ValueError("A fit needs three or more positive distances at two or more different m.")
    large = rows >= FITTED_FROM
    if _enough(rows[large], values[large]):
        rows, values = rows[large], values[large]
    x = np.log(rows)
    y = np.log(values).reshape(len(x), -1) - np.log(mean_factor(rows))[:, None]
    centred = x - x.mean()
    slopes = centred @ y / (centred @ centred)  # (N,)
    exponent = student(slopes, confidence=confidence)
    scale = float(np.exp(y.mean() - exponent.value * x.mean()))
    return ExponentFit(exponent.value, exponent.low, exponent.high, scale, tuple(rows.tolist()))


def _enough(rows: Floats, values: Floats) -> bool:
    """Whether there are three distances at two different m."""
    return values.size >= 3 and bool(np.ptp(rows) > 0)


def _positive(*arrays: Floats) -> bool:
    return all(bool((array > 0).all() and np.isfinite(array).all()) for array in arrays)
