"""Every screen without a browser: empty, filled, while an audit runs, with a hostile network, with a wrong address."""

import base64
import json
import re
import sys
from datetime import UTC, datetime
from io import BytesIO
from urllib.parse import parse_qsl

import numpy as np
import pytest

from charts import sparkline
from pages.parts import filters, upload, words
from pages.parts import screen as parts
from robustness_core.engine.tasks import NetworkFile
from robustness_core.errors import CheckpointError
from robustness_core.found import Found
from robustness_core.spec import AuditSpec, EpsilonGrid
from store import audits, images, networks, shipped, workers
from store.records import LayerRecord, PairSpec
from testing import synthetic
from testing.screens import words as text_of

EVIL = "<b>x</b> [link](http://evil) **y** $z$ :red[w]"


@pytest.mark.parametrize("name", filters.SCREENS)
def test_empty_store(name, open_screen) -> None:
    screen = open_screen(name)
    assert not screen.exception
    assert screen.title[0].value
    assert len(text_of(screen)) > len(screen.title[0].value) + 20  # a title alone explains nothing


@pytest.mark.parametrize("name", filters.SCREENS)
def test_filled_store_with_a_running_audit_and_a_hostile_name(name, db, open_screen) -> None:
    synthetic.network(db, EVIL)
    synthetic.network(db)
    synthetic.finish(db, synthetic.question())
    synthetic.finish(db, synthetic.question(EVIL), share=0.3)
    screen = open_screen(name)
    assert not screen.exception
    for kind in ("markdown", "caption", "info", "error", "success", "warning", "subheader"):
        for element in screen.get(kind):
            assert "[link](" not in element.value
            assert "<b>x" not in element.value


@pytest.mark.parametrize(
    ("name", "query"),
    [
        ("audits", {"audit": "999"}), ("audits", {"audit": "<script>"}), ("audits", {"state": "nonsense"}),
        ("networks", {"show": "nothing"}), ("compare", {"networks": ["nothing"]}), ("compare", {"minus": "nothing"}),
        ("pairs", {"layer": "nothing"}), ("pairs", {"pair": "x"}), ("pairs", {"projection": "9", "m": "-1"}),
        ("scaling", {"one": "nothing"}), ("scaling", {"ms": ["0", "x"]}), ("learn", {"idea": "nothing"}),
        ("learn", {"weak": "-4"}),
    ],
)  # fmt: skip
def test_wrong_address_still_gives_a_screen(name, query, db, open_screen) -> None:
    synthetic.network(db)
    synthetic.network(db, "second")
    synthetic.finish(db, synthetic.question())
    screen = open_screen(name, **query)
    assert not screen.exception
    assert screen.title


def test_home_offers_one_next_step_while_nothing_was_asked(db, open_screen) -> None:
    synthetic.network(db)
    assert "Start here" in text_of(open_screen("home"))
    synthetic.finish(db, synthetic.question())
    assert "Start here" not in text_of(open_screen("home"))


def test_failed_audit_says_why_and_is_retried_annotated_and_removed(db, open_screen) -> None:
    synthetic.network(db)
    asked = audits.submit(db, synthetic.question())
    claimed = audits.claim(db, workers.register(db, "cpu", {}).id)
    audits.fail(db, claimed, "The network is broken.")
    screen = open_screen("audits", audit=str(asked.id))
    assert "The network is broken" in text_of(screen)
    screen.text_input(key=f"note_{asked.id}").set_value("odd").run()
    screen.text_input(key=f"tags_{asked.id}").set_value("a b a").run()
    assert (audits.get(db, asked.id).note, audits.get(db, asked.id).tags) == ("odd", ("a", "b"))
    screen.button(key=f"retry_{asked.id}").click().run()
    assert not screen.exception
    assert audits.get(db, asked.id).state == "queued"
    audits.cancel(db, asked.id)
    screen = open_screen("audits", audit=str(asked.id))
    screen.button(key=f"remove_{asked.id}").click().run()
    assert not screen.exception
    assert audits.recent(db) == []
    next(button for button in screen.button if button.label == "Undo").click().run()
    assert [(one.id, one.note, one.state) for one in audits.recent(db)] == [(asked.id, "odd", "cancelled")]
    assert "Undo" not in [button.label for button in screen.button]


def test_network_is_renamed_annotated_and_removed_with_what_depends_on_it(db, open_screen) -> None:
    network = synthetic.network(db, source="upload")
    synthetic.network(db, "taken")
    synthetic.finish(db, synthetic.question())
    assert "Remove it" not in [button.label for button in open_screen("networks", show="taken").button]  # bundled
    screen = open_screen("networks", show=network.name)
    assert "1 audits and 1,600 distances" in text_of(screen)
    screen.text_input(key=f"name_{network.id}").set_value("taken").run()
    assert networks.by_id(db, network.id).name == network.name
    screen.text_input(key=f"name_{network.id}").set_value("renamed").run()
    assert networks.by_id(db, network.id).name == "renamed"
    screen.text_input(key=f"note_{network.id}").set_value("mine").run()
    assert networks.by_id(db, network.id).note == "mine"
    screen.button(key=f"remove_{network.id}").click().run()
    assert not screen.exception
    assert networks.by_id(db, network.id) is None
    assert audits.recent(db) == []
    assert not screen.warning  # of an address that still named it
    next(button for button in screen.button if button.label == "Undo").click().run()
    assert networks.by_id(db, network.id).name == "renamed"
    assert [audit.spec.network for audit in audits.recent(db)] == ["renamed"]


def test_numbers_of_an_address_that_cannot_be_are_named(db, open_screen) -> None:
    synthetic.network(db)
    screen = open_screen("explore", S="abc", m="-1", N="2")
    (warning,) = screen.warning
    assert "S \\= abc\\, m \\= \\-1, which cannot be" in warning.value
    assert [screen.number_input(key=key).value for key in ("S", "m", "N")] == [20, 10, 2]


@pytest.mark.parametrize(
    ("name", "query", "said"),
    [
        ("explore", {"N": "2000"}, r"N \= 2000, which cannot be"),
        ("explore", {"to": "abc", "from": "-3"}, r"from \= \-3\, to \= abc, which cannot be"),
        ("explore", {"budgets": "1.5"}, r"budgets \= 1\.5, which cannot be"),
        ("scaling", {"method": "algoritm1"}, "algoritm1, which is not here"),
        ("compare", {"preset": "slow"}, "slow, which is not here"),
        ("pairs", {"split": "tset"}, "tset, which is not here"),
        ("explore", {"a": "12"}, "12, which is not here"),
        ("explore", {"projection": "9"}, "9, which is not here"),
        ("compare", {"minus": "nobody"}, "nobody, which is not here"),
        ("audits", {"state": "lost"}, "lost, which is not here"),
    ],
)
def test_what_an_address_names_wrongly_is_said(name: str, query: dict[str, str], said: str, db, open_screen) -> None:
    for network in ("small-made-up", "second"):
        synthetic.network(db, network)
        synthetic.finish(db, synthetic.question(network))
    screen = open_screen(name, **query)
    assert not screen.exception
    assert [
        warning.value for warning in screen.warning if said.replace("\\,", ",") in warning.value.replace("\\,", ",")
    ]


def test_an_audit_of_several_m_opens_in_scaling(db, open_screen) -> None:
    synthetic.network(db)
    synthetic.finish(db, synthetic.question(samples=4, layers=["conv1"]).replace(m=(1, 2, None), projections=2))
    (audit,) = audits.recent(db, kind="audit")
    screen = open_screen("audits", audit=str(audit.id))
    assert not screen.exception
    link = next(link for link in screen.get("page_link") if link.proto.label == "Open in Scaling")
    query = dict(parse_qsl(link.proto.query_string))
    assert (query["one"], query["S"], query["N"], "layers" in query) == ("conv1", "4", "2", False)
    assert [value for name, value in parse_qsl(link.proto.query_string) if name == "ms"] == ["1", "2", "none"]


def test_an_address_that_names_no_network_says_so(db, open_screen) -> None:
    synthetic.network(db)
    (warning,) = open_screen("networks", show="gone").warning
    assert warning.value == "The address names gone, which is not here."


def test_compare_and_scaling_queue_what_is_missing(db, open_screen) -> None:
    synthetic.network(db)
    synthetic.network(db, "second")
    synthetic.finish(db, synthetic.question())
    screen = open_screen("compare", networks=["small-made-up", "second"])
    assert "1,600 pairs are not known yet" in text_of(screen)
    next(button for button in screen.button if button.label == "Start").click().run()
    assert not screen.exception
    assert audits.recent(db)[0].spec == synthetic.question("second")
    screen = open_screen("scaling", network="small-made-up", one="conv1", ms=["1", "10"])
    next(button for button in screen.button if button.label == "Start").click().run()
    assert not screen.exception
    assert audits.recent(db)[0].spec == synthetic.question(layers=["conv1"]).replace(m=(1, 10))


def test_address_of_an_audit_asks_the_same_again(db, open_screen) -> None:
    synthetic.network(db)
    spec = synthetic.question(samples=7, layers=["conv1.pre", "fc1"]).replace(
        m=(None,), seed=3, epsilon=EpsilonGrid(0.5, 3.0, 11), method="algorithm1", preset="fast", split="test"
    )
    screen = open_screen("explore", **words.address(spec))
    assert not screen.exception
    next(button for button in screen.button if button.label == "Start").click().run()
    assert audits.recent(db)[0].spec == spec


def test_address_names_classes_as_the_widgets_do() -> None:
    """A widget bound to the address takes the text that it shows."""
    address = words.address(AuditSpec.of("n", dataset="cifar10", classes=(3, 5), samples=4, layers=("conv1",)))
    assert (address["a"], address["b"]) == ("3 cat", "5 dog")


def test_escape_leaves_no_markdown() -> None:
    escaped = parts.escape("a*b_[c](d) <e> $f$ `g` :red[h] #i\n- j")
    assert escaped == r"a\*b\_\[c\]\(d\) \<e\> \$f\$ \`g\` \:red\[h\] \#i \- j"


def test_refused_upload_is_one_sentence(db, open_screen, monkeypatch) -> None:
    def refuse(path, hints):
        assert path.read_bytes() == b"rubbish"
        assert path.name == "upload.pt"
        raise CheckpointError("This is <b>no</b> checkpoint.")

    monkeypatch.setattr(upload, "inspect", refuse)
    screen = open_screen("networks")
    screen.file_uploader[0].set_value([("../../evil.pt", b"rubbish", "application/octet-stream")]).run()
    assert not screen.exception
    assert [error.value for error in screen.error] == [r"This is \<b\>no\<\/b\> checkpoint\."]


def test_upload_lies_on_disk_under_a_name_of_ours_and_goes_again() -> None:
    with upload.on_disk(BytesIO(b"abc"), "../../x") as path:
        assert path.name == "upload.pt"
        assert path.read_bytes() == b"abc"
    assert not path.parent.exists()


def test_web_process_holds_no_torch() -> None:
    import subprocess

    code = (
        "import sys, runpy; sys.argv=['x']\n"
        "import charts.learn, charts.compare, charts.matrix, charts.scaling, charts.attribution\n"
        "import pages.parts.question, pages.parts.known, pages.parts.pair, pages.parts.export, pages.parts.upload\n"
        "import pages.parts.toy, pages.parts.words, pages.parts.progress\n"
        "raise SystemExit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


def test_filters_of_a_network_that_is_gone_do_not_break_the_next_screen(db, open_screen) -> None:
    synthetic.network(db)
    gone = synthetic.network(db, "second-made-up")
    screen = open_screen("explore", network="second-made-up", S="30")
    networks.remove(db, gone.id)
    screen.query_params.clear()
    screen.switch_page("pages/scaling.py").run()
    assert not screen.exception
    assert screen.number_input(key="S").value == 30
    assert screen.selectbox(key="network").value == "small-made-up"


def enter_shipped(db, network: str = "small-made-up") -> None:
    """An audit that came with Strata, of one pair."""
    record = networks.by_name(db, network)
    spec = synthetic.question(network, samples=1)
    left, right = (
        images.put(db, spec.sample.dataset, spec.sample.split, [index], [label], np.zeros((1, 28, 28, 1), np.uint8))
        for index, label in enumerate(spec.sample.classes)
    )
    one = np.ones((1, 1))
    found = Found(one, 0 * one, one > 0, one, ("cpu",), ("1",))
    series = spec.search.series(record.sha256, record.features)
    audit = shipped.ShippedAudit(
        spec, series, (found,) * len(series), "cpu", {}, datetime.now(UTC), (None,) * len(series)
    )
    assert shipped.enter(db, record, audit, left, right)


def test_table_of_audits_names_all_layers_once_and_ticks_the_audit_of_the_address(db, open_screen) -> None:
    synthetic.network(db)
    asked = synthetic.finish(db, synthetic.question())
    synthetic.finish(db, synthetic.question(layers=["conv1", "fc1"]))
    screen = open_screen("audits", audit=str(asked.id))
    table = screen.dataframe[0].value
    assert list(table.columns)[:4] == ["id", "state", "network", "question"]
    assert list(table.columns)[-1] == "worker"
    assert [text.partition(";")[0] for text in table["question"]] == ["conv1, fc1", "all 4 layers"]
    assert screen.session_state["audits"]["selection"]["rows"] == [1]
    screen.query_params["audit"] = "999"
    assert screen.run().session_state["audits"]["selection"]["rows"] == []


def test_audit_that_came_with_strata_took_no_time_here(db, open_screen) -> None:
    synthetic.network(db)
    enter_shipped(db)
    screen = open_screen("audits", audit=str(audits.recent(db)[0].id))
    assert "4 of 4 pairs, shipped with Strata." in text_of(screen)


def test_empty_list_of_audits_says_what_is_not_there(db, open_screen) -> None:
    synthetic.network(db)
    synthetic.finish(db, synthetic.question())
    assert [info.value for info in open_screen("audits", state="failed").info] == ["No audit has failed."]
    assert [info.value for info in open_screen("audits", state="active").info] == ["No audit is queued or running."]


def test_home_offers_its_next_step_beside_what_came_with_strata(db, open_screen) -> None:
    synthetic.network(db)
    enter_shipped(db)
    screen = open_screen("home")
    assert "Start here" in text_of(screen)
    assert any("all 4 layers; m 10" in caption.value.replace("\\", "") for caption in screen.caption)
    audits.submit(db, synthetic.question())
    assert "Start here" not in text_of(open_screen("home"))


def test_home_sends_a_newcomer_to_a_network_whose_images_are_at_hand(db, open_screen) -> None:
    synthetic.network(db, "cifar10-large-pgd0.5")
    synthetic.network(db, "mnist-medium-pgd2")
    first = open_screen("home").get("page_link")[1]
    assert first.proto.label == "→ Explore mnist\\-medium\\-pgd2"


def test_home_says_how_a_worker_starts_that_runs_elsewhere(db, open_screen) -> None:
    """The fixtures set STRATA_WORKER=none."""
    text = text_of(open_screen("home"))
    assert "python -m worker" in text
    assert "The worker is starting" not in text


def test_card_of_a_network_says_its_architecture_and_that_it_was_uploaded(db, open_screen) -> None:
    """One line each, the whole text of the architecture in a tooltip."""
    trained = {"training": {"method": "pgd", "epsilon": 2.0, "dataset": "mnist"}}
    synthetic.network(db, "bundled", trained)
    layers = (LayerRecord("logits", (10,), 10, True, True),)
    networks.register(
        db,
        NetworkFile(
            sha256="f" * 64,
            format="torch",
            architecture=f"{EVIL}, fc 10",
            input_shape=(1, 28, 28),
            mean=None,
            std=None,
            content=b"none",
        ),
        name="own",
        source="upload",
        layers=layers,
        card=trained,
    )
    captions = {caption.value: caption.help for caption in open_screen("home").caption}
    assert captions["conv 16\\-32\\, fc 100\\-10"].startswith("conv 16 4x4\\/2 p1\\, relu")
    assert parts.escape("PGD, ε = 2, on mnist") in captions
    assert parts.escape("uploaded, PGD, ε = 2, on mnist") in captions
    assert parts.escape(f"{EVIL}, fc 10"[:47] + "…") in captions


def test_bars_of_all_cards_of_a_data_set_have_one_scale(db, open_screen, monkeypatch) -> None:
    tops = []
    draw = sparkline.bars
    monkeypatch.setattr(sparkline, "bars", lambda values, colours, top: tops.append(top) or draw(values, colours, top))
    synthetic.network(db)
    synthetic.network(db, "second")
    synthetic.finish(db, synthetic.question())
    synthetic.finish(db, synthetic.question("second", layers=["conv1", "conv2"]))  # of early layers: shorter distances
    synthetic.network(db, "third")
    synthetic.finish(db, synthetic.question("third", layers=["conv1", "conv2"]).replace(m=(5,)))
    screen = open_screen("home")
    assert not screen.exception
    assert len(tops) == 3
    one, other = sorted(set(tops))
    assert tops.count(other) == 2  # the two that asked the same, the first of which goes further
    said = [caption.value for caption in screen.caption if caption.value.startswith("ε½ of input")]
    assert sorted(said) == sorted(
        f"ε½ of input and layers through m = {m} mixtures, N = 1, S = 20; mnist-5k, 3 against 7. Full height {top:.2f}."
        for m, top in ((10, other), (10, other), (5, one))
    )


def test_cards_show_what_can_be_compared_and_the_larger_of_two_audits() -> None:
    from pages.parts.cards import chosen

    def ask(name: str, **changes: object):
        return synthetic.question(name).replace(**changes)

    common = [ask(name, samples=20, projections=3) for name in "abc"]
    smaller, larger = ask("a", samples=5), ask("b", samples=50)
    one_layer, whole = ask("c", layers=("conv1",), samples=90), ask("c", m=(None,), samples=90)
    alone = [ask("d", samples=7), ask("d", samples=9), ask("d", samples=8)]
    found = chosen([smaller, larger, *common, one_layer, whole, *alone])  # the last asked first
    assert found == {**{name: spec for name, spec in zip("abc", common, strict=True)}, "d": alone[1]}


def test_networks_are_sorted_as_people_read() -> None:
    from pages.parts.cards import natural

    names = ["Net10", "net2", "a", "net2b", "10", "9"]
    assert sorted(names, key=natural) == ["9", "10", "a", "net2", "net2b", "Net10"]


def test_home_shows_networks_with_an_audit_first(db, open_screen) -> None:
    for name in ("net10", "a-new", "net9"):
        synthetic.network(db, name)
    for name in ("net10", "net9"):
        synthetic.finish(db, synthetic.question(name, samples=4))
    shown = [text.value for text in open_screen("home").markdown if text.value.startswith("**")]
    assert [text for text in shown if "Start" not in text] == ["**net9**", "**net10**", "**a\\-new**"]


def test_home_says_what_an_audit_measures_and_shows_it(db, open_screen) -> None:
    screen = open_screen("home")
    assert "until the layer cannot tell them apart" in text_of(screen)
    few = re.search(r"then loses (\d\.\d\d) nats", text_of(screen))[1]
    screen.slider(key="home_budget").set_value(1.0).run()
    many = re.search(r"then loses (\d\.\d\d) nats", text_of(screen))[1]
    assert 0 < float(few) < float(many) < 0.7


def test_bars_of_a_card_stay_however_many_audits_came_to_nothing(db, open_screen) -> None:
    synthetic.network(db)
    synthetic.finish(db, synthetic.question())
    for seed in range(1, 55):
        audits.cancel(db, audits.submit(db, synthetic.question().replace(seed=seed)).id)
    assert "ε½ of input and layers" in text_of(open_screen("home"))


def test_single_pairs_name_their_network_as_the_other_screens_do(db, open_screen) -> None:
    network = synthetic.network(db)
    synthetic.finish(db, synthetic.question())
    series = tuple(synthetic.question().search.series(network.sha256, network.features)[:1])
    asked = audits.submit(db, PairSpec(series, ("mnist-5k", "train", 1), ("mnist-5k", "train", 2)))
    screen = open_screen("audits", pairs="true", audit=str(asked.id))
    assert screen.dataframe[0].value["network"].iloc[0] == network.name


@pytest.mark.parametrize("name", ["explore", "pairs", "scaling", "learn", "audits", "networks"])
def test_link_of_a_screen_can_be_copied_also_where_nothing_is_known(name, db, open_screen) -> None:
    synthetic.network(db, "unknown")
    asked = audits.submit(db, synthetic.question("unknown"))
    query = {"audits": {"audit": str(asked.id)}, "networks": {"show": "unknown"}}.get(name, {})
    screen = open_screen(name, **query)
    assert sum("copy-link" in str(block.proto) for block in screen.get("html")) == 1


def test_learn_starts_where_the_feature_matters(open_screen) -> None:
    text = text_of(open_screen("learn", idea="Distance"))
    distance, without = (float(number) for number in re.findall(r"\d\.\d\d", text[text.index("Distance **") :])[:2])
    assert distance < 0.8 * without


def test_search_of_learn_is_called_a_collision_when_it_is_one(open_screen) -> None:
    assert re.search(r"After 12 steps: .*e-0[5-9]: a collision\.", text_of(open_screen("learn", idea="Search")))
    assert re.search(r"e-02: not yet a collision\.", text_of(open_screen("learn", idea="Search", steps="3")))
    assert re.search(r"After 1 step: .*", text_of(open_screen("learn", idea="Search", steps="1")))


@pytest.mark.parametrize("idea", ["Features", "Distance", "Search", "Conflicts"])
def test_every_figure_of_learn_has_a_caption(idea: str, open_screen) -> None:
    screen = open_screen("learn", idea=idea)
    assert len(screen.caption) == len(screen.get("plotly_chart")) > 0


@pytest.mark.parametrize(
    ("screen", "query"),
    [("explore", {"network": "a"}), ("scaling", {"network": "a"}), ("compare", {"networks": ["a", "b"]})],
)
def test_a_number_typed_just_before_start_is_part_of_the_question(db, open_screen, screen, query) -> None:
    synthetic.network(db, "a")
    synthetic.network(db, "b")
    opened = open_screen(screen, **query)
    opened.number_input(key="S").set_value(7)  # no run in between: both reach the server together
    next(button for button in opened.button if button.label == "Start").click().run()
    assert not opened.exception
    assert {audit.spec.sample.size for audit in audits.recent(db)} == {7}
    assert "Cancel" in [button.label for button in opened.button]


@pytest.mark.parametrize("screen", ["explore", "scaling", "compare"])
def test_start_stands_below_the_settings_and_says_what_is_known_already(db, open_screen, screen) -> None:
    synthetic.network(db, "a")
    synthetic.network(db, "b")
    for name in ("a", "b"):
        synthetic.finish(db, synthetic.question(name, samples=4))
    query = {"networks": ["a", "b"]} if screen == "compare" else {"network": "a"}
    opened = open_screen(screen, **query, S="4", **({"one": "conv1", "ms": ["10"]} if screen == "scaling" else {}))
    settings = opened.columns[0]
    assert [button.label for button in settings.button] == ["Start"]
    assert list(settings.children.values())[-1].label == "Start"
    settings.button[0].click().run()
    assert not opened.exception
    assert [toast.value for toast in opened.toast] == [
        "Every pair of this question is known already; nothing needs computing."
    ]
    assert all(audit.state == "done" for audit in audits.recent(db))
    refused = open_screen(screen, **query, S="99999")
    assert refused.columns[0].button[0].disabled


@pytest.mark.parametrize("screen", ["explore", "compare", "scaling"])
def test_the_second_drawing_has_a_step_at_every_distance(db, open_screen, screen) -> None:
    """Of 81 budgets there are as many points at first, all of them shared; then one for each step besides."""
    synthetic.network(db, "a")
    synthetic.network(db, "b")
    for name in ("a", "b"):
        synthetic.finish(db, synthetic.question(name, samples=4))
    query = {"networks": ["a", "b"]} if screen == "compare" else {"network": "a"}
    opened = open_screen(screen, **query, S="4", **({"one": "conv1", "ms": ["10"]} if screen == "scaling" else {}))

    def points() -> set[int]:
        figures = [figure for figure in map(lambda one: json.loads(one.proto.spec), opened.get("plotly_chart"))
                   if "budget" in str(figure["layout"].get("xaxis", {}).get("title"))]  # fmt: skip
        traces = [trace for figure in figures for trace in figure["data"] if trace.get("line", {}).get("shape") == "hv"]
        return {len(numbers(trace["x"])) for trace in traces}

    assert points() == {81}
    opened.run()
    assert not opened.exception
    assert 81 not in points()


def numbers(values: object) -> list[float]:
    """Numbers of a figure, which plotly may have packed."""
    if isinstance(values, dict):
        return list(np.frombuffer(base64.b64decode(values["bdata"]), values["dtype"]))
    return list(values)
