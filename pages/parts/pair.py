"""One pair on screen: x, x̃, x̃′, x′ side by side, both differences, and the numbers of their collision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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


def show(chosen: Chosen, collision: CollisionRecord) -> None:
    """The pictures, the differences and the numbers."""
    left, right = (data.image(chosen.dataset, chosen.split, index) for index in (chosen.left, chosen.right))
    changes = (collision.left - left, collision.right - right)
    norms = [float(np.linalg.norm(change)) for change in changes]
    options = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0]
    factor = st.select_slider(
        "Amplification of differences",
        options,
        value=pictures.suggested_amplification(*changes),
        format_func=lambda value: f"×{value:g}",
        key="amplification",
    )
    with st.container(horizontal=True, gap="small", key="pair_pictures"):
        for title, image, words, who in (
            ("x", left, f"image {chosen.left}", "left"),
            ("x̃", collision.left, f"moved {norms[0]:.3f}", "collision_left"),
            ("x̃′", collision.right, f"moved {norms[1]:.3f}", "collision_right"),
            ("x′", right, f"image {chosen.right}", "right"),
        ):
            says = collision.predictions.get(who)
            said = "" if says is None else prediction(says, datasets.CLASS_NAMES[chosen.dataset])
            _picture(pictures.picture(image, 2 * WIDTH), f"{title}, {words}", said)
        for title, change in (("x̃ − x", changes[0]), ("x̃′ − x′", changes[1])):
            pixels = pictures.difference(change, factor, 2 * WIDTH, dark=screen.dark())
            _picture(pixels, f"{title}, ×{factor:g}", "difference, amplified")
    half = float(np.linalg.norm(left.astype(np.float64) - right)) / 2
    st.markdown(
        f"**Distance {max(norms):.4f}** (the larger of the two moves, ℓ2); without features the two would meet at "
        f"{half:.4f}, half their distance."
    )


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
