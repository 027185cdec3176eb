"""Pictures of a pair: images and their differences as pixels that are large enough to see."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image as Drawing
from PIL import ImageDraw, ImageFont

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
Image = np.ndarray[Any, np.dtype[np.floating[Any]]]


def _enlarge(image: Image, width: int | None) -> Pixels:
    factor = 1 if width is None else max(1, round(width / image.shape[1]))
    pixels = np.rint(np.clip(image, 0.0, 1.0) * 255).astype(np.uint8)
    return pixels.repeat(factor, axis=0).repeat(factor, axis=1)


def picture(image: Image, width: int | None = None) -> Pixels:
    """An image (C, H, W) in [0, 1], C = 1 or 3, as (H', W', 3) uint8: a pixel each, or about `width` wide and sharp.

    Values outside [0, 1] are clipped, for they cannot be shown.
    """
    return _enlarge(np.broadcast_to(np.moveaxis(image, 0, -1), (*image.shape[1:], 3)), width)


def difference(change: Image, amplification: float = 1.0, width: int | None = None, *, dark: bool = False) -> Pixels:
    """A perturbation (C, H, W) as (H', W', 3) uint8.

    One channel: orange where brighter, blue where darker, and the background colour at 0; an amplified change of 1
    is the full colour. Three channels: around mid-grey, each channel by itself.
    """
    amplified = np.clip(change * amplification, -1.0, 1.0)
    if change.shape[0] != 1:
        return _enlarge(np.moveaxis(0.5 + 0.5 * amplified, 0, -1), width)
    middle = np.array([0.10, 0.11, 0.13] if dark else [1.0, 1.0, 1.0])
    brighter = np.array([1.0, 0.62, 0.25] if dark else [0.70, 0.26, 0.0])
    darker = np.array([0.36, 0.70, 1.0] if dark else [0.0, 0.33, 0.65])
    value = amplified[0][..., None]
    end = np.where(value >= 0, brighter, darker)
    return _enlarge(middle + np.abs(value) * (end - middle), width)


def suggested_amplification(*changes: Image) -> float:
    """The factor of 1, 2, 5, 10, 20, 50 that makes the largest change about as strong as a pixel can be."""
    largest = max((float(np.abs(change).max(initial=0.0)) for change in changes), default=0.0)
    fitting = [factor for factor in (1.0, 2.0, 5.0, 10.0, 20.0, 50.0) if factor * largest <= 1.0]
    return fitting[-1] if largest > 0 and fitting else 1.0


def sheet(titles: Sequence[str], rows: Sequence[tuple[str, Sequence[Pixels]]]) -> bytes:
    """A PNG of rows of pictures on white, for papers and slides.

    `titles` stand over the columns; a row is its caption and as many pictures (H, W, 3) as there are titles, all of
    one size.
    """
    gap, line = 8, 18
    height, width, _ = rows[0][1][0].shape
    size = (gap + len(titles) * (width + gap), line + gap + len(rows) * (height + line + gap))
    page = Drawing.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(13)
    for column, title in enumerate(titles):
        pen.text((gap + column * (width + gap), gap // 2), title, "black", font)
    for number, (caption, shown) in enumerate(rows):
        top = line + gap + number * (height + line + gap)
        pen.text((gap, top), caption, "black", font)
        for column, pixels in enumerate(shown):
            page.paste(Drawing.fromarray(pixels), (gap + column * (width + gap), top + line))
    file = BytesIO()
    page.save(file, "PNG")
    return file.getvalue()
