"""Times of the screens: first paint and interactions in a real browser, over a store with 50 audits and a million
distances.

    python -m benchmarks.screens [--distances 1000000] [--port 8790]

Prints one line a figure: what was measured, the time, the bound. First paint (the browser's own first contentful paint)
and drawing are warm: the median of five visits after a first one, in a browser that keeps the program, as a reader's
does. An interaction is timed as the browser sees it, drawing included, and on the server: from the message that the
browser sends until the last byte of the answer. A relay between the two takes that time, since a browser that draws
takes in late what has long arrived. Other work on the machine shows in the load average that is printed first.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import re
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

import store
from robustness_core import datasets
from robustness_core.spec import sample_indices
from store import audits, networks
from testing import synthetic
from testing.browser import dashboard, launch

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
        settings = {**os.environ, "STRATA_DATABASE": url, "STRATA_WORKER": "none"}
        with dashboard(settings, Path(folder), port=args.port) as (_, process), sync_playwright() as playwright:
            browser = launch(playwright)
            measure(browser, Relay(args.port))
            megabytes = memory(process)
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
    keep_collisions(db)
    print(f"audits: {len(audits.recent(db, 1000))}")
    db.close()
    return made


def keep_collisions(db: store.Database) -> None:
    """A collision at every layer for all pairs of the question that Explore asks by default."""
    spec = synthetic.question()
    network = networks.by_name(db, spec.network)
    assert network is not None
    labels = datasets.load(spec.sample.dataset, spec.sample.split).labels
    left, right = (
        sample_indices(labels, label, spec.sample.size, spec.sample.seed).tolist() for label in spec.sample.classes
    )
    for first, second in itertools.product(left, right):
        synthetic.keep_collisions(db, spec, network, first, second)


class Relay:
    """Passes all bytes between browser and server, and notes when those of the session's websocket pass by."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.asked: list[float] = []  # when the browser sent something
        self.answered: list[float] = []  # when the server did
        loop = asyncio.new_event_loop()
        threading.Thread(target=loop.run_forever, daemon=True).start()
        start = asyncio.start_server(self._connected, "127.0.0.1", 0)
        server = asyncio.run_coroutine_threadsafe(start, loop).result(10)
        self.address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, to = await asyncio.open_connection("127.0.0.1", self._port)
        first = await reader.read(65536)
        to.write(first)
        session = first.startswith(b"GET /_stcore/stream")
        await asyncio.gather(
            self._pass(reader, to, self.asked if session else []),
            self._pass(there, writer, self.answered if session else []),
        )

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, moments: list[float]) -> None:
        try:
            while data := await reader.read(65536):
                if len(data) > 16:  # less is a ping
                    moments.append(time.perf_counter())
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        writer.close()

    def answer(self, since: float) -> float:
        """Seconds from the browser's first message after `since` to the last byte before it asks something else."""
        asked = [moment for moment in self.asked if moment > since]
        until = asked[1] if len(asked) > 1 else float("inf")
        return max(moment for moment in self.answered if asked[0] < moment < until) - asked[0]


def measure(browser: Browser, relay: Relay) -> None:
    address = relay.address
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

    def opened(path: str, sign: str) -> None:
        page.goto(f"{address}/{path}")
        page.wait_for_selector(sign)
        page.wait_for_timeout(3000)

    def slide(page: Page) -> None:
        page.get_by_role("slider", name=re.compile("Budget|Weak|Amplification")).focus()
        page.keyboard.press("ArrowRight")

    def press(name: str) -> Callable[[Page], None]:
        return lambda page: page.get_by_role("button", name=name).click()

    moved = "[...document.querySelectorAll('.ytitle')].some(one => one.textContent.includes('ε = 2.1'))"
    gone = "![...document.querySelectorAll('.legendtext')].some(one => one.textContent === 'input')"
    matrix, picture = ".st-key-figure_matrix .nsewdrag", "[data-testid=stImage]"
    opened("explore?network=small-made-up&bars=loss+at+ε", matrix)
    timed(page, relay, "Explore: slider of the budget", slide, moved)
    timed(
        page,
        relay,
        "Explore: hide the input",
        lambda page: page.get_by_text("Input", exact=True).click(),
        gone,
    )
    timed(page, relay, "Explore: click on a cell of 20 x 20", click_cell, PAIR_OPEN)
    timed(page, relay, "Explore: the next pair", press("Farther"), PAIR_OPEN)
    opened(f"explore?network={BIG}&S={LARGE}", matrix)
    timed(page, relay, "Explore: click on a cell of 100 x 100", click_cell, PAIR_OPEN)
    opened("pairs?network=small-made-up", picture)
    timed(page, relay, "Pairs: the next pair at every layer", press("Farther"), PAIR_OPEN)
    timed(page, relay, "Pairs: amplify the differences", slide, "true")
    opened("compare?networks=small-made-up&networks=second-made-up&bars=loss+at+ε", ".st-key-figure_depth .legendtext")
    timed(page, relay, "Compare: slider of the budget", slide, moved)
    opened("learn", ".st-key-figure_levels .plot-container")
    timed(page, relay, "Learn: slider of the weak features", slide, "location.search.includes('weak=5')")
    page.context.close()


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


def timed(page: Page, relay: Relay, what: str, act: Callable[[Page], None], until: str) -> None:
    """Report how long `act` takes until the browser shows it, and how long the server is at work on it."""
    began = time.perf_counter()
    act(page)
    page.wait_for_function(until)
    seen = time.perf_counter() - began
    page.wait_for_timeout(1500)  # the script may still be at work below what was waited for
    report(what, seen, 1.0)
    report("  on the server", relay.answer(began), 0.3)


def memory(pid: int) -> float:
    """Resident megabytes of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    return int(found.group(1)) / 1024 if found else float("nan")


def report(what: str, seconds: float, bound: float | None) -> None:
    print(f"{what:<72}{seconds:8.2f} s" + ("" if bound is None else f"     (bound {bound:g} s)"), flush=True)


if __name__ == "__main__":
    main()
