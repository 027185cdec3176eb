"""Claims on the method itself: its loss beside FAB's, where its search starts, other samples (5, 6.1, Appendix C)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from robustness_core.claims.claim import Claim, Part
from robustness_core.claims.evidence import Audit, Evidence
from robustness_core.claims.parts import ABOVE_0, BASELINES, measured_by, usual
from robustness_core.claims.resampling import Estimate, Measured, estimate
from robustness_core.found import Floats
from robustness_core.optimal_loss import loss_curve
from robustness_core.optimal_loss.statistics import mean_distance_without_one

BASE = BASELINES[0]
OTHER_PAIR = (4, 9)
LARGE = 200  # images of each class, in Appendix C
STARTS = "python -m benchmarks.starts --out zoo/starts.json"


def _shared(*layers: Floats) -> Floats:
    """How much of the ups and downs of log ε½ over the layers two audits share: 1 all of them, 0 none."""
    half = len(layers) // 2
    one, other = (np.log(np.stack(part)) for part in (layers[:half], layers[half:]))
    one, other = one - one.mean(axis=0), other - other.mean(axis=0)
    return np.asarray(2 * (one * other).sum(axis=0) / ((one**2).sum(axis=0) + (other**2).sum(axis=0)))


def _same_shape(evidence: Evidence, name: str, audits: Sequence[Audit], wanted: str) -> Part:
    """How alike two audits are, layer by layer."""
    if len(audits) < 2:
        return Part(name, None, wanted=(wanted,))
    layers = evidence.layers(BASE)
    found = estimate(_shared, *(evidence.half(audit, layer) for audit in audits[:2] for layer in layers))
    return Part(name, found, tuple(audits[:2]), wanted=() if found.known else (wanted,))


def _other_pairs(evidence: Evidence) -> list[Part]:
    """Every pair of classes that is shipped but the usual one; OTHER_PAIR where there is none."""
    shipped = {one.spec.sample.classes for one in evidence.audits if one.network == BASE} - {(3, 7)}
    layers, parts = evidence.layers(BASE), []
    for classes in sorted(shipped) or [OTHER_PAIR]:
        audits = _beside(evidence, evidence.find(BASE, layers, classes=classes))
        name = f"{BASE}: {classes[0]} against {classes[1]} beside 3 against 7"
        parts.append(_same_shape(evidence, name, audits, usual(evidence, BASE, layers, 10, classes=classes)))
    return parts


def _other_samples(evidence: Evidence) -> list[Part]:
    """Every seed of the images that is shipped but the usual one; the next where there is none."""
    shipped = {one.spec.sample.seed for one in evidence.audits if one.network == BASE} - {0}
    layers, parts = evidence.layers(BASE), []
    for seed in sorted(shipped) or [1]:
        audits = _beside(evidence, evidence.find(BASE, layers, seed=seed))
        wanted = usual(evidence, BASE, layers, 10, seed=seed)
        parts.append(_same_shape(evidence, f"{BASE}: the images of seed {seed} beside those of seed 0", audits, wanted))
    return parts


def _beside(evidence: Evidence, found: Sequence[Audit]) -> list[Audit]:
    """The best of these with the usual audit of as many images."""
    for audit in found:
        usual_ones = evidence.find(BASE, evidence.layers(BASE), size=audit.spec.sample.size)
        if usual_ones:
            return [audit, usual_ones[0]]
    return []


def _larger(evidence: Evidence) -> list[Part]:
    """Layers at S = 200 beside the largest usual audit, each for itself."""
    parts = []
    layers = evidence.layers(BASE)
    usual_ones = [one for one in evidence.find(BASE, layers) if one.spec.sample.size < LARGE]
    for layer in layers:
        large = evidence.find(BASE, [layer], size=LARGE)
        if large and usual_ones:
            found = estimate(
                lambda one, other: np.log(one / other),
                evidence.half(large[0], layer),
                evidence.half(usual_ones[0], layer),
            )
            name = f"{BASE}: {layer}, S = {LARGE} beside {usual_ones[0].spec.sample.size}"
            parts.append(Part(name, found, (large[0], usual_ones[0])))
    wanted = usual(evidence, BASE, ["conv2", layers[-1]], 10, size=LARGE)
    return parts or [Part(f"{BASE}: S = {LARGE} beside fewer", None, wanted=(wanted,))]


def _fab(evidence: Evidence) -> list[tuple[str, Audit, Floats, Floats]]:
    """Networks whose logits are audited, with FAB's loss on the card and ours at the same budgets."""
    found = []
    for name, card in evidence.cards.items():
        epsilon, loss = _fab_loss(card.get("evaluation", {}).get("audited", {}))
        audits = evidence.find(name, evidence.layers(name)[-1:], whole=True)
        if loss is not None and audits:
            (distances, *_) = audits[0].matrices(evidence.layers(name)[-1], 10).values()
            found.append((name, audits[0], np.asarray(loss), loss_curve(distances, epsilon)))
    return found


def _fab_loss(audited: Mapping[str, Any]) -> tuple[Any, Any]:
    """Budgets and FAB's loss in ℓ2 as a card has them; cards of before there were other attacks had FAB's alone."""
    if "fab_loss" in audited:
        return audited["epsilon"], audited["fab_loss"]
    stated = audited.get("l2", {})
    return stated.get("epsilon"), stated.get("attacks", {}).get("FAB", {}).get("loss")


def _stays_above(evidence: Evidence) -> list[Part]:
    """Of the networks of Figure 5, where our loss is above 0; no interval: cards have FAB's as a mean over images."""
    found = {name: (audit, fab, ours) for name, audit, fab, ours in _fab(evidence)}
    parts = []
    for name in BASELINES:
        if name not in found:
            parts.append(Part(name, None, wanted=(f"python -m robustness_core evaluate zoo/{name}.safetensors",)))
            continue
        audit, fab, ours = found[name]
        least = float((fab - ours)[ours > 0].min())
        made = Estimate(least, ((math.nan, 0.0),), 0, audit.spec.sample.size)
        parts.append(Part(name, made, (audit,), (name,), commands=measured_by(evidence, (name,))))
    return parts


def _rises(evidence: Evidence) -> list[Part]:
    found = _fab(evidence)
    return [
        _over_networks(evidence, "at the largest ε", [math.log(fab[-1] / math.log(2)) for _, _, fab, _ in found], found)
    ]


def _over_networks(
    evidence: Evidence, name: str, values: Sequence[float], of: Sequence[tuple[str, Audit, Floats, Floats]]
) -> Part:
    """The mean over networks, which are the unit here: cards hold FAB's loss as a mean over images."""
    if len(values) < 2:
        return Part(f"{name}, mean over networks", None)
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    audits, cards = tuple(audit for _, audit, _, _ in of), tuple(network for network, *_ in of)
    made = Estimate(float(np.mean(values)), ((error**2, len(values) - 1),), 0, 0, f"{len(values)} networks")
    commands = measured_by(evidence, cards)
    return Part(f"{name}, mean over {len(values)} networks", made, audits, cards, commands)


def _starts(evidence: Evidence) -> list[Part]:
    if evidence.starts is None:
        return [Part(f"{BASE}: both starts", None, wanted=(STARTS,))]
    starts, parts = evidence.starts, []
    sides = (("left", *starts["indices"][0]), ("right", *starts["indices"][1]))
    for layer in dict.fromkeys(one["layer"] for one in starts["series"]):
        series = [one for one in starts["series"] if one["layer"] == layer]
        images, midpoint = (
            Measured(
                [mean_distance_without_one(one[start]) for one in series],
                tuple(one["seed"] for one in series),
                *sides,
                len(starts["indices"][0]),
            )
            for start in ("images", "midpoint")
        )
        found = estimate(lambda one, other: one / other, images, midpoint)
        parts.append(
            Part(f"{starts['network']}: {layer}", found, cards=(starts["network"],), commands=(starts["command"],))
        )
    return parts


CLAIMS = (
    Claim(
        "midpoint-is-the-better-start",
        "5",
        "Algorithm 1 ends much nearer, by a tenth or more, if it starts at the midpoint than at the images.",
        "mean distance from the images over mean distance from the midpoint, m = 10",
        "less than a tenth farther from the images",
        (1.1, math.inf),
        _starts,
        "pairs",
    ),
    Claim(
        "fab-stays-above",
        "6.1, Figure 5",
        "FAB's loss stays above the optimal loss at the logits at every budget.",
        "the smallest difference of the two losses over the budgets of the card at which the optimal loss is above 0",
        "a budget at which FAB's loss is lower",
        ABOVE_0,
        _stays_above,
        unit="nats",
    ),
    Claim(
        "fab-passes-log-2",
        "6.1, Figure 5",
        "FAB's loss rises past log 2, where the optimal loss of two classes ends.",
        "logarithm of FAB's loss at the largest budget of the card over log 2",
        "a loss that stays below log 2",
        ABOVE_0,
        _rises,
    ),
    Claim(
        "other-class-pairs-alike",
        "Appendix C",
        "Other pairs of classes give the same shapes.",
        "the share of the ups and downs of log ε½ over the layers that two audits have in common, m = 10",
        "less than nine tenths in common",
        (0.9, math.inf),
        _other_pairs,
        "compare",
    ),
    Claim(
        "other-samples-alike",
        "Appendix C",
        "Other samples of images give the same shapes.",
        "the share of the ups and downs of log ε½ over the layers that two audits have in common, m = 10",
        "less than nine tenths in common",
        (0.9, math.inf),
        _other_samples,
        "compare",
    ),
    Claim(
        "larger-samples-alike",
        "Appendix C",
        "S = 200 images of each class give the same curves.",
        "log of ε½ at S = 200 over that of fewer images, at each layer of which it is known, m = 10",
        "a difference of more than a tenth",
        (-0.1, 0.1),
        _larger,
        "compare",
    ),
)
