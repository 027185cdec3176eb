"""The image, built and run without a daemon: `make test-image` (root, buildah and debootstrap; some five minutes).

Its base, python:3.11-slim, comes from Debian's packages where it is not at hand. A container is what an engine makes of
`--read-only --tmpfs /tmp --volume …:/strata/var` and of the image's own user, settings and command: namespaces of its
own, a read-only root, and a network of this test's that reaches nothing outside.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from testing import postgresql
from testing.processes import until

PROJECT = Path(__file__).resolve().parent.parent
TOOLS = ("buildah", "debootstrap", "ip", "unshare", "nsenter")
BASE = "docker.io/library/python:3.11-slim"
NETWORK = "strata-test"
BUILDAH = {**os.environ, "BUILDAH_ISOLATION": "chroot"}
QUESTION = "--network mnist-small-pgd2 --dataset mnist-5k --samples 5 --layers conv1,logits --m 3 --preset fast"
SPEC = """AuditSpec.of(
    'mnist-small-pgd2', dataset='mnist-5k', classes=(3, 7), samples=5, layers=('conv1', 'logits'), m=(3,), preset='fast'
)"""
HEAD = """import json
from sqlalchemy import text
from robustness_core.spec import AuditSpec
from store import audits, connect, distances, networks
db = connect()
"""
# The root file system $1, the volume $2 and the table of hosts $3 put together; then the command, by the user $4.
CONTAINER = """set -e
mount --make-rprivate /
mount --bind "$1" "$1"
mount -t proc proc "$1/proc"
mount --rbind /dev "$1/dev"
mount -t tmpfs tmpfs "$1/tmp"
mount --bind "$2" "$1/strata/var"
mount --bind "$3" "$1/etc/hosts"
mount -o remount,bind,ro "$1"
root="$1"; user="$4"; shift 4
exec chroot --userspec="$user" "$root" /usr/bin/env -i "$@"
"""

pytestmark = [
    pytest.mark.image,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(os.geteuid() != 0, reason="building an image without a daemon needs root"),
    *(pytest.mark.skipif(shutil.which(tool) is None, reason=f"{tool} is not installed") for tool in TOOLS),
]


def buildah(*arguments: str) -> str:
    return subprocess.check_output(["buildah", *arguments], env=BUILDAH, text=True).strip()


def make_base(folder: Path) -> None:
    """Debian with Python under the name of the image that the Dockerfile begins with."""
    files = [*Path("/etc/apt").glob("sources.list"), *Path("/etc/apt/sources.list.d").glob("*")]
    mirror = re.search(r"https?://\S+/debian(?=/?\s)", "\n".join(file.read_text() for file in files))
    root, include = folder / "root", "--include=python3,python3-venv,ca-certificates"
    command = ["debootstrap", "--variant=minbase", include, "bookworm", root, *([mirror[0]] if mirror else [])]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    for waste in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale", "usr/share/man"):
        shutil.rmtree(root / waste)
    (root / "usr/bin/python").symlink_to("python3")
    container = buildah("from", "scratch")
    buildah("add", "--quiet", container, str(root), "/")
    buildah("commit", "--quiet", container, BASE)
    buildah("rm", container)


def pip_mounts(folder: Path) -> list[str]:
    """What lets pip inside find packages as the one outside does: its settings, and the folders that they name."""
    listing = subprocess.check_output([sys.executable, "-m", "pip", "config", "list"], text=True)
    found = dict(re.findall(r"^[\w:]+\.([\w-]+)='(.*)'$", listing, re.MULTILINE))
    found.pop("constraint", None)
    settings = [f"{key} = {value.replace(chr(92) + 'n', ' ')}" for key, value in found.items()]
    (folder / "pip.conf").write_text("\n".join(["[global]", *settings]))
    named = {
        match for value in found.values() for match in re.findall(r"(?<![:\w/.])(?:file://)?(/\w+/\w[\w-]*)", value)
    }
    places = sorted(place for place in named if Path(place).is_dir() and not place.startswith("/etc"))
    return [f"{folder}/pip.conf:/etc/pip.conf", *(f"{place}:{place}" for place in places)]


@pytest.fixture(scope="module")
def image() -> Iterator[dict[str, Any]]:
    """What the built image says of itself, with the folder of its files as "root"."""
    with tempfile.TemporaryDirectory(prefix="strata-image-") as name:
        folder = Path(name)
        if subprocess.run(["buildah", "inspect", "--type", "image", BASE], env=BUILDAH, capture_output=True).returncode:
            make_base(folder)
        mounts = [*pip_mounts(folder), "/etc/ssl/certs:/etc/ssl/certs", "/etc/hosts:/etc/hosts"]
        options = " ".join(["--pull-never --network host", *(f"--volume {mount}:ro" for mount in mounts)])
        engine = "buildah build --format docker"
        build = ["make", "image", f"IMAGE={engine}", f"IMAGE_OPTIONS={options}"]
        subprocess.run(build, cwd=PROJECT, env=BUILDAH, check=True, stdout=subprocess.DEVNULL)
        container = buildah("from", "--pull-never", "strata")
        try:
            about = json.loads(buildah("inspect", "--type", "image", "strata"))
            yield {**about["Docker"]["config"], "root": buildah("mount", container)}
        finally:
            buildah("rm", container)


@pytest.fixture
def network() -> Iterator[None]:
    """A network of its own with nothing but the loopback device."""
    subprocess.run(["ip", "netns", "add", NETWORK], check=True)
    try:
        subprocess.run(["ip", "-n", NETWORK, "link", "set", "lo", "up"], check=True)
        yield
    finally:
        subprocess.run(["ip", "netns", "delete", NETWORK], check=True)


class Container:
    """A container that runs `command`, by default the image's own, until it is killed."""

    def __init__(
        self, image: dict[str, Any], volume: Path, command: Sequence[str] = (), settings: dict[str, str] | None = None
    ):
        self.image = image
        self.root = image["root"]
        self.environment = [
            *image["Env"],
            "OMP_NUM_THREADS=1",
            *(f"{name}={value}" for name, value in (settings or {}).items()),
        ]
        hosts = volume.with_name("hosts")
        hosts.write_text("127.0.0.1 localhost database\n")
        namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
        places = [self.root, str(volume), str(hosts), image["User"]]
        start = ["nsenter", f"--net=/run/netns/{NETWORK}", *namespaces, "sh", "-c", CONTAINER, "sh", *places]
        self.outside = subprocess.Popen([*start, *self._inside(command or image["Cmd"])], start_new_session=True)
        children = Path(f"/proc/{self.outside.pid}/task/{self.outside.pid}/children")
        until(lambda: bool(children.read_text().split()))
        self.pid = int(children.read_text().split()[0])

    def _inside(self, command: Sequence[str]) -> list[str]:
        return [*self.environment, "sh", "-c", f'cd {self.image["WorkingDir"]} && exec "$@"', "sh", *command]

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in it, as `docker exec` does."""
        enter = ["nsenter", f"--target={self.pid}", "--mount", "--pid", "--net", "chroot"]
        words = [*enter, f"--userspec={self.image['User']}", self.root, "/usr/bin/env", "-i", *self._inside(command)]
        return subprocess.run(words, capture_output=True, text=True, check=False)

    def python(self, code: str) -> str:
        done = self.run("python", "-c", f"{HEAD}{code}")
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def healthy(self) -> bool:
        """What the image's own health check says."""
        kind, *words = self.image["Healthcheck"]["Test"]
        return self.run(*(["sh", "-c", *words] if kind == "CMD-SHELL" else words)).returncode == 0

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.outside.wait(30)


@contextmanager
def running(*arguments: Any, **more: Any) -> Iterator[Container]:
    container = Container(*arguments, **more)
    try:
        yield container
    finally:
        if container.outside.poll() is None:
            container.kill()


@pytest.fixture
def volume(image: dict[str, Any], tmp_path: Path) -> Path:
    """An empty volume, which an engine fills with what the image has in its place, owner included."""
    folder = tmp_path / "volume"
    subprocess.run(["cp", "--archive", f"{image['root']}/strata/var", folder], check=True)
    return folder


def distances_known(container: Container) -> list[float]:
    """The distances of the question in the container's database, in ascending order."""
    code = f"""
spec = {SPEC}
network = networks.by_name(db, spec.network)
series = [distances.series(db, one).id for one in spec.search.series(network.sha256, network.features)]
with db.read() as connection:
    rows = connection.execute(text('SELECT series_id, distance FROM distances'))
    print(json.dumps(sorted(distance for one, distance in rows if one in series)))"""
    found: list[float] = json.loads(container.python(code))
    assert len(found) == 2 * 5 * 5
    return found


def finish(container: Container) -> None:
    """Ask the audit and wait until a worker has done it."""
    seeded = "print(any(one.name == 'mnist-small-pgd2' for one in networks.all(db)))"
    until(lambda: container.python(seeded) == "True", seconds=300)
    number = container.python(f"print(audits.submit(db, {SPEC}).id)")
    until(lambda: container.python(f"print(audits.get(db, {number}).state)") == "done", seconds=300)


def test_the_image_is_small_and_its_user_has_no_rights(image: dict[str, Any]) -> None:
    (row,) = [
        row for row in json.loads(buildah("images", "--json")) if "localhost/strata:latest" in (row["names"] or ())
    ]
    value, unit = row["size"].split()
    assert float(value) * {"MB": 1e6, "GB": 1e9}[unit] <= 1.6e9
    assert image["User"] == "strata"
    assert image["Volumes"] == {"/strata/var": {}}
    assert image["Healthcheck"]["Test"]
    left = subprocess.check_output(["find", f"{image['root']}/strata", "-name", "secrets.toml", "-o", "-name", ".env"])
    assert left == b""


def test_what_a_killed_container_found_is_there_when_it_starts_again(
    image: dict[str, Any], volume: Path, network: None
) -> None:
    with running(image, volume) as container:
        until(container.healthy, seconds=120)
        assert container.run("id", "--user").stdout.strip() != "0"
        assert container.run("touch", "/strata/app.py").returncode != 0
        finish(container)
        found = distances_known(container)
        audit = container.run("strata", "audit", *QUESTION.split(), "--json", "/strata/var/out.json")
        assert audit.returncode == 0, audit.stderr
        container.kill()
    layers = json.loads((volume / "out.json").read_text())["layers"]
    assert sorted(np.ravel([layer["projections"][0]["distances"] for layer in layers])) == found
    with running(image, volume) as container:
        until(container.healthy, seconds=120)
        assert distances_known(container) == found
        assert container.run("strata", "check").returncode == 0


def test_dashboard_worker_and_postgresql_work_as_the_compose_file_puts_them_together(
    image: dict[str, Any], volume: Path, tmp_path: Path, network: None
) -> None:
    """Without an engine and without the image of PostgreSQL: its server is the one of this machine."""
    if postgresql.binaries() is None:
        pytest.skip("no PostgreSQL server is installed")
    services = yaml.safe_load((PROJECT / "compose.yaml").read_text())["services"]
    password = "letters0and1digits"
    ours = {
        name: {key: re.sub(r"\$\{POSTGRES_PASSWORD[^}]*\}", password, str(value)) for key, value in
               services[name]["environment"].items()}
        for name in ("web", "worker")
    }  # fmt: skip
    with ExitStack() as stack:
        enter = ("ip", "netns", "exec", NETWORK)
        stack.enter_context(postgresql.running(listen="127.0.0.1", database="strata", enter=enter))
        web = stack.enter_context(running(image, volume, settings=ours["web"]))
        until(web.healthy, seconds=120)
        own = tmp_path / "second"
        subprocess.run(["cp", "--archive", f"{image['root']}/strata/var", own], check=True)
        worker = stack.enter_context(running(image, own, services["worker"]["command"], ours["worker"]))
        finish(web)
        found = distances_known(web)
        worker.kill()
        web.kill()
        again = stack.enter_context(running(image, volume, settings=ours["web"]))
        until(again.healthy, seconds=120)
        assert distances_known(again) == found
