"""The screen Paper: claims stand beside figures, figures draw the best that is known, and what lacks is asked."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from pages.parts import figures
from robustness_core import zoo
from robustness_core.claims import CLAIMS, stored
from store import audits
from store.database import Database
from testing import synthetic
from testing.screens import downloads, words

NAME = "mnist-medium-pgd2"


def scene(db: Database) -> figures.Scene:
    from store import networks

    return figures.scene(db, networks.all(db))


def test_every_claim_stands_beside_a_figure_and_is_judged_by_the_files_that_are_here(db, open_screen) -> None:
    synthetic.network(db)
    screen = open_screen("paper")
    assert not screen.exception
    assert not screen.warning
    (found,) = [stored()]
    assert found is not None
    assert found.changed == ()
    assert [one["name"] for one in found.claims] == [one.name for one in CLAIMS]
    shown = ""
    for name in figures.FIGURES:
        shown += words(screen.pills(key="figure").set_value(name).run())
        assert not screen.exception
    for claim in found.claims:
        assert claim["sentence"] in shown.replace("\\", "")


def test_the_audit_with_most_projections_up_to_five_and_then_images_is_drawn(db) -> None:
    synthetic.network(db, NAME)
    asked = synthetic.question(NAME)
    sizes = {(20, 1), (20, 5), (24, 5), (30, 2)}
    for samples, projections in sizes:
        synthetic.finish(db, asked.replace(samples=samples, projections=projections))
    synthetic.finish(db, asked.replace(samples=30, projections=5, box=True))
    best = scene(db).best(asked)
    assert (best.sample.size, best.search.projections, best.search.threat.box) == (24, 5, False)
    best = scene(db).best(asked, any_size=False)
    assert (best.sample.size, best.search.projections) == (20, 5)


def test_a_figure_of_which_nothing_is_known_can_be_asked(db, open_screen) -> None:
    synthetic.network(db, NAME)
    screen = open_screen("paper", figure="Figure 8")
    assert "Nothing of this figure is known here yet." in words(screen).replace("\\", "")
    next(button for button in screen.button if button.label == "Start").click().run()
    assert audits.recent(db)[0].spec == synthetic.question(NAME)
    other = words(open_screen("paper", figure="Figure 9")).replace("\\", "")
    assert "The network cifar10-medium-pgd0.5 is not here." in other


def test_what_is_known_is_drawn_and_opens_where_it_is_made(db, open_screen) -> None:
    synthetic.network(db, NAME)
    synthetic.finish(db, synthetic.question(NAME, samples=24))
    screen = open_screen("paper", figure="Figure 8")
    assert not screen.exception
    assert "S = 24 images a class" in words(screen).replace("\\", "")
    drawn = figures.FIGURES["Figure 8"].draw(scene(db))
    assert isinstance(drawn, figures.Drawn)
    assert (drawn.link.screen, drawn.link.query["S"]) == ("explore", "24")
    layers = [layer.name for layer in synthetic.SMALL if layer.main]
    assert {trace.name for trace in drawn.make(False).data} >= set(layers)
    pair = figures.FIGURES["Figure 3"].draw(scene(db))  # the first images of 24 are those of 20
    assert isinstance(pair, figures.Drawn)
    assert pair.link.screen == "pairs"
    assert not open_screen("pairs", **pair.link.query).warning
    heights = [height for trace in pair.make(False).data if trace.type == "bar" for height in trace.y]
    answer = pair.parts[0].answer
    nearest = [group[0].matrix.distance[0, 0] for group in answer.groups.values()]
    assert heights == nearest


def test_the_report_has_all_that_can_be_drawn_and_every_claim(db, open_screen, monkeypatch) -> None:
    synthetic.network(db, NAME)
    synthetic.finish(db, synthetic.question(NAME, samples=24))
    found = downloads(monkeypatch)
    assert not open_screen("paper", figure="Figure 8").exception
    page = found["Report"]
    drawn = [name for name, one in figures.FIGURES.items() if isinstance(one.draw(scene(db)), figures.Drawn)]
    assert {"Figure 1", "Figure 2", "Figure 3", "Figure 4", "Figure 5", "Figure 8"} <= set(drawn)
    assert page.count("Plotly.newPlot(") == len(drawn)
    assert "the first two images of the sample" in page
    for claim in CLAIMS:
        assert claim.name in page


def test_figure_6_is_of_its_own_classes_images_and_threat_model(db) -> None:
    network = synthetic.network(db, NAME)
    own = figures.usual(network, layers=("conv1",), m=(1, 2), samples=4)
    synthetic.finish(db, own)
    for other in ({"classes": (0, 1)}, {"box": True}, {"seed": 1}, {"split": "test"}):
        synthetic.finish(db, own.replace(m=(1, 2, 5), **other))
    drawn = figures.FIGURES["Figure 6"].draw(scene(db))
    assert isinstance(drawn, figures.Drawn)
    assert drawn.link.query["ms"] == ["1", "2"]


def test_verdicts_of_other_files_are_told_apart(tmp_path: Path) -> None:
    assert stored(tmp_path) is None
    (tmp_path / "first-look.npz").write_bytes(b"audits")
    files = {"first-look.npz": hashlib.sha256(b"audits").hexdigest(), "card.json": "0" * 64}
    (tmp_path / "claims.json").write_text(json.dumps({"files": files, "claims": [{"name": "a"}]}))
    found = stored(tmp_path)
    assert found is not None
    assert found.claims == ({"name": "a"},)
    assert found.changed == ("card.json",)
    assert (zoo.ZOO / "claims.json").is_file()
