"""More than two classes: the loss by the double cover against second solvers, audits of K classes, what they share."""

import json
from pathlib import Path
from typing import Any

import cvxpy as cp
import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from robustness_core import datasets
from robustness_core.__main__ import main
from robustness_core.checkpoints import save
from robustness_core.engine.plan import Plan
from robustness_core.engine.result import read
from robustness_core.errors import SpecError
from robustness_core.networks import build
from robustness_core.optimal_loss import loss_curve, optimal_loss
from robustness_core.spec import SampleSpec

torch.set_num_threads(1)


def k_partite(seed: int, sizes: tuple[int, ...], density: float) -> tuple[np.ndarray, np.ndarray]:
    """A random symmetric graph without edges inside a class, and weights that are no whole multiples of another."""
    random = np.random.default_rng(seed)
    of = np.repeat(np.arange(len(sizes)), sizes)
    upper = (random.random((len(of), len(of))) < density) & (of[:, None] < of)
    return upper | upper.T, random.uniform(0.2, 2.0, len(of))


GRAPHS = [(seed, sizes, density) for seed, (sizes, density) in enumerate(
    [((3, 3, 3), 0.3), ((2, 5, 4), 0.6), ((4,) * 5, 0.2), ((6, 1, 3, 2), 0.9), ((3,) * 10, 0.15), ((3,) * 10, 0.7)]
)]  # fmt: skip


@pytest.mark.parametrize(("seed", "sizes", "density"), GRAPHS)
def test_the_double_cover_has_the_loss_of_the_graph(seed: int, sizes: tuple[int, ...], density: float) -> None:
    graph, weight = k_partite(seed, sizes, density)
    solved = optimal_loss(graph, weights=(weight, weight))
    u, v = np.nonzero(np.triu(graph))
    q = cp.Variable(len(weight))
    problem = cp.Problem(cp.Minimize(-(weight @ cp.log(q)) / weight.sum()), [q <= 1, q[u] + q[v] <= 1])
    tight = {"tol_gap_abs": 1e-11, "tol_gap_rel": 1e-11, "tol_feas": 1e-11}
    assert solved.cross_entropy == pytest.approx(problem.solve(solver=cp.CLARABEL, **tight), abs=1e-7)
    edges = np.zeros((len(u), len(weight)))
    edges[np.arange(len(u)), u] = edges[np.arange(len(u)), v] = 1
    best = linprog(-weight, A_ub=edges, b_ub=np.ones(len(u)), bounds=(0, 1), method="highs")
    assert solved.zero_one == pytest.approx(1 + best.fun / weight.sum(), abs=1e-9)
    np.testing.assert_allclose(solved.left, solved.right, rtol=0, atol=1e-12)
    assert solved.gap <= 1e-9


def test_matrices_of_pairs_have_each_pair_once() -> None:
    spec = SampleSpec("leaves", (4, 0, 1), 3)
    assert spec.classes == (0, 1, 4)
    assert spec.asked.shape == (9, 9)
    assert spec.asked.sum() == spec.pairs == 27
    assert not (spec.asked & spec.asked.T).any()
    assert spec.drawn.sum() == 9
    assert not (spec.drawn & ~spec.asked).any()
    assert (spec.drawn.sum(axis=0) + spec.drawn.sum(axis=1) == 2).all()  # every image once with each other class
    matrix = np.where(spec.asked, np.arange(81.0).reshape(9, 9), np.nan)
    graph = spec.graph(matrix)
    np.testing.assert_array_equal(graph, graph.T)
    assert int((~np.isnan(graph)).sum()) == 54
    two = SampleSpec("leaves", (0, 1), 3)
    assert two.asked.all()
    assert not two.drawn.any()
    assert two.graph(matrix[:3, :3]) is not None
    with pytest.raises(SpecError, match="3,000, whose pairs would need too much memory"):
        SampleSpec("leaves", (0, 1, 2), 1000)


def test_only_pairs_that_matter_are_searched_and_the_curve_stays() -> None:
    """A made-up space: distances of points, hints that are right to a tenth; the full curve is the oracle."""
    spec = SampleSpec("made-up", tuple(range(6)), 12)
    random = np.random.default_rng(0)
    centres = random.standard_normal((6, 3)) * 1.5
    points = np.repeat(centres, 12, axis=0) + random.standard_normal((72, 3))
    apart = np.linalg.norm(points[:, None] - points, axis=2) / 2
    true = np.where(spec.asked, apart * 0.6, np.nan)
    hints = np.log(np.maximum(apart, 1e-9))[None] + 0.05 * random.standard_normal((1, 72, 72))
    plan = Plan(np.full_like(true, np.nan), apart, asked=spec.asked, drawn=spec.drawn, needed=True)
    plan.hint(hints)
    while not plan.finished:
        places = plan.take(16)
        assert spec.asked.ravel()[places].all()
        plan.done(places, true.ravel()[places])
    finding = plan.finding()
    assert finding.pairs == spec.pairs
    assert finding.searched < 0.6 * spec.pairs
    assert (plan.known & spec.drawn).sum() == spec.drawn.sum()
    known = np.where(plan.known, true, np.nan)
    budgets = np.linspace(0, float(np.nanmax(true)), 60)
    full, part = (loss_curve(spec.graph(one), budgets) for one in (true, known))
    assert (part <= full + 1e-12).all()
    assert (full - part).max() < 0.01
    assert (loss_curve(spec.graph(known), np.array(finding.budgets)) <= np.array(finding.optimistic) + 1e-12).all()


@pytest.fixture
def audits(leaves: datasets.Entry, tmp_path: Path) -> dict[str, Any]:
    """The JSON of an audit of all three classes, and of each two of them, of one made-up network."""
    folder = tmp_path
    torch.manual_seed(0)
    save(build("conv 4 3x3/1, relu, flatten, fc 3", leaves.input_shape), folder / "leaves.safetensors", None)
    usual = ["audit", "--network", str(folder / "leaves.safetensors"), "--samples", "3", "--m", "2", "--device", "cpu"]
    found: dict[str, Any] = {}
    for classes in ("all", "0 1", "0 2", "1 2"):
        path = folder / f"{classes}.json"
        assert main([*usual, "--pairs", "all", "--classes", *classes.split(), "--json", str(path)]) == 0
        found[classes] = json.loads(path.read_text())
    return {**found, "folder": folder}


def test_the_json_of_three_classes(audits: dict[str, Any]) -> None:
    every = audits["all"]
    assert every["classes"] == [0, 1, 2]
    assert [len(one) for one in every["indices"]] == [3, 3, 3]
    assert "left_indices" not in every
    for layer in every["layers"]:
        (projection,) = layer["projections"]
        distance = np.array(projection["distances"], dtype=float)
        assert distance.shape == (9, 9)
        np.testing.assert_array_equal(distance, distance.T)
        within = np.kron(np.eye(3), np.ones((3, 3))).astype(bool)
        np.testing.assert_array_equal(np.isnan(distance), within)
        np.testing.assert_allclose(projection["loss"], loss_curve(distance, every["epsilon"]), atol=1e-12)


def test_three_classes_and_two_share_their_distances(audits: dict[str, Any]) -> None:
    every = audits["all"]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        two = audits[f"{a} {b}"]
        assert [two["left_indices"], two["right_indices"]] == [every["indices"][a], every["indices"][b]]
        for of_three, of_two in zip(every["layers"], two["layers"], strict=True):
            part = np.array(of_three["projections"][0]["distances"], dtype=float)[3 * a : 3 * a + 3, 3 * b : 3 * b + 3]
            np.testing.assert_array_equal(part, of_two["projections"][0]["distances"])


def test_a_result_of_three_classes_is_read_as_it_was_written(audits: dict[str, Any]) -> None:
    result = read(audits["folder"] / "all.json")
    assert result.total == result.known == 2 * 27
    again = result.to_json()
    for one, other in zip(audits["all"]["layers"], again["layers"], strict=True):
        assert one["projections"][0]["distances"] == other["projections"][0]["distances"]
        assert one["projections"][0]["collided"] == other["projections"][0]["collided"]


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        ("3", "two or more"),
        ("1 1 2", "twice there is 1"),
        ("0 1 77", "no class 77"),
        ("a b", "whole numbers, or all"),
    ],
)
def test_classes_that_cannot_be_are_refused_in_a_sentence(
    classes: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["audit", "--network", "mnist-small-pgd2", "--dataset", "mnist-5k", "--classes", *classes.split()]
    assert main(command) == 2
    assert words in capsys.readouterr().err


def test_a_class_of_too_few_images_is_named(leaves: datasets.Entry, audits: dict[str, Path]) -> None:
    counts = datasets.counts(leaves.name)
    spec = SampleSpec(leaves.name, (0, 1, 2), max(counts.values()) + 1)
    with pytest.raises(SpecError, match="larger than class"):
        spec.check(counts)
