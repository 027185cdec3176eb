"""Images and samples for screens: who is in a sample, input-space distances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from robustness_core import datasets, mixtures
from robustness_core.optimal_loss import conflict_graph
from robustness_core.spec import AuditSpec, sample_indices


@dataclass(frozen=True, eq=False)
class Sample:
    """The images of a question: indices into the split, (L,) and (R,)."""

    left: NDArray[np.int64]
    right: NDArray[np.int64]


Key = tuple[str, str, tuple[int, int], int, int, tuple[int, ...]]


def key(spec: AuditSpec) -> Key:
    """What decides the sample of a question."""
    return (
        spec.sample.dataset,
        spec.sample.split,
        spec.sample.classes,
        spec.sample.size,
        spec.sample.seed,
        spec.sample.left_out,
    )


@st.cache_data(show_spinner=False, max_entries=64)
def sample(key: Key) -> Sample:
    name, split, classes, samples, seed, left_out = key
    labels = datasets.load(name, split).labels
    left, right = (sample_indices(labels, label, samples, seed, left_out) for label in classes)
    return Sample(left, right)


@st.cache_data(show_spinner=False, max_entries=32)
def input_distances(key: Key) -> NDArray[np.float64]:
    """Distances without any feature: half the l2 norm of x - x', (L, R)."""
    chosen, pixels = sample(key), datasets.load(*key[:2]).pixels
    return conflict_graph.input_distances(pixels[chosen.left], pixels[chosen.right])


@st.cache_data(show_spinner=False, max_entries=256)
def seen_distances(key: Key, m: int, projection_seed: int) -> NDArray[np.float64]:
    """Distances of the images seen through m random mixtures of their pixels, (L, R)."""
    chosen, pixels = sample(key), datasets.load(*key[:2]).pixels
    left, right = (datasets.to_float(pixels[indices]) for indices in (chosen.left, chosen.right))
    return mixtures.seen_distances(left, right, m, projection_seed)


def image(name: str, split: str, index: int) -> NDArray[np.float32]:
    """One image, (C, H, W) in [0, 1]."""
    pixels = datasets.load(name, split).pixels[index : index + 1]
    single: NDArray[np.float32] = datasets.to_float(pixels)[0]
    return single
