"""Explore without a browser: questions, refusals, what is known, addresses, hostile names."""

import json
import re
from base64 import b64decode

import numpy as np
import pandas as pd
import pooch
import pytest

from pages.parts.words import address
from robustness_core import datasets
from robustness_core.engine.result import AuditResult
from robustness_core.errors import SpecError, StrataError
from robustness_core.found import Finding, Gap
from robustness_core.spec import AuditSpec, Threat, sample_indices
from store import audits, workers
from testing import synthetic
from testing.screens import words

NAME = "small-made-up"


def test_empty_store_says_what_comes(open_screen) -> None:
    screen = open_screen("explore")
    assert not screen.exception
    assert "There is no network yet" in words(screen)


def test_unasked_question_shows_its_cost_and_start_queues_it(db, open_screen) -> None:
    synthetic.network(db)
    screen = open_screen("explore")
    assert not screen.exception
    assert re.search(
        r"Start computes 1,600 pairs, \d+ s to \d+ min; a guess, for no audit of this kind has run here\.",
        words(screen),
    )
    screen.button[0].click().run()
    assert not screen.exception
    (audit,) = audits.recent(db)
    assert audit.spec == synthetic.question()
    assert "no worker is alive" in screen.get("progress")[0].proto.text


def test_known_question_is_answered_and_start_queues_nothing(db, open_screen) -> None:
    synthetic.network(db)
    synthetic.finish(db, synthetic.question())
    screen = open_screen("explore")
    assert not screen.exception
    assert "All 1,600 pairs are known" in words(screen)
    screen.button[0].click().run()
    assert len(audits.recent(db)) == 1
    losses, table = (one.value for one in screen.dataframe[:2])
    assert list(losses.columns) == ["layer", "ε½", "interval", "loss", "change"]
    assert list(table["layer"]) == ["input", "conv1", "conv2", "fc1", "logits"]
    assert list(table["to the one before"]) == ["", "", "×2", "÷62.7", "÷10"]
    assert list(table["known"]) == ["exact"] + ["400 of 400"] * 4
    assert set(losses) & set(table) == {"layer"}
    closest = screen.dataframe[2].value
    assert closest["distance"].is_monotonic_increasing


def test_partly_known_question_says_how_much(db, open_screen) -> None:
    synthetic.network(db)
    audit = synthetic.finish(db, synthetic.question(), share=0.5)
    audits.cancel(db, audit.id)
    screen = open_screen("explore")
    assert not screen.exception
    assert "800 of 1,600 pairs are known" in words(screen)
    assert "an unknown pair counts as no edge" in words(screen)


def test_norm_and_valid_images_are_asked_and_the_range_of_budgets_follows(db, open_screen) -> None:
    synthetic.network(db)
    screen = open_screen("explore", norm="linf", box="true")
    assert not screen.exception
    assert screen.number_input(key="to").value == 0.5
    screen.button[0].click().run()
    (audit,) = audits.recent(db)
    assert audit.spec.search.threat == Threat("linf", box=True)
    assert audit.spec == synthetic.question().replace(threat="linf", box=True)
    screen.selectbox(key="norm").set_value("l2").run()
    assert screen.number_input(key="to").value == 8


def test_what_is_known_in_linf_is_drawn_without_what_is_of_l2(db, open_screen) -> None:
    synthetic.network(db)
    asked = synthetic.question(samples=6, layers=["conv1", "logits"]).replace(threat="linf", box=True)
    synthetic.finish(db, asked)
    query = {name: value for name, value in address(asked).items() if name not in ("network",)}
    screen = open_screen("explore", **query)
    assert not screen.exception
    said = words(screen).replace("\\", "")
    assert "All 72 pairs are known" in said
    assert "in ℓ∞, valid images" in said
    assert "stay in the pixel range" in said
    assert "closed form in ℓ2 without the box alone" in said
    drawn = json.loads(screen.get("plotly_chart")[0].proto.spec)
    assert {trace["name"] for trace in drawn["data"]} >= {"conv1", "logits"}
    assert "input" not in {trace["name"] for trace in drawn["data"]}
    assert screen.dataframe[1].value["known"][0] == ""


RESTS_ON = Finding(288, 576, 0.04, (1.0, 2.0), (0.1, 0.69), again=3, nearer=2, gap=Gap(6, 1.01, 1.03))


def test_curves_of_the_needed_pairs_are_whole_and_say_what_they_rest_on(db, open_screen) -> None:
    from pages.parts import export, known

    network = synthetic.network(db)
    asked = synthetic.question(samples=24, layers=["fc1", "logits"]).replace(pairs="needed")
    synthetic.finish(db, asked, share=0.5, finding=RESTS_ON)
    screen = open_screen("explore", layers=["fc1", "logits"], S="24")
    assert not screen.exception
    said = words(screen).replace("\\", "")
    assert "576 of 1,152 pairs are known; the others cannot change these curves" in said
    assert "those of the S² pairs that it needs" in said
    assert "576 of 1,152 pairs (50 %) were searched" in said
    assert "Search gap, on 12 random pairs" in said
    assert "6 pairs lay far above the guess and were searched again, 4 with a nearer collision" in said
    curves = json.loads(screen.get("plotly_chart")[0].proto.spec)
    assert {trace["line"]["width"] for trace in curves["data"] if trace["name"] == "fc1"} == {2.4}  # of a whole curve
    table = screen.dataframe[1].value
    assert table["mean distance"][1:].isna().all()  # of the near pairs it would be short
    assert table["search gap"][1:].tolist() == [1.01, 1.01]
    matrix = json.loads(screen.get("plotly_chart")[-1].proto.spec)
    empty = next(trace for trace in matrix["data"] if trace.get("name") == "not searched")
    assert len(b64decode(empty["x"]["bdata"])) == 288  # a byte each
    answer = known.answer(db, asked, network)
    part = export.Part(network, answer, known.curves(answer, network.features))
    document = json.loads(export.as_json([part]))
    assert AuditResult.from_json(document).missing == 0
    assert [one["finding"]["gap"]["q90"] for layer in document["layers"] for one in layer["projections"]] == [1.03] * 2
    assert "partial" not in document

    screen.toggle(key="gap").set_value(True).run()
    assert not screen.exception
    curves = json.loads(screen.get("plotly_chart")[0].proto.spec)
    assert [trace["name"] for trace in curves["data"] if "search gap" in trace["name"]] == [
        "fc1, search gap",
        "logits, search gap",
    ]
    screen.selectbox(key="searched").set_value("all").run()
    assert "Start computes the other 576" in words(screen)


def test_both_readings_stand_side_by_side_and_one_button_computes_the_other(db, open_screen) -> None:
    synthetic.network(db)
    asked = synthetic.question(samples=4, layers=["fc1", "logits"])
    synthetic.finish(db, asked.replace(projections=2))
    address = {"layers": ["fc1", "logits"], "S": "4", "N": "2"}
    screen = open_screen("explore", **address)
    assert not screen.exception
    headings = [heading.value for heading in screen.subheader]
    assert headings[:2] == ["Through m = 10 mixtures", "Without projection"]
    assert "Nothing is known without projection yet; 32 pairs" in words(screen)
    assert len(screen.get("plotly_chart")) == 3  # curves, bars, matrix
    next(button for button in screen.button if button.label == "Compute without projection").click().run()
    assert not screen.exception
    (queued,) = [audit for audit in audits.recent(db) if audit.state == "queued"]
    assert queued.spec == asked.replace(m=(None,))
    assert "Another question is at work" not in words(screen)
    synthetic.finish(db, queued.spec)
    screen = open_screen("explore", **address)
    figures = [json.loads(chart.proto.spec) for chart in screen.get("plotly_chart")]
    assert len(figures) == 5  # of each reading curves and bars, each with an input of its own, and the matrix
    for figure, own in zip(figures, ("input, band", "input"), strict=False):
        assert own in [trace["name"] for trace in figure["data"]]
    assert sum("input" in figure["data"][0].get("x", ()) for figure in figures) == 2
    assert "Compute without projection" not in [button.label for button in screen.button]
    table = screen.dataframe[0].value
    assert table["loss, no projection"].notna().all()


def test_mean_distance_is_of_projections_of_which_every_pair_is_known(db, open_screen) -> None:
    """The nearest pairs are searched first, so the mean of some would be too small."""
    synthetic.network(db)
    synthetic.finish(db, synthetic.question(samples=4, layers=["conv1", "logits"]), share=0.5)
    table = open_screen("explore", layers=["conv1", "logits"], S="4").dataframe[1].value
    assert table["mean distance"][1:].isna().all()
    assert table["least distance"].notna().all()


def test_a_link_to_another_question_opens_it_whatever_was_asked_before(db, open_screen) -> None:
    """Also where it names what its widgets have by default; one to a network alone leaves the other filters."""
    synthetic.network(db)
    synthetic.network(db, "second")
    screen = open_screen("explore", network="second", S="5", m="3", method="algorithm1", full="true")
    screen.query_params.clear()
    screen.switch_page("pages/audits.py").run()
    for name, value in address(synthetic.question()).items():
        screen.query_params[name] = value
    screen.switch_page("pages/explore.py").run()
    assert not screen.exception
    shown = [
        screen.selectbox(key="network").value,
        screen.number_input(key="S").value,
        screen.number_input(key="m").value,
    ]
    assert shown == ["small-made-up", 20, 10]
    assert screen.selectbox(key="method").value == "balanced"
    assert not screen.toggle(key="full").value

    screen.number_input(key="S").set_value(6).run()
    screen.query_params.clear()
    screen.switch_page("pages/home.py").run()
    screen.query_params["network"] = "second"
    screen.switch_page("pages/explore.py").run()
    assert not screen.exception
    assert (screen.selectbox(key="network").value, screen.number_input(key="S").value) == ("second", 6)


def test_larger_sample_counts_only_what_is_missing(db, open_screen) -> None:
    synthetic.network(db)
    synthetic.finish(db, synthetic.question())
    screen = open_screen("explore", S="30")
    assert "Start computes those of the other 2,000 that matter" in words(screen)


def test_running_audit_shows_progress_worker_and_cancel(db, open_screen) -> None:
    synthetic.network(db)
    audit = synthetic.finish(db, synthetic.question(), share=0.5)
    screen = open_screen("explore")
    assert not screen.exception
    assert "800 of 1,600 pairs" in screen.get("progress")[0].proto.text
    assert "made\\-up device" in screen.get("progress")[0].proto.text
    next(button for button in screen.button if button.label == "Cancel").click().run()
    assert audits.get(db, audit.id).state == "cancelled"
    assert not screen.exception


def test_running_audit_of_another_question_says_what_it_asks(db, open_screen) -> None:
    synthetic.network(db)
    synthetic.finish(db, synthetic.question(), share=0.5)
    assert "Another question" not in words(open_screen("explore"))
    mine = words(open_screen("explore", S="5")).replace("\\", "")
    assert "Another question is at work, small-made-up: " in mine
    assert "All 100 pairs are known" in mine  # what is true of one's own question is still said
    mine = words(open_screen("scaling", S="10", ms=["2", "5"]))
    assert "200 of 200 pairs are not known yet; Start computes them" in mine


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ({"m": "11", "layers": "logits"}, "larger than the 10 features of layer logits"),
        ({"S": "401"}, "larger than class 3, which has 400 images"),
        ({"a": "7"}, "The two classes must differ"),
        ({"from": "9.0"}, "must be above the smallest"),
        ({"layers": ""}, "Choose at least one layer"),
        (
            {"dataset": "mnist"},
            "; give a folder that holds it as STRATA_DATA, or take mnist-5k.",
        ),
    ],
)
def test_refused_question_is_one_sentence_and_nothing_is_queued(db, open_screen, query, sentence) -> None:
    synthetic.network(db)
    screen = open_screen("explore", **query)
    assert not screen.exception
    assert any(sentence in error.value.replace("\\", "") for error in screen.error)
    assert next(button for button in screen.button if button.label == "Start").disabled
    assert audits.recent(db) == []


def test_network_for_photographs_is_asked_about_the_bundled_ones(db, open_screen) -> None:
    synthetic.network(db, input_shape=(3, 32, 32))
    screen = open_screen("explore")
    assert not screen.exception
    (dataset,) = (box for box in screen.selectbox if box.label == "Data set")
    assert dataset.options == ["cifar10-2k", "cifar10", "svhn", "cifar100"]
    screen.button[0].click().run()
    (asked,) = audits.recent(db)
    assert (asked.spec.sample.dataset, asked.spec.sample.classes, asked.spec.sample.split) == (
        "cifar10-2k",
        (3, 7),
        "train",
    )


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("folder", ["cache", "given"])
def test_screen_never_downloads_whatever_part_of_a_data_set_is_there(
    db, open_screen, tmp_path, monkeypatch, split, folder
) -> None:
    """A part in the cache is a download that was stopped, one in the folder that the user gave is what there is."""

    def retrieve(url: str, **_: object) -> None:
        raise AssertionError(f"{url} was asked for")

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    (tmp_path / "given").mkdir()
    monkeypatch.setenv("STRATA_DATA", str(tmp_path / "given"))
    part = tmp_path / folder / "cifar-10-batches-bin" / "data_batch_1.bin"
    part.parent.mkdir(parents=True)
    part.write_bytes(bytes(3073))  # one image of class 0
    present = datasets.get("cifar10").present(split)
    assert present is (folder == "given" and split == "train")
    absent = "CIFAR-10 is not in STRATA_DATA nor in the cache"
    sentence = "larger than class 3, which has 0 images" if present else absent
    synthetic.network(db, input_shape=(3, 32, 32))
    screen = open_screen("explore", dataset="cifar10", split=split)
    assert not screen.exception
    assert any(sentence in error.value.replace("\\", "") for error in screen.error)
    with pytest.raises(StrataError, match=sentence):
        audits.submit(db, synthetic.question().replace(dataset="cifar10", split=split))


def test_a_data_set_of_one_row_has_its_own_classes_and_splits_on_the_screen(db, open_screen, leaves) -> None:
    synthetic.network(db, input_shape=leaves.input_shape)
    screen = open_screen("explore", m="3", S="4")
    assert not screen.exception
    boxes = {box.label: box for box in screen.selectbox}
    assert boxes["Data set"].options == ["leaves"]
    assert boxes["Class of x"].options == boxes["Class of x′"].options == ["0 ash", "1 beech", "2 cedar"]
    assert (boxes["Class of x"].value, boxes["Class of x′"].value) == leaves.pair
    assert boxes["Split"].options == ["train"]
    screen.button[0].click().run()
    (asked,) = audits.recent(db)
    assert (asked.spec.sample.dataset, asked.spec.sample.classes) == ("leaves", leaves.pair)
    with pytest.raises(SpecError, match=r"There is no class 3 in leaves: its classes are 0 to 2\."):
        audits.submit(db, asked.spec.replace(classes=(2, 3)))
    screen = open_screen("explore", a="7", m="3", S="4")
    assert "The address names 7, which is not here; another is shown." in words(screen)


def test_a_layer_smaller_than_m_is_left_out_and_named(db, open_screen) -> None:
    synthetic.network(db)
    screen = open_screen("explore", m="11")
    assert not screen.exception
    said = " ".join(info.value for info in screen.info).replace("\\", "")
    assert "small-made-up: Left out, for m is above the number of features: logits (10) at m = 11." in said
    next(button for button in screen.button if button.label == "Start").click().run()
    assert audits.recent(db)[0].spec.search.layers == ("conv1", "conv2", "fc1")


@pytest.mark.parametrize(
    "query",
    [
        {"network": "no-such"}, {"S": "abc"}, {"m": "-3"}, {"layers": ["nothing"]}, {"at": "17.3"}, {"pair": "x"},
        {"pair": "99999999-1"}, {"layer": "nothing"}, {"projection": "9"}, {"to": "inf"}, {"budgets": "1e9"},
        {"a": "12"}, {"method": "<script>"}, {"seed": "99999999999999999999"},
    ],
)  # fmt: skip
def test_wrong_address_still_gives_a_screen(db, open_screen, query) -> None:
    synthetic.network(db)
    synthetic.finish(db, synthetic.question())
    screen = open_screen("explore", **query)
    assert not screen.exception
    assert screen.title[0].value == "Explore"


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"network": "no-such"}, "The address names no\\-such, which is not here"),
        ({"layers": ["conv1", "nothing"]}, "The address names nothing, which is not here"),
        ({"layer": "<b>"}, r"The address names \<b\>, which is not here"),
        ({"pair": "1-2"}, "of the address is not in this sample"),
        ({"network": NAME, "layers": ["conv1"], "at": "2", "layer": "conv1"}, ""),
    ],
)  # fmt: skip
def test_what_the_address_names_and_is_not_there_is_said(db, open_screen, query, said) -> None:
    synthetic.network(db)
    synthetic.finish(db, synthetic.question())
    shown = [one.value for one in open_screen("explore", **query).warning]
    assert len(shown) == bool(said)
    assert said in "".join(shown)


def test_address_restores_the_question(db, open_screen) -> None:
    synthetic.network(db)
    synthetic.network(db, "another")
    screen = open_screen(
        "explore", network=NAME, layers=["conv2", "conv1"], S="5", m="3", method="algorithm1", at="4.0"
    )
    screen.button[0].click().run()
    (audit,) = audits.recent(db)
    assert audit.spec == AuditSpec.of(
        NAME, dataset="mnist-5k", classes=(3, 7), samples=5, layers=("conv1", "conv2"), m=(3,), method="algorithm1"
    )


def test_changing_the_network_takes_its_own_layers(db, open_screen) -> None:
    synthetic.network(db, "another")
    synthetic.network(db)
    screen = open_screen("explore", layers=["conv1"])
    screen.selectbox(key="network").set_value(NAME).run()
    assert not screen.exception
    assert screen.multiselect(key="layers").value == ["conv1", "conv2", "fc1", "logits"]


def test_pair_of_the_address_is_asked_for_and_failure_is_said(db, open_screen) -> None:
    network = synthetic.network(db)
    synthetic.finish(db, synthetic.question())
    first = open_screen("explore").dataframe[2].value.iloc[0]
    screen = open_screen("explore", pair=f"{first['x']}-{first['x′']}")
    assert not screen.exception
    (asked,) = audits.recent(db, kind="pair")
    assert asked.spec.series[0].network == network.sha256
    worker = workers.register(db, "cpu", {})
    claimed = audits.claim(db, worker.id)
    audits.fail(db, claimed, "It went wrong.")
    screen = open_screen("explore", pair=f"{first['x']}-{first['x′']}")
    assert "It went wrong" in words(screen)
    assert len(audits.recent(db, kind="pair")) == 1


def stored_pair(db, open_screen):
    """The table of closest pairs, and Explore with the first of them open, its images in the store."""
    network = synthetic.network(db)
    spec = synthetic.question(layers=["conv1", "logits"])
    synthetic.finish(db, spec)
    closest = open_screen("explore", layers=["conv1", "logits"]).dataframe[2].value
    first = (int(closest.iloc[0]["x"]), int(closest.iloc[0]["x′"]))
    synthetic.keep_collisions(db, spec, network, *first)
    screen = open_screen("explore", layers=["conv1", "logits"], pair=f"{first[0]}-{first[1]}")
    return closest, screen


def test_stored_pair_is_shown_stepped_through_and_opened_in_pairs(db, open_screen) -> None:
    closest, screen = stored_pair(db, open_screen)
    assert not screen.exception
    assert words(screen).count("says **7** (100%)") == 4
    assert "Number 1 by distance" in words(screen)
    assert audits.recent(db, kind="pair") == []
    link = next(link.proto for link in screen.get("page_link") if "Open in Pairs" in link.proto.label)
    assert {"layer=conv1", f"pair={closest.iloc[0]['x']}-{closest.iloc[0]['x′']}", "S=20"} <= set(
        link.query_string.split("&")
    )
    next(button for button in screen.button if button.label == "Farther").click().run()
    second = closest.iloc[1]
    assert screen.query_params["pair"] == f"{second['x']}-{second['x′']}"
    assert "Number 2 by distance" in words(screen)


def test_hostile_network_name_stays_text(db, open_screen) -> None:
    name = "<img src=x onerror=alert(1)> [link](http://evil) $x$ :red[a] **b**"
    synthetic.network(db, name)
    screen = open_screen("explore")
    assert not screen.exception
    caption = next(text.value for text in screen.caption if "Optimal loss of" in text.value)
    assert "\\[link\\]\\(http" in caption
    assert "\\<img" in caption
    assert "\\:red\\[" in caption


def test_downloads_hold_the_settings_and_the_numbers(db) -> None:
    from pages.parts import export, known

    network = synthetic.network(db)
    spec = synthetic.question()
    synthetic.finish(db, spec, share=0.5)
    answer = known.answer(db, spec, network)
    part = export.Part(network, answer, known.curves(answer, network.features))
    document = json.loads(export.as_json([part]))
    assert document["settings"]["spec"] == json.loads(json.dumps(spec.to_json()))
    assert document["settings"]["devices"] == ["made-up device"]
    assert [layer["layer"] for layer in document["layers"]] == list(spec.search.layers)
    distances = np.array(document["layers"][1]["projections"][0]["distances"], dtype=float)
    np.testing.assert_array_equal(distances, answer.groups["conv2", 10][0].matrix.distance)
    assert document["partial"] is True
    read = AuditResult.from_json(document)
    assert (read.spec, read.known, read.total) == (spec, answer.known, answer.total)
    np.testing.assert_array_equal(read.series[1].found.distance, distances)
    lines = export.as_csv([part]).splitlines()
    assert len(lines) == 1 + 81 * 4
    assert "made-up device" in lines[1]
    assert "torch 0.0" in lines[1]


def test_known_distances_never_fall_with_m_nor_grow_with_depth_without_projection(db) -> None:
    """Made-up distances know nothing of each other; an answer gives each pair its nearest, in any order of layers."""
    from pages.parts import known

    network = synthetic.network(db)
    spec = synthetic.question(samples=4).replace(m=(5, 1, 10, None), projections=2)
    synthetic.finish(db, spec)
    layers = [layer for layer in network.features if layer in spec.search.layers]
    answer = known.answer(db, spec.replace(layers=spec.search.layers[::-1]), network)
    for layer in layers:
        for number in range(2):
            of_m = {m: answer.groups[layer, m] for m in (1, 5, 10)}  # of m = nj there is one, whatever the seed
            rising = [group[min(number, len(group) - 1)].matrix.distance for group in of_m.values()]
            assert (np.diff(np.stack([*rising, answer.groups[layer, None][0].matrix.distance]), axis=0) >= 0).all()
    falling = np.stack([answer.groups[layer, None][0].matrix.distance for layer in layers])
    assert (np.diff(falling, axis=0) <= 0).all()
    assert (falling[0] > falling[-1]).any()


def test_csv_text_is_no_formula(db) -> None:
    from pages.parts import export, known

    network = synthetic.network(db, "=cmd()")
    spec = synthetic.question("=cmd()")
    answer = known.answer(db, spec, network)
    part = export.Part(network, answer, known.curves(answer, network.features))
    assert ",'=cmd()," in export.as_csv([part])


def test_report_is_whole_safe_and_its_command_asks_the_same(db) -> None:
    import argparse
    import html
    import shlex

    from charts.curves import layer_curves
    from pages.parts import export, known, report
    from robustness_core.commands import audit as command

    name = "<script>alert(1)</script> & co"
    network = synthetic.network(db, name)
    spec = synthetic.question(name, samples=5, layers=["conv1", "logits"]).replace(m=(None,), seed=3, preset="fast")
    answer = known.answer(db, spec, network)
    curves = known.curves(answer, network.features)
    figure = layer_curves(spec.epsilon.values(), curves, {})
    part = export.Part(network, answer, curves)
    tables = {"<b>x": pd.DataFrame({"layer": ["<b>x"]})}
    page = report.page(f"About {name}", [part, part], [figure, figure], tables, f"Loss of {name}.")
    assert "<script>alert(1)" not in page
    assert "<b>x" not in page
    assert "<script src" not in page  # plotly's code is inside
    assert page.count("Plotly.newPlot(") == 2
    assert page.count(html.escape(report.command(spec, network))) == 2  # one for each network of a comparison
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    asked = parser.parse_args(shlex.split(report.command(spec, network), comments=True)[4:])
    assert (asked.layers, asked.m, asked.seed) == ("conv1,logits", ["none"], 3)
    assert (asked.samples, asked.preset, asked.epsilon, asked.classes) == (5, "fast", "0:8:81", ["3", "7"])


def test_the_pair_stays_open_on_the_way_through_other_screens(db, open_screen) -> None:
    network = synthetic.network(db)
    spec = synthetic.question()
    synthetic.finish(db, spec)
    first = open_screen("explore").dataframe[2].value.iloc[0]
    pair = f"{first['x']}-{first['x′']}"
    synthetic.keep_collisions(db, spec, network, int(first["x"]), int(first["x′"]))
    screen = open_screen("explore", network=network.name, pair=pair)
    for name in ("scaling", "pairs", "explore"):
        screen.query_params.clear()
        screen.switch_page(f"pages/{name}.py").run()
        assert not screen.exception
        assert ("pair" in screen.query_params) == (name != "scaling")
    assert "".join(screen.query_params["pair"]) == pair


def test_head_is_measured_on_the_very_images_or_not_at_all(db, open_screen) -> None:
    """FAB misleads two of the eight images within 2 and a third within 3; the made-up logits first collide beyond."""
    measured = {
        "dataset": "mnist-5k", "split": "train", "classes": [3, 7], "seed": 0,
        "indices": [[1314, 1555, 1489, 1582], [3150, 3148, 2800, 2969]],
        "fab_norms": [[0.0, 1.5, 2.5, 3.5], [4.0] * 4],
    }  # fmt: skip
    synthetic.network(db, "measured", {"evaluation": {"audited": measured}})
    for seed in (0, 1):
        synthetic.finish(db, synthetic.question("measured", samples=4).replace(seed=seed))
    for at, share in (("1", "12.5%"), ("2", "25.0%")):
        screen = open_screen("explore", network="measured", S="4", at=at)
        assert not screen.exception
        said = words(screen).replace("\\", "")
        assert f"On the same 8 images at ε = {at} the network errs on at least {share} (FAB)" in said
        assert "What the head costs" in said
    for other in ({"seed": "1"}, {"layers": ["conv1", "fc1"]}):
        screen = open_screen("explore", network="measured", S="4", **other)
        assert not screen.exception
        assert "the head costs" not in words(screen)


def test_where_m_is_the_number_of_features_one_projection_is_said_to_serve_all(db, open_screen) -> None:
    synthetic.network(db)
    synthetic.finish(db, synthetic.question(samples=4).replace(projections=3))
    screen = open_screen("explore", S="4", N="3")
    intervals = dict(zip(screen.dataframe[0].value["layer"], screen.dataframe[0].value["interval"], strict=True))
    assert " to " in intervals["fc1"]
    assert not intervals["logits"]  # that over the images would stand among those over projections
    said = words(screen).replace("\\", "")
    assert said.count(" At logits (m = nj) one projection says what all would.") == 2  # curves and bars
    assert "Student's 95 % interval" in said
    assert "may leave the pixel range [0, 1]" in said
    for one in ("1", "2"):
        said = words(open_screen("explore", S="4", N=one, bars="loss at ε")).replace("\\", "")
        assert ("holds the mean of all half of the time" in said) == (one == "2")


def test_misclassified_images_are_marked_and_left_out_at_a_click(db, open_screen) -> None:
    """The card knows one of class 3 and, beyond the sample, the one that would take its place; the store one of 7."""
    from pages.parts import data

    spec = synthetic.question("measured", samples=4, layers=["conv1", "logits"])
    order = data.sample(data.key(spec.replace(samples=6)))
    left, right = order.left.tolist(), order.right.tolist()
    measured = {
        "dataset": "mnist-5k", "split": "train", "classes": [3, 7], "seed": 0, "indices": [left, right],
        "fab_norms": [[0.0, 2.0, 2.0, 2.0, 0.0, 2.0], [2.0] * 6],
    }  # fmt: skip
    network = synthetic.network(db, "measured", {"evaluation": {"audited": measured}})
    synthetic.finish(db, spec)
    synthetic.keep_collisions(db, spec, network, left[1], right[2])  # the network calls all of them 7
    address = {"network": "measured", "S": "4", "layers": ["conv1", "logits"]}
    screen = open_screen("explore", **address)
    assert not screen.exception
    wrong = sorted([left[0], left[1]])
    said = words(screen).replace("\\", "")
    assert f"errs on 2 of these 8 images, as far as is known: {wrong[0]}, {wrong[1]}." in said
    closest = screen.dataframe[2].value
    assert set(closest["errs on"][closest["x"].isin(wrong)]) == {"x"}
    assert set(closest["errs on"][~closest["x"].isin(wrong)]) == {""}
    (figure,) = (json.loads(chart.proto.spec) for chart in screen.get("plotly_chart")[-1:])
    assert sum(shape["fillcolor"] == "#ff2d55" for shape in figure["layout"]["shapes"]) == 2
    next(button for button in screen.button if button.label == "Leave out").click().run()
    assert not screen.exception
    left_out = sorted([left[0], left[1], left[4]])
    assert screen.text_input(key="left_out").value == " ".join(str(number) for number in left_out)
    said = words(screen).replace("\\", "")
    assert "errs on" not in said
    next(button for button in screen.button if button.label == "Start").click().run()
    assert audits.recent(db)[0].spec == spec.replace(left_out=tuple(left_out))
    again = open_screen("explore", **address, left_out="nothing")
    assert any("left out by their numbers" in error.value for error in again.error)


def test_pair_says_which_of_its_images_is_misclassified(db, open_screen) -> None:
    _, screen = stored_pair(db, open_screen)
    assert "Without any attack the network errs on x." in words(screen)  # it calls both 7


def test_curves_have_every_step_from_the_second_drawing_on(db, open_screen) -> None:
    """The first shows them at the budgets, so that nobody waits; both are nowhere above the bound."""
    synthetic.network(db)
    synthetic.finish(db, synthetic.question(samples=6))
    screen = open_screen("explore", S="6")

    def lines() -> dict[str, int]:
        traces = json.loads(screen.get("plotly_chart")[0].proto.spec)["data"]
        return {trace["name"]: trace["line"]["shape"] for trace in traces if trace["mode"] == "lines"}, len(traces)

    shapes, count = lines()
    assert count == 5
    screen.select_slider(key="at").set_value(1.0).run()
    assert not screen.exception
    assert lines() == (shapes, 10)
    assert set(shapes.values()) == {"hv"}


def test_a_pair_without_projection_has_the_distance_of_its_cell(db, open_screen) -> None:
    """Whole features that meet do so at every later layer: both have the least distance of this layer and before."""
    network = synthetic.network(db)
    spec = synthetic.question(samples=4).replace(m=(None,))
    synthetic.finish(db, spec)
    sample = datasets.load("mnist-5k").labels
    left, right = (int(sample_indices(sample, label, 4, 0)[0]) for label in (3, 7))
    synthetic.keep_collisions(db, spec, network, left, right)
    for layer in ("conv1", "logits"):
        screen = open_screen("explore", full="true", S="4", layer=layer, pair=f"{left}-{right}")
        assert not screen.exception
        closest = screen.dataframe[2].value
        (cell,) = closest["distance"][(closest["x"] == left) & (closest["x′"] == right)]
        assert f"**{layer}**: distance **{cell:.4f}**" in words(screen)


def test_a_time_is_a_guess_until_such_an_audit_has_run_here(db) -> None:
    from pages.parts import asking

    network = synthetic.network(db)
    asked = synthetic.question()
    lack = asking.Lack(network, asked, 400)
    assert asking.duration(db, [lack]).endswith("; a guess, for no audit of this kind has run here")
    synthetic.finish(db, asked)
    assert "guess" not in asking.duration(db, [lack])
    unprojected = asking.Lack(network, asked.replace(m=(None,)), 400)
    assert "guess" in asking.duration(db, [unprojected])
