"""Reads CIFAR-10: the bundled sheets of 100 images a class and the official binary batches, those that are there."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from robustness_core.datasets import places
from robustness_core.datasets.places import Read
from robustness_core.errors import DatasetError
from robustness_core.files import cache_folder

SIZES = {"train": 50_000, "test": 10_000}
URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
_FOLDER = "cifar-10-batches-bin"
_FILES = {"train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test": ("test_batch.bin",)}
_RECORD = 1 + 3 * 32 * 32  # one label byte, then three planes of 32 rows of 32 bytes

BUNDLED_SIZES = {"train": 1_000, "test": 1_000}


def find(split: str) -> list[Path]:
    """The batches in the first folder that has any; in the cache all of them or none.

    There a part is a download that is being unpacked, or was while it was stopped.
    """
    for folder in places.folders():
        wanted = [folder / _FOLDER / name for name in _FILES[split]]
        there = [path for path in wanted if path.is_file()]
        if there and (len(there) == len(wanted) or folder != cache_folder()):
            return there
    return []


def read(split: str, files: list[Path]) -> Read:
    records = []
    for path in files:
        try:
            data = np.frombuffer(path.read_bytes(), np.uint8)
        except OSError as error:
            raise DatasetError(f"The CIFAR-10 file {path} cannot be read: {error}.") from error
        if data.size == 0 or data.size % _RECORD:
            raise DatasetError(f"{path} is not a whole CIFAR-10 batch: {data.size} bytes.")
        records.append(data.reshape(-1, _RECORD))
    table = np.concatenate(records)
    pixels = np.ascontiguousarray(np.moveaxis(table[:, 1:].reshape(-1, 3, 32, 32), 1, -1))
    names = ", ".join(path.name for path in files)
    source = f"{len(table)} of {SIZES[split]} official CIFAR-10 {split} images ({names})"
    return pixels, table[:, 0].astype(np.int64), source


def download(split: str) -> None:
    """One archive holds both splits."""
    places.download(URL, _MD5, ".", untar=True)


def find_bundled(split: str) -> list[Path]:
    """A sheet for each split: a row of 100 images for each class, class 0 first."""
    return [places.BUNDLED / f"cifar10-2k-{split}.png"]


def read_bundled(split: str, files: list[Path]) -> Read:
    from PIL import Image  # imported only where images are read: other data sets need none of it

    (path,) = files
    try:
        with Image.open(path) as sheet:
            rows = np.asarray(sheet)
        pixels = rows.reshape(10, 32, 100, 32, 3).swapaxes(1, 2).reshape(1000, 32, 32, 3)
    except (OSError, ValueError, SyntaxError) as error:  # the last is what PIL raises of a damaged PNG
        raise DatasetError(f"The bundled images {path} cannot be read; install Strata again.") from error
    source = f"1000 of {SIZES[split]} official CIFAR-10 {split} images, bundled with Strata"
    return pixels, np.repeat(np.arange(10, dtype=np.int64), 100), source
