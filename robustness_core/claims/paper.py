"""All claims of the paper that Strata judges, theme by theme."""

from __future__ import annotations

from robustness_core.claims import depth, method, projection, training
from robustness_core.claims.claim import Claim

CLAIMS: tuple[Claim, ...] = (*depth.CLAIMS, *projection.CLAIMS, *training.CLAIMS, *method.CLAIMS)
