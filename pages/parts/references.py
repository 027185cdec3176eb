"""Least perturbations by reference attacks, FAB, DDN and APGD-t, as the card of a network states them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pages.parts import data
from pages.parts.words import Line, line, part
from robustness_core.spec import AuditSpec
from robustness_core.spec.threat import NORMS
from store.records import NetworkRecord

Floats = NDArray[np.float64]
BEST: Final = "best attack loss"  # of several
_AS_BEST = 1e-3  # a norm that is longer than the least by at most this share of it is a least one, too


@dataclass(frozen=True, eq=False)
class Attack:
    """What one attack found. `norms`: (I,) of the images, 0 where the network errs without it, inf where it found none,
    else the norm of a verified adversarial example within the pixel range. `loss`: over budgets, along its direction.
    `settings`: in words, with the library and its version. `passes`: forward and backward ones an image.
    The last three are empty or None where the card does not state them."""

    norms: Floats
    loss: Line | None
    settings: str
    passes: float | None


@dataclass(frozen=True, eq=False)
class References:
    """The attacks of a card in one norm, by name, on the `numbers` (I,) of images, as many of either class.

    `best_loss`: over budgets the mean of the largest loss that any attack reaches on each image.
    `remark`: why they may say little, as a sentence; empty where nothing speaks against them.
    """

    numbers: tuple[int, ...]
    attacks: Mapping[str, Attack]
    best_loss: Line | None
    remark: str

    @property
    def names(self) -> str:
        """FAB, DDN and APGD-t."""
        *first, last = self.attacks
        return f"{', '.join(first)} and {last}" if first else last

    @property
    def best(self) -> str:
        """Whose norms the least are, in a few words: FAB where there is no other, best of FAB, DDN and APGD-t."""
        return self.names if len(self.attacks) == 1 else f"best of {self.names}"

    @property
    def least(self) -> dict[int, float]:
        """The least norm that any attack found, by the number of the image."""
        return dict(zip(self.numbers, self._least().tolist(), strict=True))

    def by_image(self, name: str) -> dict[int, float]:
        """The norm that one attack found, by the number of the image."""
        return dict(zip(self.numbers, self.attacks[name].norms.tolist(), strict=True))

    @property
    def losses(self) -> dict[str, Line]:
        """The lines over budgets as they are called: the best of several first, then each attack's."""
        best = {BEST: self.best_loss} if len(self.attacks) > 1 else {}
        lines = {**best, **{f"{name} loss": attack.loss for name, attack in self.attacks.items()}}
        return {name: line for name, line in lines.items() if line is not None}

    def gaps(self, name: str) -> list[str]:
        """How far the loss of `name`, one of `losses`, is below the best at each budget; for the best that of each."""
        if self.best_loss is None or len(self.attacks) == 1:
            return []
        best = self.best_loss[1]
        others = {one: best - attack.loss[1] for one, attack in self.attacks.items() if attack.loss is not None}
        shown = others if name == BEST else {one: gap for one, gap in others.items() if name == f"{one} loss"}
        return gap_words(shown, ".4f")

    @property
    def about(self) -> str:
        """Sentences, each after a space, on the settings of the attacks, and the remark."""
        each = [f"{name}: {attack.settings}." for name, attack in self.attacks.items() if attack.settings]
        if "APGD-t" in self.attacks:
            each.append("Of two classes APGD-t climbs the margin, for its own loss needs four.")
        return "".join(f" {sentence}" for sentence in (*each, self.remark) if sentence)

    def of_losses(self, name: str) -> str:
        """What the line of `name`, one of `losses`, is, in sentences."""
        which = f"along one direction of length ε an image, {name.removesuffix(' loss')}'s"
        if name == BEST:
            which = f"at each ε the largest along the directions of {self.names}, image by image"
        return (
            f"{name[0].upper()}{name[1:]}: cross-entropy of the network, asked for these two classes only, {which}, on "
            f"{len(self.numbers) // 2} fixed images a class; another attack of the same ε can reach more.{self.about}"
        )

    def table(self) -> pd.DataFrame:
        """A row an attack: median norm, mean gap to the least of all, how often it is the least, and its cost.

        Medians are over all images, gaps and shares over those that some attack misleads and the network does not
        get wrong without; gaps only where the attack found something.
        """
        least = self._least()
        attacked = (least > 0) & np.isfinite(least)
        rows: list[dict[str, object]] = []
        for name, attack in self.attacks.items():
            norms = attack.norms
            both = attacked & np.isfinite(norms)
            compared = len(self.attacks) > 1 and both.any()
            row: dict[str, object] = {"attack": name, "median norm": float(np.median(norms))}
            if compared:
                row["mean gap to the best"] = float((norms[both] / least[both] - 1).mean())
                row["is the best"] = float((norms[attacked] <= (1 + _AS_BEST) * least[attacked]).mean())
            rows.append(row | {"found none": int(np.isinf(norms).sum()), "passes an image": attack.passes})
        return pd.DataFrame(rows)

    def _least(self) -> Floats:
        least: Floats = np.min([attack.norms for attack in self.attacks.values()], axis=0)
        return least


def gap_words(gaps: Mapping[str, Floats], form: str) -> list[str]:
    """`below the best: FAB 0.0210, DDN 0.0030` at each budget, for gaps (E,) of each attack."""
    return [
        "below the best: " + ", ".join(f"{name} {max(gap, 0):{form}}" for name, gap in zip(gaps, at, strict=True))
        for at in zip(*gaps.values(), strict=True)
    ]


def of_card(network: NetworkRecord, norm: str) -> References | None:
    """What the card states in this norm; None if it states nothing, or in a form that is not known."""
    return _read(part(part(network.card, "evaluation"), "audited"), norm)


def of(network: NetworkRecord, spec: AuditSpec) -> References | None:
    """What the card states for images of the sample's order, in the norm of the question; None if it does not.

    It is of the first images of each class in that order, which may be more or fewer than the sample has.
    """
    return _read(_of_sample(network, spec), spec.search.threat.norm)


def wrong_without(network: NetworkRecord, spec: AuditSpec) -> set[int]:
    """The numbers of images of the sample's order on which the network errs without any attack, as the card knows."""
    found = (_read(_of_sample(network, spec), norm) for norm in NORMS)
    return {number for one in found if one for number, norm in one.least.items() if norm == 0}


def _read(measured: Mapping[str, Any], norm: str) -> References | None:
    stated = part(measured, norm)
    if not stated and norm == "l2":  # of before there were others, FAB in l2 stood alone
        fab = {"norms": measured.get("fab_norms"), "loss": measured.get("fab_loss")}
        stated = {"epsilon": measured.get("epsilon"), "attacks": {"FAB": fab}}
    try:
        numbers = tuple(int(number) for side in measured["indices"] for number in side)
        attacks = {name: _attack(one, stated.get("epsilon")) for name, one in part(stated, "attacks").items()}
    except (KeyError, TypeError, ValueError):
        return None
    if not attacks or any(len(attack.norms) != len(numbers) for attack in attacks.values()):
        return None
    best = line(stated.get("epsilon"), stated.get("best_loss"))
    return References(numbers, attacks, best, str(measured.get("remark", "")))


def _attack(stated: Mapping[str, Any], epsilon: object) -> Attack:
    norms = [np.inf if norm is None else float(norm) for side in stated["norms"] for norm in side]
    passes = stated.get("passes")
    return Attack(
        np.array(norms),
        line(epsilon, stated.get("loss")),
        str(stated.get("settings", "")),
        float(passes) if isinstance(passes, int | float) else None,
    )


def _of_sample(network: NetworkRecord, spec: AuditSpec) -> Mapping[str, Any]:
    """What the card has measured on the images of the sample's order; nothing if those of this machine are others."""
    measured = part(part(network.card, "evaluation"), "audited")
    asked = {
        "dataset": spec.sample.dataset,
        "split": spec.sample.split,
        "classes": list(spec.sample.classes),
        "seed": spec.sample.seed,
    }
    indices = measured.get("indices")
    if {name: measured.get(name) for name in asked} != asked or not isinstance(indices, list) or len(indices) != 2:
        return {}
    sample = data.sample(data.key(spec.replace(left_out=())))
    for has, wanted in zip(indices, (sample.left.tolist(), sample.right.tolist()), strict=True):
        both = min(len(has), len(wanted))
        if both == 0 or has[:both] != wanted[:both]:
            return {}
    return measured
