"""What screens say of a network in words: its accuracies, and on how many images."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pages.parts import words
from tests.pages.test_report_words import MADE_UP


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (10_000, "98.7% clean, 62.6% under PGD at ε = 2"),
        (2_000, "98.7% clean, 62.6% under PGD at ε = 2 (2,000 images)"),
    ],
)
def test_an_accuracy_on_a_part_of_the_test_images_says_so(images: int, said: str) -> None:
    robust = {"epsilon": [2.0], "accuracy": [0.626], "images": images}
    evaluation = {"clean": {"accuracy": 0.987, "images": 10_000}, "robust": robust}
    assert words.accuracies(replace(MADE_UP, card={"evaluation": evaluation})) == said


def test_a_card_that_says_nothing_is_said_nothing_of() -> None:
    assert words.accuracies(replace(MADE_UP, card={})) == ""
