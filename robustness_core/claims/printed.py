"""Verdicts as a table, as JSON with all that they rest on, and the commands that compute that from nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlencode

from robustness_core import __version__
from robustness_core.claims.claim import Claim, Judged, Part, Verdict
from robustness_core.claims.evidence import Evidence, command
from robustness_core.datasets import class_label
from robustness_core.optimal_loss.statistics import Interval
from robustness_core.spec.fields import FIELDS

HEAD = ("claim", "section", "verdict", "number", "95 % interval", "S", "N")
RULE = (
    "Of each claim the part that it hangs on; – where that is not shipped. A verdict is read from a wider interval, of "
    "the confidence at which all of them hold together (Holm)."
)


def table(verdicts: Sequence[Verdict], *, parts: bool = False) -> str:
    """A line a claim; with `parts` also its words and a line a part."""
    rows: list[tuple[str, ...]] = [HEAD]
    for verdict in verdicts:
        rows.append(_row(verdict.claim.name, verdict.claim.section, verdict.verdict, verdict.decisive))
        if parts:
            rows.extend(_row(f"  {one.part.name}", "", one.verdict, one) for one in verdict.parts)
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    words = [RULE]
    for verdict in verdicts if parts else ():
        claim = verdict.claim
        words += [
            f"{claim.sentence} Number: {claim.statistic}. It holds from {_ends(claim)}; refuted by {claim.refuted}."
        ]
        words += [verdict.note] if verdict.note else []
    return "\n".join([*lines, "", *words])


def markdown(verdicts: Sequence[Verdict]) -> str:
    """The table of the README: sentence, section, verdict and number."""
    lines = ["| claim | section | verdict | number | 95 % interval |", "|---|---|---|---|---|"]
    for one in verdicts:
        cells = _row(one.claim.sentence, one.claim.section, one.verdict, one.decisive)[:5]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _ends(claim: Claim) -> str:
    low, high = claim.region
    return f"{low:g} to {high:g}"


def _row(name: str, section: str, word: str, one: Judged | None) -> tuple[str, ...]:
    if one is None or one.part.estimate is None:
        return (name, section, word, "–", "–", "–", "–")
    made = one.part.estimate
    low, high = (_number(end) for end in (one.interval.low, one.interval.high))
    interval = f"{low} to {high}" if one.interval.known else "–"
    behind = (made.units, "–") if made.units else (str(made.images), str(made.projections or "–"))
    return (name, section, word, _number(made.value), interval, *behind)


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def address(claim: Claim, part: Part) -> str:
    """The address of the screen that draws a part's data, with the settings in place; without a leading slash."""
    if not part.audits:
        return "networks" if claim.screen == "networks" or not part.cards else f"{claim.screen}?network={part.cards[0]}"
    spec = part.audits[0].spec
    query: list[tuple[str, object]] = [("network", spec.network)]
    if claim.screen == "compare":
        query = [("networks", one) for one in dict.fromkeys(audit.network for audit in part.audits)]
    elif claim.screen == "scaling":
        query += [("one", spec.search.layers[0]), *(("ms", "none" if m is None else m) for m in spec.search.m)]
    for name, field in FIELDS.items():
        if name not in ("layers", "epsilon") and not (name == "m" and claim.screen == "scaling"):
            words: Sequence[object] = field.words(spec)
            if name == "classes":
                words = [class_label(spec.sample.dataset, one) for one in spec.sample.classes]
            query += zip(field.keys, words, strict=False)
    if spec.search.m == (None,):
        query = [*((key, value) for key, value in query if key != "m"), ("full", "true")]
    return f"{claim.screen}?{urlencode(query)}"


def commands(verdicts: Sequence[Verdict]) -> str:
    """Of each claim the command lines of its audits and cards, and of what is lacking."""
    return "\n\n".join("\n".join([f"# {one.claim.name}: {one.claim.sentence}", *_lines(one)]) for one in verdicts)


def _lines(verdict: Verdict) -> Iterator[str]:
    seen = set()
    for part in (judged.part for judged in verdict.parts):
        shipped = [command(audit.spec) for audit in part.audits]
        for line in (*shipped, *part.commands, *(f"{line}  # lacking" for line in part.wanted)):
            if line not in seen:
                seen.add(line)
                yield line


def to_json(verdicts: Sequence[Verdict], evidence: Evidence) -> dict[str, Any]:
    """All claims with everything they rest on, for other programs."""
    return {
        "strata": __version__,
        "files": dict(evidence.files),
        "rule": RULE,
        "claims": [
            {
                "name": one.claim.name,
                "section": one.claim.section,
                "sentence": one.claim.sentence,
                "statistic": one.claim.statistic,
                "unit": one.claim.unit,
                "holds_from": _finite(one.claim.region[0]),
                "holds_to": _finite(one.claim.region[1]),
                "refuted_by": one.claim.refuted,
                "needs": one.claim.needs,
                "closed_form": one.claim.closed_form,
                "verdict": one.verdict,
                "p": one.p,
                "p_adjusted": one.adjusted,
                "comparisons": one.comparisons,
                "note": one.note,
                "decisive": None if one.decisive is None else one.decisive.part.name,
                "parts": [_part(one.claim, judged) for judged in one.parts],
            }
            for one in verdicts
        ],
    }


def _part(claim: Claim, one: Judged) -> dict[str, Any]:
    made = one.part.estimate
    return {
        "name": one.part.name,
        "verdict": one.verdict,
        "estimate": None if made is None else _finite(made.value),
        "interval": _interval(one.interval),
        "joint_interval": _interval(one.joint),
        "p": one.p,
        "samples": None if made is None or made.units else made.images,
        "units": "" if made is None else made.units,
        "projections": None if made is None else made.projections,
        "address": address(claim, one.part),
        "audits": [
            {
                "file": audit.file,
                "network": audit.network,
                "network_sha256": audit.shipped.network,
                "question": audit.spec.to_json(),
                "methods": sorted({f"{s.method} {s.preset} version {s.method_version}" for s in audit.shipped.series}),
                "device": audit.shipped.device,
                "versions": dict(audit.shipped.versions),
                "finished": audit.shipped.finished,
                "command": command(audit.spec),
            }
            for audit in one.part.audits
        ],
        "cards": list(one.part.cards),
        "commands": list(one.part.commands),
        "lacking": list(one.part.wanted),
    }


def _interval(one: Interval) -> list[float | None]:
    return [_finite(one.low), _finite(one.high)]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
