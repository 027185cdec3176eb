"""The tiny real network of tests that compute: made anew with the same weights every time, and blocks of its pairs."""

from __future__ import annotations

import torch

from robustness_core import datasets
from robustness_core.checkpoints import clean_copy
from robustness_core.engine.tasks import NetworkFile, Task
from robustness_core.networks import Network, build
from robustness_core.spec import SeriesSpec
from testing.world import ARCHITECTURE


def tiny() -> Network:
    """Untrained; features: 196 at conv1, 10 at the logits."""
    torch.manual_seed(0)
    return build(ARCHITECTURE, (1, 28, 28), mean=[0.13], std=[0.31])


def tiny_file() -> NetworkFile:
    return NetworkFile("a" * 64, "safetensors", ARCHITECTURE, (1, 28, 28), (0.13,), (0.31,), clean_copy(tiny()))


def task(network: NetworkFile, layer: str = "conv1", pairs: int = 20) -> Task:
    """The distances of the first `pairs` 3s and 7s, side by side."""
    data = datasets.load("mnist-5k")
    left, right = (data.pixels[data.labels == label][:pairs] for label in (3, 7))
    series = SeriesSpec(network.sha256, layer, 5, 1)
    return Task("distances", network, series, 10 if layer == "logits" else 196, left, right)
