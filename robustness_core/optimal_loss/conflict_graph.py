"""Conflict graphs: which pairs of images of two classes collide within a budget, and input-space distances."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def check_distances(distances: npt.ArrayLike) -> Floats:
    """Return distances as an (L, R) float64 matrix; ValueError unless it is one, not empty, with no negative entry."""
    matrix = np.asarray(distances, dtype=np.float64)
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise ValueError(
            f"Distances must be a matrix with at least one row and one column, not of shape {matrix.shape}."
        )
    if (matrix < 0).any():
        raise ValueError("Distances must be 0 or more, or NaN where they are unknown.")
    return matrix


def conflict_graph(distances: npt.ArrayLike, epsilon: float) -> Bools:
    """The bipartite conflict graph of one budget: an edge where the distance is at most epsilon.

    Paper, section 3.1 and 3.2; the distance of a pair already is half of the separation, so no factor 2 appears.

    distances: (L, R), 0 or more; NaN is an unknown distance and makes no edge. epsilon: 0 or more, in the unit of
    the distances. Returns (L, R) bool. Raises ValueError for negative distances or a budget that is NaN or negative.
    """
    if not epsilon >= 0:
        raise ValueError(f"The budget ε is {epsilon}; it must be 0 or more.")
    return check_distances(distances) <= epsilon  # a comparison with NaN is False


def input_distances(left: npt.NDArray[Any], right: npt.NDArray[Any], order: float = 2.0) -> Floats:
    """Half the distance of every pair of images: d for f = identity without a projection.

    METHOD.md section 2, and section 6 for another norm, whose p is `order`: both images move to the midpoint.
    left: (L, ...), right: (R, ...), of one image shape; uint8 pixels count as 0 ... 255 and are divided by 255, floats
    are taken as they are. Returns (L, R) float64, exact to rounding also for images that are nearly equal. Raises
    ValueError for images of different shapes and for other integer types.
    """
    if left.shape[1:] != right.shape[1:] or left.ndim < 2:
        raise ValueError(
            f"The images of the two classes must have one shape, not {left.shape[1:]} and {right.shape[1:]}."
        )
    if order == 2 and left.dtype == right.dtype == np.uint8:
        return _pixel_distances(left, right) / (2 * 255)
    x, y = (_flat_pixels(images) for images in (left, right))
    distance = np.empty((len(x), len(y)))
    for row, image in enumerate(x):  # differences, not the Gram matrix: no cancellation for near duplicates
        difference = y - image
        if order == 2:
            distance[row] = np.sqrt(np.einsum("ij,ij->i", difference, difference))
        else:
            distance[row] = np.linalg.norm(difference, ord=order, axis=1)
    return distance / 2


def _pixel_distances(left: npt.NDArray[np.uint8], right: npt.NDArray[np.uint8]) -> Floats:
    """Euclidean distances of images whose pixels count as 0 ... 255, by the Gram matrix: quick.

    Every number up to the root is whole and below 2^53, so none is rounded and nothing cancels.
    """
    x, y = (images.reshape(len(images), -1).astype(np.float64) for images in (left, right))
    distances: Floats = np.sqrt((x**2).sum(1)[:, None] + (y**2).sum(1) - 2 * x @ y.T)
    return distances


def _flat_pixels(images: npt.NDArray[Any]) -> Floats:
    flat = images.reshape(len(images), -1)
    if flat.dtype == np.uint8:
        return flat / 255.0
    if not np.issubdtype(flat.dtype, np.floating):
        raise ValueError(f"Pixels must be uint8 or floating point numbers, not {flat.dtype}.")
    return flat.astype(np.float64)
