"""A quick audit of two readings of one file, against distances known by construction."""

from __future__ import annotations

import math

import pytest
import torch

from robustness_core import datasets
from robustness_core.networks import Network, build
from robustness_core.sandbox import rivals


def reads(pixels: list[int], mean: list[float] | None = None, std: list[float] | None = None) -> Network:
    """A network whose ten logits are ten pixels of the image."""
    network = build("flatten, fc 10", (1, 28, 28), mean=mean, std=std).eval()
    with torch.no_grad():
        network.body.logits.weight.zero_()
        network.body.logits.weight[range(10), pixels] = 1.0
    return network


def test_distances_in_two_readings_are_those_of_their_closed_form() -> None:
    """What ten pixels are read from collides once these are equal: half their difference, whatever is normalised."""
    first, other = list(range(400, 410)), list(range(200, 210))
    (row,) = rivals.distances(reads(first), reads(other, [0.1], [0.3]), "mnist-5k", deadline=math.inf)
    data = datasets.load("mnist-5k", "test")
    left, right = (
        torch.from_numpy(datasets.to_float(data.pixels[data.labels == label][: rivals.PAIRS])).flatten(1)
        for label in datasets.get("mnist-5k").pair
    )
    apart = (left - right) / 2
    assert row["name"] == "logits"
    assert row["distance"] == pytest.approx(apart[:, first].norm(dim=1).tolist(), rel=1e-3, abs=1e-6)
    assert row["other"] == pytest.approx(apart[:, other].norm(dim=1).tolist(), rel=1e-3, abs=1e-6)


def test_no_layer_is_begun_once_the_time_is_up() -> None:
    assert rivals.distances(reads(list(range(10))), reads(list(range(10))), "mnist-5k", deadline=0.0) == []


def test_layers_where_nothing_is_told_are_left_out() -> None:
    """The border of a digit is black in all images: they collide without a perturbation."""
    assert rivals.distances(reads(list(range(10))), reads(list(range(10))), "mnist-5k", deadline=math.inf) == []
