"""One pair on screen: x, x̃, x̃′, x′ side by side, both differences, and the numbers of their collision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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

WIDTH = 168
Image = NDArray[np.floating[Any]]


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


def show(chosen: Chosen, collision: CollisionRecord) -> None:
    """The pictures, the differences and the numbers."""
    left, right = (data.image(chosen.dataset, chosen.split, index) for index in (chosen.left, chosen.right))
    changes = (collision.left - left, collision.right - right)
    norms = [float(np.linalg.norm(change)) for change in changes]
    says = collision.predictions
    names = datasets.CLASS_NAMES[chosen.dataset]
    _row(
        [
            ("x", left, f"image {chosen.left}", says.get("left")),
            ("x̃", collision.left, f"moved by {norms[0]:.3f}", says.get("collision_left")),
            ("x̃′", collision.right, f"moved by {norms[1]:.3f}", says.get("collision_right")),
            ("x′", right, f"image {chosen.right}", says.get("right")),
        ],
        names,
    )
    options = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0]
    factor = st.select_slider(
        "Amplification of differences",
        options,
        value=pictures.suggested_amplification(*changes),
        format_func=lambda value: f"×{value:g}",
        key="amplification",
    )
    with st.container(horizontal=True, gap="medium"):
        for title, change in (("x̃ − x", changes[0]), ("x̃′ − x′", changes[1])):
            st.image(
                pictures.difference(change, factor, WIDTH, dark=screen.dark()),
                f"{title}, ×{factor:g}",
                width=WIDTH,
                output_format="PNG",
                alt=f"Difference {title}, amplified {factor:g} times",
            )
    half = float(np.linalg.norm(left.astype(np.float64) - right)) / 2
    largest = f"{max(norms):.4f}"
    st.markdown(
        f"**Distance {largest}** (the larger of the two moves, ℓ2); without features the two would meet at "
        f"{half:.4f}, half their distance."
    )


def _row(pictured: list[tuple[str, Image, str, Any]], names: Sequence[str]) -> None:
    with st.container(horizontal=True, gap="medium", key="pair_pictures"):
        for title, image, words, logits in pictured:
            with st.container(width=WIDTH, gap=None):
                st.image(
                    pictures.picture(image, WIDTH),
                    f"{title}, {words}",
                    width=WIDTH,
                    output_format="PNG",
                    alt=f"Image {title}, {words}",
                )
                if logits is not None:
                    st.caption(prediction(logits, names))


def prediction(logits: Sequence[float], names: Sequence[str]) -> str:
    """What the network says, for example `network says 3 (98 %)`."""
    values = np.asarray(logits, dtype=np.float64)
    shares = np.exp(values - values.max())
    shares /= shares.sum()
    best = int(shares.argmax())
    name = names[best] if best < len(names) else str(best)
    return f"network says **{name}** ({shares[best]:.0%})"


def residual_words(residual: float, collided: bool) -> str:
    """The certificate in words."""
    if collided:
        return f"Verified collision: relative residual {residual:.1e} (at most {TOLERANCE:g})."
    return (
        f"No collision was verified (relative residual {residual:.1e}, above {TOLERANCE:g}); the distance shown is "
        "that of the midpoint, which always collides."
    )
