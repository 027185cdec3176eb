"""Reads SVHN, house numbers cut to single digits: the official MATLAB files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from robustness_core.datasets import places
from robustness_core.datasets.places import Read
from robustness_core.errors import DatasetError

SIZES = {"train": 73_257, "test": 26_032}
URL = "http://ufldl.stanford.edu/housenumbers/"
_MD5 = {"train": "e26dedcc434d2e4c54c9b2d4a06d8373", "test": "eb5a983be6a315427106f1b164d9cef3"}
_FOLDER = "svhn"


def find(split: str) -> list[Path]:
    """The file of the split, in the folder svhn or beside it."""
    name = f"{split}_32x32.mat"
    found = places.first_file([f"{_FOLDER}/{name}", f"SVHN/{name}", name])
    return [] if found is None else [found]


def read(split: str, files: list[Path]) -> Read:
    """`X` holds the pixels with the images along the last axis, `y` the digits, of which 10 stands for 0."""
    from scipy.io import loadmat  # imported only where such a file is read

    (path,) = files
    try:
        table = loadmat(path, variable_names=("X", "y"))
        pixels, labels = np.moveaxis(table["X"], 3, 0), table["y"].ravel().astype(np.int64)
        whole = pixels.dtype == np.uint8 and len(pixels) == len(labels) and 1 <= labels.min() <= labels.max() <= 10
    except Exception as error:  # scipy raises of damaged files whatever it likes
        raise DatasetError(f"The SVHN file {path} cannot be read; it is damaged or cut short.") from error
    if not whole:
        raise DatasetError(f"{path} is not an official SVHN file of bytes with digits from 1 to 10.")
    source = f"{len(labels)} of {SIZES[split]} official SVHN {split} images"
    return np.ascontiguousarray(pixels), labels % 10, source


def download(split: str) -> None:
    places.download(f"{URL}{split}_32x32.mat", _MD5[split], _FOLDER)
