"""Claims on architectures and trainings (paper, sections 6.4 to 6.6)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from robustness_core.claims.claim import Claim, Part
from robustness_core.claims.evidence import Evidence
from robustness_core.claims.parts import ABOVE_0, BELOW_0, halves, of_cards
from robustness_core.found import Floats

SMALL = (("mnist-small-pgd2", "mnist-medium-pgd2"),)  # the paper's small network is one for digits
ROBUST = (*SMALL, ("cifar10-small-pgd0.5", "cifar10-medium-pgd0.5"))
TRADES = (("mnist-medium-trades2", "mnist-medium-pgd2"), ("cifar10-medium-trades0.5", "cifar10-medium-pgd0.5"))
BENIGN = (
    ("mnist-medium-benign", "mnist-medium-pgd2"),
    ("mnist-small-benign", "mnist-small-pgd2"),
    ("cifar10-medium-benign", "cifar10-medium-pgd0.5"),
)
FULLY_CONNECTED = ("fc1", "fc2", "logits")


def _difference(one: Floats, other: Floats) -> Floats:
    return one - other


def _logarithm(one: Floats, other: Floats) -> Floats:
    return np.log(one / other)


def _between(pairs: Sequence[tuple[str, str]], layer: str, function: Any = _difference) -> Any:
    """The layer of one network beside that of another, for each of the pairs."""

    def parts(evidence: Evidence) -> list[Part]:
        return [
            halves(evidence, f"{one} beside {other}: {layer}", function, {one: [layer], other: [layer]})
            for one, other in pairs
        ]

    return parts


def _separated(evidence: Evidence) -> list[Part]:
    def gap(*layers: Floats) -> Floats:
        one, two, three = layers
        return (np.abs(two - one) + np.abs(three - two)) / 2

    return [
        halves(
            evidence,
            f"{one} beside {other}: {', '.join(FULLY_CONNECTED)}",
            lambda *six: gap(*six[:3]) - gap(*six[3:]),
            {one: FULLY_CONNECTED, other: FULLY_CONNECTED},
        )
        for one, other in TRADES
    ]


def _inconsistent(evidence: Evidence) -> list[Part]:
    """Of two robust networks the one that is more robust at its logits and less at its first layer, as a number.

    The smaller of the two logarithms is above 0 where both are so.
    """

    def crossed(a1: Floats, a: Floats, b1: Floats, b: Floats) -> Floats:
        first, last = np.log(a1 / b1), np.log(a / b)
        return np.maximum(np.minimum(-first, last), np.minimum(first, -last))

    ends = ("conv1", "logits")
    return [
        halves(evidence, f"{one} beside {other}", crossed, {one: ends, other: ends})
        for one, other in (*ROBUST, *TRADES)
    ]


def _robust(card: Any) -> tuple[float, float, int]:
    """Accuracy under the strong PGD at the largest budget measured, its squared standard error, and its images."""
    robust = card["evaluation"]["robust"]
    share, images = robust["accuracy"][-1], robust["images"]
    return share, share * (1 - share) / images, images


def _more_accurate(evidence: Evidence) -> list[Part]:
    parts = []
    for one, other in TRADES:
        cards = [evidence.cards[name] for name in (one, other)]
        alike = len({card["images"] for card in cards}) == 1
        name = f"{one} beside {other}" + ("" if alike else ", trained on as many images")
        if not alike:
            parts.append(Part(name, None, wanted=tuple(card["command"] for card in cards)))
            continue
        (a, va, n), (b, vb, _) = (_robust(card) for card in cards)
        parts.append(of_cards(evidence, name, a - b, math.sqrt(va + vb), n, (one, other)))
    return parts


def _little(evidence: Evidence) -> list[Part]:
    parts = []
    for one, other in BENIGN:
        (a, va, n), (b, vb, _) = (_robust(evidence.cards[name]) for name in (one, other))
        error = a / b * math.sqrt(va / a**2 + vb / b**2)
        parts.append(of_cards(evidence, f"{one} beside {other}", a / b, error, n, (one, other)))
    return parts


CLAIMS = (
    Claim(
        "small-is-less-robust",
        "6.4, Figure 10",
        "The small network is less robust as a whole than the medium one.",
        "ε½ of its logits minus that of the medium network",
        "ε½ of its logits above that of the medium network",
        BELOW_0,
        _between(SMALL, "logits"),
        "compare",
        unit="ε",
    ),
    Claim(
        "small-has-a-better-first-layer",
        "6.4, Figure 10",
        "The small network's first layer is more robust than that of the medium one.",
        "ε½ of its first layer minus that of the medium network, m = 10",
        "ε½ of its first layer below that of the medium network",
        ABOVE_0,
        _between(SMALL, "conv1"),
        "compare",
        unit="ε",
    ),
    Claim(
        "small-has-a-similar-second-layer",
        "6.4, Figure 10",
        "The small network's second layer is about as robust as that of the medium one.",
        "log of ε½ of its second layer over that of the medium network, m = 10",
        "a difference of more than a tenth",
        (-0.1, 0.1),
        _between(SMALL, "conv2", _logarithm),
        "compare",
    ),
    Claim(
        "trades-falls-early",
        "6.5, Figures 14 and 15",
        "The curve of the first layer falls off a cliff at a lower budget after TRADES than after PGD.",
        "ε½ of the first layer after TRADES minus that after PGD, m = 10",
        "ε½ of the first layer higher after TRADES",
        BELOW_0,
        _between(TRADES, "conv1"),
        "compare",
        unit="ε",
    ),
    Claim(
        "trades-separates-the-last-layers",
        "6.5, Figures 14 and 15",
        "The curves of the fully connected layers lie farther apart after TRADES than after PGD.",
        "mean distance in ε½ between neighbours of fc1, fc2 and logits after TRADES minus that after PGD, m = 10",
        "neighbours nearer after TRADES",
        ABOVE_0,
        _separated,
        "compare",
        unit="ε",
    ),
    Claim(
        "trades-is-more-accurate",
        "6.5",
        "TRADES gives a higher accuracy under attack than PGD.",
        "accuracy under the strong PGD on the test images after TRADES minus that after PGD",
        "a lower accuracy after TRADES",
        ABOVE_0,
        _more_accurate,
        "networks",
    ),
    Claim(
        "benign-is-hardly-robust",
        "6.5",
        "Benign training gives very little robustness: less than half of what training by PGD gives.",
        "accuracy under the strong PGD at the usual ε on the test images after benign training over that after PGD",
        "half of the accuracy after PGD, or more",
        (0.0, 0.5),
        _little,
        "networks",
    ),
    Claim(
        "first-layers-are-inconsistent",
        "6.6",
        "Of two robust networks, the more robust one does not always have the more robust first layer.",
        "the smaller of the two differences in log ε½, of logits and of first layers, where they are of opposite sign",
        "in no pair of networks the two are of opposite sign",
        ABOVE_0,
        _inconsistent,
        "compare",
        needs="any",
    ),
)
