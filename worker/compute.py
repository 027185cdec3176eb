"""The compute process: networks kept in memory, blocks of pairs searched in batches."""

from __future__ import annotations

import tempfile
import time
import traceback
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor, nn

from robustness_core import datasets
from robustness_core.checkpoints import load
from robustness_core.collision import Collisions, estimate, find_collisions
from robustness_core.engine import audit
from robustness_core.errors import StrataError
from robustness_core.found import Found
from robustness_core.layers import cuts, extractor
from robustness_core.networks import Network, build
from robustness_core.projection import project
from robustness_core.spectrum import lengths, spectrum
from worker.tasks import (
    Answer,
    Description,
    Distances,
    Estimates,
    Failure,
    Kept,
    Machine,
    NeedsContent,
    NetworkFile,
    Norms,
    Task,
)

BATCH = {"cpu": 16, "cuda": 256, "mps": 64}  # pairs that are worth a block, searched at once beside processors
_AT_ONCE_CPU = 64  # pairs; there, however many are searched at once, a distance is the same to the last bit
_ESTIMATES_AT_ONCE = 64
_MEMORY_SHARE = 0.25  # of all the memory there is, not of what is free just now: the same today and tomorrow
_NETWORKS_KEPT = 4

_networks: OrderedDict[str, Network] = OrderedDict()
_searches: OrderedDict[str, nn.Module] = OrderedDict()


def answer(task: Task, machine: Machine) -> Answer:
    """The distances, estimates or norms of a task. Never raises; what goes wrong is a Failure."""
    try:
        torch.set_num_threads(1)  # more processes beat more threads, which wait for each other on a busy machine
        device = _device(machine)
        if task.network.sha256 not in _networks and task.network.content is None:
            return NeedsContent()
        network = _network(task.network, device)
        start = time.perf_counter()
        if task.kind == "estimates":
            return Estimates(_estimates(task, network, device), time.perf_counter() - start)
        if task.kind == "norms":
            return _norms(task, network, device)
        return _distances(task, network, device, machine, start)
    except Exception as error:
        ours = isinstance(error, StrataError)  # a sentence, and the same question would end the same way
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        sentence = str(error) if ours else f"The computation failed: {first_line.rstrip('.')}."
        return Failure(sentence, ours, traceback.format_exc())


def describe(machine: Machine) -> Description:
    torch.set_num_threads(1)
    device = _device(machine)
    return Description(audit.device_name(device), audit.versions(), BATCH[device.type])


def warm(machine: Machine) -> None:
    torch.set_num_threads(1)
    device = _device(machine)
    shape = (1, 4, 4)
    network = build("conv 1 2x2, relu, flatten, fc 2", shape).to(device)
    search = project(extractor(network, "logits"), features=2, m=1, seed=0)
    find_collisions(search, torch.zeros(1, *shape, device=device), torch.ones(1, *shape, device=device))


def layers(file: NetworkFile) -> list[dict[str, Any]]:
    network = _read(file)
    return [asdict(cut) for cut in cuts(network, network.input_shape)]


def _distances(task: Task, network: Network, device: torch.device, machine: Machine, start: float) -> Distances:
    size = task.batch or (_AT_ONCE_CPU if device.type == "cpu" else BATCH[device.type])
    memory = machine.memory or _usual_memory(device, machine.processes)
    parts: list[Collisions] = []
    for left, right in _batches(task, size, device):
        batch = find_collisions(
            _search(task, network),
            left,
            right,
            method=task.series.method,
            preset=task.series.preset,
            seed=task.series.seed,
            memory=memory,
        )
        parts.append(batch)
    found = Found.joined([part.found for part in parts])[: len(task)]
    kept = tuple(
        _kept(task, int(place), parts[place // size], int(place % size), network, device)
        for place in np.argsort(found.distance, kind="stable")[: task.keep]
    )
    return Distances(found, kept, time.perf_counter() - start)


def _estimates(task: Task, network: Network, device: torch.device) -> Any:
    search = _search(task, network)
    return np.concatenate(
        [estimate(search, left, right).numpy() for left, right in _batches(task, _ESTIMATES_AT_ONCE, device)]
    )[: len(task)]


def _norms(task: Task, network: Network, device: torch.device) -> Norms:
    layer = extractor(network, task.series.layer)
    found = spectrum(layer, network.input_shape)
    apart = lengths(layer, _tensor(task.left, device), _tensor(task.right, device))
    return Norms(found.frobenius, found.r4, found.exact, apart.numpy())


def _batches(task: Task, size: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """The pairs in batches of `size`; beside processors the last one is filled up with copies of the last pair."""
    for begin in range(0, len(task), size):
        end = min(begin + size, len(task)) if device.type == "cpu" else begin + size
        places = np.minimum(np.arange(begin, end), len(task) - 1)
        yield _tensor(task.left[places], device), _tensor(task.right[places], device)


def _kept(task: Task, place: int, part: Collisions, row: int, network: Network, device: torch.device) -> Kept:
    pictures = {
        "left": _tensor(task.left[place : place + 1], device),
        "right": _tensor(task.right[place : place + 1], device),
        "collision_left": part.left[row : row + 1],
        "collision_right": part.right[row : row + 1],
    }
    with torch.no_grad():
        predictions = {name: network(image.float())[0].double().cpu().tolist() for name, image in pictures.items()}
    return Kept(place, part.left[row].cpu().numpy(), part.right[row].cpu().numpy(), predictions)


def _tensor(pixels: Any, device: torch.device) -> Tensor:
    return torch.from_numpy(datasets.to_float(pixels)).to(device)


def _network(file: NetworkFile, device: torch.device) -> Network:
    if file.sha256 not in _networks:
        _networks[file.sha256] = _read(file)
        if len(_networks) > _NETWORKS_KEPT:
            _networks.popitem(last=False)
            _searches.clear()
    _networks.move_to_end(file.sha256)
    return _networks[file.sha256].to(device)


def _read(file: NetworkFile) -> Network:
    assert file.content is not None
    with tempfile.TemporaryDirectory(prefix="strata-") as folder:
        path = Path(folder) / f"network.{_SUFFIX.get(file.format, file.format)}"
        path.write_bytes(file.content)
        return load(
            path,
            architecture=file.architecture or None,
            mean=file.mean,
            std=file.std,
            input_shape=file.input_shape or None,
        )


_SUFFIX = {"torch": "pt"}


def _search(task: Task, network: Network) -> nn.Module:
    """The projected extractor of a series; the last few are kept."""
    key = task.series.key
    if key not in _searches:
        up_to_layer = extractor(network, task.series.layer)
        _searches[key] = project(up_to_layer, task.features, task.series.m, task.series.seed)
        if len(_searches) > 2 * _NETWORKS_KEPT:
            _searches.popitem(last=False)
    return _searches[key]


def _device(machine: Machine) -> torch.device:
    device = audit.choose_device(machine.device)
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", machine.place % torch.cuda.device_count())
    return device


def _usual_memory(device: torch.device, processes: int) -> float:
    if device.type == "cuda":
        return float(torch.cuda.get_device_properties(device).total_memory) * _MEMORY_SHARE
    return float(psutil.virtual_memory().total) * _MEMORY_SHARE / processes
