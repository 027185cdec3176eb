"""The one place where tasks are computed: networks kept in memory, blocks of pairs searched in batches."""

from __future__ import annotations

import platform
import tempfile
import time
import traceback
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor, nn

from robustness_core import __version__, datasets
from robustness_core.checkpoints import load
from robustness_core.collision import Collisions, find_collisions, find_set_collisions, hints, nearest
from robustness_core.collision.hints import MOST_ROWS
from robustness_core.collision.memory import keep
from robustness_core.collision.precision import fastest
from robustness_core.engine.tasks import (
    Answer,
    Description,
    Distances,
    Failure,
    Fooled,
    Hints,
    Kept,
    Machine,
    NeedsContent,
    NetworkFile,
    Norms,
    Task,
)
from robustness_core.errors import StrataError
from robustness_core.found import COLUMNS, Found
from robustness_core.layers import cuts, extractor
from robustness_core.layers.spectrum import lengths, spectrum
from robustness_core.networks import Network, build
from robustness_core.projection import project
from robustness_core.spec import check_precision
from robustness_core.training.evaluation import pgd_budgets

BATCH = {"cpu": 16, "cuda": 256, "mps": 64}  # pairs that are worth a block, searched at once beside processors
_AT_ONCE_CPU = 64  # pairs; there, however many are searched at once, a distance is the same to the last bit
LOOKS = {  # what a task searches: presets, None for that of the series, each with the number of its start
    "distances": ((None, 0),),
    "again": (("thorough", 1),),
    "gap": ((None, 1), (None, 2), ("thorough", 0), ("thorough", 1)),
}
_MEMORY_SHARE = 0.25  # of all the memory there is, not of what is free just now: the same today and tomorrow
_NETWORKS_KEPT = 4


class Computer:
    """Computes tasks on one machine; the networks and searches of late stay in memory, and `networks` from the start.

    Raises StrataError for a device that is not there, or a precision that is none.
    """

    def __init__(self, machine: Machine, networks: Mapping[str, Network] | None = None):
        check_precision(machine.precision)
        keep()
        self._device = _device(machine)
        self._precision = machine.precision
        self._memory = machine.memory or _usual_memory(self._device, machine.processes)
        self._networks = OrderedDict(networks or {})
        self._searches: OrderedDict[str, nn.Module] = OrderedDict()

    @property
    def description(self) -> Description:
        return Description(device_name(self._device), versions(), BATCH[self._device.type])

    @property
    def at_once(self) -> int:
        """Pairs that are searched in one batch."""
        return _AT_ONCE_CPU if self._device.type == "cpu" else BATCH[self._device.type]

    def answer(self, task: Task) -> Answer:
        """The distances, hints or norms of a task. Never raises; what goes wrong is a Failure."""
        try:
            if task.network.sha256 not in self._networks and task.network.content is None:
                return NeedsContent()
            network = self._network(task.network)
            start = time.perf_counter()
            if task.kind == "hints":
                return Hints(self._hints(task, network), time.perf_counter() - start)
            if task.kind == "norms":
                return self._norms(task, network)
            if task.kind == "attack":
                return self._attack(task, network)
            if task.kind == "sets":
                found = self._sets(task, network)
                return Distances(found, (), time.perf_counter() - start)
            return self._distances(task, network, start)
        except Exception as error:
            return _failure(error)

    def _distances(self, task: Task, network: Network, start: float) -> Distances:
        size = task.batch or self.at_once
        parts = [self._nearest(task, network, *pair) for pair in _batches(task, size, self._device)]
        found = Found.joined([part.found for part in parts])[: len(task)]
        kept = tuple(
            _kept(task, int(place), parts[place // size], int(place % size), network, self._device)
            for place in np.argsort(found.distance, kind="stable")[: task.keep]
        )
        return Distances(found, kept, time.perf_counter() - start)

    def _nearest(self, task: Task, network: Network, left: Tensor, right: Tensor) -> Collisions:
        """Of the searches that a task asks for the nearest collision of each pair."""
        series = task.series
        looks = [
            find_collisions(
                self._search(task, network),
                left,
                right,
                method=series.method,
                preset=preset or series.preset,
                threat=series.threat,
                seed=series.seed,
                start=first,
                memory=self._memory,
                precision=self._precision,
            )
            for preset, first in LOOKS[task.kind]
        ]
        return nearest(looks)

    def _sets(self, task: Task, network: Network) -> Found:
        B, T = task.left.shape[:2]
        images = _tensor(task.left.reshape(-1, *task.left.shape[2:]), self._device)
        found = find_set_collisions(self._search(task, network), images.unflatten(0, (B, T)), preset=task.series.preset)
        columns: list[Any] = [getattr(found, name).cpu().numpy() for name in COLUMNS]
        return Found(*columns)

    def _hints(self, task: Task, network: Network) -> Any:
        """Of more features than MOST_ROWS those of so many mixtures: they order pairs as all of them would."""
        series, features = task.series, task.features
        if (features if series.m is None else series.m) > MOST_ROWS:
            search = project(extractor(network, series.layer), features, MOST_ROWS, series.seed)
        else:
            search = self._search(task, network)
        left = _tensor(task.left, self._device)
        right = left if np.array_equal(task.left, task.right) else _tensor(task.right, self._device)
        return hints(search, left, right, series.threat)

    def _norms(self, task: Task, network: Network) -> Norms:
        layer = extractor(network, task.series.layer)
        found = spectrum(layer, network.input_shape)
        apart = lengths(layer, _tensor(task.left, self._device), _tensor(task.right, self._device))
        return Norms(found.frobenius, found.r4, found.exact, apart.numpy())

    def _attack(self, task: Task, network: Network) -> Fooled:
        labels = torch.tensor(task.labels, device=self._device)
        return Fooled(pgd_budgets(network, _tensor(task.left, self._device), labels, task.budgets))

    def _network(self, file: NetworkFile) -> Network:
        if file.sha256 not in self._networks:
            self._networks[file.sha256] = read(file)
            if len(self._networks) > _NETWORKS_KEPT:
                self._networks.popitem(last=False)
                self._searches.clear()
        self._networks.move_to_end(file.sha256)
        return self._networks[file.sha256].to(self._device)

    def _search(self, task: Task, network: Network) -> nn.Module:
        """The projected extractor of a series; the last few are kept."""
        series = task.series
        if series.key not in self._searches:
            up_to_layer = extractor(network, series.layer)
            self._searches[series.key] = project(up_to_layer, task.features, series.m, series.seed)
            if len(self._searches) > 2 * _NETWORKS_KEPT:
                self._searches.popitem(last=False)
        return self._searches[series.key]


@cache
def computer(machine: Machine) -> Computer:
    """The one of this process."""
    return Computer(machine)


def answer(task: Task, machine: Machine) -> Answer:
    """As Computer.answer, for a machine that may not be there."""
    try:
        own = computer(machine)
    except StrataError as error:
        return _failure(error)
    return own.answer(task)


def warm(machine: Machine) -> None:
    """Load all that the first block would have to load first: some 4 s of processor time."""
    device = _device(machine)
    fastest(device)
    shape = (1, 4, 4)
    network = build("conv 1 2x2, relu, flatten, fc 2", shape).to(device)
    search = project(extractor(network, "logits"), features=2, m=1, seed=0)
    find_collisions(search, torch.zeros(1, *shape, device=device), torch.ones(1, *shape, device=device))


def read(file: NetworkFile) -> Network:
    """The network of a file whose content is at hand."""
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


def layers(file: NetworkFile) -> list[dict[str, Any]]:
    """The layers of a network, each as the keyword arguments of a LayerRecord."""
    network = read(file)
    return [asdict(cut) for cut in cuts(network, network.input_shape)]


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


def _failure(error: Exception) -> Failure:
    """Errors of the science are sentences, and the same question would end the same way."""
    ours = isinstance(error, StrataError)
    first_line = (str(error).splitlines() or [type(error).__name__])[0]
    sentence = str(error) if ours else f"The computation failed: {first_line.rstrip('.')}."
    return Failure(sentence, ours, "".join(traceback.format_exception(error)))


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


def _device(machine: Machine) -> torch.device:
    device = choose_device(machine.device)
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", machine.place % torch.cuda.device_count())
    return device


def _usual_memory(device: torch.device, processes: int) -> float:
    if device.type == "cuda":
        return float(torch.cuda.get_device_properties(device).total_memory) * _MEMORY_SHARE
    return float(psutil.virtual_memory().total) * _MEMORY_SHARE / processes
