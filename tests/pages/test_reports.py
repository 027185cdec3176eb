"""Scaling's law and the reports of Compare and Scaling: the numbers on screen and in the file."""

import json
import math
import re
from io import StringIO

import numpy as np
import pandas as pd
import pytest

from robustness_core.engine.tasks import Norms
from robustness_core.optimal_loss import loss_curve
from robustness_core.optimal_loss.statistics import half_budget
from robustness_core.spec import METHODS
from store import audits, images, networks, spectra
from testing import synthetic
from testing.screens import downloads, words

LAW = {"network": "small-made-up", "one": "conv1.pre", "ms": ["1", "2", "5"], "S": "4", "N": "2"}


@pytest.fixture
def affine(db):
    """An audit of an affine layer at three m, and its norms: ‖L‖_F = 8, r4 = 400, every ‖L(x - x')‖ = 16."""
    network = synthetic.network(db)
    spec = synthetic.question(samples=4, layers=["conv1.pre"]).replace(m=(1, 2, 5), projections=2)
    synthetic.finish(db, spec)

    def measure() -> None:
        from pages.parts import data

        sample = data.sample(data.key(spec))
        ids = images.ids(db, spec.sample.dataset, spec.sample.split, [*sample.left.tolist(), *sample.right.tolist()])
        sides = [[ids[i] for i in side.tolist()] for side in (sample.left, sample.right)]
        spectra.record(db, network.id, "conv1.pre", Norms(8.0, 400.0, True, np.full((4, 4), 16.0)), *sides)

    return measure


def test_scaling_of_an_affine_layer_states_its_norms_once_they_are_measured(affine, db, open_screen) -> None:
    screen = open_screen("scaling", **LAW)
    assert not screen.exception
    assert "not measured for these images yet; Start measures them" in words(screen).replace("\\", "")
    next(button for button in screen.button if button.label == "Start").click().run()
    assert audits.recent(db)[0].state == "queued"
    affine()
    screen = open_screen("scaling", **LAW)
    text = words(screen).replace("\\", "")
    about = (
        "Of conv1.pre (nj = 3,136) of small-made-up; mnist-5k (train), class 3 against 7, S = 4 images a class; "
        f"m = 1, 2, 5; N = 2; method balanced, preset default, version {METHODS['balanced'].version}, seed 0. "
    )
    assert re.search(
        re.escape(f"{about}Exponent ")
        + r"\d\.\d+, fitted to mean distances / c\(m\) at m = 1 to 5 \(95 % Student interval over 2 projections",
        text,
    )
    assert f"{about}That of the mean over pairs" in text
    assert "‖L‖F = 8 and r4 = 400 (exact)" in text
    assert "√r4 = 20" in text


def test_scaling_of_another_layer_says_that_there_is_no_law(db, open_screen) -> None:
    synthetic.network(db)
    synthetic.finish(db, synthetic.question(samples=4, layers=["conv1"]).replace(m=(1, 2)))
    screen = open_screen("scaling", one="conv1", ms=["1", "2"], S="4")
    assert "no prediction for this layer, since it is not affine" in words(screen).replace("\\", "")


def panels(found: dict[str, str]) -> int:
    """How many pairs of axes there are in the figure for papers, which is of vectors in both forms."""
    svg = found["SVG"].decode()
    assert "<image" not in svg
    assert found["PDF"].startswith(b"%PDF")
    return len(re.findall(r'<g id="axes_\d+">', svg))


def law(m: int) -> float:
    """√m ‖L(x - x')‖ / (2 ‖L‖_F) of `affine`, times the mean of chi with m degrees of freedom."""
    return math.sqrt(2) * math.gamma((m + 1) / 2) / math.gamma(m / 2) * 16 / (2 * 8)


def test_report_of_scaling_holds_the_law_and_the_command(affine, db, open_screen, monkeypatch) -> None:
    affine()
    found = downloads(monkeypatch)
    screen = open_screen("scaling", **LAW)
    assert not screen.exception
    page = found["Report"]
    assert page.count("Plotly.newPlot(") == 3
    assert panels(found) == 3
    assert "--m 1 2 5" in page
    for m in (1, 2, 5):
        assert f"<td>{law(m):.4f}</td>" in page
    assert len(found["CSV"].splitlines()) == 1 + 81 * 3 * 2 + 81 * 3  # and the input through each m
    distances = pd.read_csv(StringIO(found["Means as CSV"]))
    np.testing.assert_allclose(distances["law"], [law(m) for m in (1, 2, 5)])
    of_curves = pd.read_csv(StringIO(found["CSV"])).groupby("m")["mean_distance"].mean()
    np.testing.assert_allclose(distances["mean distance"], of_curves)
    assert set(distances["method"]) == {"balanced"}
    single = pd.read_csv(StringIO(found["Distances as CSV"]))
    assert len(single) == 3 * 2 * 16  # m, projections, pairs
    np.testing.assert_allclose(single.groupby("m")["distance"].mean(), distances["mean distance"])
    of_json = json.loads(found["JSON"])
    for row in single.to_dict("records")[:: len(single) // 7]:
        (layer,) = (one for one in of_json["layers"] if one["m"] == row["m"])
        (one,) = (one for one in layer["projections"] if one["seed"] == row["projection_seed"])
        place = of_json["left_indices"].index(row["left_index"]), of_json["right_indices"].index(row["right_index"])
        assert row["distance"] == one["distances"][place[0]][place[1]]
        assert row["collided"] == one["collided"][place[0]][place[1]]
    for half, layer in zip(distances["ε½"], of_json["layers"], strict=True):
        assert half == pytest.approx(np.mean([half_budget(one["distances"]) for one in layer["projections"]]))
    assert distances["low"].isna().all()  # two projections: no interval worth drawing


def test_report_of_a_comparison_repeats_every_network(db, open_screen, monkeypatch) -> None:
    for name in ("small-made-up", "second"):
        synthetic.network(db, name)
        synthetic.finish(db, synthetic.question(name, samples=4))
    found = downloads(monkeypatch)
    screen = open_screen("compare", networks=["small-made-up", "second"], S="4")
    assert not screen.exception
    page = found["Report"]
    assert page.count("Plotly.newPlot(") == 2
    assert panels(found) == 3  # one figure has two
    assert "<script src" not in page
    for name in ("small-made-up", "second"):
        assert f"--network={name}" in page
        assert f"<td>{name}</td>" in page
    assert r"\caption{$\varepsilon_{1/2}$ by layer of small-made-up, second, and the losses over $\varepsilon$." in page
    assert [document["network"] for document in json.loads(found["JSON"])] == ["small-made-up", "second"]


def test_a_comparison_shows_the_accuracies_that_cards_state(db, open_screen, monkeypatch) -> None:
    pair = {"classes": [3, 7], "clean": 0.9, "epsilon": [1.0, 3.0], "pgd": [0.6, 0.2]}
    cards: dict[str, dict[str, object]] = {"measured": {"evaluation": {"class_pair": pair}}, "second": {}}
    for name, card in cards.items():
        synthetic.network(db, name, card)
        synthetic.finish(db, synthetic.question(name, samples=4))
    found = downloads(monkeypatch)
    screen = open_screen("compare", networks=list(cards), S="4", at="2")
    assert not screen.exception
    table, halves = screen.table
    assert list(halves.value["layer"]) == ["input", "conv1", "conv2", "fc1", "logits"]
    assert [cell.replace("\\", "") for cell in table.value["PGD accuracy at ε = 2"]] == ["40.0 %", "–"]
    assert found["Report"].count("Plotly.newPlot(") == 3
    first, second, *_ = re.findall(r"<tr>(?:\s*<td>.*</td>)+\s*</tr>", found["Report"])
    assert "<td>40.0 %</td>" in first
    assert "<td>–</td>" in second


def test_a_comparison_draws_a_network_with_and_without_the_pixel_range(db, open_screen, monkeypatch) -> None:
    pair = {"classes": [3, 7], "clean": 0.9, "epsilon": [1.0, 3.0], "pgd": [0.6, 0.2]}
    synthetic.network(db, "measured", {"evaluation": {"class_pair": pair}})
    asked = synthetic.question("measured", samples=4)
    synthetic.finish(db, asked)
    synthetic.finish(db, asked.replace(box=True), seed=1)
    found = downloads(monkeypatch)
    screen = open_screen("compare", networks=["measured"], S="4", at="2", both="true", minus="measured (any images)")
    assert not screen.exception
    assert screen.toggle(key="box").disabled
    networks_shown, halves = screen.table
    names = ["measured (any images)", "measured (valid images)"]
    assert [cell.replace("\\", "") for cell in networks_shown.value["network"]] == names
    assert list(halves.value) == ["layer", *names]
    assert [cell.replace("\\", "") for cell in networks_shown.value["PGD accuracy at ε = 2"]] == ["–", "40.0 %"]
    curves = pd.read_csv(StringIO(found["CSV"]))
    assert set(curves.groupby("valid_images_only").groups) == {False, True}
    assert set(curves["norm"]) == {"l2"}
    free, valid = json.loads(found["JSON"])
    assert "threat" not in free["spec"]
    assert valid["spec"]["threat"] == {"norm": "l2", "box": True}
    apart = pd.read_csv(StringIO(found["Differences as CSV"]))
    assert (apart.loc[~apart["valid_images_only"], "difference"] == 0).all()
    assert (apart.loc[apart["valid_images_only"], "difference"] != 0).any()
    assert "where a name says valid images" in found["Report"]
    # The images through mixtures have a closed form without the pixel range alone: no panel has their line.
    assert "The images seen through mixtures are not drawn" in found["Report"]
    assert "Dotted: the images" not in found["Report"]


def test_too_many_networks_to_draw_twice_are_refused(db, open_screen) -> None:
    for name in "abcd":
        synthetic.network(db, name)
    screen = open_screen("compare", networks=list("abcd"), both="true")
    assert [one.value for one in screen.error] == ["Choose at most 3 networks, for each is drawn twice."]


def test_report_of_explore_shows_what_the_screen_shows(db, open_screen, monkeypatch) -> None:
    pair = {"classes": [3, 7], "clean": 0.9, "epsilon": [1.0, 3.0], "pgd": [0.6, 0.2]}
    synthetic.network(db, "measured", {"evaluation": {"class_pair": pair}})
    synthetic.finish(db, synthetic.question("measured", samples=4).replace(projections=2))
    found = downloads(monkeypatch)
    asked = {"network": "measured", "S": "4", "N": "2", "at": "3", "single": "true", "attacks": "true"}
    screen = open_screen("explore", **asked, input="false")
    assert not screen.exception
    page = found["Report"]
    assert "Layers at ε = 3" in page
    assert re.search(r"Made on \d{4}-\d\d-\d\d at \d\d:\d\d UTC", page)
    assert "Computed on made-up device with torch 0.0." in page
    assert f"Architecture of measured: {networks.by_name(db, 'measured').architecture}</p>" in page
    assert page.count(r"\u03b5\u00bd (\u21132 norm)") == 1
    assert "N = 2 projections (a line each)" in page
    assert "PGD accuracy, right axis" in page
    assert "Dotted: the images themselves" not in page
    (table,) = (one.value for one in screen.dataframe if "change" in one.value)
    assert "<td>89</td>" in page
    assert "89.0000" not in page
    for change in table["change"]:
        assert f"<td>{'–' if math.isnan(change) else f'{change:+.4f}'}</td>" in page
    assert "<td>+" in page


EVERY_CAPTION = {
    "explore": {"network": "second", "attacks": "true", "single": "true"},
    "compare": {"networks": ["small-made-up", "second"], "minus": "second"},
    "scaling": LAW,
    "pairs": {"network": "second"},
    "learn": {"idea": "Distance"},
}


@pytest.mark.parametrize("name", EVERY_CAPTION)
def test_captions_of_a_screen_are_short_until_unfolded_and_ascii_in_latex(name, affine, db, open_screen) -> None:
    from pages.parts import report

    pair = {"classes": [3, 7], "clean": 0.9, "images": 50, "epsilon": [1.0, 3.0], "pgd": [0.6, 0.2]}
    second = synthetic.network(db, "second", {"evaluation": {"class_pair": pair}})
    for network in ("small-made-up", "second"):
        synthetic.finish(db, synthetic.question(network, samples=4).replace(projections=2))
    affine()
    if name == "pairs":
        shown = open_screen("pairs", network="second", S="4", N="2").dataframe[0].value.iloc[0]
        question = synthetic.question("second", samples=4).replace(projections=2)
        synthetic.keep_collisions(db, question, second, int(shown["x"]), int(shown["x′"]))
    screen = open_screen(name, **{"S": "4", "N": "2", **EVERY_CAPTION[name]})
    assert not screen.exception
    said = [re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", caption.value) for caption in screen.caption]
    assert any(not text.isascii() for text in said)
    unfolded = [caption.value for folded in screen.expander for caption in folded.caption]
    assert bool(unfolded) == (name != "learn")
    assert all(
        len(caption.value.replace("\\", "")) <= 160 for caption in screen.caption if caption.value not in unfolded
    )
    for text in said:
        assert report.latex(text).isascii()
        assert "U+" not in report.latex(text)


NORMS = [[0.0, 1.5, 2.5, 3.0], [4.0] * 4]
ATTACKED = {
    "dataset": "mnist-5k", "split": "train", "classes": [3, 7], "seed": 0,
    "indices": [[1314, 1555, 1489, 1582], [3150, 3148, 2800, 2969]],
    "l2": {
        "epsilon": [0.0, 2.0], "best_loss": [0.1, 0.9],
        "attacks": {"FAB": {"norms": NORMS, "loss": [0.1, 0.8]}, "DDN": {"norms": NORMS, "loss": [0.1, 0.9]}},
    },
}  # fmt: skip
PAIR = {"classes": [3, 7], "clean": 0.9, "epsilon": [1.0, 3.0], "pgd": [0.6, 0.2]}
ALL = {"input": "true", "attacks": "true"}
NONE = {"input": "false", "attacks": "false"}


@pytest.mark.parametrize("toggles", [ALL, NONE, {**NONE, "attacks": "true"}])
def test_what_explore_draws_beside_the_layers_is_taken_away(toggles, db, open_screen, monkeypatch) -> None:
    from pages.parts import data, known

    synthetic.network(db, "measured", {"evaluation": {"class_pair": PAIR, "audited": ATTACKED}})
    asked = synthetic.question("measured", samples=4, layers=["conv1", "logits"])
    synthetic.finish(db, asked)
    synthetic.finish(db, asked.replace(m=(None,)))
    found = downloads(monkeypatch)
    screen = open_screen("explore", network="measured", S="4", layers=["conv1", "logits"], **toggles)
    assert not screen.exception
    rows = pd.read_csv(StringIO(found["CSV"]))
    counts = {"layer": 2 * 81, "no projection": 2 * 81}
    if toggles["input"] == "true":
        counts |= {"input space": 81, "input, same m": 81}
    if toggles["attacks"] == "true":
        counts |= {"best attack loss": 2, "FAB loss": 2, "DDN loss": 2, "PGD accuracy": 3}
    assert rows["kind"].value_counts().to_dict() == counts
    document = json.loads(found["JSON"])
    assert len(document["layers"]) == 2
    overlays = document["overlays"]
    assert {line["kind"] for line in overlays} == set(counts) - {"layer"}
    for line in overlays:
        mine = rows[(rows["kind"] == line["kind"]) & (rows["layer"].fillna("") == line.get("layer", ""))]
        assert len(mine) == len(line["x"])
        np.testing.assert_array_equal(mine["epsilon"], line["x"])
        column, other = ("accuracy", "loss") if line["unit"] == "share" else ("loss", "accuracy")
        np.testing.assert_array_equal(mine[column], line["y"])
        assert mine[other].isna().all()
        if line["kind"] == "no projection":
            assert line["settings"]["spec"]["m"] == [None]
            assert line["settings"]["known_pairs"] == 2 * 16
            assert line["m"] is None
            assert mine["m"].isna().all()
            assert set(mine["features"]) == {line["features"]}
        if line["kind"] == "input space":
            np.testing.assert_array_equal(line["y"], known.input_space(asked))
        if line["kind"] == "input, same m":
            seen = data.seen_distances(data.key(asked), 10, 0)
            np.testing.assert_array_equal(line["y"], loss_curve(seen, asked.epsilon.values()))
            assert (line["m"], line["features"]) == (10, 784)
        if line["kind"] == "FAB loss":
            assert (line["x"], line["y"]) == ([0.0, 2.0], [0.1, 0.8])
        if line["kind"] == "PGD accuracy":
            assert (line["x"], line["y"]) == ([0.0, 1.0, 3.0], [0.9, 0.6, 0.2])


def test_report_repeats_the_lines_without_projection_too(db, open_screen, monkeypatch) -> None:
    synthetic.network(db)
    asked = synthetic.question(samples=4)
    synthetic.finish(db, asked)
    synthetic.finish(db, asked.replace(m=(None,)))
    found = downloads(monkeypatch)
    open_screen("explore", S="4", **ALL)
    assert "--m 10 --projections 1" in found["Report"]
    assert "--m none --projections 1" in found["Report"]
    assert found["Report"].count("--json small-made-up") == 2
    assert "--json small-made-up-no-projection.json" in found["Report"]


def test_a_layer_of_which_nothing_is_known_has_no_mean_loss(db, open_screen, monkeypatch) -> None:
    synthetic.network(db)
    synthetic.finish(db, synthetic.question(samples=4, layers=["conv1"]))
    synthetic.finish(db, synthetic.question(samples=4, layers=["fc1"]), share=0.5)
    found = downloads(monkeypatch)
    open_screen("explore", S="4", layers=["conv1", "conv2", "fc1"])
    whole, unknown, begun = json.loads(found["JSON"])["layers"]
    (projection,) = whole["projections"]
    assert projection["half_budget"] == half_budget(projection["distances"])
    assert whole["half_budget"] == {"mean": projection["half_budget"], "low": None, "high": None}
    assert unknown["half_budget"] == {"mean": None, "low": None, "high": None}
    assert (unknown["mean_loss"], unknown["mean_is_bound"]) == (None, True)
    assert len(whole["mean_loss"]) == len(begun["mean_loss"]) == 81
    assert (whole["mean_is_bound"], begun["mean_is_bound"]) == (False, True)
    rows = pd.read_csv(StringIO(found["CSV"])).query("kind == 'layer'")
    assert set(rows[rows["layer"] == "conv1"]["half_budget"]) == {projection["half_budget"]}
    assert rows.groupby("layer")["mean_distance"].count().to_dict() == {"conv1": 81, "conv2": 0, "fc1": 0}


def test_differences_of_a_comparison_are_taken_away(db, open_screen, monkeypatch) -> None:
    for name in ("=one", "two"):
        synthetic.network(db, name)
        synthetic.finish(db, synthetic.question(name, samples=4), seed=len(name))
    found = downloads(monkeypatch)
    networks = ["=one", "two"]
    assert "Differences as CSV" not in (open_screen("compare", networks=networks, S="4") and found)
    screen = open_screen("compare", networks=networks, S="4", at="2", minus="=one", bars="loss at ε")
    assert not screen.exception
    rows = pd.read_csv(StringIO(found["Differences as CSV"]))
    assert list(rows["network"]) == ["'=one"] * 4 + ["two"] * 4
    assert set(rows["to"]) == {"'=one"}
    assert (rows.loc[:3, "difference"] == 0).all()
    assert rows["difference"].abs().max() > 0
    assert rows.groupby("network")["network_sha256"].nunique().to_dict() == {"'=one": 1, "two": 1}
    assert rows["network_sha256"].nunique() == 2


def test_loss_of_a_projection_of_which_nothing_is_known_is_taken_away_as_unknown(db, open_screen, monkeypatch) -> None:
    synthetic.network(db)
    synthetic.finish(db, synthetic.question(samples=4))
    found = downloads(monkeypatch)
    open_screen("explore", S="4", N="2")
    *layers, logits = json.loads(found["JSON"])["layers"]
    assert len(logits["projections"]) == 1  # of 10 features through 10 mixtures, whatever the seed
    for layer in layers:
        whole, unknown = layer["projections"]
        assert unknown["loss"] is None
        assert layer["mean_loss"] == whole["loss"]
    rows = pd.read_csv(StringIO(found["CSV"]))
    layers = rows[rows["kind"] == "layer"]
    assert layers[layers["known_pairs"] == 0]["loss"].isna().all()
    assert layers[layers["known_pairs"] > 0]["loss"].notna().all()


def test_accuracies_and_input_space_of_a_comparison_are_taken_away(db, open_screen, monkeypatch) -> None:
    for name, card in {"measured": {"evaluation": {"class_pair": PAIR}}, "second": {}}.items():
        synthetic.network(db, name, card)
        synthetic.finish(db, synthetic.question(name, samples=4))
    found = downloads(monkeypatch)
    assert not open_screen("compare", networks=["measured", "second"], S="4").exception
    rows = pd.read_csv(StringIO(found["CSV"]))
    first, second = (dict(of_one["kind"].value_counts()) for _, of_one in rows.groupby("network"))
    assert first == {"layer": 4 * 81, "input, same m": 81, "PGD accuracy": 3}
    assert second == {"layer": 4 * 81, "input, same m": 81}
    kinds = [[line["kind"] for line in document["overlays"]] for document in json.loads(found["JSON"])]
    assert kinds == [["input, same m", "PGD accuracy"], ["input, same m"]]
    halves = pd.read_csv(StringIO(found["Half budgets as CSV"]))
    assert list(halves["layer"]) == ["input", "conv1", "conv2", "fc1", "logits"] * 2
    for document in json.loads(found["JSON"]):
        stated = halves[halves["network"] == document["network"]].set_index("layer")["half budget"]
        for layer in document["layers"]:
            (one,) = layer["projections"]
            assert stated[layer["layer"]] == half_budget(one["distances"])


def test_caption_of_a_comparison_says_what_is_drawn(db, open_screen) -> None:
    cards = [{"evaluation": {"class_pair": {**PAIR, "images": count}}} for count in (250, 50)]
    for name, card in zip(("one", "two", "bare", "begun"), [*cards, {}, {}], strict=True):
        synthetic.network(db, name, card)
        asked = synthetic.question(name, samples=4).replace(projections=2)
        synthetic.finish(db, asked, share=0.5 if name == "begun" else 1.0)

    def said(*names: str, **query: str) -> tuple[str, str]:
        screen = open_screen("compare", networks=list(names), S="4", at="2", bars="loss at ε", **query)
        assert not screen.exception
        figures = (figure.proto.alt for figure in screen.get("plotly_chart"))
        return words(screen).replace("\\", ""), "; ".join(figures)

    text, alt = said("one", "two")
    assert "Optimal loss by layer at the budget ε = 2 of one, two, and the losses over ε." in text
    assert "Dotted: the images themselves, seen through m = 10 mixtures of their pixels, exact" in text
    assert "every loss is a lower bound, every ε½ an upper bound, and a difference of two bounds is none" in text
    assert "may leave the pixel range [0, 1]; those of PGD do not." in text
    assert "S = 4 images a class; m = 10; N = 1; method balanced" in text
    assert "Means over projections" not in text
    assert "Accuracy: images of the two classes (one: 250 test images; two: 50 test images), asked" in text
    assert "Optimal loss by layer at the budget ε = 2 of each network;" in alt
    assert "means" not in alt
    text, alt = said("one", "bare", minus="one", N="2")
    difference = "Difference to one (the same layer by order) in optimal loss by layer at the budget ε = 2 of"
    assert f"{difference} one, bare, and the losses over ε" in text
    assert "Layers with their features nj: conv1 (3,136), conv2 (6,272), fc1 (100), logits (10)." in text
    assert "N = 2; method balanced" in text
    assert (
        "Means over projections are drawn, of these images; Student's 95 % intervals of two stand in the table only"
        in text
    )
    assert "Accuracy: 250 test images of the two classes, asked" in text
    assert f"{difference} each network, means over" in alt
    assert (
        "Difference to one (interpolated over relative depth)" in said("one", "bare", minus="one", relative="true")[0]
    )
    assert "same axes, means over projections" in alt
    text, alt = said("bare", "begun", minus="begun")  # of which only bounds are known: nothing can be taken away
    assert "Optimal loss by layer at the budget ε = 2 of bare, begun, and the losses over ε." in text
    assert "Accuracy: " not in text
    assert "Difference" not in alt


def test_images_left_out_and_both_seeds_are_in_caption_command_link_and_file(db, open_screen, monkeypatch) -> None:
    from pages.parts.words import address

    synthetic.network(db)
    asked = synthetic.question(samples=4).replace(left_out=(1314, 3150), projection_seed=8)
    synthetic.finish(db, asked)
    found = downloads(monkeypatch)
    query = {name: value for name, value in address(asked).items() if name != "layers"}
    screen = open_screen("explore", **query)
    assert not screen.exception
    assert "All 64 pairs are known" in words(screen)
    assert "S = 4 images a class without images 1314, 3150" in words(screen).replace("\\", "")
    assert "seed 0 for the images and 8 for the projections" in words(screen)
    assert "--leave-out 1314 3150" in found["Report"]
    assert "--projection-seed 8 --seed 0" in found["Report"]
    document = json.loads(found["JSON"])
    assert document["settings"]["spec"]["left_out"] == [1314, 3150]
    assert not {1314, 3150} & {*document["left_indices"], *document["right_indices"]}
    assert set(pd.read_csv(StringIO(found["CSV"]))["left_out"]) == {"1314 3150"}
