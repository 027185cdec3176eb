"""Norms of affine layers: which an audit lacks, and how they are kept."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence

import numpy as np

from robustness_core.engine.tasks import Answer, Failure, Norms
from store import Database, StoreError, spectra
from store.records import LayerRecord, NetworkRecord

log = logging.getLogger("worker")


def lacking(
    db: Database, network: NetworkRecord, layers: Collection[str], left_ids: Sequence[int], right_ids: Sequence[int]
) -> list[LayerRecord]:
    """The affine ones of `layers` whose norms, or whose lengths for these images, are not known."""
    affine = [layer for layer in network.layers if layer.affine and layer.name in layers]
    return [layer for layer in affine if not _known(db, network.id, layer.name, left_ids, right_ids)]


def _known(db: Database, network_id: int, layer: str, left_ids: Sequence[int], right_ids: Sequence[int]) -> bool:
    found = spectra.find(db, network_id, layer)
    return found is not None and not np.isnan(spectra.lengths(db, found.id, left_ids, right_ids)).any()


def keep(
    db: Database, network: NetworkRecord, layer: str, left_ids: Sequence[int], right_ids: Sequence[int], answer: Answer
) -> None:
    """Record an answer; where it is a Failure the log says why, for nothing but a guide line depends on it."""
    if not isinstance(answer, Norms):
        log.warning("layer=%s norms failed: %s", layer, answer.detail if isinstance(answer, Failure) else answer)
        return
    try:
        spectra.record(db, network.id, layer, answer, left_ids, right_ids)
    except StoreError as error:
        log.warning("layer=%s norms were not kept: %s", layer, error)
