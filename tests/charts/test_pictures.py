"""Pictures keep pixels sharp, clip what cannot be shown, and colour a change by its sign."""

import numpy as np
import pytest

from charts import pictures


def test_grey_image_becomes_three_equal_channels_enlarged_without_blur() -> None:
    image = np.array([[[0.0, 1.0], [0.5, 2.0]]], dtype=np.float32)
    shown = pictures.picture(image, width=8)
    assert shown.shape == (8, 8, 3)
    assert shown.dtype == np.uint8
    np.testing.assert_array_equal(shown[::4, ::4, 0], [[0, 255], [128, 255]])
    assert (shown == shown[..., :1]).all()


def test_colour_image_keeps_its_channels() -> None:
    image = np.zeros((3, 4, 4), dtype=np.float32)
    image[1] = 1.0
    np.testing.assert_array_equal(pictures.picture(image, width=4)[0, 0], [0, 255, 0])


@pytest.mark.parametrize("dark", [False, True])
def test_difference_shows_sign_and_amplification(dark: bool) -> None:
    change = np.array([[[0.0, 0.1, -0.1, 0.2]]])
    shown = pictures.difference(change, 10.0, width=4, dark=dark)[0].astype(int)
    assert tuple(shown[0]) == ((26, 28, 33) if dark else (255, 255, 255))
    assert shown[1][0] > shown[1][2]  # brighter is orange: red above blue
    assert shown[2][2] > shown[2][0]  # darker is blue
    np.testing.assert_array_equal(shown[1], shown[3])  # beyond the full colour nothing changes


def test_colour_difference_is_grey_where_nothing_changed() -> None:
    shown = pictures.difference(np.zeros((3, 2, 2)), 5.0, width=2)
    assert (shown == 128).all()


@pytest.mark.parametrize(("largest", "factor"), [(0.9, 1.0), (0.3, 2.0), (0.09, 10.0), (0.001, 50.0), (0.0, 1.0)])
def test_suggested_amplification_just_fits(largest: float, factor: float) -> None:
    assert pictures.suggested_amplification(np.array([-largest]), np.array([0.0])) == factor
