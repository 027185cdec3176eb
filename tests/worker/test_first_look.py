"""The first look: what one installation computed is known to a new one, marked as shipped, and nothing comes twice."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from robustness_core import datasets, shipped
from robustness_core.spec import METHODS
from store import Database, StoreError, attacks, audits, connect, distances, findings, images, networks, sets
from store.shipped import HOST
from testing import fakes
from testing.fakes import Inline, matrix, series
from testing.world import SHA256, audit, network
from worker import first_look


@pytest.fixture
def packed(db: Database, inline: Inline, tmp_path: Path) -> Path:
    """Two audits that share a series, the second with a larger sample."""
    for asked in (audit(samples=3, projections=2), audit(samples=5)):
        audits.submit(db, asked)
    fakes.worker(db, inline).run(wanted=lambda: False)
    path = tmp_path / "first-look.npz"
    assert first_look.pack(db, path) == 2
    return path


@pytest.fixture
def fresh(tmp_path: Path) -> Database:
    return connect(str(tmp_path / "fresh.db"))


def test_a_new_installation_knows_what_was_shipped(db: Database, fresh: Database, packed: Path) -> None:
    registered = network(fresh, name="another name", sha256=SHA256)
    assert first_look.load(fresh, [registered], packed) == 2
    for asked in (audit(samples=3, projections=2), audit(samples=5)):
        for one in series(db, asked):
            ours, theirs = matrix(db, asked, one), matrix(fresh, asked, one)
            for field in dataclasses.fields(ours):
                np.testing.assert_array_equal(getattr(ours, field.name), getattr(theirs, field.name))
    for record in audits.recent(fresh):
        assert (record.state, record.done, record.spec.network) == ("done", record.total, "another name")  # type: ignore[union-attr]
        assert record.worker is not None
        assert (record.worker.host, record.worker.device) == (HOST, "this process")
        assert "shipped" in record.tags


def test_all_classes_come_with_their_sets_and_what_pgd_does(
    db: Database, inline: Inline, fresh: Database, tmp_path: Path
) -> None:
    asked = audit(classes=(1, 3, 7), samples=3, sets=3, pairs="needed")
    audits.submit(db, asked)
    fakes.worker(db, inline).run(wanted=lambda: False)
    assert first_look.pack(db, tmp_path / "look.npz") == 1
    registered = network(fresh)
    assert first_look.load(fresh, [registered], tmp_path / "look.npz") == 1
    assert first_look.load(fresh, [registered], tmp_path / "look.npz") == 0
    indices = np.concatenate(asked.sample.indices(datasets.load("mnist-5k").labels)).tolist()
    for one in series(db, asked):
        known = []
        for database in (db, fresh):
            by_index = images.ids(database, "mnist-5k", "train", indices)
            ids = [by_index[index] for index in indices]
            stored = distances.find(database, one)
            assert stored is not None
            known.append((
                distances.matrix(database, stored.id, ids, ids).distance,
                sets.find(database, [stored.id], ids)[stored.id],
                findings.find(database, [stored.id], asked.sample)[stored.id],
                attacks.find(database, registered.id, ids).tolist(),
            ))  # fmt: skip
        np.testing.assert_array_equal(known[0][0], known[1][0])
        assert known[0][1:] == known[1][1:]
        assert known[0][1]


def test_what_is_shown_unasked_is_entered_first_and_no_part_of_another_audit(
    db: Database, inline: Inline, fresh: Database, tmp_path: Path
) -> None:
    """A layer alone, other samples and threat models come after the usual curves; a smaller N is a part of them."""
    for asked in (
        audit(samples=2, layers=("logits",)),
        audit(samples=20, layers=("conv1", "logits"), m=(10,), seed=1),
        audit(samples=20, layers=("conv1", "logits"), m=(10,)),
        audit(samples=20, layers=("conv1", "logits"), m=(10,), projections=2),
        audit(samples=20, layers=("logits",), m=(10,)),
    ):
        audits.submit(db, asked)
    fakes.worker(db, inline).run(wanted=lambda: False)
    assert first_look.pack(db, tmp_path / "look.npz") == 3
    assert first_look.load(fresh, [network(fresh)], tmp_path / "look.npz") == 3
    entered = [record.spec for record in audits.recent(fresh)[::-1]]
    assert [(one.sample.size, one.sample.seed, one.search.projections) for one in entered] == [  # type: ignore[union-attr]
        (20, 0, 2), (2, 0, 1), (20, 1, 1)
    ]  # fmt: skip


def test_an_audit_that_is_not_packed_itself_keeps_no_part_of_it_away(
    db: Database, inline: Inline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The larger one was worked on by another version of its method: nothing is known of what it asks now."""
    larger, smaller = audit(samples=2, projections=2), audit(samples=2)
    new = METHODS["balanced"]
    with monkeypatch.context() as patched:
        patched.setitem(METHODS, "balanced", dataclasses.replace(new, version=new.version - 1))
        audits.submit(db, larger)
        fakes.worker(db, inline).run(wanted=lambda: False)
    audits.submit(db, smaller)
    fakes.worker(db, inline).run(wanted=lambda: False)
    assert first_look.pack(db, tmp_path / "look.npz") == 1
    (entry,) = shipped.read(tmp_path / "look.npz")
    assert entry.spec.search.projections == 1


def test_what_is_packed_holds_what_theory_says(packed: Path) -> None:
    """And a file that is tampered with does not: nearer at a larger m, farther than the midpoint, not verified."""
    with np.load(packed) as file:
        arrays = dict(file)
    for number in range(2):
        arrays[f"distance_{number}"] = (
            arrays[f"distance_{number}"] / 1e3
        )  # the invented ones are larger than images are
        arrays[f"residual_{number}"] = np.zeros_like(arrays[f"residual_{number}"])
    np.savez(packed, **arrays)
    assert first_look.check(packed) == []
    for name, value, says in (("distance_0", 1e3, "midpoint"), ("residual_0", 1e-3, "residual above")):
        broken = {**arrays, name: np.full_like(arrays[name], value)}
        np.savez(packed, **broken)
        assert any(says in sentence for sentence in first_look.check(packed))


def test_distances_are_packed_as_the_nearest_of_their_audit(db: Database, inline: Inline, tmp_path: Path) -> None:
    asked = audit(samples=3, m=(2, 5), layers=("logits",))
    audits.submit(db, asked)
    fakes.worker(db, inline).run(wanted=lambda: False)
    path = tmp_path / "look.npz"
    first_look.pack(db, path)
    few, many = (matrix(db, asked, one).distance for one in series(db, asked))
    with np.load(path) as file:
        arrays = dict(file)
    np.testing.assert_array_equal(arrays["distance_0"], [np.minimum(few, many), many])
    arrays["distance_0"] = arrays["distance_0"][::-1] - [[[0.0]], [[1e-3]]]
    np.savez(path, **arrays)
    assert any("another series" in sentence for sentence in first_look.check(path))


def test_what_is_known_is_not_entered_again(fresh: Database, packed: Path) -> None:
    registered = network(fresh)
    first_look.load(fresh, [registered], packed)
    audits.remove(fresh, audits.recent(fresh)[0].id)
    assert first_look.load(fresh, [registered], packed) == 0
    assert len(audits.recent(fresh)) == 1


def test_own_distances_stay(db: Database, fresh: Database, packed: Path) -> None:
    """A pair that this installation computed keeps its worker when a shipped audit brings it too."""
    registered = network(fresh)
    audits.submit(fresh, audit(samples=2))
    fakes.worker(fresh, Inline()).run(wanted=lambda: False)
    assert first_look.load(fresh, [registered], packed) == 2
    own = matrix(fresh, audit(samples=2), series(db, audit())[0])
    assert own.distance.shape == (2, 2)
    machines = {a.worker.host for a in audits.recent(fresh) if a.worker is not None}
    assert len(machines) == 2


def newer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every method has a version that no packed audit is of."""
    for name, method in METHODS.items():
        monkeypatch.setitem(METHODS, name, dataclasses.replace(method, version=method.version + 1))  # type: ignore[arg-type]


def test_an_older_version_of_the_method_stays_away(
    fresh: Database, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer(monkeypatch)
    assert first_look.load(fresh, [network(fresh)], packed) == 0
    assert audits.recent(fresh) == []


def test_audits_of_an_older_version_are_not_packed(
    db: Database, packed: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nothing is known by the version that would be asked for now, so nothing is shipped in its name."""
    newer(monkeypatch)
    with pytest.raises(StoreError, match="no finished audit of a bundled network"):
        first_look.pack(db, tmp_path / "other.npz")
    assert not (tmp_path / "other.npz").exists()


def test_a_data_set_that_is_not_here_is_not_fetched(
    fresh: Database, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.Entry, "present", lambda entry, split: False)
    assert first_look.load(fresh, [network(fresh)], packed) == 0


@pytest.mark.parametrize("batches", [(), ("data_batch_1.bin",)])
def test_bundled_photographs_are_the_same_on_every_machine(
    db: Database, inline: Inline, fresh: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batches: tuple[str]
) -> None:
    """Without CIFAR-10, and with another part of it than where the audit was computed."""
    network(db, "photos", input_shape=(3, 32, 32))
    asked = audits.submit(db, audit(network="photos", dataset="cifar10-2k", samples=3))
    fakes.worker(db, inline).run(wanted=lambda: False)
    assert audits.get(db, asked.id).state == "done"
    assert first_look.pack(db, tmp_path / "look.npz") == 1
    there = tmp_path / "there" / "cifar-10-batches-bin"
    there.mkdir(parents=True)
    for name in batches:
        (there / name).write_bytes(bytes(3073))
    monkeypatch.setenv("STRATA_DATA", str(there.parent))
    monkeypatch.setenv("STRATA_CACHE", str(tmp_path / "cache"))
    assert first_look.load(fresh, [network(fresh, "photos", input_shape=(3, 32, 32))], tmp_path / "look.npz") == 1
    (entered,) = audits.recent(fresh)
    assert (entered.state, entered.spec.sample.dataset) == ("done", "cifar10-2k")  # type: ignore[union-attr]


def test_other_batches_of_a_data_set_are_another_sample(
    fresh: Database, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = datasets.load("mnist-5k")
    part = datasets.Dataset("mnist-5k", "train", whole.pixels[:3000], whole.labels[:3000], "a part")
    monkeypatch.setattr(datasets, "load", lambda name, split="train": part)
    assert first_look.load(fresh, [network(fresh)], packed) == 0


def test_nothing_to_pack_is_said(fresh: Database, tmp_path: Path) -> None:
    network(fresh)
    with pytest.raises(StoreError, match="no finished audit"):
        first_look.pack(fresh, tmp_path / "none.npz")
    assert not (tmp_path / "none.npz").exists()


def test_an_installation_without_the_file_starts_without_it(fresh: Database, tmp_path: Path) -> None:
    assert first_look.load(fresh, [network(fresh)], tmp_path / "none.npz") == 0
    assert networks.by_name(fresh, "tiny") is not None
