"""Where two networks differ that should be one: their tensors, and the features of each layer on the same images."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest

import torch

from robustness_core import layers
from robustness_core.errors import CheckpointError
from robustness_core.networks import Network

_IMAGES = 8


@dataclass(frozen=True)
class Difference:
    """Of a tensor or a layer: its names in the two networks (empty: it is missing) and the largest difference.

    `share` is that difference over the largest number of the first; None where the sizes differ.
    """

    name: str
    other: str
    share: float | None


def tensors(left: Network, right: Network) -> list[Difference]:
    """Of the weights, in the order of the layers."""
    mine, theirs = (list(network.body.named_parameters()) for network in (left, right))
    nothing = ("", torch.empty(0))
    return [_difference(*one, *other) for one, other in zip_longest(mine, theirs, fillvalue=nothing)]


def features(left: Network, right: Network) -> list[Difference]:
    """Of the main layers on images in [0, 1], paired from the logits backwards: one may normalise in steps of its own.

    Raises CheckpointError if the networks take other images.
    """
    if left.input_shape != right.input_shape:
        raise CheckpointError("The two networks take images of other shapes, so nothing can be compared.")
    images = torch.rand((_IMAGES, *left.input_shape), generator=torch.Generator().manual_seed(0))
    found = []
    for network in (left, right):
        names = layers.main_layers(network, network.input_shape)
        with torch.no_grad():
            given = [(name, layers.extractor(network, name, network.input_shape)(images)) for name in names]
        found.append(given[::-1])
    nothing = ("", torch.empty(0))
    return [_difference(*one, *other) for one, other in zip_longest(*found, fillvalue=nothing)][::-1]


def _difference(name: str, one: torch.Tensor, other_name: str, other: torch.Tensor) -> Difference:
    if one.numel() != other.numel() or not one.numel():
        return Difference(name, other_name, None)
    largest = float(one.detach().abs().max()) or 1.0
    gap = (one.detach().reshape(-1) - other.detach().reshape(-1)).abs().max()
    return Difference(name, other_name, float(gap) / largest)
