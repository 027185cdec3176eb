"""The pairs of one series: which are searched next, and whether any is left that could change the curve."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robustness_core.engine.guess import Guess, fit
from robustness_core.found import LOW, Finding, Floats, Gap, mirrored
from robustness_core.optimal_loss import loss_curve, stakes

Places = NDArray[np.intp]
Bools = NDArray[np.bool_]

STAKE = 0.01  # least stake (optimal_loss.stakes) for which a pair is searched
BUDGETS = 64  # at which stakes are looked at, from the nearest pair to the farthest
NEWS = 1 / 100  # of the pairs: so many new distances, and the plan is made anew
FAR = 3.0  # standard deviations above the guess, from which on a pair is searched once more
ENOUGH = 4  # distances an image, before any counts as far
GAP_PAIRS = 20  # whose distances are compared with those of several searches; of small series 1 %
FINAL = 3.0  # standard deviations between a guess and what the distance is not expected to be below


class Plan:
    """A pair is named by its place in the flat matrix (L, R).

    `distance` (L, R): what is known, NaN elsewhere. `apart` (L, R): bounds on the distances from the images alone,
    half their distance, which order the pairs until there are hints. `asked` (L, R): where there is a pair, None for
    everywhere; else rows and columns are the same images, of more than two classes (SampleSpec). `needed`: search only
    what can change the curve, as far as the guess can tell, and those `drawn`; without hints that is every pair.
    """

    def __init__(
        self, distance: Floats, apart: Floats, *, asked: Bools | None = None, drawn: Bools | None = None,
        needed: bool = False,
    ):  # fmt: skip
        self._distance = distance.copy()
        self._apart = apart
        self._asked = np.ones(apart.shape, dtype=bool) if asked is None else asked
        self._several = not self._asked.all()
        self._drawn = np.zeros_like(self._asked) if drawn is None else drawn
        self._needed = needed
        self.pairs = int(self._asked.sum())
        self._hints: Floats | None = None
        self._guess: Guess | None = None
        self._taken = (~np.isnan(distance) | ~self._asked).ravel()  # known, handed out, or no pair
        self._queue = self._ordered(apart)
        self._news = 0  # distances that came since the queue was made
        self._again: list[Places] = []  # pairs that were searched once more
        self._nearer = 0
        self._gap: Gap | None = None

    @property
    def hinted(self) -> bool:
        return self._hints is not None

    def hint(self, hints: Floats) -> None:
        """Take in the `hints` (P, L, R) of the images; see engine.guess."""
        with np.errstate(divide="ignore"):
            of_images = np.log(np.maximum(self._apart, 1e-12))[None]
        self._hints = np.concatenate([hints, of_images])
        self._make()

    def take(self, count: int) -> Places:
        """Up to `count` pairs to search next, those that look closest first; none while answers must be waited for."""
        chosen, self._queue = self._queue[:count], self._queue[count:]
        self._taken[chosen] = True
        return chosen

    def done(self, places: Places, distance: Floats) -> None:
        """Distances of pairs, found for the first time or nearer than before."""
        self._distance.ravel()[places] = distance
        self._news += len(places)
        if self.hinted and self._news and (self._news >= NEWS * self.pairs or len(self._queue) == 0):
            self._make()

    @property
    def known(self) -> NDArray[np.bool_]:
        return ~np.isnan(self._distance)

    @property
    def out(self) -> bool:
        """Whether pairs are handed out whose distances have not come."""
        return len(self._out) > 0

    @property
    def left(self) -> int:
        """How many distances are still wanted, as far as is known."""
        return len(self._open())

    @property
    def finished(self) -> bool:
        """Every pair is known that is wanted."""
        return not self.out and len(self._queue) == 0

    def far(self) -> Places:
        """Known pairs far above what the guess says of them, each named once: another start may find much nearer."""
        known = self.known
        if self._guess is None or known.sum() < ENOUGH * sum(known.shape):
            return np.empty(0, dtype=np.intp)
        far = np.flatnonzero(self._guess.above(self._distance).ravel() > FAR)
        chosen = far[~np.isin(far, self._named)]
        self._again.append(chosen)
        return chosen

    @property
    def _named(self) -> Places:
        return np.concatenate([np.empty(0, dtype=np.intp), *self._again])

    def looked_again(self, places: Places, distance: Floats) -> None:
        """What another search found of pairs that were far; the nearer of both counts."""
        nearer = distance < self._distance.ravel()[places]
        self._nearer += int(nearer.sum())
        self.done(places[nearer], distance[nearer])

    def drawn(self) -> Places:
        """Known pairs, drawn at random, on which the search gap is measured."""
        known = np.flatnonzero(self.known)
        count = min(GAP_PAIRS, round(self.pairs / 100), known.size)
        return np.sort(np.random.default_rng(0).choice(known, count, replace=False))

    def compared(self, places: Places, best: Floats) -> None:
        """What the best of several searches found of the pairs drawn."""
        own = self._distance.ravel()[places]
        ratio = np.where(own > best, own / np.maximum(best, np.finfo(float).tiny), 1.0)
        self._gap = Gap(len(places), float(ratio.mean()), float(np.quantile(ratio, 0.9)))

    @property
    def graph(self) -> Floats:
        """Known distances as the optimal loss takes them."""
        return self._graph(self._distance)

    @property
    def guessed(self) -> Floats:
        """The same with a guess in place of what is not known."""
        nothing = np.full_like(self._apart, np.inf)
        return self._graph(self._filled(nothing if self._guess is None else np.exp(self._guess.mean)))

    def finding(self, *, exact: bool = False) -> Finding:
        """What the curve of this series rests on; `exact`: its distances come from a closed form."""
        known, guess = self.known, self._guess
        budgets, optimistic = (), ()
        if guess is not None and known.sum() < self.pairs:
            filled = self._filled(guess.below(LOW))
            at = np.linspace(np.nanmin(filled), np.nanmax(filled), BUDGETS)
            budgets, optimistic = tuple(at.tolist()), tuple(loss_curve(self._graph(filled), at).tolist())
        return Finding(
            int(known.sum()),
            self.pairs,
            None if guess is None else guess.deviation,
            budgets,
            optimistic,
            len(self._named),
            self._nearer,
            Gap(self.pairs, 1.0, 1.0) if exact else self._gap,
        )

    def final_epsilon(self) -> float | None:
        """Up to this budget no pair that is still wanted adds an edge, as far as the guess can tell.

        None while there is no guess, and when no pair is wanted.
        """
        open_ = self._open()
        if self._guess is None or len(open_) == 0:
            return None
        return float(self._guess.below(FINAL).ravel()[open_].min())

    def _open(self) -> Places:
        """Places that are wanted and not known: in the queue, or handed out."""
        return np.concatenate([self._queue, self._out])

    @property
    def _out(self) -> Places:
        return np.flatnonzero(self._taken & ~self.known.ravel() & self._asked.ravel())

    def _make(self) -> None:
        """Guess anew from what was found, and queue the pairs that are worth it, the nearest first."""
        assert self._hints is not None
        known = self._graph(self._distance)
        self._guess = guess = fit(self._hints, known)
        self._news = 0
        self._queue = self._ordered(guess.mean)
        if not self._needed or len(self._queue) == 0:
            return
        nearest = self._filled(np.exp(guess.mean))
        budgets = np.linspace(np.nanmin(nearest), np.nanmax(nearest), BUDGETS)
        worth = (stakes(known, budgets, guess.chance, asked=self._asked) >= STAKE) | self._drawn
        self._queue = self._queue[worth.ravel()[self._queue]]

    def _filled(self, guessed: Floats) -> Floats:
        """Distances that are known, guesses where they are not, NaN where there is no pair."""
        filled = np.where(self.known, self._distance, np.minimum(guessed, self._apart))
        return np.where(self._asked, filled, np.nan)

    def _graph(self, distance: Floats) -> Floats:
        """As SampleSpec.graph."""
        return mirrored(distance) if self._several else distance

    def _ordered(self, by: Floats) -> Places:
        """Places that were not handed out, the least of `by` first."""
        order = np.argsort(by, axis=None, kind="stable")
        return order[~self._taken[order]]
