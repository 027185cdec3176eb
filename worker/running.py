"""One audit of the queue from claim to end: what it asks goes to the engine, what is found to the store."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import wait
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from robustness_core import datasets
from robustness_core.engine import scheduler
from robustness_core.engine.audit import Engine, Executor, Question, Sample, Stopped, draw_sample
from robustness_core.engine.tasks import Answer, Failure, Fooled, NeedsContent, NetworkFile, Task
from robustness_core.spec import AuditSpec, SeriesSpec
from store import Database, Fenced, attacks, image_sets, images, networks
from store.records import AuditRecord, ImageKey, NetworkRecord, PairSpec
from worker import norms
from worker.keeper import Keeper
from worker.results import Ids, StoreResults

log = logging.getLogger("worker")
ATTACKED = 32  # budgets at which images are attacked, up to four times the usual one of the data set


def attack_budgets(usual: float) -> tuple[float, ...]:
    """Budgets at which PGD is tried, ascending, without 0."""
    return tuple((4 * usual * np.arange(1, ATTACKED + 1) / ATTACKED).tolist())


@dataclass(frozen=True)
class Settings(scheduler.Settings):
    """The engine's, and how long an audit is held between two signs of life."""

    lease_seconds: float = 30.0


class AuditRun:
    """Works on one claimed audit. `run` returns when all is known; it raises StrataError, Fenced or Stopped."""

    def __init__(
        self,
        db: Database,
        audit: AuditRecord,
        executor: Executor,
        keeper: Keeper,
        settings: Settings,
        serve_urgent: Callable[[int], None],
    ):
        self._db = db
        self._audit = audit
        self._executor = executor
        self._keeper = keeper
        self._settings = settings
        self._serve_urgent = serve_urgent

    def run(self) -> None:
        db, spec = self._db, self._audit.spec
        image_sets.enter(db)
        if isinstance(spec, AuditSpec):
            network, (sample, ids) = networks.by_name(db, spec.network), _draw(db, spec)
        else:
            network, (sample, ids) = networks.by_sha256(db, spec.series[0].network), _pair(db, spec)
        if network is None:
            raise Fenced("The network was removed.")
        if isinstance(spec, AuditSpec):
            spec.search.check(network.features)
        results = StoreResults(db, self._audit, network, ids, sample.asked, self._settings.keep)
        question = self._question(network, sample)
        settings, between = self._settings, self._between
        Engine(question, self._executor, results, settings, between=between, progress=results.progress).run()
        if isinstance(spec, AuditSpec) and len(spec.sample.classes) == 2:  # screens draw it for two classes
            self._measure_norms(spec.search.layers, question, network, ids)
        elif isinstance(spec, AuditSpec):
            self._attack(spec, question, network, ids[0])

    def _question(self, network: NetworkRecord, sample: Sample) -> Question:
        audit = self._audit
        if isinstance(audit.spec, PairSpec):
            series = audit.spec.series
        else:
            series = tuple(audit.spec.search.series(network.sha256, network.features))
        return Question(
            network=NetworkFile(
                network.sha256, network.format, network.architecture, network.input_shape, network.mean, network.std
            ),
            series=series,
            features=network.features,
            closed_form={layer.name for layer in network.layers if layer.affine},
            sample=sample,
            needed=isinstance(audit.spec, AuditSpec) and audit.spec.needed,
            largest_set=audit.spec.search.sets if isinstance(audit.spec, AuditSpec) else 2,
            content=lambda: networks.weights(self._db, network.id),
            name=f"audit={audit.id}",
            urgent=audit.kind == "pair",
        )

    def _between(self) -> None:
        """Between two blocks: what is more urgent goes first, and an audit that was taken away ends."""
        self._check()
        self._serve_urgent(self._audit.priority)

    def _check(self) -> None:
        if self._keeper.stop.is_set():
            raise Stopped
        if self._keeper.lost(self._audit):
            raise Fenced("The audit was cancelled or given to another worker.")

    # ------------------------------------------------------------------------------------------- the law of √m

    def _measure_norms(self, layers: Sequence[str], question: Question, network: NetworkRecord, ids: Ids) -> None:
        """What screens need to draw the √m law of an affine layer, if it is not known; the audit can do without."""
        for layer in norms.lacking(self._db, network, layers, *ids):
            series = SeriesSpec(network.sha256, layer.name, None, 0)
            task = Task("norms", question.network, series, layer.features, question.sample.left, question.sample.right)
            answer = self._with_content(task, question)
            norms.keep(self._db, network, layer.name, *ids, answer)

    def _attack(self, spec: AuditSpec, question: Question, network: NetworkRecord, ids: Sequence[int]) -> None:
        """What PGD does to the images of an audit of all classes, which its errors are compared with."""
        missing = np.flatnonzero(np.isnan(attacks.find(self._db, network.id, ids)))
        if not len(missing):
            return
        labels = np.repeat(spec.sample.classes, spec.sample.size)[missing].tolist()
        budgets = attack_budgets(datasets.get(spec.sample.dataset).epsilon)
        pixels, series = question.sample.left[missing], SeriesSpec(network.sha256, spec.search.layers[0], None, 0)
        task = Task("attack", question.network, series, 0, pixels, pixels[:0], labels=tuple(labels), budgets=budgets)
        answer = self._with_content(task, question)
        if isinstance(answer, Fooled):
            attacks.record(self._db, network.id, [ids[int(place)] for place in missing], answer.epsilon)
        else:
            log.warning("network=%s attack failed: %s", network.name, getattr(answer, "detail", answer))

    def _with_content(self, task: Task, question: Question) -> Answer:
        """As `_ask`, with the network's file where it is not known there."""
        answer = self._ask(task)
        if isinstance(answer, NeedsContent):
            answer = self._ask(replace(task, network=replace(task.network, content=question.content())))
        return answer

    def _ask(self, task: Task) -> Answer:
        """The answer to one task by itself; a Failure if the process died or took too long."""
        while self._executor.free() == 0:
            self._check()
            time.sleep(self._settings.poll_seconds / 10)
        future = self._executor.submit(task)
        started = time.monotonic()
        while not future.done():
            if self._keeper.stop.is_set() or time.monotonic() - started > self._settings.hang_seconds:
                self._executor.abandon(future)
                return Failure("The norms of a layer took too long.", False, task.series.layer)
            self._between()
            wait([future], timeout=self._settings.poll_seconds)
        try:
            return future.result()
        except Exception as error:  # a compute process that died, a cluster that lost the task
            return Failure("The compute process died, perhaps for want of memory.", False, repr(error))


def _draw(db: Database, spec: AuditSpec) -> tuple[Sample, Ids]:
    """The sample of an audit, its images put into the store."""
    sample, asked = draw_sample(spec), spec.sample
    data = datasets.fetch(asked.dataset, asked.split)
    ids = [
        np.array(images.put(db, asked.dataset, asked.split, of.tolist(), [label] * len(of), data.pixels[of]))
        for label, of in zip(asked.classes, sample.indices, strict=True)
    ]
    left_ids, right_ids = asked.sides(ids)
    return sample, (left_ids.tolist(), right_ids.tolist())


def _pair(db: Database, spec: PairSpec) -> tuple[Sample, Ids]:
    """The two images of a pair, put into the store."""
    (left_id, left), (right_id, right) = (_image(db, key) for key in (spec.left, spec.right))
    one = np.ones((1, 1), dtype=bool)
    sample = Sample([np.array([image[2]]) for image in (spec.left, spec.right)], left[None], right[None], one, ~one)
    return sample, ([left_id], [right_id])


def _image(db: Database, key: ImageKey) -> tuple[int, NDArray[np.uint8]]:
    dataset, split, index = key
    known = images.ids(db, dataset, split, [index])
    if known:
        return known[index], images.get(db, [known[index]])[known[index]].pixels
    data = datasets.fetch(dataset, split)
    pixels = data.pixels[index]
    return images.put(db, dataset, split, [index], [int(data.labels[index])], pixels[None])[0], pixels
