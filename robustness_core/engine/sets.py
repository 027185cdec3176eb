"""Which sets of three and more images are searched next: those that the solution of what is known exceeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from robustness_core.found import Floats, Set
from robustness_core.optimal_loss import loss_curve
from robustness_core.optimal_loss.sets import least_ball, loss_with_sets, set_curves

LEVELS = (0.15, 0.3, 0.45, 0.6, 0.75, 0.9, 0.97)  # of log 2, the most that pairs can tell: there sets are looked for
BEYOND = (1.0, 1.15)  # of the budget at which the loss of pairs has all but reached it, and there
FULL = 0.995
MARGIN = 0.995  # of a budget: sets of no larger radius are expected to collide there (METHOD.md section 7)
EXCEEDED = 0.02  # by which q must sum up to more than 1, for a set to be worth a search
MOST_ROUNDS = 20  # of one budget
DRAWN = 49  # budgets at which the curve with sets is kept: solving it anew takes seconds


class SetPlan:
    """Sets are tuples of places in the sample, ascending, of distinct classes.

    `graph` (n, n): known distances of pairs, symmetric, NaN elsewhere; `guessed` (n, n): the same with guesses in place
    of NaN, for pairs of different classes. `classes` (n,): of each image. `found`: what is known of sets. `largest`:
    so many images a set at most.

    Budget by budget: solve, and search sets whose q sum up to more than 1 although they are expected to collide, since
    the radius of the least ball that their pairs span is no larger; until none is left. A set that turns out to collide
    at a larger budget only counts from there on.
    """

    def __init__(
        self, graph: Floats, guessed: Floats, classes: NDArray[np.intp], found: Mapping[Set, float], largest: int
    ):
        self.found = dict(found)
        self._graph = graph
        self._guessed = guessed
        self._classes = classes
        self._largest = largest
        self._budgets = self._levels()
        self.until = max(self._budgets, default=0.0)  # the largest budget at which sets are looked for
        self._rounds = 0
        self._out: set[Set] = set()
        self._next = self._round()

    @property
    def finished(self) -> bool:
        return not self._next and not self._out

    def take(self) -> list[Set]:
        """The sets to search next, no image in two of them; none once finished, or while answers are waited for."""
        chosen, self._next = self._next, []
        self._out |= set(chosen)
        return chosen

    def curves(self) -> tuple[Floats, Floats, Floats]:
        """Budgets up to the last at which sets were looked for, and the cross-entropy and 0-1 loss there, with them."""
        known = self._graph[~np.isnan(self._graph)]
        budgets = np.linspace(known.min(), self.until, DRAWN) if len(known) and self.until else np.zeros(0)
        return budgets, *set_curves(self._graph, self.found, budgets)

    def _round(self) -> list[Set]:
        """The sets of the next round, at the first budget that is not done with; none once all are."""
        while self._budgets:
            chosen = list(self._worth(self._budgets[0])) if self._rounds < MOST_ROUNDS else []
            if chosen:
                self._rounds += 1
                return chosen
            self._budgets = self._budgets[1:]
            self._rounds = 0
        return []

    def done(self, sets: Sequence[Set], distance: Floats) -> None:
        """What was found of sets; those of which nothing was found are NaN."""
        self.found |= dict(zip(sets, np.where(np.isnan(distance), np.inf, distance).tolist(), strict=True))
        self._out -= set(sets)
        if not self._out:
            self._next = self._round()

    def _levels(self) -> list[float]:
        """The budgets at which sets are looked for, ascending."""
        known = self._graph[~np.isnan(self._graph)]
        if not len(known) or self._largest < 3:
            return []
        budgets = np.linspace(known.min(), known.max(), 256)
        loss = loss_curve(self._graph, budgets) / np.log(2)
        reached = [float(budgets[np.argmax(loss >= level)]) for level in LEVELS if loss[-1] >= level]
        full = [float(budgets[np.argmax(loss >= FULL)]) * times for times in BEYOND if loss[-1] >= FULL]
        return sorted({*reached, *full})

    def _worth(self, epsilon: float) -> Iterator[Set]:
        quality = loss_with_sets(
            self._graph <= epsilon, [one for one, distance in self.found.items() if distance <= epsilon]
        ).quality
        near = self._guessed <= epsilon
        free = quality > 1e-3
        for seed in np.argsort(-quality, kind="stable"):
            if not free[seed]:
                continue
            chosen = self._grown(int(seed), near, free, epsilon)
            if len(chosen) >= 3 and quality[list(chosen)].sum() > 1 + EXCEEDED:
                free[list(chosen)] = False
                yield chosen

    def _grown(self, seed: int, near: NDArray[np.bool_], free: NDArray[np.bool_], epsilon: float) -> Set:
        """A set around an image: the nearest one after another, as long as it is expected to collide."""
        chosen, farthest = [seed], self._guessed[seed]
        open_ = near[seed] & free & (self._classes != self._classes[seed])
        while len(chosen) < self._largest and open_.any():
            nearest = int(np.where(open_, farthest, np.inf).argmin())
            if len(chosen) > 1:
                within = [*chosen, nearest]
                radius, _ = least_ball(np.nan_to_num(self._guessed[np.ix_(within, within)]))
                if radius > MARGIN * epsilon:
                    break
            chosen.append(nearest)
            farthest = np.maximum(farthest, self._guessed[nearest])
            open_ &= near[nearest] & (self._classes != self._classes[nearest])
        while len(chosen) >= 3 and tuple(sorted(chosen)) in self.found:
            chosen.pop()  # it was searched already, and needs a larger budget than expected
        return tuple(sorted(chosen))
