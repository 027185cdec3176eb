"""Shared fixtures of all tests."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from robustness_core import datasets

# On continuous integration the same examples every time, so that a change is judged by itself; elsewhere new ones.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")


@pytest.fixture
def leaves(monkeypatch: pytest.MonkeyPatch) -> datasets.Entry:
    """A data set that is a row in the registry and no more: 3 classes of 8 random images, (1, 5, 7), one split."""

    def read(split: str, files: list[Path]) -> tuple[np.ndarray, np.ndarray, str]:
        rng = np.random.default_rng(0)
        return rng.integers(0, 256, (24, 5, 7, 1), dtype=np.uint8), np.arange(24) % 3, "24 made-up leaves"

    entry = datasets.Entry(
        name="leaves",
        title="Leaves",
        input_shape=(1, 5, 7),
        class_names=("ash", "beech", "cedar"),
        sizes={"train": 24},
        normalisation=((0.5,), (0.29,)),
        epsilon=1.0,
        pair=(0, 2),
        find=lambda split: [Path(__file__)],
        read=read,
    )
    monkeypatch.setitem(datasets.REGISTRY, entry.name, entry)
    return entry
