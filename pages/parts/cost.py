"""How long an audit will take: from what audits took before, else from a rule of thumb."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from robustness_core.spec import METHODS, AuditSpec
from store.records import AuditRecord, NetworkRecord

# Passes a second on two cores for a network with 50,000 features in all: 24 pairs at 89 passes took a second
# (METHOD.md section 4).
_PASSES_A_SECOND = 2000.0
_SLOWER = 5.0  # a busy machine: four times was measured
_WITHOUT = 40.0  # the same without projection, where some layers need a program for each pair
_SPREAD = 1.5  # either way, of audits of the same kind
_NEEDED = (0.15, 0.6)  # the share of the pairs that curves need, at S = 100 and at S = 30
_NEEDED_OF_ALL = (0.08, 0.5)  # of more than two classes, and sets besides
_USUAL_FEATURES = 50_000
_START_SECONDS = 3.0


@dataclass(frozen=True)
class Estimate:
    """The `least` and the `most` seconds that pairs take; `measured` if audits of the same kind told it."""

    least: float
    most: float
    measured: bool


def estimate(spec: AuditSpec, network: NetworkRecord, missing: int, past: Sequence[AuditRecord]) -> Estimate:
    """How long `missing` pairs take; of `past`, finished audits, the same kind counts."""
    rates = [
        (audit.finished - audit.started).total_seconds() / audit.done
        for audit in past
        if isinstance(audit.spec, AuditSpec)
        and audit.state == "done"
        and audit.started is not None
        and audit.finished is not None
        and audit.done >= 100
        and _kind(audit.spec) == _kind(spec)
    ]
    if rates:
        # An audit that found most pairs known was quick for another reason: the slowest is the honest one.
        return Estimate(missing * max(rates) / _SPREAD, missing * max(rates) * _SPREAD, True)
    size = sum(layer.features for layer in network.layers if layer.main) / _USUAL_FEATURES
    usual = missing * METHODS[spec.search.method].passes[spec.search.preset] * size / _PASSES_A_SECOND
    slower = _WITHOUT if None in spec.search.m else _SLOWER
    several = len(spec.sample.classes) > 2
    fewest, most = (1.0, 1.0) if not spec.needed else _NEEDED_OF_ALL if several else _NEEDED
    return Estimate(_START_SECONDS + fewest * usual, _START_SECONDS + slower * most * usual, False)


def _kind(spec: AuditSpec) -> tuple[object, ...]:
    return (
        spec.network,
        spec.search.method,
        spec.search.preset,
        None in spec.search.m,
        spec.needed,
        len(spec.sample.classes) > 2,
    )
