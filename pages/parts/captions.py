"""The caption of a question's figures, as papers need it."""

from __future__ import annotations

from collections.abc import Sequence

from charts import captions
from pages.parts import words
from pages.parts.known import Answer
from pages.parts.reading import Reading
from store.records import NetworkRecord


def of_question(answer: Answer, network: NetworkRecord, *, drawn: str = "mean; band from min to max") -> str:
    """What is drawn, of which network, with which settings, and how much of it is known.

    `drawn`: what the figure draws of several projections.
    """
    spec = answer.spec
    caption = captions.caption(
        network=spec.network,
        dataset=spec.sample.dataset,
        split=spec.sample.split,
        classes=spec.sample.classes,
        samples=spec.sample.size,
        left_out=spec.sample.left_out,
        layers=spec.search.layers,
        features=network.features,
        m=spec.search.m,
        projections=_projections(answer),
        method=spec.search.method,
        preset=spec.search.preset,
        version=_version(answer),
        seed=spec.seeds,
        known=answer.known,
        total=answer.total,
        drawn=drawn,
    )
    return caption + doubts([network])


def doubts(networks: Sequence[NetworkRecord]) -> str:
    """A sentence, after a space, for each network whose normalisation is not settled: its figures rest on it."""
    return "".join(
        f" The normalisation of {network.name} ({words.normalisation(network)}) is not settled: {doubt}; with another "
        "it is another function, with other distances."
        for network in networks
        if (doubt := words.normalisation_doubt(network))
    )


def band_of(one: Reading) -> str:
    """What the figure draws of the projections of a reading."""
    most = max(len(curve.averaged) for curve in one.curves)
    if most < 2:
        return "mean"
    if most == 2:
        return f"mean; the band is from one to the other, and holds the mean of all half of the time{search_error(one)}"
    return f"mean; band: Student's 95 % interval of it{search_error(one)}"


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
    return said + search_error(one)


def search_error(one: Reading) -> str:
    """Of which layers the spread is no randomness: with m ≥ nj every projection asks for the same number."""
    names = [curve.layer for curve in one.curves if one.m is not None and curve.features <= one.m]
    many = any(len(curve.averaged) > 1 for curve in one.curves)
    return (
        f"; at {', '.join(names)} (m ≥ nj) the spread is the search's error, nothing is random"
        if names and many
        else ""
    )


def settings(answer: Answer) -> str:
    """On which images and how a question is answered, in short, for a caption of several networks."""
    spec = answer.spec
    images = captions.images_of(
        spec.sample.dataset, spec.sample.split, spec.sample.classes, spec.sample.size, spec.sample.left_out
    )
    method = captions.method_of(spec.search.method, spec.search.preset, _version(answer), spec.seeds)
    return f"{images}; m = {captions.dimensions_of(spec.search.m)}; N = {_projections(answer)}; {method}"


def in_short(answer: Answer, network: NetworkRecord) -> str:
    """Of which network and layers a figure is, and its settings, for a figure that stands below the first."""
    layers = ", ".join(f"{layer} (nj = {network.features[layer]:,})" for layer in answer.spec.search.layers)
    doubt = "; its normalisation is not settled" if words.normalisation_doubt(network) else ""
    return f"{layers} of {network.name}; {settings(answer)}{doubt}"


def _projections(answer: Answer) -> int:
    """How many there are of a layer: one without projection, whatever was asked."""
    return max(len(group) for group in answer.groups.values())


def _version(answer: Answer) -> int:
    return next(iter(answer.groups.values()))[0].spec.method_version
