"""What screens say of a network in words: its accuracies, and on how many images."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pages.parts import words
from testing.synthetic import MADE_UP


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (10_000, "98.7% clean, 62.6% under PGD at ε = 2, on test images"),
        (2_000, "98.7% clean, 62.6% under PGD at ε = 2 (2,000 images), on test images"),
    ],
)
def test_accuracies_say_on_which_images_and_on_how_many_if_that_is_a_part(images: int, said: str) -> None:
    robust = {"epsilon": [2.0], "accuracy": [0.626], "images": images}
    evaluation = {"split": "test", "clean": {"accuracy": 0.987, "images": 10_000}, "robust": robust}
    assert words.accuracies(replace(MADE_UP, card={"evaluation": evaluation})) == said
    of_training = words.accuracies(replace(MADE_UP, card={"evaluation": {**evaluation, "split": "train"}}))
    assert of_training == said.replace("test", "train")


def test_the_accuracy_of_an_upload_is_of_test_images() -> None:
    card = {"inspected": {"accuracy": 0.981, "images": 1000}}
    assert words.accuracies(replace(MADE_UP, card=card)) == "98.1% clean on 1,000 test images"


def test_a_card_that_says_nothing_is_said_nothing_of() -> None:
    assert words.accuracies(replace(MADE_UP, card={})) == ""
