"""Tests of the specs: one sentence for every bad question, JSON round trips, stable keys, nested samples."""

import dataclasses
import hashlib
import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustness_core.spec import (
    METHODS,
    PRESETS,
    THREATS,
    AuditSpec,
    EpsilonGrid,
    SeriesSpec,
    SpecError,
    Threat,
    sample_indices,
    too_large_words,
)
from robustness_core.spec.fields import FIELDS


def audit(**changes: Any) -> AuditSpec:
    fields: dict[str, Any] = {
        "network": "small",
        "dataset": "mnist-5k",
        "classes": (3, 7),
        "samples": 20,
        "layers": ("conv1", "logits"),
    }
    return AuditSpec.of(**{**fields, **changes})


BAD = {
    "network": [("", "Choose a network")],
    "dataset": [("", "Choose a data set")],
    "split": [("", "Choose a split")],
    "classes": [
        ((3,), "two or more whole numbers of 0 or more"),
        ((-1, 3), "two or more whole numbers of 0 or more"),
        ((3, 7, 3), "twice there is 3"),
        ((), "two or more whole numbers of 0 or more"),
        ((3, "7"), "two or more whole numbers of 0 or more"),
        ((0, True), "two or more whole numbers of 0 or more"),
        ((3, 3), "both are 3"),
    ],
    "samples": [(0, "S is 0"), (-5, "S is -5"), (1.5, "S is 1.5"), (True, "S is True")],
    "layers": [((), "at least one layer"), (("conv1", "conv1"), "listed twice")],
    "m": [
        ((), "at least one projection"),
        ((0,), "m is 0"),
        ((-1,), "m is -1"),
        ((10, 10), "listed twice"),
        ((2.0,), "m is 2.0"),
    ],
    "projections": [(0, "N is 0"), (1001, "N is 1001"), (1.0, "N is 1.0")],
    "seed": [(-1, "seed is -1"), (2**31, "seed is 2147483648"), (0.5, "seed is 0.5")],
    "method": [("magic", "'magic' is not one of balanced, algorithm1")],
    "preset": [("slow", "'slow' is not one of fast, default, thorough")],
}


@pytest.mark.parametrize(("field", "value", "words"), [(f, v, w) for f, cases in BAD.items() for v, w in cases])
def test_a_bad_audit_is_refused_in_one_sentence(field: str, value: object, words: str) -> None:
    with pytest.raises(SpecError) as refusal:
        audit(**{field: value})
    sentence = str(refusal.value)
    assert words in sentence
    assert sentence[0].isupper()
    assert sentence.endswith(".")
    assert "\n" not in sentence


@pytest.mark.parametrize(
    ("grid", "words"),
    [
        ((8, 0, 81), "must be above"),
        ((1, 1, 81), "must be above"),
        ((-1, 8, 81), "must be 0 or more"),
        ((0, float("nan"), 81), "finite"),
        ((0, float("inf"), 81), "finite"),
        ((0, 8, 1), "number of budgets is 1"),
        ((0, 8, 2002), "number of budgets is 2002"),
        ((0, 8, 2.5), "number of budgets is 2.5"),
    ],
)
def test_a_bad_range_of_budgets_is_refused(grid: tuple[float, float, int], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        EpsilonGrid(*grid)


@pytest.mark.parametrize("text", ["", "0:8", "0:8:81:1", "a:8:81", "0:8:8.5", "0 8 81"])
def test_a_range_that_cannot_be_read_is_quoted(text: str) -> None:
    with pytest.raises(SpecError, match=r"must read start:stop:count"):
        EpsilonGrid.parse(text)


def test_a_range_that_reads_but_is_wrong_keeps_its_own_sentence() -> None:
    with pytest.raises(SpecError, match="must be above"):
        EpsilonGrid.parse("8:0:81")


def test_budgets_contain_both_ends() -> None:
    assert EpsilonGrid.parse("0.5:2:4").values().tolist() == [0.5, 1.0, 1.5, 2.0]


audits = st.builds(
    audit,
    classes=st.permutations(range(10)).map(lambda order: tuple(order[:2])),
    samples=st.integers(1, 5000),
    layers=st.lists(st.text(min_size=1), min_size=1, max_size=4, unique=True).map(tuple),
    m=st.lists(st.none() | st.integers(1, 1000), min_size=1, max_size=4, unique=True).map(tuple),
    projections=st.integers(1, 20),
    seed=st.integers(0, 2**31 - 1),
    method=st.sampled_from(sorted(METHODS)),
    preset=st.sampled_from(PRESETS),
    epsilon=st.builds(EpsilonGrid, st.floats(0, 5), st.floats(6, 10), st.integers(2, 2001)),
    split=st.sampled_from(["train", "test"]),
)


@given(audits)
def test_an_audit_survives_json(spec: AuditSpec) -> None:
    back = AuditSpec.from_json(json.loads(json.dumps(spec.to_json())))
    assert back == spec
    assert back.key == spec.key
    assert hash(back) == hash(spec)


@given(audits, audits)
def test_different_audits_have_different_keys(one: AuditSpec, other: AuditSpec) -> None:
    assert (one == other) == (one.key == other.key)


def test_what_json_gives_as_lists_is_stored_as_tuples() -> None:
    assert audit(classes=[3, 7], layers=["conv1", "logits"], m=[10]) == audit()


def test_keys_are_the_same_in_every_process() -> None:
    """A database holds them: they must not depend on Python's hash seed."""
    code = "from robustness_core.spec import SeriesSpec; print(SeriesSpec('a', 'conv1', 10, 0).key)"
    other = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "1"}
    )
    assert other.stdout.strip() == SeriesSpec("a", "conv1", 10, 0).key


def test_every_field_of_a_series_decides_its_key() -> None:
    base = SeriesSpec("a", "conv1", 10, 0)
    changes = {"network": "b", "layer": "conv2", "m": 11, "seed": 1, "method": "algorithm1", "preset": "fast"}
    keys = {dataclasses.replace(base, **{name: value}).key for name, value in changes.items()}
    keys |= {base.key, dataclasses.replace(base, method_version=99).key}
    assert len(keys) == len(changes) + 2


def test_a_series_carries_the_version_of_its_method() -> None:
    assert SeriesSpec("a", "conv1", 10, 0).method_version == METHODS["balanced"].version
    with pytest.raises(SpecError, match="'magic' is not one of"):
        SeriesSpec("a", "conv1", 10, 0, method="magic")


def test_without_a_projection_the_seed_is_nothing() -> None:
    assert SeriesSpec("a", "conv1", None, 5) == SeriesSpec("a", "conv1", None, 9)


def test_an_audit_lists_its_series_in_order() -> None:
    spec = audit(layers=("conv1", "fc1"), m=(10, None), projections=2, seed=5)
    listed = [(series.layer, series.m, series.seed) for series in spec.search.series("abc", {})]
    assert listed == [
        ("conv1", 10, 5),
        ("conv1", 10, 6),
        ("conv1", None, 0),
        ("fc1", 10, 5),
        ("fc1", 10, 6),
        ("fc1", None, 0),
    ]
    more = spec.replace(projections=3).search.series("abc", {})
    assert set(spec.search.series("abc", {})) < set(more)  # one more projection keeps the others


def test_layers_are_checked_against_the_network() -> None:
    features = {"conv1": 1000, "logits": 10}
    audit(m=(10, None)).search.check(features)
    with pytest.raises(SpecError, match="no layer 'conv1'; it has logits"):
        audit().search.check({"logits": 10})
    with pytest.raises(SpecError, match="m = 11 is larger than the 10 features of layer logits; choose m from 1 to 10"):
        audit(m=(11,)).search.check(features)


def test_budgets_are_written_as_one_would_write_them() -> None:
    assert EpsilonGrid(0, 8, 81).values().tolist() == [float(f"{tenth // 10}.{tenth % 10}") for tenth in range(81)]
    third = EpsilonGrid(1e-3 / 3, 1 / 3, 11).values()
    assert (third[0], third[-1]) == (1e-3 / 3, 1 / 3)
    np.testing.assert_allclose(third, np.linspace(1e-3 / 3, 1 / 3, 11), rtol=1e-11)


def test_layers_smaller_than_an_m_are_left_out_unless_that_leaves_nothing() -> None:
    features = {"conv1": 1000, "logits": 10}
    asked = audit(m=(10, 11, None))
    assert asked.search.too_large(features) == (("logits", 11),)
    assert too_large_words(asked.search.too_large(features), features) == (
        "Left out, for m is above the number of features: logits (10) at m = 11."
    )
    assert audit().search.too_large(features) == ()
    assert too_large_words((), features) == ""
    with pytest.raises(SpecError, match="no layer 'conv1'; it has logits"):
        audit().search.too_large({"logits": 10})
    with pytest.raises(SpecError, match="m = 1001 is larger than the 1000 features of layer conv1"):
        audit(m=(1001,)).search.too_large(features)


def test_samples_are_checked_against_the_classes() -> None:
    audit(samples=20).sample.check({3: 20, 7: 25})
    with pytest.raises(SpecError, match="S = 21 is larger than class 3, which has 20 images in mnist-5k"):
        audit(samples=21).sample.check({3: 20, 7: 25})
    with pytest.raises(SpecError, match="class 7, which has 0 images"):
        audit().sample.check({3: 20, 7: 0})
    ten = dict.fromkeys(range(10), 400)
    with pytest.raises(SpecError, match=r"There is no class 12 in mnist-5k: its classes are 0 to 9\."):
        audit(classes=(3, 12)).sample.check(ten)


@given(st.integers(0, 2**31 - 1), st.integers(1, 30), st.integers(1, 30))
def test_a_larger_sample_contains_the_smaller(seed: int, one: int, other: int) -> None:
    labels = np.tile(np.arange(3), 30)
    small, large = (sample_indices(labels, 1, size, seed) for size in sorted((one, other)))
    assert (large[: len(small)] == small).all()
    assert len(np.unique(large)) == len(large) == max(one, other)
    assert (labels[large] == 1).all()
    assert large.dtype == np.int64


def test_samples_differ_by_seed_and_class_alike() -> None:
    labels = np.repeat([0, 1], 100)
    zero, one = sample_indices(labels, 0, 10, 0), sample_indices(labels, 1, 10, 0)
    assert set(zero + 100) != set(one)  # not the same places in both classes
    assert set(zero) != set(sample_indices(labels, 0, 10, 1))


def test_images_that_are_left_out_make_room_for_the_next_ones() -> None:
    labels = np.random.default_rng(0).integers(0, 3, 200)
    whole = sample_indices(labels, 1, 12, 0).tolist()
    without = sample_indices(labels, 1, 10, 0, (whole[3], whole[7])).tolist()
    assert without == [number for number in whole if number not in (whole[3], whole[7])]
    assert sample_indices(labels, 1, 10, 0, (999,)).tolist() == whole[:10]


def test_a_series_keeps_the_key_that_databases_know_it_by() -> None:
    """Recorded with the first release of version 3, before there were threat models; later fields must not move it."""
    names = ("network", "layer", "m", "seed", "method", "preset", "method_version")
    kept = (("a" * 64, "conv1", 10, 0, "balanced", "default", 3), ("b", "fc1", None, 0, "algorithm1", "fast", 2))
    for values in kept:
        text = json.dumps(dict(zip(names, values, strict=True)), sort_keys=True, separators=(",", ":"))
        series = SeriesSpec(*values)
        assert series.key == hashlib.sha256(text.encode()).hexdigest()[:32]
        assert SeriesSpec.from_json(json.loads(json.dumps(series.identity()))) == series


def test_another_range_of_budgets_is_no_other_question() -> None:
    wide = audit(epsilon=EpsilonGrid(0, 3, 7))
    assert wide == audit()
    assert wide.key == audit().key
    assert hash(wide) == hash(audit())
    assert AuditSpec.from_json(wide.to_json()).epsilon == EpsilonGrid(0, 3, 7)


def test_pairs_have_no_direction() -> None:
    assert audit(classes=(7, 3)) == audit(classes=(3, 7))
    assert audit(classes=(7, 3)).to_json()["classes"] == [3, 7]


def test_a_threat_model_is_a_part_of_what_decides_a_distance() -> None:
    assert Threat() == Threat("l2", box=False)
    with pytest.raises(SpecError, match="norm 'l7' is not one of l2"):
        Threat("l7")
    with pytest.raises(
        SpecError, match=r"algorithm1 does not serve the threat model l2, images in \[0, 1\]; it serves l2\.$"
    ):
        SeriesSpec("a", "conv1", 10, 0, method="algorithm1", threat=Threat(box=True))
    keys = {SeriesSpec("a", "conv1", 10, 0, threat=threat).key for threat in THREATS}
    assert len(keys) == len(THREATS) == 4
    for threat in THREATS:
        series = SeriesSpec("a", "conv1", 10, 0, threat=threat)
        assert SeriesSpec.from_json(json.loads(json.dumps(series.identity()))) == series


def test_an_audit_names_norm_and_box_and_keeps_its_key_without_them() -> None:
    assert "threat" not in audit().to_json()
    boxed = audit(threat="linf", box=True)
    assert boxed.search.threat == Threat("linf", box=True)
    assert AuditSpec.from_json(json.loads(json.dumps(boxed.to_json()))) == boxed
    assert boxed.key not in (audit().key, audit(threat="linf").key, audit(box=True).key)
    assert boxed.replace(samples=30).search.threat == boxed.search.threat
    assert boxed.replace(threat="l2", box=False) == audit()
    assert audit(threat=Threat("linf")).replace(box=True) == boxed
    assert [FIELDS[name].option(boxed) for name in ("threat", "box")] == [["--threat", "linf"], ["--box"]]
    assert [FIELDS[name].option(audit()) for name in ("threat", "box")] == [[], []]


def test_sets_of_three_and_more_are_asked_in_the_papers_threat_model_alone() -> None:
    assert audit(classes=(1, 3, 7), sets=3).search.sets == 3
    assert audit(sets=3, box=True).search.sets == 2  # of two classes a set is a pair
    with pytest.raises(SpecError, match="in ℓ2 without the box alone"):
        audit(classes=(1, 3, 7), sets=3, box=True)
    with pytest.raises(SpecError, match="by balanced alone"):
        audit(classes=(1, 3, 7), sets=3, method="algorithm1")


def test_the_usual_range_of_budgets_is_that_of_the_norm() -> None:
    assert EpsilonGrid.usual(Threat(box=True), 0.3) == EpsilonGrid()
    assert EpsilonGrid.usual(Threat("linf"), 0.3).stop == 0.5
    assert EpsilonGrid.usual(Threat("linf"), 8 / 255).stop == 0.13


def test_a_question_that_leaves_nothing_out_says_nothing_of_it() -> None:
    assert "left_out" not in audit().to_json()
    out = audit(left_out=[9, 4, 9])
    assert out.sample.left_out == (4, 9)
    assert out.key != audit().key
    assert out.key == audit(left_out=(4, 9)).key
    assert AuditSpec.from_json(json.loads(json.dumps(out.to_json()))) == out
    with pytest.raises(SpecError, match="of which up to 2 are left out"):
        out.sample.check({3: 21, 7: 30})
    out.sample.check({3: 22, 7: 30})
    with pytest.raises(SpecError, match="by their numbers"):
        audit(left_out=(-1,))


def test_images_and_projections_have_a_seed_each_and_old_questions_keep_their_keys() -> None:
    old = AuditSpec.of("a", dataset="mnist-5k", classes=(3, 7), samples=5, layers=("conv1",), projections=2, seed=4)
    assert "projection_seed" not in old.to_json()
    assert old.replace(projection_seed=4) == old
    other = old.replace(projection_seed=9)
    assert [series.seed for series in old.search.series("b", {})] == [4, 5]
    assert [series.seed for series in other.search.series("b", {})] == [9, 10]
    assert other.key != old.key
    assert AuditSpec.from_json(json.loads(json.dumps(other.to_json()))) == other
    with pytest.raises(SpecError, match="seed of the projections"):
        old.replace(projection_seed=-1)
