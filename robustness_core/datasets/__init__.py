"""The images: MNIST and CIFAR-10, the bundled part of each or the official files; no torch."""

from __future__ import annotations

import gzip
import os
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import platformdirs

from robustness_core.errors import DatasetError

NAMES = ("mnist-5k", "mnist", "cifar10-2k", "cifar10")
SPLITS = ("train", "test")
# What of a data set is bundled, under a name of its own.
BUNDLED = {"mnist": "mnist-5k", "cifar10": "cifar10-2k"}

_DIGIT, _PHOTOGRAPH = (1, 28, 28), (3, 32, 32)
# (C, H, W) of the images of each data set, as networks want it.
INPUT_SHAPES = {"mnist-5k": _DIGIT, "mnist": _DIGIT, "cifar10-2k": _PHOTOGRAPH, "cifar10": _PHOTOGRAPH}

_OBJECTS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CLASS_NAMES: dict[str, tuple[str, ...]] = {
    "mnist-5k": tuple("0123456789"),
    "mnist": tuple("0123456789"),
    "cifar10-2k": _OBJECTS,
    "cifar10": _OBJECTS,
}

_DATA = Path(__file__).parent / "data"
_DIGITS = _DATA / "mnist5k.npz"
_TRAIN_PER_CLASS = 400  # of the 500 bundled digits of each class; the last 100 are the test split
_SHEET = "cifar10-2k-{}.png"  # a row of 100 images for each class, class 0 first
_MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
_MNIST_FILES = {
    "train": {
        "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    },
    "test": {
        "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    },
}
_CIFAR_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
_CIFAR_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
_CIFAR_FOLDER = "cifar-10-batches-bin"
_CIFAR_FILES = {"train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test": ("test_batch.bin",)}
_CIFAR_RECORD = 1 + 3 * 32 * 32  # one label byte, then three planes of 32 rows of 32 bytes


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images of one split: `pixels` (N, H, W, C) uint8, `labels` (N,) int64 from 0 to 9, both read-only.

    `source` says in words which files were read and how many of the official images they hold.
    """

    name: str
    split: str
    pixels: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    source: str

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W), as networks want it."""
        _, height, width, channels = self.pixels.shape
        return channels, height, width


def load(name: str, split: str = "train") -> Dataset:
    """Read one split of a data set that is on this machine; nothing is downloaded (`fetch` does that).

    `mnist-5k` and `cifar10-2k` are bundled; of the first, 400 digits of each class are for training and 100 for tests,
    of the second 100 images and 100. The others are looked for in the folder STRATA_DATA (`MNIST/raw/`,
    `cifar-10-batches-bin/`), then in the cache folder (STRATA_CACHE, by default the user's). Of CIFAR-10 only the
    batches that are there are read. Raises DatasetError with one sentence.
    """
    _check(name, split)
    return _load(name, split, *_places())


def fetch(name: str, split: str = "train") -> Dataset:
    """As `load`, but what is not on this machine is first downloaded into the cache and checked against its md5."""
    _check(name, split)
    if not at_hand(name, split) and _given_folder_exists():
        if name == "mnist":
            for file, md5 in _MNIST_FILES[split].items():
                if not _present_mnist(file, _folders()):
                    _download(_MNIST_URL + file, md5, "MNIST/raw", "MNIST")
        else:
            _download(_CIFAR_URL, _CIFAR_MD5, ".", "CIFAR-10", untar=True)
    return load(name, split)


def counts(name: str, split: str = "train") -> dict[int, int]:
    """How many images each class has, class -> number, 0 where only a part is here. Raises DatasetError."""
    sizes = np.bincount(load(name, split).labels, minlength=len(CLASS_NAMES[name]))
    return dict(enumerate(sizes.tolist()))


def at_hand(name: str, split: str = "train") -> bool:
    """Whether `load` finds this split on this machine."""
    if name in BUNDLED.values():
        return True
    if not _given_folder_exists():
        return False
    if name == "mnist":
        return all(_present_mnist(file, _folders()) for file in _MNIST_FILES[split])
    return bool(_present_cifar10(split, _folders()))


def fitting(input_shape: Sequence[int]) -> list[str]:
    """The data sets whose images a network of this (C, H, W) takes, the bundled one first; all where none fits."""
    return [name for name in NAMES if INPUT_SHAPES[name] == tuple(input_shape)] or list(NAMES)


def to_float(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """(N, H, W, C) uint8 -> (N, C, H, W) float32 in [0, 1]."""
    return np.ascontiguousarray(np.moveaxis(pixels, -1, 1), dtype=np.float32) / np.float32(255)


def cache_folder() -> Path:
    """Where downloads are kept: STRATA_CACHE, else the user's cache folder."""
    return Path(os.environ.get("STRATA_CACHE") or platformdirs.user_cache_dir("strata"))


def _check(name: str, split: str) -> None:
    if name not in NAMES:
        raise DatasetError(f"There is no data set {name!r}: give one of {', '.join(NAMES)}.")
    if split not in SPLITS:
        raise DatasetError(f"There is no split {split!r} of {name}: give {' or '.join(SPLITS)}.")


def _places() -> tuple[str, str]:
    """The folder that the user named, empty without one, and the cache folder."""
    return os.environ.get("STRATA_DATA", ""), str(cache_folder())


def _folders() -> list[Path]:
    return [Path(folder) for folder in _places() if folder]


def _given_folder_exists() -> bool:
    given, _ = _places()
    return not given or Path(given).is_dir()


@lru_cache(maxsize=8)
def _load(name: str, split: str, given: str, cache: str) -> Dataset:
    folders = [Path(folder) for folder in (given, cache) if folder]
    if given and name not in BUNDLED.values() and not Path(given).is_dir():
        raise DatasetError(f"The data folder STRATA_DATA={given} does not exist.")
    if name == "mnist-5k":
        pixels, labels, source = _read_digits(split)
    elif name == "cifar10-2k":
        pixels, labels, source = _read_sheet(split)
    elif name == "mnist":
        pixels, labels, source = _read_mnist(split, folders)
    else:
        pixels, labels, source = _read_cifar10(split, folders)
    if labels.size and not (0 <= labels.min() and labels.max() <= 9):
        raise DatasetError(f"The {name} labels hold a number outside 0 to 9; the file is damaged.")
    pixels.setflags(write=False)
    labels.setflags(write=False)
    return Dataset(name, split, pixels, labels, source)


def _read_digits(split: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], str]:
    try:
        with np.load(_DIGITS, allow_pickle=False) as archive:
            pixels, labels = archive["pixels"][..., None], archive["labels"].astype(np.int64)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise DatasetError(f"The bundled digits {_DIGITS} cannot be read; install Strata again.") from error
    place = np.zeros(len(labels), dtype=np.int64)  # of each image within its class
    for label in np.unique(labels):
        members = labels == label
        place[members] = np.arange(members.sum())
    chosen = place < _TRAIN_PER_CLASS if split == "train" else place >= _TRAIN_PER_CLASS
    return pixels[chosen], labels[chosen], f"{chosen.sum()} of the 5,000 digits bundled with Strata"


def _read_sheet(split: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], str]:
    from PIL import Image  # imported only where images are read: other data sets need none of it

    path = _DATA / _SHEET.format(split)
    try:
        with Image.open(path) as sheet:
            rows = np.asarray(sheet)
        pixels = rows.reshape(10, 32, 100, 32, 3).swapaxes(1, 2).reshape(1000, 32, 32, 3)
    except (OSError, ValueError, SyntaxError) as error:  # the last is what PIL raises of a damaged PNG
        raise DatasetError(f"The bundled images {path} cannot be read; install Strata again.") from error
    official = 50000 if split == "train" else 10000
    return (
        pixels,
        np.repeat(np.arange(10, dtype=np.int64), 100),
        f"1000 of {official} official CIFAR-10 {split} images, bundled with Strata",
    )


def _read_mnist(split: str, folders: list[Path]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], str]:
    found = [path for name in _MNIST_FILES[split] if (path := _present_mnist(name, folders))]
    if len(found) < len(_MNIST_FILES[split]):
        raise _absent("MNIST")
    images_file, labels_file = found
    images, labels = _read_idx(images_file, axes=3), _read_idx(labels_file, axes=1)
    if len(images) != len(labels):
        raise DatasetError(f"{images_file} has {len(images)} images but {labels_file.name} {len(labels)} labels.")
    official = 60000 if split == "train" else 10000
    return images[..., None], labels.astype(np.int64), f"{len(labels)} of {official} official MNIST {split} images"


def _present_mnist(name: str, folders: list[Path]) -> Path | None:
    for folder in folders:
        for candidate in (folder / "MNIST" / "raw" / name, folder / "MNIST" / "raw" / name.removesuffix(".gz")):
            if candidate.is_file():
                return candidate
    return None


def _read_idx(path: Path, axes: int) -> npt.NDArray[np.uint8]:
    """An IDX file of bytes: two zeros, type 8, the number of axes, each size as big-endian int32, then the bytes."""
    try:
        raw = path.read_bytes()
        data = gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DatasetError(f"The MNIST file {path} cannot be read: {error}.") from error
    if data[:4] != bytes([0, 0, 8, axes]) or len(data) < 4 + 4 * axes:
        raise DatasetError(f"{path} is not an MNIST file of {axes} axes.")
    shape = tuple(int(size) for size in np.frombuffer(data, ">i4", axes, offset=4))
    values = np.frombuffer(data, np.uint8, offset=4 + 4 * axes)
    if values.size != int(np.prod(shape)):
        raise DatasetError(f"{path} is cut short: it holds {values.size} of {int(np.prod(shape))} bytes.")
    return values.reshape(shape).copy()


def _read_cifar10(split: str, folders: list[Path]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], str]:
    files = _present_cifar10(split, folders)
    if not files:
        raise _absent("CIFAR-10")
    records = []
    for path in files:
        try:
            data = np.frombuffer(path.read_bytes(), np.uint8)
        except OSError as error:
            raise DatasetError(f"The CIFAR-10 file {path} cannot be read: {error}.") from error
        if data.size == 0 or data.size % _CIFAR_RECORD:
            raise DatasetError(f"{path} is not a whole CIFAR-10 batch: {data.size} bytes.")
        records.append(data.reshape(-1, _CIFAR_RECORD))
    table = np.concatenate(records)
    pixels = np.ascontiguousarray(np.moveaxis(table[:, 1:].reshape(-1, 3, 32, 32), 1, -1))
    official = 50000 if split == "train" else 10000
    names = ", ".join(path.name for path in files)
    return (
        pixels,
        table[:, 0].astype(np.int64),
        f"{len(table)} of {official} official CIFAR-10 {split} images ({names})",
    )


def _present_cifar10(split: str, folders: list[Path]) -> list[Path]:
    for folder in folders:
        present = [folder / _CIFAR_FOLDER / name for name in _CIFAR_FILES[split]]
        there = [path for path in present if path.is_file()]
        # In the cache a part of them is a download that is being unpacked, or was while it was stopped.
        if there and (len(there) == len(present) or folder != cache_folder()):
            return there
    return []


def _absent(title: str, tried: str = "") -> DatasetError:
    return DatasetError(
        f"{title} is not in STRATA_DATA nor in the cache {cache_folder()}{tried}; "
        "give a folder that holds it as STRATA_DATA."
    )


def _download(url: str, md5: str, folder: str, title: str, *, untar: bool = False) -> None:
    import pooch  # imported only where a download is needed: it pulls in requests

    pooch.get_logger().setLevel("WARNING")
    processor: Any = pooch.Untar(extract_dir=".") if untar else None
    target = cache_folder() / folder
    name = url.rsplit("/", 1)[-1]
    try:
        pooch.retrieve(url, known_hash=f"md5:{md5}", path=target, fname=name, processor=processor)
    except Exception as error:  # requests, OS and hash errors alike mean that the data set is not there
        raise _absent(title, f" and could not be downloaded from {url}") from error
