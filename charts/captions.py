"""Captions that state what a figure draws, in a form that a paper can take over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def images_of(dataset: str, split: str, classes: tuple[int, int], samples: int, left_out: Sequence[int] = ()) -> str:
    """The images of a question: mnist (train), class 3 against 7, S = 20 images a class without image 1464."""
    numbers = ", ".join(str(number) for number in left_out)
    without = f" without image{'s' if len(left_out) > 1 else ''} {numbers}" if left_out else ""
    return f"{dataset} ({split}), class {classes[0]} against {classes[1]}, S = {samples} images a class{without}"


def dimensions_of(m: Sequence[int | None]) -> str:
    """The projection dimensions of a question: 1, 2, none (m ≥ nj)."""
    return ", ".join("none (m ≥ nj)" if value is None else str(value) for value in m)


def method_of(method: str, preset: str, version: int, seed: str) -> str:
    """How a question is answered: method balanced, preset default, version 2, seed 0."""
    return f"method {method}, preset {preset}, version {version}, seed {seed}"


def caption(
    *,
    network: str,
    dataset: str,
    split: str,
    classes: tuple[int, int],
    samples: int,
    layers: Sequence[str],
    features: Mapping[str, int],
    m: Sequence[int | None],
    projections: int,
    method: str,
    preset: str,
    version: int,
    seed: str,
    known: int,
    total: int,
    left_out: Sequence[int] = (),
    drawn: str = "mean; band from min to max",
) -> str:
    """One paragraph: n_j, m, N, S, classes, method with preset and version, seed, and how much is known.

    `drawn`: what the figure draws of several projections.
    """
    sizes = ", ".join(f"{layer} ({features[layer]:,})" if layer in features else layer for layer in layers)
    many = "1 projection" if projections == 1 else f"{projections} projections ({drawn})"
    seen = f"Projection dimension m: {dimensions_of(m)}; N = {many}; "
    if tuple(m) == (None,):
        seen = "No projection, all features of a layer (m ≥ nj); "
    text = (
        f"Optimal loss of {network} on {images_of(dataset, split, classes, samples, left_out)}, all S² pairs. "
        f"Layers with their features nj: {sizes}. "
        f"{seen}{method_of(method, preset, version, seed)}. "
        "Distances are of collisions that were found, so every curve is a lower bound of the optimal loss. "
        "The images that collide may leave the pixel range [0, 1]; PGD and FAB stay inside."
    )
    if known < total:
        text += f" {known:,} of {total:,} pairs are known; an unknown pair counts as no edge, which keeps the bound."
        if projections > 1:
            text += (
                " Means are over the projections of which every pair is known; while there is none, over all of which "
                "some are."
            )
    return text
