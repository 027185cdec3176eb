"""What one series says of another: a collision at more rows, or at an earlier layer, is a collision at this one too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from robustness_core.found import Floats, Found
from robustness_core.spec import SeriesSpec


def implies(one: SeriesSpec, other: SeriesSpec, features: Mapping[str, int]) -> bool:
    """Whether a collision of `one` is a collision of `other`; `features`: layer -> nj, from input to output.

    At one layer and seed, A for a smaller m is the top of A for a larger one. Without projection, and with m = nj,
    where A is invertible, nothing of a layer's features is left out, so that all that follows agrees as well: every
    projection of them and every later layer (METHOD.md section 2). Only series of one network and one way of searching
    say something of each other.
    """
    ways = [(s.network, s.method, s.preset, s.method_version, s.threat) for s in (one, other)]
    if ways[0] != ways[1]:
        return False
    if one.m in (None, features[one.layer]):
        layers = list(features)
        return layers.index(one.layer) <= layers.index(other.layer)
    return one.layer == other.layer and one.seed == other.seed and other.m is not None and one.m >= other.m


def nearest(series: Sequence[SeriesSpec], stack: Floats, features: Mapping[str, int]) -> list[npt.NDArray[np.intp]]:
    """For each series, the place in `series` of the one whose collision of a pair is the nearest that it can use.

    `stack`: distances (series, L, R), NaN where a pair was not searched; such a pair is taken from nowhere and
    stays unknown. Found distances are upper bounds, so the least is the best. With it distances never fall with m,
    nor grow with depth without projection, as it is of the true ones. Returns matrices (L, R).
    """
    places = []
    for place, one in enumerate(series):
        usable = np.array([other is one or implies(other, one, features) for other in series])
        least = np.where(usable[:, None, None] & ~np.isnan(stack), stack, np.inf)
        least[place] = np.nextafter(least[place], -np.inf)  # of equal ones its own
        places.append(np.where(np.isnan(stack[place]), place, least.argmin(axis=0)))
    return places


def nested(series: Sequence[SeriesSpec], found: Sequence[Found], features: Mapping[str, int]) -> list[Found]:
    """What is found of each series, (L, R) each, with the nearest collision of each pair that any of them knows for it.

    Passes are those of its own search.
    """
    stacked = {name: np.stack([getattr(one, name) for one in found]) for name in ("distance", "residual", "collided")}
    places = nearest(series, stacked["distance"], features)
    return [
        replace(one, **{name: np.take_along_axis(all_, place[None], axis=0)[0] for name, all_ in stacked.items()})
        for one, place in zip(found, places, strict=True)
    ]
