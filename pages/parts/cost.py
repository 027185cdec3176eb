"""How long an audit will take: from what audits took before, else from a rule of thumb."""

from __future__ import annotations

from collections.abc import Sequence

from robustness_core.spec import AuditSpec
from store.records import AuditRecord, NetworkRecord

# Passes (forward or backward, both sides) that a pair costs, and passes a second on two cores for a network with
# 50,000 features in all: 24 pairs at 89 passes took a second (METHOD.md section 4).
_PASSES = {
    ("balanced", "fast"): 75, ("balanced", "default"): 150, ("balanced", "thorough"): 270,
    ("algorithm1", "fast"): 124, ("algorithm1", "default"): 234, ("algorithm1", "thorough"): 564,
}  # fmt: skip
_PASSES_A_SECOND = 2000.0
_USUAL_FEATURES = 50_000
_START_SECONDS = 3.0


def estimate(spec: AuditSpec, network: NetworkRecord, missing: int, past: Sequence[AuditRecord]) -> float:
    """Seconds that `missing` pairs will take; `past` are finished audits, of which the same kind counts."""
    alike = [
        audit
        for audit in past
        if isinstance(audit.spec, AuditSpec)
        and audit.state == "done"
        and audit.started is not None
        and audit.finished is not None
        and audit.done >= 100
        and (audit.spec.network, audit.spec.method, audit.spec.preset) == (spec.network, spec.method, spec.preset)
    ]
    rates = [
        (audit.finished - audit.started).total_seconds() / audit.done
        for audit in alike
        if audit.finished is not None and audit.started is not None
    ]
    if rates:
        # An audit that found most pairs known was quick for another reason: the slowest is the honest one.
        return missing * max(rates)
    size = sum(layer.features for layer in network.layers if layer.main) / _USUAL_FEATURES
    return _START_SECONDS + missing * _PASSES[spec.method, spec.preset] * size / _PASSES_A_SECOND
