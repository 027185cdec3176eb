"""Captions that state what a figure draws, in a form that a paper can take over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


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
    seed: int,
    known: int,
    total: int,
    drawn: str = "mean; band from min to max",
) -> str:
    """One paragraph: n_j, m, N, S, classes, method with preset and version, seed, and how much is known.

    `drawn`: what the figure draws of several projections.
    """
    sizes = ", ".join(f"{layer} ({features[layer]:,})" if layer in features else layer for layer in layers)
    dimensions = ", ".join("none (m ≥ nj)" if value is None else str(value) for value in m)
    many = "1 projection" if projections == 1 else f"{projections} projections ({drawn})"
    text = (
        f"Optimal loss of {network} on {dataset} ({split}), class {classes[0]} against {classes[1]}, "
        f"S = {samples} images a class, all S² pairs. Layers with their features nj: {sizes}. "
        f"Projection dimension m: {dimensions}; N = {many}. "
        f"Method {method}, preset {preset}, version {version}; seed {seed}. "
        "Distances are of collisions that were found, so every curve is a lower bound of the optimal loss."
    )
    if known < total:
        text += f" {known:,} of {total:,} pairs are known; an unknown pair counts as no edge, which keeps the bound."
        if projections > 1:
            text += (
                " Means are over the projections of which every pair is known, or while there is none over all begun."
            )
    return text
