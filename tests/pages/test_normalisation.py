"""A normalisation that is not settled: every figure says so, and a correction is another network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from pages.parts import captions, export, known, report, upload, words
from robustness_core import checkpoints, datasets, zoo
from robustness_core.networks import Network, build
from robustness_core.spec import sample_indices
from store import audits, networks
from testing import synthetic
from testing.screens import words as text_of

DOUBT = "others answer as well within the noise (MNIST)"
SENTENCE = f"The normalisation of small-made-up (none) is not settled: {DOUBT}"
NAME = "small-made-up"


@pytest.fixture
def doubtful(db):
    """A made-up network with a finished audit, uploaded with a normalisation in doubt."""
    synthetic.network(db, card={"inspected": {"normalisation_name": "none", "normalisation_doubt": DOUBT}})
    return synthetic.finish(db, synthetic.question())


def said(screen: Any) -> str:
    assert not screen.exception
    return text_of(screen).replace("\\", "")


@pytest.mark.parametrize(
    ("screen", "query"),
    [
        ("explore", {"network": NAME}),
        ("scaling", {"network": NAME, "one": "conv1", "ms": ["10"]}),
        ("compare", {"networks": [NAME, "settled"]}),
    ],
)
def test_every_figure_says_what_it_rests_on(doubtful, db, open_screen, screen: str, query: dict[str, Any]) -> None:
    settled = synthetic.network(db, "settled")
    synthetic.finish(db, synthetic.question("settled"))
    text = said(open_screen(screen, **query))
    assert SENTENCE in text
    assert f"The normalisation of {settled.name}" not in text


def test_pairs_say_what_they_rest_on(doubtful, db, open_screen) -> None:
    sample = datasets.load("mnist-5k").labels
    left, right = (int(sample_indices(sample, label, 20, 0)[0]) for label in (3, 7))
    synthetic.keep_collisions(db, doubtful.spec, networks.by_name(db, NAME), left, right)
    text = said(open_screen("pairs", **words.address_of_pair(doubtful.spec, "conv1", 1, (left, right))))
    assert SENTENCE in text


def test_settings_of_a_download_and_a_report_say_it_too(doubtful, db) -> None:
    network = networks.by_name(db, NAME)
    answer = known.answer(db, doubtful.spec, network)
    settings = export.settings(export.Part(network, answer, []))
    assert (settings["normalisation"], settings["normalisation_doubt"]) == (None, DOUBT)
    curves = known.curves(answer, network.features)
    caption = captions.of_question(answer, curves, network, drawn="mean")
    assert "(normalisation not settled)" in caption.first
    assert caption.first.endswith(f"{SENTENCE}; with another it is another function, with other distances.")
    assert report.latex(str(caption)).isascii()
    line = report.command(doubtful.spec, network).splitlines()[-1]
    assert "--mean 0 --std 1 " in line
    assert "--mean 0.5 --std 0.25 " in report.command(doubtful.spec, replace(network, mean=(0.5,), std=(0.25,)))


def test_an_architecture_in_doubt_is_said_with_what_the_other_reading_changes(db) -> None:
    rival = {"words": "the mean distance of 5 pairs is 1.17 (conv1) times what it is here"}
    network = synthetic.network(db, card={"inspected": {"architecture_doubt": "another fits", "rival": rival}})
    assert words.training(network).endswith("; architecture not settled")
    assert captions.in_doubt(network) == " Architecture not settled."
    said = captions.doubts([network])
    assert "another fits; as another it has other distances (the mean distance of 5 pairs is 1.17 (conv1)" in said
    settled = replace(network, card={"inspected": {"architecture_doubt": "", "rival": rival}})
    assert words.rival(settled) == captions.in_doubt(settled) == captions.doubts([settled]) == ""


def test_layers_whose_search_finds_nothing_are_named(doubtful, db) -> None:
    """The made-up distances hold one pair a layer that did not collide."""
    network = networks.by_name(db, NAME)
    answer = known.answer(db, doubtful.spec, network)
    share = 1 / next(iter(answer.groups.values()))[0].matrix.distance.size
    said = captions.unverified(answer)
    assert ("stand at their midpoints, which shows no robustness" in said) == (share >= 0.005)
    none = [replace(one, matrix=replace(one.matrix, collided=~one.matrix.known)) for one in answer.groups["conv1", 10]]
    assert "conv1 (100%)" in captions.unverified(replace(answer, groups={("conv1", 10): none}))
    flat = replace(network, card={"inspected": {"vanishing": ["fc1", "logits"]}})
    assert captions.doubts([flat]).startswith(f" The gradient of {NAME} vanishes at fc1, logits: ")


@pytest.mark.parametrize(
    ("inspected", "doubt"),
    [
        ({"normalisation_name": "none", "accuracy": None}, "no accuracy was measured"),
        ({"normalisation_name": "none", "accuracy": 0.9}, ""),
        ({"normalisation_name": "given", "accuracy": None}, ""),
        ({}, ""),
    ],
)
def test_cards_from_before_are_in_doubt_where_nothing_was_measured(db, inspected: dict[str, Any], doubt: str) -> None:
    assert words.normalisation_doubt(synthetic.network(db, card={"inspected": inspected})) == doubt


def registered(db, tmp_path, mean: list[float] | None = None, std: list[float] | None = None):
    """A bundled network, which wants pixels as they are, uploaded anew; with a wrong normalisation if one is given."""
    original = checkpoints.load(zoo.find("mnist-small-pgd2"))
    network = Network(original.body, original.input_shape, architecture=original.architecture, mean=mean, std=std)
    path = tmp_path / "upload.safetensors"
    path.write_bytes(checkpoints.clean_copy(network.eval()))
    return upload.add(db, upload.inspect(path, {}), "mine")


def button(screen: Any, label: str) -> Any:
    return next(one for one in screen.button if one.label == label)


def test_a_corrected_network_is_another_one(db, open_screen, tmp_path) -> None:
    wrong = registered(db, tmp_path, [0.5], [0.5])
    asked = synthetic.question("mine", layers=["conv1"])
    synthetic.finish(db, asked)
    screen = open_screen("networks", show="mine")
    button(screen, "Measure the usual ones").click().run()
    assert not screen.exception
    (usual,) = (box for box in screen.selectbox if box.label == "Another that was measured")
    (right,) = (option for option in usual.options if option.startswith("none: 9"))  # over 90 % of the images
    usual.select(right).run()
    button(screen, "Add the corrected network").click().run()
    text = said(screen)
    assert "mine, mean 0 is added." in text

    right = networks.by_name(db, "mine, mean 0")
    assert right is not None
    assert right.sha256 != wrong.sha256
    assert (right.mean, right.std) == ((0.0,), (1.0,))
    assert right.card["inspected"]["sha256"] == wrong.card["inspected"]["sha256"]  # of the same upload
    assert words.normalisation_doubt(right) == ""
    one, other = (
        {series.key for series in asked.search.series(network.sha256, network.features)} for network in (wrong, right)
    )
    assert not one & other
    assert known.answer(db, asked, wrong).known == known.answer(db, asked, wrong).total
    assert known.answer(db, asked.replace(network=right.name), right).known == 0
    assert [audit.spec.network for audit in audits.recent(db)] == ["mine"]

    path = tmp_path / "right.safetensors"
    path.write_bytes(networks.weights(db, right.id))
    images = torch.rand(3, 1, 28, 28)
    with torch.no_grad():
        torch.testing.assert_close(
            checkpoints.load(path)(images), checkpoints.load(zoo.find("mnist-small-pgd2"))(images)
        )
    assert "was corrected in a copy, mine, mean 0" in words.normalisation_doubt(networks.by_name(db, "mine"))


def test_a_typed_normalisation_and_what_cannot_be_one(db, open_screen, tmp_path) -> None:
    registered(db, tmp_path)
    screen = open_screen("networks", show="mine")
    button(screen, "Add the corrected network").click().run()
    assert [one.value for one in screen.error] == ["Choose a normalisation or type its mean and standard deviation."]
    for mean, std, sentence in (
        ("0.5", "", "must be finite numbers, and the std above 0"),
        ("0.5", "0", "must be finite numbers, and the std above 0"),
        ("half", "0.5", "must be finite numbers, and the std above 0"),
        ("0.1 0.2", "0.5 0.5", "channel"),
    ):
        for label, text in (("Mean", mean), ("Standard deviation", std)):
            next(box for box in screen.text_input if box.label == label).set_value(text)
        button(screen, "Add the corrected network").click().run()
        assert not screen.exception
        assert [sentence in one.value.replace("\\", "") for one in screen.error] == [True], (mean, std)
        assert len(networks.all(db)) == 1
    for label, text in (("Mean", "0.1307"), ("Standard deviation", ".3081")):
        next(box for box in screen.text_input if box.label == label).set_value(text)
    button(screen, "Add the corrected network").click().run()
    added = networks.by_name(db, "mine, mean 0.1307")
    assert (added.mean, added.std) == ((0.1307,), (0.3081,))


def test_a_doubt_is_shown_and_can_be_confirmed_away(doubtful, db, open_screen) -> None:
    network = networks.by_name(db, NAME)
    bundled = said(open_screen("networks", show=NAME))  # is settled by whoever bundles it
    assert "is not settled" not in bundled
    with db.write() as connection:
        connection.exec_driver_sql("UPDATE networks SET source = 'upload'")
    screen = open_screen("networks", show=NAME)
    assert f"The normalisation (none) is not settled: {DOUBT}. Every figure" in said(screen)
    assert "uploaded, training not stated; normalisation not settled" in said(screen)
    button(screen, "It is right as it is").click().run()
    text = said(screen)
    assert "not settled" not in text
    assert networks.by_name(db, NAME).sha256 == network.sha256
    assert SENTENCE not in said(open_screen("explore"))


def test_other_architectures_are_not_offered_as_normalisations() -> None:
    one = {"architecture": "a", "normalisation_name": "none", "normalisation": None, "accuracy": 0.5, "images": 9}
    found = upload.measured({"architecture": "a", "candidates": [one, {**one, "architecture": "b"}]})
    assert found == [{name: value for name, value in one.items() if name != "architecture"}]


READ = "another architecture fits the weights nearly as well: flatten, fc 16, tanh, fc 10"


def test_an_architecture_in_doubt_is_said_with_every_figure_and_read_again_later(db, open_screen, tmp_path) -> None:
    torch.manual_seed(0)
    network = build("flatten, fc 16, relu, fc 10", (1, 28, 28)).eval()
    path = tmp_path / "upload.safetensors"
    path.write_bytes(checkpoints.clean_copy(network))
    first = upload.add(db, upload.inspect(path, {}), "mine")
    inspected = {**first.card["inspected"], "architecture_doubt": READ, "architectures": [READ.partition(": ")[2]]}
    networks.put_card(db, first.id, {**first.card, "inspected": inspected})
    synthetic.finish(db, synthetic.question("mine", layers=["fc1"]))
    assert f"The architecture of mine is not settled: {READ}" in said(open_screen("explore", network="mine"))

    screen = open_screen("networks", show="mine")
    assert f"The architecture is not settled: {READ}" in said(screen)
    box = next(one for one in screen.selectbox if one.label == "Another that was measured")
    box.select(inspected["architectures"][0]).run()
    button(screen, "Add it as that").click().run()
    assert "mine, read again is added." in said(screen)
    again = networks.by_name(db, "mine, read again")
    path.write_bytes(networks.weights(db, again.id))
    images = torch.rand(3, 1, 28, 28)
    with torch.no_grad():
        wanted = network.body.logits(torch.tanh(network.body.fc1(images.flatten(1))))
        torch.testing.assert_close(checkpoints.load(path)(images), wanted)
    assert "read again as mine, read again" in words.architecture_doubt(networks.by_name(db, "mine"))
