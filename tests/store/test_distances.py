"""Images, series, distances and collisions: nothing lost, nothing doubled, in the order asked for."""

from __future__ import annotations

import time

import numpy as np
import pytest

from robustness_core.found import Found
from robustness_core.spec import SeriesSpec
from store import Database, Fenced, StoreError, audits, distances, images
from store.records import AuditRecord
from testing import world


@pytest.fixture
def running(db: Database) -> AuditRecord:
    """A running audit on the network `tiny`."""
    return world.running(db)


@pytest.fixture
def series_id(db: Database, running: AuditRecord) -> int:
    return distances.series(db, SeriesSpec(world.SHA256, "conv1", 5, 0)).id


def test_images_are_stored_once_and_come_back_in_order(db: Database) -> None:
    pixels = np.arange(3 * 28 * 28, dtype=np.uint8).reshape(3, 28, 28, 1)
    first = images.put(db, "mnist", "train", [7, 2, 9], [3, 3, 7], pixels)
    again = images.put(db, "mnist", "train", [9, 4, 7], [7, 7, 3], pixels[[2, 0, 0]])
    assert (again[0], again[2]) == (first[2], first[0])
    assert images.ids(db, "mnist", "train", [2, 7, 100]) == {2: first[1], 7: first[0]}
    assert images.ids(db, "mnist", "test", [2, 7]) == {}
    for other in ((pixels[:1], 7), (pixels[1:2], 3)):  # another label, another picture
        with pytest.raises(StoreError, match=r"Image 9 of mnist \(train\) in the database is another one than in"):
            images.put(db, "mnist", "train", [4, 9], [7, other[1]], np.concatenate([pixels[:1], other[0]]))
    record = images.get(db, [first[1]])[first[1]]
    assert (record.dataset, record.split, record.index, record.label) == ("mnist", "train", 2, 3)
    np.testing.assert_array_equal(record.pixels, pixels[1])
    with pytest.raises(StoreError, match="no image with the id 12345"):
        images.get(db, [first[0], 12345])


def test_a_series_is_made_once(db: Database) -> None:
    world.network(db)
    spec = SeriesSpec(world.SHA256, "conv1", 5, 0)
    assert distances.find(db, spec) is None
    made = distances.series(db, spec)
    assert distances.series(db, spec) == made == distances.find(db, spec)
    assert made.spec == spec
    other = distances.series(db, SeriesSpec(spec.network, "conv1", None, 3))
    assert other.id != made.id
    absent = SeriesSpec(spec.network, "logits", 5, 0)
    assert distances.find_all(db, [spec, absent]) == {spec.key: made}
    with pytest.raises(StoreError, match="not here"):
        distances.series(db, SeriesSpec("0" * 64, "conv1", 5, 0))


def test_blocks_in_any_order_fill_the_matrix(db: Database, running: AuditRecord, series_id: int) -> None:
    left, right = world.some_images(db, 7), world.some_images(db, 5, start=50, label=7)
    rng = np.random.default_rng(1)
    pairs = rng.permutation([(a, b) for a in left for b in right])
    known = np.zeros((7, 5), dtype=bool)
    for part in np.array_split(pairs[:29], 4):
        a, b = part.T
        new = world.block(
            db, running, series_id, [], [], left_ids=a, right_ids=b,
            found=Found(a + b / 1000, a * 1e-6, a % 2 == 0, b * 1.0),
        )  # fmt: skip
        assert new == len(part)
    known[np.searchsorted(left, pairs[:29, 0]), np.searchsorted(right, pairs[:29, 1])] = True

    rows, columns = rng.permutation(7), rng.permutation(5)
    asked = ([left[i] for i in rows], [right[j] for j in columns])
    known = known[np.ix_(rows, columns)]
    matrix = distances.matrix(db, series_id, *asked)
    a, b = np.meshgrid(*asked, indexing="ij")
    np.testing.assert_array_equal(matrix.distance, np.where(known, a + b / 1000, np.nan))
    np.testing.assert_array_equal(matrix.residual, np.where(known, a * 1e-6, np.nan))
    np.testing.assert_array_equal(matrix.passes, np.where(known, b * 1.0, np.nan))
    np.testing.assert_array_equal(matrix.collided, known & (a % 2 == 0))
    np.testing.assert_array_equal(matrix.known, known)
    np.testing.assert_array_equal(distances.missing(db, series_id, *asked), ~known)
    assert (matrix.devices, matrix.versions) == (("two cores",), ("torch 2.13",))


def test_many_matrices_in_one_query_equal_each_alone(db: Database, running: AuditRecord, series_id: int) -> None:
    left, right = world.some_images(db, 4), world.some_images(db, 3, start=50, label=7)
    other = distances.series(db, SeriesSpec(world.SHA256, "logits", 5, 0)).id
    empty = distances.series(db, SeriesSpec(world.SHA256, "logits", 6, 0)).id
    world.block(db, running, series_id, left, right)
    world.block(db, running, other, left[:2], right)
    together = distances.matrices(db, [series_id, other, empty], left, right[:2])
    for one in (series_id, other, empty):
        alone = distances.matrix(db, one, left, right[:2])
        np.testing.assert_array_equal(together[one].distance, alone.distance)
        assert together[one].devices == alone.devices
    assert together[empty].devices == ()
    assert [int(matrix.known.sum()) for matrix in together.values()] == [8, 4, 0]


def test_recording_again_changes_nothing(db: Database, running: AuditRecord, series_id: int) -> None:
    left, right = world.some_images(db, 3), world.some_images(db, 3, start=50, label=7)
    assert world.block(db, running, series_id, left[:2], right) == 6
    wrong = np.full(9, 123.0)
    assert world.block(db, running, series_id, left, right, distance=wrong) == 3
    matrix = distances.matrix(db, series_id, left, right)
    assert (matrix.distance[2] == 123).all()
    assert (matrix.distance[:2] < 123).all()
    assert world.block(db, running, series_id, [], []) == 0


def test_a_distance_must_be_a_number(db: Database, running: AuditRecord, series_id: int) -> None:
    left, right = world.some_images(db, 1), world.some_images(db, 2, start=50, label=7)
    for bad in (np.nan, np.inf, -1.0):
        with pytest.raises(StoreError, match="not a number of 0 or more"):
            world.block(db, running, series_id, left, right, distance=np.array([1.0, bad]))
    assert distances.missing(db, series_id, left, right).all()
    world.block(db, running, series_id, left, right, residual=np.array([np.nan, np.inf]))
    assert np.isinf(distances.matrix(db, series_id, left, right).residual).all()


def test_the_fence_refuses_late_blocks_whole(
    db: Database, running: AuditRecord, series_id: int, clock: world.Clock
) -> None:
    left, right = world.some_images(db, 2), world.some_images(db, 2, start=50, label=7)
    assert running.worker is not None

    clock.turn(31)  # the lease runs out, but nobody took the audit: the block still counts
    world.block(db, running, series_id, left[:1], right)
    second = audits.claim(db, running.worker.id)
    assert second is not None
    assert (second.id, second.attempt) == (running.id, running.attempt + 1)
    with pytest.raises(Fenced):
        world.block(db, running, series_id, left, right)
    world.block(db, second, series_id, left[1:], right[:1])
    audits.cancel(db, second.id)
    with pytest.raises(Fenced):
        world.block(db, second, series_id, left, right)
    np.testing.assert_array_equal(distances.missing(db, series_id, left, right), [[False, False], [False, True]])
    with pytest.raises(Fenced):
        world.block(db, second, series_id, left, right, audit_id=999)


def test_closest_pairs_come_first(db: Database, running: AuditRecord, series_id: int) -> None:
    left, right = world.some_images(db, 3), world.some_images(db, 3, start=50, label=7)
    distance = np.array([5, 1, 4, 2, 9, 3, 8, 7, 6], dtype=float)
    world.block(db, running, series_id, left, right, distance=distance)
    pairs, found = distances.closest(db, series_id, left[:2], right, 3)
    assert pairs == [(left[0], right[1]), (left[1], right[0]), (left[1], right[2])]
    assert found.distance.tolist() == [1, 2, 3]
    assert found.residual.tolist() == [one * 1e-6 for one, _ in pairs]
    assert found.collided.tolist() == [one % 2 == 0 for one, _ in pairs]
    assert found.passes.tolist() == [other for _, other in pairs]
    assert distances.closest(db, series_id, left[2:], right, 9)[1].distance[0] == 6


def test_a_collision_comes_back_and_is_replaced(db: Database, series_id: int) -> None:
    (left_id,), (right_id,) = world.some_images(db, 1), world.some_images(db, 1, start=50, label=7)
    rng = np.random.default_rng(0)
    assert distances.get_collision(db, series_id, left_id, right_id) is None
    for _ in range(2):
        left, right = rng.random((2, 1, 28, 28), dtype=np.float32)
        distances.put_collision(db, series_id, left_id, right_id, left, right, {"left": [0.5, -1.0]})
        found = distances.get_collision(db, series_id, left_id, right_id)
        assert found is not None
        np.testing.assert_array_equal(found.left, left)
        np.testing.assert_array_equal(found.right, right)
        assert found.predictions == {"left": [0.5, -1.0]}


def test_reading_200_by_200_is_quick(db: Database, running: AuditRecord, series_id: int) -> None:
    left, right = world.some_images(db, 200), world.some_images(db, 200, start=500, label=7)
    assert world.block(db, running, series_id, left, right) == 40_000
    seconds = []
    for _ in range(3):
        start = time.process_time()
        matrix = distances.matrix(db, series_id, left, right)
        seconds.append(time.process_time() - start)
    assert matrix.known.all()
    assert min(seconds) < 0.5  # 0.1 s measured; a reader that asks row by row takes seconds


def test_counts_are_those_of_the_matrices(db: Database, running: AuditRecord) -> None:
    left, right = world.some_images(db, 3), world.some_images(db, 3, start=10, label=7)
    first, second = (distances.series(db, one).id for one in world.audit().search.series(world.SHA256, {}))
    world.block(db, running, first, left[:2], right)
    assert distances.counts(db, [first, second], left) == {first: (6, 0), second: (0, 0)}
    assert distances.counts(db, [first], left[1:]) == {first: (3, 0)}
