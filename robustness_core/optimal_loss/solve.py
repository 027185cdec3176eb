"""Optimal adversarial loss of a conflict graph (paper, section 3.1) by minimum cuts, for one budget or a curve.

The problem is min Σ p_v log 1/q_v over 0 <= q <= 1 with q_u + q_v <= 1 on every edge. Write t_v = 1 - q_v on the
right side: the edge then says q_u <= t_v, which is isotonic regression on a bipartite order. Its solution cuts the
vertices into *blocks*; a block of left weight a and right weight b has the one *value* a / (a + b), which is q of
its left and t of its right vertices. One solution minimises every proper loss at once.

A block is final when a flow can carry the share w_u / a out of every left vertex and the share w_v / b into every
right vertex; otherwise the minimum cut splits it (Algorithm 1 of Bhagoji et al. 2021). Three things make it fast:

- *All blocks at once*: the blocks of one depth are one disconnected network, so one maximum flow serves them all.
- *Few edges*: the flow sees a handful of edges per vertex. When it is stuck, a search through the whole graph looks
  for an augmenting path; the edges of that search are added and the flow is repeated. If there is no path, the cut
  is minimal in the whole graph, so the result is exact.
- *Edges that arrive*: a solution stays optimal until an edge contradicts it (q_u > t_v). Then only the blocks with
  values from t_v to q_u can change, because more constraints never widen the range of an isotonic regression.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_flow

from robustness_core.errors import StrataError
from robustness_core.optimal_loss.conflict_graph import Bools, Floats, check_distances

Ints = npt.NDArray[np.int64]
Weights = tuple[npt.ArrayLike, npt.ArrayLike]

_LARGEST_CAPACITY = 2**31 - 1  # scipy's maximum_flow counts in 32 bits
_NO_RISE = 1e-12  # nats; what rounding may add to a loss
_FIRST_EDGES = 3  # random edges of every vertex that the first flow sees
_TRIALS = 48  # random columns in which they are looked for before the whole row is searched
_WAYS_IN = 40  # random ways into a vertex that are tried when edges are added: more let more flow follow
_EDGES_KEPT = 5  # per vertex; above that, edges that carry nothing are dropped (a flow that grows still ends)


@dataclass(frozen=True, eq=False)
class OptimalLoss:
    """The least losses of any classifier on a conflict graph, and the probabilities that reach them.

    cross_entropy: nats, 0 ... log 2 for equal class weights. zero_one: 0 ... 1/2 likewise. left (L,), right (R,):
    probability of the correct class, float64 in [0, 1]. The certificate: `gap` is cross_entropy minus a lower bound
    on it that follows from the solver's flow (or multipliers) alone, in nats; `violation` is how far the worst edge
    exceeds q_u + q_v <= 1.
    """

    cross_entropy: float
    zero_one: float
    left: Floats
    right: Floats
    gap: float
    violation: float


def optimal_loss(
    conflicts: npt.ArrayLike, *, method: Literal["flow", "cvxpy"] = "flow", weights: Weights | None = None
) -> OptimalLoss:
    """The least adversarial cross-entropy and 0-1 loss of any classifier, on one conflict graph.

    conflicts: (L, R) bool. method: "flow", exact, or "cvxpy" (Clarabel), an independent reference for small graphs.
    weights: positive (L,) and (R,), the probability of every image up to a common factor; default: all equal.
    Raises StrataError without cvxpy, ValueError for an empty or non-boolean matrix, an unknown method or weights that
    do not fit, and RuntimeError where Clarabel gives up (seen on graphs with 40,000 edges that are nearly complete).
    """
    graph = _check_conflicts(conflicts)
    left_weight, right_weight = _check_weights(weights, graph.shape)
    if method == "cvxpy":
        return _by_convex_program(graph, left_weight, right_weight)
    if method != "flow":
        raise ValueError(f"The method {method!r} is not one of flow, cvxpy.")
    solution = _Solution(left_weight, right_weight)
    solution.update(graph)
    return _result(
        graph,
        (left_weight, right_weight),
        (solution.left_value, solution.right_quality()),
        (solution.left_flow, solution.right_flow),
        solution.zero_one(),
    )


def loss_curve(distances: npt.ArrayLike, epsilons: npt.ArrayLike, *, weights: Weights | None = None) -> Floats:
    """The optimal cross-entropy at every budget, in nats; it never falls as the budget grows.

    Algorithm 2 of the paper, lines 11 to 14; differs: budgets are visited in ascending order and every solution
    starts from the one before (see the top of this file).

    distances: (L, R), 0 or more, NaN where unknown (no edge). epsilons: (E,), in any order. weights: as in
    `optimal_loss`. Returns (E,) float64. Raises ValueError for input of another form.
    """
    return _along(distances, epsilons, weights, _Solution.cross_entropy)


def loss_steps(distances: npt.ArrayLike) -> tuple[Floats, Floats]:
    """The optimal cross-entropy at every budget at once: it is a step function of the budget.

    Returns (K,) budgets, ascending, all of them distances, and (K,) losses, rising: the loss from that budget up to the
    next; below the first it is 0. Cost: one solution for each budget at which the loss rises.
    """
    matrix = check_distances(distances)
    budgets = np.unique(matrix[np.isfinite(matrix)])
    losses = loss_curve(matrix, budgets)
    rises = np.diff(losses, prepend=0.0) > _NO_RISE
    return budgets[rises], losses[rises]


def error_curve(distances: npt.ArrayLike, epsilons: npt.ArrayLike, *, weights: Weights | None = None) -> Floats:
    """The optimal 0-1 loss at every budget, 0 ... 1/2 for equal class weights: `loss_curve` for errors."""
    return _along(distances, epsilons, weights, _Solution.zero_one)


def _along(
    distances: npt.ArrayLike, epsilons: npt.ArrayLike, weights: Weights | None, loss_of: Callable[[_Solution], float]
) -> Floats:
    matrix = check_distances(distances)
    budgets = np.asarray(epsilons, dtype=np.float64)
    if budgets.ndim != 1 or np.isnan(budgets).any() or (budgets < 0).any():
        raise ValueError("The budgets ε must be a list of numbers that are 0 or more.")
    order = np.argsort(budgets, kind="stable")
    loss = np.empty(len(budgets))
    for position, solution in zip(order, _growing(matrix, budgets[order], weights), strict=True):
        loss[position] = loss_of(solution)
    return loss


def probabilities(distances: npt.ArrayLike, epsilons: npt.ArrayLike) -> Iterator[tuple[float, Floats, Floats]]:
    """Each budget of `epsilons` (E,), ascending, with the optimal q of the left (L,) and of the right (R,) images.

    Only good until the next is asked for. Otherwise as `loss_curve`.
    """
    for solution, budget in zip(
        _growing(check_distances(distances), epsilons, None), np.asarray(epsilons), strict=True
    ):
        yield float(budget), solution.left_value, solution.right_quality()


def _growing(matrix: Floats, ascending: npt.ArrayLike, weights: Weights | None) -> Iterator[_Solution]:
    """The solution at each budget, each made of the one before."""
    solution = _Solution(*_check_weights(weights, matrix.shape))
    for budget in np.asarray(ascending):
        solution.update(matrix <= budget)
        yield solution


def _check_conflicts(conflicts: npt.ArrayLike) -> Bools:
    graph = np.asarray(conflicts)
    if graph.ndim != 2 or 0 in graph.shape or graph.dtype != np.bool_:
        raise ValueError(
            f"Conflicts must be a boolean matrix with at least one row and one column, "
            f"not {graph.dtype} of shape {graph.shape}."
        )
    return graph


def _check_weights(weights: Weights | None, shape: tuple[int, ...]) -> tuple[Floats, Floats]:
    """Weights as two float64 vectors; whole numbers wherever they are whole multiples of the smallest."""
    if weights is None:
        return np.ones(shape[0]), np.ones(shape[1])
    left, right = (np.asarray(side, dtype=np.float64) for side in weights)
    if left.shape != shape[:1] or right.shape != shape[1:]:
        raise ValueError(f"Weights must be two lists of {shape[0]} and {shape[1]} numbers, one number for each image.")
    both = np.concatenate([left, right])
    if not (np.isfinite(both).all() and (both > 0).all()):
        raise ValueError("Weights must be positive finite numbers.")
    unit = both.min()
    return left / unit, right / unit


class _Solution:
    """The optimal blocks of one growing conflict graph: starts without edges, `update` lets edges arrive.

    left_value is q of the left vertices, right_value is t = 1 - q of the right vertices: the value of their block.
    left_flow, right_flow: what the flow carries through each vertex, scaled so that it sums to the block's weight;
    they are the multipliers that prove optimality. `support`: sorted keys u * R + v of the edges that carry flow.
    """

    def __init__(self, left_weight: Floats, right_weight: Floats) -> None:
        self.left_weight, self.right_weight = left_weight, right_weight
        L, R = len(left_weight), len(right_weight)
        self.left_value, self.right_value = np.ones(L), np.zeros(R)
        self.left_flow, self.right_flow = np.zeros(L), np.zeros(R)
        self.support: Ints = np.empty(0, np.int64)
        self.random = np.random.default_rng(0)  # chooses edges to look at first; the optimum is unique
        weights = np.concatenate([left_weight, right_weight])
        self.whole = bool(
            (weights == np.rint(weights)).all() and left_weight.sum() * right_weight.sum() <= _LARGEST_CAPACITY
        )

    def right_quality(self) -> Floats:
        return 1 - self.right_value

    def cross_entropy(self) -> float:
        return _cross_entropy(self.left_weight, self.right_weight, self.left_value, self.right_quality())

    def zero_one(self) -> float:
        """The least 0-1 loss, Σ over blocks of the lighter side: rounding q at 1/2 minimises it (isotonic)."""
        lost = self.left_weight[self.left_value <= 0.5].sum() + self.right_weight[self.right_value > 0.5].sum()
        return float(lost / (self.left_weight.sum() + self.right_weight.sum()))

    def update(self, graph: Bools) -> None:
        """Make the solution optimal for `graph` (L, R), which has all edges of the graph before."""
        R = len(self.right_value)
        contradicted = graph & (self.left_value[:, None] > self.right_value)
        if not contradicted.any():
            return
        left_block, right_block = self._blocks_that_may_change(contradicted)
        left_block[~graph.any(axis=1)] = -1
        right_block[~graph.any(axis=0)] = -1
        support_left = left_block[self.support // R]
        keep = support_left >= 0
        edges = _merge(self.support[keep], _some_edges(contradicted, self.random))
        self.support = self.support[~keep]
        while (left_block >= 0).any():
            edges = self._split(graph, left_block, right_block, edges)
        self.support.sort()

    def _blocks_that_may_change(self, contradicted: Bools) -> tuple[Ints, Ints]:
        """Number the ranges of values that contradicted edges span, as blocks to solve anew; -1: unchanged."""
        levels = np.unique(np.concatenate([self.left_value, self.right_value]))
        left_level = np.searchsorted(levels, self.left_value)
        right_level = np.searchsorted(levels, self.right_value)
        # The widest range of each left vertex is enough: from the least value among its contradicted neighbours.
        lows = np.where(contradicted, right_level, len(levels)).min(axis=1)
        has = lows < len(levels)
        steps = np.bincount(lows[has], minlength=len(levels)) - np.bincount(left_level[has], minlength=len(levels))
        open_above = np.cumsum(steps) > 0  # the gap between this level and the next is spanned
        touched = open_above | np.concatenate([[False], open_above[:-1]])
        starts = touched & ~np.concatenate([[False], open_above[:-1]])
        block_of_level = np.where(touched, np.cumsum(starts) - 1, -1)
        return block_of_level[left_level], block_of_level[right_level]

    def _split(self, graph: Bools, left_block: Ints, right_block: Ints, edges: Ints) -> Ints:
        """Finish every block that its flow fills and cut the others in two, in place; returns edges for the next."""
        R = len(right_block)
        rows, columns = np.flatnonzero(left_block >= 0), np.flatnonzero(right_block >= 0)
        inside = graph[np.ix_(rows, columns)]
        row_block, column_block = left_block[rows], right_block[columns]
        blocks = int(max(row_block.max(), column_block.max(initial=0))) + 1
        if blocks > 1:
            inside &= row_block[:, None] == column_block
        u, v = edges // R, edges % R
        keep = (left_block[u] == right_block[v]) & (left_block[u] >= 0)
        position = np.empty(max(graph.shape), np.int64)
        position[rows] = np.arange(len(rows))
        u = position[u[keep]]
        position[columns] = np.arange(len(columns))
        v = position[v[keep]]

        a = np.bincount(row_block, self.left_weight[rows], minlength=blocks).astype(np.float64)
        b = np.bincount(column_block, self.right_weight[columns], minlength=blocks).astype(np.float64)
        out, into, unit, slack = self._capacities(rows, columns, row_block, column_block, a, b)
        flow = _largest_flow(inside, out, into, row_block, slack, u * len(columns) + v, self.random)

        full = ~(np.bincount(row_block[flow.row_reached], minlength=blocks) > 0)
        row_full, column_full = full[row_block], full[column_block]
        self.left_value[rows[row_full]] = (a / (a + b))[row_block[row_full]]
        self.right_value[columns[column_full]] = (a / (a + b))[column_block[column_full]]
        self.left_flow[rows] = flow.out * (unit * (a + b))[row_block]
        self.right_flow[columns] = flow.into * (unit * (a + b))[column_block]
        u, v = flow.edges // len(columns), flow.edges % len(columns)
        keys = rows[u] * R + columns[v]
        carries = row_full[u] & (flow.amount > 0)
        self.support = np.concatenate([self.support, keys[carries]])

        number = np.zeros(2 * blocks, np.int64)  # blocks that are left get consecutive numbers
        row_half = 2 * row_block + flow.row_reached
        column_half = 2 * column_block + flow.column_reached
        number[row_half[~row_full]] = 1
        number = np.cumsum(number) - 1
        left_block[rows] = np.where(row_full, -1, number[row_half])
        right_block[columns] = np.where(column_full, -1, number[column_half])
        return keys[~row_full[u]]

    def _capacities(
        self, rows: Ints, columns: Ints, row_block: Ints, column_block: Ints, a: Floats, b: Floats
    ) -> tuple[Ints, Ints, Floats, Floats]:
        """Shares w_u / a and w_v / b as whole numbers, the unit they are counted in and the slack of every block.

        Whole weights: w_u b and w_v a, exact. Others are rounded to 2**30 units that the blocks share; a flow that
        misses at most one unit per vertex then counts as full. That moves a value by less than 1e-4 of itself even
        for 10,000 vertices, and the loss by the square of it.
        """
        if self.whole:
            return (
                (self.left_weight[rows] * b[row_block]).astype(np.int64),
                (self.right_weight[columns] * a[column_block]).astype(np.int64),
                1 / (a * b),
                np.zeros(len(a)),
            )
        members = np.bincount(row_block, minlength=len(a)) + np.bincount(column_block, minlength=len(a))
        units = np.floor(2**30 * members / members.sum())
        out = np.rint(self.left_weight[rows] / a[row_block] * units[row_block])
        into = np.rint(self.right_weight[columns] / b[column_block] * units[column_block])
        return (
            np.maximum(out, 1).astype(np.int64),
            np.maximum(into, 1).astype(np.int64),
            1 / units,
            members.astype(float),
        )


@dataclass(frozen=True, eq=False)
class _Flow:
    """A maximum flow: through rows and columns, along `edges` (sorted keys row * columns + column), and its cut.

    row_reached, column_reached: what a search along unused capacity reaches from rows that are not used up, in
    blocks that miss more than their slack: the source side of the minimum cut.
    """

    out: Ints
    into: Ints
    edges: Ints
    amount: Ints
    row_reached: Bools
    column_reached: Bools


def _largest_flow(
    inside: Bools, out: Ints, into: Ints, row_block: Ints, slack: Floats, edges: Ints, random: np.random.Generator
) -> _Flow:
    """The maximum flow from rows to columns along the edges of `inside`, which starts with only some `edges`."""
    while True:
        through_rows, through_columns, amount = _flow_along(edges, out, into)
        missing = np.bincount(row_block, out - through_rows, minlength=len(slack))
        row_reached = (through_rows < out) & (missing > slack)[row_block]
        column_reached = np.zeros(len(into), np.bool_)
        found = False  # an augmenting path
        tree = [edges]
        carrying = edges[amount > 0]
        carrying_row, carrying_column = carrying // len(into), carrying % len(into)
        frontier = np.flatnonzero(row_reached)
        while frontier.size:
            neighbours = inside[frontier]
            fresh = neighbours.any(axis=0) & ~column_reached
            new = np.flatnonzero(fresh)
            if not new.size:
                break
            tree.append(frontier[neighbours[:, new].argmax(axis=0)] * len(into) + new)
            others = random.integers(frontier.size, size=(new.size, min(_WAYS_IN, frontier.size - 1)))
            chosen, _ = np.nonzero(hit := neighbours[others, new[:, None]])
            tree.append(frontier[others[hit]] * len(into) + new[chosen])
            column_reached |= fresh
            found = found or bool((through_columns < into)[new].any())
            back = carrying_row[fresh[carrying_column]]  # rows that can take their flow back from a fresh column
            before = row_reached.copy()
            row_reached[back] = True
            frontier = np.flatnonzero(row_reached & ~before)
        if not found:
            return _Flow(through_rows, through_columns, edges, amount, row_reached, column_reached)
        if len(edges) > _EDGES_KEPT * (len(out) + len(into)):
            tree[0] = carrying
        edges = _merge(*tree)


def _flow_along(edges: Ints, out: Ints, into: Ints) -> tuple[Ints, Ints, Ints]:
    """Maximum flow from a source through rows, `edges` and columns to a sink: through each of the three."""
    L, R = len(out), len(into)
    u, v = edges // R, edges % R
    # Vertices: source, rows, columns, sink. The CSR arrays are written as they must be, in order.
    degree = np.bincount(u, minlength=L)
    pointer = np.zeros(L + R + 3, np.int32)
    pointer[1 : L + 2] = L
    pointer[2 : L + 2] += np.cumsum(degree).astype(np.int32)
    pointer[L + 2 : -1] = L + len(u) + np.arange(1, R + 1)
    pointer[-1] = pointer[-2]
    target = np.concatenate([np.arange(1, L + 1), v + (L + 1), np.full(R, L + R + 1)]).astype(np.int32)
    capacity = np.concatenate([out, np.minimum(out[u], into[v]), into]).astype(np.int32)
    network = csr_array((capacity, target, pointer), shape=(L + R + 2, L + R + 2))
    flow = maximum_flow(network, 0, L + R + 1).flow
    start, end = flow.indptr[1], flow.indptr[L + 1]
    along = flow.data[start:end][flow.indices[start:end] > 0]  # without the way back to the source
    return flow.data[:L], -flow.data[flow.indptr[-2] :], along


def _merge(*keys: Ints) -> Ints:
    """All keys, sorted, each once (by sorting: np.unique hashes, which is ten times slower for many keys)."""
    merged = np.sort(np.concatenate(keys))
    return merged[np.concatenate([[True], merged[1:] != merged[:-1]])] if len(merged) else merged


def _some_edges(graph: Bools, random: np.random.Generator) -> Ints:
    """A few random edges of every vertex that has any, as sorted keys u * R + v."""
    R = graph.shape[1]
    by_row = _some_of_each_row(graph, random)
    by_column = _some_of_each_row(graph.T, random)
    return _merge(by_row[0] * R + by_row[1], by_column[1] * R + by_column[0])


def _some_of_each_row(graph: Bools, random: np.random.Generator) -> tuple[Ints, Ints]:
    L, R = graph.shape
    if graph.size <= 2**16:
        row, column = np.nonzero(graph)
    else:
        tried = random.integers(R, size=(L, min(_TRIALS, R)))
        hits = np.take_along_axis(graph, tried, axis=1)
        poor = np.flatnonzero(hits.sum(axis=1) < _FIRST_EDGES)
        hits[poor] = False
        row, position = np.nonzero(hits)
        column = tried[row, position]
        poor_row, poor_column = np.nonzero(graph[poor])
        row, column = np.concatenate([row, poor[poor_row]]), np.concatenate([column, poor_column])
    order = np.argsort(row, kind="stable")
    row, column = row[order], column[order]
    count = np.bincount(row, minlength=L)
    first = np.cumsum(count) - count
    some = np.flatnonzero(count)
    pick = first[some, None] + (random.random((len(some), _FIRST_EDGES)) * count[some, None]).astype(np.int64)
    return np.repeat(some, _FIRST_EDGES), column[pick.ravel()]


def _result(
    graph: Bools,
    weights: tuple[Floats, Floats],
    quality: tuple[Floats, Floats],
    through: tuple[Floats, Floats],
    zero_one: float,
) -> OptimalLoss:
    """Put the result together with its certificate; `through` are the edge multipliers summed at every vertex."""
    loss = _cross_entropy(*weights, *quality)
    return OptimalLoss(
        cross_entropy=loss,
        zero_one=zero_one,
        left=quality[0],
        right=quality[1],
        gap=loss - _lower_bound(*weights, *through),
        violation=_violation(graph, *quality),
    )


def _cross_entropy(left_weight: Floats, right_weight: Floats, left: Floats, right: Floats) -> float:
    total = left_weight.sum() + right_weight.sum()
    with np.errstate(divide="ignore"):
        loss = -(left_weight @ np.log(left) + right_weight @ np.log(right)) / total
    return float(loss) + 0.0  # no -0.0


def _lower_bound(left_weight: Floats, right_weight: Floats, left_through: Floats, right_through: Floats) -> float:
    """The Lagrange dual: a lower bound on the loss from any edge multipliers x >= 0, summed up at every vertex.

    With s_v >= 0 for q_v <= 1 and y_v = s_v + Σ x around v, the Lagrangian Σ p_v log 1/q_v + Σ_e x_e (q_u + q_v - 1)
    + Σ s_v (q_v - 1) is least at q_v = p_v / y_v; the best s_v lifts y_v to p_v.
    """
    weight = np.concatenate([left_weight, right_weight])
    through = np.concatenate([left_through, right_through])
    y = np.maximum(through, weight)
    bound = (weight * np.log(y / weight) + weight - (y - through)).sum() - left_through.sum()
    return float(bound / weight.sum())


def _violation(graph: Bools, left: Floats, right: Floats) -> float:
    """How far the worst edge exceeds q_u + q_v <= 1: the best neighbour of each left vertex decides."""
    order = np.argsort(-right, kind="stable")
    best = right[order][graph[:, order].argmax(axis=1)]
    return max(0.0, float((left + best - 1).max(initial=0.0, where=graph.any(axis=1))))


def _by_convex_program(graph: Bools, left_weight: Floats, right_weight: Floats) -> OptimalLoss:
    """The same by cvxpy and Clarabel, written as the paper states it: two programs, cross-entropy and 0-1."""
    try:
        cp: Any = import_module("cvxpy")  # slow to import and only needed here
    except ModuleNotFoundError:
        raise StrataError("The method cvxpy needs the package cvxpy; flow, the default, needs none.") from None

    L, R = graph.shape
    u, v = np.nonzero(graph)
    left, right = cp.Variable(L), cp.Variable(R)
    limits = [left <= 1, right <= 1]  # the logarithms keep q above 0
    edges = [left[u] + right[v] <= 1] if len(u) else []
    gain = left_weight @ cp.log(left) + right_weight @ cp.log(right)
    _solve(cp, cp.Problem(cp.Maximize(gain), limits + edges))
    quality = np.clip(left.value, 0, 1), np.clip(right.value, 0, 1)
    multiplier = np.maximum(edges[0].dual_value, 0) if edges else np.empty(0)
    through = (
        np.bincount(u, multiplier, minlength=L).astype(np.float64),
        np.bincount(v, multiplier, minlength=R).astype(np.float64),
    )
    kept = left_weight @ left + right_weight @ right
    best = _solve(cp, cp.Problem(cp.Maximize(kept), [left >= 0, right >= 0, *limits, *edges]))
    zero_one = 1 - best / float(left_weight.sum() + right_weight.sum())
    return _result(graph, (left_weight, right_weight), quality, through, zero_one)


def _solve(cp: Any, problem: Any) -> float:
    try:
        return float(problem.solve(solver=cp.CLARABEL))
    except cp.error.SolverError as error:
        raise RuntimeError("Clarabel found no solution of this conflict graph; use the method flow.") from error
