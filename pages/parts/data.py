"""Images and samples for screens: which data sets are on this machine, who is in a sample, input-space distances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from robustness_core import conflict_graph, datasets, mixtures
from robustness_core.spec import sample_indices


@dataclass(frozen=True, eq=False)
class Sample:
    """The images of a question: indices into the split, (L,) and (R,)."""

    left: NDArray[np.int64]
    right: NDArray[np.int64]


@st.cache_data(show_spinner=False)
def counts(name: str, split: str) -> dict[int, int]:
    return datasets.counts(name, split)


@st.cache_data(show_spinner=False, max_entries=64)
def sample(name: str, split: str, classes: tuple[int, int], samples: int, seed: int) -> Sample:
    labels = datasets.load(name, split).labels
    left, right = (sample_indices(labels, label, samples, seed) for label in classes)
    return Sample(left, right)


@st.cache_data(show_spinner=False, max_entries=32)
def input_distances(name: str, split: str, classes: tuple[int, int], samples: int, seed: int) -> NDArray[np.float64]:
    """Distances without any feature: half the l2 norm of x - x', (L, R)."""
    chosen = sample(name, split, classes, samples, seed)
    pixels = datasets.load(name, split).pixels
    return conflict_graph.input_distances(pixels[chosen.left], pixels[chosen.right])


@st.cache_data(show_spinner=False, max_entries=256)
def seen_distances(
    name: str, split: str, classes: tuple[int, int], samples: int, seed: int, m: int, projection_seed: int
) -> NDArray[np.float64]:
    """Distances of the images seen through m random mixtures of their pixels, (L, R)."""
    chosen = sample(name, split, classes, samples, seed)
    pixels = datasets.load(name, split).pixels
    left, right = (datasets.to_float(pixels[indices]) for indices in (chosen.left, chosen.right))
    return mixtures.seen_distances(left, right, m, projection_seed)


def image(name: str, split: str, index: int) -> NDArray[np.float32]:
    """One image, (C, H, W) in [0, 1]."""
    pixels = datasets.load(name, split).pixels[index : index + 1]
    single: NDArray[np.float32] = datasets.to_float(pixels)[0]
    return single
