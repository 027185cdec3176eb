"""The data sets that there are, a row each, and what is done with any of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from robustness_core.datasets import cifar10, cifar100, mnist, places, svhn
from robustness_core.datasets.places import Labels, Pixels, Read
from robustness_core.errors import DatasetError
from robustness_core.files import cache_folder

SPLITS = ("train", "test")
Shape = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images of one split: `pixels` (N, H, W, C) uint8, `labels` (N,) int64 from 0 to K - 1, both read-only.

    `source` says in words which files were read and how many of the official images they hold.
    """

    name: str
    split: str
    pixels: Pixels
    labels: Labels
    source: str

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def input_shape(self) -> Shape:
        """(C, H, W), as networks want it."""
        _, height, width, channels = self.pixels.shape
        return channels, height, width


@dataclass(frozen=True, eq=False)
class Entry:
    """A data set before it is read: what its images are, what is usual for it, and how it is found, read and fetched.

    `find(split)` gives the files of a split that are on this machine, none if they are not enough; `read` makes of
    them pixels, labels and the words of `Dataset.source`; `download` puts the official files into the cache.
    """

    name: str
    title: str  # as sentences name it
    input_shape: Shape
    class_names: tuple[str, ...]
    sizes: Mapping[str, int]  # split -> images of the whole of it; a user may have a part
    normalisation: tuple[tuple[float, ...], tuple[float, ...]]  # mean and deviation of its channels, as papers use them
    epsilon: float  # the usual ℓ2 budget, on pixels in [0, 1]
    pair: tuple[int, int]  # the classes that are compared at first
    find: Callable[[str], list[Path]]
    read: Callable[[str, list[Path]], Read]
    epsilon_linf: float = 8 / 255  # the usual ℓ∞ budget
    part_of: str = ""  # the data set of which this is the bundled part
    url: str = ""  # where `download` finds it
    download: Callable[[str], None] | None = None

    def present(self, split: str = "train") -> bool:
        """Whether `open` finds this split on this machine, without a download."""
        try:
            return bool(self.find(split))
        except DatasetError:
            return False

    def open(self, split: str = "train") -> Dataset:
        """The images of a split; in one process it is read once. Nothing is downloaded. Raises DatasetError."""
        if split not in self.sizes:
            raise DatasetError(f"There is no split {split!r} of {self.name}: give {' or '.join(self.sizes)}.")
        return _open(self, split, *places.named())

    def absent(self, tried: str = "") -> DatasetError:
        """That it is not on this machine, and what helps."""
        part = bundled(self.name)
        instead = f", or take {part}" if part != self.name else ""
        return DatasetError(
            f"{self.title} is not in STRATA_DATA nor in the cache {cache_folder()}{tried}; "
            f"give a folder that holds it as STRATA_DATA{instead}."
        )


_MNIST = Entry(
    name="mnist",
    title="MNIST",
    input_shape=(1, 28, 28),
    class_names=tuple("0123456789"),
    sizes=mnist.SIZES,
    normalisation=((0.1307,), (0.3081,)),
    epsilon=2.0,
    epsilon_linf=0.3,
    pair=(3, 7),
    find=mnist.DIGITS.find,
    read=mnist.DIGITS.read,
    url=mnist.URL,
    download=mnist.DIGITS.download,
)
_MNIST_5K = replace(
    _MNIST,
    name="mnist-5k",
    sizes=mnist.BUNDLED_SIZES,
    find=mnist.find_bundled,
    read=mnist.read_bundled,
    part_of="mnist",
    download=None,
)
_CIFAR10 = Entry(
    name="cifar10",
    title="CIFAR-10",
    input_shape=(3, 32, 32),
    class_names=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    sizes=cifar10.SIZES,
    normalisation=((0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)),
    epsilon=0.5,
    pair=(3, 7),
    find=cifar10.find,
    read=cifar10.read,
    url=cifar10.URL,
    download=cifar10.download,
)
_CIFAR10_2K = replace(
    _CIFAR10,
    name="cifar10-2k",
    sizes=cifar10.BUNDLED_SIZES,
    find=cifar10.find_bundled,
    read=cifar10.read_bundled,
    part_of="cifar10",
    download=None,
)
_FASHION = replace(
    _MNIST,
    name="fashion-mnist",
    title="Fashion-MNIST",
    class_names=("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"),
    normalisation=((0.2860,), (0.3530,)),
    find=mnist.FASHION.find,
    read=mnist.FASHION.read,
    url=mnist.FASHION_URL,
    download=mnist.FASHION.download,
)
_SVHN = replace(
    _CIFAR10,
    name="svhn",
    title="SVHN",
    class_names=tuple("0123456789"),
    sizes=svhn.SIZES,
    normalisation=((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
    find=svhn.find,
    read=svhn.read,
    url=svhn.URL,
    download=svhn.download,
)
_CIFAR100 = replace(
    _CIFAR10,
    name="cifar100",
    title="CIFAR-100",
    class_names=cifar100.CLASSES,
    sizes=cifar100.SIZES,
    normalisation=((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    pair=(3, 42),
    find=cifar100.find,
    read=cifar100.read,
    url=cifar100.URL,
    download=cifar100.download,
)

# In the order in which they are offered.
REGISTRY = {entry.name: entry for entry in (_MNIST_5K, _MNIST, _CIFAR10_2K, _CIFAR10, _FASHION, _SVHN, _CIFAR100)}


def get(name: str) -> Entry:
    """The data set of this name. Raises DatasetError with one sentence."""
    if name not in REGISTRY:
        raise DatasetError(f"There is no data set {name!r}: give one of {', '.join(REGISTRY)}.")
    return REGISTRY[name]


def load(name: str, split: str = "train") -> Dataset:
    """Read one split of a data set that is on this machine; nothing is downloaded (`fetch` does that).

    What is not bundled is looked for in the folder STRATA_DATA, then in the cache folder (STRATA_CACHE, by default the
    user's). Of some data sets a part is enough: `Dataset.source` says how much was read. Raises DatasetError.
    """
    return get(name).open(split)


def fetch(name: str, split: str = "train") -> Dataset:
    """As `load`, but what is not on this machine is first downloaded into the cache and checked against its md5."""
    entry = get(name)
    if entry.download is not None and split in entry.sizes and not entry.find(split):
        try:
            entry.download(split)
        except Exception as error:  # requests, OS and hash errors alike mean that the data set is not there
            raise entry.absent(f" and could not be downloaded from {entry.url}") from error
    return load(name, split)


def counts(name: str, split: str = "train") -> dict[int, int]:
    """How many images each class has, class -> number, 0 where only a part is here. Raises DatasetError."""
    sizes = np.bincount(load(name, split).labels, minlength=len(get(name).class_names))
    return dict(enumerate(sizes.tolist()))


def fitting(input_shape: Sequence[int]) -> list[Entry]:
    """The data sets whose images a network of this (C, H, W) takes, in the order of the registry."""
    return [entry for entry in REGISTRY.values() if entry.input_shape == tuple(input_shape)]


def bundled(name: str) -> str:
    """The bundled part of a data set; the data set itself where none of it is bundled or it is such a part."""
    return next((entry.name for entry in REGISTRY.values() if entry.part_of == name), name)


def class_name(name: str, label: int) -> str:
    """What a class is called; its number where the data set, of an old audit, is not in the registry any more."""
    names = REGISTRY[name].class_names if name in REGISTRY else ()
    return names[label] if label < len(names) else str(label)


def class_label(name: str, label: int) -> str:
    """A class as widgets, addresses and captions name it: `3`, `3 cat`."""
    called = class_name(name, label)
    return called if called == str(label) else f"{label} {called}"


def to_float(pixels: Pixels) -> npt.NDArray[np.float32]:
    """(N, H, W, C) uint8 -> (N, C, H, W) float32 in [0, 1]."""
    return np.ascontiguousarray(np.moveaxis(pixels, -1, 1), dtype=np.float32) / np.float32(255)


@lru_cache(maxsize=8)
def _open(entry: Entry, split: str, given: str, cache: str) -> Dataset:
    files = entry.find(split)
    if not files:
        raise entry.absent()
    pixels, labels, source = entry.read(split, files)
    data = Dataset(entry.name, split, pixels, labels, source)
    classes = len(entry.class_names)
    if labels.size and not (0 <= labels.min() and labels.max() < classes):
        raise DatasetError(f"The {entry.name} labels hold a number outside 0 to {classes - 1}; the file is damaged.")
    if data.input_shape != entry.input_shape:
        have, want = ("×".join(map(str, shape)) for shape in (data.input_shape, entry.input_shape))
        raise DatasetError(f"The images of {entry.name} are {have}, not {want}; the file is damaged.")
    pixels.setflags(write=False)
    labels.setflags(write=False)
    return data
