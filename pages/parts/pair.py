"""One pair on screen: x, x̃, x̃′, x′ side by side, both differences, and the numbers of their collision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from charts import pictures
from pages.parts import data, screen
from robustness_core import datasets
from robustness_core.spec import TOLERANCE, SeriesSpec, SpecError
from store import StoreError, audits, distances, images
from store.database import Database
from store.records import AuditRecord, CollisionRecord, PairSpec

WIDTH = 132  # of a picture on screen, in pixels


@dataclass(frozen=True)
class Chosen:
    """A pair of a series: places of the two images in their data set."""

    series: SeriesSpec
    dataset: str
    split: str
    left: int
    right: int


def stored(db: Database, chosen: Chosen) -> CollisionRecord | None:
    """The collision of the pair if it was kept."""
    series = distances.find(db, chosen.series)
    ids = images.ids(db, chosen.dataset, chosen.split, [chosen.left, chosen.right])
    if series is None or len(ids) < 2:
        return None
    return distances.get_collision(db, series.id, ids[chosen.left], ids[chosen.right])


def request(db: Database, chosen: Sequence[Chosen]) -> AuditRecord | None:
    """Ask for the collisions of one pair; None, with the reason on screen, if it cannot be asked."""
    first = chosen[0]
    try:
        spec = PairSpec(
            tuple(one.series for one in chosen),
            (first.dataset, first.split, first.left),
            (first.dataset, first.split, first.right),
        )
        for audit in audits.recent(db, 20, kind="pair"):
            if audit.spec == spec and audit.state != "done":
                return audit
        return audits.submit(db, spec)
    except (SpecError, StoreError) as error:
        st.error(screen.escape(str(error)))
        return None


def show(chosen: Sequence[Chosen], collisions: Sequence[CollisionRecord]) -> None:
    """The pictures, the differences and the numbers of one pair, a row for each of its collisions (one a layer)."""
    first = chosen[0]
    left, right = (data.image(first.dataset, first.split, index) for index in (first.left, first.right))
    changes = [(found.left - left, found.right - right) for found in collisions]
    factor = st.select_slider(
        "Amplification of differences",
        [1.0, 2.0, 5.0, 10.0, 20.0, 50.0],
        value=pictures.suggested_amplification(*changes[0]),
        format_func=lambda value: f"×{value:g}",
        key="amplification",
    )
    for one, found, moved in zip(chosen, collisions, changes, strict=True):
        norms = [float(np.linalg.norm(change)) for change in moved]
        st.markdown(
            f"**{screen.escape(one.series.layer)}**: distance **{max(norms):.4f}**, the larger of the two moves"
        )
        with st.container(horizontal=True, gap="small", key=f"pair_pictures_{one.series.key}"):
            for title, image, words, who in (
                ("x", left, f"image {one.left}", "left"),
                ("x̃", found.left, f"moved {norms[0]:.3f}", "collision_left"),
                ("x̃′", found.right, f"moved {norms[1]:.3f}", "collision_right"),
                ("x′", right, f"image {one.right}", "right"),
            ):
                says = found.predictions.get(who)
                said = "" if says is None else prediction(says, datasets.CLASS_NAMES[one.dataset])
                _picture(pictures.picture(image, 2 * WIDTH), f"{title}, {words}", said)
            for title, change in (("x̃ − x", moved[0]), ("x̃′ − x′", moved[1])):
                pixels = pictures.difference(change, factor, 2 * WIDTH, dark=screen.dark())
                _picture(pixels, f"{title}, ×{factor:g}", "difference, amplified")
    half = float(np.linalg.norm(left.astype(np.float64) - right)) / 2
    st.caption(
        f"Distances are ℓ2 norms. Without features the two images would meet at {half:.4f}, half their distance."
    )


def as_npz(chosen: Sequence[Chosen], collisions: Sequence[CollisionRecord]) -> bytes:
    """The images as a NumPy archive: x, x_other (C, H, W) and for each layer its collision and logits."""
    first = chosen[0]
    arrays: dict[str, Any] = {
        "x": data.image(first.dataset, first.split, first.left),
        "x_other": data.image(first.dataset, first.split, first.right),
    }
    for one, found in zip(chosen, collisions, strict=True):
        arrays[f"{one.series.layer}/x"] = found.left
        arrays[f"{one.series.layer}/x_other"] = found.right
        for who, logits in found.predictions.items():
            arrays[f"{one.series.layer}/logits_{who}"] = np.asarray(logits)
    archive = BytesIO()
    np.savez_compressed(archive, **arrays)
    return archive.getvalue()


def _picture(pixels: NDArray[np.uint8], title: str, words: str) -> None:
    with st.container(width=WIDTH, gap=None):
        st.image(pixels, width=WIDTH, output_format="PNG", alt=f"{title}: {words}".replace("**", ""))
        st.caption(f"{title}  \n{words}")


def prediction(logits: Sequence[float], names: Sequence[str]) -> str:
    """What the network says, for example `says 3 (98 %)`."""
    values = np.asarray(logits, dtype=np.float64)
    shares = np.exp(values - values.max())
    shares /= shares.sum()
    best = int(shares.argmax())
    name = names[best] if best < len(names) else str(best)
    return f"says **{name}** ({shares[best]:.0%})"


def residual_words(residual: float, collided: bool) -> str:
    """The certificate in words."""
    if collided:
        return f"Verified collision: relative residual {residual:.1e} (at most {TOLERANCE:g})."
    return (
        f"No collision was verified (relative residual {residual:.1e}, above {TOLERANCE:g}); the distance shown is "
        "that of the midpoint, which always collides."
    )
