"""`python -m benchmarks.many_rows`: collision searches where many numbers must meet, up to all features of a layer.

Baseline: Algorithm 1 at its default of 20 iterations, on the same pairs in the same run. A search that finds nothing
leaves a pair at its midpoint, half the distance of its images. The pairs and projections were not used for tuning.
"""

from __future__ import annotations

import argparse
import time

import torch

from benchmarks.search import SEED, measured_pairs
from robustness_core.checkpoints import load
from robustness_core.collision import find_collisions
from robustness_core.layers import cuts, extractor
from robustness_core.projection import project
from robustness_core.spec import METHODS
from robustness_core.zoo import find

CASES = "conv1:50:16 conv4:50:16 fc1:20:16 fc1:50:16 fc2:50:16 conv1:300:8 conv4:200:8 fc1:100:8 fc1:none:4"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="mnist-medium-pgd2")
    parser.add_argument("--cases", default=CASES, help="layer:m:pairs, with m = none for all features")
    args = parser.parse_args()
    torch.set_num_threads(1)
    network = load(find(args.network))
    sizes = {cut.name: cut.features for cut in cuts(network, network.input_shape)}
    versions = {name: one.version for name, one in METHODS.items()}
    print(f"torch {torch.__version__}, {args.network}, versions {versions}, projection seed {SEED}")
    print(
        f"{'layer':<8}{'m':>6}{'pairs':>7}{'midpoint':>10}   search       mean d  passes  s/pair  left at the midpoint"
    )
    for case in args.cases.split():
        layer, m, count = case.split(":")
        rows = None if m == "none" else int(m)
        left, right = measured_pairs("mnist-5k", (3, 7), int(count), "cpu")
        half = (left - right).flatten(1).double().norm(dim=1) / 2
        f = project(extractor(network, layer), sizes[layer], rows, SEED)
        for method in METHODS:
            start = time.process_time()
            found = find_collisions(f, left, right, method=method)
            seconds = (time.process_time() - start) / len(left)
            stayed = int((found.distance >= half * (1 - 1e-5)).sum())
            print(
                f"{layer:<8}{m:>6}{count:>7}{half.mean():>10.4f}   {method:<11}{found.distance.mean():>8.4f}"
                f"{found.passes.mean():>8.0f}{seconds:>8.2f}  {stayed} of {count}",
                flush=True,
            )


if __name__ == "__main__":
    main()
