"""A dashboard on a port of its own, a real worker where a test needs one, and headless Chromium."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Error, Page, Playwright, expect, sync_playwright

import store
from benchmarks import synthetic
from robustness_core.spec import AuditSpec
from store import audits, networks

ROOT = Path(__file__).resolve().parents[2]
ARTEFACTS = ROOT / "artefacts"
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
TINY = AuditSpec.of(
    "mnist-small-pgd2",
    dataset="mnist-5k",
    classes=(3, 7),
    samples=4,
    layers=("conv1", "conv1.pre", "logits"),
    m=(2,),
    preset="fast",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(item.fspath).parent == Path(__file__).parent:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="session")
def browser(playwright: Playwright) -> Iterator[Browser]:
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.fail("Chromium is missing: install it with `apt-get install chromium`.", pytrace=False)
    try:
        opened = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
    except Error as error:
        pytest.fail(f"Chromium at {path} does not start: {error.message.splitlines()[0]}", pytrace=False)
    expect.set_options(timeout=30_000)  # other work may share the machine
    yield opened
    opened.close()


def environment(url: str, folder: Path) -> dict[str, str]:
    return {
        **{name: value for name, value in os.environ.items() if name != "STRATA_DATA"},
        "STRATA_DATABASE": url,
        "STRATA_WORKER": "none",
        "STRATA_CACHE": str(folder / "cache"),
        "OMP_NUM_THREADS": "1",
    }


def serve(url: str, folder: Path, *, worker: str = "none") -> Iterator[str]:
    """Run the dashboard over the database `url` until the generator is closed; gives its address.

    `worker`: the setting STRATA_WORKER; with an empty one the dashboard has a worker of its own.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = (folder / "dashboard.log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port)],
        cwd=ROOT, env=environment(url, folder) | {"STRATA_WORKER": worker}, stdout=log, stderr=log,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=5):
                    break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"The dashboard did not start: {(folder / 'dashboard.log').read_text()[-800:]}")
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)
        log.close()


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[store.Database, str]]:
    """A store with the bundled network and a tiny real audit of it, and made-up ones; and the dashboard over it."""
    folder = tmp_path_factory.mktemp("filled")
    db = store.connect(f"sqlite:///{folder / 'strata.db'}")
    work(db, folder, "seed")
    audits.submit(db, TINY)
    work(db, folder, "--once")
    assert audits.recent(db)[0].state == "done"
    synthetic.network(db)
    synthetic.finish(db, synthetic.question(samples=24))
    yield from ((db, address) for address in serve(db.url, folder))
    db.close()


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[store.Database, str]]:
    folder = tmp_path_factory.mktemp("empty")
    db = store.connect(f"sqlite:///{folder / 'strata.db'}")
    yield from ((db, address) for address in serve(db.url, folder))
    assert networks.all(db) == []
    db.close()


def work(db: store.Database, folder: Path, *arguments: str) -> None:
    """Let a real worker do what is asked, in a process of its own."""
    command = [sys.executable, "-m", "worker", "--device", "cpu", "--executor", "local:1", *arguments]
    subprocess.run(command, cwd=ROOT, env=environment(db.url, folder), check=True, timeout=170, capture_output=True)


@pytest.fixture
def worker(filled: tuple[store.Database, str], tmp_path: Path) -> Iterator[Callable[[], None]]:
    """worker() starts a real worker over the filled store; it ends with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        command = [sys.executable, "-m", "worker", "--device", "cpu", "--executor", "local:1"]
        with (tmp_path / "worker.log").open("wb") as log:
            started.append(
                subprocess.Popen(command, cwd=ROOT, env=environment(filled[0].url, tmp_path), stdout=log, stderr=log)
            )

    yield start
    for process in started:
        process.terminate()
        process.wait(30)


@pytest.fixture
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A fresh browser profile, 1440 wide, light; a screenshot is kept where the test fails."""
    context = browser.new_context(viewport={"width": 1440, "height": 1000}, color_scheme="light")
    context.set_default_timeout(30_000)
    opened = context.new_page()
    yield opened
    ARTEFACTS.mkdir(exist_ok=True)
    report = getattr(request.node, "failed", False)
    if report:
        opened.screenshot(path=ARTEFACTS / f"failed-{request.node.name[:60]}.png")
    context.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):  # type: ignore[no-untyped-def]
    report = yield
    if report.when == "call":
        item.failed = report.failed  # type: ignore[attr-defined]
    return report


def shoot(page: Page, name: str) -> None:
    """A screenshot of the whole screen, however long."""
    ARTEFACTS.mkdir(exist_ok=True)
    width = page.viewport_size["width"]
    height = page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight")
    page.set_viewport_size({"width": width, "height": min(max(height, 600), 6000)})
    page.wait_for_timeout(300)  # figures take the new size
    page.screenshot(path=ARTEFACTS / f"{name}.png", animations="disabled")
    page.set_viewport_size({"width": width, "height": 1000})
