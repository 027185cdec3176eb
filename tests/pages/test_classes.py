"""Classes without a browser: what it draws, says and links to, in all its states."""

from __future__ import annotations

import math

import numpy as np
import pytest

from charts import classes as figures
from charts import compare
from charts.curves import Curve
from pages.parts import words
from robustness_core.optimal_loss import error_curve, loss_curve
from robustness_core.spec import AuditSpec
from store import Database, attacks, audits, images, networks
from testing import fakes, world
from testing.fakes import Inline
from testing.screens import words as text_of

CLASSES = (1, 3, 7)
ADDRESS = {"network": "tiny", "classes": [str(one) for one in CLASSES], "S": "4", "m": "5"}


def ask(**changes: object) -> AuditSpec:
    # Fakes have a distance of half the images' and the length of the layer's name: around 9 and 10.
    return world.audit(classes=CLASSES, sets=3, pairs="needed", **changes)


@pytest.fixture
def finished(db: Database) -> AuditSpec:
    """The question of ADDRESS, worked to its end by a search that can be computed by hand."""
    world.network(db)
    spec = ask()
    audits.submit(db, spec)
    fakes.worker(db, Inline()).run(wanted=lambda: False)
    assert audits.recent(db)[0].state == "done"
    return spec


def test_a_finished_question_is_drawn_and_said(db: Database, finished: AuditSpec, open_screen) -> None:
    screen = open_screen("classes", **ADDRESS, to="16")
    assert not screen.exception
    said = text_of(screen).replace("\\", "")
    assert "no screen knows" not in said
    assert "classes 1, 3, 7" in said
    assert "sets of up to 3 images" in said
    assert "PGD fools the network on" in said
    assert "Open" not in said
    assert list(screen.dataframe[0].value["class"]) == ["1", "3", "7"]
    assert "fooled by PGD" in screen.dataframe[0].value
    assert len(screen.get("plotly_chart")) == 3


def test_networks_that_answered_the_same_stand_side_by_side(db: Database, finished: AuditSpec, open_screen) -> None:
    assert "Networks side by side" not in text_of(open_screen("classes", **ADDRESS, to="16"))
    world.network(db, name="second", sha256="5" * 64)
    audits.submit(db, finished.replace(network="second"))
    audits.submit(db, finished.replace(network="second", samples=2))  # another question
    fakes.worker(db, Inline()).run(wanted=lambda: False)
    screen = open_screen("classes", **ADDRESS, to="16")
    assert not screen.exception
    assert "Networks side by side" in text_of(screen)
    curve = Curve("conv1", 9, 2, np.linspace(0, 1, 3)[None], 9, 9)
    figure = compare.small_multiples(np.arange(3.0), {"a": [curve], "b": [curve]}, classes=3)
    heights = sorted({round(line.y0, 6) for line in figure.layout.shapes})
    assert heights == [round(np.log(2), 6), round(np.log(3), 6)]
    assert figure.layout.yaxis2.range[1] > np.log(3)


def test_what_is_not_known_is_said(db: Database, open_screen) -> None:
    world.network(db)
    said = text_of(open_screen("classes", **ADDRESS))
    assert "Nothing is known of this question yet" in said


def test_a_layer_of_which_nothing_is_known_is_said(db: Database, open_screen) -> None:
    """What two classes know of one layer is drawn; the other layers wait."""
    world.network(db)
    audits.submit(db, world.audit(samples=4, layers=("conv1",)))
    fakes.worker(db, Inline()).run(wanted=lambda: False)
    screen = open_screen("classes", **ADDRESS)
    assert not screen.exception
    assert "16 pairs are known" in text_of(screen)
    assert "Nothing is known of logits yet; conv1 is drawn" in text_of(screen).replace("\\", "")
    assert "At conv1, class by class" in text_of(screen).replace("\\", "")


def test_two_classes_are_sent_to_explore(db: Database, open_screen) -> None:
    world.network(db)
    said = text_of(open_screen("classes", **{**ADDRESS, "classes": ["3", "7"]}))
    assert "Choose three or more classes" in said
    assert audits.recent(db) == []


def test_sets_that_were_not_looked_for_are_asked_for(db: Database, open_screen) -> None:
    world.network(db)
    audits.submit(db, ask().replace(sets=2))
    fakes.worker(db, Inline()).run(wanted=lambda: False)
    said = text_of(open_screen("classes", **ADDRESS))
    assert "Start looks for sets of three and more images" in said
    assert "From pairs alone" in said
    alone = text_of(open_screen("classes", **ADDRESS, pairs_alone="true"))
    assert "Start looks for" not in alone


def test_a_contradiction_is_our_error(db: Database, finished: AuditSpec, open_screen) -> None:
    """Where logits are read whole, images that meet cannot both withstand the attack."""
    network = networks.by_name(db, "tiny")
    assert network is not None
    spec = ask(samples=3, m=(10,), layers=("logits",))
    audits.submit(db, spec)
    fakes.worker(db, Inline()).run(wanted=lambda: False)
    query = {**ADDRESS, "S": "3", "m": "10", "to": "16", "at": "14"}
    assert "please report" not in text_of(open_screen("classes", **query))
    ids = [row for row in range(1, 60) if not np.isnan(attacks.find(db, network.id, [row])[0])]
    with db.write() as connection:
        from store import tables

        connection.execute(tables.attacks.update().values(epsilon=math.inf))
        first = tables.attacks.c.image_id == ids[0]
        connection.execute(tables.attacks.update().where(first).values(epsilon=15.0))
    screen = open_screen("classes", **query)
    assert "cannot be" in text_of(screen)
    assert "please report" in text_of(screen)


def test_numbers_of_two_classes(db: Database, finished: AuditSpec) -> None:
    from pages import classes as page  # a script: imported for its function, in its bare mode
    from pages.parts import known

    network = networks.by_name(db, "tiny")
    assert network is not None
    answer = known.answer(db, finished, network)
    group = answer.groups["logits", 5]
    values, spread, counts = page.numbers_of(group, True, 0.0)
    assert spread is not None
    matrix = group[0].matrix.distance
    for a in range(3):
        for b in range(a + 1, 3):
            block = matrix[4 * a : 4 * a + 4, 4 * b : 4 * b + 4]
            of = block.ravel() if np.isfinite(block).all() else np.diag(block)
            assert values[a, b] == values[b, a] == pytest.approx(of.mean())
            assert counts[a, b] == len(of)
            assert spread[a, b] == pytest.approx(of.std(ddof=1) / 2)
    losses, none, _ = page.numbers_of(group, False, 12.0)
    assert none is None
    assert losses[0, 1] == pytest.approx(loss_curve(matrix[:4, 4:8], [12.0])[0])
    assert np.isnan(np.diag(values)).all()


def test_what_images_features_and_head_cost(db: Database, finished: AuditSpec) -> None:
    from pages import classes as page
    from pages.parts import data, known

    network = networks.by_name(db, "tiny")
    assert network is not None
    answer = known.answer(db, finished, network)
    attacked = attacks.find(db, network.id, known.image_ids(db, finished)[0])
    distance = answer.groups["logits", 5][0].graph
    at = float(np.nanmedian(distance))
    cost = page.costs(answer, attacked, at)
    assert cost is not None
    images = finished.sample.graph(data.input_distances(data.key(finished)))
    assert cost.images == pytest.approx(error_curve(images, [at])[0])
    assert cost.features >= error_curve(distance, [at])[0] - 1e-12
    assert cost.network == np.mean(attacked <= at)
    assert page.costs(answer, np.full_like(attacked, np.nan), at) is None


def test_audits_of_all_classes_are_listed_and_linked(db: Database, finished: AuditSpec, open_screen) -> None:
    assert "classes 1, 3, 7 of mnist-5k" in words.describe(audits.recent(db)[0])
    address = words.address_of_classes(finished)
    assert address["classes"] == ["1", "3", "7"]
    assert not {"a", "b", "layers", "sets"} & set(address)
    for name in ("audits", "home", "explore", "compare"):
        screen = open_screen(name)
        assert not screen.exception


def test_the_heat_map_names_and_marks() -> None:
    values = np.array([[np.nan, 1.0, 2.0], [1.0, np.nan, np.nan], [2.0, np.nan, np.nan]])
    figure = figures.heat_map(values, ["<b>", "two", "three"], title="distance", counts=values, chosen=(0, 1))
    assert figure.data[0].x[0] == "&lt;b&gt;"
    assert len(figure.data[1].x) == 4
    assert len(figure.layout.shapes) == 2


def test_errors_have_the_line_of_guessing() -> None:
    epsilon = np.linspace(0, 4, 5)
    network = (np.array([0.0, 2.0]), np.array([0.1, 0.5]))
    figure = figures.errors(epsilon, {"images": 0 * epsilon, "logits": epsilon / 8}, {}, network=network, classes=10)
    assert [trace.name for trace in figure.data] == ["images", "logits", "the network, under PGD"]
    assert figure.layout.shapes[0].y0 == pytest.approx(0.9)


def test_images_that_are_stored_are_found_by_their_numbers(db: Database, finished: AuditSpec) -> None:
    from pages.parts import data, known

    ids, same = known.image_ids(db, finished)
    np.testing.assert_array_equal(ids, same)
    chosen = data.sample(data.key(finished))
    assert images.ids(db, "mnist-5k", "train", chosen.left.tolist()) == dict(
        zip(chosen.left.tolist(), ids.tolist(), strict=True)
    )
