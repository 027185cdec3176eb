"""Audits of a notebook in a database: kept while they are worked on, resumed, entered whole, and found again."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import robustness_core as rc
from pages.parts import python
from robustness_core.datasets import REGISTRY
from robustness_core.engine import compute
from robustness_core.engine.tasks import Answer, Task
from robustness_core.errors import StrataError
from robustness_core.notebook.__main__ import main
from robustness_core.notebook.networks import Loaded
from robustness_core.spec import AuditSpec, SampleSpec
from store import audits, connect, image_sets, networks

torch.set_num_threads(1)


def network(name: str = "mine") -> Loaded:
    torch.manual_seed(0)
    return rc.wrap(
        nn.Sequential(nn.Conv2d(1, 3, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(48, 3)), (1, 9, 9), name=name
    )


def sample(classes: tuple[int, ...] = (0, 2)) -> SampleSpec:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 9, 9), dtype=np.uint8)
    return rc.sample(pixels, np.arange(12) % 3, classes=classes, size=3, class_names=["ash", "beech", "cedar"])


class Watched(list[Task]):
    """The tasks that were begun; the one of the number `interrupt` ends in an interrupt."""

    interrupt = 0


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> Watched:
    begun, whole = Watched(), compute.Computer.answer

    def answer(self: compute.Computer, task: Task) -> Answer:
        begun.append(task)
        if len(begun) == begun.interrupt:
            raise KeyboardInterrupt
        return whole(self, task)

    monkeypatch.setattr(compute.Computer, "answer", answer)
    return begun


def searched(tasks: list[Task]) -> int:
    return sum(len(task) for task in tasks if task.kind == "distances")


@pytest.mark.parametrize("classes", [(0, 2), (0, 1, 2)])
def test_what_a_database_knows_is_not_searched_again(tmp_path: Path, tasks: Watched, classes: tuple[int, ...]) -> None:
    cache = tmp_path / "a.db"
    first = rc.audit(network(), sample(classes), m=2, projections=2, cache=cache, quiet=True)
    assert first.found.missing == 0
    tasks.clear()
    again = rc.audit(network(), sample(classes), m=2, projections=2, cache=cache, quiet=True)
    assert searched(tasks) == 0
    assert again.found.to_json() == first.found.to_json()
    without = rc.audit(network(), sample(classes), m=2, projections=2, quiet=True)
    assert without.found.to_json() == first.found.to_json()


def test_what_is_left_out_of_an_audit_is_left_out_of_a_database(tmp_path: Path) -> None:
    cache, asked = tmp_path / "a.db", {"m": [5, 2, None], "projections": 2, "quiet": True}
    without = rc.audit(network(), sample(), **asked)
    assert without.found.too_large == (("logits", 5),)
    assert "Left out, for m is above the number of features: logits (3) at m = 5." in repr(without)
    assert list(without.loss(1.0, m=5)) == list(without.half()) == ["conv1"]  # the first m, which logits has not
    np.testing.assert_equal(without.half(m=2), rc.audit(network(), sample(), **asked | {"m": 2}).half())
    assert rc.audit(network(), sample(), cache=cache, **asked).found.to_json() == without.found.to_json()
    without.publish(str(tmp_path / "b.db"))
    for name in ("a.db", "b.db"):
        db = connect(str(tmp_path / name))
        for one in audits.recent(db):  # each of them could be asked again
            one.spec.search.check(networks.by_name(db, "mine").features)
        db.close()


def test_an_interrupted_audit_goes_on_from_what_is_known(tmp_path: Path, tasks: Watched) -> None:
    cache = tmp_path / "a.db"
    tasks.interrupt = 2
    part = rc.audit(network(), sample(), m=2, projections=2, cache=cache, quiet=True)
    assert part.found.known == 9
    assert part.found.total == 36
    with pytest.raises(StrataError, match=r"27 of 36 pairs are unknown yet; finish the audit first\."):
        part.publish(str(tmp_path / "b.db"))
    tasks.clear()
    tasks.interrupt = 0
    whole = rc.audit(network(), sample(), m=2, projections=2, cache=cache, quiet=True)
    assert whole.found.missing == 0
    assert searched(tasks) == 27
    db = connect(str(cache))
    assert [audit.state for audit in audits.recent(db)] == ["done", "cancelled"]
    (kept,) = networks.all(db)
    db.close()
    assert kept.sha256 == network().sha256


def test_a_network_without_a_file_is_refused_by_a_database(tmp_path: Path) -> None:
    class Branching(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x if float(x.detach().sum()) > -1 else -x)

    own = rc.wrap(Branching(nn.Flatten(), nn.Linear(81, 3)), (1, 9, 9))
    with pytest.raises(StrataError, match="a database cannot keep it"):
        rc.audit(own, sample(), m=2, cache=tmp_path / "a.db", quiet=True)
    result = rc.audit(own, sample(), m=2, quiet=True)
    with pytest.raises(StrataError, match="a database cannot keep it"):
        result.publish(str(tmp_path / "a.db"))


def test_a_published_audit_is_there_with_its_network_and_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    url = str(tmp_path / "dashboard.db")
    result = rc.audit(network(), sample(), m=2, quiet=True)
    result.save(tmp_path / "mine.strata")
    monkeypatch.delitem(REGISTRY, result.found.spec.sample.dataset)
    assert main([str(tmp_path / "mine.strata"), "--database", url]) == 0
    assert capsys.readouterr().out == f"The audit of mine on {sample().dataset} is in {url}.\n"
    assert "known already" in rc.read(tmp_path / "mine.strata").publish(url)

    monkeypatch.delitem(REGISTRY, result.found.spec.sample.dataset)
    db = connect(url)
    (audit,) = audits.recent(db)
    assert (audit.state, audit.done, audit.tags) == ("done", 18, ("published",))
    assert image_sets.enter(db) == [sample().dataset]
    assert REGISTRY[sample().dataset].class_names == ("ash", "beech", "cedar")
    db.close()

    there = rc.load("mine", database=url)
    monkeypatch.delitem(REGISTRY, result.found.spec.sample.dataset)
    images = rc.sample(sample().dataset, classes=("ash", "cedar"), size=3, database=url)
    again = rc.audit(there, images, m=2, cache=url, quiet=True)  # knows all
    assert again.found.to_json()["layers"] == result.found.to_json()["layers"]


def test_a_json_is_enough_for_bundled_networks_alone(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    url = str(tmp_path / "dashboard.db")
    rc.audit(network(), sample(), m=2, layers="logits", quiet=True).save(tmp_path / "mine.json")
    assert main([str(tmp_path / "mine.json"), "--database", url]) == 2
    assert "not in the file of the audit and not bundled" in capsys.readouterr().err
    bundled = rc.load("mnist-small-pgd2")
    result = rc.audit(bundled, rc.sample("mnist-5k", size=2), layers="logits", m=3, quiet=True)
    result.save(tmp_path / "bundled.json")
    assert main([str(tmp_path / "bundled.json"), "--database", url]) == 0
    db = connect(url)
    (kept,) = networks.all(db)
    db.close()
    assert (kept.name, kept.source) == ("mnist-small-pgd2", "zoo")
    with pytest.raises(StrataError, match="no network 'mine' in"):
        rc.load("mine", database=url)


@pytest.mark.parametrize("classes", [(0, 2), (0, 1, 2)])
def test_what_a_screen_copies_as_python_gives_the_same_numbers(tmp_path: Path, classes: tuple[int, ...]) -> None:
    """The lines of the dashboard run, on a network and images that only its database has."""
    url = str(tmp_path / "dashboard.db")
    settings = {"m": [2, None], "projections": 2, "seed": 5, "threat": "linf", "box": True, "epsilon": (0.0, 0.2, 5)}
    shown = rc.audit(network(), sample(classes), layers=["logits"], cache=url, quiet=True, **settings)
    db = connect(url)
    (audit,), (record,) = audits.recent(db), networks.all(db)
    program = python.lines([(audit.spec, record)], db.name)
    assert program.startswith("import robustness_core as rc\n\nnetwork = rc.load('mine', database=")
    db.close()
    del REGISTRY[sample(classes).dataset]
    names: dict[str, Any] = {}
    exec(program, names)
    assert names["result"].found.to_json() == shown.found.to_json()
    assert names["result"].found.total == (27 if len(classes) == 2 else 81)


def test_the_lines_of_a_bundled_network_are_five_and_name_what_is_not_usual() -> None:
    spec = AuditSpec.of(
        "mnist-small-pgd2", dataset="mnist-5k", classes=(3, 7), samples=10, layers=("conv1", "logits"), pairs="needed"
    )
    bundled = types.SimpleNamespace(name="mnist-small-pgd2", source="zoo")
    assert python.lines([(spec, bundled)], "a.db") == (  # type: ignore[list-item]
        "import robustness_core as rc\n\n"
        "network = rc.load('mnist-small-pgd2')\n"
        "images = rc.sample('mnist-5k', classes=(3, 7), size=10)\n"
        "result = rc.audit(network, images, layers=['conv1', 'logits'], m=10, epsilon=(0.0, 8.0, 81))\n\n"
        "result\n"
    )
    two = python.lines([(spec, bundled), (spec.replace(method="algorithm1"), bundled)], "a.db")  # type: ignore[list-item]
    compile(two, "two", "exec")
    assert two.count("results.append(rc.audit(") == 2
    assert two.count("method='algorithm1'") == 1
    assert two.endswith("results[0].compare(*results[1:])\n")
