"""Small two-dimensional extractors on which the ideas can be seen; Learn computes with them what audits compute."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Feature = Callable[[Floats], Floats]  # (..., 2) -> (...)


def linear(degrees: float) -> Feature:
    """A linear feature that looks in the direction `degrees`."""
    direction = _direction(degrees)
    return lambda points: np.asarray(points @ direction)


def _direction(degrees: float) -> Floats:
    angle = np.deg2rad(degrees)
    return np.array([np.cos(angle), np.sin(angle)])


def piecewise_linear(degrees: float) -> Feature:
    """A sum of four ReLUs and a linear part: its level sets are polygons."""
    angle = np.deg2rad(degrees)
    turns = angle + np.array([0.3, 1.4, 2.9, 4.4])
    weights = np.stack([np.cos(turns), np.sin(turns)])
    offsets, outer = np.array([0.2, -0.3, 0.1, -0.4]), np.array([1.0, -1.2, 0.8, 0.9])
    straight = linear(degrees)
    return lambda points: np.maximum(points @ weights + offsets, 0.0) @ outer + 0.5 * straight(points)


def smooth(points: Floats) -> Floats:
    """A curved feature for the picture of Algorithm 1."""
    x, y = points[..., 0], points[..., 1]
    return np.asarray(y + 0.3 * x + 0.3 * x**2 + 0.15 * np.sin(3 * x))


def many_features(weak: int, seed: int) -> Feature:
    """A random linear function of four good (smooth) features and `weak` bad (fast, faint) ones."""
    rng = np.random.default_rng(seed)

    def waves(count: int, frequency: float, height: float) -> tuple[Floats, Floats, Floats]:
        directions = rng.standard_normal((2, count)) * frequency
        return directions, rng.uniform(0, 2 * np.pi, count), rng.standard_normal(count) * height

    good = waves(4, 0.7, 1.0)
    bad = waves(200, 7.0, 0.22)

    def value(points: Floats) -> Floats:
        total = np.sin(points @ good[0] + good[1]) @ good[2]
        return np.asarray(total + np.sin(points @ bad[0][:, :weak] + bad[1][:weak]) @ bad[2][:weak])

    return value


def grid(reach: float = 2.0, count: int = 201) -> tuple[Floats, Floats]:
    """Axis (count,) and points (count, count, 2) of the square from -reach to reach; the first axis is y."""
    axis = np.linspace(-reach, reach, count)
    x, y = np.meshgrid(axis, axis)
    return axis, np.stack([x, y], axis=-1)


@dataclass(frozen=True, eq=False)
class Meeting:
    """Where two points meet: their distance, the level of the feature, and the two colliding points (2,)."""

    distance: float
    level: float
    left: Floats
    right: Floats


def meet_linear(degrees: float, left: Floats, right: Floats) -> Meeting:
    """The closed form for `linear`: both points move half of their difference's part in its direction."""
    direction = _direction(degrees)
    half = float((left - right) @ direction) / 2
    met = left - half * direction
    return Meeting(abs(half), float(met @ direction), met, right + half * direction)


def meet(feature: Feature, left: Floats, right: Floats, levels: int = 400) -> Meeting:
    """The distance of two points by looking at every point of a fine grid, exact up to its spacing (0.013).

    For each level c, each point's nearest place of that level; the best level has the least larger move.
    """
    _, points = grid(2.6, 401)
    values = feature(points).ravel()
    moves = [np.linalg.norm(points - point, axis=-1).ravel() for point in (left, right)]
    edges = np.linspace(values.min(), values.max(), levels + 1)
    level_of = np.clip(np.digitize(values, edges) - 1, 0, levels - 1)
    nearest = []
    for move in moves:
        order = np.lexsort((move, level_of))
        first = order[np.unique(level_of[order], return_index=True)[1]]
        best = np.full(levels, -1)
        best[level_of[first]] = first
        nearest.append(best)
    reached = (nearest[0] >= 0) & (nearest[1] >= 0)
    larger = np.where(reached, np.maximum(moves[0][nearest[0]], moves[1][nearest[1]]), np.inf)
    level = int(larger.argmin())
    flat = points.reshape(-1, 2)
    a, b = int(nearest[0][level]), int(nearest[1][level])
    return Meeting(float(larger[level]), float((edges[level] + edges[level + 1]) / 2), flat[a], flat[b])


def algorithm1(
    feature: Feature, left: Floats, right: Floats, steps: int, alpha: float = 1.0, gamma: float = 0.8
) -> Floats:
    """The iterates of Algorithm 1 from the midpoint on, (steps + 1, 2 points, 2)."""
    originals = np.stack([left, right])
    at = np.repeat(originals.mean(axis=0)[None], 2, axis=0)
    path = [at]
    for step in range(steps):
        pull = 1.0 if step == 0 else alpha * gamma**step
        aim = (1 - pull) * at + pull * originals
        # Algorithm 1, lines 3 and 4: project the aim onto where the linearised features agree.
        jacobian = np.stack([_gradient(feature, at[0]), -_gradient(feature, at[1])])
        mismatch = float(feature(at[0]) - feature(at[1]) + (jacobian * (aim - at)).sum())
        at = aim - jacobian * mismatch / max(float((jacobian**2).sum()), 1e-12)
        path.append(at)
    return np.stack(path)


def _gradient(feature: Feature, point: Floats, step: float = 1e-5) -> Floats:
    moved = point + step * np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    value = feature(moved)
    return np.array([value[0] - value[1], value[2] - value[3]]) / (2 * step)


def two_classes(count: int, seed: int) -> tuple[Floats, Floats]:
    """Two clouds of points that overlap a little, (count, 2) each."""
    rng = np.random.default_rng(seed)
    return rng.normal([-0.7, 0.0], 0.5, (count, 2)), rng.normal([0.7, 0.0], 0.5, (count, 2))
