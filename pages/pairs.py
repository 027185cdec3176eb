"""Pairs: two images through a whole network: where they collide at every layer, and at which distance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from charts import pairs as charts
from charts import style
from charts.captions import Caption, images_of, method_of, range_of
from pages.parts import captions, data, export, mistakes, pair, question, references, screen, take_away, words
from robustness_core import datasets
from robustness_core.spec import AuditSpec, SeriesSpec
from store import distances, images
from store.database import Database
from store.records import NetworkRecord


@dataclass(frozen=True, eq=False)
class Asked:
    """The network, the sample from which pairs are taken, and the layer and projection whose order is followed."""

    network: NetworkRecord
    spec: AuditSpec
    layer: str
    number: int  # of the projection, from 1
    sample: data.Sample

    def series(self) -> list[SeriesSpec]:
        """The series of this projection at every layer, from input to output."""
        groups: dict[str, list[SeriesSpec]] = {}
        for one in self.spec.search.series(self.network.sha256, self.network.features):
            groups.setdefault(one.layer, []).append(one)
        return [group[min(self.number, len(group)) - 1] for group in groups.values()]


def main() -> None:
    db, available = screen.begin_with_networks("Pairs")
    left, right = st.columns([1, 2.8], gap="large")
    with left:
        asked = _ask(available)
        if asked is not None:
            closest = _closest(db, asked)
            chosen = _chosen(asked, closest)
            _choose_images(asked, chosen)
            if len(closest):
                pair.table(closest, 320)
    with right:
        if asked is None:
            st.info("The question cannot be asked as it stands; the reason is beside the settings.")
            return
        pair.say_if_strange(asked.sample.left.tolist(), asked.sample.right.tolist())
        if chosen is None:
            _say_nothing_known(asked)
        else:
            _show(db, asked, closest, *chosen)


def _ask(available: list[NetworkRecord]) -> Asked | None:
    network = question.choose_network(available)
    main_layers = [layer.name for layer in network.layers if layer.main]
    layer = question.choose_layer(network, "layer", main_layers[-1])
    form = question.Form(network.input_shape, budgets=False)
    layers = tuple(one.name for one in network.layers if one.name in (*main_layers, layer))
    spec = form.spec(network, layers)
    if (
        spec is None or layer not in spec.search.layers
    ):  # a layer that is smaller than m is left out, which the form says
        return None
    numbers = list(range(1, (1 if spec.search.m[0] is None else spec.search.projections) + 1))
    question.forget("projection", numbers)
    number = st.selectbox("Projection", numbers, key="projection", bind=question.BOUND) if len(numbers) > 1 else 1
    sample = data.sample(data.key(spec))
    return Asked(network, spec, layer, int(number), sample)


def _closest(db: Database, asked: Asked) -> pd.DataFrame:
    """The closest known pairs of the sample at the chosen layer."""
    spec, sample = asked.spec, asked.sample
    series = distances.find(db, asked.series()[asked.spec.search.layers.index(asked.layer)])
    both = [*sample.left.tolist(), *sample.right.tolist()]
    ids = images.ids(db, spec.sample.dataset, spec.sample.split, both)
    places = {image_id: place for place, image_id in ids.items()}
    left, right = ([ids[i] for i in side.tolist() if i in ids] for side in (sample.left, sample.right))
    pairs, found = distances.closest(db, -1 if series is None else series.id, left, right, pair.LISTED)
    closest = pd.DataFrame(
        {
            "x": [places[one] for one, _ in pairs],
            "x′": [places[other] for _, other in pairs],
            "distance": found.distance.round(4),
            "collided": found.collided,
        }
    )
    mistakes.mark(closest, mistakes.find(db, asked.network, spec, ids))
    return closest


def _choose_images(asked: Asked, now: tuple[int, int] | None) -> None:
    """The two images by their numbers in the data set; a change goes into the address."""
    left, right = asked.sample.left.tolist(), asked.sample.right.tolist()

    def changed() -> None:
        first, second = st.session_state["image_x"], st.session_state["image_other"]
        if first is not None and second is not None:
            pair.go(first, second)

    for key, options, place in (("image_x", left, 0), ("image_other", right, 1)):
        st.session_state[key] = None if now is None else now[place]
        title = "Image x" if place == 0 else "Image x′"
        st.selectbox(title, sorted(options), key=key, index=None, placeholder="number", on_change=changed)


def _chosen(asked: Asked, closest: pd.DataFrame) -> tuple[int, int] | None:
    """The pair of the address, else the closest one; None if none is known."""
    nearest = (int(closest["x"].iloc[0]), int(closest["x′"].iloc[0])) if len(closest) else None
    return pair.in_address(asked.sample.left.tolist(), asked.sample.right.tolist()) or nearest


def _say_nothing_known(asked: Asked) -> None:
    st.info(
        f"No distance at {screen.escape(asked.layer)} is known yet. Name two images among the settings, and the worker "
        "computes that one pair; or ask for all pairs in Explore."
    )
    with st.container(horizontal=True):
        words.link_to_explore("Explore →", words.address(asked.spec))
        screen.link_button({"network": asked.network.name, "layer": asked.layer})


def _show(db: Database, asked: Asked, closest: pd.DataFrame, left: int, right: int) -> None:
    spec = asked.spec
    first, second = (datasets.class_name(spec.sample.dataset, label) for label in spec.sample.classes)
    st.subheader(f"The pair {left} ({first}) and {right} ({second})", anchor=False)
    pair.steps(closest, left, right)
    chosen = [pair.Chosen(series, spec.sample.dataset, spec.sample.split, left, right) for series in asked.series()]
    there, lacking = pair.gather(db, chosen)
    pair.wait_for(db, sorted(chosen, key=lambda one: one.series.layer != asked.layer), lacking)  # its own layer first
    if there:
        factor = _draw(asked, there)
        _take_away(asked, there, lacking, factor)


def _by_layer(asked: Asked, there: list[pair.Kept], *, dark: bool = False) -> go.Figure:
    return charts.distance_by_layer(
        [kept.chosen.series.layer for kept in there],
        [kept.distance for kept in there],
        style.layer_colours([layer.name for layer in asked.network.layers], dark),
        half_apart=pair.half_apart(there[0].chosen),
        chosen=asked.layer,
        norm=asked.spec.search.threat.symbol,
        dark=dark,
    )


def _draw(asked: Asked, there: list[pair.Kept]) -> float:
    """The pair at every layer; returns the factor by which differences are amplified."""
    figure = _by_layer(asked, there, dark=screen.dark())
    screen.show(figure, "pair_layers", "strata-pair", "Distance of this pair at each layer")
    captions.show(_caption(asked))
    factor = pair.show(there)
    _draw_norms(asked, there[0].chosen)
    said = pair.logits(there, asked.layer)
    if len(said):
        st.subheader("Logits", anchor=False)
        st.dataframe(said, hide_index=True, height="content", alt="Logits of the four images, a row a class")
        apart = float(np.abs(said["x̃"] - said["x̃′"]).max())
        m = asked.spec.search.m[0]
        if m is None or m >= asked.network.features[asked.layer]:
            why = "They meet up to the residual: no feature of this layer is projected away, nor what follows from it."
        else:
            why = "They need not be equal: only the projected features of this layer are."
        st.caption(f"At {screen.escape(asked.layer)}; those of x̃ and x̃′ differ by at most {apart:.3f}. {why}")
    return factor


def _draw_norms(asked: Asked, chosen: pair.Chosen) -> None:
    """What attacks found of each of the two images alone, if the card of the network states it of both."""
    found = references.of(asked.network, asked.spec)
    if found is None or not {chosen.left, chosen.right} <= set(found.numbers):
        return
    norms = {name: found.by_image(name) for name in found.attacks}
    best = {"best": found.least} if len(norms) > 1 else {}
    rows = [
        {"image": f"{sign}, {number}", **{name: by_image[number] for name, by_image in {**best, **norms}.items()}}
        for sign, number in (("x", chosen.left), ("x′", chosen.right))
    ]
    st.subheader("Each image alone", anchor=False)
    formats = dict.fromkeys([*best, *norms], "%.4f")
    st.dataframe(
        pd.DataFrame(rows).replace(np.inf, None),
        hide_index=True,
        placeholder="none found",
        column_config=screen.number_columns(formats),
        alt="Least norms at which attacks mislead the network on x and on x′",
    )
    captions.show(
        Caption(
            f"The least {asked.spec.search.threat.symbol} norm found that misleads the network; 0: it errs without.",
            f"Within the pixel range; the network is asked for these two classes only.{found.about}",
        )
    )


def _caption(asked: Asked) -> Caption:
    spec, series = asked.spec, asked.series()[0]
    m = (
        "no projection (m ≥ nj)"
        if spec.search.m[0] is None
        else f"m = {spec.search.m[0]}, projection seed {series.seed}"
    )
    return Caption(
        f"One pair through {asked.network.name}: the least budget found at which it collides, layer by layer."
        f"{captions.doubts([asked.network])}",
        f"{images_of(spec)}; {m}; {method_of(spec, series.method_version)}. "
        f"Each is an upper bound of the distance. {range_of(spec)}.",
    )


def _take_away(asked: Asked, there: list[pair.Kept], lacking: Sequence[pair.Chosen], factor: float) -> None:
    network, one = asked.network.name, there[0].chosen
    name = f"strata-pair-{one.left}-{one.right}"
    with st.container(horizontal=True, vertical_alignment="bottom"):
        about = "Distance of the pair by layer, with certificate and settings of each"
        take_away.download(
            "CSV",
            lambda: pair.by_layer(there, network, lacking).map(export.plain).to_csv(index=False),
            f"{name}.csv",
            about,
        )
        take_away.download(
            "JSON", lambda: pair.by_layer(there, network, lacking).to_json(orient="records"), f"{name}.json", about
        )
        take_away.download(
            "Images as .npz",
            lambda: pair.as_npz(there, network),
            f"{name}.npz",
            "All images as float32, all logits, settings",
        )
        take_away.download(
            "Images as .png",
            lambda: pair.as_png(there, factor),
            f"{name}.png",
            "All pictures on one sheet, differences amplified as on screen",
        )
        heading = f"Images {one.left} and {one.right} through {network}"
        take_away.for_papers(name, lambda: [(heading, _by_layer(asked, there))])
        screen.link_button({"network": network, "layer": asked.layer, "pair": f"{one.left}-{one.right}"})


main()
