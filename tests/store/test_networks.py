"""The registry: registering, naming, noting, removing."""

from __future__ import annotations

import numpy as np
import pytest

from robustness_core.found import Finding, FoundSet
from store import Database, Fenced, StoreError, attacks, audits, distances, findings, networks, sets, workers
from store.records import Dependents
from testing import world


def test_a_network_comes_back_as_it_was_registered(db: Database, clock: world.Clock) -> None:
    record = world.network(db)
    assert record == networks.by_id(db, record.id) == networks.by_name(db, "tiny") == networks.all(db)[0]
    assert record.layers == world.LAYERS
    assert (record.input_shape, record.mean, record.std) == ((1, 28, 28), (0.1307,), (0.3081,))
    assert record.card == {"accuracy": 0.98}
    assert record.created == clock.time
    assert record.features == {"conv1.pre": 196, "conv1": 196, "logits": 10}
    assert networks.weights(db, record.id) == b"weights of tiny"


def test_the_same_hash_gives_the_same_record_and_a_taken_name_a_number(db: Database) -> None:
    first = world.network(db)
    assert world.network(db, "other name", sha256=first.sha256) == first
    assert world.network(db, "tiny", sha256="f" * 64, source="upload").name == "tiny (2)"
    assert world.network(db, "tiny", sha256="e" * 64, source="upload").name == "tiny (3)"
    assert [network.name for network in networks.all(db)] == ["tiny", "tiny (2)", "tiny (3)"]


def test_a_bundled_network_takes_its_name_from_the_bundled_one_before_and_from_no_other(db: Database) -> None:
    for sha256 in "abc":
        assert world.network(db, "tiny", sha256=sha256 * 64).name == "tiny"
    assert [network.sha256[0] for network in networks.all(db)] == ["c", "a", "b"]
    assert [network.name for network in networks.all(db)] == ["tiny", "tiny (earlier)", "tiny (earlier) (2)"]
    world.network(db, "mine", source="upload")
    assert world.network(db, "mine", sha256="d" * 64).name == "mine (2)"


def test_a_network_can_be_renamed_and_its_audits_follow(db: Database) -> None:
    network = world.network(db)
    audit = audits.submit(db, world.audit())
    networks.rename(db, network.id, " mine ")
    assert networks.by_name(db, "mine") is not None
    assert audits.get(db, audit.id).spec.network == "mine"  # type: ignore[union-attr]
    assert audits.submit(db, world.audit(network="mine")).id == audit.id


def test_names_must_be_there_and_free(db: Database) -> None:
    network = world.network(db)
    world.network(db, "other")
    with pytest.raises(StoreError, match="Another network is called 'other'"):
        networks.rename(db, network.id, "other")
    with pytest.raises(StoreError, match="Give the network a name"):
        networks.rename(db, network.id, "  ")
    with pytest.raises(StoreError, match="was removed"):
        networks.rename(db, 99, "x")
    with pytest.raises(StoreError, match="Give the network a name"):
        world.network(db, " ", sha256="d" * 64)


def test_note_and_tags_change_one_without_the_other(db: Database) -> None:
    network = world.network(db)
    networks.annotate(db, network.id, note="looked at it")
    networks.annotate(db, network.id, tags=["paper", "ε = 2"])
    after = networks.by_id(db, network.id)
    assert after is not None
    assert (after.note, after.tags) == ("looked at it", ("paper", "ε = 2"))


def test_removing_a_network_takes_all_that_depends_on_it_and_nothing_else(db: Database) -> None:
    gone, stays = world.network(db), world.network(db, "stays")
    worker = workers.register(db, "cpu", {})
    left, right = world.some_images(db, 3), world.some_images(db, 3, start=10, label=7)
    for network in (gone, stays):
        spec = world.audit(network=network.name)
        audits.submit(db, spec)
        running = audits.claim(db, worker.id)
        assert running is not None
        series = distances.series(db, spec.search.series(network.sha256, network.features)[0])
        world.block(db, running, series.id, left, right)
        mine = {"audit_id": running.id, "attempt": running.attempt, "series_id": series.id}
        findings.put(db, **mine, sample=spec.sample, finding=Finding(9, 9))
        attacks.record(db, network.id, left, np.ones(3))
        sets.record(db, **mine, found={(1, 2, 3): FoundSet(1.0, 0.0, True, 9.0)}, worker_id=worker.id)
    assert networks.dependents(db, gone.id) == Dependents(audits=1, series=1, distances=9)
    late = audits.recent(db, state="running")[-1]

    networks.remove(db, gone.id)

    assert networks.by_id(db, gone.id) is None
    assert networks.dependents(db, gone.id) == Dependents(0, 0, 0)
    assert networks.dependents(db, stays.id) == Dependents(1, 1, 9)
    with pytest.raises(StoreError, match="was removed"):
        networks.weights(db, gone.id)
    with pytest.raises(Fenced):
        audits.progress(db, late, 1, 2)
    assert not audits.renew(db, late)


def test_a_network_set_aside_is_seen_nowhere_and_comes_back_as_it_was(db: Database, clock: world.Clock) -> None:
    kept = world.network(db)
    spec = world.audit()
    running = audits.submit(db, spec)
    networks.set_aside(db, kept.id)
    assert networks.all(db) == []
    assert networks.by_name(db, kept.name) is networks.by_sha256(db, kept.sha256) is None
    assert audits.recent(db) == []
    with pytest.raises(StoreError, match="removed"):
        networks.set_aside(db, kept.id)
    other = world.network(db, kept.name, "other".ljust(64, "0"))
    assert other.name == kept.name  # which is free meanwhile
    networks.rename(db, other.id, "another")
    assert networks.restore(db, kept.id) == kept
    assert [(audit.id, audit.state) for audit in audits.recent(db)] == [(running.id, "cancelled")]
    networks.set_aside(db, kept.id)
    assert world.network(db) == kept  # the same file once more
    networks.set_aside(db, kept.id)
    audits.set_aside(db, audits.cancel(db, audits.submit(db, spec.replace(network="another")).id).id)
    clock.turn(24 * 3600 - 1)
    networks.remove_old(db)
    assert networks.restore(db, kept.id) == kept
    networks.set_aside(db, kept.id)
    clock.turn(24 * 3600 + 1)
    networks.remove_old(db)
    with pytest.raises(StoreError, match="gone for good"):
        networks.restore(db, kept.id)
    assert [one.name for one in networks.all(db)] == ["another"]


def test_an_audit_set_aside_comes_back_until_it_is_a_day_old(db: Database, clock: world.Clock) -> None:
    world.network(db)
    audit = audits.submit(db, world.audit())
    with pytest.raises(StoreError, match="Cancel the audit"):
        audits.set_aside(db, audit.id)
    audits.cancel(db, audit.id)
    before = audits.mark(db)
    audits.set_aside(db, audit.id)
    assert audits.recent(db) == []
    assert audits.mark(db) != before
    audits.restore(db, audit.id)
    assert audits.mark(db) == before
    audits.set_aside(db, audit.id)
    clock.turn(24 * 3600 + 1)
    networks.remove_old(db)
    with pytest.raises(StoreError, match="gone for good"):
        audits.restore(db, audit.id)
