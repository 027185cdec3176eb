"""The caption of a question's figures, as papers need it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import streamlit as st

from charts import captions
from charts.captions import Caption
from charts.curves import Curve
from pages.parts import resting, screen, words
from pages.parts.known import Answer
from pages.parts.reading import Reading
from store.records import NetworkRecord


def show(caption: Caption) -> None:
    """A caption below its figure: its first lines, and the rest for whoever unfolds it."""
    st.caption(screen.escape(caption.first))
    if caption.more:
        with st.expander("Settings and how to read it", type="compact"):
            st.caption(screen.escape(caption.more))


def of_question(answer: Answer, curves: Sequence[Curve], network: NetworkRecord, *, drawn: str) -> Caption:
    """What is drawn, of which network, with which settings, and how much of it is known.

    `drawn`: what the figure draws of several projections.
    """
    doubt = f" ({open_})" if (open_ := words.not_settled(network)) else ""
    caption = captions.caption(answer.spec, curves, _version(answer), drawn=drawn, doubt=doubt)
    return Caption(caption.first + doubts([network]), caption.more + unverified(answer) + resting.sentences(answer))


def unverified(answer: Answer) -> str:
    """A sentence, after a space, on layers where the search failed for a part of the pairs."""
    shares: dict[str, float] = {}
    for (layer, _), group in answer.groups.items():
        found = np.concatenate([one.matrix.collided[one.matrix.known] for one in group])
        if len(found):
            shares[layer] = max(shares.get(layer, 0.0), 1.0 - float(found.mean()))
    said = ", ".join(f"{layer} ({share:.0%})" for layer, share in shares.items() if share >= 0.005)
    if not said:
        return ""
    return f" Pairs without a verified collision stand at their midpoints, which shows no robustness: {said}."


def doubts(networks: Sequence[NetworkRecord]) -> str:
    """A sentence, after a space, for each network of which something is not settled: its figures rest on it.

    And for each at whose layers gradients vanish.
    """
    read = "".join(
        f" The gradient of {network.name} vanishes at {flat}: a search finds nothing near there, which says nothing of "
        "robustness."
        for network in networks
        if (flat := words.vanishing(network))
    )
    read += "".join(
        f" The architecture of {network.name} is not settled: {doubt}; as another it has other distances"
        f"{f' ({rival})' if (rival := words.rival(network)) else ''}."
        for network in networks
        if (doubt := words.architecture_doubt(network))
    )
    return read + "".join(
        f" The normalisation of {network.name} ({words.normalisation(network)}) is not settled: {doubt}; with another "
        "it is another function, with other distances."
        for network in networks
        if (doubt := words.normalisation_doubt(network))
    )


def in_doubt(network: NetworkRecord) -> str:
    """The same in a few words, for a figure that stands below one which says it in full."""
    return f" {open_.capitalize()}." if (open_ := words.not_settled(network)) else ""


def band_of(one: Reading) -> str:
    """What the figure draws of the projections of a reading."""
    most = max(len(curve.averaged) for curve in one.curves)
    if most < 2:
        return "mean"
    if most == 2:
        return "mean; the band is from one to the other, and holds the mean of all half of the time"
    return "mean; band: Student's 95 % interval of it"


def whiskers_of(one: Reading, *, half: bool) -> str:
    """What the whiskers of a reading's bars are, of ε½ if `half`, else of the loss; and what their spread is."""
    most = max(len(curve.averaged) for curve in one.curves)
    if most < 2:
        return "; whiskers: 95 % interval over the images (jackknife)" if half and one.whole else ""
    said = "; mean over projections"
    if most > 2 or half:
        said += ", whiskers: Student's 95 % interval"
    else:
        said += ", whiskers from one to the other"
    return said


def one_serves_all(one: Reading) -> str:
    """A sentence, after a space, on layers of which one projection says what all would: m = nj, so A is invertible."""
    names = [curve.layer for curve in one.curves if one.m is not None and curve.features <= one.m]
    many = any(len(curve.averaged) > 1 for curve in one.curves)
    return f" At {', '.join(names)} (m = nj) one projection says what all would." if names and many else ""


def settings(answer: Answer) -> str:
    """On which images and how a question is answered, in short, for a caption of several networks."""
    spec = answer.spec
    projections = max(len(group) for group in answer.groups.values())  # one without projection, whatever was asked
    method = captions.method_of(spec, _version(answer))
    return f"{captions.images_of(spec)}; m = {captions.dimensions_of(spec)}; N = {projections}; {method}"


def in_short(answer: Answer, network: NetworkRecord) -> str:
    """Of which network and layers a figure is, and its settings, for a figure that stands below the first."""
    layers = ", ".join(f"{layer} (nj = {network.features[layer]:,})" for layer in answer.spec.search.layers)
    doubt = f"; {open_}" if (open_ := words.not_settled(network)) else ""
    return f"{layers} of {network.name}; {settings(answer)}{doubt}"


def _version(answer: Answer) -> int:
    return next(iter(answer.groups.values()))[0].spec.method_version
