"""Reads MNIST and Fashion-MNIST: the bundled 5,000 digits and the official IDX files, packed or not."""

from __future__ import annotations

import gzip
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from robustness_core.datasets import places
from robustness_core.datasets.places import Read
from robustness_core.errors import DatasetError

SIZES = {"train": 60_000, "test": 10_000}
URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
_FOLDER = "MNIST/raw"
_FILES = {
    "train": {
        "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    },
    "test": {
        "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    },
}

BUNDLED_SIZES = {"train": 4_000, "test": 1_000}
_TRAIN_PER_CLASS = 400  # of the 500 bundled digits of each class; the last 100 are the test split


FASHION_URL = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/"
_FASHION_FOLDER = "FashionMNIST/raw"
_FASHION_MD5 = {
    "train": ("8d4fb7e6c68d591d4c3dfef9ec88bf0d", "25c81989df183df01b3e8a0aad5dffbe"),
    "test": ("bef4ecab320f06d8554ea6380940ec79", "bb300cfdad3c16e7a12a480ee83cd310"),
}


@dataclass(frozen=True)
class Idx:
    """A data set of IDX files: `files` maps split -> the names of images and labels -> their md5, in `folder`."""

    title: str
    url: str
    folder: str
    files: Mapping[str, Mapping[str, str]]

    def find(self, split: str) -> list[Path]:
        """The files of images and of labels, both or none."""
        found = [path for name in self.files[split] if (path := self._present(name)) is not None]
        return found if len(found) == len(self.files[split]) else []

    def read(self, split: str, files: list[Path]) -> Read:
        images_file, labels_file = files
        images, labels = (_read_idx(file, axes, self.title) for file, axes in ((images_file, 3), (labels_file, 1)))
        if len(images) != len(labels):
            raise DatasetError(f"{images_file} has {len(images)} images but {labels_file.name} {len(labels)} labels.")
        source = f"{len(labels)} of {SIZES[split]} official {self.title} {split} images"
        return images[..., None], labels.astype(np.int64), source

    def download(self, split: str) -> None:
        for name, md5 in self.files[split].items():
            if self._present(name) is None:
                places.download(self.url + name, md5, self.folder)

    def _present(self, name: str) -> Path | None:
        return places.first_file([f"{self.folder}/{name}", f"{self.folder}/{name.removesuffix('.gz')}"])


DIGITS = Idx("MNIST", URL, _FOLDER, _FILES)
FASHION = Idx(
    "Fashion-MNIST",
    FASHION_URL,
    _FASHION_FOLDER,
    {split: dict(zip(_FILES[split], md5, strict=True)) for split, md5 in _FASHION_MD5.items()},
)


def _read_idx(path: Path, axes: int, title: str) -> npt.NDArray[np.uint8]:
    """An IDX file of bytes: two zeros, type 8, the number of axes, each size as big-endian int32, then the bytes."""
    try:
        raw = path.read_bytes()
        data = gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DatasetError(f"The {title} file {path} cannot be read: {error}.") from error
    if data[:4] != bytes([0, 0, 8, axes]) or len(data) < 4 + 4 * axes:
        raise DatasetError(f"{path} is not a file of {title} with {axes} axes.")
    shape = tuple(int(size) for size in np.frombuffer(data, ">i4", axes, offset=4))
    values = np.frombuffer(data, np.uint8, offset=4 + 4 * axes)
    if values.size != int(np.prod(shape)):
        raise DatasetError(f"{path} is cut short: it holds {values.size} of {int(np.prod(shape))} bytes.")
    return values.reshape(shape).copy()


def find_bundled(split: str) -> list[Path]:
    """One file holds both splits."""
    return [places.BUNDLED / "mnist5k.npz"]


def read_bundled(split: str, files: list[Path]) -> Read:
    (path,) = files
    try:
        with np.load(path, allow_pickle=False) as archive:
            pixels, labels = archive["pixels"][..., None], archive["labels"].astype(np.int64)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise DatasetError(f"The bundled digits {path} cannot be read; install Strata again.") from error
    place = np.zeros(len(labels), dtype=np.int64)  # of each image within its class
    for label in np.unique(labels):
        members = labels == label
        place[members] = np.arange(members.sum())
    chosen = place < _TRAIN_PER_CLASS if split == "train" else place >= _TRAIN_PER_CLASS
    return pixels[chosen], labels[chosen], f"{chosen.sum()} of the 5,000 digits bundled with Strata"
