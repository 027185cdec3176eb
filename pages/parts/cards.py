"""Which audit the card of each network on Home shows, and in which order the cards stand."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from robustness_core.spec import PAPERS, AuditSpec, SampleSpec, SearchSpec


def natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts names as people read them: net2 before net10, whatever the case."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", name.casefold())]


def asked(spec: AuditSpec) -> tuple[SampleSpec, SearchSpec]:
    """What must be the same for bars to be compared: all but network and layers."""
    return spec.sample, replace(spec.search, layers=("any",))


def chosen(done: Sequence[AuditSpec]) -> dict[str, AuditSpec]:
    """The audit that each network's card shows: of each data set the question that most networks have answered.

    Of several the one with most pairs; a network that has not answered it shows its own largest. So a smaller audit of
    one network does not replace what can be compared.
    """

    def size(spec: AuditSpec) -> tuple[int, int]:
        return spec.sample.size**2 * spec.search.projections, len(spec.search.layers)

    best: dict[tuple[str, tuple[object, ...]], AuditSpec] = {}  # of a network and a question that with most layers
    for spec in done:
        usual = spec.search.threat == PAPERS  # only there is the input known through mixtures
        if usual and len(spec.search.layers) > 1 and len(spec.search.m) == 1 and spec.search.m[0] is not None:
            place = (spec.network, asked(spec))
            best[place] = max(best.get(place, spec), spec, key=size)
    answered = Counter(question for _, question in best)
    found: dict[str, AuditSpec] = {}
    for (network, question_), spec in best.items():
        before = found.get(network)
        if before is None or (answered[question_], size(spec)) > (answered[asked(before)], size(before)):
            found[network] = spec
    return found
