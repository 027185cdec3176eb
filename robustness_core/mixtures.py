"""Random mixtures, without torch: the matrix A of section 4 of the paper, and the images themselves seen through it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from robustness_core.errors import StrataError
from robustness_core.optimal_loss.conflict_graph import Floats, input_distances


def gaussian(features: int, m: int, seed: int) -> npt.NDArray[np.float32]:
    """A, (m, features) float32, i.i.d. standard Gaussian from numpy's PCG64 with `seed`, the same on every machine.

    The rows are drawn one after another, so A for a smaller m is the top of A for a larger m.
    """
    if not 1 <= m <= features:
        raise StrataError(f"m = {m} is not possible with {features} features; choose m from 1 to {features}.")
    return np.random.default_rng(seed).standard_normal((m, features)).astype(np.float32)


def seen_distances(left: npt.NDArray[Any], right: npt.NDArray[Any], m: int | None, seed: int) -> Floats:
    """Distances of the images themselves seen through m random mixtures of their pixels, the input of every projection.

    The closed form of METHOD.md section 2 for f = identity: ½‖V Vᵀ(x − x′)‖, V an orthonormal basis of the rows of A,
    with the A that a layer of as many features gets from this seed. Where m >= n0, or m is None, that is half of
    ‖x − x′‖.

    left: (L, ...), right: (R, ...), of one image shape, floats in [0, 1]. Returns (L, R) float64.
    """
    n0 = int(np.prod(left.shape[1:]))
    if m is None or m >= n0:
        return input_distances(left, right)
    basis = np.linalg.qr(gaussian(n0, m, seed).T.astype(np.float64))[0]  # (n0, m)
    one, other = (images.reshape(len(images), n0).astype(np.float64) @ basis for images in (left, right))
    return input_distances(one, other)
