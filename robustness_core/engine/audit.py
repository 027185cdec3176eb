"""Run a whole audit in this process: the sample, the series, the distances, the curves; no database."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from robustness_core import __version__, datasets
from robustness_core.collision import Collisions, find_collisions
from robustness_core.engine import nesting
from robustness_core.errors import SpecError, StrataError
from robustness_core.found import Floats, Found
from robustness_core.layers import cuts, extractor
from robustness_core.networks import Network
from robustness_core.optimal_loss import loss_curve
from robustness_core.optimal_loss.conflict_graph import input_distances
from robustness_core.projection import project
from robustness_core.spec import AuditSpec, SeriesSpec

BLOCK = 64  # pairs between two reports of progress


@dataclass(frozen=True)
class Sample:
    """The images of an audit: indices into the split and pixels in [0, 1], (S, C, H, W) float32 a class."""

    left_indices: npt.NDArray[np.int64]
    right_indices: npt.NDArray[np.int64]
    left: Tensor
    right: Tensor


@dataclass(frozen=True, eq=False)
class SeriesResult:
    """What is found of one series, (S, S), left image by right image; `loss` (E,) is its curve in nats.

    Where another series of the audit found a nearer collision that is one of this series too (nesting.implies), its
    distance and residual stand here; passes are those of its own search.
    """

    series: SeriesSpec
    features: int
    found: Found
    loss: Floats


@dataclass(frozen=True, eq=False)
class AuditResult:
    """A finished audit. Distances are upper bounds, so every loss is a lower bound on the optimal loss.

    `too_large` holds each (layer, m) of the question whose m is above the layer's size.
    """

    spec: AuditSpec
    network_sha256: str
    sample: Sample
    series: tuple[SeriesResult, ...]
    input_loss: Floats
    device: str
    too_large: tuple[tuple[str, int], ...] = ()


def choose_device(name: str = "auto") -> torch.device:
    """The device that `name` asks for; auto takes cuda, then mps, then cpu. Raises StrataError."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise StrataError(f"The device {name!r} is not available here; use auto or cpu.") from error
    return device


def device_name(device: torch.device) -> str:
    """The device in words, for a result's record: cpu (x86_64, Intel Xeon, 2 threads)."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    parts = dict.fromkeys(part for part in (platform.machine(), _processor()) if part)
    return f"{device} ({', '.join([*parts, f'{torch.get_num_threads()} threads'])})"


def _processor() -> str:
    """The model of the processor; Linux tells it in a file only, and not on every kind."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def versions() -> dict[str, str]:
    """The versions that a result depends on."""
    return {
        "strata": __version__,
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def draw_sample(spec: AuditSpec) -> Sample:
    """The sample that an audit asks for. Raises SpecError if a class is too small, DatasetError without data."""
    data = datasets.fetch(spec.sample.dataset, spec.sample.split)
    spec.sample.check(datasets.counts(spec.sample.dataset, spec.sample.split))
    indices = spec.sample.indices(data.labels)
    images = [torch.from_numpy(datasets.to_float(data.pixels[chosen])) for chosen in indices]
    return Sample(indices[0], indices[1], images[0], images[1])


def run_audit(
    spec: AuditSpec,
    network: Network,
    network_sha256: str,
    *,
    device: torch.device | None = None,
    memory: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> AuditResult:
    """Compute every distance that `spec` asks for and the curves that follow (Algorithm 2 of the paper).

    `network` is on the CPU or on `device`; `memory` bytes limit a batch; `progress` is told the pairs done and the
    pairs in all after every block. Layers are left out at an m above their size. Raises StrataError, before any
    search.
    Cost: passes of the method x S^2 pairs x series; see benchmarks/RESULTS.md.
    """
    device = device or torch.device("cpu")
    sizes = {cut.name: cut.features for cut in cuts(network, network.input_shape)}
    too_large = spec.search.too_large(sizes)
    sample = draw_sample(spec)
    if (shape := tuple(sample.left.shape[1:])) != network.input_shape:
        theirs, ours = ("×".join(map(str, one)) for one in (network.input_shape, shape))
        raise SpecError(f"The network {spec.network} takes {theirs} images; those of {spec.sample.dataset} are {ours}.")
    network = network.to(device)
    epsilons = spec.epsilon.values()
    asked = [series for series in spec.search.series(network_sha256) if (series.layer, series.m) not in too_large]
    total, done = len(asked) * spec.sample.size**2, 0
    results: list[SeriesResult] = []
    for series in asked:
        search = project(extractor(network, series.layer), sizes[series.layer], series.m, series.seed)
        blocks: list[Collisions] = []
        for left, right in _blocks(sample, device):
            blocks.append(
                find_collisions(
                    search, left, right, method=series.method, preset=series.preset, seed=series.seed, memory=memory
                )
            )
            done += len(left)
            if progress:
                progress(done, total)
        results.append(_result(series, sizes[series.layer], blocks, spec.sample.size, epsilons))
    results = _nested(results, list(sizes), epsilons)
    apart = input_distances(sample.left.numpy(), sample.right.numpy())
    loss = loss_curve(apart, epsilons)
    return AuditResult(spec, network_sha256, sample, tuple(results), loss, device_name(device), too_large)


def _blocks(sample: Sample, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    count = len(sample.left)
    for pairs in torch.arange(count * count).split(BLOCK):
        yield sample.left[pairs // count].to(device), sample.right[pairs % count].to(device)


def _result(
    series: SeriesSpec, features: int, blocks: list[Collisions], samples: int, epsilons: Floats
) -> SeriesResult:
    found = Found.joined([block.found for block in blocks])[np.arange(samples**2).reshape(samples, samples)]
    return SeriesResult(series, features, found, loss_curve(found.distance, epsilons))


def _nested(results: list[SeriesResult], layers: list[str], epsilons: Floats) -> list[SeriesResult]:
    """The results with the nearest collision of each pair that any of them found for the series."""
    nested = nesting.nested([r.series for r in results], [r.found for r in results], layers)
    return [
        replace(result, found=found, loss=loss_curve(found.distance, epsilons))
        for result, found in zip(results, nested, strict=True)
    ]


def to_json(result: AuditResult) -> dict[str, Any]:
    """The audit as DESIGN.md fixes it for `audit --json`, with what is needed to compute it again."""
    spec = result.spec
    layers = []
    for layer in spec.search.layers:
        for m in spec.search.m:
            if (layer, m) in result.too_large:
                continue
            group = [r for r in result.series if (r.series.layer, r.series.m) == (layer, m)]
            layers.append(
                {
                    "layer": layer,
                    "features": group[0].features,
                    "m": m,
                    "projections": [
                        {
                            "seed": r.series.seed,
                            "distances": r.found.distance.tolist(),
                            "residuals": r.found.residual.tolist(),
                            "collided": r.found.collided.tolist(),
                            "loss": r.loss.tolist(),
                            "mean_passes": float(r.found.passes.mean()),
                        }
                        for r in group
                    ],
                    "mean_loss": np.mean([r.loss for r in group], axis=0).tolist(),
                }
            )
    return {
        "network": spec.network,
        "network_sha256": result.network_sha256,
        "dataset": spec.sample.dataset,
        "split": spec.sample.split,
        "classes": list(spec.sample.classes),
        "left_indices": result.sample.left_indices.tolist(),
        "right_indices": result.sample.right_indices.tolist(),
        "epsilon": spec.epsilon.values().tolist(),
        "layers": layers,
        "layers_left_out": [{"layer": layer, "m": m} for layer, m in result.too_large],
        "input_loss": result.input_loss.tolist(),
        "method": spec.search.method,
        "method_version": result.series[0].series.method_version,
        "preset": spec.search.preset,
        "spec": spec.to_json(),
        "device": result.device,
        "versions": versions(),
        "note": "Distances are upper bounds found by search; losses are lower bounds, in nats, on the optimal loss.",
    }
