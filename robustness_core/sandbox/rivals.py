"""A quick audit of two readings of one file: how far a few pairs of images are apart at the first layers in each."""

from __future__ import annotations

import time
from typing import Any

import torch

from robustness_core import datasets
from robustness_core.collision import Collisions, find_collisions
from robustness_core.layers import cuts, extractor
from robustness_core.networks import Network
from robustness_core.projection import project

PAIRS, LAYERS, M = 5, 4, 10


def distances(network: Network, other: Network, dataset: str, *, deadline: float) -> list[dict[str, Any]]:
    """For the first main layers that both have, by name: the distances (PAIRS,) in each, through one projection each.

    The pairs are the first test images of the data set's usual two classes. Layers without a verified collision of
    each pair in both are left out. `deadline` is a time.process_time() after which no further layer is begun.
    """
    data = datasets.load(dataset, "test")
    left, right = (data.pixels[data.labels == label][:PAIRS] for label in datasets.get(dataset).pair)
    pairs = [torch.from_numpy(datasets.to_float(side[: min(len(left), len(right))])) for side in (left, right)]
    sizes = [{cut.name: cut.features for cut in cuts(one, one.input_shape) if cut.main} for one in (network, other)]
    rows: list[dict[str, Any]] = []
    for name in [name for name in sizes[0] if name in sizes[1]][:LAYERS]:
        found: list[Collisions] = []
        for one, features in zip((network, other), sizes, strict=True):
            if time.process_time() > deadline:
                return rows
            projected = project(extractor(one, name, one.input_shape), features[name], min(M, features[name]), 0)
            found.append(find_collisions(projected, *pairs, preset="fast", precision="float32"))
        mine, theirs = found
        if bool((mine.collided & theirs.collided).all()) and float(mine.distance.sum()) > 0:
            rows.append({"name": name, "distance": mine.distance.tolist(), "other": theirs.distance.tolist()})
    return rows
