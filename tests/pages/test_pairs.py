"""Pairs without a browser: the pair of the address, the closest one, stepping, waiting, downloads, colour images."""

import json
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from pages.parts import pair
from robustness_core.found import Found
from store import audits, workers
from store.records import CollisionRecord
from testing import synthetic
from testing.screens import words

LAYERS = ["conv1", "conv2", "fc1", "logits"]


@pytest.fixture
def first(db) -> tuple[int, int]:
    """A filled store; the closest pair at the logits, of which a collision is kept at every layer."""
    network, spec = synthetic.network(db), synthetic.question()
    synthetic.finish(db, spec)
    return closest_of(db, network, spec)


def closest_of(db, network, spec) -> tuple[int, int]:
    from pages.parts import known

    answer = known.answer(db, spec, network)
    distance = answer.groups["logits", 10][0].matrix.distance
    i, j = np.unravel_index(distance.argmin(), distance.shape)
    chosen = int(answer.sample.left[i]), int(answer.sample.right[j])
    synthetic.keep_collisions(db, spec, network, *chosen)
    return chosen


def test_closest_pair_is_shown_at_every_layer_with_its_logits(db, first, open_screen) -> None:
    screen = open_screen("pairs")
    assert not screen.exception
    assert f"The pair {first[0]} (3) and {first[1]} (7)" in words(screen)
    assert words(screen).count("says **7** (100%)") == 4 * len(LAYERS)
    assert [layer for layer in LAYERS if f"**{layer}**: distance" in words(screen)] == LAYERS
    assert list(screen.dataframe[1].value["x̃"]) == [0.0] * 7 + [9.0] + [0.0] * 2
    assert audits.recent(db, kind="pair") == []  # nothing was lacking, so nothing was asked


def test_logits_meet_where_no_feature_is_projected_away(db, open_screen) -> None:
    network = synthetic.network(db, "=net")
    asked = synthetic.question("=net").replace(m=(None,))
    synthetic.finish(db, asked)
    from pages.parts import known

    answer = known.answer(db, asked, network)
    left, right = int(answer.sample.left[0]), int(answer.sample.right[0])
    synthetic.keep_collisions(db, asked, network, left, right)
    text = words(open_screen("pairs", network="=net", full="true", layer="fc1", pair=f"{left}-{right}"))
    assert "They meet up to the residual" in text
    text = words(open_screen("pairs", network="=net", m="100", layer="fc1", pair=f"{left}-{right}"))
    assert "They need not be equal" not in text  # m is as large as the layer


def test_a_distance_is_that_of_the_tables_also_where_the_pictures_are_of_another_collision(
    db, first, open_screen
) -> None:
    """The made-up collisions of the fixture have nothing to do with the made-up distances."""
    text = words(open_screen("pairs", pair=f"{first[0]}-{first[1]}"))
    least = open_screen("pairs").dataframe[0].value["distance"].iloc[0]
    assert f"**logits**: distance **{least:.4f}**, of another collision, found before; the larger of the moves" in text
    assert "can end at another collision" in text


def test_stepping_goes_through_the_order_of_the_chosen_layer(db, first, open_screen) -> None:
    screen = open_screen("pairs", layer="conv2")
    order = screen.dataframe[0].value
    assert order["distance"].is_monotonic_increasing
    next(button for button in screen.button if button.label == "Farther").click().run()
    assert screen.query_params["pair"] == f"{order['x'][1]}-{order['x′'][1]}"
    assert "Number 2 by distance" in words(screen)


def test_pair_that_is_not_kept_is_asked_for_once_at_every_layer(db, first, open_screen) -> None:
    order = open_screen("pairs").dataframe[0].value
    address = {"pair": f"{order['x'][3]}-{order['x′'][3]}"}
    for worker in workers.alive(db):
        workers.retire(db, worker.id)
    screen = open_screen("pairs", **address)
    assert not screen.exception
    assert "no worker is alive" in screen.get("progress")[0].proto.text
    assert "Cancel" in [button.label for button in screen.button]
    workers.register(db, "cpu", {})
    screen = open_screen("pairs", **address)
    (asked,) = audits.recent(db, kind="pair")
    assert [series.layer for series in asked.spec.series] == [
        LAYERS[-1],
        *LAYERS[:-1],
    ]  # first what is looked at
    assert "before anything else" in screen.get("progress")[0].proto.text


def test_pair_outside_the_sample_is_said_and_another_shown(db, first, open_screen) -> None:
    screen = open_screen("pairs", pair="1-2")
    assert "of the address is not in this sample" in words(screen)
    assert f"The pair {first[0]} (3)" in words(screen)


def test_unknown_question_offers_to_choose_two_images(db, open_screen) -> None:
    synthetic.network(db)
    screen = open_screen("pairs")
    assert "Name two images among the settings" in words(screen)
    screen.selectbox(key="image_x").set_value(screen.selectbox(key="image_x").options[2]).run()
    assert audits.recent(db) == []  # half a pair is none


def test_downloads_hold_every_picture_also_in_colour(monkeypatch) -> None:
    from robustness_core.spec import SeriesSpec

    rng = np.random.default_rng(0)
    left, right, met, other = rng.random((4, 3, 32, 32), dtype=np.float32)
    monkeypatch.setattr(pair, "originals", lambda chosen: (left, right))
    says = {"left": [1.0, 2.0]}
    moved = max(np.linalg.norm(met - left), np.linalg.norm(other - right))
    cell = np.array([[moved]], dtype=np.float64)
    known = Found(cell, 0 * cell + 1e-6, cell > 0, cell, ("cpu",), ("torch 2",))
    found = [
        pair.Kept(
            pair.Chosen(SeriesSpec("n", layer, 10, 0), "cifar10", "train", 5, 6),
            CollisionRecord(1, 2, 3, met, other, says),
            known,
        )
        for layer in ("conv1", "logits")
    ]
    lacking = pair.Chosen(SeriesSpec("n", "fc1", 10, 0), "cifar10", "train", 5, 6)
    early = pair.by_layer(found, "net", [lacking])
    assert dict(zip(early["layer"], early["found"], strict=True)) == {"conv1": True, "logits": True, "fc1": False}
    assert early["distance"].isna().tolist() == [False, False, True]
    assert early["m"].tolist() == [10, 10, 10]
    archive = np.load(BytesIO(pair.as_npz(found, "net")))
    np.testing.assert_array_equal(archive["x"], left)
    np.testing.assert_array_equal(archive["logits/x_other"], other)
    np.testing.assert_array_equal(archive["conv1/logits_left"], [1.0, 2.0])
    settings = json.loads(str(archive["settings"]))
    assert [row["layer"] for row in settings] == ["conv1", "logits"]
    assert settings[1].items() >= {"image": 5, "image_other": 6, "dataset": "cifar10", "m": 10, "seed": 0}.items()
    assert [settings[0][name] for name in ("distance", "pictured_distance")] == pytest.approx([moved, moved])
    assert settings[0].items() >= {"network": "net", "residual": 1e-6, "collided": True, "devices": "cpu"}.items()
    assert settings[0]["half_apart"] == pytest.approx(np.linalg.norm(left.astype(float) - right) / 2)
    sheet = np.asarray(Image.open(BytesIO(pair.as_png(found, 5.0))))
    picture = np.rint(np.moveaxis(left, 0, -1) * 255).astype(np.uint8).repeat(4, axis=0).repeat(4, axis=1)
    top, side = 18 + 8 + 18, 8
    np.testing.assert_array_equal(sheet[top : top + 128, side : side + 128], picture)


def test_how_far_a_found_pair_leaves_the_pixel_range_is_said() -> None:
    from robustness_core.spec import SeriesSpec

    inside, outside = np.full((2, 1, 2, 2), 0.5, dtype=np.float32)
    outside[0, 0] = [-0.3, 1.1]
    cell = np.array([[1.0]])
    known = Found(cell, cell, cell > 0, cell, (), ())
    chosen = pair.Chosen(SeriesSpec("n", "conv1", 10, 0), "mnist-5k", "train", 5, 6)
    kept = pair.Kept(chosen, CollisionRecord(1, 2, 3, inside, outside, {}), known)
    assert kept.outside == pytest.approx((2 / 8, 0.3))
    assert pair.outside_words(*kept.outside).startswith(
        "25.0% of the pixels of x̃ and x̃′ lie outside [0, 1], by at most 0.30"
    )
    outside[0, 0] = [1 + 1e-7, 0.0]  # rounding is no excess
    assert kept.outside[0] == 0
    assert pair.outside_words(*kept.outside) == "All pixels of x̃ and x̃′ lie within [0, 1]."


def test_table_of_pairs_marks_misclassified_images(db, first, open_screen) -> None:
    """The made-up network calls all images of kept pairs 7."""
    table = open_screen("pairs").dataframe[0].value
    assert set(table["errs on"][table["x"] == first[0]]) == {"x"}
    assert set(table["errs on"][table["x"] != first[0]]) == {""}


def test_a_layer_smaller_than_m_says_why_it_has_no_pairs(db, open_screen) -> None:
    synthetic.network(db)
    screen = open_screen("pairs", layer="logits", m="11")
    assert not screen.exception
    said = words(screen).replace("\\", "")
    assert "logits (10) at m = 11" in said
    assert "cannot be asked as it stands" in said
