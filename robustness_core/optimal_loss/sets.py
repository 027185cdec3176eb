"""The optimal loss where sets of three and more images collide too: a convex program, whose rows are added lazily.

Images of K classes collide in sets T of distinct classes, whose distance d(T) is the least budget at which
perturbations of all of them reach one feature value. Qualities q are reachable at ε exactly if the sum of q over every
T with d(T) <= ε is at most 1 (METHOD.md section 7; Dai et al. 2023). With pairs alone the loss is at most log 2, with
sets of up to t images log t.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import linprog
from scipy.sparse import csr_array, diags_array, identity, vstack

from robustness_core.found import Set
from robustness_core.optimal_loss.conflict_graph import Bools, Floats, check_distances
from robustness_core.optimal_loss.solve import OptimalLoss, loss_curve, optimal_loss

_FEASIBLE = 1e-10  # by which a row may be exceeded, before the solution is divided by the excess
_GAP = 1e-10  # nats, of the programs on the rows at hand
_STEPS = 60  # of Newton's method; some 20 are needed
_EDGES = 4  # rows of pairs an image that are added at once
_ROUNDS = 200
_TO_BOUNDARY = 0.995  # of the way to the boundary


@dataclass(frozen=True, eq=False)
class SetLoss:
    """The least cross-entropy and 0-1 loss on pairs and sets, and the probabilities of the former.

    `cross_entropy`: nats; `zero_one`: 0 to 1. `quality` (n,): probability of the correct class. The certificate: `gap`
    is cross_entropy, which `quality` reaches and every set allows, minus a lower bound that follows from multipliers
    alone.
    """

    cross_entropy: float
    zero_one: float
    quality: Floats
    gap: float


def loss_with_sets(conflicts: npt.ArrayLike, sets: Sequence[Set], *, weights: npt.ArrayLike | None = None) -> SetLoss:
    """The optimal losses of one conflict graph whose images also collide in `sets`.

    conflicts: (n, n) bool, symmetric. sets: three and more images each. weights: positive (n,), the probability of
    every image up to a factor; all equal by default. Cost: where no set is exceeded by the solution of the pairs, that
    of two optimal losses; else some ten programs of n unknowns.
    """
    graph = np.asarray(conflicts)
    weight = np.ones(len(graph)) if weights is None else np.asarray(weights, dtype=np.float64)
    return _loss(graph, sets, weight / weight.sum())


def curve_of(graph: npt.ArrayLike, found: Mapping[Set, float], epsilons: npt.ArrayLike) -> Floats:
    """The optimal cross-entropy at every budget: `loss_curve` without sets, the first of `set_curves` with some."""
    return set_curves(graph, found, epsilons)[0] if found else loss_curve(graph, epsilons)


def set_curves(
    graph: npt.ArrayLike, found: Mapping[Set, float], epsilons: npt.ArrayLike
) -> tuple[Floats, Floats]:  # fmt: skip
    """The optimal cross-entropy (nats) and 0-1 loss at every budget of `epsilons` (E,), (E,) each.

    graph: distances of pairs, (n, n) symmetric, NaN where unknown or of one class. found: set -> its distance.
    """
    matrix, budgets = check_distances(graph), np.asarray(epsilons, dtype=np.float64)
    weight = np.full(len(matrix), 1 / len(matrix))
    losses = [
        _loss(matrix <= epsilon, [one for one, distance in found.items() if distance <= epsilon], weight)
        for epsilon in budgets
    ]
    return np.array([one.cross_entropy for one in losses]), np.array([one.zero_one for one in losses])


def least_ball(distance: npt.ArrayLike) -> tuple[float, Floats]:
    """Radius and centre of the least ball around points that are 2 `distance` (T, T) apart: its weights, (T,).

    The centre is the points' mean by these weights; R^2 is the maximum over weights l on the simplex of
    sum_ij l_i l_j (2 d_ij)^2 / 2. For affine features it is the distance of the set. By active sets: a point outside
    the ball is taken in, one of negative weight put out. The distances must be those of points; of others the radius
    of what was reached is returned, which is no less than the largest distance of a pair.
    """
    square = 4 * np.asarray(distance, dtype=np.float64) ** 2
    T = len(square)
    support = [int(i) for i in np.unravel_index(square.argmax(), square.shape)] if T > 1 else [0]
    weights = _ball_weights(square, support)
    for _ in range(10 * T):
        radius = float(weights @ square @ weights / 2)
        outside = square @ weights - radius  # squared distance of each point from the centre
        worst = int(outside.argmax())
        if worst in support or outside[worst] <= radius * (1 + 1e-12):
            break
        support.append(worst)
        inner = _ball_weights(square, support)
        while (inner < 0).any() and len(support) > 1:
            step = weights[support] - inner[support]
            share = np.where(inner[support] < 0, weights[support] / np.maximum(step, 1e-300), np.inf)
            place = int(share.argmin())
            weights = weights + max(0.0, float(share[place])) * (inner - weights)
            weights[support[place]] = 0.0
            support.pop(place)
            inner = _ball_weights(square, support)
        weights = inner
    return math.sqrt(max(float(weights @ square @ weights) / 2, 0.0)), weights


def _ball_weights(square: Floats, support: Sequence[int]) -> Floats:
    """Weights of the point at one distance from all points of the support, in their affine hull."""
    count = len(support)
    system = np.ones((count + 1, count + 1))
    system[:count, :count] = square[np.ix_(support, support)]
    system[count, count] = 0
    weights = np.zeros(len(square))
    right = np.append(np.zeros(count), 1.0)
    weights[list(support)] = np.linalg.lstsq(system, right, rcond=None)[0][:count]
    return weights


def _loss(graph: Bools, sets: Sequence[Set], weight: Floats) -> SetLoss:
    pairs = optimal_loss(graph, weights=(weight, weight))
    if not any(pairs.left[list(one)].sum() > 1 + _FEASIBLE for one in sets):
        return _of_pairs(pairs, graph, sets, weight)
    quality, gap = _cross_entropy(graph, sets, weight, pairs.left)
    return SetLoss(float(-(weight * np.log(quality)).sum()) + 0.0, _zero_one(graph, sets, weight), quality, gap)


def _of_pairs(pairs: OptimalLoss, graph: Bools, sets: Sequence[Set], weight: Floats) -> SetLoss:
    zero_one = _zero_one(graph, sets, weight) if sets else pairs.zero_one
    return SetLoss(pairs.cross_entropy, zero_one, pairs.left, pairs.gap)


class _Rows:
    """The rows at hand, each a set of images whose q sum up to at most 1; `more` adds those that are exceeded."""

    def __init__(self, graph: Bools, sets: Sequence[Set], begin: Floats):
        self._graph, self._n = graph, len(graph)
        self._sets = _incidence(sets, self._n)
        self._at_hand = np.zeros(len(sets), dtype=bool)
        tight = graph & (begin[:, None] + begin > 1 - 1e-7)
        random = np.random.default_rng(0).random(graph.shape)  # of many tight pairs some of each image
        self._pairs = self._nearest(np.where(tight, random, -np.inf))

    @property
    def matrix(self) -> csr_array:
        """(rows, n): pairs, sets, and q <= 1 of every image."""
        u, v = np.divmod(np.array(sorted(self._pairs), dtype=np.int64), self._n)
        pairs = _incidence(list(zip(u.tolist(), v.tolist(), strict=True)), self._n)
        return csr_array(vstack([pairs, self._sets[self._at_hand], identity(self._n)]))

    def exceeded(self, quality: Floats) -> float:
        """The largest sum of q over any pair or set, at least 1."""
        best = np.where(self._graph, quality, -np.inf).max(axis=1, initial=-np.inf)
        of_sets = (self._sets @ quality).max(initial=-np.inf)
        return float(max(1.0, (quality + best).max(initial=-np.inf), of_sets))

    def more(self, quality: Floats) -> None:
        self._at_hand |= (self._sets @ quality) > 1 + _FEASIBLE
        excess = np.where(self._graph, quality[:, None] + quality - 1, -np.inf)
        self._pairs |= self._nearest(np.where(excess > _FEASIBLE, excess, -np.inf))

    def _nearest(self, worth: Floats) -> set[int]:
        """Of each image the few pairs that are worth most, as u n + v with u < v."""
        few = min(_EDGES, self._n)
        columns = np.argpartition(-worth, few - 1, axis=1)[:, :few]
        rows = np.repeat(np.arange(self._n), few)
        columns = columns.ravel()
        chosen = worth[rows, columns] > -np.inf
        low, high = np.minimum(rows, columns)[chosen], np.maximum(rows, columns)[chosen]
        return set((low * self._n + high).tolist())


def _incidence(sets: Sequence[Sequence[int]], n: int) -> csr_array:
    sizes = [len(one) for one in sets]
    columns = np.array([place for one in sets for place in one], dtype=np.int64)
    return csr_array((np.ones(len(columns)), columns, np.cumsum([0, *sizes])), shape=(len(sets), n))


def _cross_entropy(graph: Bools, sets: Sequence[Set], weight: Floats, begin: Floats) -> tuple[Floats, float]:
    """q that every pair and set allows, and how far at most its loss lies above the optimum."""
    rows = _Rows(graph, sets, begin)
    rows.more(begin)
    for _ in range(_ROUNDS):
        quality, bound = _interior_point(rows.matrix, weight)
        most = rows.exceeded(quality)
        if most <= 1 + _FEASIBLE:
            break
        rows.more(quality)
    quality = quality / most  # feasible, at a cost of log most
    return quality, float(-(weight * np.log(quality)).sum() - bound)


def _interior_point(A: csr_array, weight: Floats) -> tuple[Floats, float]:
    """min -Σ w log q with A q <= 1, by a primal-dual Newton method: q, strictly feasible, and a lower bound.

    The bound is the Lagrange dual at multipliers y >= 0: Σ w log((A^T y) / w) + 1 - Σ y.
    """
    q = np.full(A.shape[1], 0.9 / A.sum(axis=1).max())
    slack = 1 - A @ q
    y = 1 / (A.shape[0] * slack)
    bound = -np.inf
    for _ in range(_STEPS):
        through = A.T @ y
        bound = max(bound, float((weight * np.log(through / weight)).sum() + 1 - y.sum()))
        if -(weight * np.log(q)).sum() - bound <= _GAP:
            break
        barrier = 0.1 * float(y @ slack) / len(y)
        H = (A.T @ diags_array(y / slack) @ A).toarray()
        H[np.diag_indices_from(H)] += weight / q**2
        dq = np.linalg.solve(H, weight / q - A.T @ (barrier / slack))
        ds = -(A @ dq)
        dy = (barrier - y * slack - y * ds) / slack
        primal = min(_longest(q, dq), _longest(slack, ds))
        q = q + primal * dq
        slack = 1 - A @ q
        y = y + _longest(y, dy) * dy
    return q, bound


def _longest(value: Floats, change: Floats) -> float:
    """How far to go along a change so that all values stay positive, at most 1."""
    falling = change < 0
    return min(1.0, _TO_BOUNDARY * float((value[falling] / -change[falling]).min(initial=np.inf)))


def _zero_one(graph: Bools, sets: Sequence[Set], weight: Floats) -> float:
    """1 - max Σ w q over all that pairs and sets allow, a linear program (HiGHS)."""
    n = len(graph)
    quality = np.ones(n)
    rows = _Rows(graph, sets, quality)
    for _ in range(_ROUNDS):
        rows.more(quality)
        A = rows.matrix[:-n]
        found = linprog(-weight, A_ub=A, b_ub=np.ones(A.shape[0]), bounds=(0, 1), method="highs")
        quality = found.x
        if rows.exceeded(quality) <= 1 + 1e-8:
            break
    return float(1 + found.fun)
