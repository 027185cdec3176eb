"""`python -m benchmarks.search`: how close and how cheap each collision search is, all on the same pairs in one run.

Baselines: a loop over pairs with torch.autograd.functional.jacobian, as a user would write Algorithm 1, and Algorithm 1
batched with 10, 20 and 50 iterations. Ratios are against Algorithm 1 with 50 iterations. The pairs and projections
measured here were not used for tuning. `--tiny` holds the presets against the true distances of tiny ReLU networks;
`--compare` holds the default in each precision against float32.
"""

from __future__ import annotations

import argparse
import copy
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from itertools import product

import numpy as np
import torch
from torch import Tensor, nn

from robustness_core import collision, datasets
from robustness_core.checkpoints import load
from robustness_core.collision import balanced, find_collisions
from robustness_core.collision.algorithm1 import SCHEDULES
from robustness_core.collision.memory import keep
from robustness_core.layers import cuts, extractor
from robustness_core.projection import project
from robustness_core.spec import PRESETS, sample_indices
from robustness_core.zoo import find
from testing.oracles import tiny_relu, tiny_relu_distance

SEED = 12345  # of the measured pairs and projections; the tuning used seeds below 1000
Row = tuple[Tensor, float, float, float]  # distances, mean passes, seconds a pair, share verified


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="mnist-medium-pgd2")
    parser.add_argument("--layers", default="conv2,conv4,fc1,fc2,logits")
    parser.add_argument("--dataset", default="mnist-5k")
    parser.add_argument("--classes", type=int, nargs=2, default=(3, 7))
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--loop-pairs", type=int, default=4, help="pairs of the per-pair loop, which is slow")
    parser.add_argument("--best-of", type=int, default=0, help="also the best of this many long searches")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--compare", type=int, default=0, metavar="ROUNDS", help="instead: each precision, so often")
    parser.add_argument("--tiny", type=int, default=0, help="instead: this many tiny networks with known distances")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep()
    print(f"torch {torch.__version__}, {args.device}, {platform.machine()}, {args.threads} threads")
    if args.tiny:
        tiny(args.tiny)
        return
    network = load(find(args.network)).to(args.device)
    left, right = measured_pairs(args.dataset, tuple(args.classes), args.pairs, args.device)
    sizes = {cut.name: cut.features for cut in cuts(network, network.input_shape)}
    if args.compare:
        compare({layer: project(extractor(network, layer), sizes[layer], 10, SEED) for layer in args.layers.split(",")},
                left, right, args.compare)  # fmt: skip
        return
    ratios: dict[str, list[tuple[float, float]]] = {}
    for layer in args.layers.split(","):
        f = project(extractor(network, layer), sizes[layer], 10, SEED)
        print(f"\n{args.network} {layer}, nj = {sizes[layer]}, m = 10, {args.pairs} pairs, projection seed {SEED}")
        print(
            f"{'search':<24}{'mean d':>9}{'10 %':>8}{'50 %':>8}{'90 %':>8}"
            f"{'ratio':>8}{'passes':>8}{'ms/pair':>9}{'ok':>7}"
        )
        rows = measure(f, left, right, args.loop_pairs, args.best_of)
        base = rows["algorithm1, 50"][0]
        for name, (distance, passes, seconds, verified) in rows.items():
            ratio = float(distance.mean() / base[: len(distance)].mean())
            ratios.setdefault(name, []).append((ratio, passes))
            low, middle, high = np.quantile(distance.numpy(), (0.1, 0.5, 0.9))
            print(
                f"{name:<24}{distance.mean():>9.4f}{low:>8.3f}{middle:>8.3f}{high:>8.3f}{ratio:>8.3f}{passes:>8.0f}"
                f"{1000 * seconds:>9.2f}{verified:>7.0%}"
            )
        shares, raw = overhead(f, left, right)
        for preset, share in shares.items():
            print(f"  {preset}: engine seconds / (passes × raw pass) = {share:.2f}")
        print(f"  raw pass: {1000 * raw:.3f} ms a pair at the best batch size and memory format tried")
    print("\nmean over the layers")
    for name, found in ratios.items():
        print(f"{name:<24} ratio {np.mean([r for r, _ in found]):.4f}   passes {np.mean([p for _, p in found]):.0f}")


def measured_pairs(dataset: str, classes: tuple[int, ...], count: int, device: str) -> tuple[Tensor, Tensor]:
    data = datasets.load(dataset)
    chosen = [sample_indices(data.labels, label, count, SEED) for label in classes]
    left, right = (torch.from_numpy(datasets.to_float(data.pixels[i])).to(device) for i in chosen)
    return left, right


def timed(search: Callable[[], collision.Collisions], pairs: int) -> Row:
    start = time.perf_counter()
    found = search()
    seconds = (time.perf_counter() - start) / pairs
    return found.distance.cpu(), float(found.passes.mean()), seconds, float(found.collided.double().mean())


def measure(f: nn.Module, left: Tensor, right: Tensor, loop_pairs: int, best_of: int) -> dict[str, Row]:
    """Every search on the same pairs."""
    rows: dict[str, Row] = {}
    find_collisions(f, left[:4], right[:4], preset="fast")  # warm-up
    if loop_pairs:
        rows["per-pair loop, 50"] = loop(f, left[:loop_pairs], right[:loop_pairs])
    for preset, schedule in SCHEDULES.items():
        rows[f"algorithm1, {schedule.iterations}"] = timed(
            partial(find_collisions, f, left, right, method="algorithm1", preset=preset), len(left)
        )
    for preset in PRESETS:
        rows[preset] = timed(partial(find_collisions, f, left, right, preset=preset), len(left))
    if best_of:
        rows[f"best of {best_of}"] = best_known(f, left, right, best_of)
    return rows


def compare(layers: Mapping[str, nn.Module], left: Tensor, right: Tensor, rounds: int) -> None:
    """Time and mean distance of the default search in each precision, against float32; medians of `rounds` rounds.

    On CPUs the time is that of the processor, which other work on the machine changes less.
    """
    cuda = left.device.type == "cuda"
    names = ("float32", "bfloat16", "tfloat32") if cuda else ("float32", "bfloat16")
    print(f"{'layer':<10}{'precision':<12}{'ms/pair':>9}{'time':>8}{'distance':>10}{'worst':>8}{'passes':>8}{'ok':>6}")
    means: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for layer, f in layers.items():
        spent: dict[str, list[float]] = {name: [] for name in names}
        found = {name: find_collisions(f, left, right, precision=name) for name in names}  # a warm-up, too
        for _ in range(rounds):
            for name in names:
                clock = time.perf_counter if cuda else time.process_time
                start = clock()
                find_collisions(f, left, right, precision=name)
                spent[name].append(clock() - start)
        base = found["float32"].distance
        for name in names:
            share = float(np.median(np.array(spent[name]) / np.array(spent["float32"])))
            ratio = float(found[name].distance.mean() / base.mean())
            means[name].append((share, ratio))
            print(
                f"{layer:<10}{found[name].precision:<12}{1000 * float(np.median(spent[name])) / len(left):>9.2f}"
                f"{share:>8.3f}{ratio:>10.4f}{float((found[name].distance / base).max()):>8.3f}"
                f"{float(found[name].passes.mean()):>8.0f}{float(found[name].collided.double().mean()):>6.0%}"
            )
    for name in names[1:]:
        time_, distance = np.mean(means[name], axis=0)
        print(f"mean of the layers, {name}: {time_:.3f} of the time, {distance:.4f} of the distance")


def best_known(f: nn.Module, left: Tensor, right: Tensor, starts: int) -> Row:
    """The closest of several long searches from noisy midpoints."""
    usual = balanced.IMAGES["thorough"]
    balanced.IMAGES["thorough"] = replace(usual, starts=starts, steps=100, spreads=(0.5,), pulls=(0.6,))
    try:
        return timed(partial(find_collisions, f, left, right, preset="thorough"), len(left))
    finally:
        balanced.IMAGES["thorough"] = usual


def loop(f: nn.Module, left: Tensor, right: Tensor) -> Row:
    """Algorithm 1 with 50 iterations as a user would write it: pair by pair, torch.autograd.functional.jacobian."""
    schedule, distances = SCHEDULES["thorough"], []
    start = time.perf_counter()
    for x, y in zip(left, right, strict=True):
        a = b = (x + y) / 2
        alpha = 1.0
        for i in range(schedule.iterations + 1):  # the last, with no pull, makes it exact
            Ja, Jb = (torch.autograd.functional.jacobian(lambda v: f(v[None])[0], p).flatten(1) for p in (a, b))
            J = torch.cat([-Ja, Jb], 1)
            g = (f(b[None]) - f(a[None]))[0].detach()
            z, target = torch.cat([a.flatten(), b.flatten()]), torch.cat([x.flatten(), y.flatten()])
            p = (1 - alpha) * z + alpha * target
            z = p - J.T @ torch.linalg.solve(J @ J.T, g + J @ (p - z))
            a, b = (half.view_as(x) for half in z.chunk(2))
            alpha = schedule.alpha * schedule.gamma ** (i + 1) if i + 1 < schedule.iterations else 0.0
        distances.append(max(float((a - x).norm()), float((b - y).norm())))
    seconds = (time.perf_counter() - start) / len(left)
    m = int(f(left[:1]).shape[1])
    return torch.tensor(distances, dtype=torch.float64), (schedule.iterations + 1) * (2 + m), seconds, float("nan")


def overhead(f: nn.Module, left: Tensor, right: Tensor, rounds: int = 3) -> tuple[dict[str, float], float]:
    """Engine seconds / (passes × seconds of a raw pass) of each preset, and those seconds: medians.

    Raw passes are timed before and after each search, so that both see the machine in the same state.
    """
    formats = product((8, 16, 32, 64), (torch.contiguous_format, torch.channels_last))
    batch, layout = min(formats, key=lambda choice: raw_pass(f, left, right, *choice))
    shares: dict[str, list[float]] = {preset: [] for preset in PRESETS}
    raws = [raw_pass(f, left, right, batch, layout)]
    for preset in PRESETS * rounds:
        _, passes, seconds, _ = timed(partial(find_collisions, f, left, right, preset=preset), len(left))
        raws.append(raw_pass(f, left, right, batch, layout))
        shares[preset].append(seconds / passes / float(np.mean(raws[-2:])))
    return {preset: float(np.median(found)) for preset, found in shares.items()}, float(np.median(raws))


def raw_pass(f: nn.Module, left: Tensor, right: Tensor, batch: int, layout: torch.memory_format) -> float:
    """Seconds of one pass of one pair, (forward + backward of both images) / 2, the median of 15."""
    f = copy.deepcopy(f).to(memory_format=layout)  # type: ignore[call-overload]
    images = torch.cat([left[:batch], right[:batch]]).contiguous(memory_format=layout)
    times = []
    for _ in range(15):
        start = time.perf_counter()
        x = images.detach().requires_grad_()
        torch.autograd.grad(f(x).sum(), x)
        times.append(time.perf_counter() - start)
    return float(np.median(times)) / 2 / min(batch, len(left))


def tiny(cases: int) -> None:
    """Distance / truth on tiny ReLU networks: n0 = 4, 4 hidden units, m = 2, standard normal."""
    generator = torch.Generator().manual_seed(SEED)
    problems = []
    for _ in range(cases):
        f, points = tiny_relu(generator), torch.randn(2, 4, generator=generator)
        problems.append((f, points.view(2, 1, 1, 1, 4), tiny_relu_distance(f, *points.double().numpy())))
    for name, method, preset in [("algorithm1, 50", "algorithm1", "thorough"), *((p, "balanced", p) for p in PRESETS)]:
        results = [find_collisions(f, *images, method=method, preset=preset) for f, images, _ in problems]
        ratio = np.array([float(r.distance) / d for r, (_, _, d) in zip(results, problems, strict=True) if d > 1e-6])
        passes = np.mean([float(r.passes) for r in results])
        verified = np.mean([bool(r.collided) for r in results])
        print(
            f"{name:<16} distance / truth: mean {ratio.mean():.4f}, least {ratio.min():.6f}, most {ratio.max():.3f}; "
            f"passes {passes:.0f}; verified {verified:.0%} of {cases}"
        )


if __name__ == "__main__":
    main()
