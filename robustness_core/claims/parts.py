"""What the rows of all themes share: a number made of layers and networks, with its audits and what is lacking."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from robustness_core import datasets
from robustness_core.claims.claim import Part
from robustness_core.claims.evidence import ENOUGH, Evidence, command
from robustness_core.claims.resampling import Estimate, estimate
from robustness_core.found import Floats
from robustness_core.spec import AuditSpec

BASELINES = ("mnist-medium-pgd2", "cifar10-medium-pgd0.5")  # Figures 8 and 9
ABOVE_0, BELOW_0 = (0.0, math.inf), (-math.inf, 0.0)


def halves(
    evidence: Evidence,
    name: str,
    function: Callable[..., Floats],
    asked: Mapping[str, Sequence[str]],
    m: int | None = 10,
    **named: Any,
) -> Part:
    """A number made of the ε½ of layers: all of the first network's, then of the next; `named` as in Evidence.find."""
    wanted = tuple(usual(evidence, network, layers, m, **named) for network, layers in asked.items())
    audits = evidence.together(asked, m=(m,), **named)
    if not audits or not all(asked.values()):
        return Part(name, None, wanted=wanted)
    measured = [
        evidence.half(audit, layer, m) for audit, layers in zip(audits, asked.values(), strict=True) for layer in layers
    ]
    found = estimate(function, *measured)
    return Part(name, found, tuple(audits), wanted=() if found.known else wanted)


def usual(
    evidence: Evidence,
    network: str,
    layers: Sequence[str],
    *m: int | None,
    classes: tuple[int, ...] = (3, 7),
    seed: int | None = 0,
    size: int | None = None,
    projections: int = ENOUGH,
    **_: Any,
) -> str:
    """The command line of an audit that would answer."""
    shape = evidence.cards[network]["input_shape"] if network in evidence.cards else (1, 28, 28)
    dataset = datasets.fitting(shape)[0].name  # the bundled one
    return command(
        AuditSpec.of(
            network, dataset=dataset, classes=classes, samples=size or 20, seed=seed or 0, projection_seed=0,
            layers=tuple(layers) or ("conv1",), m=m, projections=projections, pairs="needed",
        )
    )  # fmt: skip


def of_cards(evidence: Evidence, name: str, value: float, error: float, images: int, cards: Sequence[str]) -> Part:
    """A number of cards, whose images are so many that Student's interval is that of the normal distribution."""
    found = Estimate(value, ((error**2, math.inf),), 0, images, f"{images:,} test images")
    return Part(name, found, cards=tuple(cards), commands=measured_by(evidence, cards))


def measured_by(evidence: Evidence, cards: Sequence[str]) -> tuple[str, ...]:
    """The command lines that measured what stands on these cards."""
    return tuple(evidence.cards[name]["evaluation"]["command"] for name in cards)
