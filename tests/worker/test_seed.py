"""The bundled networks are registered once, with the newest card; a damaged file keeps no other away."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from robustness_core.checkpoints import save
from robustness_core.engine.audit import ExecutorError
from robustness_core.engine.tasks import NetworkFile
from robustness_core.spec import AuditSpec
from store import Database, StoreError, audits, distances, networks
from testing import synthetic
from testing.fakes import Inline
from testing.networks import tiny
from worker.seed import seed


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    folder = tmp_path / "zoo"
    folder.mkdir()
    save(tiny(), folder / "good.safetensors", {"clean": 0.5})
    return folder


def test_a_network_is_registered_once_with_its_newest_card(db: Database, inline: Inline, zoo: Path) -> None:
    (first,) = seed(db, inline, zoo)
    assert (first.name, first.source, first.card["clean"]) == ("good", "zoo", 0.5)
    card = json.loads((zoo / "good.json").read_text())
    (zoo / "good.json").write_text(json.dumps({**card, "clean": 0.75}))
    (again,) = seed(db, inline, zoo)
    assert again.id == first.id
    assert networks.by_name(db, "good").card["clean"] == 0.75  # type: ignore[union-attr]


def test_a_damaged_file_is_skipped(db: Database, inline: Inline, zoo: Path, caplog: pytest.LogCaptureFixture) -> None:
    (zoo / "bad.safetensors").write_bytes(b"\x00" * 20)
    assert [network.name for network in seed(db, inline, zoo)] == ["good"]
    assert "bad.safetensors cannot be read" in caplog.text


def test_a_damaged_first_look_keeps_no_network_away(
    db: Database, inline: Inline, zoo: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (zoo / "first-look.npz").write_bytes(b"PK\x03\x04 cut short")
    assert [network.name for network in seed(db, inline, zoo)] == ["good"]
    assert "first-look.npz cannot be read" in caplog.text


def test_a_lost_database_or_cluster_is_no_damaged_file(db: Database, inline: Inline, zoo: Path) -> None:
    class Lost(Inline):
        def layers(self, file: NetworkFile) -> list[dict[str, Any]]:
            raise ExecutorError("The cluster is gone.")

    with pytest.raises(ExecutorError, match="gone"):
        seed(db, Lost(), zoo)
    with db.write() as connection:
        connection.execute(text("DROP TABLE networks"))
    with pytest.raises(StoreError, match="no such table"):
        seed(db, inline, zoo)


def test_a_network_that_was_trained_anew_takes_its_name_and_the_one_before_keeps_its_audits(
    db: Database, inline: Inline, zoo: Path
) -> None:
    (before,) = seed(db, inline, zoo)
    spec = AuditSpec.of("good", dataset="mnist-5k", classes=(3, 7), samples=3, layers=("logits",), m=(2,))
    done = synthetic.finish(db, spec)
    weights = networks.weights(db, before.id)
    trained = tiny()
    for parameter in trained.parameters():
        parameter.data.mul_(0.5)
    save(trained, zoo / "good.safetensors", {"clean": 0.9})
    (after,) = seed(db, inline, zoo)
    assert networks.by_name(db, "good") == after
    assert networks.by_name(db, "good (earlier)") == dataclasses.replace(before, name="good (earlier)")
    assert networks.weights(db, before.id) == weights
    assert audits.get(db, done.id).state == "done"
    (series,) = spec.search.series(before.sha256, before.features)
    found = distances.find(db, series)
    assert found is not None
    with db.read() as connection:
        kept = connection.execute(text("SELECT count(*) FROM distances WHERE series_id = :id"), {"id": found.id})
        assert kept.scalar_one() == 9
