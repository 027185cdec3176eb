"""Times of the optimal loss beside their baselines, in one run: `python -m benchmarks.loss [--mnist] [--large 5000]`.

Baselines: cvxpy with Clarabel for every budget (what a user would write), and the textbook minimum cuts for every
budget without reuse (one flow over all edges of every block). Peak memory is that of a fresh process per figure.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import resource
import sys
import time
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

from robustness_core.optimal_loss import loss_curve, optimal_loss
from robustness_core.optimal_loss.conflict_graph import Bools, Floats, input_distances

DENSITIES = (0.01, 0.1, 0.3, 0.5, 0.9)


def textbook_loss(graph: Bools) -> float:
    """Algorithm 1 of Bhagoji et al. 2021 as printed: one maximum flow over all edges of a block, split, recurse."""
    lost = 0.0
    blocks = [(np.flatnonzero(graph.any(axis=1)), np.flatnonzero(graph.any(axis=0)))]
    while blocks:
        rows, columns = blocks.pop()
        a, b = len(rows), len(columns)
        if a == 0 or b == 0:
            continue
        u, v = np.nonzero(graph[np.ix_(rows, columns)])
        start = np.concatenate([np.zeros(a, int), u + 1, np.arange(b) + a + 1])
        end = np.concatenate([np.arange(a) + 1, v + a + 1, np.full(b, a + b + 1)])
        capacity = np.concatenate([np.full(a, b), np.full(len(u), a * b), np.full(b, a)])  # a b: never cut
        network = coo_array((capacity, (start, end)), shape=(a + b + 2, a + b + 2)).tocsr().astype(np.int32)
        flow = maximum_flow(network, 0, a + b + 1)
        if flow.flow_value == a * b:
            lost += a * np.log((a + b) / a) + b * np.log((a + b) / b)
            continue
        left_over = network - flow.flow
        left_over.eliminate_zeros()
        reached = np.zeros(a + b + 2, np.bool_)
        reached[breadth_first_order(left_over, 0, return_predecessors=False)] = True
        for side in (reached, ~reached):
            blocks.append((rows[side[1 : a + 1]], columns[side[a + 1 : -1]]))
    return float(lost / sum(graph.shape))


def textbook_curve(distances: Floats, epsilons: Floats) -> Floats:
    return np.array([textbook_loss(distances <= epsilon) for epsilon in epsilons])


def cvxpy_curve(distances: Floats, epsilons: Floats) -> Floats:
    """NaN where Clarabel gives up, as it may on dense graphs of this size."""
    loss = np.full(len(epsilons), np.nan)
    for position, epsilon in enumerate(epsilons):
        with contextlib.suppress(RuntimeError), warnings.catch_warnings(action="ignore"):
            loss[position] = optimal_loss(distances <= epsilon, method="cvxpy").cross_entropy
    return loss


def ours(distances: Floats, epsilons: Floats) -> Floats:
    """loss_curve, or optimal_loss for one budget, which also proves its answer."""
    if len(epsilons) > 1:
        return loss_curve(distances, epsilons)
    result = optimal_loss(distances <= epsilons[0])
    if abs(result.gap) > 1e-9 or result.violation > 1e-9:
        raise RuntimeError(f"The certificate failed: gap {result.gap}, violation {result.violation}.")
    return np.array([result.cross_entropy])


def example_distances(size: int, noise: float, mnist: bool) -> Floats:
    """Distances of MNIST's 3 and 7 (or of two Gaussian clouds in 20 dimensions), some images nearer to all others.

    Every row and column is multiplied by exp(noise · standard normal), which is what networks do to distances.
    """
    random = np.random.default_rng(0)
    if mnist:
        from robustness_core import datasets

        data = datasets.load("mnist", "train")
        left, right = (random.permutation(data.pixels[data.labels == label])[:size] / 255.0 for label in (3, 7))
        x, y = left.reshape(len(left), -1), right.reshape(len(right), -1)
    else:
        x, y = random.standard_normal((size, 20)), random.standard_normal((size, 20)) + 0.5
    if size <= 1000:
        distances = input_distances(x, y)
    else:  # by the Gram matrix: quick, and exact enough for a benchmark
        squares = (x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1) - 2 * x @ y.T
        distances = np.sqrt(np.maximum(squares, 0)) / 2
    factors = [np.exp(noise * random.standard_normal(shape)) for shape in ((len(x), 1), (1, len(y)))]
    return distances * factors[0] * factors[1]


Curve = Callable[[Floats, Floats], Floats]


def _peak_megabytes() -> float:
    """Highest memory of this process; ru_maxrss elsewhere, which on Linux starts at that of the parent."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def _measure(curve: Curve, distances: Floats, epsilons: Floats, answer: Connection) -> None:
    curve(distances[:3, :3], epsilons[:1])  # imports
    begin, begin_cpu = time.perf_counter(), time.process_time()
    loss = curve(distances, epsilons)
    seconds, cpu = time.perf_counter() - begin, time.process_time() - begin_cpu
    answer.send((loss, seconds, cpu, _peak_megabytes()))


def measure(
    name: str, curve: Curve, distances: Floats, epsilons: Floats, ratio_to: float = 0.0
) -> tuple[Floats, float]:
    """Run one curve in a fresh process and print a line; returns the curve and its CPU seconds."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(curve, distances, epsilons, sender))
    process.start()
    sender.close()
    loss, seconds, cpu, peak = receiver.recv()
    process.join()
    ratio = f"{ratio_to / cpu:8.1f} x" if ratio_to else " " * 10
    print(f"  {name:<34}{seconds:9.3f} s{cpu:9.3f} s CPU{ratio}{peak:8.0f} MB peak", flush=True)
    return loss, cpu


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist", action="store_true", help="real images (the official MNIST files) instead of clouds")
    parser.add_argument("--large", type=int, default=5000, help="images per class of the one-budget figures; 0: none")
    parser.add_argument("--cvxpy-budgets", type=int, default=8, help="budgets that cvxpy solves; its time is scaled up")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    worst_flow = worst_cvxpy = 0.0
    given_up = 0
    for noise in (0.0, 0.3):
        distances = example_distances(200, noise, options.mnist)
        for name, epsilons in (
            ("0 to the largest distance", np.linspace(0, distances.max(), 200)),
            ("quantiles of the distances", np.quantile(distances, np.linspace(0, 1, 200))),
        ):
            print(f"S = 200, noise {noise:g}, 200 budgets: {name}")
            plain, plain_cpu = measure("textbook flow per budget", textbook_curve, distances, epsilons)
            some = np.linspace(0, 199, options.cvxpy_budgets).astype(int)
            reference, cvxpy_cpu = measure(f"cvxpy, {len(some)} of the budgets", cvxpy_curve, distances, epsilons[some])
            loss, cpu = measure("loss_curve (ratio: to textbook)", ours, distances, epsilons, plain_cpu)
            print(f"  {'ratio to cvxpy, scaled to 200':<34}{cvxpy_cpu * 200 / len(some) / cpu:49.1f} x")
            worst_flow = max(worst_flow, float(np.abs(loss - plain).max()))
            worst_cvxpy = max(worst_cvxpy, float(np.nanmax(np.abs(loss[some] - reference))))
            given_up += int(np.isnan(reference).sum())
    for noise in (0.0, 0.3) if options.large else ():
        distances = example_distances(options.large, noise, options.mnist)
        for density in DENSITIES:
            epsilons = np.quantile(distances, [density])
            print(f"S = {options.large}, noise {noise:g}, one budget, {density:.0%} of the pairs in conflict")
            measure("optimal_loss with certificate", ours, distances, epsilons)
    print(
        f"largest difference: to the textbook {worst_flow:.1e}, "
        f"to cvxpy {worst_cvxpy:.1e} nats ({given_up} budgets it gave up)"
    )
    return 0 if worst_flow < 1e-9 and worst_cvxpy < 1e-5 else 1  # Clarabel reaches 1e-6 on the dense graphs


if __name__ == "__main__":
    sys.exit(main())
