"""A dashboard on a port of its own, a real worker where a test needs one, and headless Chromium."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Playwright, expect, sync_playwright

import store
from store import audits, networks
from store.database import PROJECT
from testing import synthetic
from testing.browser import ARTEFACTS, TINY, environment, launch, served

WORKER = [sys.executable, "-m", "worker", "--device", "cpu", "--executor", "local:1"]


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
    try:
        opened = launch(playwright)
    except RuntimeError as error:
        pytest.fail(str(error), pytrace=False)
    expect.set_options(timeout=30_000)  # other work may share the machine
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[store.Database, str]]:
    """A store with the bundled network and a tiny real audit of it, and made-up ones; and the dashboard over it."""
    folder = tmp_path_factory.mktemp("filled")
    with served(folder) as (db, address):
        work(db, folder, "seed")
        audits.submit(db, TINY)
        work(db, folder, "--once")
        assert audits.recent(db)[0].state == "done"
        synthetic.network(db)
        synthetic.finish(db, synthetic.question(samples=24))
        yield db, address


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[store.Database, str]]:
    with served(tmp_path_factory.mktemp("empty")) as (db, address):
        yield db, address
        assert networks.all(db) == []


def work(db: store.Database, folder: Path, *arguments: str) -> None:
    """Let a real worker do what is asked, in a process of its own."""
    settings = environment(db.url, folder)
    subprocess.run([*WORKER, *arguments], cwd=PROJECT, env=settings, check=True, timeout=170, capture_output=True)


@pytest.fixture
def worker(filled: tuple[store.Database, str], tmp_path: Path) -> Iterator[Callable[[], None]]:
    """worker() starts a real worker over the filled store; it ends with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        settings = environment(filled[0].url, tmp_path)
        with (tmp_path / "worker.log").open("wb") as log:
            started.append(subprocess.Popen(WORKER, cwd=PROJECT, env=settings, stdout=log, stderr=log))

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
