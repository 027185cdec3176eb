"""Looks at an upload in a short-lived child process with limits, so that whatever the file does ends there."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from robustness_core.datasets.own import ImageSet
from robustness_core.datasets.pictures import Fit
from robustness_core.errors import ACCEPTED, PICTURES, CheckpointError, DatasetError
from robustness_core.files import cache_folder

ROOT = Path(__file__).resolve().parents[2]
_LARGEST_ANSWER = 16 * 1024**2
_REPORT = "answer.json"
_COPY = "copy.safetensors"
_IMAGES = "images.npz"
_IMAGE_SECONDS = 60.0  # of the processor, for decoding all pictures of an upload
_UNDERSTOOD = "understood"  # the child leaves a file of this name once the upload is parsed


@dataclass(frozen=True)
class Limits:
    """What the child may use. `memory` and `largest` (of the file) in bytes, times in CPU seconds.

    `parsing` bounds the time until the upload is understood, `measuring` that until no further comparison is begun,
    `whole` all of it. On the clock each may take `patience` times as long, since other work may share the machine.
    """

    memory: int = 4 * 1024**3
    largest: int = 500 * 1024**2
    parsing: float = 15.0
    measuring: float = 9.0
    whole: float = 20.0
    patience: float = 6.0


def inspect(
    path: Path, hints: Mapping[str, Any] | None = None, *, limits: Limits | None = None, copy: Path | None = None
) -> dict[str, Any]:
    """What an upload is: the report of `checkpoints.report.report`, made in a child that is gone afterwards.

    `hints` are fields of `checkpoints.report.Hints`.
    The child has limits on memory, time and written bytes, a folder of its own, no database, and on Linux neither
    network nor other programs. `copy` is where a safetensors file of the network goes that `checkpoints.load` reads
    without hints and that holds nothing else of the upload. Raises CheckpointError.
    """
    limits = limits or Limits()
    _check_file(path, limits)
    with tempfile.TemporaryDirectory(prefix="strata-upload-") as folder:
        place = Path(folder)
        request = {
            "path": str(path.resolve()),
            "folder": folder,
            "hints": dict(hints or {}),
            "limits": asdict(limits),
            "copy": copy is not None,
        }
        status = _run(request, place, limits)
        answer = _answer(place, status, limits)
        if "refusal" in answer:
            raise CheckpointError(str(answer["refusal"]))
        if copy is not None:
            _move(place / _COPY, copy)
        report: dict[str, Any] = answer["report"]
        return report


def images(path: Path, *, title: str, shape: Sequence[int] | None = None, fit: Fit = None) -> ImageSet:
    """The images in an upload, decoded in such a child; as `datasets.pictures.read`. Raises DatasetError."""
    limits = Limits(parsing=_IMAGE_SECONDS, whole=_IMAGE_SECONDS)
    with tempfile.TemporaryDirectory(prefix="strata-upload-") as folder:
        place, made = Path(folder), Path(folder) / _IMAGES
        asked = {"title": title, "shape": None if shape is None else list(shape), "fit": fit}
        request = {"path": str(path.resolve()), "folder": folder, "images": asked, "limits": asdict(limits)}
        try:
            _check_file(path, limits, PICTURES)
            answer = _answer(place, _run(request, place, limits), limits, PICTURES)
        except CheckpointError as error:
            raise DatasetError(str(error)) from error
        if "refusal" in answer:
            raise DatasetError(str(answer["refusal"]))
        if made.is_symlink() or not made.is_file():
            raise DatasetError("The images were not decoded; upload the file again.")
        return ImageSet.from_bytes(made.read_bytes())


def _check_file(path: Path, limits: Limits, accepted: str = ACCEPTED) -> None:
    try:
        about = path.stat()
    except OSError as error:
        raise CheckpointError(f"The file cannot be read: {error.strerror or 'unknown error'}.") from None
    except ValueError:
        raise CheckpointError("The name of the file holds a zero byte; give it another name.") from None
    if not stat.S_ISREG(about.st_mode):
        raise CheckpointError(f"This is not a file; {accepted}.")
    if about.st_size > limits.largest:
        raise CheckpointError(
            f"The file has {about.st_size / 1024**2:.0f} MB; at most {limits.largest / 1024**2:.0f} MB are accepted."
        )


def _environment(folder: str) -> dict[str, str]:
    """What the child sees: nothing of the parent's settings but where the images are."""
    nowhere = "http://127.0.0.1:9"  # data sets that are not on this machine are not fetched for an upload
    kept = {key: os.environ[key] for key in ("STRATA_DATA", "PATH", "LD_LIBRARY_PATH") if key in os.environ}
    if "STRATA_DATA" in kept:
        kept["STRATA_DATA"] = str(Path(kept["STRATA_DATA"]).resolve())
    return {
        **kept,
        "STRATA_CACHE": str(cache_folder().resolve()),
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": folder,
        "TMPDIR": folder,
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": "2",
        "OMP_WAIT_POLICY": "passive",  # waiting threads leave their core to other work
        "CUDA_VISIBLE_DEVICES": "",
        **{name: nowhere for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")},
    }


def _run(request: Mapping[str, Any], folder: Path, limits: Limits) -> int | None:
    """The exit status of the child, None if it was stopped for taking too long."""
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", "robustness_core.sandbox.child"],
        cwd=folder,
        env=_environment(str(folder)),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        try:
            child.communicate(json.dumps(request).encode(), timeout=limits.patience * limits.parsing)
        except subprocess.TimeoutExpired:
            if not (folder / _UNDERSTOOD).exists():
                return None
            child.communicate(timeout=limits.patience * limits.whole)
    except subprocess.TimeoutExpired:
        return None
    finally:
        _end(child)
    return child.returncode


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        child.wait()


def _answer(folder: Path, status: int | None, limits: Limits, accepted: str = ACCEPTED) -> dict[str, Any]:
    """What the child wrote; it is read as something that a hostile file may have written."""
    if status is None or status == -signal.SIGXCPU:
        long = limits.whole if (folder / _UNDERSTOOD).exists() else limits.parsing
        return {"refusal": f"Looking at the file took over {long:.0f} seconds, so it was refused; {accepted}."}
    report = folder / _REPORT
    try:
        if report.is_symlink() or report.stat().st_size > _LARGEST_ANSWER:
            raise ValueError
        answer = json.loads(report.read_text(encoding="utf-8"))
        if not isinstance(answer, dict) or not ("refusal" in answer or isinstance(answer.get("report"), dict)):
            raise ValueError
        return answer
    except (OSError, ValueError, RecursionError):
        pass
    if status == -signal.SIGKILL:
        return {"refusal": f"Reading the file took too much memory or time, so it was refused; {accepted}."}
    return {"refusal": f"The file made its reader crash, so it was refused; {accepted}."}


def _move(made: Path, copy: Path) -> None:
    if made.is_symlink() or not made.is_file():
        raise CheckpointError("No copy of the network was made; upload the file again.")
    beside = copy.with_name(f"{copy.name}.part")
    try:
        shutil.copyfile(made, beside)
        os.replace(beside, copy)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise CheckpointError(f"The copy cannot be written: {error.strerror or 'unknown error'}.") from None
