"""Algorithm 2 of the paper: the sample, the series, their distances in blocks, and the curves that follow.

Free of torch: an executor computes the blocks, in this process or elsewhere, and results keep what is known.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from robustness_core import datasets
from robustness_core.engine import nesting
from robustness_core.engine.result import AuditResult, SeriesResult
from robustness_core.engine.scheduler import Block, Pairs, Scheduler, Settings
from robustness_core.engine.tasks import Answer, Distances, Failure, Machine, NetworkFile, Pixels, Task
from robustness_core.errors import SpecError, StrataError
from robustness_core.found import Finding, Floats, Found, FoundSet, Set
from robustness_core.optimal_loss import curve_of, loss_curve
from robustness_core.optimal_loss.conflict_graph import input_distances
from robustness_core.spec import AuditSpec, SeriesSpec

if TYPE_CHECKING:
    from robustness_core.networks import Network

log = logging.getLogger(__name__)
log.addHandler(logging.NullHandler())  # on the command line an audit that fails says so in one sentence


class Executor(Protocol):
    """Computes tasks. All methods are called from one thread."""

    def free(self, *, urgent: bool = False) -> int:
        """How many tasks can start now; for urgent ones there is room when all else is busy.

        Raises ExecutorError if what computes is gone for good.
        """

    def submit(self, task: Task, *, urgent: bool = False) -> Future[Answer]:
        """Start a task. The future raises if the process died or the cluster lost the task."""

    def abandon(self, future: Future[Answer]) -> None:
        """Give up a task that hangs, and whatever runs it."""


class ExecutorError(StrataError):
    """An executor that cannot be had."""


class Results(Protocol):
    """Keeps what is known of the pairs of an audit."""

    def missing(self, series: SeriesSpec) -> int:
        """How many distances are not known."""

    def known(self, series: SeriesSpec) -> Floats:
        """(L, R): the distances that are known, NaN elsewhere."""

    def sets(self, series: SeriesSpec) -> Mapping[Set, float]:
        """The distances of sets of three and more images that are known, by the places of their images."""

    def settled(self, series: SeriesSpec) -> bool:
        """Whether all that the curve of a series needs is known, and what it rests on."""

    def record(self, block: Block, answer: Distances) -> None:
        """Keep what was found of a block; of pairs that were searched `again` what is nearer than before."""

    def finish(self, series: SeriesSpec, finding: Finding | None) -> Pairs:
        """All is known that is wanted of a series: the pairs whose colliding images are still wanted.

        `finding`: what its curve rests on, None where nothing new was looked at.
        """


class Stopped(Exception):
    """The work is to end; what has been computed is kept."""


class Interrupted(KeyboardInterrupt):
    """Ctrl+C in the middle of an audit; `result` holds what was found until then."""

    def __init__(self, result: AuditResult):
        super().__init__()
        self.result = result


@dataclass(frozen=True, eq=False)
class Sample:
    """The images of an audit: of each class indices into the split, and pixels, L at the rows and R at the columns of a
    matrix of pairs, (L, H, W, C) and (R, H, W, C) uint8. `asked` and `drawn`, (L, R), as in SampleSpec.
    """

    indices: Sequence[NDArray[np.int64]]
    left: Pixels
    right: Pixels
    asked: NDArray[np.bool_]
    drawn: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Question:
    """What the engine computes: each of `series`, all of one network, for every pair of images of `sample`.

    `largest_set`: and for sets of up to so many. `needed`: only the pairs that could change a curve, as far as can be
    guessed. `features` maps layer -> size nj, `closed_form` are the affine layers. `content` reads the network's file
    for a process that lacks it. `name` stands in the log; what is `urgent` goes before other work of the executor.
    """

    network: NetworkFile
    series: Sequence[SeriesSpec]
    features: Mapping[str, int]
    closed_form: Collection[str]
    sample: Sample
    needed: bool = False
    largest_set: int = 2
    content: Callable[[], bytes | None] = lambda: None
    name: str = "audit"
    urgent: bool = False


class Engine:
    """Works on one question. `run` returns when all is known.

    `between` is called between blocks, and may raise what ends the work; after Stopped, what has ended is still
    recorded. `progress` is told the scheduler at first and after every block of distances.
    """

    def __init__(
        self,
        question: Question,
        executor: Executor,
        results: Results,
        settings: Settings,
        *,
        between: Callable[[], None] = lambda: None,
        progress: Callable[[Scheduler], None] = lambda scheduler: None,
    ):
        missing = {one: results.missing(one) for one in question.series}
        order = question.series[0].threat.order if question.series else 2.0
        apart = input_distances(question.sample.left, question.sample.right, order)
        self.scheduler = Scheduler(
            question.series, apart, missing, settings, question.closed_form,
            needed=question.needed, asked=question.sample.asked, drawn=question.sample.drawn,
            classes=np.repeat(np.arange(len(question.sample.indices)), [len(one) for one in question.sample.indices]),
            largest_set=question.largest_set,
        )  # fmt: skip
        self._question = question
        self._executor = executor
        self._results = results
        self._settings = settings
        self._between = between
        self._progress = progress
        self._running: dict[Future[Answer], tuple[Block, float]] = {}  # and when it was started

    def run(self) -> None:
        """Raises StrataError where the audit cannot be finished, ExecutorError, and what `between` raises."""
        try:
            self._progress(self.scheduler)
            while not self.scheduler.ended:
                self._between()
                self._dispatch()
                self._collect()
        except Stopped:
            for future in self._drain():
                self._land(future)
            raise
        finally:
            self._drain()

    def _dispatch(self) -> None:
        urgent = self._question.urgent
        while self._executor.free(urgent=urgent) > 0 and (block := self._next()) is not None:
            self._running[self._executor.submit(self._task(block), urgent=urgent)] = block, time.monotonic()

    def _next(self) -> Block | None:
        while (block := self.scheduler.next_task()) is None and (series := self.scheduler.waiting) is not None:
            # Others may have worked on it too.
            known, sets = self._results.known(series), self._results.sets(series)
            self.scheduler.take_up(series, known, sets, settled=self._results.settled(series))
            self._finish(series)
        return block

    def _task(self, block: Block) -> Task:
        question = self._question
        left, right = question.sample.left, question.sample.right
        return Task(
            kind="distances" if block.kind == "collisions" else block.kind,
            network=replace(question.network, content=question.content()) if block.content else question.network,
            series=block.series,
            features=question.features[block.series.layer],
            left=left[np.array(block.sets)] if block.sets else left[block.left],
            right=right[block.right],
            batch=block.batch,
            keep=block.keep,
        )

    def _collect(self) -> None:
        """Wait a moment for tasks to end, and deal with those that have."""
        if not self._running:
            if not self.scheduler.ended:
                time.sleep(self._settings.poll_seconds / 10)  # every process is busy with another audit's block
            return
        ended, _ = wait(self._running, timeout=self._settings.poll_seconds, return_when=FIRST_COMPLETED)
        for future in ended:
            self._land(future)
        for future, (block, started) in list(self._running.items()):
            if time.monotonic() - started > self._settings.hang_seconds:
                del self._running[future]
                self._executor.abandon(future)
                self._warn(block, f"took longer than {self._settings.hang_seconds:g} s")
                self.scheduler.on_hang(block)
                self._finish(block.series)

    def _land(self, future: Future[Answer]) -> None:
        block, _ = self._running.pop(future)
        try:
            answer = future.result()
        except (CancelledError, OSError) as error:  # a Dask scheduler that went away
            raise ExecutorError("The cluster lost a block; is its scheduler running?") from error
        except Exception as error:  # a compute process that died
            answer = Failure("The compute process died, perhaps for want of memory.", False, repr(error))
        if isinstance(answer, Failure):
            self._warn(block, f"failed: {answer.detail}")
        if isinstance(answer, Distances) and block.kind != "gap":
            self._results.record(block, answer)
        self.scheduler.on_answer(block, answer)
        if block.kind == "collisions":
            return
        if isinstance(answer, Distances):
            log.debug(
                "%s layer=%s kind=%s pairs=%d seconds=%.2f",
                self._question.name, block.series.layer, block.kind, len(block), answer.seconds,
            )  # fmt: skip
        self._progress(self.scheduler)
        self._finish(block.series)

    def _finish(self, series: SeriesSpec) -> None:
        if self.scheduler.complete(series):
            finding = self.scheduler.finding(series)
            self.scheduler.close(series, self._results.finish(series, finding))

    def _warn(self, block: Block, says: str) -> None:
        layer = block.series.layer
        log.warning("%s layer=%s try=%d pairs=%d %s", self._question.name, layer, block.tries, len(block), says)

    def _drain(self) -> list[Future[Answer]]:
        """Let what still runs come to its end, since restarting a process takes longer than a block; what ended."""
        for future in self._running:
            future.cancel()
        _, late = wait(self._running, timeout=self._settings.drain_seconds)
        for future in late:
            self._executor.abandon(future)
            del self._running[future]
        return [future for future in self._running if not future.cancelled()]


class InProcess:
    """An executor that computes each task when it is submitted, one at a time."""

    def __init__(self, compute: Callable[[Task], Answer]):
        self._compute = compute
        self._busy = False

    def free(self, *, urgent: bool = False) -> int:
        """None right after a task, until its answer has been looked at."""
        free, self._busy = int(not self._busy), False
        return free

    def submit(self, task: Task, *, urgent: bool = False) -> Future[Answer]:
        future: Future[Answer] = Future()
        future.set_result(self._compute(task))
        self._busy = True
        return future

    def abandon(self, future: Future[Answer]) -> None:
        """Nothing runs when anybody could give it up."""


class InMemory:
    """Results of series in this process: `found` maps series -> what is known of the pairs `asked`, (L, R)."""

    def __init__(self, series: Sequence[SeriesSpec], asked: NDArray[np.bool_]):
        self.found = {one: Found.nothing(*asked.shape) for one in series}
        self.found_sets: dict[SeriesSpec, dict[Set, FoundSet]] = {one: {} for one in series}
        self.findings: dict[SeriesSpec, Finding] = {}
        self._pairs = int(asked.sum())

    def missing(self, series: SeriesSpec) -> int:
        return self._pairs - int(self.found[series].known.sum())

    def known(self, series: SeriesSpec) -> Floats:
        return self.found[series].distance

    def sets(self, series: SeriesSpec) -> Mapping[Set, float]:
        return {one: found.distance for one, found in self.found_sets[series].items()}

    def settled(self, series: SeriesSpec) -> bool:
        return False

    def record(self, block: Block, answer: Distances) -> None:
        if block.sets:
            self.found_sets[block.series] |= dict(zip(block.sets, answer.found.sets, strict=True))
            return
        own, places = self.found[block.series], (block.left, block.right)
        nearer = ~(answer.found.distance >= own.distance[places])  # than nothing, too
        own.put((block.left[nearer], block.right[nearer]), answer.found[nearer])

    def finish(self, series: SeriesSpec, finding: Finding | None) -> Pairs:
        if finding is not None:
            self.findings[series] = finding
        return ()


def draw_sample(spec: AuditSpec) -> Sample:
    """The sample that an audit asks for. Raises SpecError if a class is too small, DatasetError without data."""
    data = datasets.fetch(spec.sample.dataset, spec.sample.split)
    spec.sample.check(datasets.counts(spec.sample.dataset, spec.sample.split))
    indices = spec.sample.indices(data.labels)
    left, right = spec.sample.sides([data.pixels[of] for of in indices])
    return Sample(indices, left, right, spec.sample.asked, spec.sample.drawn)


def input_graph(spec: AuditSpec, sample: Sample) -> Floats:
    """The distances of the images themselves, as the optimal loss takes them."""
    apart = input_distances(sample.left, sample.right, spec.search.threat.order)
    return spec.sample.graph(np.where(sample.asked, apart, np.nan))


def run_audit(
    spec: AuditSpec,
    network: Network,
    network_sha256: str,
    *,
    device: str = "cpu",
    memory: float | None = None,
    precision: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> AuditResult:
    """Compute every distance that `spec` asks for and the curves that follow, in this process.

    `device`: auto, cpu, cuda or mps; `memory` bytes limit a batch; `precision`: of the search's steps, one of
    spec.PRECISIONS; `progress` is told the pairs done and the pairs in
    all after every block. Layers are left out at an m above their size. Raises StrataError;
    at Ctrl+C Interrupted, which holds what was found. Cost: passes of the method x S^2 pairs x series; see
    benchmarks/RESULTS.md.
    """
    from robustness_core.engine.compute import Computer  # torch, which the worker does without
    from robustness_core.layers import cuts

    layers = {cut.name: cut for cut in cuts(network, network.input_shape)}
    sizes = {name: cut.features for name, cut in layers.items()}
    too_large = spec.search.too_large(sizes)
    sample = draw_sample(spec)
    if (shape := tuple(datasets.to_float(sample.left[:1]).shape[1:])) != network.input_shape:
        theirs, ours = ("×".join(map(str, one)) for one in (network.input_shape, shape))
        raise SpecError(f"The network {spec.network} takes {theirs} images; those of {spec.sample.dataset} are {ours}.")
    series = [one for one in spec.search.series(network_sha256, sizes) if (one.layer, one.m) not in too_large]
    computer = Computer(Machine(device, memory, precision=precision), {network_sha256: network})
    closed_form = {name for name, cut in layers.items() if cut.affine}
    file = NetworkFile(network_sha256, "", "", network.input_shape, None, None)
    question = Question(file, series, sizes, closed_form, sample, needed=spec.needed, largest_set=spec.search.sets)
    results = InMemory(series, sample.asked)

    def result() -> AuditResult:
        budgets = spec.epsilon.values()
        nested = nesting.nested(series, [results.found[one] for one in series], sizes)
        return AuditResult(
            spec=spec,
            network_sha256=network_sha256,
            indices=tuple(sample.indices),
            series=tuple(
                SeriesResult(
                    one,
                    sizes[one.layer],
                    found,
                    spec.sample.pairs,
                    curve_of(spec.sample.graph(found.distance), results.sets(one), budgets),
                    results.findings.get(one),
                    spec.needed,
                    results.found_sets[one],
                )
                for one, found in zip(series, nested, strict=True)
            ),
            input_loss=loss_curve(input_graph(spec, sample), budgets),
            device=computer.description.device,
            versions=computer.description.versions,
            too_large=too_large,
        )

    tell = progress or (lambda done, total: None)
    settings = Settings(batch=computer.at_once, keep=0)
    try:
        Engine(
            question, InProcess(computer.answer), results, settings,
            progress=lambda scheduler: tell(scheduler.done, scheduler.total),
        ).run()  # fmt: skip
    except KeyboardInterrupt as stop:
        raise Interrupted(result()) from stop
    return result()
