"""Images on which a network errs without any attack, as far as its card or the store knows."""

from __future__ import annotations

import numpy as np

from pages.parts import data, known, words
from robustness_core.spec import AuditSpec
from store import distances
from store.database import Database
from store.records import NetworkRecord


def find(db: Database, network: NetworkRecord, answer: known.Answer) -> tuple[int, ...]:
    """Their numbers among the images of an answer, in order.

    The card knows the first images of the usual sample, asked for the two classes; the store what the network says of
    the images of pairs whose collision was kept.
    """
    sample, classes = answer.sample, answer.spec.classes
    by_image = words.fab_by_image(network, answer.spec)
    wrong = {number for number in (*sample.left.tolist(), *sample.right.tolist()) if by_image.get(number) == 0}
    says = distances.predictions(db, network.id, [*answer.left_ids.tolist(), *answer.right_ids.tolist()])
    for numbers, ids, label in zip(
        (sample.left, sample.right), (answer.left_ids, answer.right_ids), classes, strict=True
    ):
        wrong |= {
            number
            for number, image_id in zip(numbers.tolist(), ids.tolist(), strict=True)
            if image_id in says and int(np.argmax(says[image_id])) != label
        }
    return tuple(sorted(wrong))


def to_leave_out(network: NetworkRecord, spec: AuditSpec, mistakes: tuple[int, ...]) -> tuple[int, ...]:
    """What the question must leave out so that it asks about no image that is known to be misclassified.

    An image that is left out makes room for the next one, which the card may know to be misclassified as well.
    """
    by_image = words.fab_by_image(network, spec)
    left_out = {*spec.left_out, *mistakes}
    while True:
        sample = data.sample(data.key(spec.replace(left_out=tuple(sorted(left_out)))))
        more = {number for number in (*sample.left.tolist(), *sample.right.tolist()) if by_image.get(number) == 0}
        if not more:
            return tuple(sorted(left_out))
        left_out |= more


def of_pair(mistakes: tuple[int, ...], left: int, right: int) -> str:
    """Which image of a pair is misclassified: x, x′, both, or nothing."""
    named = [name for name, number in (("x", left), ("x′", right)) if number in mistakes]
    return "both" if len(named) == 2 else "".join(named)
