"""The rule by which a claim holds, does not hold, or is undecided, for all claims together.

A part *holds* if its interval lies in the claim's region, *does not hold* if it lies outside, and is *undecided* else.
A claim that needs all of its parts holds if all hold, and does not if one does not; a claim that needs any holds if one
holds, and does not if none does. Where one of K parts is enough, its interval has confidence 1 - (1 - c) / K
(Bonferroni); where all are needed, c suffices. And c is Holm's for all claims: all verdicts but "undecided" are right
together with the confidence asked for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from robustness_core.claims.claim import Claim, Judged, Part, Verdict, Word
from robustness_core.claims.evidence import Evidence
from robustness_core.claims.holm import holm
from robustness_core.claims.paper import CLAIMS
from robustness_core.optimal_loss.statistics import Interval

NONE = Interval(math.nan, math.nan, math.nan, 0)
CLOSED_FORM = "In closed form: it checks mathematics, which no network could refute, and stands apart from the others."


def judge(evidence: Evidence, claims: Sequence[Claim] = CLAIMS, *, confidence: float = 0.95) -> tuple[Verdict, ...]:
    """The verdict on each claim; the more claims are judged at once, the surer each must be.

    A claim of which no number is known is not judged, and one in closed form is judged by itself.
    """
    parts = [tuple(claim.parts(evidence)) for claim in claims]
    sides = [_sides(claim, of) for claim, of in zip(claims, parts, strict=True)]
    known = [place for place, of in enumerate(parts) if any(part.estimate is not None for part in of)]
    asked = [place for place in known if not claims[place].closed_form]
    adjusted, divisions = holm([min(sides[place]) for place in asked], 1 - confidence)
    many = {place: (min(sides[place]), 1) for place in known}
    many |= dict(zip(asked, zip(adjusted, divisions, strict=True), strict=True))
    unknown = 1.0, max(1, len(asked))
    return tuple(
        _verdict(claim, of, pair, *many.get(place, unknown), confidence)
        for place, (claim, of, pair) in enumerate(zip(claims, parts, sides, strict=True))
    )


def _sides(claim: Claim, parts: Sequence[Part]) -> tuple[float, float]:
    """The p of "holds" and of "does not hold"; that of the other side than the numbers' is 1."""
    inside, outside = [_p(claim, part, True) for part in parts], [_p(claim, part, False) for part in parts]
    if claim.needs == "all":
        return max(inside, default=1.0), min(1.0, len(parts) * min(outside, default=1.0))
    return min(1.0, len(parts) * min(inside, default=1.0)), max(outside, default=1.0)


def _p(claim: Claim, part: Part, inside: bool) -> float:
    low, high = claim.region
    if part.estimate is None or not part.estimate.known:
        return 1.0
    value = part.estimate.value
    if (low <= value <= high) != inside:
        return 1.0
    away = min(value - low, high - value) if inside else max(low - value, value - high)
    return part.estimate.p(away)


def _verdict(
    claim: Claim, parts: Sequence[Part], sides: tuple[float, float], adjusted: float, division: int, confidence: float
) -> Verdict:
    alpha = 1 - confidence
    each = {True: alpha / division, False: alpha / division}  # by side
    each[claim.needs == "any"] /= max(1, len(parts))
    judged = tuple(_judged(claim, part, each, confidence) for part in parts)
    word: Word = "undecided"
    if adjusted <= alpha:
        word = "holds" if sides[0] <= sides[1] else "does not hold"
    note = CLOSED_FORM if claim.closed_form else _note(judged)
    return Verdict(claim, word, judged, _decisive(claim, judged), min(sides), adjusted, division, note)


def _decisive(claim: Claim, judged: Sequence[Judged]) -> Judged | None:
    """The part that a claim hangs on: one that is not shipped where all are needed and all others hold."""
    numbers = [one for one in judged if one.part.estimate is not None and one.part.estimate.known]
    lacking = [one for one in judged if one.part.estimate is None]
    if lacking and numbers and claim.needs == "all" and all(one.verdict == "holds" for one in numbers):
        return lacking[0]
    numbers = numbers or [one for one in judged if one.part.estimate is not None]
    weakest = sorted(numbers, key=lambda one: _support(claim, one), reverse=claim.needs == "any")
    return weakest[0] if weakest else None


def _judged(claim: Claim, part: Part, each: dict[bool, float], confidence: float) -> Judged:
    if part.estimate is None:
        return Judged(part, "undecided", NONE, NONE, 1.0)
    inside = claim.region[0] <= part.estimate.value <= claim.region[1]
    p = _p(claim, part, inside)
    word: Word = "undecided" if p > each[inside] else "holds" if inside else "does not hold"
    return Judged(part, word, part.estimate.interval(confidence), part.estimate.joint(1 - each[inside]), p)


def _support(claim: Claim, one: Judged) -> float:
    """How much a part speaks for the claim: from -1, surely against, to 1, surely for it."""
    assert one.part.estimate is not None
    inside = claim.region[0] <= one.part.estimate.value <= claim.region[1]
    return (1 - one.p) if inside else one.p - 1


def _note(judged: Sequence[Judged]) -> str:
    lacking = [one.part.name for one in judged if one.part.estimate is None]
    unsure = [one.part.name for one in judged if one.part.estimate is not None and not one.part.estimate.known]
    said = []
    if lacking:
        said.append(f"Not shipped: {'; '.join(lacking)}.")
    if unsure:
        said.append(f"Too few projections or images for an interval: {'; '.join(unsure)}.")
    return " ".join(said)
