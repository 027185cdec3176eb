"""The queue: validation before anything is queued, claims, leases, fences, moves, priorities."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from robustness_core.errors import SpecError, StrataError
from robustness_core.spec import SeriesSpec
from store import Database, Fenced, StoreError, audits, networks, workers
from store.records import AuditRecord, PairSpec
from testing import world

PAIR = PairSpec((SeriesSpec(world.SHA256, "conv1", 5, 0),), ("mnist-5k", "train", 3), ("mnist-5k", "train", 900))


@pytest.fixture
def worker_id(db: Database) -> int:
    world.network(db)
    return workers.register(db, "cpu", {}).id


def claim(db: Database, worker_id: int, **options: object) -> AuditRecord:
    claimed = audits.claim(db, worker_id, **options)  # type: ignore[arg-type]
    assert claimed is not None
    return claimed


def test_a_question_comes_back_as_it_was_asked(db: Database, worker_id: int, clock: world.Clock) -> None:
    spec = world.audit(m=(None, 5), projections=3)
    audit = audits.submit(db, spec, requested_by="Ada")
    assert audit == audits.get(db, audit.id) == audits.recent(db)[0]
    assert audit.spec == spec
    assert (audit.kind, audit.state, audit.done, audit.requested_by) == ("audit", "queued", 0, "Ada")
    assert audit.total == 4 * 4 * 2 * (1 + 3)
    assert audit.created == clock.time
    pair = audits.submit(db, PAIR)
    assert pair == audits.get(db, pair.id)
    assert (pair.kind, pair.spec, pair.priority, pair.total) == ("pair", PAIR, 10, 1)
    assert [a.kind for a in audits.recent(db)] == ["pair", "audit"]
    assert [a.kind for a in audits.recent(db, kind="audit")] == ["audit"]
    assert audits.recent(db, state="done") == []


BAD_AUDITS = [
    ({"network": "absent"}, "no network called 'absent'; there are: tiny"),
    ({"layers": ("conv9",)}, "no layer 'conv9'; it has conv1.pre, conv1, logits"),
    ({"m": (11,)}, "m = 11 is larger than the 10 features of layer logits"),
    ({"samples": 401}, "S = 401 is larger than class 3, which has 400 images"),
    ({"dataset": "imagenet"}, "There is no data set 'imagenet'"),
    ({"split": "validation"}, "There is no split 'validation' of mnist-5k"),
    ({"classes": (3, 12)}, "There is no class 12 in mnist-5k: its classes are 0 to 9."),
    ({"dataset": "cifar10-2k", "samples": 1}, "takes 1×28×28 images; those of cifar10-2k are 3×32×32"),
]


@pytest.mark.parametrize(("changes", "sentence"), BAD_AUDITS)
def test_a_question_that_cannot_be_answered_is_not_queued(
    db: Database, worker_id: int, changes: dict[str, object], sentence: str
) -> None:
    with pytest.raises(StrataError) as caught:
        audits.submit(db, world.audit(**changes))
    assert sentence in str(caught.value)
    assert audits.recent(db) == []


def test_an_empty_registry_says_so(db: Database) -> None:
    with pytest.raises(SpecError, match="there is none yet"):
        audits.submit(db, world.audit())


BAD_PAIRS = [
    ({"series": (SeriesSpec("0" * 64, "conv1", 5, 0),)}, "not here any more"),
    ({"series": (SeriesSpec(world.SHA256, "conv9", 5, 0),)}, "no layer 'conv9'"),
    ({"series": (SeriesSpec(world.SHA256, "logits", 11, 0),)}, "m = 11 does not fit the 10 features"),
    ({"right": ("mnist-5k", "train", 4000)}, "no image 4000 in mnist-5k"),
    ({"right": ("imagenet", "train", 0)}, "no data set 'imagenet'"),
    ({"right": ("mnist-5k", "train", -1)}, "no image -1 in mnist-5k"),
]


@pytest.mark.parametrize(("changes", "sentence"), BAD_PAIRS)
def test_a_pair_that_does_not_exist_is_not_queued(
    db: Database, worker_id: int, changes: dict[str, object], sentence: str
) -> None:
    fields = {"series": PAIR.series, "left": PAIR.left, "right": PAIR.right} | changes
    with pytest.raises(StrataError) as caught:
        audits.submit(db, PairSpec(**fields))  # type: ignore[arg-type]
    assert sentence in str(caught.value)
    assert audits.recent(db) == []


def test_pair_specs_validate_themselves() -> None:
    for changes, sentence in (
        ({"series": ()}, "at least one layer"),
        ({"series": (*PAIR.series, SeriesSpec("f" * 64, "conv1", 5, 0))}, "one network at a time"),
        ({"right": PAIR.left}, "must differ"),
    ):
        with pytest.raises(SpecError, match=sentence):
            PairSpec(**({"series": PAIR.series, "left": PAIR.left, "right": PAIR.right} | changes))  # type: ignore[arg-type]
    assert PairSpec.from_json(PAIR.to_json()) == PAIR


def test_an_equal_question_is_asked_once_until_it_is_over(db: Database, worker_id: int) -> None:
    first = audits.submit(db, world.audit())
    again = audits.submit(db, world.audit(), priority=3)
    assert (again.id, again.priority) == (first.id, 3)
    assert audits.submit(db, world.audit(), priority=1).priority == 3
    running = claim(db, worker_id)
    assert audits.submit(db, world.audit()).id == running.id
    assert audits.submit(db, world.audit(samples=5)).id != running.id
    audits.finish(db, running)
    assert audits.submit(db, world.audit()).id > running.id


def test_many_at_once_ask_one_question_once(db: Database, worker_id: int) -> None:
    with ThreadPoolExecutor(8) as pool:
        asked = list(pool.map(lambda _: audits.submit(db, world.audit()).id, range(24)))
    assert len(set(asked)) == 1
    assert len(audits.recent(db)) == 1


def test_the_most_urgent_then_the_oldest_is_claimed(db: Database, worker_id: int) -> None:
    slow, slower = (audits.submit(db, world.audit(samples=n)) for n in (4, 5))
    urgent = audits.submit(db, world.audit(samples=6), priority=5)
    pair = audits.submit(db, PAIR)
    assert audits.claim(db, worker_id, above_priority=10) is None
    assert claim(db, worker_id, kinds=("audit",)).id == urgent.id
    assert claim(db, worker_id, above_priority=0).id == pair.id
    assert audits.claim(db, worker_id, above_priority=0) is None
    assert [claim(db, worker_id).id for _ in range(2)] == [slow.id, slower.id]
    assert audits.claim(db, worker_id) is None


def test_a_claim_gives_worker_lease_and_attempt(db: Database, worker_id: int, clock: world.Clock) -> None:
    audits.submit(db, world.audit())
    clock.turn(5)
    running = claim(db, worker_id)
    assert (running.state, running.attempt, running.started) == ("running", 1, clock.time)
    assert running.worker is not None
    assert running.worker.id == worker_id


def test_a_renewed_lease_holds_and_an_expired_one_is_taken(db: Database, worker_id: int, clock: world.Clock) -> None:
    audits.submit(db, world.audit())
    first = claim(db, worker_id, lease_seconds=30)
    for _ in range(5):
        clock.turn(20)
        assert audits.renew(db, first)
        assert audits.claim(db, worker_id) is None
    clock.turn(31)
    second = claim(db, worker_id)
    assert (second.id, second.attempt) == (first.id, 2)
    assert second.started == first.started
    assert not audits.renew(db, first)
    for late in (
        lambda: audits.progress(db, first, 1, 2),
        lambda: audits.finish(db, first),
        lambda: audits.fail(db, first, "late"),
        lambda: audits.release(db, first),
    ):
        with pytest.raises(Fenced):
            late()
    assert audits.get(db, first.id) == second


def test_a_clock_that_jumps_back_does_not_hold_an_audit(db: Database, worker_id: int, clock: world.Clock) -> None:
    audits.submit(db, world.audit())
    first = claim(db, worker_id)
    clock.turn(-86_400)
    second = claim(db, worker_id)
    assert (second.id, second.attempt) == (first.id, 2)


def test_an_audit_that_kills_its_workers_fails_and_others_go_on(
    db: Database, worker_id: int, clock: world.Clock
) -> None:
    poisonous = audits.submit(db, world.audit())
    healthy = audits.submit(db, world.audit(samples=5))
    for attempt in range(1, audits.MOST_LAPSES + 1):
        assert claim(db, worker_id).attempt == attempt
        clock.turn(31)
    assert claim(db, worker_id).id == healthy.id
    given_up = audits.get(db, poisonous.id)
    assert given_up.state == "failed"
    assert "5 times in a row" in (given_up.error or "")


def test_what_a_dead_worker_held_goes_back_at_once(db: Database, worker_id: int) -> None:
    other = workers.register(db, "cpu", {})
    mine, theirs = (audits.submit(db, world.audit(samples=n)) for n in (4, 5))
    claim(db, worker_id)
    claim(db, other.id)
    assert [worker.id for worker in workers.unfinished(db, other.host)] == [worker_id, other.id]
    assert workers.unfinished(db, "elsewhere") == []
    assert audits.requeue_of(db, [other.id]) == 1
    assert audits.get(db, mine.id).state == "running"
    assert audits.get(db, theirs.id).state == "queued"


def test_recorded_blocks_clear_the_lapses(db: Database, worker_id: int, clock: world.Clock) -> None:
    from store import distances

    audits.submit(db, world.audit())
    series_id = distances.series(db, PAIR.series[0]).id
    left, right = world.some_images(db, 20), world.some_images(db, 1, start=50, label=7)
    for attempt in range(3 * audits.MOST_LAPSES):
        running = claim(db, worker_id)
        world.block(db, running, series_id, left[attempt : attempt + 1], right)
        clock.turn(31)
    assert audits.requeue_expired(db) == 1
    assert audits.recent(db)[0].state == "queued"


def test_progress_and_the_end_of_an_audit(db: Database, worker_id: int, clock: world.Clock) -> None:
    audits.submit(db, world.audit())
    running = claim(db, worker_id)
    audits.progress(db, running, 10, 40, final_epsilon=1.5)
    now = audits.get(db, running.id)
    assert (now.done, now.total, now.final_epsilon) == (10, 40, 1.5)
    clock.turn(3)
    audits.finish(db, running)
    over = audits.get(db, running.id)
    assert (over.state, over.done, over.finished) == ("done", 40, clock.time)


def test_a_released_audit_is_claimed_again_without_a_lapse(db: Database, worker_id: int) -> None:
    audits.submit(db, world.audit())
    for _ in range(2 * audits.MOST_LAPSES):
        audits.release(db, claim(db, worker_id))
    assert audits.recent(db)[0].state == "queued"
    assert audits.recent(db)[0].worker is None


def _in_state(db: Database, worker_id: int, state: str) -> AuditRecord:
    audit = audits.submit(db, world.audit())
    if state == "queued":
        return audit
    running = claim(db, worker_id)
    if state == "done":
        audits.finish(db, running)
    elif state == "failed":
        audits.fail(db, running, "It did not work.")
    elif state == "cancelled":
        audits.cancel(db, running.id)
    return running


ACTIONS: dict[str, Callable[[Database, AuditRecord], object]] = {
    "finish": audits.finish,
    "fail": lambda db, audit: audits.fail(db, audit, "It did not work."),
    "release": audits.release,
    "cancel": lambda db, audit: audits.cancel(db, audit.id),
    "retry": lambda db, audit: audits.retry(db, audit.id),
}


@pytest.mark.parametrize("state", ["queued", "running", "done", "failed", "cancelled"])
@pytest.mark.parametrize("move", ACTIONS)
def test_only_the_moves_of_the_table_happen(db: Database, worker_id: int, state: str, move: str) -> None:
    audit = _in_state(db, worker_id, state)
    sources, target = audits.MOVES[move]
    if state in sources:
        ACTIONS[move](db, audit)
        assert audits.get(db, audit.id).state == target
    else:
        with pytest.raises(StoreError):
            ACTIONS[move](db, audit)
        assert audits.get(db, audit.id).state == state


def test_a_retried_audit_starts_afresh_unless_it_is_asked_already(db: Database, worker_id: int) -> None:
    failed = _in_state(db, worker_id, "failed")
    assert audits.get(db, failed.id).error == "It did not work."
    audits.submit(db, world.audit())
    with pytest.raises(StoreError, match="queued or running already"):
        audits.retry(db, failed.id)
    audits.cancel(db, audits.recent(db)[0].id)
    again = audits.retry(db, failed.id)
    assert (again.state, again.error, again.finished) == ("queued", None, None)
    assert claim(db, worker_id).attempt == 2


def test_only_what_is_over_can_be_removed(db: Database, worker_id: int) -> None:
    audit = audits.submit(db, world.audit())
    with pytest.raises(StoreError, match="Cancel the audit"):
        audits.remove(db, audit.id)
    audits.cancel(db, audit.id)
    audits.remove(db, audit.id)
    with pytest.raises(StoreError, match="was removed"):
        audits.get(db, audit.id)


def test_mark_differs_after_each_move_and_stays_while_nothing_moves(db: Database, worker_id: int) -> None:
    marks = [audits.mark(db)]

    def moved() -> bool:
        marks.append(audits.mark(db))
        return marks[-1] not in marks[:-1]

    old = audits.submit(db, world.audit(samples=2))
    assert moved()
    for seed in range(1, audits.MARKED + 1):
        audits.cancel(db, audits.submit(db, world.audit(seed=seed)).id)
    assert moved()
    claimed = claim(db, worker_id)
    assert claimed.id == old.id  # asked long before the others, and seen all the same
    assert moved()
    audits.progress(db, claimed, 1, 8)
    audits.submit(db, PAIR)
    audits.annotate(db, old.id, note="seen")
    assert not moved()
    audits.release(db, claimed)
    assert moved()
    audits.finish(db, claim(db, worker_id, kinds=("audit",)))
    assert moved()
    audits.remove(db, audits.recent(db, 1, kind="audit")[0].id)
    assert moved()
    other = world.network(db, "other")
    assert moved()
    networks.remove(db, other.id)
    assert not moved()


def test_note_and_tags_of_an_audit(db: Database, worker_id: int) -> None:
    audit = audits.submit(db, world.audit())
    audits.annotate(db, audit.id, note="for figure 3")
    audits.annotate(db, audit.id, tags=("a", "b"))
    after = audits.get(db, audit.id)
    assert (after.note, after.tags) == ("for figure 3", ("a", "b"))
    with pytest.raises(StoreError, match="was removed"):
        audits.annotate(db, 99, note="x")


def test_an_audit_of_a_network_removed_meanwhile_is_refused(
    db: Database, worker_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = __import__("robustness_core.datasets", fromlist=["counts"]).counts

    def remove_meanwhile(*arguments: str) -> dict[int, int]:
        networks.remove(db, networks.all(db)[0].id)
        return counts(*arguments)  # type: ignore[no-any-return]

    monkeypatch.setattr("robustness_core.datasets.counts", remove_meanwhile)
    with pytest.raises(StoreError, match="This network was removed"):
        audits.submit(db, world.audit())


def test_workers_are_alive_while_they_beat_and_stop_when_asked(db: Database, clock: world.Clock) -> None:
    first = workers.register(db, "cpu", {"torch": "2.13"}, log_path="/tmp/log")
    second = workers.register(db, "cuda", {})
    assert workers.alive(db) == [first, second]
    clock.turn(10)
    assert workers.beat(db, second.id) == "running"
    clock.turn(10)
    assert [worker.id for worker in workers.alive(db)] == [second.id]
    workers.request_stop(db, second.id)
    assert workers.beat(db, second.id) == "stopping"
    assert workers.alive(db)[0].state == "stopping"
    workers.retire(db, second.id)
    assert workers.alive(db) == []
    workers.request_stop(db, second.id)
    assert workers.beat(db, second.id) == "stopped"
    assert workers.beat(db, 99) == "stopping"
