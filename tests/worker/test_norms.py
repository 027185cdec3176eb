"""Norms of affine layers: measured at the end of an audit that asks for one, once, and never in its way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from robustness_core import datasets
from robustness_core.engine.tasks import Distances, Failure, Machine, NetworkFile, Norms
from store import Database, audits, images, networks, spectra
from testing import fakes, search
from testing.fakes import Inline, sample
from testing.networks import task
from testing.world import audit
from worker import process


def _norms(inline: Inline) -> list[str]:
    return [task.series.layer for task in inline.tasks if task.kind == "norms"]


def test_an_audit_of_an_affine_layer_measures_its_norms_once(db: Database, inline: Inline) -> None:
    spec = audit(samples=3, layers=("conv1.pre", "conv1"))
    asked = audits.submit(db, spec)
    worker = fakes.worker(db, inline)
    worker.serve()
    assert audits.get(db, asked.id).state == "done"
    assert _norms(inline) == ["conv1.pre"]
    tiny = networks.by_name(db, "tiny")
    assert tiny is not None
    found = spectra.find(db, tiny.id, "conv1.pre")
    assert found is not None
    assert (found.frobenius, found.r4, found.exact) == (2.0, 50.0, True)
    left, right = sample(spec)
    ids = [_ids(db, side, spec.sample.dataset) for side in (left, right)]
    pixels = datasets.load(spec.sample.dataset).pixels.astype(float)
    sums = [[pixels[i].sum() + pixels[j].sum() for j in right] for i in left]
    np.testing.assert_array_equal(spectra.lengths(db, found.id, *ids), sums)
    audits.submit(db, spec.replace(m=(7,)))  # other distances, the same layer and images
    worker.serve()
    assert _norms(inline) == ["conv1.pre"]
    audits.submit(db, spec.replace(samples=4))
    worker.serve()
    assert _norms(inline) == ["conv1.pre", "conv1.pre"]


def _ids(db: Database, indices: np.ndarray, dataset: str) -> list[int]:
    known = images.ids(db, dataset, "train", indices.tolist())
    return [known[int(i)] for i in indices]


def test_an_audit_without_one_measures_none(db: Database, inline: Inline) -> None:
    audits.submit(db, audit(samples=2))
    fakes.worker(db, inline).serve()
    assert _norms(inline) == []


def test_an_audit_finishes_although_its_norms_fail(db: Database) -> None:
    def compute(task, machine):
        return Failure("No.", True, "no") if task.kind == "norms" else search.compute(task, machine)

    asked = audits.submit(db, audit(samples=2, layers=("conv1.pre",)))
    fakes.worker(db, Inline(compute)).serve()
    over = audits.get(db, asked.id)
    assert (over.state, over.done) == ("done", 4)


def test_the_closed_form_agrees_with_the_norms(network: NetworkFile) -> None:
    """One projection with m = 5 strays from √m‖L(x − x')‖ / (2‖L‖_F) by about 1 / √(2m), in the mean of 5 pairs."""
    asked = task(network, "conv1.pre", 5)
    norms = process.run(replace(asked, kind="norms"), Machine())
    found = process.run(asked, Machine())
    assert isinstance(norms, Norms)
    assert isinstance(found, Distances)
    assert norms.exact
    assert 1 <= norms.r4 <= 196
    assert norms.lengths.shape == (5, 5)
    predicted = np.sqrt(5) * norms.lengths.diagonal() / (2 * norms.frobenius)
    ratio = found.found.distance / predicted
    assert 0.6 < ratio.mean() < 1.6
