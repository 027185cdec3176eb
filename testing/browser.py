"""The dashboard in a process of its own, and Chromium before it: for tests in the browser and times of the screens."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlencode

from playwright.sync_api import Browser, Error, Page, Playwright, expect

import store
from pages.parts import words
from robustness_core.spec import AuditSpec
from store.database import PROJECT
from testing.processes import free_port

ARTEFACTS = PROJECT / "artefacts"
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
TINY = AuditSpec.of(
    "mnist-small-pgd2", dataset="mnist-5k", classes=(3, 7), samples=4, layers=("conv1", "conv1.pre", "logits"),
    m=(2,), preset="fast",
)  # fmt: skip
KNOWN_TINY = "network=mnist-small-pgd2&layers=conv1&layers=conv1.pre&layers=logits&S=4&m=2&preset=fast&pre=true"


def launch(playwright: Playwright) -> Browser:
    """The system's Chromium, headless; a RuntimeError says why there is none."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        raise RuntimeError("Chromium is missing: install it with `apt-get install chromium`.")
    try:
        return playwright.chromium.launch(executable_path=path, args=FLAGS)
    except Error as error:
        raise RuntimeError(f"Chromium at {path} does not start: {error.message.splitlines()[0]}") from error


def environment(url: str, folder: Path) -> dict[str, str]:
    """The settings of a process over the database `url`: no worker of its own, one thread, the bundled images alone."""
    return {
        **{name: value for name, value in os.environ.items() if name != "STRATA_DATA"},
        "STRATA_DATABASE": url,
        "STRATA_WORKER": "none",
        "STRATA_CACHE": str(folder / "cache"),
        "OMP_NUM_THREADS": "1",
    }


@contextmanager
def dashboard(
    settings: dict[str, str], folder: Path, *options: str, port: int | None = None
) -> Iterator[tuple[str, int]]:
    """Run the dashboard with environment variables and options of Streamlit; gives its address and process id."""
    port = port or free_port()
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port), *options]
    with (folder / "dashboard.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=PROJECT, env=settings, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=5):
                    break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    said = (folder / "dashboard.log").read_text()[-800:]
                    raise RuntimeError(f"The dashboard did not start: {said}") from None
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}", process.pid
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def served(folder: Path) -> Iterator[tuple[store.Database, str]]:
    """An empty store in a folder, and the address of a dashboard over it that starts no worker."""
    with closing(store.connect(f"sqlite:///{folder / 'strata.db'}")) as db:
        with dashboard(environment(db.url, folder), folder) as (address, _):
            yield db, address


def settled(page: Page) -> None:
    """Wait until the script has run to its end."""
    page.wait_for_selector("h1")
    expect(page.get_by_test_id("stStatusWidget")).to_have_count(0)
    expect(page.locator(".stApp[data-test-script-state=running]")).to_have_count(0)


def explore(spec: AuditSpec, **more: str) -> str:
    """The address, below the dashboard's, at which Explore shows a question."""
    return "explore?" + urlencode({**words.address(spec), **more}, doseq=True)


def shoot(page: Page, name: str) -> None:
    """A screenshot of the whole screen, however long."""
    ARTEFACTS.mkdir(exist_ok=True)
    size = page.viewport_size
    assert size is not None
    height = page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight")
    page.set_viewport_size({"width": size["width"], "height": min(max(height, 600), 6000)})
    page.wait_for_timeout(300)  # figures take the new size
    page.screenshot(path=ARTEFACTS / f"{name}.png", animations="disabled")
    page.set_viewport_size({"width": size["width"], "height": 1000})
