"""What is computed and what comes of it: plain data, so that who asks needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from robustness_core.found import Found
from robustness_core.spec import SeriesSpec

Pixels = NDArray[np.uint8]  # (B, H, W, C)


@dataclass(frozen=True)
class Machine:
    """Where a task runs: the device, and the memory in bytes that a search may use.

    `memory` None takes a fixed share of what the machine has. Of several GPUs, the one at `place` is taken.
    `precision`: of a search's steps, one of spec.PRECISIONS.
    """

    device: str = "cpu"
    memory: float | None = None
    place: int = 0
    processes: int = 1  # that share the machine's memory
    precision: str = "auto"


@dataclass(frozen=True)
class NetworkFile:
    """A network's file as the store keeps it, with the hints that reading it may need. `content` may be left out."""

    sha256: str
    format: str
    architecture: str
    input_shape: tuple[int, ...]
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    content: bytes | None = None


@dataclass(frozen=True, eq=False)
class Task:
    """A block, B pairs of one series: their distances by one search; once more, `again`, by another; or the nearest of
    several, for the search `gap`.

    Of kind `sets`, `left` (B, T, H, W, C) holds the images of each set, and `right` none: their distances.
    Of kind `hints` and `norms`, `left` (L) and `right` (R) are all images of each class: what hints at the distances of
    all their pairs, or the norms of an affine layer with the lengths of all pairs.

    Of kind `attack`, `left` holds images with their `labels`: at which of the `budgets` PGD first fools the network.

    `batch` pairs are searched at once; 0 means the device's usual number. A distance depends on nothing but the series
    and its two images, bit for bit, however the pairs are cut into blocks: on processors whatever the batch, on other
    devices because every batch is filled up to one size. `keep`: of so many closest pairs the colliding images come
    back too.
    """

    kind: Literal["distances", "again", "gap", "sets", "hints", "norms", "attack"]
    network: NetworkFile
    series: SeriesSpec
    features: int
    left: Pixels
    right: Pixels
    batch: int = 0
    keep: int = 0
    labels: tuple[int, ...] = ()
    budgets: tuple[float, ...] = ()

    def __len__(self) -> int:
        return len(self.left)


@dataclass(frozen=True, eq=False)
class Kept:
    """The collision of the pair at `place` in the block: images (C, H, W) float32 and the logits of all four."""

    place: int
    left: NDArray[np.float32]
    right: NDArray[np.float32]
    predictions: dict[str, list[float]]


@dataclass(frozen=True, eq=False)
class Distances:
    """The answer to a block: what is found of its B pairs."""

    found: Found
    kept: tuple[Kept, ...]
    seconds: float


@dataclass(frozen=True, eq=False)
class Hints:
    """What grows with the distance of each pair, (P, L, R); see collision.hints."""

    values: NDArray[np.float64]
    seconds: float


@dataclass(frozen=True, eq=False)
class Norms:
    """What the √m law of an affine layer needs: ‖L‖_F, r4 (robustness_core.layers.spectrum) and ‖L(x − x')‖, (L, R)."""

    frobenius: float
    r4: float
    exact: bool
    lengths: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Fooled:
    """The least budget at which each image was fooled, (n,): 0 where the network errs anyhow, inf where at none."""

    epsilon: NDArray[np.float64]


@dataclass(frozen=True)
class NeedsContent:
    """This process has not seen the network yet: ask again with the content of its file."""


@dataclass(frozen=True)
class Failure:
    """What went wrong. `final`: it would go wrong again however small the batch. `detail` is for the log."""

    sentence: str
    final: bool
    detail: str


Answer = Distances | Hints | Norms | Fooled | NeedsContent | Failure


@dataclass(frozen=True)
class Description:
    """What a compute process says of itself: the device in words, what decides distances, the pairs of a batch."""

    device: str
    versions: dict[str, str]
    batch: int
