"""One audit from claim to end: plan what is missing, compute it in blocks, record each, keep the closest collisions."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustness_core import datasets
from robustness_core.errors import StrataError
from robustness_core.optimal_loss.conflict_graph import input_distances
from robustness_core.spec import AuditSpec, SeriesSpec
from store import Database, Fenced, audits, distances, images, networks
from store.records import AuditRecord, ImageKey, NetworkRecord, PairSpec
from worker import norms
from worker.executors import Executor, ExecutorError
from worker.keeper import Keeper
from worker.pace import Pace
from worker.plan import Places, Plan, block_size, ordered
from worker.tasks import Answer, Distances, Estimates, Failure, Kept, NeedsContent, NetworkFile, Task

log = logging.getLogger("worker")


class Stopped(Exception):
    """The worker was asked to stop."""


@dataclass(frozen=True)
class Settings:
    """The knobs of the work. Times in seconds; `batch` is that of the device (Description.batch)."""

    batch: int = 16
    block_seconds: float = 1.5
    hang_seconds: float = 600.0  # a block that takes longer is taken for hung
    lease_seconds: float = 30.0
    poll_seconds: float = 0.2
    tries: int = 3  # of a block, each with a smaller batch
    keep: int = 5  # collisions of the closest pairs of each series
    estimate_pairs: int = 512  # of one task
    drain_seconds: float = 5.0  # what still runs when an audit ends early gets so long before it is killed


@dataclass(frozen=True, eq=False)
class Sample:
    """The images of an audit: their ids in the store and pixels (S, H, W, C) uint8, a side."""

    left_ids: list[int]
    right_ids: list[int]
    left: NDArray[np.uint8]
    right: NDArray[np.uint8]


@dataclass(eq=False)
class _Work:
    """One series in work. `candidates` are the closest collisions seen, by (left id, right id)."""

    spec: SeriesSpec
    series_id: int
    features: int
    plan: Plan
    estimates: bool
    candidates: dict[tuple[int, int], tuple[float, Kept]] = field(default_factory=dict)
    seconds_a_pair: float | None = None
    estimated_last: bool = False
    finishing: bool = False


@dataclass(frozen=True, eq=False)
class _Flight:
    """A task under way. `collisions`: it only looks for the images of pairs whose distances are known."""

    work: _Work
    task: Task
    places: Places
    pairs: tuple[list[int], list[int]]  # ids of the left and right images
    started: float
    tries: int = 1
    collisions: bool = False


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
        assert audit.worker is not None
        self._db = db
        self._audit = audit
        self._worker_id = audit.worker.id
        self._executor = executor
        self._keeper = keeper
        self._settings = settings
        self._serve_urgent = serve_urgent
        self._urgent = audit.kind == "pair"
        self._flights: dict[Future[Answer], _Flight] = {}
        self._retries: deque[_Flight] = deque()
        self._waiting: deque[SeriesSpec] = deque()
        self._works: list[_Work] = []
        self._done = 0
        self._first = True

    def run(self) -> None:
        try:
            self._prepare()
            while self._waiting or self._works:
                self._check()
                self._serve_urgent(self._audit.priority)
                self._dispatch()
                self._collect()
            self._measure_norms()
        except Stopped:
            for future in self._drain():
                self._land(future, self._flights.pop(future))
            raise
        finally:
            self._drain()

    # ------------------------------------------------------------------------------------------------ what is asked

    def _prepare(self) -> None:
        spec = self._audit.spec
        if isinstance(spec, AuditSpec):
            network = networks.by_name(self._db, spec.network)
            self._sample = _draw(self._db, spec)
        else:
            network = networks.by_sha256(self._db, spec.series[0].network)
            self._sample = _pair(self._db, spec)
        if network is None:
            raise Fenced("The network was removed.")
        self._network = network
        self._apart = input_distances(self._sample.left, self._sample.right)
        if isinstance(spec, AuditSpec):
            spec.search.check(network.features)
            specs = ordered(spec, network.sha256)
        else:
            specs = list(spec.series)
        self._waiting = deque(specs)
        self._total = self._apart.size * len(specs)
        self._pace = Pace(network)
        self._left = Counter({(one.layer, one.m): 0 for one in specs})
        known = distances.find_all(self._db, specs)
        for one in specs:
            series = known.get(one.key)
            missing = self._apart.size if series is None else int(self._missing(series.id).sum())
            self._left[one.layer, one.m] += missing
        self._done = self._total - self._left.total()
        self._say_progress()

    def _missing(self, series_id: int) -> NDArray[np.bool_]:
        return distances.missing(self._db, series_id, self._sample.left_ids, self._sample.right_ids)

    def _open(self, spec: SeriesSpec) -> _Work:
        """Take up a series: what is missing of it now, others may have worked on it too."""
        series = distances.series(self._db, spec)
        left, right = np.nonzero(self._missing(series.id))
        layer = next(layer for layer in self._network.layers if layer.name == spec.layer)
        worth_it = len(left) > self._settings.batch and not layer.affine  # there the estimate is the answer itself
        plan = Plan(left, right, self._apart[left, right])
        return _Work(spec, series.id, layer.features, plan, estimates=worth_it)

    # ---------------------------------------------------------------------------------------------------- the loop

    def _check(self) -> None:
        if self._keeper.stop.is_set():
            raise Stopped
        if self._keeper.lost(self._audit):
            raise Fenced("The audit was cancelled or given to another worker.")

    def _dispatch(self) -> None:
        while self._executor.free(urgent=self._urgent) > 0 and (flight := self._next()) is not None:
            self._submit(flight)

    def _next(self) -> _Flight | None:
        if self._retries:
            return self._retries.popleft()
        for work in self._works:
            if (flight := self._next_of(work)) is not None:
                return flight
        while self._waiting:
            work = self._open(self._waiting.popleft())
            self._works.append(work)
            if (flight := self._next_of(work)) is not None:
                return flight
            self._finish_if_complete(work)
        return None

    def _next_of(self, work: _Work) -> _Flight | None:
        """Estimates and distances take turns, so that the curve grows while the order is still being found."""
        if work.plan.exhausted:
            return None
        if work.estimates and not self._first and not work.estimated_last:
            places = work.plan.take_for_estimate(self._settings.estimate_pairs)
            if len(places):
                work.estimated_last = True
                return self._flight(work, places, kind="estimates")
        work.estimated_last = False
        self._first = False
        settings = self._settings
        size = block_size(
            work.seconds_a_pair, settings.batch, settings.block_seconds, longest=settings.hang_seconds / 4
        )
        return self._flight(work, work.plan.take(size), keep=self._settings.keep)

    def _flight(self, work: _Work, places: Places, **options: Any) -> _Flight:
        return self._flight_of(work, work.plan.left[places], work.plan.right[places], places=places, **options)

    def _flight_of(
        self,
        work: _Work,
        left: Places,
        right: Places,
        *,
        places: Places,
        kind: Any = "distances",
        keep: int = 0,
        collisions: bool = False,
    ) -> _Flight:
        sample = self._sample
        task = Task(
            kind=kind,
            network=_file(self._network),
            series=work.spec,
            features=work.features,
            left=sample.left[left],
            right=sample.right[right],
            keep=keep,
        )
        pairs = ([sample.left_ids[i] for i in left], [sample.right_ids[i] for i in right])
        return _Flight(work, task, places, pairs, time.monotonic(), collisions=collisions)

    def _submit(self, flight: _Flight) -> None:
        self._flights[self._executor.submit(flight.task, urgent=self._urgent)] = replace(
            flight, started=time.monotonic()
        )

    def _collect(self) -> None:
        """Wait a moment for tasks to end, and deal with those that have."""
        if not self._flights:
            if self._works or self._waiting:
                time.sleep(self._settings.poll_seconds / 10)  # every process is busy with another audit's block
            return
        ended, _ = wait(self._flights, timeout=self._settings.poll_seconds, return_when=FIRST_COMPLETED)
        for future in ended:
            self._land(future, self._flights.pop(future))
        for future, flight in list(self._flights.items()):
            if time.monotonic() - flight.started > self._settings.hang_seconds:
                del self._flights[future]
                self._executor.abandon(future)
                self._hung(flight)

    def _land(self, future: Future[Answer], flight: _Flight) -> None:
        try:
            answer = future.result()
        except (CancelledError, OSError) as error:  # a Dask scheduler that went away
            raise ExecutorError("The cluster lost a block; is its scheduler running?") from error
        except Exception as error:  # a compute process that died
            answer = Failure("The compute process died, perhaps for want of memory.", False, repr(error))
        match answer:
            case NeedsContent():
                content = networks.weights(self._db, self._network.id)
                network = replace(flight.task.network, content=content)
                self._retries.appendleft(replace(flight, task=replace(flight.task, network=network)))
            case Failure():
                self._failed(flight, answer)
            case Estimates():
                flight.work.plan.estimated(flight.places, answer.distance)
            case Distances() if flight.collisions:
                self._keep(flight, answer)
                self._store_collisions(flight.work)
                self._works.remove(flight.work)
            case Distances():
                self._record(flight, answer)

    def _record(self, flight: _Flight, answer: Distances) -> None:
        work = flight.work
        left, right = flight.pairs
        distances.record(
            self._db,
            audit_id=self._audit.id,
            attempt=self._audit.attempt,
            series_id=work.series_id,
            left_ids=left,
            right_ids=right,
            found=answer.found,
            worker_id=self._worker_id,
        )
        work.plan.done(flight.places)
        work.seconds_a_pair = answer.seconds / len(flight.task)
        self._done += len(left)
        part = (work.spec.layer, work.spec.m)
        self._left[part] = max(0, self._left[part] - len(left))
        self._pace.block(part, len(left), answer.seconds)
        self._keep(flight, answer)
        self._say_progress()
        log.debug("audit=%d layer=%s pairs=%d seconds=%.2f", self._audit.id, work.spec.layer, len(left), answer.seconds)
        self._finish_if_complete(work)

    def _say_progress(self) -> None:
        final = next((work.plan.final_epsilon() for work in self._works if not work.plan.finished), None)
        left = self._pace.left(self._left)
        audits.progress(self._db, self._audit, self._done, self._total, final, left)

    # ------------------------------------------------------------------------------------------- what goes wrong

    def _hung(self, flight: _Flight) -> None:
        """A block took too long: it hangs, or it is slow and its pairs are tried again in smaller blocks."""
        limit = self._settings.hang_seconds
        pairs = len(flight.task)
        if flight.task.kind != "distances" or flight.collisions or pairs == 1 or flight.tries >= self._settings.tries:
            sentence = f"A block took longer than {limit:g} seconds and was ended."
            self._failed(flight, Failure(sentence, False, sentence))
            return
        log.warning(
            "audit=%d layer=%s a block of %d pairs took longer than %g s and is tried again in parts",
            self._audit.id, flight.work.spec.layer, pairs, limit,
        )  # fmt: skip
        flight.work.seconds_a_pair = max(flight.work.seconds_a_pair or 0.0, limit / pairs)
        parts = np.array_split(flight.places, min(4, pairs))
        again = [self._flight(flight.work, part, keep=self._settings.keep) for part in parts]
        self._retries.extendleft(replace(part, tries=flight.tries + 1) for part in again)  # at once, see what it is

    def _failed(self, flight: _Flight, failure: Failure) -> None:
        log.warning(
            "audit=%d layer=%s try=%d failed: %s", self._audit.id, flight.work.spec.layer, flight.tries, failure.detail
        )
        if flight.task.kind == "estimates":
            flight.work.estimates = False  # they only order the pairs
            return
        if failure.final:
            raise StrataError(failure.sentence)
        if flight.tries >= self._settings.tries:
            if flight.collisions:  # pictures, not results: the audit does without them
                self._works.remove(flight.work)
                return
            raise StrataError(
                f"A block of layer {flight.work.spec.layer} failed {flight.tries} times: {failure.sentence}"
            )
        batch = max(1, (flight.task.batch or self._settings.batch) // 4)
        self._retries.append(replace(flight, task=replace(flight.task, batch=batch), tries=flight.tries + 1))

    def _drain(self) -> set[Future[Answer]]:
        """Let what still runs come to its end, since restarting a process takes longer than a block; what ended."""
        for future in self._flights:
            future.cancel()
        _, late = wait(self._flights, timeout=self._settings.drain_seconds)
        for future in late:
            self._executor.abandon(future)
            del self._flights[future]
        return {future for future in self._flights if not future.cancelled()}

    # ------------------------------------------------------------------------------------------- the law of √m

    def _measure_norms(self) -> None:
        """What screens need to draw the √m law of an affine layer, if it is not known; the audit can do without."""
        spec, sample = self._audit.spec, self._sample
        if not isinstance(spec, AuditSpec):
            return
        for layer in norms.lacking(self._db, self._network, spec.search.layers, sample.left_ids, sample.right_ids):
            series = SeriesSpec(self._network.sha256, layer.name, None, 0)
            task = Task("norms", _file(self._network), series, layer.features, sample.left, sample.right)
            answer = self._ask(task)
            if isinstance(answer, NeedsContent):
                content = networks.weights(self._db, self._network.id)
                answer = self._ask(replace(task, network=_file(self._network, content)))
            norms.keep(self._db, self._network, layer.name, sample.left_ids, sample.right_ids, answer)

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
            self._check()
            self._serve_urgent(self._audit.priority)
            wait([future], timeout=self._settings.poll_seconds)
        try:
            return future.result()
        except Exception as error:  # a compute process that died, a cluster that lost the task
            return Failure("The compute process died, perhaps for want of memory.", False, repr(error))

    # ----------------------------------------------------------------------------------------- the closest collisions

    def _keep(self, flight: _Flight, answer: Distances) -> None:
        candidates = flight.work.candidates
        for kept in answer.kept:
            pair = (flight.pairs[0][kept.place], flight.pairs[1][kept.place])
            candidates[pair] = (float(answer.found.distance[kept.place]), kept)
        closest = sorted(candidates.items(), key=lambda item: item[1][0])
        flight.work.candidates = dict(closest[: self._settings.keep])

    def _finish_if_complete(self, work: _Work) -> None:
        """When every distance of a series is known: keep the collisions of its closest pairs."""
        if not work.plan.finished or work.finishing:
            return
        lacking = self._store_collisions(work)
        if not lacking:
            self._works.remove(work)
            return
        work.finishing = True
        left = np.array([self._sample.left_ids.index(pair[0]) for pair in lacking])
        right = np.array([self._sample.right_ids.index(pair[1]) for pair in lacking])
        places = np.zeros(0, dtype=np.intp)
        self._retries.append(self._flight_of(work, left, right, places=places, keep=len(lacking), collisions=True))

    def _store_collisions(self, work: _Work) -> list[tuple[int, int]]:
        """Store those of the closest pairs that are at hand; the pairs whose images are not known."""
        sample = self._sample
        lacking = []
        count = self._settings.keep
        closest, _ = distances.closest(self._db, work.series_id, sample.left_ids, sample.right_ids, count)
        for ids in closest:
            if ids in work.candidates:
                kept = work.candidates[ids][1]
                distances.put_collision(self._db, work.series_id, *ids, kept.left, kept.right, kept.predictions)
            elif distances.get_collision(self._db, work.series_id, *ids) is None:
                lacking.append(ids)
        return lacking


def _draw(db: Database, spec: AuditSpec) -> Sample:
    """The sample of an audit, its images put into the store."""
    data = datasets.fetch(spec.sample.dataset, spec.sample.split)
    spec.sample.check(datasets.counts(spec.sample.dataset, spec.sample.split))
    chosen = spec.sample.indices(data.labels)
    ids = [
        images.put(
            db,
            spec.sample.dataset,
            spec.sample.split,
            indices.tolist(),
            data.labels[indices].tolist(),
            data.pixels[indices],
        )
        for indices in chosen
    ]
    return Sample(ids[0], ids[1], data.pixels[chosen[0]], data.pixels[chosen[1]])


def _pair(db: Database, spec: PairSpec) -> Sample:
    """The two images of a pair, put into the store."""
    (left_id, left), (right_id, right) = (_image(db, key) for key in (spec.left, spec.right))
    return Sample([left_id], [right_id], left[None], right[None])


def _image(db: Database, key: ImageKey) -> tuple[int, NDArray[np.uint8]]:
    dataset, split, index = key
    known = images.ids(db, dataset, split, [index])
    if known:
        return known[index], images.get(db, [known[index]])[known[index]].pixels
    data = datasets.fetch(dataset, split)
    pixels = data.pixels[index]
    return images.put(db, dataset, split, [index], [int(data.labels[index])], pixels[None])[0], pixels


def _file(network: NetworkRecord, content: bytes | None = None) -> NetworkFile:
    return NetworkFile(
        network.sha256,
        network.format,
        network.architecture,
        network.input_shape,
        network.mean,
        network.std,
        content,
    )
