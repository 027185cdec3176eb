"""Algorithm 1 from the midpoint and from the images: `python -m benchmarks.starts --out zoo/starts.json`.

The paper starts at the midpoint and found that to work much better than a start at the original images. Both run here
as printed, on the same pairs and projections, are polished and verified alike, and fall back to the midpoint, which
always collides, where nothing nearer is verified. `python -m robustness_core claims` reads the file.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
from pathlib import Path

import torch
from torch import Tensor, nn

from robustness_core import __version__, datasets
from robustness_core.checkpoints import load, sha256
from robustness_core.collision.algorithm1 import SCHEDULES, algorithm1
from robustness_core.collision.constraint import Constraint
from robustness_core.collision.find import GOAL
from robustness_core.collision.polish import polish
from robustness_core.collision.verification import verify
from robustness_core.files import write_whole
from robustness_core.layers import cuts, extractor
from robustness_core.projection import project
from robustness_core.spec import METHODS, TOLERANCE, SampleSpec
from robustness_core.zoo import find


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="mnist-medium-pgd2")
    parser.add_argument("--layers", nargs="+", default=["conv2", "fc1"])
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--projections", type=int, default=5)
    parser.add_argument("--preset", default="default", choices=SCHEDULES)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    network = load(find(args.network))
    sample = SampleSpec("mnist-5k" if network.input_shape[0] == 1 else "cifar10-2k", (3, 7), args.samples)
    data = datasets.load(sample.dataset)
    indices = sample.indices(data.labels)
    left, right = (torch.from_numpy(datasets.to_float(data.pixels[chosen])) for chosen in indices)
    pairs = torch.stack(
        [left.repeat_interleave(len(right), 0), right.repeat(len(left), 1, 1, 1)], dim=1
    )  # (L·R, 2, C, H, W)
    features = {cut.name: cut.features for cut in cuts(network, network.input_shape)}
    series = []
    for layer in args.layers:
        for seed in range(args.projections):
            seen = project(extractor(network, layer), features[layer], 10, seed)
            found = {name: distances(seen, pairs, args.preset, name) for name in ("midpoint", "images")}
            nearer = (found["images"] < found["midpoint"]).double().mean()
            print(
                f"{layer} {seed}: {found['midpoint'].mean():.3f} {found['images'].mean():.3f} {nearer:.0%}", flush=True
            )
            rows = {name: one.view(len(left), len(right)).tolist() for name, one in found.items()}
            series.append({"layer": layer, "m": 10, "seed": seed, **rows})
    content = {
        "network": args.network,
        "sha256": sha256(find(args.network)),
        "sample": sample.identity(),
        "indices": [chosen.tolist() for chosen in indices],
        "method": "algorithm1",
        "method_version": METHODS["algorithm1"].version,
        "preset": args.preset,
        "command": f"python -m benchmarks.starts --network {args.network} --layers {' '.join(args.layers)} "
        f"--samples {args.samples} --projections {args.projections} --preset {args.preset} --out zoo/starts.json",
        "versions": {"strata": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "series": series,
    }
    write_whole(args.out, json.dumps(content).encode())


def distances(seen: nn.Module, pairs: Tensor, preset: str, start: str) -> Tensor:
    """The distance of each pair (B, 2, C, H, W) that Algorithm 1 finds from `start`, verified, (B,) float64."""
    x, shape = pairs.flatten(2), tuple(pairs.shape[2:])
    half = (x[:, 0] - x[:, 1]).double().norm(dim=1) / 2
    twin = copy.deepcopy(seen).double()
    search, exact, rows = Constraint(seen, shape, x), Constraint(twin, shape, x.double()), torch.arange(len(x))
    with torch.no_grad():
        features = exact.features(x.double(), rows)
    begin = None if start == "midpoint" else x
    points = algorithm1(search, x, SCHEDULES[preset], begin)
    points, J, _ = polish(search, points, x, features.float(), GOAL)
    found = verify(exact, points.double(), x.double(), features, x.dtype, search, J)
    return torch.where(found.residual <= TOLERANCE, torch.minimum(found.distance, half), half)


if __name__ == "__main__":
    main()
