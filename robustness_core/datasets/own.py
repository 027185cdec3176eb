"""Images of one's own: pixels with labels and class names, named by their content, as a row of the registry."""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from robustness_core.datasets.places import Labels, Pixels, Read
from robustness_core.datasets.registry import REGISTRY, Entry
from robustness_core.errors import DatasetError, shown

SPLIT = "all"  # the one split that such a set has
MOST_BYTES = 512 * 1024**2  # of its pixels
MOST_CLASSES = 1000
_CLASS_NAME = re.compile(r"[\w .,()&'+-]{1,60}")
_EPSILON = 0.5
_BESIDE = 16 * 1024**2  # bytes of all but the pixels


@dataclass(frozen=True, eq=False)
class ImageSet:
    """`pixels` (N, H, W, C) uint8, `labels` (N,) int64 from 0, a name for each class. Raises DatasetError."""

    title: str
    pixels: Pixels
    labels: Labels
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "title", " ".join(self.title.split())[:100])
        pixels, classes = self.pixels, len(self.class_names)
        if pixels.ndim != 4 or pixels.dtype != np.uint8 or pixels.shape[3] not in (1, 3):
            raise DatasetError("The images must be pictures with one channel or three.")
        if not len(pixels) or not all(1 <= size <= 1024 for size in pixels.shape[1:]):
            raise DatasetError("The images must be at least one, and each from 1 to 1024 pixels high and wide.")
        if pixels.nbytes > MOST_BYTES:
            raise DatasetError(
                f"The images take {pixels.nbytes / 1024**2:.0f} MB; at most {MOST_BYTES // 1024**2} are accepted."
            )
        if self.labels.shape != (len(pixels),):
            raise DatasetError(f"There are {len(pixels)} images but {self.labels.size} labels; give one for each.")
        if not 2 <= classes <= MOST_CLASSES:
            raise DatasetError(f"There are {classes} classes; from 2 to {MOST_CLASSES} are accepted.")
        if not 0 <= self.labels.min() <= self.labels.max() < classes:
            raise DatasetError(f"The labels must be whole numbers from 0 to {classes - 1}.")
        for name in self.class_names:
            if not _CLASS_NAME.fullmatch(name):
                raise DatasetError(
                    f"The class name '{shown(name)}' cannot be used; a name has up to 60 letters, digits, spaces and "
                    "any of . , ( ) & ' + - _."
                )

    @cached_property
    def sha256(self) -> str:
        """Of the images, labels and class names, however they were given."""
        said = [list(self.pixels.shape), list(self.class_names)]
        content = hashlib.sha256(repr(said).encode())
        content.update(self.pixels.tobytes())
        content.update(self.labels.astype("<i8").tobytes())
        return content.hexdigest()

    @property
    def name(self) -> str:
        """Under which it is known: the title, and what tells sets of one title apart."""
        slug = re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")[:30]
        return f"{slug or 'images'}-{self.sha256[:8]}"

    @property
    def about(self) -> dict[str, Any]:
        """What the registry says of it, as JSON takes it; mean and deviation are those of its own pixels."""
        pixels = self.pixels
        shares = pixels.mean(axis=(0, 1, 2)) / 255, np.maximum(pixels.std(axis=(0, 1, 2)) / 255, 1 / 255)
        first, second, *_ = dict.fromkeys([*np.unique(self.labels).tolist(), 0, 1])
        return {
            "title": self.title,
            "input_shape": list(self.input_shape),
            "class_names": list(self.class_names),
            "sizes": {SPLIT: len(self.labels)},
            "normalisation": [[round(float(value), 4) for value in one] for one in shares],
            "epsilon": _EPSILON,
            "pair": sorted((first, second)),
        }

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        _, height, width, channels = self.pixels.shape
        return channels, height, width

    def to_bytes(self) -> bytes:
        """An .npz file that `from_bytes` reads, and `pictures.read` too."""
        content = io.BytesIO()
        np.savez_compressed(
            content, images=self.pixels, labels=self.labels, class_names=np.array(self.class_names),
            title=np.array(self.title),
        )  # fmt: skip
        return content.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> ImageSet:
        """What `to_bytes` wrote, or somebody else may have written. Raises DatasetError."""
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                if sum(one.file_size for one in archive.infolist()) > MOST_BYTES + _BESIDE:
                    raise DatasetError("The stored images are more than a set may hold.")
            with np.load(io.BytesIO(content), allow_pickle=False) as file:
                names = tuple(map(str, file["class_names"].tolist()))
                return cls(str(file["title"]), file["images"], file["labels"].astype(np.int64), names)
        except (OSError, KeyError, ValueError, TypeError, zipfile.BadZipFile, zlib.error) as error:
            if isinstance(error, DatasetError):
                raise
            raise DatasetError("The stored images cannot be read; the file is damaged.") from error


def register(images: ImageSet) -> Entry:
    """Enter a set into the registry of this process, under its name."""
    return enter(images.name, images.about, lambda: images)


def enter(name: str, about: Mapping[str, Any], load: Callable[[], ImageSet]) -> Entry:
    """Enter a set of which `about` is known; `load` gives its images when they are needed.

    The row that is there stays, since a name says the content.
    """

    def read(split: str, files: list[Path]) -> Read:
        images = load()
        return images.pixels, images.labels, f"{len(images.labels)} images of one's own"

    def tuples(value: Any) -> Any:
        return tuple(map(tuples, value)) if isinstance(value, list | tuple) else value

    fields = {key: tuples(value) for key, value in about.items()}
    return REGISTRY.setdefault(name, Entry(name, **fields, find=lambda split: [Path()], read=read))


def of_arrays(images: Any, labels: Any, *, title: str = "images", class_names: Sequence[str] | None = None) -> ImageSet:
    """A set from arrays: `images` (N, H, W), (N, H, W, C) or (N, C, H, W), bytes or floats in [0, 1], rounded to bytes.

    Of four axes the channels are the last, unless only the second has 1 or 3. `labels` (N,) are whole numbers of 0 or
    more. Raises DatasetError.
    """
    pixels, numbers = np.asarray(images), np.asarray(labels)
    if pixels.ndim == 3:
        pixels = pixels[..., None]
    if pixels.ndim != 4 or not {pixels.shape[1], pixels.shape[3]} & {1, 3}:
        raise DatasetError(
            f"The images have the shape {pixels.shape}; give (N, H, W), (N, H, W, C) or (N, C, H, W) with 1 or 3 "
            "channels."
        )
    if pixels.shape[3] not in (1, 3):
        pixels = np.moveaxis(pixels, 1, 3)
    if numbers.ndim != 1 or not (np.issubdtype(numbers.dtype, np.integer) and (numbers >= 0).all()):
        raise DatasetError("The labels must be one row of whole numbers of 0 or more, a number for each image.")
    if numbers.size and int(numbers.max()) >= MOST_CLASSES:
        raise DatasetError(f"A label is {numbers.max()}; at most {MOST_CLASSES} classes, counted from 0, are accepted.")
    names = class_names if class_names is not None else map(str, range(int(numbers.max(initial=-1)) + 1))
    names = tuple(map(str, names))
    if (twice := next((name for name in names if names.count(name) > 1), None)) is not None:
        raise DatasetError(f"Two classes are called '{shown(twice)}'; give each a name of its own.")
    return ImageSet(title, as_bytes(pixels), numbers.astype(np.int64), names)


def as_bytes(pixels: npt.NDArray[Any]) -> Pixels:
    """Pixels as bytes in an array of their own: bytes as they are, floats in [0, 1] rounded. Raises DatasetError."""
    if pixels.dtype == np.uint8:
        return pixels.copy(order="C")  # a set keeps its images, whatever its giver does with the array
    if np.issubdtype(pixels.dtype, np.floating):
        low, high = (float(pixels.min(initial=0)), float(pixels.max(initial=0))) if pixels.size else (0.0, 0.0)
        if low >= 0 and high <= 1:
            rounded: Pixels = np.rint(pixels * 255).astype(np.uint8)
            return rounded
        raise DatasetError(
            f"The images hold values from {low:g} to {high:g}; give pixels in [0, 1], and the normalisation with the "
            "network."
        )
    raise DatasetError(f"The images hold {pixels.dtype} numbers; give bytes, or floats in [0, 1].")
