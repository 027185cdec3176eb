"""The claims of the paper, each judged by what comes with Strata: `judge(gather())`. No torch, no store."""

from __future__ import annotations

from robustness_core.claims.claim import Claim, Judged, Part, Verdict
from robustness_core.claims.evidence import Audit, Evidence, gather
from robustness_core.claims.judging import judge
from robustness_core.claims.paper import CLAIMS
from robustness_core.claims.resampling import Estimate
from robustness_core.claims.stored import Stored, stored

__all__ = [
    "CLAIMS",
    "Audit",
    "Claim",
    "Estimate",
    "Evidence",
    "Judged",
    "Part",
    "Stored",
    "Verdict",
    "gather",
    "judge",
    "stored",
]
