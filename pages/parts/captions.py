"""The caption of a question's figures, as papers need it."""

from __future__ import annotations

from charts import captions
from pages.parts.known import Answer
from store.records import NetworkRecord


def of_question(answer: Answer, network: NetworkRecord, *, drawn: str = "mean; band from min to max") -> str:
    """What is drawn, of which network, with which settings, and how much of it is known.

    `drawn`: what the figure draws of several projections.
    """
    spec = answer.spec
    return captions.caption(
        network=spec.network,
        dataset=spec.dataset,
        split=spec.split,
        classes=spec.classes,
        samples=spec.samples,
        layers=spec.layers,
        features=network.features,
        m=spec.m,
        projections=spec.projections,
        method=spec.method,
        preset=spec.preset,
        version=next(iter(answer.groups.values()))[0].spec.method_version,
        seed=spec.seed,
        known=answer.known,
        total=answer.total,
        drawn=drawn,
    )
