"""All claims of the paper that Strata judges."""

from __future__ import annotations

from robustness_core.claims import depth
from robustness_core.claims.claim import Claim

CLAIMS: tuple[Claim, ...] = (*depth.CLAIMS,)
