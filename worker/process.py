"""What runs in a compute process; only there torch is loaded."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from types import ModuleType
from typing import Any

from robustness_core.engine.tasks import Answer, Description, Machine, NetworkFile, Task


def run(task: Task, machine: Machine) -> Answer:
    """Compute a task. Never raises; what goes wrong is a Failure."""
    answer: Answer = _compute().answer(task, machine)
    return answer


def describe(machine: Machine) -> Description:
    """The device in words and the versions that a distance depends on. Raises StrataError for a device that is not."""
    description: Description = _compute().computer(machine).description
    return description


def warm(machine: Machine) -> None:
    """Load all that the first block would have to load first."""
    _compute().warm(machine)


def layers(file: NetworkFile) -> list[dict[str, Any]]:
    """The layers of a network, each as the keyword arguments of a LayerRecord."""
    found: list[dict[str, Any]] = _compute().layers(file)
    return found


def _compute() -> ModuleType:
    import torch

    from robustness_core.engine import compute

    torch.set_num_threads(1)  # more processes beat more threads, which wait for each other on a busy machine
    return compute


def prepare(parent: int, politeness: int) -> None:
    """Die when the worker dies, however it dies, and give way to other programs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is for the worker, which ends its processes itself
    os.nice(politeness)
    if sys.platform == "linux":
        set_death_signal = 1  # PR_SET_PDEATHSIG of prctl(2)
        ctypes.CDLL(None, use_errno=True).prctl(set_death_signal, signal.SIGKILL)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    """For systems without a death signal, and for a worker that died before it was set."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
