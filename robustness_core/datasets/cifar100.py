"""Reads CIFAR-100: the official binary files, with the fine labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from robustness_core.datasets import places
from robustness_core.datasets.places import Read
from robustness_core.errors import DatasetError

SIZES = {"train": 50_000, "test": 10_000}
URL = "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz"
_MD5 = "03b5dce01913d631647c71ecec9e9cb8"
_FOLDER = "cifar-100-binary"
_RECORD = 2 + 3 * 32 * 32  # the bytes of the coarse and the fine label, then three planes of 32 rows of 32 bytes

CLASSES = tuple(
    """apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
    caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
    flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
    motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate
    poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
    squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
    wardrobe whale willow_tree wolf woman worm""".split()
)


def find(split: str) -> list[Path]:
    found = places.first_file([f"{_FOLDER}/{split}.bin"])
    return [] if found is None else [found]


def read(split: str, files: list[Path]) -> Read:
    (path,) = files
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise DatasetError(f"The CIFAR-100 file {path} cannot be read: {error}.") from error
    if data.size == 0 or data.size % _RECORD:
        raise DatasetError(f"{path} is not a whole CIFAR-100 file: {data.size} bytes.")
    table = data.reshape(-1, _RECORD)
    pixels = np.ascontiguousarray(np.moveaxis(table[:, 2:].reshape(-1, 3, 32, 32), 1, -1))
    return pixels, table[:, 1].astype(np.int64), f"{len(table)} of {SIZES[split]} official CIFAR-100 {split} images"


def download(split: str) -> None:
    """One archive holds both splits."""
    places.download(URL, _MD5, ".", untar=True)
