"""The images: MNIST (5,000 bundled digits or the official files) and CIFAR-10 (official binary layout); no torch."""

from __future__ import annotations

import gzip
import os
import zipfile
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import platformdirs

BUNDLED = Path(__file__).parent / "data" / "mnist5k.npz"
NAMES = ("mnist-5k", "mnist", "cifar10")
SPLITS = ("train", "test")

CLASS_NAMES: dict[str, tuple[str, ...]] = {
    "mnist-5k": tuple("0123456789"),
    "mnist": tuple("0123456789"),
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
}

_TRAIN_PER_CLASS = 400  # of the 500 bundled digits of each class; the last 100 are the test split
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


class DatasetError(ValueError):
    """A data set that cannot be read; its text is one sentence for the user."""


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
    """Read one split of `mnist-5k`, `mnist` or `cifar10`.

    `mnist-5k` is bundled: the first 400 digits of each class train, the last 100 test. The others are looked for in
    the folder STRATA_DATA (`MNIST/raw/`, `cifar-10-batches-bin/`), then in the cache folder (STRATA_CACHE, by default
    the user's), then downloaded into the cache and checked against their md5. Of CIFAR-10 only the batches that are
    there are read. Raises DatasetError with one sentence.
    """
    if name not in NAMES:
        raise DatasetError(f"The data set {name!r} is not one of {', '.join(NAMES)}.")
    if split not in SPLITS:
        raise DatasetError(f"The split {split!r} is not one of {', '.join(SPLITS)}.")
    return _load(name, split, os.environ.get("STRATA_DATA", ""), str(cache_folder()))


def counts(name: str, split: str = "train") -> dict[int, int]:
    """How many images each class has, class -> number. Raises DatasetError."""
    labels, sizes = np.unique(load(name, split).labels, return_counts=True)
    return {int(label): int(size) for label, size in zip(labels, sizes, strict=True)}


def at_hand(name: str, split: str = "train") -> bool:
    """Whether `load` would find this split without a download."""
    folders = [Path(folder) for folder in (os.environ.get("STRATA_DATA", ""), str(cache_folder())) if folder]
    if name == "mnist":
        return all(_present_mnist(file, folders) for file in _MNIST_FILES[split])
    return name == "mnist-5k" or bool(_present_cifar10(split, folders))


def to_float(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """(N, H, W, C) uint8 -> (N, C, H, W) float32 in [0, 1]."""
    return np.ascontiguousarray(np.moveaxis(pixels, -1, 1), dtype=np.float32) / np.float32(255)


def cache_folder() -> Path:
    """Where downloads are kept: STRATA_CACHE, else the user's cache folder."""
    return Path(os.environ.get("STRATA_CACHE") or platformdirs.user_cache_dir("strata"))


@lru_cache(maxsize=8)
def _load(name: str, split: str, given: str, cache: str) -> Dataset:
    folders = [Path(folder) for folder in (given, cache) if folder]
    if given and name != "mnist-5k" and not Path(given).is_dir():
        raise DatasetError(f"The data folder STRATA_DATA={given} does not exist.")
    if name == "mnist-5k":
        pixels, labels, source = _read_bundled(split)
    elif name == "mnist":
        pixels, labels, source = _read_mnist(split, folders)
    else:
        pixels, labels, source = _read_cifar10(split, folders)
    if labels.size and not (0 <= labels.min() and labels.max() <= 9):
        raise DatasetError(f"The {name} labels hold a number outside 0 to 9; the file is damaged.")
    pixels.setflags(write=False)
    labels.setflags(write=False)
    return Dataset(name, split, pixels, labels, source)


def _read_bundled(split: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], str]:
    try:
        with np.load(BUNDLED, allow_pickle=False) as archive:
            pixels, labels = archive["pixels"][..., None], archive["labels"].astype(np.int64)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise DatasetError(f"The bundled digits {BUNDLED} cannot be read; install Strata again.") from error
    place = np.zeros(len(labels), dtype=np.int64)  # of each image within its class
    for label in np.unique(labels):
        members = labels == label
        place[members] = np.arange(members.sum())
    chosen = place < _TRAIN_PER_CLASS if split == "train" else place >= _TRAIN_PER_CLASS
    return pixels[chosen], labels[chosen], f"{chosen.sum()} of the 5,000 digits bundled with Strata"


def _read_mnist(split: str, folders: list[Path]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], str]:
    images_file, labels_file = (_find_mnist(name, md5, folders) for name, md5 in _MNIST_FILES[split].items())
    images, labels = _read_idx(images_file, axes=3), _read_idx(labels_file, axes=1)
    if len(images) != len(labels):
        raise DatasetError(f"{images_file} has {len(images)} images but {labels_file.name} {len(labels)} labels.")
    official = 60000 if split == "train" else 10000
    return images[..., None], labels.astype(np.int64), f"{len(labels)} of {official} official MNIST {split} images"


def _find_mnist(name: str, md5: str, folders: list[Path]) -> Path:
    return _present_mnist(name, folders) or _download(_MNIST_URL + name, md5, "MNIST/raw", "MNIST")[0]


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
    files = _find_cifar10(split, folders)
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


def _find_cifar10(split: str, folders: list[Path]) -> list[Path]:
    if present := _present_cifar10(split, folders):
        return present
    unpacked = {path.name: path for path in _download(_CIFAR_URL, _CIFAR_MD5, ".", "CIFAR-10", untar=True)}
    return [unpacked[name] for name in _CIFAR_FILES[split]]


def _present_cifar10(split: str, folders: list[Path]) -> list[Path]:
    for folder in folders:
        present = [folder / _CIFAR_FOLDER / name for name in _CIFAR_FILES[split]]
        there = [path for path in present if path.is_file()]
        # In the cache a part of them is a download that is being unpacked, or was while it was stopped.
        if there and (len(there) == len(present) or folder != cache_folder()):
            return there
    return []


def _download(url: str, md5: str, folder: str, title: str, *, untar: bool = False) -> list[Path]:
    import pooch  # imported only where a download is needed: it pulls in requests

    pooch.get_logger().setLevel("WARNING")
    processor: Any = pooch.Untar(extract_dir=".") if untar else None
    target = cache_folder() / folder
    name = url.rsplit("/", 1)[-1]
    try:
        found = pooch.retrieve(url, known_hash=f"md5:{md5}", path=target, fname=name, processor=processor)
    except Exception as error:  # requests, OS and hash errors alike mean that the data set is not there
        raise DatasetError(
            f"{title} is not in STRATA_DATA nor in the cache {cache_folder()} and could not be downloaded from {url}; "
            f"give a folder that holds it as STRATA_DATA."
        ) from error
    return [Path(path) for path in ([found] if isinstance(found, str) else found)]
