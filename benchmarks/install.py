"""The first five minutes: `make run` in a fresh clone with the package cache as it is, and `make run` once more.

    python -m benchmarks.install [--port 8790]

Prints one line a figure: what was measured, the time or size, the bound. The first page with curves is Explore, with
distances that come with Strata, drawn in a browser that was waiting for it. Other work on the machine shows in the load
average that is printed first.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Error, sync_playwright

from benchmarks.screens import report
from store.database import PROJECT
from testing.browser import launch

CURVE = ".js-plotly-plot .scatterlayer .trace"


def main() -> None:
    parser = argparse.ArgumentParser(description="Time an installation and its first pages.")
    parser.add_argument("--port", type=int, default=8790)
    port = parser.parse_args().port
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory(prefix="strata-install-") as folder, sync_playwright() as playwright:
        clone = Path(folder) / "strata"
        subprocess.run(["git", "clone", "--quiet", PROJECT, clone], check=True)
        browser = launch(playwright)
        began = time.monotonic()
        with running(clone, port) as log:
            shown(browser, f"http://127.0.0.1:{port}/explore", CURVE)
            report("make run in a fresh clone, to the first page with curves", time.monotonic() - began, 90)
        print(next(line for line in log.read_text().splitlines() if line.startswith("strata: Installed in")))
        began = time.monotonic()
        with running(clone, port):
            shown(browser, f"http://127.0.0.1:{port}/", "h1")
            report("make run again, to the first page", time.monotonic() - began, 4)
        browser.close()
        size = int(subprocess.check_output(["du", "-sm", clone / ".venv"], text=True).split()[0])
        print(f"{'.venv on disk, with what Python has compiled':<72}{size:8.0f} MB    (bound 1600 MB)")


@contextmanager
def running(clone: Path, port: int) -> Iterator[Path]:
    """`make run` in a clone; gives its log, and ends it as Ctrl+C does."""
    settings = {**os.environ, "STREAMLIT_SERVER_PORT": str(port)}
    settings = {name: value for name, value in settings.items() if not name.startswith("STRATA_")}
    log = clone / "run.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            ["make", "run"], cwd=clone, env=settings, stdout=file, stderr=file, start_new_session=True
        )
    try:
        yield log
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(60)


def shown(browser: Browser, address: str, selector: str) -> None:
    """Wait until a page shows what the selector names, as somebody who loads it again and again."""
    page = browser.new_page()
    end = time.monotonic() + 600
    while True:
        try:
            page.goto(address)
            page.wait_for_selector(selector, timeout=10_000)
            break
        except Error:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
    page.close()


if __name__ == "__main__":
    main()
