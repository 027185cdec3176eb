"""The threat model of a question: how a perturbation is measured, and whether images must stay valid."""

from __future__ import annotations

import math
from dataclasses import dataclass

from robustness_core.spec.checks import require

NORMS = {"l2": 2.0, "linf": math.inf}  # name -> the p of the norm, as numpy and torch take it

SYMBOLS = {"l2": "ℓ2", "linf": "ℓ∞"}


@dataclass(frozen=True)
class Threat:
    """A perturbation δ counts ‖δ‖ in this `norm`, on pixels in [0, 1]; with `box`, x + δ must stay in [0, 1] as well.

    The default is the paper's (section 2): ℓ2, without the box. Raises SpecError.
    """

    norm: str = "l2"
    box: bool = False

    def __post_init__(self) -> None:
        require(self.norm in NORMS, f"The norm {self.norm!r} is not one of {', '.join(NORMS)}.")

    @property
    def order(self) -> float:
        """The p of the norm."""
        return NORMS[self.norm]

    @property
    def symbol(self) -> str:
        """The norm as captions and axes name it."""
        return SYMBOLS[self.norm]

    @property
    def words(self) -> str:
        """Both in words: ℓ2, and ℓ∞, valid images."""
        return f"{self.symbol}, valid images" if self.box else self.symbol

    def budget(self, epsilon: float) -> str:
        """A budget in pixel units, and in ℓ∞ in steps of 8-bit pixels too: 0.0314 = 8/255."""
        return f"{epsilon:g}" if self.norm == "l2" else f"{epsilon:.4g} = {255 * epsilon:.3g}/255"

    def __str__(self) -> str:
        return f"{self.norm}, images in [0, 1]" if self.box else self.norm
