"""`python -m benchmarks.needed`: what an audit of the needed pairs costs and loses, beside one of all pairs.

Per layer, one projection: the share of the pairs that was searched, how far the curve lies below that of all pairs, and
processor time of both, the scheduler's own beside it. The baseline is a search of every pair in float32; its time is
that of PRICED pairs, searched before and after the needed ones, so that other work on the machine weighs on both alike.
`--growth` prints the searches at several S instead, with the exponent of their growth. `--keep FILE` keeps the
distances of all pairs, which take most of the time, and goes on from there.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robustness_core.checkpoints import load, sha256
from robustness_core.engine.audit import Engine, InMemory, InProcess, Question, draw_sample
from robustness_core.engine.compute import Computer
from robustness_core.engine.scheduler import Settings
from robustness_core.engine.tasks import Answer, Machine, NetworkFile, Task
from robustness_core.layers import cuts
from robustness_core.networks import Network
from robustness_core.optimal_loss import loss_curve
from robustness_core.spec import AuditSpec, EpsilonGrid, SeriesSpec
from robustness_core.zoo import find

Floats = NDArray[np.float64]
BUDGETS = EpsilonGrid().values()
PRICED = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="mnist-medium-pgd2")
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--classes", type=int, nargs=2, default=(3, 7))
    parser.add_argument("--samples", type=int, nargs="+", default=[100])
    parser.add_argument("--layers", default="conv1,conv2,conv3,conv4,fc1,fc2,logits")
    parser.add_argument("--seed", type=int, default=0, help="of the images and of the projection")
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--keep", type=Path)
    args = parser.parse_args()
    path = find(args.network)
    work = Work(load(path), sha256(path))
    layers = args.layers.split(",")

    def spec(size: int) -> AuditSpec:
        return AuditSpec.of(
            args.network, dataset=args.dataset, classes=tuple(args.classes), samples=size, layers=layers,
            seed=args.seed, pairs="needed",
        )  # fmt: skip

    if args.growth:
        growth(work, [spec(size) for size in args.samples])
    else:
        for size in args.samples:
            beside_all(work, spec(size), args.keep)


class Work:
    """Searches series one by one, and tells processor seconds of the searches from those of all else."""

    def __init__(self, network: Network, sha: str):
        self.network, self.sha = network, sha
        self.sizes = {cut.name: cut for cut in cuts(network, network.input_shape)}
        self.seconds = 0.0

    def series(self, spec: AuditSpec) -> Sequence[SeriesSpec]:
        return spec.search.series(self.sha, {name: cut.features for name, cut in self.sizes.items()})

    def run(self, spec: AuditSpec, one: SeriesSpec, precision: str, *, needed: bool) -> tuple[InMemory, float, float]:
        """What was found; processor seconds in all, and outside of the searches."""
        computer = Computer(Machine(precision=precision), {self.sha: self.network})
        self.seconds = 0.0

        def answer(task: Task) -> Answer:
            begun = time.process_time()
            given = computer.answer(task)
            self.seconds += time.process_time() - begun
            return given

        sample = draw_sample(spec)
        cut = self.sizes[one.layer]
        results = InMemory([one], sample.asked)
        file = NetworkFile(self.sha, "", "", self.network.input_shape, None, None)
        closed_form = {one.layer} if cut.affine else set()
        question = Question(file, [one], {one.layer: cut.features}, closed_form, sample, needed=needed)
        begun = time.process_time()
        Engine(question, InProcess(answer), results, Settings(batch=computer.at_once, keep=0)).run()
        whole = time.process_time() - begun
        return results, whole, whole - self.seconds

    def price(self, spec: AuditSpec, one: SeriesSpec) -> float:
        """Processor seconds of a search in float32, the mean of PRICED pairs."""
        sample, cut = draw_sample(spec), self.sizes[one.layer]
        left, right = np.random.default_rng(1).integers(0, spec.sample.size, (2, PRICED))
        task = Task(
            "distances", NetworkFile(self.sha, "", "", self.network.input_shape, None, None), one, cut.features,
            sample.left[left], sample.right[right],
        )  # fmt: skip
        computer = Computer(Machine(precision="float32"), {self.sha: self.network})
        begun = time.process_time()
        computer.answer(task)
        return (time.process_time() - begun) / PRICED


def beside_all(work: Work, spec: AuditSpec, keep: Path | None) -> None:
    print(f"{spec.network}, S = {spec.sample.size}, seed {spec.sample.seed}, m = 10, one projection")
    print(f"{'layer':8}{'searched':>10}{'largest':>10}{'mean':>10}{'all s':>8}{'needed s':>10}{'ratio':>8}{'own':>7}"
          f"{'again':>7}{'gap':>8}{'90 %':>8}")  # fmt: skip
    rows = []
    for one in work.series(spec):
        full = _of_all(work, spec, one, keep)
        before = work.price(spec, one)
        results, whole, own = work.run(spec, one, "auto", needed=True)
        seconds = full.size * (before + work.price(spec, one)) / 2
        found, finding = results.found[one], results.findings[one]
        # Nearer collisions of a second look belong to both: the curve of all pairs is that of the nearest known.
        least = np.fmin(full, found.distance)
        below = loss_curve(least, BUDGETS) - loss_curve(found.distance, BUDGETS)
        assert below.min() >= -1e-12  # never above the curve of all
        share, gap = found.known.mean(), finding.gap
        rows.append((share, below.max(), below.mean(), seconds, whole, own))
        print(
            f"{one.layer:8}{share:>10.1%}{below.max():>10.4f}{below.mean():>10.5f}{seconds:>8.0f}{whole:>10.0f}"
            f"{whole / seconds:>8.2f}{own / whole:>7.1%}{finding.again:>7}"
            f"{gap.mean if gap else np.nan:>8.3f}{gap.q90 if gap else np.nan:>8.3f}",
            flush=True,
        )
    table = np.array(rows)
    print(
        f"{'all':8}{table[:, 0].mean():>10.1%}{table[:, 1].max():>10.4f}{table[:, 2].mean():>10.5f}"
        f"{table[:, 3].sum():>8.0f}{table[:, 4].sum():>10.0f}{table[:, 4].sum() / table[:, 3].sum():>8.2f}"
        f"{table[:, 5].sum() / table[:, 4].sum():>7.1%}"
    )


def _of_all(work: Work, spec: AuditSpec, one: SeriesSpec, keep: Path | None) -> Floats:
    """Distances of every pair, from `keep` if they are there."""
    name = f"{spec.network} {one.layer} {spec.sample.size} {one.seed}"
    kept = dict(np.load(keep)) if keep is not None and keep.is_file() else {}
    if name not in kept:
        results, _, _ = work.run(spec, one, "float32", needed=False)
        kept[name] = results.found[one].distance
        if keep is not None:
            np.savez(keep, **kept)
    distances: Floats = kept[name]
    return distances


def growth(work: Work, specs: Sequence[AuditSpec]) -> None:
    counts = []
    for spec in specs:
        each = [work.run(spec, one, "auto", needed=True)[0].found[one].known.sum() for one in work.series(spec)]
        counts.append(np.array(each))
        shares = " ".join(f"{count / spec.sample.size**2:.1%}" for count in each)
        print(f"S = {spec.sample.size}: {sum(each):,} searches ({shares})", flush=True)
    sizes = np.log([spec.sample.size for spec in specs])
    slope = np.polyfit(sizes, np.log([count.sum() for count in counts]), 1)[0]
    print(f"searches grow as S^{slope:.2f} (all pairs: S^2)")


if __name__ == "__main__":
    main()
