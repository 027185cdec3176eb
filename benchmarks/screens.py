"""Times of the screens: first paint and interactions in a real browser, over a store with 50 audits and a million
distances.

    python -m benchmarks.screens [--distances 1000000] [--port 8790]

Prints one line a figure: what was measured, the time, the bound. First paint (the browser's own first contentful paint)
and drawing are warm: the median of five visits after a first one, in a browser that keeps the program, as a reader's
does. An interaction is timed as the browser sees it, drawing included, and on the server: from the first message that
the browser sends until the one that says that the script is through. Other work on the machine shows in the load
average that is printed first.
"""

from __future__ import annotations

import argparse
import base64
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

import store
from benchmarks import synthetic
from store import audits

ROOT = Path(__file__).resolve().parent.parent
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
FLAGS += ["--disable-background-networking", "--disable-component-update"]
PAIR_OPEN = "location.search.includes('pair=')"
BIG, LARGE = "made-up-big", 100  # 7 layers x 10,000 pairs a projection


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the screens in a real browser.")
    parser.add_argument("--distances", type=int, default=1_000_000)
    parser.add_argument("--port", type=int, default=8790)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="strata-screens-") as folder:
        url = f"sqlite:///{folder}/strata.db"
        print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        began = time.perf_counter()
        count = fill(url, args.distances)
        report(f"filling the store with {count:,} distances", time.perf_counter() - began, None)
        with dashboard(url, Path(folder), args.port) as process, sync_playwright() as playwright:
            path = shutil.which("chromium")
            if path is None:
                sys.exit("Chromium is missing: install it with `apt-get install chromium`.")
            browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
            measure(browser, f"http://127.0.0.1:{args.port}")
            megabytes = memory(process.pid)
            print(f"{'memory of the web process':<72}{megabytes:8.0f} MB    (bound 400 MB)")
            browser.close()


def fill(url: str, distances: int) -> int:
    """50 audits of three networks; their distances add up to about `distances`. Returns how many there are."""
    db = store.connect(url)
    made = 0
    for name in ("small-made-up", "second-made-up", BIG):
        synthetic.network(db, name)
    made += synthetic.finish(db, synthetic.question(BIG, LARGE)).total
    number = 0
    while made < distances or number < 48:
        number += 1
        samples = 60 if made < distances else 5
        spec = synthetic.question(("small-made-up", "second-made-up")[number % 2], samples).replace(seed=number)
        made += synthetic.finish(db, spec.replace(projections=4 if made < distances else 1), seed=number).total
    made += synthetic.finish(db, synthetic.question()).total
    print(f"audits: {len(audits.recent(db, 1000))}")
    db.close()
    return made


@contextmanager
def dashboard(url: str, folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """The dashboard over the database `url`, without a worker."""
    environment = {**os.environ, "STRATA_DATABASE": url, "STRATA_WORKER": "none"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port)],
            cwd=ROOT, env=environment, stdout=log, stderr=log,
        )  # fmt: skip
        try:
            for _ in range(600):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=5).close()
                    break
                except OSError:
                    time.sleep(0.1)
            yield process
        finally:
            process.terminate()
            process.wait(20)


def measure(browser: Browser, address: str) -> None:
    curves = ".st-key-figure_curves .legendtext"
    paints = {
        "home": ("", "h1"),
        "explore, S = 20": ("explore?network=small-made-up", curves),
        "explore, S = 100": (f"explore?network={BIG}&S={LARGE}", curves),
        "compare": ("compare?networks=small-made-up&networks=second-made-up", ".st-key-figure_depth .legendtext"),
        "pairs": ("pairs?network=small-made-up", "[data-testid=stDataFrame]"),
        "scaling": ("scaling?network=small-made-up&one=conv1&ms=10", ".st-key-figure_by_m .legendtext"),
        "audits": ("audits", "[data-testid=stDataFrame]"),
        "networks": ("networks", "[data-testid=stDataFrame]"),
        "learn": ("learn", ".st-key-figure_levels .plot-container"),
    }
    page = fresh(browser)  # one browser that keeps what it has loaded, as a reader's does
    for name, (path, sign) in paints.items():
        visits = [paint(page, f"{address}/{path}", sign) for _ in range(6)]
        first, drawn = (statistics.median(times) for times in zip(*visits[1:], strict=True))
        report(f"first paint, {name}", first, 2.0)
        report(f"  its figure or table drawn (first visit {visits[0][1]:.2f} s)", drawn, 2.0)
    page.context.close()
    page = fresh(browser)
    page.goto(f"{address}/explore?network=small-made-up")
    page.wait_for_selector(".st-key-figure_matrix .nsewdrag")
    page.wait_for_timeout(2000)
    interactions(page)
    page.goto(f"{address}/explore?network={BIG}&S={LARGE}")
    page.wait_for_selector(".st-key-figure_matrix .nsewdrag")
    page.wait_for_timeout(3000)
    timed(page, "click on a cell of a matrix of 100 x 100", click_cell, PAIR_OPEN)
    page.context.close()


def interactions(page: Page) -> None:
    def slide(page: Page) -> None:
        page.get_by_role("slider", name=re.compile("Budget")).focus()
        page.keyboard.press("ArrowRight")

    def toggle(page: Page) -> None:
        page.get_by_text("Input space", exact=True).click()

    moved = "[...document.querySelectorAll('.ytitle')].some(one => one.textContent.includes('ε = 2.1'))"
    timed(page, "slider of the budget", slide, moved)
    gone = "![...document.querySelectorAll('.legendtext')].some(one => one.textContent === 'input space')"
    timed(page, "hide the input space", toggle, gone)
    timed(page, "click on a cell of a matrix of 20 x 20", click_cell, PAIR_OPEN)


def click_cell(page: Page) -> None:
    drag = page.locator(".st-key-figure_matrix .nsewdrag")
    drag.scroll_into_view_if_needed()
    box = drag.bounding_box()
    assert box is not None
    drag.click(position={"x": box["width"] * 0.505, "y": box["height"] * 0.505}, force=True)


def fresh(browser: Browser) -> Page:
    page = browser.new_context(viewport={"width": 1440, "height": 1000}).new_page()
    page.set_default_timeout(60_000)
    return page


def paint(page: Page, address: str, sign: str) -> tuple[float, float]:
    """Seconds until the browser paints the first text, and until `sign` is on screen."""
    began = time.perf_counter()
    page.goto(address)
    page.wait_for_selector(sign)
    drawn = time.perf_counter() - began
    first = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    return float(first) / 1000, drawn


def timed(page: Page, what: str, act: Callable[[Page], None], until: str) -> None:
    """Report how long `act` takes until the browser shows it, and how long the server is at work on it."""
    sent: list[float] = []
    through: list[float] = []

    def received(frame: dict[str, Any]) -> None:
        message = ForwardMsg.FromString(base64.b64decode(frame["response"]["payloadData"]))
        if message.WhichOneof("type") == "script_finished":
            through.append(frame["timestamp"])

    wire = page.context.new_cdp_session(page)
    wire.on("Network.webSocketFrameSent", lambda frame: sent.append(frame["timestamp"]))
    wire.on("Network.webSocketFrameReceived", received)
    wire.send("Network.enable")
    began = time.perf_counter()
    act(page)
    page.wait_for_function(until)
    seen = time.perf_counter() - began
    page.wait_for_timeout(1500)  # the script may still be at work below what was waited for
    wire.detach()
    report(what, seen, 1.0)
    report("  on the server", min(moment for moment in through if moment > sent[0]) - sent[0], 0.3)


def memory(pid: int) -> float:
    """Resident megabytes of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    return int(found.group(1)) / 1024 if found else float("nan")


def report(what: str, seconds: float, bound: float | None) -> None:
    print(f"{what:<72}{seconds:8.2f} s" + ("" if bound is None else f"     (bound {bound:g} s)"), flush=True)


if __name__ == "__main__":
    main()
