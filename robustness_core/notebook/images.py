"""The images of an audit: from a data set by its name, from files, or from arrays, tensors and loaders."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from robustness_core import datasets
from robustness_core.datasets import own, pictures
from robustness_core.errors import DatasetError
from robustness_core.spec import SampleSpec


def sample(
    images: Any,
    labels: Any = None,
    *,
    classes: Sequence[int | str] | None = None,
    size: int = 20,
    seed: int = 0,
    split: str | None = None,
    left_out: Sequence[int] = (),
    class_names: Sequence[str] | None = None,
    name: str = "images",
    shape: Sequence[int] | None = None,
    fit: pictures.Fit = None,
    database: str | None = None,
) -> SampleSpec:
    """Which images an audit is about: `size` of each of the `classes`, drawn by `seed`.

    `images`: the name of a data set; a folder or zip of class folders, an .npz, an .npy with `labels` in another (then
    `shape` and `fit` are those of `datasets.pictures.read`); an array or a tensor with `labels`; or something that
    gives batches (images, labels), as a DataLoader does. Pixels are bytes, or floats in [0, 1] that are rounded to
    bytes. `classes` by number or name, by default the two that are usual. `split` is that of a named data set, train by
    default. Own images are known under `name` and their content, in this process and in a `cache`; a `database` (a file
    or a URL) has those that somebody put there. Raises StrataError.
    """
    if database is not None:
        from store import connect, image_sets

        db = connect(database)
        if str(images) in image_sets.enter(db):
            datasets.get(str(images)).open(own.SPLIT)
        db.close()
    entry = _entry(images, labels, class_names, name, shape, fit)
    chosen = tuple(_class(entry, one) for one in (entry.pair if classes is None else classes))
    first = next(iter(entry.sizes))
    spec = SampleSpec(entry.name, chosen, size, split or first, seed, tuple(left_out))
    datasets.fetch(spec.dataset, spec.split)
    spec.check(datasets.counts(spec.dataset, spec.split))
    return spec


def _entry(
    images: Any, labels: Any, class_names: Sequence[str] | None, name: str, shape: Any, fit: pictures.Fit
) -> datasets.Entry:
    if isinstance(images, str | Path):
        if str(images) in datasets.REGISTRY:
            if labels is not None:
                raise DatasetError(f"{images} has labels of its own; choose among its classes with `classes=`.")
            return datasets.get(str(images))
        path = Path(images)
        if not path.exists():
            raise DatasetError(
                f"{str(images)!r} is no file, and no data set: those are {', '.join(datasets.REGISTRY)}."
            )
        return own.register(pictures.read(path, labels=None if labels is None else Path(labels), shape=shape, fit=fit))
    if labels is None:
        images, labels = _batches(images)
    return own.register(own.of_arrays(_array(images), _array(labels), title=name, class_names=class_names))


def _class(entry: datasets.Entry, given: int | str) -> int:
    """The number of a class that is given by name or number."""
    if not isinstance(given, str):
        try:
            return operator.index(given)
        except TypeError:
            raise DatasetError(f"A class is given by its number or its name, not by {given!r}.") from None
    if given not in entry.class_names:
        raise DatasetError(
            f"There is no class {given!r} in {entry.name}: its classes are {', '.join(entry.class_names)}."
        )
    return entry.class_names.index(given)


def _batches(loader: Any) -> tuple[Any, Any]:
    """All that a loader gives, as it gives it, up to what a set may hold."""
    if not isinstance(loader, Iterable):
        raise DatasetError("Give the labels beside the images, or something that gives both in batches.")
    pixels: list[Any] = []
    labels: list[Any] = []
    held = 0
    for batch in loader:
        if not (isinstance(batch, list | tuple) and len(batch) == 2):
            raise DatasetError("Each batch must be images and their labels, and no more; give arrays otherwise.")
        one = own.as_bytes(_array(batch[0]))
        held += one.nbytes
        if held > own.MOST_BYTES:
            raise DatasetError(f"The images take more than {own.MOST_BYTES // 1024**2} MB; give fewer.")
        pixels.append(one)
        labels.append(np.atleast_1d(_array(batch[1])))
    if not pixels:
        raise DatasetError("There is no batch of images.")
    try:
        return np.concatenate(pixels), np.concatenate(labels)
    except ValueError as error:
        raise DatasetError("The batches hold images of several shapes; bring them to one.") from error


def _array(values: Any) -> Any:
    """An array, also of a tensor wherever it lies. One with channels has them as torch does, in the second axis."""
    try:
        if hasattr(values, "detach"):
            values = values.detach().cpu().numpy()
            if values.ndim == 4 and values.shape[1] in (1, 3):
                values = np.moveaxis(values, 1, 3)
        return np.asarray(values)
    except (TypeError, ValueError) as error:  # images of several shapes, numbers that numpy has not
        raise DatasetError(f"The images or labels are no array: {error}") from error
