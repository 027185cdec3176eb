"""An audit from claim to end, with a search that can be computed by hand."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

import numpy as np
import psutil
import pytest

from robustness_core import datasets
from robustness_core.engine.tasks import Answer, Distances, Failure, Hints, Machine, Task
from robustness_core.errors import DatasetError
from robustness_core.optimal_loss import loss_curve
from robustness_core.spec import SeriesSpec
from store import Database, StoreError, attacks, audits, distances, findings, images, networks, sets, tables, workers
from store.records import AuditRecord, PairSpec
from testing import fakes, search
from testing.fakes import Inline, expected, matrix, sample, series
from testing.world import SHA256, Clock, audit
from worker import running


def test_an_audit_is_worked_to_its_end(db: Database, inline: Inline) -> None:
    spec = audit(samples=7, projections=2)
    asked = audits.submit(db, spec)
    fakes.worker(db, inline).run(wanted=lambda: False)
    over = audits.get(db, asked.id)
    assert (over.state, over.done, over.total, over.error) == ("done", 196, 196, None)
    assert inline.pairs == 196
    for one in series(db, spec):
        found = matrix(db, spec, one)
        np.testing.assert_array_equal(found.distance, expected(spec, one.layer))
        assert (found.devices, found.versions) == (("this process",), ("torch none",))


def test_only_what_is_missing_is_computed(db: Database, inline: Inline) -> None:
    worker = fakes.worker(db, inline)
    audits.submit(db, audit(samples=4))
    worker.serve()
    assert inline.pairs == 2 * 16
    audits.submit(db, audit(samples=6, projections=2))  # contains the smaller sample and one seed of two
    worker.serve()
    assert inline.pairs == 2 * 36 * 2
    known = len(inline.blocks)
    audits.submit(db, audit(samples=5))
    assert worker.serve()
    assert all(task.keep == len(task) <= 5 for task in inline.blocks[known:])  # only pictures of its closest pairs
    assert audits.recent(db)[0].state == "done"


def test_an_equal_audit_computes_nothing(db: Database, inline: Inline) -> None:
    for _ in range(2):
        audits.submit(db, audit(samples=5))
        fakes.worker(db, inline).run(wanted=lambda: False)
    assert inline.pairs == 2 * 25
    assert [record.state for record in audits.recent(db)] == ["done", "done"]


def test_every_layer_comes_before_the_second_projection(db: Database, inline: Inline) -> None:
    audits.submit(db, audit(samples=4, projections=3, seed=5, m=(5, None)))
    fakes.worker(db, inline).run(wanted=lambda: False)
    order = list(dict.fromkeys((task.series.seed, task.series.layer, task.series.m) for task in inline.blocks))
    first = [(0, "conv1", None), (0, "logits", None), (5, "conv1", 5), (5, "logits", 5)]
    assert sorted(order[:4], key=str) == sorted(first, key=str)
    assert order[4:] == [(6, "conv1", 5), (6, "logits", 5), (7, "conv1", 5), (7, "logits", 5)]


def test_the_closest_pairs_come_first_and_the_curve_is_final_from_the_left(
    db: Database, inline: Inline, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[float | None] = []
    progress = audits.progress
    monkeypatch.setattr(
        audits,
        "progress",
        lambda db, audit, done, total, final, left: (said.append(final), progress(db, audit, done, total, final, left)),
    )
    spec = audit(samples=8, layers=("conv1",))
    audits.submit(db, spec)
    fakes.worker(db, inline).run(wanted=lambda: False)
    computed = [search.distance(task.left, task.right, "conv1") for task in inline.blocks]
    assert len(computed[0]) == 4  # a first, small block
    after = np.concatenate(computed[1:])  # the hints are exact here, and known after the first block
    assert (np.diff(after) >= 0).all()
    finals = [final for final in said if final is not None]
    assert finals == sorted(finals)
    everything = np.sort(expected(spec, "conv1").ravel())
    # The guess is exact here but for rounding: the least of what is missing, by three of the least deviations.
    assert finals[-1] == pytest.approx(everything[-len(computed[-1])], rel=0.01)


def test_the_collisions_of_the_closest_pairs_are_kept(db: Database, inline: Inline) -> None:
    spec = audit(samples=6, layers=("conv1",))
    audits.submit(db, spec)
    fakes.worker(db, inline).run(wanted=lambda: False)
    found = distances.find(db, series(db, spec)[0])
    assert found is not None
    left, right = ([images.ids(db, "mnist-5k", "train", side)[i] for i in side] for side in sample(spec))
    pairs, _ = distances.closest(db, found.id, left, right, 36)
    kept = [distances.get_collision(db, found.id, *pair) for pair in pairs]
    assert [collision is not None for collision in kept] == [True] * 5 + [False] * 31
    assert kept[0] is not None
    pixels = images.get(db, [pairs[0][0]])[pairs[0][0]].pixels
    np.testing.assert_array_equal(kept[0].left[0], pixels[:, :, 0].astype(np.float32) / 255)
    assert kept[0].predictions == {"left": [1.0, 0.0]}


def _pair(db: Database, *layers: str) -> PairSpec:
    left, right = sample(audit())
    specs = tuple(SeriesSpec(SHA256, layer, 5, 0) for layer in layers)
    return PairSpec(specs, ("mnist-5k", "train", int(left[3])), ("mnist-5k", "train", int(right[2])))


def _collision(db: Database, spec: PairSpec) -> list[bool]:
    found = []
    for one in spec.series:
        record = distances.find(db, one)
        ids = [images.ids(db, *key[:2], [key[2]])[key[2]] for key in (spec.left, spec.right)]
        found.append(record is not None and distances.get_collision(db, record.id, *ids) is not None)
    return found


def test_a_pair_is_answered_between_two_blocks_of_an_audit(db: Database, inline: Inline) -> None:
    spec = _pair(db, "conv1", "logits")
    long = audits.submit(db, audit(samples=12))
    seen: list[tuple[str, str]] = []

    def ask_in_the_middle(task: Task) -> None:
        if len(inline.tasks) == 3:
            audits.submit(db, spec)
        if len(inline.tasks) == 6:
            seen.extend((record.kind, record.state) for record in audits.recent(db))

    inline.before = ask_in_the_middle
    fakes.worker(db, inline).run(wanted=lambda: False)
    assert [len(task) for task in inline.tasks[3:5]] == [1, 1]  # nothing comes between
    assert seen == [("pair", "done"), ("audit", "running")]
    assert _collision(db, spec) == [True, True]
    assert audits.get(db, long.id).state == "done"
    assert audits.recent(db, kind="pair")[0].done == 2


def test_a_pair_whose_distance_is_known_gets_its_collision_and_keeps_its_distance(db: Database, inline: Inline) -> None:
    worker = fakes.worker(db, inline, keep=0)
    asked = audit(samples=4)
    audits.submit(db, asked)
    worker.serve()
    before = matrix(db, asked, series(db, asked)[0]).distance
    spec = _pair(db, "conv1")
    assert _collision(db, spec) == [False]
    audits.submit(db, spec)
    fakes.worker(db, inline).serve()
    assert _collision(db, spec) == [True]
    np.testing.assert_array_equal(matrix(db, asked, series(db, asked)[0]).distance, before)


def test_cancelling_stops_at_the_next_block(db: Database, inline: Inline) -> None:
    first = audits.submit(db, audit(samples=10))
    second = audits.submit(db, audit(samples=3))

    def cancel(task: Task) -> None:
        if len(inline.tasks) == 4:
            audits.cancel(db, first.id)

    inline.before = cancel
    fakes.worker(db, inline).run(wanted=lambda: False)
    assert audits.get(db, first.id).state == "cancelled"
    assert audits.get(db, second.id).state == "done"
    assert len([task for task in inline.tasks if task.kind == "distances" and len(task) > 1]) <= 4 + 2 * 3


def test_an_audit_taken_by_another_worker_is_left_to_it(db: Database, inline: Inline, clock: Clock) -> None:
    asked = audits.submit(db, audit(samples=6))
    taken: list[AuditRecord] = []

    def take(task: Task) -> None:
        if len(inline.tasks) == 3:
            clock.turn(31)
            other = audits.claim(db, workers.register(db, "other", {}).id)
            assert other is not None
            taken.append(other)

    inline.before = take
    fakes.worker(db, inline).serve()
    assert len(inline.tasks) == 3
    assert audits.get(db, asked.id) == taken[0]


def test_an_expired_audit_is_taken_up_where_it_was_left(db: Database, inline: Inline, clock: Clock) -> None:
    asked = audits.submit(db, audit(samples=6))
    silent = fakes.worker(db, inline)

    class Killed(BaseException):
        pass

    def kill(task: Task) -> None:
        if len(inline.tasks) == 6:
            raise Killed

    inline.before = kill
    with pytest.raises(Killed):
        silent.serve()
    inline.before = lambda task: None
    known = inline.pairs
    assert 0 < known < 72
    worker = fakes.worker(db, inline)
    assert not worker.serve()  # the lease still holds
    clock.turn(31)
    assert worker.serve()
    over = audits.get(db, asked.id)
    assert (over.state, over.attempt) == ("done", 2)
    spec = audit(samples=6)
    for one in series(db, spec):
        np.testing.assert_array_equal(matrix(db, spec, one).distance, expected(spec, one.layer))


@pytest.fixture(params=["gone", "zombie"])
def dead_pid(request: pytest.FixtureRequest) -> Iterator[int]:
    """The id of a process that has ended, its parent having asked how or not."""
    if request.param == "gone":
        yield 2**22 - 1
        return
    with subprocess.Popen(["sleep", "60"]) as process:
        process.kill()
        while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        yield process.pid


def test_what_a_killed_worker_of_this_machine_held_is_taken_up_at_once(
    db: Database, inline: Inline, dead_pid: int
) -> None:
    asked = audits.submit(db, audit())
    dead = workers.register(db, "cpu", {})
    elsewhere = workers.register(db, "cpu", {})
    with db.write() as connection:
        connection.execute(tables.workers.update().where(tables.workers.c.id == dead.id).values(pid=dead_pid))
        connection.execute(tables.workers.update().where(tables.workers.c.id == elsewhere.id).values(host="elsewhere"))
    audits.claim(db, dead.id)
    other = audits.submit(db, audit(samples=3))
    audits.claim(db, elsewhere.id)
    fakes.worker(db, inline).run(wanted=lambda: False)
    assert audits.get(db, asked.id).state == "done"
    assert audits.get(db, other.id).state == "running"  # its worker may be alive on the other machine


def test_a_worker_that_still_registers_networks_gives_signs_of_life(db: Database, clock: Clock, inline: Inline) -> None:
    worker = fakes.worker(db, inline, lease_seconds=0.06)

    def fill() -> None:
        clock.turn(100)
        end = time.monotonic() + 30
        while not workers.alive(db) and time.monotonic() < end:
            time.sleep(0.01)
        assert workers.alive(db)
        assert audits.get(db, asked.id).state == "queued"

    asked = audits.submit(db, audit())
    worker.run(first=fill, wanted=lambda: False)
    assert audits.get(db, asked.id).state == "done"


def test_a_block_that_fails_is_tried_again_with_a_smaller_batch(db: Database) -> None:
    def unlucky(task: Task, machine: Machine) -> Answer:
        if task.kind == "distances" and task.batch != 1:
            return Failure("The computation failed: no luck.", False, "no luck")
        return search.compute(task, machine)

    inline = Inline(unlucky)
    asked = audits.submit(db, audit(samples=3))
    fakes.worker(db, inline, batch=16).run(wanted=lambda: False)
    assert audits.get(db, asked.id).state == "done"
    assert [task.batch for task in inline.blocks][:3] == [0, 4, 1]


def test_a_poisonous_audit_fails_in_a_sentence_and_others_go_on(db: Database) -> None:
    def poisonous(task: Task, machine: Machine) -> Answer:
        if task.series.layer == "conv1" and task.kind == "distances":
            return Failure("The computation failed: no luck.", False, "no luck")
        return search.compute(task, machine)

    bad = audits.submit(db, audit())
    good = audits.submit(db, audit(layers=("logits",)))
    fakes.worker(db, Inline(poisonous)).run(wanted=lambda: False)
    failed = audits.get(db, bad.id)
    assert (failed.state, failed.error) == (
        "failed",
        "A block of layer conv1 failed 3 times: The computation failed: no luck.",
    )
    assert audits.get(db, good.id).state == "done"


def test_a_failure_that_would_repeat_itself_is_not_tried_again(db: Database) -> None:
    inline = Inline(lambda task, machine: Failure("The network has no layer 'x'.", True, ""))
    asked = audits.submit(db, audit())
    fakes.worker(db, inline).run(wanted=lambda: False)
    assert len(inline.tasks) == 1
    assert audits.get(db, asked.id).error == "The network has no layer 'x'."


def test_hints_that_fail_only_cost_the_order(db: Database) -> None:
    def no_hints(task: Task, machine: Machine) -> Answer:
        return Failure("No.", False, "") if task.kind == "hints" else search.compute(task, machine)

    asked = audits.submit(db, audit(samples=6))
    fakes.worker(db, Inline(no_hints)).run(wanted=lambda: False)
    over = audits.get(db, asked.id)
    assert (over.state, over.final_epsilon) == ("done", None)


def test_hints_are_not_asked_where_there_is_nothing_to_order(db: Database, inline: Inline) -> None:
    audits.submit(db, audit(samples=2))  # four pairs: one batch
    audits.submit(db, audit(samples=6, layers=("conv1.pre",)))  # affine: solved in closed form at the same cost
    fakes.worker(db, inline).run(wanted=lambda: False)
    assert not any(task.kind == "hints" for task in inline.tasks)


def test_the_network_is_sent_once_to_a_process_that_lacks_it(db: Database) -> None:
    inline = Inline(search.demanding)
    asked = audits.submit(db, audit(samples=6))
    try:
        fakes.worker(db, inline).run(wanted=lambda: False)
        assert search.demanding.seen == b"weights of tiny"  # type: ignore[attr-defined]
    finally:
        if hasattr(search.demanding, "seen"):
            del search.demanding.seen
    assert audits.get(db, asked.id).state == "done"
    assert sum(task.network.content is not None for task in inline.tasks) == 1


def test_data_that_is_gone_fails_the_audit_in_a_sentence(
    db: Database, inline: Inline, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = audits.submit(db, audit())

    def gone(*_: str) -> datasets.Dataset:
        raise DatasetError("The folder of mnist is gone.")

    monkeypatch.setattr(datasets, "fetch", gone)
    fakes.worker(db, inline).run(wanted=lambda: False)
    assert audits.get(db, asked.id).error == "The folder of mnist is gone."


def test_an_unexpected_error_fails_its_audit_only(db: Database, inline: Inline) -> None:
    bad, good = audits.submit(db, audit()), audits.submit(db, audit(samples=3))

    def stumble(task: Task) -> None:
        if len(inline.tasks) == 1:
            raise ZeroDivisionError

    inline.before = stumble
    fakes.worker(db, inline).run(wanted=lambda: False)
    failed = audits.get(db, bad.id)
    assert (failed.state, failed.error) == (
        "failed",
        "The worker met an unexpected error (ZeroDivisionError); see its log.",
    )
    assert audits.get(db, good.id).state == "done"


def test_a_network_removed_meanwhile_ends_the_work(db: Database, inline: Inline) -> None:
    audits.submit(db, audit(samples=6))

    def remove(task: Task) -> None:
        if len(inline.tasks) == 3:
            networks.remove(db, networks.all(db)[0].id)

    inline.before = remove
    fakes.worker(db, inline).run(wanted=lambda: False)
    assert audits.recent(db) == []
    assert networks.all(db) == []


def test_a_worker_that_is_asked_to_stop_gives_its_audit_back(db: Database, inline: Inline) -> None:
    asked = audits.submit(db, audit(samples=6))
    worker = fakes.worker(db, inline)

    def stop(task: Task) -> None:
        if len(inline.tasks) == 3:
            worker.stop()

    inline.before = stop
    worker.run()
    left = audits.get(db, asked.id)
    assert (left.state, left.worker) == ("queued", None)
    assert left.done > 0
    fakes.worker(db, inline).run(wanted=lambda: False)
    assert audits.get(db, asked.id).state == "done"


def test_a_stop_requested_on_screen_reaches_the_worker(db: Database, inline: Inline) -> None:
    worker = fakes.worker(db, inline)
    (record,) = workers.alive(db)
    workers.request_stop(db, record.id)
    worker._keeper.beat()
    worker.run()  # returns


def test_a_database_that_fails_for_a_while_is_waited_for(
    db: Database, inline: Inline, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = audits.submit(db, audit())
    claim, failures = audits.claim, iter(range(2))

    def moody(*arguments: object, **options: object) -> AuditRecord | None:
        if next(failures, None) is not None:
            raise StoreError("The disk is full.")
        return claim(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(audits, "claim", moody)
    worker = fakes.worker(db, inline)
    monkeypatch.setattr(worker._keeper.stop, "wait", lambda seconds: len(inline.tasks) and worker.stop())
    worker.run()
    assert audits.get(db, asked.id).state == "done"


def test_a_lost_lease_is_noticed_while_a_block_runs(db: Database, inline: Inline) -> None:
    asked = audits.submit(db, audit(samples=6))
    worker = fakes.worker(db, inline)

    def cancel_and_beat(task: Task) -> None:
        if len(inline.tasks) == 2:
            audits.cancel(db, asked.id)
            worker._keeper.beat()

    inline.before = cancel_and_beat
    worker.serve()
    assert len(inline.tasks) == 2


def test_hints_far_off_do_not_lose_pairs(db: Database) -> None:
    rng = np.random.default_rng(0)

    def wild(task: Task, machine: Machine) -> Answer:
        if task.kind == "hints":
            return Hints(rng.normal(0, 9, (3, len(task.left), len(task.right))), 0.0)
        return search.compute(task, machine)

    spec = audit(samples=7)
    audits.submit(db, spec)
    fakes.worker(db, Inline(wild)).run(wanted=lambda: False)
    for one in series(db, spec):
        np.testing.assert_array_equal(matrix(db, spec, one).distance, expected(spec, one.layer))


def shorter(task: Task, machine: Machine) -> Answer:
    """A tenth of what the search finds, so that no pair is farther than its images allow."""
    answer = search.compute(task, machine)
    if isinstance(answer, Distances):
        answer.found.distance[:] /= 10
    return Hints(answer.values - np.log(10), 0.0) if isinstance(answer, Hints) else answer


def test_an_audit_of_the_needed_pairs_goes_on_after_a_kill_and_says_what_it_rests_on(
    db: Database, clock: Clock
) -> None:
    """The hints are exact here: the pairs that were searched give the curve of all."""

    class Killed(BaseException):
        pass

    inline, other = Inline(shorter), Inline(shorter)
    spec = audit(samples=24, layers=("conv1",), pairs="needed")
    asked = audits.submit(db, spec)

    def kill(task: Task) -> None:
        if len(inline.tasks) == 8:
            raise Killed

    inline.before = kill
    with pytest.raises(Killed):
        fakes.worker(db, inline).serve()
    clock.turn(31)
    assert fakes.worker(db, other).serve()
    over = audits.get(db, asked.id)
    assert (over.state, over.done) == ("done", over.total)
    (one,) = series(db, spec)
    found, true = matrix(db, spec, one), expected(spec, "conv1") / 10
    known = found.known
    assert known.sum() < 24**2 / 2
    np.testing.assert_array_equal(found.distance[known], true[known])
    budgets = np.linspace(0, 1.1 * true.max(), 200)
    np.testing.assert_allclose(loss_curve(found.distance, budgets), loss_curve(true, budgets), atol=0.005)
    record = distances.find(db, one)
    assert record is not None
    finding = findings.find(db, [record.id], spec.sample)[record.id]
    assert (finding.searched, finding.pairs) == (known.sum(), 24**2)
    assert finding.gap is not None
    assert (finding.gap.pairs, finding.gap.mean) == (6, 1.0)  # this search finds the same whatever the start
    assert len([task for task in other.tasks if task.kind == "gap"]) > 0


def test_a_distance_is_replaced_by_a_nearer_one_of_another_search_and_its_collision_goes(
    db: Database,
) -> None:
    """One pair ends far above what its images foretell; the second search finds it where it should be."""
    spec = audit(samples=12, layers=("conv1",))
    far = expected(spec, "conv1")[3, 5]

    def misled(task: Task, machine: Machine) -> Answer:
        answer = search.compute(task, machine)
        if isinstance(answer, Distances) and task.kind == "distances":
            answer.found.distance[np.isclose(answer.found.distance, far)] *= 1.8
        return answer

    asked = audits.submit(db, spec)
    inline = Inline(misled)
    fakes.worker(db, inline).run(wanted=lambda: False)
    assert audits.get(db, asked.id).state == "done"
    (one,) = series(db, spec)
    np.testing.assert_array_equal(matrix(db, spec, one).distance, expected(spec, "conv1"))
    record = distances.find(db, one)
    assert record is not None
    finding = findings.find(db, [record.id], spec.sample)[record.id]
    assert finding.nearer == 1
    assert finding.again >= 1


def test_an_audit_of_three_classes_shares_what_two_of_them_know(db: Database, inline: Inline) -> None:
    worker = fakes.worker(db, inline)
    audits.submit(db, audit(samples=4))  # of classes 3 and 7
    worker.serve()
    before = inline.pairs
    spec = audit(classes=(1, 3, 7), samples=4, sets=3)
    asked = audits.submit(db, spec)
    assert asked.total == 2 * 3 * 16
    worker.serve()
    assert audits.get(db, asked.id).state == "done"
    assert inline.pairs - before == 2 * 2 * 16
    indices = np.concatenate(spec.sample.indices(datasets.load("mnist-5k").labels)).tolist()
    by_index = images.ids(db, "mnist-5k", "train", indices)
    every = [by_index[index] for index in indices]
    pixels = images.get(db, every)
    for one in series(db, spec):
        stored = distances.find(db, one)
        assert stored is not None
        known = sets.find(db, [stored.id], every)[stored.id]
        assert known
        for places, found in known.items():
            assert len({place // 4 for place in places}) == len(places) == 3
            chosen = np.stack([pixels[every[place]].pixels for place in places])
            assert found.distance == pytest.approx(search.radius(chosen, one.layer))
        finding = findings.find(db, [stored.id], spec.sample)[stored.id]
        assert (finding.largest_set, finding.pairs, finding.searched) == (3, 48, 48)
        assert finding.sets_until > 0
    network = networks.by_name(db, "tiny")
    assert network is not None
    budgets = running.attack_budgets(datasets.get("mnist-5k").epsilon)
    assert attacks.find(db, network.id, every).tolist() == [budgets[label] for label in (1, 3, 7) for _ in range(4)]
    computed = len(inline.tasks)
    audits.submit(db, spec)
    worker.serve()
    assert all(task.keep for task in inline.tasks[computed:])  # pictures of its closest pairs at most
