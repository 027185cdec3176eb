"""What curves rest on, in words and numbers: pairs that were left out, pairs searched again, the search gap."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pages.parts import known
from robustness_core.found import LOW, Gap

Floats = NDArray[np.float64]


def sentences(answer: known.Answer) -> str:
    """What the curves of an answer rest on, after a space; nothing where nothing was measured."""
    said = [_left_out(answer), _gaps(answer), _again(answer)]
    return "".join(f" {sentence}" for sentence in said if sentence)


def gap(group: Sequence[known.Projection]) -> Gap | None:
    """The search gap of a layer: the mean over all pairs that were compared, and the largest 90 % quantile."""
    gaps = [one.finding.gap for one in group if one.finding is not None and one.finding.gap is not None]
    pairs = sum(one.pairs for one in gaps)
    if not pairs:
        return None
    return Gap(pairs, sum(one.pairs * one.mean for one in gaps) / pairs, max(one.q90 for one in gaps))


def upper(answer: known.Answer, group: Sequence[known.Projection]) -> Floats | None:
    """Where the curve of a layer could lie (E,): the mean over its projections of the loss if every distance were
    shorter by the 90 % quantile of the search gap, and the pairs left out as near as their guesses' optimistic end.

    None where neither was measured.
    """
    settled = [one for one in group if one.finding is not None and one.missing == 0]
    measured = gap(group)
    if not settled or (measured is None and not any(one.left_out for one in settled)):
        return None
    shorter = 1.0 if measured is None else measured.q90
    epsilon = answer.spec.epsilon
    mean: Floats = np.mean([_upper(one, shorter, epsilon.values() * shorter) for one in settled], axis=0)
    return mean


def _upper(one: known.Projection, shorter: float, reached: Floats) -> Floats:
    """The loss at budgets that are longer by as much as distances are shorter."""
    loss = known.loss_at(one.graph, reached)
    if one.left_out and one.finding is not None and one.finding.budgets:
        # Between two budgets of the finding the loss is at most that at the next; the first is the least distance.
        at = np.searchsorted(one.finding.budgets, reached).clip(max=len(one.finding.budgets) - 1)
        rise = np.where(reached < one.finding.budgets[0], 0.0, np.array(one.finding.optimistic)[at])
        loss = np.maximum(loss, rise)
    return loss


def _left_out(answer: known.Answer) -> str:
    if not answer.left_out or answer.missing:
        return ""
    settled = [one for group in answer.groups.values() for one in group if one.left_out]
    most = max(_rise(one) for one in settled)
    searched = 100 * answer.known / answer.total
    return (
        f"{answer.known:,} of {answer.total:,} pairs ({searched:.0f} %) were searched. The others count as no edge, so "
        "every curve stays a lower bound; by a guess from the images and from what was found they would not change it. "
        f"If each were {LOW:g} standard deviations nearer than guessed, a curve would rise by {most:.3f} nats at most."
    )


def _rise(one: known.Projection) -> float:
    assert one.finding is not None
    budgets = np.array(one.finding.budgets)
    if not len(budgets):
        return 0.0
    return float((np.array(one.finding.optimistic) - known.loss_at(one.graph, budgets)).max())


def _gaps(answer: known.Answer) -> str:
    gaps = {layer: found for (layer, _), group in answer.groups.items() if (found := gap(group)) is not None}
    searched = {layer: found for layer, found in gaps.items() if found.q90 > 1 or found.mean > 1}
    if not gaps:
        return ""
    if not searched:
        return "Search gap: none was seen on the pairs compared."
    worst = max(searched, key=lambda layer: searched[layer].mean)
    pairs = sum(found.pairs for found in searched.values())
    return (
        f"Search gap, on {pairs} random pairs: distance over the nearest of several searches, in the mean "
        f"{min(g.mean for g in gaps.values()):.3f} to {searched[worst].mean:.3f} by layer ({worst} the largest; its "
        f"90 % quantile {searched[worst].q90:.3f}). Nobody knows what is nearer still."
    )


def _again(answer: known.Answer) -> str:
    findings = [one.finding for group in answer.groups.values() for one in group if one.finding is not None]
    again, nearer = (sum(getattr(one, name) for one in findings) for name in ("again", "nearer"))
    if not again:
        return ""
    return f"{again:,} pairs lay far above the guess and were searched again, {nearer:,} with a nearer collision."
