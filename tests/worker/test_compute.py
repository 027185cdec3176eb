"""The compute process on a tiny real network: the same distances however pairs are cut into blocks."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from robustness_core import datasets
from robustness_core.collision import find_collisions
from robustness_core.collision.hints import MOST_ROWS
from robustness_core.engine import compute
from robustness_core.engine.tasks import Distances, Failure, Hints, Machine, NeedsContent, NetworkFile, Task
from robustness_core.layers import cuts, extractor
from robustness_core.projection import project
from robustness_core.spec import TOLERANCE
from store.database import PROJECT
from testing.networks import task, tiny
from worker import process


@pytest.fixture(autouse=True)
def _fresh_process() -> Iterator[None]:
    compute.computer.cache_clear()
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def part(whole: Task, places: np.ndarray) -> Task:
    return replace(whole, left=whole.left[places], right=whole.right[places])


def answer(asked: Task) -> Distances:
    given = process.run(asked, Machine())
    assert isinstance(given, Distances), given
    return given


@pytest.mark.parametrize("layer", ["conv1", "logits"])
def test_a_distance_depends_on_its_pair_alone_to_the_last_bit(network: NetworkFile, layer: str) -> None:
    whole = task(network, layer)
    wanted = answer(whole).found
    rng = np.random.default_rng(0)
    order = rng.permutation(len(whole))
    for places in (order, order[:1], order[3:20], order[::-1][:16]):
        given = answer(part(whole, places)).found
        for name in ("distance", "residual", "collided"):
            np.testing.assert_array_equal(getattr(given, name), getattr(wanted, name)[places], err_msg=name)


def test_the_distances_are_those_of_the_science(network: NetworkFile) -> None:
    whole = task(network, pairs=16)
    given = answer(whole).found
    images = (torch.from_numpy(datasets.to_float(side)) for side in (whole.left, whole.right))
    found = find_collisions(project(extractor(tiny(), "conv1"), 196, 5, 1), *images)
    np.testing.assert_allclose(given.distance, found.distance.numpy(), rtol=1e-4)
    assert given.collided.all()
    assert (given.residual <= TOLERANCE).all()
    assert (given.passes > 0).all()


def test_the_kept_collisions_are_those_of_the_closest_pairs(network: NetworkFile) -> None:
    whole = replace(task(network), keep=3)
    given = answer(whole)
    assert [kept.place for kept in given.kept] == np.argsort(given.found.distance)[:3].tolist()
    for kept in given.kept:
        left, right = (datasets.to_float(side[kept.place][None])[0] for side in (whole.left, whole.right))
        moved = [np.linalg.norm(kept.left.astype(float) - left), np.linalg.norm(kept.right.astype(float) - right)]
        assert max(moved) == pytest.approx(given.found.distance[kept.place], rel=1e-6)
        images = {"left": left, "right": right, "collision_left": kept.left, "collision_right": kept.right}
        assert kept.predictions.keys() == images.keys()
        for name, image in images.items():
            logits = tiny()(torch.from_numpy(image)[None])[0].tolist()
            np.testing.assert_allclose(kept.predictions[name], logits, rtol=1e-4, atol=1e-5)


def test_hints_come_close_to_the_distances(network: NetworkFile) -> None:
    whole = task(network)
    hinted = process.run(replace(whole, kind="hints"), Machine())
    assert isinstance(hinted, Hints)
    assert hinted.values.shape == (3, 20, 20)
    ratio = answer(whole).found.distance / np.exp(hinted.values[0]).diagonal()
    assert (ratio > 0.5).all()
    assert (ratio < 2).all()


def test_hints_of_many_features_are_those_of_some_mixtures(network: NetworkFile) -> None:
    whole = task(network)
    unprojected = replace(whole, kind="hints", series=replace(whole.series, m=None))
    assert unprojected.features > MOST_ROWS
    hinted = process.run(unprojected, Machine())
    assert isinstance(hinted, Hints)
    assert np.isfinite(hinted.values).all()


def test_other_looks_find_other_collisions_and_the_gap_is_against_the_nearest(network: NetworkFile) -> None:
    whole = task(network)
    first, again, gap = (answer(replace(whole, kind=kind)).found.distance for kind in ("distances", "again", "gap"))
    assert (gap <= again).all()
    assert (gap < first).any()


def test_the_network_is_read_once(network: NetworkFile) -> None:
    asked = task(network, pairs=1)
    without = replace(asked, network=replace(network, content=None))
    assert process.run(without, Machine()) == NeedsContent()
    answer(asked)
    answer(without)


def test_what_cannot_be_computed_is_a_sentence(network: NetworkFile) -> None:
    asked = task(network, pairs=1)
    unknown = process.run(replace(asked, series=replace(asked.series, layer="conv9")), Machine())
    assert isinstance(unknown, Failure)
    assert unknown.final
    assert unknown.sentence.startswith("The network has no layer 'conv9'")
    compute.computer.cache_clear()
    torn = process.run(replace(asked, network=replace(network, content=network.content[:100])), Machine())  # type: ignore[index]
    assert isinstance(torn, Failure)
    assert torn.final
    assert "\n" not in torn.sentence
    no_device = process.run(asked, Machine("cuda:77"))
    assert isinstance(no_device, Failure)
    assert "not available here" in no_device.sentence
    wrong_shape = process.run(replace(asked, left=asked.left[:, :20]), Machine())
    assert isinstance(wrong_shape, Failure)
    assert "Traceback" in wrong_shape.detail


def test_a_process_says_what_it_is_and_reads_layers(network: NetworkFile) -> None:
    said = process.describe(Machine())
    assert said.device.startswith("cpu")
    assert said.versions["torch"] == torch.__version__
    assert said.batch == compute.BATCH["cpu"]
    assert [layer["name"] for layer in process.layers(network)] == [cut.name for cut in cuts(tiny(), (1, 28, 28))]


def test_a_warm_process_has_loaded_what_a_block_needs(network: NetworkFile, tmp_path: Path) -> None:
    (tmp_path / "task").write_bytes(pickle.dumps(task(network)))
    code = (
        "import pickle, sys\n"
        "from robustness_core.engine import tasks\n"
        "from worker import process\n"
        "asked = pickle.load(open(sys.argv[1], 'rb'))\n"
        "process.warm(tasks.Machine('cpu'))\n"
        "before = set(sys.modules)\n"
        "assert isinstance(process.run(asked, tasks.Machine('cpu')), tasks.Distances)\n"
        "late = {name for name in set(sys.modules) - before if name.startswith('torch')}\n"
        "assert len(late) < 20, sorted(late)[:5]\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "task")], cwd=PROJECT, check=True)
