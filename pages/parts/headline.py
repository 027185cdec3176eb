"""What an audit says in one sentence for each reading, and only where the intervals carry it. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from robustness_core.optimal_loss.statistics import LEAST_TO_NAME, Interval, LeftOut, over_images, paired, student


def projected(names: Sequence[str], halves: Sequence[Sequence[float]], m: int) -> str:
    """The largest change of ε½ between neighbouring layers, if one is certain.

    names: the input first, then the layers in order. halves: for each its ε½ through m mixtures, one a seed, the same
    seeds for all.
    """
    N, count = len(halves[0]), len(names) - 1
    if N < LEAST_TO_NAME:
        return (
            f"Through m = {m} random mixtures: with N = {N} no change between layers is named; N ≥ {LEAST_TO_NAME} "
            "projections are needed."
        )
    changes = [paired(before, after, comparisons=count) for before, after in pairwise(halves)]
    certain = [place for place, change in enumerate(changes) if change.decided]
    if not certain:
        return (
            f"Through m = {m} random mixtures: no change between neighbouring layers stands out from the scatter of "
            f"N = {N} projections."
        )
    place = max(certain, key=lambda place: abs(changes[place].value))
    before, after = names[place], names[place + 1]
    compared = f"the layer before it, {before}, {_about(student(halves[place]))}"
    if place == 0:
        compared = f"the input, through the same m, {_about(student(halves[0]))}"
    else:
        compared += f", the input, through the same m, {_about(student(halves[0]))}"
    change = changes[place]
    return (
        f"Seen through m = {m} random mixtures, {after} needs ε½ = {_about(student(halves[place + 1]))}, {compared}. "
        f"Of the changes between neighbours this is the largest that is certain, {change.value:+.2f} "
        f"({change.low:+.2f} to {change.high:+.2f}; N = {N}, 95 % for all {count} together). Larger means easier to "
        "use robustly; it is not information kept or lost."
    )


def unprojected(names: Sequence[str], losses: Sequence[LeftOut], epsilon: float) -> str:
    """What no classifier on the last layer can undo at a budget, and the layer where it rises most, if one is certain.

    names: the input first, then the layers in order. losses: the optimal cross-entropy of each.
    """
    rise = over_images(losses[-1] - losses[0])
    if not rise.decided or rise.value < 0:
        return (
            f"Without projection: what no classifier on {names[-1]} can undo at ε = {epsilon:g} does not stand out, on "
            "this sample, from what none on the images themselves can."
        )
    said = (
        f"What no classifier on {names[-1]} can undo at ε = {epsilon:g}: at least L* = "
        f"{_about(over_images(losses[-1]))} nats, against {_about(over_images(losses[0]))} on the input."
    )
    steps = [over_images(after - before, comparisons=len(names) - 1) for before, after in pairwise(losses)]
    certain = [place for place, step in enumerate(steps) if step.decided and step.value > 0]
    if certain and len(names) > 2:
        place = max(certain, key=lambda place: steps[place].value)
        step = steps[place]
        bounds = "" if place == 0 else ", a difference of two lower bounds"
        said += (
            f" It grows most at {names[place + 1]}, by {step.value:.2f} ({step.low:.2f} to {step.high:.2f}{bounds})."
        )
    return said


def head(
    network_errs: LeftOut, none_errs_less: LeftOut, epsilon: float, images: int, attack: str, *, box: bool = False
) -> str:
    """What the head costs beside its logits: the network's error under attack against the optimal 0-1 loss.

    Both are shares in [0, 1] of the same images, and without each of them. `attack`: whose norms decide the first.
    `box`: whether the question keeps images valid.
    """
    cost = over_images(network_errs - none_errs_less)
    said = (
        f"On the same {images} images at ε = {epsilon:g} the network errs on at least {network_errs.value:.1%} "
        f"({attack}); no classifier on its logits can err on less than {none_errs_less.value:.1%}; "
    )
    if cost.decided and cost.value > 0:
        said += f"the head costs about {cost.value:.1%} ({cost.low:.1%} to {cost.high:.1%}). "
    else:
        said += "that does not decide what the head costs. "
    return (
        said if box else said + "Attacks stay within the pixel range, the collisions behind the second number need not."
    )


def _about(interval: Interval) -> str:
    """`1.59 (1.41 to 1.77)`, without the interval where there is none or it has no width."""
    if not math.isfinite(interval.value):
        return "∞"
    if not interval.known or interval.low == interval.high:
        return f"{interval.value:.2f}"
    return f"{interval.value:.2f} ({max(interval.low, 0.0):.2f} to {interval.high:.2f})"
