"""The screen Images: an upload is shown with its classes, added, and removed; a bad one is a sentence."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import numpy as np
import pytest
from PIL import Image

from robustness_core.datasets import REGISTRY
from robustness_core.datasets.own import ImageSet
from store import image_sets
from testing import synthetic
from testing.screens import words


def zipped(
    size: tuple[int, int] = (28, 28), classes: tuple[str, ...] = ("cat", "dog & co"), kind: str = "PNG"
) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for label, name in enumerate(classes):
            for number in range(3):
                picture = io.BytesIO()
                Image.new("L", (28, 28), 40 * label + number).save(picture, kind)
                archive.writestr(f"{name}/{number}.png", picture.getvalue())
    return content.getvalue()


def drop(screen: Any, content: bytes, name: str = "Pets.zip") -> Any:
    screen = screen.file_uploader[0].set_value((name, content, "application/zip")).run()
    assert not screen.exception
    return screen


def test_pictures_become_a_data_set_that_explore_offers_by_its_class_names(db, open_screen) -> None:
    network = synthetic.network(db)  # takes 1×28×28
    screen = drop(open_screen("images"), zipped())
    assert "6 images of 2 classes, 1×28×28." in words(screen)
    next(button for button in screen.button if button.label == "Add these images").click().run()
    assert not screen.exception
    (name,) = image_sets.enter(db)
    assert name.startswith("pets-")
    assert "is added" in words(screen)
    assert "are here already" in words(screen)
    assert name in set(screen.dataframe[-1].value["name"])

    del REGISTRY[name]  # as in another process
    explore = open_screen("explore", network=network.name, dataset=name, S="2", split="all")
    assert not explore.exception
    boxes = {box.label: box for box in explore.selectbox}
    assert boxes["Data set"].value == name
    assert boxes["Class of x"].options == ["0 cat", "1 dog & co"]
    assert f"{name} (all), class 0 cat against 1 dog & co" in words(explore).replace("\\", "")

    screen = open_screen("images")
    next(button for button in screen.button if button.label == "Remove them").click().run()
    assert not screen.exception
    assert image_sets.enter(db) == []


def test_arrays_of_another_size_can_be_brought_to_the_size_of_a_network(db, open_screen) -> None:
    synthetic.network(db)
    content = io.BytesIO()
    np.savez(content, x=np.zeros((4, 30, 40, 3), np.uint8), y=np.arange(4) % 2)
    screen = drop(open_screen("images"), content.getvalue(), "arrays.npz")
    assert "No network here takes 3×30×40 images" in words(screen)
    next(box for box in screen.selectbox if box.label == "Size and colour").select("1×28×28").run()
    assert "A picture has 40×30 pixels where 28×28 are wanted; resize or crop" in words(screen).replace("\\", "")
    screen.segmented_control[0].select("crop").run()
    assert "4 images of 2 classes, 1×28×28." in words(screen)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"no zip", "upload.zip holds no images"),
        (zipped(classes=("<b>x", "y")), "class name"),
        (zipped(kind="GIF"), "is no PNG or JPEG"),
    ],
)
def test_a_bad_file_is_one_sentence_and_leaves_nothing(db, open_screen, content: bytes, says: str) -> None:
    before = set(REGISTRY)
    screen = drop(open_screen("images"), content)
    (told,) = screen.error
    assert says in told.value.replace("\\", "")
    assert not any(button.label == "Add these images" for button in screen.button)
    assert image_sets.enter(db) == []
    assert set(REGISTRY) == before


@pytest.mark.parametrize("name", ["home", "explore", "compare", "classes", "audits"])
def test_screens_show_an_audit_of_own_images_also_once_they_are_removed(db, open_screen, name: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 28, 28, 1), dtype=np.uint8)
    own = image_sets.put(db, ImageSet("Signs", pixels, np.arange(8) % 2, ("stop & go", "yield")))
    network = synthetic.network(db)
    spec = synthetic.question(samples=4).replace(dataset=own, classes=(0, 1), split="all")
    synthetic.finish(db, spec)
    query = {"network": network.name, "dataset": own, "split": "all", "S": "4"}
    query = query if name == "explore" else {}
    screen = open_screen(name, **query)
    assert not screen.exception
    if name == "audits":
        assert "0 stop & go against 1 yield" in str(screen.dataframe[0].value.to_dict())
    image_sets.remove(db, own)
    assert not open_screen(name, **query).exception
