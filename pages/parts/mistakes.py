"""Images on which a network errs without any attack, as far as its card or the store knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from pages.parts import data, references
from robustness_core.spec import AuditSpec
from store import distances
from store.database import Database
from store.records import NetworkRecord


def find(db: Database, network: NetworkRecord, spec: AuditSpec, ids: Mapping[int, int]) -> tuple[int, ...]:
    """Their numbers among the images of a question's sample, in order; `ids` are those of its stored images by number.

    The card knows the first images of the usual sample, asked for the two classes; the store what the network says of
    the images of pairs whose collision was kept.
    """
    sample = data.sample(data.key(spec))
    by_card = references.wrong_without(network, spec)
    says = distances.predictions(db, network.id, list(ids.values()))
    wrong = set()
    for numbers, label in zip((sample.left.tolist(), sample.right.tolist()), spec.sample.classes, strict=True):
        for number in numbers:
            said = says.get(ids.get(number, -1))
            if number in by_card or (said is not None and int(np.argmax(said)) != label):
                wrong.add(number)
    return tuple(sorted(wrong))


def to_leave_out(network: NetworkRecord, spec: AuditSpec, mistakes: tuple[int, ...]) -> tuple[int, ...]:
    """What the question must leave out so that it asks about no image that is known to be misclassified.

    An image that is left out makes room for the next one, which the card may know to be misclassified as well.
    """
    by_card = references.wrong_without(network, spec)
    left_out = {*spec.sample.left_out, *mistakes}
    while True:
        sample = data.sample(data.key(spec.replace(left_out=tuple(sorted(left_out)))))
        more = by_card & {*sample.left.tolist(), *sample.right.tolist()}
        if not more:
            return tuple(sorted(left_out))
        left_out |= more


def mark(closest: pd.DataFrame, mistakes: Sequence[int]) -> None:
    """Add to a table of pairs, columns x and x′, which of the two is misclassified, if some of a sample are."""
    if not mistakes:
        return
    words_of = {(False, False): "", (True, False): "x", (False, True): "x′", (True, True): "both"}
    wrong = zip(closest["x"].isin(mistakes), closest["x′"].isin(mistakes), strict=True)
    closest.insert(3, "errs on", [words_of[bool(one), bool(other)] for one, other in wrong])
