"""The child in which an upload is parsed: `python -m robustness_core.sandbox.child`, started by parent.py only."""

from __future__ import annotations

import contextlib
import ctypes
import json
import math
import os
import resource
import signal
import struct
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from robustness_core.errors import ACCEPTED, PICTURES, CheckpointError


def main() -> int:
    request = json.load(sys.stdin)
    limits, folder = request["limits"], Path(request["folder"])
    _limit(limits)
    _confine(folder, Path(request["path"]))
    answer = (_read_images if "images" in request else _look)(request, limits, folder)
    (folder / "answer.json").write_text(json.dumps(answer), encoding="utf-8")
    return 0 if "report" in answer else 2


def _look(request: dict[str, Any], limits: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The report, or a refusal of one sentence. Nothing that reads files is imported before the limits hold."""
    from robustness_core.checkpoints import clean_copy, report
    from robustness_core.sandbox import rivals

    def understood() -> None:
        (folder / "understood").touch()
        _set(resource.RLIMIT_CPU, math.ceil(limits["whole"]))

    try:
        import torch

        torch.set_num_threads(min(2, os.cpu_count() or 1))
        begun = time.process_time()
        found, network = report.inspect(
            Path(request["path"]),
            report.Hints(**request["hints"]),
            largest=limits["largest"],
            deadline=begun + limits["measuring"],
            understood=understood,
            audit=partial(rivals.distances, deadline=begun + (limits["measuring"] + limits["whole"]) / 2 - 1.0),
        )
        if request["copy"]:
            (folder / "copy.safetensors").write_bytes(clean_copy(network))
        return {"report": found}
    except CheckpointError as error:
        return {"refusal": " ".join(str(error).split())}
    except MemoryError:
        return {"refusal": _too_large(limits)}
    except RuntimeError as error:
        if "alloc" in str(error).lower() or "memory" in str(error).lower():
            return {"refusal": _too_large(limits)}
        return {"refusal": _unexpected(error)}
    except Exception as error:  # whatever an upload makes fail is a refusal
        return {"refusal": _unexpected(error)}


def _read_images(request: dict[str, Any], limits: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Leaves the images in a file of the project's own; nothing to report but that, or a refusal of one sentence."""
    from robustness_core.datasets import pictures
    from robustness_core.errors import DatasetError

    try:
        found = pictures.read(Path(request["path"]), **request["images"])
        (folder / "images.npz").write_bytes(found.to_bytes())
        return {"report": {}}
    except DatasetError as error:
        return {"refusal": " ".join(str(error).split())}
    except MemoryError:
        return {"refusal": f"The images need more than {limits['memory'] / 1024**3:.1f} GB of memory; give fewer."}
    except Exception as error:  # whatever an upload makes fail is a refusal
        return {"refusal": f"The images could not be read ({type(error).__name__}); {PICTURES}."}


def _too_large(limits: dict[str, Any]) -> str:
    return (
        f"The network in the file needs more than {limits['memory'] / 1024**3:.1f} GB of memory; "
        f"smaller networks are accepted."
    )


def _unexpected(error: Exception) -> str:
    return f"The file could not be understood ({type(error).__name__}); {ACCEPTED}."


# --------------------------------------------------------------------------------------------------------- the limits


_LIBRARIES = 400 * 1024**2  # of memory that torch's libraries take without allocating it


def _limit(limits: dict[str, Any]) -> None:
    memory = int(limits["memory"])
    _set(resource.RLIMIT_DATA, max(memory - _LIBRARIES, memory // 2))  # what is allocated
    _set(resource.RLIMIT_AS, memory + 12 * 1024**3)  # and mapped: torch maps libraries of several GB where it has CUDA
    _set(resource.RLIMIT_FSIZE, 2 * int(limits["largest"]) + 16 * 1024**2)
    _set(resource.RLIMIT_CORE, 0)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(limits["parsing"]), math.ceil(limits["whole"]) + 1))


def _set(what: int, soft: int) -> None:
    """Lower a limit; a host that already has a lower one keeps it."""
    _, hard = resource.getrlimit(what)
    if hard != resource.RLIM_INFINITY:
        soft = min(soft, hard)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(what, (soft, hard if what == resource.RLIMIT_CPU else soft))


# Linux: prctl(2), landlock(7)
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_READ_FILE, _READ_FOLDER = 1 << 2, 1 << 3
_EXECUTE, _WRITE_FILE, _TRUNCATE = 1 << 0, 1 << 1, 1 << 14
_RIGHTS_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE


def _confine(folder: Path, upload: Path) -> None:
    """Where the kernel has Landlock: write only below `folder`, read only code and images, no network, no programs."""
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    version = libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), 1)
    if version < 1:
        return
    rights = (1 << (13 + (version >= 2) + (version >= 3))) - 1
    attributes = struct.pack("QQQ", rights, 0b11, 0b11)[: 24 if version >= 6 else 16 if version >= 4 else 8]
    ruleset = libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    if ruleset < 0:
        return
    for path, allowed in _rules(folder, upload, rights):
        _allow(libc, ruleset, path, allowed & rights)
    libc.syscall(_RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


def _rules(folder: Path, upload: Path, rights: int) -> Iterator[tuple[Path, int]]:
    """What the child may do where: not the project's folder with its database, nor anybody's home."""
    package = Path(__file__).resolve().parents[1]
    reading = _READ_FILE | _READ_FOLDER
    yield folder, rights & ~_EXECUTE
    yield upload, _READ_FILE
    yield package.parent, _READ_FOLDER  # so that the package can be found
    system = ("/usr", "/lib", "/lib64", "/etc", "/proc", "/sys", "/dev", "/nix")
    images = (os.environ.get("STRATA_DATA", ""), os.environ.get("STRATA_CACHE", ""))
    code = [place for place in sys.path if place and Path(place).resolve() != package.parent]
    for place in (package, sys.prefix, sys.base_prefix, *system, *images, *code):
        if str(place):
            yield Path(str(place)), reading


def _allow(libc: ctypes.CDLL, ruleset: int, path: Path, allowed: int) -> None:
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # what is not there needs no rule
    try:
        if not path.is_dir():
            allowed &= _RIGHTS_OF_FILES
        rule = struct.pack("=Qi", allowed, handle)
        libc.syscall(_ADD_RULE, ruleset, 1, rule, 0)
    finally:
        os.close(handle)


if __name__ == "__main__":
    sys.exit(main())
