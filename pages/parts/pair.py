"""One pair on screen: x, x̃, x̃′, x′ side by side, both differences, and the numbers of their collision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from charts import pictures
from charts.captions import Caption
from pages.parts import captions, data, login, progress, screen
from robustness_core import datasets
from robustness_core.engine import nesting
from robustness_core.errors import StrataError
from robustness_core.found import Found
from robustness_core.spec import TOLERANCE, SeriesSpec
from store import audits, distances, images, networks, workers
from store.database import Database
from store.records import AuditRecord, CollisionRecord, PairSpec

WIDTH = 132  # of a picture, in pixels; on screen the browser enlarges it (`pages/parts/screen.py`)
LISTED = 200  # closest pairs that a table lists
FACTORS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0)  # by which differences are amplified
SAME = 1e-4  # of a distance: what float32 may take from it when its collision is kept
ROUNDING = 1e-6  # of a pixel in [0, 1]: float32 may take as much
WHO = ("left", "collision_left", "collision_right", "right")  # the four images, as predictions name them
SIGNS = ("x", "x̃", "x̃′", "x′")


@dataclass(frozen=True)
class Chosen:
    """A pair of a series: places of the two images in their data set."""

    series: SeriesSpec
    dataset: str
    split: str
    left: int
    right: int


@dataclass(frozen=True, eq=False)
class Kept:
    """A pair with the collision that was kept of it, and what is known of its distance: a matrix of one cell.

    The two may differ: a distance that came with Strata, or was found by a machine that rounds otherwise, stays as it
    is when the worker of this machine searches the pair again for its pictures.
    """

    chosen: Chosen
    collision: CollisionRecord
    known: Found

    @property
    def pictured(self) -> float:
        """The larger of the two moves of the kept collision, in the norm of its threat model."""
        moves = zip((self.collision.left, self.collision.right), originals(self.chosen), strict=True)
        return max(norm_of(there.astype(np.float64) - here, self.chosen) for there, here in moves)

    @property
    def distance(self) -> float:
        """The distance that tables and curves state of this pair."""
        value = float(self.known.distance[0, 0])
        return value if np.isfinite(value) else self.pictured

    @property
    def outside(self) -> tuple[float, float]:
        """The share of the pixels of x̃ and x̃′ that lie outside [0, 1], and how far the farthest does."""
        pixels = np.concatenate([self.collision.left.ravel(), self.collision.right.ravel()]).astype(np.float64)
        excess = np.maximum(-pixels, pixels - 1)
        return float((excess > ROUNDING).mean()), float(max(excess.max(), 0.0))

    @property
    def other(self) -> bool:
        """Whether the distance is that of another collision than the one kept."""
        return abs(self.pictured - self.distance) > SAME * self.distance


def stored(db: Database, chosen: Sequence[Chosen], among: Sequence[SeriesSpec] = ()) -> list[Kept | None]:
    """The collisions of one pair of images in each of these series, as far as they were kept.

    Each has the nearest collision that any of these series, or of those `among` which it is asked, found for it
    (engine.nesting): the number that the matrix of that question shows.
    """
    first = chosen[0]
    asked = list(dict.fromkeys([*(one.series for one in chosen), *among]))
    ids = images.ids(db, first.dataset, first.split, [first.left, first.right])
    series = distances.find_all(db, asked)
    network = networks.by_sha256(db, first.series.network)
    if len(ids) < 2 or network is None:
        return [None] * len(chosen)
    left, right = ids[first.left], ids[first.right]
    known = distances.matrices(db, [record.id for record in series.values()], [left], [right])
    unknown = np.full((1, 1), np.nan)
    found = [known[series[one.key].id].distance if one.key in series else unknown for one in asked]
    places = nesting.nearest(asked, np.stack(found), network.features)
    kept: list[Kept | None] = []
    for one, place in zip(chosen, places, strict=False):
        both = [series.get(key) for key in (asked[int(place[0, 0])].key, one.series.key)]
        kept.append(None)
        for record in both:  # the pictures of the nearest, else of its own
            collision = None if record is None else distances.get_collision(db, record.id, left, right)
            if collision is not None and both[0] is not None:
                kept[-1] = Kept(one, collision, known[both[0].id])
                break
    return kept


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
        return audits.submit(db, spec, requested_by=login.user() or "browser")
    except StrataError as error:
        st.error(screen.escape(str(error)))
        return None


def in_address(left: Sequence[int], right: Sequence[int]) -> tuple[int, int] | None:
    """The pair of images that the address names; None if it names none of which both are in the sample."""
    try:
        first, second = (int(part) for part in st.query_params.get("pair", "").split("-"))
    except ValueError:
        return None
    return (first, second) if first in left and second in right else None


def say_if_strange(left: Sequence[int], right: Sequence[int]) -> None:
    """Say it if the address names a pair that is not in the sample."""
    if "pair" in st.query_params and in_address(left, right) is None:
        st.warning(f"The pair {screen.escape(st.query_params['pair'])} of the address is not in this sample.")


def go(left: int, right: int) -> None:
    """Name a pair in the address; a callback."""
    st.query_params["pair"] = f"{left}-{right}"


def table(closest: pd.DataFrame, height: int) -> None:
    """The closest pairs, columns x, x′, distance and more; a ticked row goes into the address."""

    def ticked() -> None:
        rows = st.session_state["closest"].selection.rows
        if rows:
            go(int(closest["x"].iloc[rows[0]]), int(closest["x′"].iloc[rows[0]]))

    st.dataframe(
        closest,
        hide_index=True,
        height=height,
        key="closest",
        alt="Closest pairs",
        column_config=screen.number_columns({}),
        on_select=ticked,
        selection_mode="single-row",
    )
    st.caption("The closest pairs first; tick a row to open its pair.")


def steps(closest: pd.DataFrame, left: int, right: int) -> None:
    """Buttons to the pairs before and after this one in the order of distance."""
    order = list(zip(closest["x"].tolist(), closest["x′"].tolist(), strict=True))
    if (left, right) not in order:
        return
    place = order.index((left, right))
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button("Closer", disabled=place == 0, on_click=go, args=order[max(place - 1, 0)])
        st.button("Farther", disabled=place + 1 == len(order), on_click=go, args=order[min(place + 1, len(order) - 1)])
        st.caption(f"Number {place + 1} by distance")


def gather(db: Database, chosen: Sequence[Chosen], among: Sequence[SeriesSpec] = ()) -> tuple[list[Kept], list[Chosen]]:
    """The collisions of these pairs that are kept, and the pairs of which none is; `among`: see `stored`."""
    kept = dict(zip(chosen, stored(db, chosen, among), strict=True))
    return [found for found in kept.values() if found], [one for one, found in kept.items() if found is None]


def wait_for(db: Database, chosen: Sequence[Chosen], lacking: Sequence[Chosen]) -> None:
    """Ask for the collisions of `chosen`, of which some are `lacking`, and look again until these are there.

    All are asked for whatever is lacking, so that the question stays the same while they arrive one by one.
    """
    asked = request(db, chosen) if lacking else None
    if asked is None:
        return
    if asked.state in ("failed", "cancelled"):
        st.error(f"The pair could not be computed: {screen.escape(asked.error or 'it was cancelled.')}")
        st.button("Try again", on_click=progress.retry, args=(db, asked.id))
        return

    @st.fragment(run_every=0.5)
    def wait() -> None:
        if not audits.get(db, asked.id).active or any(stored(db, lacking)):
            st.rerun()
        words = "The worker computes this pair before anything else …" if workers.alive(db) else progress.no_worker(db)
        progress.line(db, asked, 1 - len(lacking) / len(chosen), words)

    wait()


def show(found: list[Kept]) -> float:
    """The pictures, the differences and the numbers of one pair, a row for each of its collisions (one a layer).

    Returns the factor by which differences are amplified.
    """
    first = found[0].chosen
    left, right = originals(first)
    factor = amplification(found)
    for kept in found:
        one, collision = kept.chosen, kept.collision
        moved = (collision.left - left, collision.right - right)
        norms = [norm_of(change, one) for change in moved]
        layer = screen.escape(one.series.layer)
        steps_of_8_bits = "" if one.series.threat.norm == "l2" else f" = {255 * kept.distance:.1f}/255"
        st.markdown(f"**{layer}**: distance **{kept.distance:.4f}**{steps_of_8_bits}, {_whose(kept)}")
        with st.container(horizontal=True, gap="small", key=f"pair_pictures_{one.series.key}"):
            shown = (left, collision.left, collision.right, right)
            told = (f"image {first.left}", f"moved {norms[0]:.3f}", f"moved {norms[1]:.3f}", f"image {first.right}")
            for title, image, words, who in zip(SIGNS, shown, told, WHO, strict=True):
                says = collision.predictions.get(who)
                said = "" if says is None else prediction(says, one.dataset)
                _picture(pictures.picture(image), f"{title}, {words}", said)
            for title, change in (("x̃ − x", moved[0]), ("x̃′ − x′", moved[1])):
                pixels = pictures.difference(change, factor, dark=screen.dark())
                _picture(pixels, f"{title}, ×{factor:g}", "difference, amplified")
        st.caption(outside_words(*kept.outside))
    wrong = errs(found)
    if wrong:
        st.caption(f"Without any attack the network errs on {' and '.join(wrong)}.")
    later = (
        " A distance stays as it was first found, with its certificate; where another is pictured, the pictures are of "
        "a later search, which can end at another collision."
    )
    threat = first.series.threat
    captions.show(
        Caption(
            f"Distances are {threat.symbol} norms. Without features the two images would meet at "
            f"{half_apart(first):.4f}, half their distance.",
            "Of one-channel images, differences are orange where x̃ is brighter and blue where it is darker; of colour "
            f"images they lie around mid-grey.{later if any(kept.other for kept in found) else ''}",
        )
    )
    return factor


def originals(chosen: Chosen) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """x and x′ of a pair, (C, H, W) in [0, 1]."""
    left, right = (data.image(chosen.dataset, chosen.split, index) for index in (chosen.left, chosen.right))
    return left, right


def half_apart(chosen: Chosen) -> float:
    """Half the distance of the two images: the budget at which they meet without any feature."""
    left, right = originals(chosen)
    return norm_of(left.astype(np.float64) - right, chosen) / 2


def norm_of(change: NDArray[np.floating[Any]], chosen: Chosen) -> float:
    """The norm of a perturbation, of any shape, in the threat model of a pair."""
    return float(np.linalg.norm(change.ravel(), ord=chosen.series.threat.order))


def _whose(kept: Kept) -> str:
    if not kept.other:
        return "the larger of the two moves"
    return f"of another collision, found before; the larger of the moves pictured is {kept.pictured:.4f}"


def amplification(found: list[Kept]) -> float:
    """The slider of the factor by which differences are shown."""
    collision = found[0].collision
    left, right = originals(found[0].chosen)
    return float(
        st.select_slider(
            "Amplification of differences",
            FACTORS,
            value=pictures.suggested_amplification(collision.left - left, collision.right - right),
            format_func=lambda value: f"{value:g}",
            key="amplification",
            bind="query-params",
        )
    )


def as_png(found: list[Kept], factor: float) -> bytes:
    """All pictures of a pair as one PNG on white, a row a layer, differences amplified by `factor`."""
    left, right = originals(found[0].chosen)
    rows = []
    for kept in found:
        collision = kept.collision
        moved = (collision.left - left, collision.right - right)
        shown = [pictures.picture(image, WIDTH) for image in (left, collision.left, collision.right, right)]
        shown += [pictures.difference(change, factor, WIDTH) for change in moved]
        rows.append((f"{kept.chosen.series.layer}: the larger move is {kept.pictured:.4f}", shown))
    titles = ("x", "x~", "x~'", "x'", f"x~ - x, x{factor:g}", f"x~' - x', x{factor:g}")
    return pictures.sheet(titles, rows)


def logits(found: list[Kept], layer: str) -> pd.DataFrame:
    """A row a class: the logits of x, x̃, x̃′ and x′ at one layer's collision; empty if it is not there."""
    for kept in found:
        one, collision = kept.chosen, kept.collision
        if one.series.layer == layer:
            says = {
                sign: collision.predictions[who]
                for sign, who in zip(SIGNS, WHO, strict=True)
                if who in collision.predictions
            }
            count = max((len(values) for values in says.values()), default=0)
            labels = [datasets.class_name(one.dataset, i) for i in range(count)]
            return pd.DataFrame({"class": labels, **{sign: np.round(values, 3) for sign, values in says.items()}})
    return pd.DataFrame()


def errs(found: list[Kept]) -> list[str]:
    """Which of x and x′ the network misclassifies, by what it says of them at some kept collision."""
    first = found[0].chosen
    labels = datasets.load(first.dataset, first.split).labels
    wrong = []
    for sign, who, index in (("x", "left", first.left), ("x′", "right", first.right)):
        says = next((kept.collision.predictions[who] for kept in found if who in kept.collision.predictions), None)
        if says is not None and int(np.argmax(says)) != int(labels[index]):
            wrong.append(sign)
    return wrong


def outside_words(share: float, most: float) -> str:
    """How much of a found pair lies outside the pixel range."""
    if share == 0:
        return "All pixels of x̃ and x̃′ lie within [0, 1]."
    return (
        f"{share:.1%} of the pixels of x̃ and x̃′ lie outside [0, 1], by at most {most:.3f}; the pictures clip them. "
        "Attacks stay inside."
    )


def by_layer(found: list[Kept], network: str, lacking: Sequence[Chosen] = ()) -> pd.DataFrame:
    """A row a layer: the distance of the pair at `network` with its certificate and all that is needed to repeat it.

    Layers that are `lacking` so far have a row each, without numbers, so that a table taken early says so.
    """
    rows: list[dict[str, Any]] = []
    for kept in found:
        one, known = kept.chosen, kept.known
        certified = np.isfinite(known.distance[0, 0])
        share, most = kept.outside
        rows.append(
            {
                **_about(one, network),
                "found": True,
                "distance": kept.distance,
                "residual": float(known.residual[0, 0]) if certified else None,
                "collided": bool(known.collided[0, 0]) if certified else None,
                "pictured_distance": kept.pictured,
                "pixels_outside": share,
                "farthest_outside": most,
                "devices": "; ".join(known.devices),
                "versions": "; ".join(known.versions),
            }
        )
    rows += [{**_about(one, network), "found": False} for one in lacking]
    return pd.DataFrame(rows)


def _about(one: Chosen, network: str) -> dict[str, Any]:
    """What is asked of a pair at one layer."""
    return {
        "network": network,
        "network_sha256": one.series.network,
        "image": one.left,
        "image_other": one.right,
        "dataset": one.dataset,
        "split": one.split,
        "half_apart": half_apart(one),
        **{name: value for name, value in one.series.identity().items() if name != "network"},
    }


def as_npz(found: list[Kept], network: str) -> bytes:
    """The pair as a NumPy archive: x, x_other (C, H, W), for each layer its collision and logits, and `settings`.

    `settings` is the table of `by_layer` as JSON, a list with an object a layer.
    """
    arrays: dict[str, Any] = dict(zip(("x", "x_other"), originals(found[0].chosen), strict=True))
    arrays["settings"] = np.array(by_layer(found, network).to_json(orient="records"))
    for kept in found:
        one, collision = kept.chosen, kept.collision
        arrays[f"{one.series.layer}/x"] = collision.left
        arrays[f"{one.series.layer}/x_other"] = collision.right
        for who, values in collision.predictions.items():
            arrays[f"{one.series.layer}/logits_{who}"] = np.asarray(values)
    archive = BytesIO()
    np.savez_compressed(archive, **arrays)
    return archive.getvalue()


def _picture(pixels: NDArray[np.uint8], title: str, words: str) -> None:
    with st.container(width=WIDTH, gap=None):
        st.image(pixels, width=WIDTH, output_format="PNG", alt=f"{title}: {words}".replace("**", ""))
        st.caption(f"{title}  \n{words}")


def prediction(logits: Sequence[float], dataset: str) -> str:
    """What the network says, for example `says 3 (98 %)`."""
    values = np.asarray(logits, dtype=np.float64)
    shares = np.exp(values - values.max())
    shares /= shares.sum()
    best = int(shares.argmax())
    return f"says **{datasets.class_name(dataset, best)}** ({shares[best]:.0%})"


def residual_words(residual: float, collided: bool) -> str:
    """The certificate in words."""
    if collided:
        return f"Verified collision: relative residual {residual:.1e} (at most {TOLERANCE:g})."
    return (
        f"No collision was verified (relative residual {residual:.1e}, above {TOLERANCE:g}); the distance shown is "
        "that of the midpoint, which always collides: nothing nearer was found, and no robustness is shown."
    )
