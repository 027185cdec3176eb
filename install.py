"""Installs what Strata needs into .venv; `make run`, `make test` and the image call it. Needs Python alone.

    python3 install.py [EXTRA ...]      # dashboard (default), cluster, figures, reference of pyproject.toml; dev: all

Every version is that of requirements.lock, and only files whose hashes stand there are installed. STRATA_TORCH says
which build of torch: `cpu`, `index` (the package index's own: on Linux CUDA 13, on a Mac Apple's), or one of the index
of torch's builds (`cu126`, …), whose hashes no lock knows. Unset, what fits this machine is chosen.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

PROJECT = Path(__file__).resolve().parent
LOCK, CPU_LOCK = ((PROJECT / name).read_text() for name in ("requirements.lock", "requirements-cpu.lock"))
CUDA_13_DRIVER = 580  # the oldest driver of NVIDIA's that runs the package index's build of torch
SPACE = {True: 9.0, False: 2.5}  # GB for an environment with or without CUDA, and what is downloaded for it
UNUSED = (  # what no program of ours reads: a sixth of the environment
    "torch/test", "torch/include", "torch/bin/test_*", "torch/bin/protoc*", "pyautoattack/examples",
    "pydeck/nbextension", "pyarrow/include", "plotly/labextension", "onnx/backend/test", "**/tests",
)  # fmt: skip
PIP_TO_UV = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "constraint": "UV_CONSTRAINT",
    "no-index": "UV_NO_INDEX",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
}


COMMAND = """#!{python}
import sys
sys.path.insert(0, {project!r})
import strata
sys.exit(strata.main())
"""


@dataclass(frozen=True)
class Source:
    """Where torch may come from: in words, what restrains the versions (with hashes), and options of uv's."""

    words: str
    locks: str
    options: tuple[str, ...] = ()


def main() -> int:
    """Returns 0, or 1 with one line on stderr."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("extras", nargs="*", metavar="EXTRA", help="dashboard, cluster, figures, reference or dev")
    parser.add_argument("--venv", type=Path, default=PROJECT / ".venv", metavar="FOLDER", help="default: .venv")
    options = parser.parse_args()
    if sys.version_info < (3, 11):  # noqa: UP036
        fail(f"Strata needs Python 3.11 or later, this is {platform.python_version()}: make PYTHON=python3.11 …")
    with (PROJECT / "pyproject.toml").open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Another installation is at work in this folder; waiting for it.")
            fcntl.flock(file, fcntl.LOCK_EX)
        install(options.venv, {"dashboard", *options.extras})
    return 0


def install(venv: Path, extras: set[str]) -> None:
    """Bring `venv` up to date, in silence if it is; it also keeps the extras that it has."""
    note = venv / "strata.json"  # what is installed; "digest" is empty while an installation is at work
    found: dict[str, Any] = json.loads(note.read_text()) if note.exists() else {}
    extras |= set(found.get("extras", ()))
    build, why = choose(found.get("torch"))
    wanted = requirements(extras)
    digest = hashlib.sha256(json.dumps([wanted, build, LOCK, CPU_LOCK]).encode()).hexdigest()
    if found.get("digest") == digest and (venv / "bin" / "python").exists():
        return
    began = time.monotonic()
    say(f"Installing Strata ({', '.join(sorted(extras))}) into {venv}, with Python {platform.python_version()}.")
    check_space(venv, cuda=build != "cpu" and sys.platform != "darwin")
    if found and not found["digest"] and not venv.is_symlink():
        say("The last installation was interrupted; starting over with what it has downloaded.")
        shutil.rmtree(venv)
    venv.mkdir(parents=True, exist_ok=True)
    said = {"extras": sorted(extras), "torch": build}
    note.write_text(json.dumps({**said, "digest": ""}))
    python = make_environment(venv)
    with tempfile.TemporaryDirectory() as folder:
        fetch(python, wanted, build, why, Path(folder), renew=found.get("torch") not in (None, build))
    for pattern in UNUSED:
        for path in list(venv.glob(f"lib/python*/site-packages/{pattern}")):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    command = venv / "bin" / "strata"
    command.write_text(COMMAND.format(python=python.absolute(), project=str(PROJECT)))
    command.chmod(0o755)
    note.write_text(json.dumps({**said, "digest": digest}))
    size = sum(path.lstat().st_blocks * 512 for path in venv.rglob("*"))
    say(f"Installed in {time.monotonic() - began:.0f} s, {size / 1e9:.2f} GB. From now on no network is needed.")


def requirements(extras: Collection[str]) -> list[str]:
    """What pyproject.toml asks for: the core, and these extras; `dev` stands for all of them and the tools."""
    import tomllib  # which an older Python has not, that shall get its sentence first

    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    optional: dict[str, list[str]] = project["project"]["optional-dependencies"]
    groups: dict[str, list[str]] = project["dependency-groups"]
    if unknown := set(extras) - {*optional, *groups}:
        fail(f"There is no extra {', '.join(unknown)}; there are {', '.join([*optional, *groups])}.")
    chosen = {*optional, *groups} if "dev" in extras else extras
    return [*project["project"]["dependencies"], *(one for name in sorted(chosen) for one in (optional | groups)[name])]


def choose(before: str | None) -> tuple[str, str]:
    """The build of torch that fits, and why."""
    if asked := os.environ.get("STRATA_TORCH"):
        return asked, "as STRATA_TORCH says"
    if before:
        return before, "as before"
    if sys.platform == "darwin":
        return "index", "this is a Mac"
    driver = Path("/sys/module/nvidia/version")
    if not driver.exists():
        return "cpu", "there is no NVIDIA driver here"
    version = driver.read_text().strip()
    fits = int(version.split(".")[0]) >= CUDA_13_DRIVER
    return "index" if fits else "auto", f"NVIDIA's driver is {version}"


def check_space(venv: Path, *, cuda: bool) -> None:
    place = next(folder for folder in venv.resolve().parents if folder.exists())
    free = shutil.disk_usage(place).free / 1e9
    if free < SPACE[cuda]:
        fail(f"{SPACE[cuda]} GB are needed, and {place} has {free:.1f} GB free.")


def make_environment(venv: Path) -> Path:
    """The interpreter of `venv`, which is made unless it stands."""
    python = venv / "bin" / "python"
    if not python.exists() or run(python, "-c", "import pip", quiet=True):
        if run(sys.executable, "-m", "venv", venv):
            fail("Python cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv")
    return python


def fetch(python: Path, wanted: list[str], build: str, why: str, folder: Path, *, renew: bool) -> None:
    """Download and install `wanted` with uv, or with pip where uv cannot be had; `renew`: torch was another build."""
    uv = find_uv(python, folder)
    if uv is None:
        say("The installer uv cannot be had from the package index; pip is slower, and checks no hashes here.")
        (folder / "versions").write_text("\n".join(re.findall(r"(?m)^\w[^\\\n]*", LOCK)))
        if run(python, "-m", "pip", "install", *wanted, "--constraint", folder / "versions"):
            fail("The installation failed.")
        return
    settings = {**pip_settings(python), **os.environ}
    hasty = {**settings, "UV_HTTP_RETRIES": "0", "UV_HTTP_CONNECT_TIMEOUT": "5"}
    *better, last = sources(build)
    command: tuple[str | Path, ...] = (uv, "pip", "install", "--python", python, "--constraint", folder / "locks")
    for source in (*better, last):
        (folder / "locks").write_text(source.locks)
        ask = (*command, *source.options, "--dry-run", "--no-deps", "--reinstall-package", "torch", "torch")
        if source is last or not run(*ask, settings=hasty, quiet=True):
            break
    if better and source is last:
        say("The index of torch's builds cannot be reached from here.")
    say(f"torch is {source.words}: {why}. STRATA_TORCH=cpu, index, cu126, … chooses another.")
    again = ("--reinstall-package", "torch") if renew else ()
    if run(*command, *source.options, *again, *wanted, settings=settings):
        fail("The installation failed; the next try goes on with what was downloaded.")


def sources(build: str) -> list[Source]:
    """Where this build of torch may come from, the best first; the last is the package index's own."""
    rest = entries(LOCK, but="torch|triton|nvidia-.*|cuda-.*")
    index = Source("the package index's build, on Linux with 3 GB of CUDA", LOCK)
    if build == "index":
        return [index]
    if build == "cpu":
        locks = rest + CPU_LOCK
        return [Source("the CPU build", locks), Source("the CPU build", locks, ("--torch-backend", "cpu")), index]
    version = re.search(r"^torch==\S+", LOCK, re.MULTILINE)
    assert version is not None
    return [Source(f"the build {build}", f"{rest}{version[0]}\n", ("--torch-backend", build)), index]


def entries(lock: str, *, but: str) -> str:
    """A lock without the packages whose names match."""
    return "".join(one for one in re.split(r"(?m)^(?=\S)", lock) if not re.match(rf"({but})==", one))


def find_uv(python: Path, folder: Path) -> Path | None:
    """The uv of the lock: the environment's own, or one in `folder` for this time alone."""
    own = python.with_name("uv")
    if own.exists():
        return own
    say("Fetching the installer uv …")
    locked = next(one for one in re.split(r"(?m)^(?=\S)", LOCK) if one.startswith("uv=="))
    (folder / "uv.txt").write_text(locked)
    options = ("--quiet", "--disable-pip-version-check", "--require-hashes", "--target", folder)
    status = run(python, "-m", "pip", "install", *options, "--requirement", folder / "uv.txt")
    return None if status else folder / "bin" / "uv"


def pip_settings(python: Path) -> dict[str, str]:
    """The package index as pip is configured for it, in the words of uv, which reads no settings of pip's."""
    listing = subprocess.run([python, "-m", "pip", "config", "list"], capture_output=True, text=True).stdout
    found = {"UV_INDEX_STRATEGY": "unsafe-best-match"}  # as pip: the best version of all indexes
    for section, key, value in re.findall(r"^([\w:]+)\.([\w-]+)='(.*)'$", listing, re.MULTILINE):
        if section in ("global", "install", ":env:") and key in PIP_TO_UV:
            name = PIP_TO_UV[key]
            found[name] = ("," if name == "UV_FIND_LINKS" else " ").join(value.replace("\\n", " ").split())
    return found


def run(*command: str | Path, settings: Mapping[str, str] = os.environ, quiet: bool = False) -> int:
    """The exit status of a command that has no input."""
    output = subprocess.DEVNULL if quiet else None
    return subprocess.run(command, env=settings, stdin=subprocess.DEVNULL, stdout=output, stderr=output).returncode


def say(sentence: str) -> None:
    print(f"strata: {sentence}", flush=True)


def fail(sentence: str) -> NoReturn:
    print(f"strata: {sentence}", file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
    sys.exit(main())
