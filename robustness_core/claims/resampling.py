"""How sure a number is that was made of several layers and networks, when both images and projections were drawn.

**Units.** What was drawn independently is the unit: the images of each class, and the projections. Pairs are none,
since all pairs of an image share it. Every number of an audit hangs on its images (S of each class) and its projections
(N), crossed: each projection reads every pair.

**Replicates.** A bootstrap would draw images with repeats, and pairs of doubles collide together, as in no sample. So
units are left out in turn (the delete-a-group jackknife): one projection, one image of a class (of more than 25 a class
a 25th of them), and one of each together. A number made of several layers, networks or m is computed anew for each
replicate, out of layers that lack the same images and the same projection: whatever they share cancels there, as it
does in the number.

**Variance.** With V_A, V_L, V_R the jackknife variances over projections, left and right images, the variance is
V_A + V_L + V_R - V_AL - V_AR, where V_AL is that of the interaction of projections and left images, which V_A and V_L
both hold (as for errors clustered in two ways: Cameron, Gelbach & Miller 2011); of V_L + V_R at least half is kept, for
with few projections V_A may be near 0 by chance. The interaction of left and right images is of order 1/S² and stays
counted twice, on the safe side. The images of different samples are independent: each sample has terms of its own.

**Interval.** N - 1 degrees of freedom for projections, one less than the parts for images. An interval by itself is
Student's with the common degrees of freedom of all terms (Satterthwaite 1946), which holds at 95 %. In the tails that
many claims at once ask for it fails: where three projections make 90 % of the variance, an interval of 99.75 % misses 8
times as often as it says. So p and the intervals of verdicts reach as many standard errors as the mean of Student's
quantiles of the terms, weighted by their variances (Cochran & Cox 1950): they miss 1.3 times as often there, elsewhere
less often than they say, and are too wide at 95 %.

What is estimated is the number at these S and N: what other images and projections would give. `python -m
benchmarks.coverage` measures how often the intervals hold a known truth.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

from robustness_core.found import Floats
from robustness_core.optimal_loss.statistics import Interval, LeftOut, quantile

Side = tuple[object, ...]  # what tells the images of one class and sample from all others


@dataclass(frozen=True, eq=False)
class Measured:
    """A number of one layer for each projection, with what it is without each part of its images.

    `seeds`: of the projections, in the order of `values`; one value and None where no projection is drawn, so that the
    number is the same for all. `left`, `right`: which images were at the rows and columns, `images` of each class.
    """

    values: Sequence[LeftOut]
    seeds: tuple[int, ...] | None
    left: Side
    right: Side
    images: int


@dataclass(frozen=True)
class Estimate:
    """A number with its variance: `terms`, each a variance and its degrees of freedom, NaN where nothing says it.

    `projections` and `images` (of each class) are behind it; no projections where none is drawn. `units` says in words
    what is behind it where that is something else.
    """

    value: float
    terms: tuple[tuple[float, float], ...]
    projections: int
    images: int
    units: str = ""

    @property
    def error(self) -> float:
        """The standard error."""
        return math.sqrt(sum(variance for variance, _ in self.terms))

    @property
    def known(self) -> bool:
        return math.isfinite(self.value) and math.isfinite(self.error)

    def interval(self, confidence: float = 0.95) -> Interval:
        """By itself, at the usual confidences."""
        squares = sum(variance**2 / freedom for variance, freedom in self.terms if variance) if self.known else 0.0
        if not squares:  # no error at all, or that of a normal distribution
            return self.joint(confidence)
        return self._around(self.error * quantile(self.error**4 / squares, confidence, 1))

    def joint(self, confidence: float) -> Interval:
        """One of many that shall all hold together: right in the tails, and wider."""
        return self._around(self._half(1 - confidence) if self.known else math.nan)

    def _around(self, half: float) -> Interval:
        return Interval(self.value, self.value - half, self.value + half, self.images)

    def p(self, away: float) -> float:
        """One minus the confidence of the joint interval that ends `away` from the value, 0 ... 1; 1 if none."""
        if not self.known or away <= 0:
            return 1.0
        if self._half(_LEAST) <= away:
            return 0.0
        return math.exp(float(brentq(lambda log: self._half(math.exp(log)) - away, math.log(_LEAST), 0.0)))

    def _half(self, alpha: float) -> float:
        """How far the joint interval of confidence 1 - alpha reaches to each side."""
        if self.error == 0:
            return 0.0
        return sum(variance * quantile(freedom, 1 - alpha, 1) for variance, freedom in self.terms) / self.error


_LEAST = 1e-12  # of all p: below, rounding decides


def estimate(function: Callable[..., Floats], *measured: Measured) -> Estimate:
    """`function` of the means over projections of each of `measured`, with its standard error.

    The function takes arrays of one shape, one for each, and works element by element. Projections are those that all
    share, by their seeds. Of one projection, or one image in a class, there is no error; of none, no number either.
    """
    drawn = [set(one.seeds) for one in measured if one.seeds is not None]
    seeds = sorted(set.intersection(*drawn)) if drawn else []
    images = min(one.images for one in measured)
    sides = list(dict.fromkeys(side for one in measured for side in (one.left, one.right)))
    if drawn and not seeds:
        return Estimate(math.nan, ((math.nan, 0.0),), 0, images)
    widths = [next(len(_of(one, side)) for one in measured if side in (one.left, one.right)) for side in sides]
    with np.errstate(invalid="ignore", divide="ignore"):  # of numbers that are infinite
        replicates = np.asarray(function(*(_replicates(one, seeds, sides, widths) for one in measured)))
        return _judged(replicates, widths, len(seeds), images)


def _judged(table: Floats, widths: Sequence[int], projections: int, images: int) -> Estimate:
    """Of a statistic's replicates (1 + N, 1 + G + ...): first row and column whole, others without one unit each."""
    value, N = float(table[0, 0]), len(table) - 1
    drawn = ((_jackknife(table[1:, 0]), N - 1),) if N else ()
    of_images = []
    twice, start = 0.0, 1
    for G in widths:
        side = slice(start, start + G)
        of_images.append((_jackknife(table[0, side]), G - 1))
        if N > 1 and G > 1:
            both = table[1:, side] - table[1:, :1] - table[:1, side] + value
            twice += (N - 1) * (G - 1) / (N * G) * float((both**2).sum())
        start += G
    of_all = sum(variance for variance, _ in of_images)
    if of_all > 0:
        left = 1 - min(twice, of_all / 2) / of_all
        of_images = [(variance * left, freedom) for variance, freedom in of_images]
    return Estimate(value, (*drawn, *of_images), projections, images)


def _jackknife(replicates: Floats) -> float:
    n = len(replicates)
    return float((n - 1) / n * ((replicates - replicates.mean()) ** 2).sum()) if n > 1 else math.nan


def _replicates(one: Measured, seeds: Sequence[int], sides: Sequence[Side], widths: Sequence[int]) -> Floats:
    """Means over projections, (1 + N, 1 + G + ...): of all images, then without each part of each side.

    Rows: of all projections, then without each. What a side is not of stays as it is without its parts.
    """
    places = [0] * len(seeds) if one.seeds is None else [one.seeds.index(seed) for seed in seeds]
    chosen = [one.values[place] for place in places] or [one.values[0]]
    whole = np.array([[value.value] for value in chosen])
    columns = [whole]
    for side, G in zip(sides, widths, strict=True):
        own = side in (one.left, one.right)
        columns.append(np.stack([_of(one, side, place) for place in places or [0]]) if own else np.repeat(whole, G, 1))
    values = np.concatenate(columns, axis=1)
    N = len(seeds)
    rest = (values.sum(axis=0) - values) / (N - 1) if N > 1 else np.full((N, values.shape[1]), np.nan)
    table: Floats = np.concatenate([values.mean(axis=0, keepdims=True), rest])
    return table


def _of(one: Measured, side: Side, place: int = 0) -> Floats:
    return one.values[place].left if side == one.left else one.values[place].right
