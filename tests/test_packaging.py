"""What an installation is made of agrees with the project: lock files, image, compose file, advisories."""

from __future__ import annotations

import importlib.util
import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest
import yaml

from store.database import parse_url
from worker.__main__ import _parser

PROJECT = Path(__file__).resolve().parent.parent
NAME = r"^([A-Za-z0-9._-]+)(?:\[[a-z]+\])?==([^\s;]+)"
COMPOSE: dict[str, Any] = yaml.safe_load((PROJECT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [name for name, service in SERVICES.items() if service["image"] == "strata"]


def pins(name: str) -> dict[str, str]:
    """Package -> version of a requirements or lock file."""
    found = re.findall(NAME, (PROJECT / name).read_text(), re.MULTILINE)
    return {re.sub(r"[._-]+", "-", package).lower(): version for package, version in found}


# ------------------------------------------------------------------------------------------------------ lock files


@pytest.mark.parametrize(
    ("asked", "lock"),
    [
        ("requirements.txt", "requirements.lock"),
        ("requirements-cluster.txt", "requirements.lock"),
        ("requirements-figures.txt", "requirements.lock"),
        ("requirements.txt", "requirements-dev.lock"),
        ("requirements-dev.txt", "requirements-dev.lock"),
    ],
)
def test_every_pin_agrees_with_the_lock(asked: str, lock: str) -> None:
    wanted, locked = pins(asked), pins(lock)
    assert wanted
    assert {name: locked.get(name) for name in wanted} == wanted, "run `make lock`"


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_a_lock_holds_a_hash_for_every_package_and_no_address(name: str) -> None:
    text = (PROJECT / name).read_text()
    entries = re.split(r"\n(?=\S)", "\n".join(line for line in text.splitlines() if not line.startswith("#")))
    assert len(entries) > 50
    for entry in entries:
        assert re.match(NAME, entry), entry
        assert "--hash=sha256:" in entry, entry
    assert "://" not in text
    assert "--index" not in text
    assert "--find-links" not in text


def test_the_two_locks_agree() -> None:
    both = pins("requirements.lock").items() ^ pins("requirements-dev.lock").items()
    assert {name for name, _ in both}.isdisjoint(pins("requirements.lock").keys() & pins("requirements-dev.lock"))


# ------------------------------------------------------------------------------------------------------- the image


def test_the_image_takes_what_there_is_and_all_that_the_program_needs() -> None:
    text = (PROJECT / "Dockerfile").read_text()
    copied = [source for line in re.findall(r"^COPY (.+)$", text, re.MULTILINE) for source in line.split()[:-1]]
    assert all((PROJECT / source).exists() for source in copied)
    assert {"app.py", "pages", "charts", "store", "worker", "robustness_core", "zoo", ".streamlit"} <= set(copied)
    assert re.search(r"^USER strata$", text, re.MULTILINE)
    command = json.loads(text[text.index("\nCMD ") :].removeprefix("\nCMD "))
    assert command[:4] == ["python", "-m", "store", "attend"]
    assert {".env", ".streamlit/secrets.toml"} <= set((PROJECT / ".dockerignore").read_text().split("\n"))


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
