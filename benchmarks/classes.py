"""All classes at once: pairs searched and what that costs the curve, sets against the affine ball, solvers.

python -m benchmarks.classes                  # solvers, on made-up distances
python -m benchmarks.classes --search         # ten classes of a network: needed pairs against all, then its sets
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from robustness_core import zoo
from robustness_core.checkpoints import load, sha256
from robustness_core.engine.audit import run_audit
from robustness_core.engine.result import AuditResult
from robustness_core.optimal_loss import curve_of, error_curve, least_ball, loss_curve, loss_with_sets
from robustness_core.spec import AuditSpec, SampleSpec


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--search", action="store_true", help="search a network's pairs: minutes to an hour")
    parser.add_argument("--network", default="mnist-small-pgd2")
    parser.add_argument("--dataset", default="mnist-5k")
    parser.add_argument("--layer", default="logits")
    parser.add_argument("--samples", type=int, default=20)
    args = parser.parse_args()
    if args.search:
        searched(args)
    else:
        solved()


def solved() -> None:
    """Times of the solvers, on distances of random points in six dimensions."""
    for samples in (20, 100):
        spec, distance = made_up(samples)
        graph, budgets = spec.graph(distance), np.linspace(0, np.nanmax(distance), 81)
        print(f"81 budgets, K = 10, S = {samples}: loss {seconds(loss_curve, graph, budgets):.2f} s, "
              f"0-1 {seconds(error_curve, graph, budgets):.2f} s")  # fmt: skip
        sets, edges = random_sets(samples, 3 * samples), graph <= float(np.nanquantile(distance, 0.5))
        start = time.perf_counter()
        loss = loss_with_sets(edges, sets)
        print(f"one budget with {len(sets)} sets, n = {10 * samples}: {time.perf_counter() - start:.2f} s, "
              f"certified gap {loss.gap:.1e}")  # fmt: skip


def made_up(samples: int) -> tuple[SampleSpec, np.ndarray]:
    random = np.random.default_rng(0)
    spec = SampleSpec("made-up", tuple(range(10)), samples)
    points = np.repeat(random.standard_normal((10, 6)), samples, axis=0) + random.standard_normal((10 * samples, 6))
    apart = np.linalg.norm(points[:, None] - points, axis=2) / 2
    return spec, np.where(spec.asked, apart, np.nan)


def random_sets(samples: int, count: int) -> list[tuple[int, ...]]:
    random = np.random.default_rng(1)
    return [
        tuple(sorted(int(c * samples + random.integers(samples)) for c in random.choice(10, size, replace=False)))
        for size in random.integers(3, 11, count)
    ]


def seconds(work: Callable[..., object], *given: object) -> float:
    start = time.perf_counter()
    work(*given)
    return time.perf_counter() - start


def searched(args: argparse.Namespace) -> None:
    """Needed pairs against all of them, and sets: how many, at what cost, how far from the affine ball."""
    path = zoo.find(args.network)
    needed, all_of = (audit(args, path, pairs=pairs, sets=2) for pairs in ("needed", "all"))
    graphs = [one.spec.sample.graph(one.series[0].found.distance) for one in (needed, all_of)]
    budgets = np.linspace(0, np.nanmax(graphs[1]), 161)
    part, full = (loss_curve(graph, budgets) for graph in graphs)
    finding = needed.series[0].finding
    assert finding is not None
    print(f"{args.network} {args.layer}, K = 10, S = {args.samples}: {finding.searched:,} of {finding.pairs:,} pairs "
          f"({finding.searched / finding.pairs:.1%}); error of the curve {np.abs(full - part).max():.4f} nats at most, "
          f"{np.abs(full - part).mean():.5f} in the mean")  # fmt: skip
    with_sets = audit(args, path, pairs="needed", sets=10)
    one = with_sets.series[0]
    ratios = np.array([
        found.distance / least_ball(np.nan_to_num(graphs[1][np.ix_(places, places)]))[0]
        for places, found in one.sets.items()
    ])  # fmt: skip
    pair_passes = float(np.nansum(all_of.series[0].found.passes))
    print(f"{len(one.sets)} sets: distance / radius of the affine ball {ratios.mean():.3f} in the mean, deviation "
          f"{ratios.std():.3f}, all collided: {all(found.collided for found in one.sets.values())}")  # fmt: skip
    for at in (2.0, 2.5, 3.0):
        of = {places: found for places, found in one.sets.items() if least_ball(
            np.nan_to_num(graphs[1][np.ix_(places, places)]))[0] <= at}  # fmt: skip
        cost = sum(found.passes for found in of.values()) / pair_passes
        graph = one_graph = with_sets.spec.sample.graph(one.found.distance)
        losses = curve_of(graph, {places: found.distance for places, found in one.sets.items()}, [at])[0]
        print(f"ε = {at:g}: pairs {loss_curve(one_graph, [at])[0]:.3f}, with sets {losses:.3f} nats; {len(of)} sets, "
              f"{cost:.1%} of the passes of all pairs")  # fmt: skip


def audit(args: argparse.Namespace, path: Path, *, pairs: str, sets: int) -> AuditResult:
    spec = AuditSpec.of(
        args.network, dataset=args.dataset, classes=tuple(range(10)), samples=args.samples, layers=(args.layer,),
        m=(10,), pairs=pairs, sets=sets,
    )  # fmt: skip
    return run_audit(spec, load(path), sha256(path))


if __name__ == "__main__":
    main()
