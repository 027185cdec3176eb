"""What an installation is made of agrees with the project: lock files, image, compose file, advisories."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from store.database import parse_url
from testing.processes import free_port, until
from worker.__main__ import _parser

PROJECT = Path(__file__).resolve().parent.parent
NAME = r"^([A-Za-z0-9._-]+)(?:\[[a-z]+\])?==([^\s;]+)"
COMPOSE: dict[str, Any] = yaml.safe_load((PROJECT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
INSTALL = SimpleNamespace(**runpy.run_path(str(PROJECT / "install.py")))
OURS = [name for name, service in SERVICES.items() if service["image"] == "strata"]


def pins(name: str) -> dict[str, str]:
    """Package -> version of a requirements or lock file."""
    found = re.findall(NAME, (PROJECT / name).read_text(), re.MULTILINE)
    return {re.sub(r"[._-]+", "-", package).lower(): version for package, version in found}


def needs_the_index() -> None:
    """Skip a test where pip cannot reach the package index that it is configured for."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--retries", "0", "tqdm", "--dest"]
    with tempfile.TemporaryDirectory() as folder:
        if subprocess.run([*command, folder], capture_output=True, check=False).returncode:
            pytest.skip("the package index cannot be reached")


# ------------------------------------------------------------------------------------------------------ lock files


def test_every_package_that_is_asked_for_is_locked_at_a_version_that_fits() -> None:
    locked = pins("requirements.lock")
    asked = [Requirement(one) for one in INSTALL.requirements(["dev"])]
    assert len(asked) > 25
    for one in asked:
        assert one.specifier.contains(locked[canonicalize_name(one.name)]), f"{one}: run `make lock`"


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-cpu.lock"])
def test_a_lock_holds_a_hash_for_every_package_and_no_address(name: str) -> None:
    text = (PROJECT / name).read_text()
    entries = re.split(r"\n(?=\S)", "\n".join(line for line in text.splitlines() if not line.startswith("#")))
    assert len(entries) > 50 or name == "requirements-cpu.lock"
    for entry in entries:
        assert re.match(NAME, entry), entry
        assert "--hash=sha256:" in entry, entry
    assert "://" not in text
    assert "--index" not in text
    assert "--find-links" not in text


def test_both_locks_have_one_version_of_torch_and_no_file_in_common() -> None:
    both = [(PROJECT / name).read_text() for name in ("requirements.lock", "requirements-cpu.lock")]
    assert pins("requirements-cpu.lock") == {"torch": f"{pins('requirements.lock')['torch']}+cpu"}
    hashes = [set(re.findall("sha256:[0-9a-f]{64}", text)) for text in both]
    assert not hashes[0] & hashes[1]


# ------------------------------------------------------------------------------------------------- the installation


def test_a_machine_without_a_graphics_card_gets_torch_without_cuda() -> None:
    *better, last = INSTALL.sources("cpu")
    for source in better:
        assert "torch==2.13.0+cpu" in source.locks
        assert not re.search(r"^(nvidia|cuda|triton)", source.locks, re.MULTILINE)
        assert re.search(r"^numpy==\S+ .*\n +--hash", source.locks, re.MULTILINE)
    assert last.locks == INSTALL.LOCK
    assert re.search(r"^nvidia-cublas==", last.locks, re.MULTILINE)


def test_the_setting_chooses_the_build_of_torch_then_what_was_chosen_before(monkeypatch) -> None:
    monkeypatch.delenv("STRATA_TORCH", raising=False)
    assert INSTALL.choose("cu126")[0] == "cu126"
    assert INSTALL.choose(None)[0] in ("cpu", "index", "auto")
    monkeypatch.setenv("STRATA_TORCH", "cpu")
    assert INSTALL.choose("cu126")[0] == "cpu"
    (own, _) = INSTALL.sources("cu126")
    assert own.options == ("--torch-backend", "cu126")


def test_the_index_is_the_one_that_pip_is_configured_for(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "pip.conf").write_text("[global]\nindex-url = file:///one\nfind-links =\n  /two\n  /three\n")
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "file:///four file:///five")
    found = INSTALL.pip_settings(Path(sys.executable))
    assert found["UV_DEFAULT_INDEX"] == "file:///one"
    assert found["UV_FIND_LINKS"] == "/two,/three"
    assert found["UV_INDEX"] == "file:///four file:///five"


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A project with this one's installation and locks that needs nothing but tqdm."""
    for name in ("install.py", "requirements.lock", "requirements-cpu.lock"):
        shutil.copy(PROJECT / name, tmp_path)
    (tmp_path / "pyproject.toml").write_text(
        '[project]\ndependencies = ["tqdm>=4"]\n[project.optional-dependencies]\ndashboard = []\n[dependency-groups]\n'
    )
    return tmp_path


def run_install(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "install.py"], cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_an_installation_that_broke_off_starts_over_and_takes_no_file_but_the_locked_ones(small: Path) -> None:
    needs_the_index()
    lock = (small / "requirements.lock").read_text()
    version, digests = re.findall(r"^tqdm==(\S+) .*\n((?: +--hash=\S+(?: \\\n)?)+)", lock, re.MULTILINE)[0]
    (small / "requirements.lock").write_text(lock.replace(digests, re.sub("sha256:.{8}", "sha256:00000000", digests)))
    refused = run_install(small)
    assert refused.returncode == 1
    assert "Hash mismatch" in refused.stderr
    assert not list(small.glob(".venv/lib/*/site-packages/tqdm"))
    (small / "requirements.lock").write_text(lock)
    again = run_install(small)
    assert again.returncode == 0, again.stderr
    assert "The last installation was interrupted" in again.stdout
    assert list(small.glob(f".venv/lib/*/site-packages/tqdm-{version}.dist-info"))
    assert (run_install(small).stdout, run_install(small).returncode) == ("", 0)


@pytest.mark.slow
def test_without_uv_pip_installs_the_locked_versions_and_a_sentence_says_so(small: Path) -> None:
    needs_the_index()
    lock = (small / "requirements.lock").read_text()
    (small / "requirements.lock").write_text(re.sub(r"(?m)^uv==[\d.]+", "uv==0.0.0", lock))
    done = run_install(small)
    assert done.returncode == 0, done.stderr
    assert "The installer uv cannot be had from the package index" in done.stdout
    assert list(small.glob(f".venv/lib/*/site-packages/tqdm-{pins('requirements.lock')['tqdm']}.dist-info"))
    assert "--hash" not in done.stderr


# ------------------------------------------------------------------------------------------------------ the package


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a fresh environment with the wheel of the source distribution, and this one's packages."""
    folder = tmp_path_factory.mktemp("package")
    unwanted = shutil.ignore_patterns(".*_cache", ".venv", ".git", ".hypothesis", "var", "artefacts", "tests", "build")
    shutil.copytree(PROJECT, folder / "copy", ignore=unwanted)
    python = folder / "env" / "bin" / "python"
    build = "import sys, setuptools.build_meta as b; getattr(b, 'build_' + sys.argv[1])(sys.argv[2])"
    quiet: dict[str, Any] = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([sys.executable, "-c", build, "sdist", folder], cwd=folder / "copy", **quiet)
    shutil.unpack_archive(next(folder.glob("*.tar.gz")), folder, filter="data")
    subprocess.run([sys.executable, "-c", build, "wheel", folder], cwd=next(folder.glob("strata-*/")), **quiet)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "env"], **quiet)
    (wheel,) = folder.glob("*.whl")
    assert wheel.stat().st_size < 60e6
    (next(folder.glob("env/lib/*/site-packages")) / "needs.pth").write_text(sysconfig.get_path("purelib"))
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel]
    subprocess.run(pip, **quiet)
    shutil.rmtree(folder / "copy")
    return folder / "env" / "bin"


def outside(folder: Path) -> dict[str, str]:
    """The settings of a program that shall find nothing but what is installed; its data go to `folder`."""
    named = ("STRATA_", "PYTHONPATH")
    settings = {name: value for name, value in os.environ.items() if not name.startswith(named)}
    return {**settings, "STRATA_HOME": str(folder / "data"), "STRATA_CACHE": str(folder / "cache")}


@pytest.mark.slow
def test_an_installed_package_audits_from_any_folder(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "store.py").write_text("raise RuntimeError('a file of the user is in the way')")
    command = [installed / "strata", "audit", "--network", "mnist-small-pgd2", "--samples", "2", "--layers", "conv1"]
    command += ["--m", "2", "--projections", "1", "--preset", "fast", "--json", "out.json"]
    subprocess.run(command, cwd=tmp_path, env=outside(tmp_path), check=True, capture_output=True)
    (layer,) = json.loads((tmp_path / "out.json").read_text())["layers"]
    assert len(layer["projections"][0]["distances"]) == 2
    where = subprocess.check_output(
        [installed / "python", "-P", "-c", "import worker.__main__ as w; print(w.__file__)"],
        cwd=tmp_path, env=outside(tmp_path), text=True,
    )  # fmt: skip
    assert Path(where).is_relative_to(installed.parent)


@pytest.mark.slow
def test_an_installed_package_looks_after_its_database(installed: Path, tmp_path: Path) -> None:
    for command in (["upgrade"], ["check"], ["backup", "copy.db"], ["check", "--database", "copy.db"]):
        done = subprocess.run([installed / "strata", *command], cwd=tmp_path, env=outside(tmp_path), check=False)
        assert done.returncode == 0, command
    assert (tmp_path / "data" / "strata.db").exists()
    unknown = subprocess.run([installed / "strata", "nothing"], capture_output=True, text=True, check=False)
    assert (unknown.returncode, unknown.stderr.split("\n")[0]) == (2, "strata: there is no command 'nothing'")


@pytest.mark.slow
def test_an_installed_package_serves_the_dashboard_with_its_settings(installed: Path, tmp_path: Path) -> None:
    port, settings = free_port(), {**outside(tmp_path), "STRATA_WORKER": "none"}
    (tmp_path / "store.py").write_text("raise RuntimeError('a file of the user is in the way')")
    command = [installed / "strata", "run", "--server.port", str(port)]
    with (tmp_path / "log").open("w") as log, subprocess.Popen(command, cwd=tmp_path, env=settings, stdout=log) as it:
        try:
            until(lambda: answer(port, "/_stcore/health") == "ok")
            assert (PROJECT / "pages" / "assets" / "menu.js").read_text() in answer(port, "/explore")
            assert it.poll() is None
        finally:
            it.terminate()
    said = (tmp_path / "log").read_text()
    assert f"http://localhost:{port}" in said
    assert "External URL" not in said  # .streamlit/config.toml keeps the server from asking the internet for it


def answer(port: int, path: str) -> str:
    """The page that a server of this machine sends a browser; nothing while there is none."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Accept": "text/html"})
    try:
        with urllib.request.urlopen(request, timeout=20) as page:
            return str(page.read().decode())
    except OSError:
        return ""


@pytest.mark.slow
def test_a_large_network_is_fetched_if_it_is_the_one_of_this_version(installed: Path, tmp_path: Path) -> None:
    def strata(*command: str) -> subprocess.CompletedProcess[str]:
        words = [installed / "strata", *command]
        return subprocess.run(words, env=outside(tmp_path), capture_output=True, text=True, check=False)

    lacking = strata("audit", "--network", "mnist-large-pgd2", "--samples", "2")
    assert (lacking.returncode, lacking.stderr) == (
        2, "strata: The network mnist-large-pgd2 is too large for the package; `strata fetch` brings it.\n",
    )  # fmt: skip
    other = tmp_path / "other"
    shutil.copytree(PROJECT / "zoo", other)
    (other / "mnist-large-pgd2.safetensors").write_bytes(b"another")
    assert "mnist-large-pgd2.safetensors is not the network of this version" in strata("fetch", str(other)).stderr
    assert not (tmp_path / "cache" / "zoo" / "mnist-large-pgd2.safetensors").exists()
    assert strata("fetch", str(PROJECT / "zoo")).returncode == 0
    found = tmp_path / "cache" / "zoo" / "mnist-large-pgd2.safetensors"
    assert found.read_bytes() == (PROJECT / "zoo" / found.name).read_bytes()
    assert found.with_suffix(".json").exists()


# ------------------------------------------------------------------------------------------------------- the image


def test_the_image_takes_what_there_is_and_all_that_the_program_needs() -> None:
    text = (PROJECT / "Dockerfile").read_text()
    copied = [source for line in re.findall(r"^COPY ([^-].+)$", text, re.MULTILINE) for source in line.split()[:-1]]
    assert all((PROJECT / source).exists() for source in copied)
    assert {"app.py", "strata.py", "pages", "charts", "store", "worker", "robustness_core", "zoo"} <= set(copied)
    assert re.search(r"^USER strata$", text, re.MULTILINE)
    command = json.loads(text[text.index("\nCMD ") :].removeprefix("\nCMD "))
    assert command[:2] == ["strata", "run"]
    sent = (PROJECT / ".dockerignore").read_text().split("\n")
    assert "*" in sent  # all that is not named below stays outside, passwords and secrets with it
    assert {one.removeprefix("!").split("/")[0] for one in sent if one.startswith("!")} == set(copied)


# ------------------------------------------------------------------------------------------------- the compose file


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [name for name in OURS if "command" in SERVICES[name]])
def test_every_command_of_the_compose_file_exists(name: str) -> None:
    program, flag, module, *arguments = SERVICES[name]["command"]
    assert (program, flag) == ("python", "-m")
    assert importlib.util.find_spec(module) is not None
    if module == "worker":
        _parser().parse_args(arguments)
    for argument in arguments:
        if "://" in argument:  # a Dask scheduler, by the name of its service
            assert argument.split("://")[1].split(":")[0] in SERVICES


def test_every_service_of_ours_can_reach_what_it_depends_on() -> None:
    assert OURS
    for name in OURS:
        for other, how in SERVICES[name]["depends_on"].items():
            assert other in SERVICES
            assert how["condition"] == "service_started" or "test" in SERVICES[other]["healthcheck"]


def test_settings_are_those_that_the_program_reads_and_the_password_comes_from_outside() -> None:
    packages = ("store", "robustness_core", "pages", "worker")
    code = "\n".join(path.read_text() for package in packages for path in (PROJECT / package).rglob("*.py"))
    for name in OURS:
        for setting in SERVICES[name]["environment"]:
            assert setting.startswith("DASK_") or f'environ.get("{setting}")' in code
    required = re.compile(r"\$\{POSTGRES_PASSWORD:\?[^}]+\}")
    assert required.fullmatch(SERVICES["database"]["environment"]["POSTGRES_PASSWORD"])
    address = parse_url(required.sub("secret", SERVICES["web"]["environment"]["STRATA_DATABASE"]))
    assert (address.host, address.username, address.database) == ("database", "strata", "strata")
    assert address.drivername == "postgresql+psycopg"


def test_only_the_dashboard_is_published_and_only_on_this_machine() -> None:
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["web"]
    assert all(port.startswith("127.0.0.1:") for port in SERVICES["web"]["ports"])


# ------------------------------------------------------------------------------------- continuous integration elsewhere


def test_the_workflow_runs_the_same_script_on_every_system_and_python_that_the_readme_names() -> None:
    workflow = yaml.safe_load((PROJECT / ".github" / "workflows" / "ci.yml").read_text())
    test = workflow["jobs"]["test"]
    assert "bash .ci/run" in [step.get("run") for step in test["steps"]]
    assert set(test["strategy"]["matrix"]["os"]) == {"ubuntu-latest", "macos-latest"}
    settings = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    oldest = settings["project"]["requires-python"].removeprefix(">=")
    assert test["strategy"]["matrix"]["python"][0] == oldest
    assert len(test["strategy"]["matrix"]["python"]) == 3
    commands = "\n".join(step.get("run", "") for job in workflow["jobs"].values() for step in job["steps"])
    targets = re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"make ([a-z-]+)", commands)) <= set(targets)


# -------------------------------------------------------------------------------------------------------- advisories


@pytest.fixture(scope="module")
def verdict() -> Any:
    return runpy.run_path(str(PROJECT / ".ci" / "audit_dependencies.py"))["verdict"]


@pytest.mark.parametrize(
    ("packages", "sentence", "status"),
    [
        ([{"name": "a", "version": "1", "vulns": []}], "1 packages, no known weakness", 0),
        (
            [{"name": "a", "version": "1", "vulns": [{"id": "X-1", "fix_versions": ["2"]}]}],
            "a 1: X-1, fixed in 2", 1,
        ),
        ([{"name": "a", "skip_reason": "not found"}], "skipped: the advisories know none of these packages", 0),
    ],
)  # fmt: skip
def test_a_known_weakness_fails_and_nothing_else_does(packages, sentence, status, verdict) -> None:
    assert verdict(json.dumps({"dependencies": packages})) == (sentence, status)


def test_no_answer_is_no_finding(verdict) -> None:
    assert verdict("") == ("skipped: the advisories could not be reached", 0)
