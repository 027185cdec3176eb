"""Images and samples for screens: who is in a sample, input-space distances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from robustness_core import datasets, mixtures
from robustness_core.optimal_loss import conflict_graph
from robustness_core.spec import AuditSpec, SampleSpec


@dataclass(frozen=True, eq=False)
class Sample:
    """The images of a question: indices into the split, of each class, and (L,) and (R,) as in SampleSpec."""

    indices: tuple[NDArray[np.int64], ...]
    left: NDArray[np.int64]
    right: NDArray[np.int64]


Key = tuple[str, str, tuple[int, ...], int, int, tuple[int, ...]]


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
    spec = _spec(key)
    indices = spec.indices(datasets.load(spec.dataset, spec.split).labels)
    return Sample(tuple(indices), *spec.sides(indices))


def _spec(key: Key) -> SampleSpec:
    name, split, classes, size, seed, left_out = key
    return SampleSpec(name, classes, size, split, seed, left_out)


@st.cache_data(show_spinner=False, max_entries=32)
def input_distances(key: Key, order: float = 2.0) -> NDArray[np.float64]:
    """Distances without any feature: half the norm of x - x', (L, R), NaN where there is no pair; `order`: its p."""
    chosen, pixels = sample(key), datasets.load(*key[:2]).pixels
    apart = conflict_graph.input_distances(pixels[chosen.left], pixels[chosen.right], order)
    return np.where(_spec(key).asked, apart, np.nan)


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
