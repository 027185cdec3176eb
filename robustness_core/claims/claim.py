"""A claim of the paper as a row: what is said, the number that decides it, and what would refute it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from robustness_core.claims.evidence import Audit, Evidence
from robustness_core.claims.resampling import Estimate
from robustness_core.optimal_loss.statistics import Interval

Word = Literal["holds", "does not hold", "undecided"]


@dataclass(frozen=True)
class Part:
    """What one network, or one step between layers, says of a claim.

    `estimate`: the claim's statistic, None where the data are not shipped. `audits` and `cards` (names of networks) are
    what it is made of, `commands` the command lines of what is no audit. `wanted`: command lines that compute what is
    lacking, or a better answer.
    """

    name: str
    estimate: Estimate | None
    audits: tuple[Audit, ...] = ()
    cards: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    wanted: tuple[str, ...] = ()


@dataclass(frozen=True)
class Claim:
    """One sentence of the paper, in our words.

    `statistic` says the number in words, `region` where it lies if the claim holds, from low to high; `refuted` what
    would refute it. `parts` makes the numbers of the evidence. `needs`: whether all parts must lie in the region or any
    one of them. `screen`: where its data are drawn. `closed_form`: no audit speaks, so that its verdict checks
    mathematics and stands apart from the others.
    """

    name: str
    section: str
    sentence: str
    statistic: str
    refuted: str
    region: tuple[float, float]
    parts: Callable[[Evidence], Sequence[Part]]
    screen: str = "explore"
    needs: Literal["all", "any"] = "all"
    unit: str = ""
    closed_form: bool = False


@dataclass(frozen=True)
class Judged:
    """A part with its interval of 95 % by itself, `interval`, and the wider one that the verdict is read from, `joint`.

    `p`: one minus the confidence at which its interval would just touch the end of the claim's region.
    """

    part: Part
    verdict: Word
    interval: Interval
    joint: Interval
    p: float


@dataclass(frozen=True)
class Verdict:
    """A claim with its verdict; `decisive` is the part that it hangs on, None where there are no data at all.

    `p` of the claim alone, `adjusted` after Holm over all claims; the verdict is decided up to 1 - confidence. `note`:
    what is lacking, in a sentence; empty where nothing is.
    """

    claim: Claim
    verdict: Word
    parts: tuple[Judged, ...]
    decisive: Judged | None
    p: float
    adjusted: float
    comparisons: int
    note: str
