"""Many claims at once: Holm's step-down adjustment (Holm 1979), under which all decisions hold together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def holm(p: Sequence[float], alpha: float = 0.05) -> tuple[list[float], list[int]]:
    """Adjusted p-values, and by how many claims each one's alpha is divided.

    The smallest of K is multiplied by K, the next by K - 1, and so on, none below the one before: a claim is decided if
    its adjusted p is at most alpha. After the first that is not decided all others share its division, so that an
    interval of confidence 1 - alpha / division decides exactly where the adjusted p does.
    """
    K = len(p)
    adjusted, divisions = [0.0] * K, [0] * K
    least, division = 0.0, 0
    for rank, place in enumerate(np.argsort(p, kind="stable").tolist()):
        if least <= alpha:
            division = K - rank
        least = max(least, min(1.0, (K - rank) * p[place]))
        adjusted[place], divisions[place] = least, division
    return adjusted, divisions
