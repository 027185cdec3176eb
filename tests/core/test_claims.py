"""Claims: intervals against closed forms and a population with known truth, Holm by hand, the rule of the verdicts."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import t as student_t
from scipy.stats import ttest_ind

from robustness_core.__main__ import main
from robustness_core.claims import CLAIMS, Claim, Estimate, Evidence, Part, gather, judge, method, stored
from robustness_core.claims.evidence import Audit
from robustness_core.claims.holm import holm
from robustness_core.claims.printed import address, commands, markdown, table, to_json
from robustness_core.claims.resampling import Measured, estimate
from robustness_core.found import Found
from robustness_core.optimal_loss.statistics import (
    half_budget,
    half_budget_without_one,
    mean_distance_without_one,
    student,
)
from robustness_core.shipped import Shipped
from robustness_core.spec import AuditSpec
from testing.population import Population, means

L, R = ("left",), ("right",)
README = Path(__file__).parents[2] / "README.md"


def measured(matrices: np.ndarray, seeds: tuple[int, ...] | None = None, left: object = "left") -> Measured:
    values = [mean_distance_without_one(one) for one in matrices]
    return Measured(values, seeds, (left,), R, matrices.shape[1])


def same(x: np.ndarray) -> np.ndarray:
    return x


def test_without_projections_the_interval_is_welchs_of_two_independent_means() -> None:
    random = np.random.default_rng(0)
    a, b = random.random(12), 3 * random.random(12)
    found = estimate(same, measured((a[:, None] + b)[None]))
    assert found.value == pytest.approx(a.mean() + b.mean())
    assert found.error == pytest.approx(math.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 12))
    welch = ttest_ind(a, -b, equal_var=False).confidence_interval()
    assert (found.interval().low, found.interval().high) == pytest.approx((welch.low, welch.high))
    assert found.joint(0.99).high - found.value == pytest.approx(student_t.ppf(0.995, 11) * found.error)


def test_where_images_do_not_matter_the_interval_is_students_over_projections() -> None:
    values = [1.0, 2.5, 1.7, 2.2]
    found = estimate(same, measured(np.multiply.outer(values, np.ones((6, 6))), (0, 1, 2, 3)))
    assert (found.interval().low, found.interval().high) == pytest.approx((student(values).low, student(values).high))


def test_what_projections_and_images_share_is_counted_once() -> None:
    """Against the mean squares of a table of projections and left images without replications."""
    x = np.random.default_rng(1).random((5, 8)) + np.arange(8) / 4 + np.arange(5)[:, None]
    found = estimate(same, measured(np.repeat(x[:, :, None], 2, axis=2), tuple(range(5))))
    of_rows, of_columns = x.mean(axis=1).var(ddof=1) / 5, x.mean(axis=0).var(ddof=1) / 8
    rest = x - x.mean(axis=1, keepdims=True) - x.mean(axis=0) + x.mean()
    assert found.error**2 == pytest.approx(of_rows + of_columns - (rest**2).sum() / (4 * 7) / 40)


def test_what_two_layers_share_cancels_in_their_difference_and_only_there() -> None:
    one = np.random.default_rng(2).random((3, 6, 6))

    def change(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return y - x

    paired = estimate(change, measured(one, (0, 1, 2)), measured(one + 0.5, (0, 1, 2)))
    assert (paired.value, paired.error) == pytest.approx((0.5, 0), abs=1e-12)
    assert estimate(change, measured(one, (0, 1, 2)), measured(one + 0.5, (0, 1, 2), "others")).error > 0.01
    shifted = estimate(change, measured(one, (0, 1, 2)), measured(one[1:] + 0.5, (1, 2)))
    assert (shifted.projections, shifted.value) == (2, pytest.approx(0.5))
    once = estimate(change, measured(one, (0, 1, 2)), measured(one[:1], None))  # a layer that no projection changes
    assert (once.projections, once.known) == (3, True)


def test_of_one_projection_or_one_image_there_is_no_interval() -> None:
    random = np.random.default_rng(3)
    assert not estimate(same, measured(random.random((1, 5, 5)), (0,))).known
    assert not estimate(same, measured(random.random((3, 1, 5)), (0, 1, 2))).known
    assert not estimate(same, Measured([half_budget_without_one(np.full((3, 3), np.nan))], None, L, R, 3)).known
    apart = measured(random.random((2, 5, 5)), (0, 1)), measured(random.random((2, 5, 5)), (2, 3))
    assert not estimate(lambda x, y: x, *apart).known  # two audits without a common projection


def test_p_says_which_interval_ends_there() -> None:
    found = Estimate(1.0, ((0.04, 2.0), (0.02, 19.0)), 3, 20)
    for away in (0.2, 0.9, 5.0):
        assert found.joint(1 - found.p(away)).high == pytest.approx(1 + away, rel=1e-6)
    assert (found.p(0.0), found.p(1e9)) == (1.0, 0.0)


def test_intervals_over_images_and_projections_hold_the_truth_and_over_pairs_do_not() -> None:
    """300 audits of S = 10, N = 5 with known distances; `benchmarks.coverage` has more, and ε½."""
    population, random = Population.of(0), np.random.default_rng(4)
    audits = [population.audit(10, 5, random) for _ in range(300)]
    change = [np.mean(other) - np.mean(one) for one, other in audits]
    truth = np.mean(change)  # to a twentieth of the standard deviation of one of them
    held = pairs = 0
    for one, other in audits:
        interval = estimate(lambda x, y: y - x, means(one), means(other)).interval()
        held += interval.low <= truth <= interval.high
        naive = student((np.array(other) - np.array(one)).ravel())
        pairs += naive.low <= truth <= naive.high
    assert 0.92 <= held / 300 <= 0.98
    assert pairs / 300 < 0.6


def test_a_half_budget_without_an_image_moves_as_that_of_the_other_images_does() -> None:
    """To first order: beside ε½ of the matrix without that image, which jumps; and in the unit of the distances."""
    population, random = Population.of(0), np.random.default_rng(5)
    distances = population.distances(population.images(10, random), population.seen(0, random))
    found = half_budget_without_one(distances)
    exact = [half_budget(np.delete(distances, image, axis)) for axis in (0, 1) for image in range(10)]
    assert np.corrcoef(np.concatenate([found.left, found.right]), exact)[0, 1] > 0.6
    twice = half_budget_without_one(2 * distances)
    np.testing.assert_allclose([twice.value, *twice.left, *twice.right],
                               2 * np.array([found.value, *found.left, *found.right]), rtol=1e-9)  # fmt: skip


def test_holm_by_hand() -> None:
    """0.005 · 4, 0.01 · 3, 0.03 · 2, and 0.04 · 1, which is not below the one before."""
    adjusted, divisions = holm([0.01, 0.04, 0.03, 0.005])
    assert adjusted == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert divisions == [3, 2, 2, 4]
    assert holm([]) == ([], [])


NOTHING = Evidence((), {}, {})


def claim(
    estimates: Sequence[Estimate | None], needs: str = "all", region: tuple[float, float] = (0, math.inf)
) -> Claim:
    parts = [Part(str(place), one, wanted=("compute it",)) for place, one in enumerate(estimates)]
    return Claim("name", "1", "A sentence.", "a number", "less", region, lambda _: parts, needs=needs)  # type: ignore[arg-type]


def sure(value: float) -> Estimate:
    return Estimate(value, ((0.01, 20.0),), 5, 20)  # 0.1 of standard error


@pytest.mark.parametrize(
    ("estimates", "needs", "verdict"),
    [
        ([sure(1), sure(2)], "all", "holds"),
        ([sure(1), sure(0.1)], "all", "undecided"),
        ([sure(1), sure(-1)], "all", "does not hold"),
        ([sure(1), sure(-0.22)], "all", "undecided"),  # -0.22 alone would refute, one of two does not
        ([sure(1), None], "all", "undecided"),
        ([sure(-1), None], "all", "does not hold"),
        ([sure(-1), sure(1)], "any", "holds"),
        ([sure(-1), sure(-1)], "any", "does not hold"),
        ([sure(-1), None], "any", "undecided"),
        ([None], "all", "undecided"),
        ([Estimate(3, ((math.nan, 0),), 1, 20)], "all", "undecided"),
    ],
)
def test_the_rule(estimates: list[Estimate | None], needs: str, verdict: str) -> None:
    (found,) = judge(NOTHING, [claim(estimates, needs)])
    assert found.verdict == verdict
    assert bool(found.note) == any(one is None or not one.known for one in estimates)


def test_the_more_claims_the_surer_each_must_be() -> None:
    (alone,) = judge(NOTHING, [claim([sure(0.25)])])
    among = judge(NOTHING, [claim([sure(0.25)])] * 8)
    assert (alone.verdict, {one.verdict for one in among}) == ("holds", {"undecided"})
    assert (alone.parts[0].joint.low > 0, among[0].parts[0].joint.low > 0) == (True, False)
    with_nothing = judge(NOTHING, [claim([sure(0.25)]), claim([None])])  # what has no number is not judged
    assert [one.verdict for one in with_nothing] == ["holds", "undecided"]


def test_what_is_in_closed_form_stands_apart() -> None:
    """It takes nothing from the others, and the others nothing from it."""
    few = [claim([sure(0.25)]), claim([sure(0.1)])]
    mathematics = dataclasses.replace(claim([sure(0.25)]), closed_form=True)
    before, among = judge(NOTHING, few), judge(NOTHING, [*few, mathematics, mathematics])
    assert [one.adjusted for one in among[:2]] == [one.adjusted for one in before]
    assert {(one.verdict, one.comparisons) for one in among[2:]} == {("holds", 1)}
    assert "mathematics" in among[2].note


def test_a_claim_hangs_on_what_lacks_where_all_else_holds() -> None:
    (lacking,) = judge(NOTHING, [claim([sure(1), None])])
    assert lacking.decisive is lacking.parts[1]
    (weak,) = judge(NOTHING, [claim([sure(0.1), sure(1), None])])
    assert weak.decisive is weak.parts[0]
    (any_,) = judge(NOTHING, [claim([sure(1), None], "any")])
    assert any_.decisive is any_.parts[0]


def test_within_a_region_both_ends_count() -> None:
    inside, edge, outside = judge(NOTHING, [claim([sure(value)], region=(-0.5, 0.5)) for value in (0.0, 0.45, 1.2)])
    assert [one.verdict for one in (inside, edge, outside)] == ["holds", "undecided", "does not hold"]


def audit(size: int, projections: int, file: str = "one.npz") -> Audit:
    spec = AuditSpec.of("net", dataset="mnist-5k", classes=(3, 7), samples=size, layers=("a",), projections=projections)
    series = tuple(spec.search.series("0" * 64, {"a": 50}))
    found = Found.nothing(len(series), size, size)
    found.distance[:] = np.random.default_rng(size).random(found.distance.shape)
    indices = (tuple(range(size)), tuple(range(size)))
    return Audit(file, Shipped("0" * 64, spec, series, found, indices, "cpu", {}, "", (None,) * len(series)))


def test_the_best_audit_of_a_question_is_the_evidence() -> None:
    """Five projections first, then images, then more projections; a pair that is missing spoils means alone."""
    few, large, many = audit(20, 3), audit(30, 5), audit(20, 10)
    card = {"net": {"layers": [{"name": "a", "features": 50}], "input_shape": [1, 28, 28]}}
    evidence = Evidence((few, large, many), card, {})
    assert evidence.find("net", ["a"]) == [large, many, few]
    assert evidence.find("net", ["a"], (7,)) == []
    large.shipped.found.distance[0, 0, 0] = np.nan
    assert evidence.find("net", ["a"], whole=True) == [many, few]
    assert evidence.together({"net": ["a"]}) == [large]
    assert evidence.half(large, "a").seeds == (0, 1, 2, 3, 4)
    assert estimate(same, evidence.mean(audit(30, 2), "a")).images == 30  # in 25 parts


def test_the_loss_under_fab_is_read_of_every_card() -> None:
    """Whichever form its audited part has: FAB alone, or FAB beside others."""
    evidence = gather()
    stated = [name for name, card in evidence.cards.items() if "audited" in card["evaluation"]]
    assert len(stated) > 5
    assert [name for name, *_ in method._fab(evidence)] == stated
    for _, _, fab, ours in method._fab(evidence):
        assert fab.shape == ours.shape


def test_an_address_names_classes_as_screens_do() -> None:
    (found,) = judge(gather(), [one for one in CLAIMS if one.name == "deeper-is-more-robust"])
    addresses = [address(found.claim, one.part) for one in found.parts]
    assert "a=3&b=7" in addresses[0]
    assert "a=3+cat&b=7+horse" in addresses[1]


def test_the_claims_of_the_paper_are_judged_by_what_is_shipped() -> None:
    """A number that is made of one shipped audit, all that is printed of it, and every row's words."""
    chosen = [one for one in CLAIMS if one.name in ("benign-is-hardly-robust", "fab-passes-log-2", "concentrates")]
    evidence = gather()
    verdicts = judge(evidence, chosen)
    assert all(one.decisive is not None and one.decisive.interval.known for one in verdicts)
    said = json.loads(json.dumps(to_json(verdicts, evidence), allow_nan=False))
    assert [one["verdict"] for one in said["claims"]] == [one.verdict for one in verdicts]
    assert set(evidence.files) >= {"first-look.npz", "mnist-medium-pgd2.json"}
    assert "python -m robustness_core audit --network=" in commands(verdicts)
    for verdict in verdicts:
        assert verdict.claim.name in table(verdicts, parts=True)
        assert verdict.claim.sentence in markdown(verdicts)
        for one in verdict.parts:
            assert address(verdict.claim, one.part).split("?")[0] in ("explore", "networks", "learn")
    assert len({one.name for one in CLAIMS}) == len(CLAIMS)
    assert all(one.sentence.endswith(".") and one.region[0] < one.region[1] for one in CLAIMS)


def test_the_readme_says_of_each_claim_what_the_screen_says() -> None:
    """Both come of `python -m robustness_core claims --json --readme README.md > zoo/claims.json`."""
    shown = stored()
    assert shown is not None
    rows = [line for line in README.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    for one in shown.claims:
        assert any(f"| {one['sentence']} | {one['section']} | {one['verdict']} |" in row for row in rows)
    assert {one["name"] for one in shown.claims} == {one.name for one in CLAIMS}


def test_an_unknown_claim_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["claims", "--claim", "all-is-well"]) == 2
    assert "There is no claim 'all-is-well'; there are deeper-is-more-robust," in capsys.readouterr().err
