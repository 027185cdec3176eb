"""`python -m benchmarks.threats`: the searches under each threat model, on pairs that were not used for tuning.

ℓ∞, free and in the box, against the best of three long starts of the same family; every threat model against the ℓ2
search in seconds, in one run; affine cuts against HiGHS and Clarabel; tiny ReLU networks against their true ℓ∞
distance.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.search import SEED, measured_pairs
from robustness_core.checkpoints import load
from robustness_core.collision import Collisions, find_collisions, proximal
from robustness_core.collision.memory import keep
from robustness_core.collision.precision import fastest
from robustness_core.layers import cuts, extractor
from robustness_core.projection import project
from robustness_core.spec import PAPERS, PRESETS, THREATS, Threat
from robustness_core.zoo import find
from testing.oracles import program_distance, tiny_relu, tiny_relu_distance

ROUNDS = 3  # of which the median time counts
PROGRAMS = 12  # pairs that are solved a second time, which takes a second each


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="mnist-medium-pgd2")
    parser.add_argument("--layers", default="conv2,conv4,logits")
    parser.add_argument("--affine", default="mnist-small-pgd2", help="whose conv1.pre is held against the programs")
    parser.add_argument("--dataset", default="mnist-5k")
    parser.add_argument("--classes", type=int, nargs=2, default=(3, 7))
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--tiny", type=int, default=40, help="tiny networks with known distances")
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep()
    print(f"torch {torch.__version__}, {platform.machine()}, 1 thread, steps in {fastest(torch.device('cpu'))}")
    left, right = measured_pairs(args.dataset, tuple(args.classes), args.pairs, "cpu")
    affine(projected(args.affine, "conv1.pre"), left, right)
    for layer in args.layers.split(","):
        f = projected(args.network, layer)
        print(f"\n{args.network} {layer}, m = 10, {args.pairs} pairs, projection seed {SEED}")
        distances(f, left, right)
        seconds(f, left, right)
    tiny(args.tiny)


def projected(network: str, layer: str) -> nn.Module:
    read = load(find(network))
    sizes = {cut.name: cut.features for cut in cuts(read, read.input_shape)}
    return project(extractor(read, layer), sizes[layer], 10, SEED)


def affine(f: nn.Module, left: Tensor, right: Tensor) -> None:
    """Every threat model at an affine cut, against a solver of its program."""
    one = left[:1].double()
    exact = f.double()
    H = torch.autograd.functional.jacobian(lambda x: exact(x).squeeze(0), one).reshape(10, -1).numpy()
    print("\nan affine cut: mean distance, most and least of distance / program, ms a pair")
    for threat in THREATS:
        start = time.process_time()
        found = find_collisions(f.float(), left, right, threat=threat)
        spent = 1000 * (time.process_time() - start) / len(left)
        truth = [
            program_distance(H, x.double().flatten().numpy(), y.double().flatten().numpy(), threat.order, threat.box)
            for x, y in zip(left[:PROGRAMS], right[:PROGRAMS], strict=True)
        ]
        ratio = found.distance[:PROGRAMS].numpy() / truth
        mean = float(found.distance.mean())
        print(
            f"  {threat!s:<26}{mean:>9.5f}{ratio.max():>12.7f}{ratio.min():>12.7f}{spent:>7.1f} ms{certificate(found)}"
        )


def distances(f: nn.Module, left: Tensor, right: Tensor) -> None:
    """Each preset in ℓ∞ against the least of all that was found of a pair, three long starts among it."""
    print(f"{'search':<38}{'mean d':>9}{'ratio':>8}{'worst':>8}{'passes':>8}")
    for box in (False, True):
        threat = Threat("linf", box)
        found = {preset: find_collisions(f, left, right, threat=threat, preset=preset) for preset in PRESETS}
        with long_starts():
            best = find_collisions(f, left, right, threat=threat, preset="thorough")
        for name, one in {**found, "three long starts": best}.items():
            ratio = one.distance / best.distance
            share = float(one.distance.mean() / best.distance.mean())
            print(
                f"{threat!s:<26}{name:<17}{one.distance.mean():>9.4f}{share:>8.4f}{ratio.max():>8.3f}"
                f"{one.passes.mean():>8.0f}{certificate(one)}"
            )


@contextmanager
def long_starts() -> Iterator[None]:
    usual = proximal.IMAGES["thorough"]
    proximal.IMAGES["thorough"] = replace(usual, steps=300, starts=3, spreads=(0.5,), pulls=(0.6,))
    try:
        yield
    finally:
        proximal.IMAGES["thorough"] = usual


def seconds(f: nn.Module, left: Tensor, right: Tensor) -> None:
    """Seconds of the processor a pair with the default preset, and against the ℓ2 search; the turns alternate."""
    spent: dict[Threat, list[float]] = {threat: [] for threat in THREATS}
    for _ in range(ROUNDS):
        for threat in THREATS:
            start = time.process_time()
            find_collisions(f, left, right, threat=threat)
            spent[threat].append((time.process_time() - start) / len(left))
    for threat, times in spent.items():
        ratio = np.median(np.array(times) / np.array(spent[PAPERS]))
        print(f"  {threat!s:<26}{1000 * float(np.median(times)):>7.1f} ms a pair, {ratio:.2f} × ℓ2")


def certificate(found: Collisions) -> str:
    """How many ended verified, and whether all pixels lie within [0, 1]."""
    lowest = float(torch.minimum(found.left.min(), found.right.min()))
    highest = float(torch.maximum(found.left.max(), found.right.max()))
    inside = lowest >= 0 and highest <= 1
    return f"   {float(found.collided.double().mean()):.0%} verified, {'within' if inside else 'beyond'} [0, 1]"


def tiny(cases: int) -> None:
    """ℓ∞ distance / truth on tiny ReLU networks (n0 = 4, 4 hidden units, m = 2), from one start and from 16."""
    generator = torch.Generator().manual_seed(SEED)
    problems = []
    for _ in range(cases):
        f, points = tiny_relu(generator), torch.randn(2, 4, generator=generator)
        x, y = points.double().numpy()
        problems.append((f, points.view(2, 1, 1, 1, 4), tiny_relu_distance(f, x, y, np.inf)))
    usual = proximal.TINY["default"]
    for starts in (1, 16):
        proximal.TINY["default"] = replace(usual, starts=starts)
        found = [(find_collisions(f, *images, threat=Threat("linf")), truth) for f, images, truth in problems]
        ratio = np.array([float(one.distance) / truth for one, truth in found if truth > 1e-6])
        verified = np.mean([bool(one.collided) for one, _ in found])
        print(
            f"tiny ReLU, {starts} starts: distance / truth mean {ratio.mean():.4f}, most {ratio.max():.3f}, "
            f"least {ratio.min():.6f}; verified {verified:.0%} of {cases}"
        )
    proximal.TINY["default"] = usual


if __name__ == "__main__":
    main()
