"""Which images a question is about (SampleSpec): a data set, its split, classes, how many of each, and their seed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustness_core.found import mirrored
from robustness_core.spec.checks import check_seed, is_int, key_of, require

MOST_IMAGES = 2_000  # of more than two classes: all that is known of their pairs takes 100 MB a series


@dataclass(frozen=True)
class SampleSpec:
    """The images of a question: `size` (S) of each of K classes, two or more, from one split of a data set.

    Pairs have no direction, so the lower class comes first: 7 against 3 is 3 against 7. What is known of pairs stands
    in a matrix (L, R) that has each pair once: of two classes S x S, of more of them n x n with n = K S, the classes
    one after the other at the rows and at the columns, and pairs above the diagonal only. The sample of a class is the
    first S of a permutation drawn from `seed`, so a larger sample contains the smaller one; images that are
    `left_out`, by their number in the split, make room for the next ones of it. Raises SpecError.
    """

    dataset: str
    classes: tuple[int, ...]
    size: int
    split: str = "train"
    seed: int = 0
    left_out: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        require(bool(self.dataset), "Choose a data set.")
        require(bool(self.split), "Choose a split of the data set.")
        classes = tuple(self.classes)  # JSON gives lists
        require(
            len(classes) >= 2 and all(is_int(c) and c >= 0 for c in classes),
            "The classes must be two or more whole numbers of 0 or more.",
        )
        twice = next((one for one in classes if classes.count(one) > 1), None)
        words = (
            "The two classes must differ; both are" if len(classes) == 2 else "Each class is named once; twice there is"
        )
        require(twice is None, f"{words} {twice}.")
        require(
            is_int(self.size) and self.size >= 1,
            f"The sample size S is {self.size}; it must be a whole number of 1 or more.",
        )
        require(
            len(classes) == 2 or len(classes) * self.size <= MOST_IMAGES,
            f"{len(classes)} classes of {self.size} images are {len(classes) * self.size:,}, whose pairs would need "
            f"too much memory; of more than two classes up to {MOST_IMAGES:,} images can be asked.",
        )
        check_seed(self.seed, "")
        require(
            all(is_int(number) and number >= 0 for number in self.left_out),
            "Images are left out by their numbers, which are whole and 0 or more.",
        )
        object.__setattr__(self, "classes", tuple(sorted(classes)))
        object.__setattr__(self, "left_out", tuple(sorted({int(number) for number in self.left_out})))

    def check(self, available: Mapping[int, int]) -> None:
        """Raise SpecError if a class does not exist or S is larger; `available`: every class -> number of images."""
        for label in self.classes:
            require(
                label in available,
                f"There is no class {label} in {self.dataset}: its classes are {min(available)} to {max(available)}.",
            )
            require(
                self.size <= available[label] - len(self.left_out),
                f"The sample size S = {self.size} is larger than class {label}, "
                f"which has {available[label]} images in {self.dataset} ({self.split})"
                + (f", of which up to {len(self.left_out)} are left out." if self.left_out else "."),
            )

    def indices(
        self, labels: np.ndarray[Any, np.dtype[np.integer[Any]]]
    ) -> list[np.ndarray[tuple[int], np.dtype[np.int64]]]:
        """The sample of each class: indices into `labels`, those of the split, (S,) int64."""
        return [sample_indices(labels, label, self.size, self.seed, self.left_out) for label in self.classes]

    def sides(self, lists: Sequence[NDArray[Any]]) -> tuple[NDArray[Any], NDArray[Any]]:
        """What stands at the rows and at the columns of a matrix of pairs, from a list (or more axes) of each class."""
        if len(lists) == 2:
            return lists[0], lists[1]
        every = np.concatenate(lists)
        return every, every

    @property
    def asked(self) -> NDArray[np.bool_]:
        """(L, R): where a matrix of pairs has one; of two classes everywhere."""
        if len(self.classes) == 2:
            return np.ones((self.size, self.size), dtype=bool)
        of = np.repeat(np.arange(len(self.classes)), self.size)
        return of[:, None] < of

    @property
    def drawn(self) -> NDArray[np.bool_]:
        """(L, R): pairs drawn without regard to their distance, for means; of two classes none.

        Of each two of more classes they are the pairs of their i-th images, S of S^2: samples are in random order.
        """
        place = np.arange(self.size)
        each = np.tile(place, len(self.classes))
        return np.zeros_like(self.asked) if len(self.classes) == 2 else self.asked & (each[:, None] == each)

    @property
    def pairs(self) -> int:
        """How many pairs of images there are."""
        return self.size**2 * math.comb(len(self.classes), 2)

    def graph(self, distance: NDArray[np.float64]) -> NDArray[np.float64]:
        """A matrix of pairs as the optimal loss takes it: of more than two classes symmetric, each pair twice.

        METHOD.md section 7: the loss on a graph of K classes is that of its bipartite double cover.
        """
        return distance if len(self.classes) == 2 else mirrored(distance)

    @property
    def key(self) -> str:
        return key_of(self.identity())

    def identity(self) -> dict[str, Any]:
        """What decides the images, without fields at their historical defaults."""
        named = {
            "dataset": self.dataset,
            "classes": list(self.classes),
            "samples": self.size,
            "split": self.split,
            "seed": self.seed,
        }
        return named | ({"left_out": list(self.left_out)} if self.left_out else {})


def sample_indices(
    labels: np.ndarray[Any, np.dtype[np.integer[Any]]],
    label: int,
    samples: int,
    seed: int,
    left_out: Sequence[int] = (),
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The sample of one class: indices into `labels`, (S,) int64, nested in S for a fixed seed; none is `left_out`."""
    members = np.flatnonzero(labels == label)
    order = np.random.default_rng([seed, label]).permutation(members)
    if left_out:
        order = order[~np.isin(order, left_out)]
    return order[:samples].astype(np.int64)
