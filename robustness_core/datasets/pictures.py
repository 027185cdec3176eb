"""Reads images of one's own from files: a folder or a zip of class folders with PNG and JPEG, or .npz and .npy."""

from __future__ import annotations

import io
import itertools
import os
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np

from robustness_core.datasets import own
from robustness_core.datasets.own import ImageSet
from robustness_core.datasets.places import Pixels
from robustness_core.errors import DatasetError, shown

MOST_FILES = 100_000
LARGEST_PICTURE = 4096 * 4096  # pixels
_LARGEST_FILE = 64 * 1024**2  # bytes of one picture, as it is stored
_LARGEST_ARRAYS = 2 * 1024**3  # bytes of an .npz when it is unpacked
_FORMATS = ("PNG", "JPEG")
_DEEP = ("I", "F")  # modes of Pillow with more than a byte a channel
Fit = Literal["resize", "crop"] | None


@dataclass(frozen=True)
class _Picture:
    """A picture file: `name` with the folders above it, and how to read its bytes."""

    name: PurePosixPath
    size: int
    read: Any


def read(
    path: Path,
    *,
    labels: Path | None = None,
    shape: Sequence[int] | None = None,
    fit: Fit = None,
    title: str | None = None,
) -> ImageSet:
    """The images in a folder of class folders, in a zip of one, in an .npz, or in two .npy files with `labels`.

    `shape` (C, H, W) is what the network takes, by default that of the files. Pictures of another size are refused
    unless `fit` says what to do: resize scales each until it fills H×W, crop leaves its scale, and both keep the
    middle. Pictures are turned as their EXIF data say, and made grey or coloured as C wants. In an .npz one array holds
    the images and one the labels; `class_names` may be a third. `title` is by default the file's name. Raises
    DatasetError with one sentence.
    """
    want = None if shape is None else tuple(int(size) for size in shape)
    title = title or (path.resolve().name if path.is_dir() else path.stem)
    try:
        if path.is_dir():
            return _of_pictures(title, _in_folder(path), want, fit)
        with path.open("rb") as file:
            start = file.read(6)
        if start == b"\x93NUMPY":
            if labels is None:
                raise DatasetError("An .npy file holds no labels; give those in a second one, or both in an .npz.")
            return _fitted(own.of_arrays(_array(path), _array(labels), title=title), want, fit)
        if not zipfile.is_zipfile(path):
            raise DatasetError(
                f"{shown(path.name)} holds no images; accepted are a folder or a zip of class folders with PNG and "
                "JPEG, .npz and .npy."
            )
        with zipfile.ZipFile(path) as archive:
            members = [one for one in archive.infolist() if not one.is_dir()]
            if any(one.filename.endswith(".npy") for one in members):
                return _fitted(_of_arrays(title, path, members), want, fit)
            return _of_pictures(title, _in_zip(archive, members), want, fit)
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError) as error:
        # The last two are what zipfile raises of encrypted members, and of ways of packing that it has not.
        raise DatasetError(f"{shown(path.name)} cannot be read; it is damaged, cut short or encrypted.") from error


# ------------------------------------------------------------------------------------------------------------ arrays


def _of_arrays(title: str, path: Path, members: Sequence[zipfile.ZipInfo]) -> ImageSet:
    if sum(one.file_size for one in members) > _LARGEST_ARRAYS:
        raise DatasetError(f"The arrays take more than {_LARGEST_ARRAYS // 1024**3} GB unpacked; give fewer images.")
    try:
        with np.load(path, allow_pickle=False) as file:
            held = {name: file[name] for name in file.files}
    except (ValueError, KeyError) as error:
        raise DatasetError("The arrays cannot be read; they are damaged, or hold Python objects.") from error
    arrays = {name: one for name, one in held.items() if isinstance(one, np.ndarray)}  # others are bytes
    images = [one for one in arrays.values() if one.ndim in (3, 4)]
    labels = [one for one in arrays.values() if one.ndim == 1 and one.dtype.kind in "iu"]
    if len(images) != 1 or len(labels) != 1:
        first = ", ".join(f"{shown(name)} {one.dtype} {one.shape}" for name, one in itertools.islice(arrays.items(), 5))
        raise DatasetError(
            f"One array of images and one of labels are wanted, these whole numbers; the file holds {first or 'none'}."
        )
    given = arrays.get("class_names")
    names = None if given is None else given.astype(str).ravel().tolist()
    return own.of_arrays(images[0], labels[0], title=title, class_names=names)


def _array(path: Path) -> Any:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise DatasetError(f"{shown(path.name)} is no .npy file of numbers.") from error


def _fitted(images: ImageSet, want: tuple[int, ...] | None, fit: Fit) -> ImageSet:
    """Images that are arrays, brought to the shape that is wanted."""
    if want is None or images.input_shape == want:
        return images
    from PIL import Image

    pictures = (Image.fromarray(one[..., 0] if one.shape[-1] == 1 else one) for one in images.pixels)
    first = images.pixels.shape[2], images.pixels.shape[1]
    collected = _Collected(want, fit)
    for picture in pictures:
        collected.add(picture, first)
    return ImageSet(images.title, collected.pixels(), images.labels, images.class_names)


# ---------------------------------------------------------------------------------------------------------- pictures


def _in_folder(path: Path) -> Iterator[_Picture]:
    for folder, folders, files in os.walk(path):  # links to folders are not followed
        folders.sort()
        for file in sorted(files):
            place = Path(folder) / file
            if not place.is_file():
                raise DatasetError(f"{shown(file)} is no file; give pictures in folders, one for each class.")
            yield _Picture(PurePosixPath(place.relative_to(path).as_posix()), place.stat().st_size, place.read_bytes)


def _in_zip(archive: zipfile.ZipFile, members: Sequence[zipfile.ZipInfo]) -> Iterator[_Picture]:
    for one in members:

        def content(one: zipfile.ZipInfo = one) -> bytes:
            with archive.open(one) as file:  # what it says of its size may be a lie
                return file.read(_LARGEST_FILE + 1)

        yield _Picture(PurePosixPath(one.filename), one.file_size, content)


def _of_pictures(title: str, files: Iterator[_Picture], want: tuple[int, ...] | None, fit: Fit) -> ImageSet:
    pictures = list(itertools.islice((one for one in files if not _hidden(one.name)), MOST_FILES + 1))
    if len(pictures) > MOST_FILES:
        raise DatasetError(f"There are more than {MOST_FILES:,} files; give fewer pictures.")
    above = _common(pictures)
    classes = {one.name.relative_to(above).parts[0] for one in pictures if len(one.name.relative_to(above).parts) == 2}
    strange = next((one.name for one in pictures if len(one.name.relative_to(above).parts) != 2), None)
    if strange is not None or not classes:
        where = "There is no picture" if strange is None else f"{shown(strange)} lies in no class folder"
        raise DatasetError(f"{where}; give one folder for each class, with its pictures in it.")
    names = sorted(classes, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name))
    labels = {name: label for label, name in enumerate(names)}
    collected = _Collected(want, fit)
    for one in pictures:
        collected.add(*_open(one))
    numbers = np.array([labels[one.name.parent.name] for one in pictures], dtype=np.int64)
    return ImageSet(title, collected.pixels(), numbers, tuple(names))


def _hidden(name: PurePosixPath) -> bool:
    """What systems put beside pictures by themselves."""
    return any(part.startswith((".", "__MACOSX")) and part != ".." for part in name.parts) or name.name in (
        "Thumbs.db",
        "desktop.ini",
    )


def _common(pictures: Sequence[_Picture]) -> PurePosixPath:
    """The folder that holds the class folders: a zip often packs it too."""
    above = PurePosixPath()
    while pictures and all(len(one.name.relative_to(above).parts) > 2 for one in pictures):
        first = {one.name.relative_to(above).parts[0] for one in pictures}
        if len(first) > 1:
            break
        above /= first.pop()
    return above


def _open(one: _Picture) -> tuple[Any, tuple[int, int]]:
    """The picture, decoded and turned the right way up, and its width and height."""
    from PIL import Image, ImageOps

    name = shown(one.name)
    if one.size > _LARGEST_FILE:
        raise DatasetError(f"{name} has {one.size / 1024**2:.0f} MB; a picture may have {_LARGEST_FILE // 1024**2}.")
    content = one.read()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own words about large and damaged pictures; see below
            with Image.open(io.BytesIO(content), formats=_FORMATS) as picture:
                if picture.width * picture.height > LARGEST_PICTURE:
                    raise DatasetError(f"{name} has {picture.width}×{picture.height} pixels; give smaller pictures.")
                if getattr(picture, "n_frames", 1) > 1:
                    raise DatasetError(f"{name} is animated; give pictures that stand still.")
                if picture.mode.startswith(_DEEP):
                    raise DatasetError(f"{name} has more than 8 bits a channel; give pictures with 8.")
                turned = ImageOps.exif_transpose(picture)
                turned.load()
                return turned, turned.size
    except DatasetError:
        raise
    except Image.DecompressionBombError as error:
        raise DatasetError(f"{name} says that it has far too many pixels; give smaller pictures.") from error
    except Exception as error:  # whatever a damaged picture makes Pillow raise
        raise DatasetError(f"{name} is no PNG or JPEG picture, or a damaged one.") from error


@dataclass
class _Collected:
    """Pictures as they are added, all in one shape: the one that is `want`ed, else that of the first."""

    want: tuple[int, ...] | None
    fit: Fit
    arrays: list[Pixels] = field(default_factory=list)
    bytes: int = 0
    coloured: bool = False

    def add(self, picture: Any, size: tuple[int, int]) -> None:
        self.coloured = self.coloured or picture.mode not in ("1", "L", "LA")
        width, height = size if self.want is None else (self.want[2], self.want[1])
        if self.want is None and self.arrays:
            height, width = self.arrays[0].shape[:2]
        if size != (width, height):
            picture = self._brought(picture, width, height)
        grey = self.want[0] == 1 if self.want is not None else picture.mode in ("1", "L", "LA")
        array = np.asarray(picture.convert("L" if grey else "RGB"), dtype=np.uint8)
        array = array[..., None] if array.ndim == 2 else array
        self.bytes += array.nbytes
        if self.bytes > own.MOST_BYTES:
            raise DatasetError(f"The pictures take more than {own.MOST_BYTES // 1024**2} MB unpacked; give fewer.")
        self.arrays.append(array)

    def pixels(self) -> Pixels:
        """(N, H, W, C); grey pictures among coloured ones are coloured too."""
        if self.want is None and self.coloured:
            self.arrays = [np.repeat(one, 3, axis=2) if one.shape[2] == 1 else one for one in self.arrays]
        return np.stack(self.arrays)

    def _brought(self, picture: Any, width: int, height: int) -> Any:
        from PIL import ImageOps

        sizes = f"{picture.width}×{picture.height}", f"{width}×{height}"
        if self.fit == "resize":
            return ImageOps.fit(picture if picture.mode != "P" else picture.convert("RGB"), (width, height))
        if self.fit == "crop":
            left, top = (picture.width - width) // 2, (picture.height - height) // 2
            if left < 0 or top < 0:
                raise DatasetError(f"A picture of {sizes[0]} pixels cannot be cropped to {sizes[1]}; resize instead.")
            return picture.crop((left, top, left + width, top + height))
        raise DatasetError(f"A picture has {sizes[0]} pixels where {sizes[1]} are wanted; resize or crop the pictures.")
