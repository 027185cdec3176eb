"""Users' own image sets in the database: kept once, found by every process, removed."""

from __future__ import annotations

import numpy as np
import pytest

from robustness_core.datasets import REGISTRY, class_name, counts, own
from robustness_core.errors import DatasetError
from store import connect, image_sets


def made(first: int = 0) -> own.ImageSet:
    pixels = np.arange(6 * 5 * 4, dtype=np.uint8).reshape(6, 5, 4, 1)
    pixels[0, 0, 0, 0] = first
    return own.ImageSet("Leaves", pixels, np.array([0, 0, 0, 1, 1, 2]), ("ash", "beech", "cedar"))


def test_a_set_is_kept_once_and_another_process_finds_it(url: str) -> None:
    db, images = connect(url), made()
    name = image_sets.put(db, images)
    assert image_sets.put(db, images) == name
    assert image_sets.put(db, made(9)) != name  # other content, another set
    del REGISTRY[name]  # as in a process that starts now
    assert len(image_sets.enter(db)) == 2
    entry = REGISTRY[name]
    assert (entry.input_shape, entry.class_names, entry.pair) == ((1, 5, 4), images.class_names, (0, 1))
    assert entry.normalisation[0] == (round(images.pixels.mean() / 255, 4),)
    assert counts(name, own.SPLIT) == {0: 3, 1: 2, 2: 1}
    np.testing.assert_array_equal(entry.open(own.SPLIT).pixels, images.pixels)
    for one in image_sets.enter(db):
        image_sets.remove(db, one)
    assert image_sets.enter(db) == []
    assert name not in REGISTRY
    assert class_name(name, 2) == "2"  # audits of it stay
    db.close()


def test_a_set_that_was_removed_meanwhile_says_so(url: str) -> None:
    db = connect(url)
    name = image_sets.put(db, made(17))
    del REGISTRY[name]
    image_sets.enter(db)
    entry = REGISTRY[name]
    image_sets.remove(db, name)
    with pytest.raises(DatasetError, match="were removed; add them again"):  # by a screen that has not looked since
        entry.open(own.SPLIT)
    db.close()
