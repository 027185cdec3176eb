"""How sure a number is: ε½, Student intervals over projections, and jackknife intervals over the images.

Two things are drawn at random in an audit: the images and, where there are any, the projections. Projections are
independent, so Student's interval of their mean holds (`student`), for one sample of images. What other images would
give is estimated by leaving out one image after another, or of many images a part of them (Quenouille and Tukey's
jackknife): its variance is too large rather than too small (Efron & Stein 1981), nothing is drawn for it, and it needs
one optimal loss a part, where the bootstrap needs hundreds and repeats images, which no sample does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from robustness_core.found import Set
from robustness_core.optimal_loss import curve_of, optimal_loss
from robustness_core.optimal_loss.conflict_graph import Bools, Floats, check_distances, conflict_graph

HALF = math.log(2) / 2  # nats; half of what the loss of two classes can reach
LEAST_TO_NAME = 5  # projections below which no change between layers is named: Student's interval is too wide
GROUPS = 25  # a class; so many parts of the images are left out, one after another
TOGETHER = 400  # images of the graphs that are solved at once
_ROUNDING = 1e-12  # of a loss that reaches a level exactly


@dataclass(frozen=True)
class Interval:
    """`value` with its interval from `low` to `high`, NaN where there is none; `count` values are behind it."""

    value: float
    low: float
    high: float
    count: int

    @property
    def known(self) -> bool:
        """Whether there is an interval."""
        return not (math.isnan(self.low) or math.isnan(self.high))

    @property
    def decided(self) -> bool:
        """Whether the interval leaves out 0, so that the sign of a difference is known."""
        return self.known and (self.low > 0 or self.high < 0)


def student(values: npt.ArrayLike, *, confidence: float = 0.95, comparisons: int = 1) -> Interval:
    """Mean of independent values with Student's interval; none for one value, or where some value is infinite.

    values: (N,), N >= 1, for example one of each projection, of the same images. comparisons: intervals that shall all
    hold together with `confidence` (Bonferroni), for whoever looks for the largest of them.
    """
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or numbers.size == 0 or np.isnan(numbers).any():
        raise ValueError("An interval needs a list of one or more numbers.")
    N, mean = len(numbers), float(numbers.mean())
    if N < 2 or not math.isfinite(mean):
        return Interval(mean, math.nan, math.nan, N)
    half = float(half_width(numbers, confidence=confidence, comparisons=comparisons))
    return Interval(mean, mean - half, mean + half, N)


def half_width(values: npt.ArrayLike, *, confidence: float = 0.95, comparisons: int = 1) -> Floats:
    """How far Student's interval of the mean over the first axis reaches to each side: (N, ...) -> (...), N >= 2."""
    numbers = np.asarray(values, dtype=np.float64)
    N = len(numbers)
    return np.asarray(quantile(N - 1, confidence, comparisons) * numbers.std(axis=0, ddof=1) / math.sqrt(N))


def paired(before: npt.ArrayLike, after: npt.ArrayLike, *, confidence: float = 0.95, comparisons: int = 1) -> Interval:
    """Mean change from `before` to `after`, (N,) each, with Student's interval; entry i of both has the same seed.

    A list of one number, which is the same whatever the seed, is paired with every number of the other.
    """
    one, other = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    if one.ndim == other.ndim == 1 and 1 in (len(one), len(other)):
        one, other = np.broadcast_arrays(one, other)
    if one.shape != other.shape:
        raise ValueError(f"Pairs need two lists of one length, not {one.shape} and {other.shape}.")
    if not (np.isfinite(one).all() and np.isfinite(other).all()):  # inf - inf is no change
        return Interval(math.nan, math.nan, math.nan, len(one))
    return student(other - one, confidence=confidence, comparisons=comparisons)


def half_budget(distances: npt.ArrayLike, sets: Mapping[Set, float] | None = None, *, level: float = HALF) -> float:
    """ε½, the least budget at which the optimal cross-entropy reaches ½ log 2; inf if it never does.

    The loss is a step function of ε that steps only at distances, so this is one of them, found by bisection. Distances
    of found collisions are upper bounds on the true ones and an unsearched pair (NaN) makes no edge: ε½ is then an
    upper bound on the true ε½, exact where the distances are.

    distances: (L, R), 0 or more or NaN. sets: of sets of three and more images, as `curve_of` takes them. level: nats,
    the loss to reach; 0 or less is reached at 0. Cost: log2(number of distances) optimal losses.
    """
    return _Steps(distances, sets).reach(level)


def half_budget_over_images(distances: npt.ArrayLike, *, confidence: float = 0.95) -> Interval:
    """ε½ with its interval over the images: where samples of as many other images have theirs on average.

    The ends are the budgets at which the loss reaches ½ log 2 minus and plus its own half-width over the images, the
    usual interval of a quantile (Woodruff 1952). `high` is inf where the loss never gets that far; there is no interval
    where ε½ itself is inf. Cost: that of `without_one` and of three bisections.
    """
    steps = _Steps(distances)
    value = steps.reach(HALF)
    if not math.isfinite(value):
        return Interval(value, math.nan, math.nan, min(steps.matrix.shape))
    around = over_images(without_one(steps.matrix, value), confidence=confidence)
    half = around.high - around.value
    if math.isnan(half):
        return Interval(value, math.nan, math.nan, around.count)
    return Interval(value, steps.reach(HALF - half), steps.reach(HALF + half), around.count)


@dataclass(frozen=True, eq=False)
class LeftOut:
    """A statistic of a sample, `value`, and what it is without each part of its left and right images, (G,) each.

    A part is one image; of more than GROUPS images a class a GROUPS-th of them. Those of one sample can be
    subtracted: the statistic is then the difference, image by image.
    """

    value: float
    left: Floats
    right: Floats

    def __sub__(self, other: LeftOut) -> LeftOut:
        return LeftOut(self.value - other.value, self.left - other.left, self.right - other.right)


def without_one(distances: npt.ArrayLike, epsilon: float, *, zero_one: bool = False) -> LeftOut:
    """The optimal cross-entropy (nats), or the optimal `zero_one` loss, at a budget, and without each of the images.

    Cost: at most 1 + 2 GROUPS optimal losses.
    """
    graph = conflict_graph(distances, epsilon)

    def without(axis: int) -> Floats:
        if graph.shape[axis] == 1:
            return np.full(1, np.nan)
        return _losses([np.delete(graph, part, axis) for part in _parts(graph.shape[axis])], zero_one)

    return LeftOut(_loss(graph, zero_one), without(0), without(1))


def half_budget_without_one(distances: npt.ArrayLike) -> LeftOut:
    """ε½, and what it is to first order without each part of the images.

    Like a median ε½ steps from one distance to another when an image is left out, and a jackknife of such steps says
    nothing (Efron 1979). The loss at ε½ moves smoothly: its changes are divided by the slope of the curve, between the
    budgets where it is its own half-width over the images below and above ½ log 2 (Woodruff 1952). All are inf where
    ε½ is. Cost: that of `half_budget_over_images`.
    """
    steps = _Steps(distances)
    value = steps.reach(HALF)
    if not math.isfinite(value):
        return LeftOut(value, *(np.full(min(n, GROUPS), math.inf) for n in steps.matrix.shape))
    loss = without_one(steps.matrix, value)
    around = over_images(loss)
    away = float(np.clip(np.nan_to_num(around.high - around.value), HALF / 8, HALF / 2))
    budgets_a_nat = (steps.reach(HALF + away) - steps.reach(HALF - away)) / (2 * away)
    return LeftOut(value, *(value - (side - loss.value) * budgets_a_nat for side in (loss.left, loss.right)))


def mean_distance_without_one(distances: npt.ArrayLike) -> LeftOut:
    """The mean distance of all pairs, and without each part of the images: (L, R), every pair known."""
    matrix = check_distances(distances)

    def without(means: Floats) -> Floats:  # of each image
        if len(means) == 1:
            return np.full(1, np.nan)
        return np.array([(means.sum() - means[part].sum()) / (len(means) - len(part)) for part in _parts(len(means))])

    return LeftOut(float(matrix.mean()), without(matrix.mean(axis=1)), without(matrix.mean(axis=0)))


def mean_without_one(left: npt.ArrayLike, right: npt.ArrayLike) -> LeftOut:
    """The mean over all images, and without each of them: left (L,), right (R,), for example 1 where one is wrong."""
    one, other = np.asarray(left, dtype=np.float64), np.asarray(right, dtype=np.float64)

    def without(side: Floats, rest: Floats) -> Floats:
        return np.array([np.concatenate([np.delete(side, part), rest]).mean() for part in _parts(len(side))])

    return LeftOut(float(np.concatenate([one, other]).mean()), without(one, other), without(other, one))


def _parts(images: int) -> list[npt.NDArray[np.intp]]:
    """The places of the images that are left out together; a sample is in random order."""
    return np.array_split(np.arange(images), min(images, GROUPS))


def over_images(sample: LeftOut, *, confidence: float = 0.95, comparisons: int = 1) -> Interval:
    """The jackknife interval of a statistic over the images; the two classes are drawn apart.

    Of a sample with one image in a class there is none. Where no image matters, as before the first edge and after the
    loss has reached log 2, it has no width, and says nothing of other samples. comparisons: as in `student`.
    """
    count = min(len(sample.left), len(sample.right))
    if count < 2:
        return Interval(sample.value, math.nan, math.nan, count)
    variance = sum(
        (len(side) - 1) / len(side) * float(((side - side.mean()) ** 2).sum()) for side in (sample.left, sample.right)
    )
    half = quantile(count - 1, confidence, comparisons) * math.sqrt(variance)
    return Interval(sample.value, sample.value - half, sample.value + half, count)


def _loss(graph: Bools, zero_one: bool) -> float:
    solved = optimal_loss(graph)
    return solved.zero_one if zero_one else solved.cross_entropy


def _losses(graphs: Sequence[Bools], zero_one: bool) -> Floats:
    """The loss of each of some graphs, TOGETHER images at once: a graph that falls apart is solved part by part.

    Small ones have a quarter of the cost so.
    """
    at_once = max(1, TOGETHER // sum(graphs[0].shape))
    return np.concatenate(
        [_losses_at_once(graphs[first : first + at_once], zero_one) for first in range(0, len(graphs), at_once)]
    )


def _losses_at_once(graphs: Sequence[Bools], zero_one: bool) -> Floats:
    rows, columns = (np.cumsum([0, *(graph.shape[axis] for graph in graphs)]) for axis in (0, 1))
    whole = np.zeros((rows[-1], columns[-1]), dtype=np.bool_)
    places = [(slice(rows[i], rows[i + 1]), slice(columns[i], columns[i + 1])) for i in range(len(graphs))]
    for place, graph in zip(places, graphs, strict=True):
        whole[place] = graph
    solved = optimal_loss(whole)
    if zero_one:  # rounding q at ½ minimises it
        left, right = (solved.left <= 0.5).astype(np.float64), (solved.right < 0.5).astype(np.float64)
    else:
        left, right = -np.log(solved.left), -np.log(solved.right)
    return np.array([np.concatenate([left[one], right[other]]).mean() for one, other in places])


class _Steps:
    """The losses of one matrix at its distances, in order, each computed when it is asked for."""

    def __init__(self, distances: npt.ArrayLike, sets: Mapping[Set, float] | None = None) -> None:
        self.matrix = check_distances(distances)
        self.sets = sets or {}
        self.budgets = np.unique([*self.matrix[np.isfinite(self.matrix)], *self.sets.values()])
        self._losses: dict[int, float] = {}

    def reach(self, level: float) -> float:
        """The least distance at which the loss is `level` or more; inf if there is none."""
        if level <= 0:
            return 0.0
        low, high = 0, len(self.budgets)  # the answer is at one of these places, or nowhere
        while low < high:
            middle = (low + high) // 2
            if self._loss(middle) >= level - _ROUNDING:
                high = middle
            else:
                low = middle + 1
        return float(self.budgets[low]) if low < len(self.budgets) else math.inf

    def _loss(self, place: int) -> float:
        if place not in self._losses:
            self._losses[place] = float(curve_of(self.matrix, self.sets, self.budgets[place : place + 1])[0])
        return self._losses[place]


def quantile(freedom: float, confidence: float, comparisons: int) -> float:
    """How many standard errors the interval reaches to each side."""
    return float(stdtrit(freedom, 1 - (1 - confidence) / (2 * comparisons)))
