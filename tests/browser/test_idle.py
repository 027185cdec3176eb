"""A tab that nobody touches tells the truth: what other tabs, other users and workers do is seen in it."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

import store
from robustness_core.spec import AuditSpec
from store import audits, networks, supervisor, workers
from testing import synthetic
from testing.browser import dashboard, environment, explore, served, settled
from testing.processes import until


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[store.Database, str]]:
    """A network of which nothing is known, no worker, and the dashboard."""
    with served(tmp_path_factory.mktemp("idle")) as (db, address):
        synthetic.network(db)
        yield db, address


def test_idle_tab_follows_what_is_done_elsewhere(page: Page, quiet) -> None:
    db, address = quiet
    page.goto(f"{address}/explore?S=8")
    expect(page.get_by_text("Nothing is known yet. Start computes 256 pairs")).to_be_visible()
    home = page.context.new_page()
    home.goto(address)
    expect(home.get_by_text("No finished audit yet")).to_be_visible()
    running = synthetic.finish(db, synthetic.question(samples=8), share=0.25)  # another tab started it
    expect(page.get_by_text("64 of 256 pairs ·")).to_be_visible()
    audits.cancel(db, running.id)
    expect(page.get_by_text("64 of 256 pairs are known. Start computes the other 192")).to_be_visible()
    audits.retry(db, running.id)
    expect(page.get_by_text("Waiting: no worker is alive")).to_be_visible()
    audits.cancel(db, running.id)
    synthetic.finish(db, synthetic.question(samples=8), seed=1)
    expect(page.get_by_text("All 256 pairs are known; nothing needs computing.")).to_be_visible()
    expect(home.get_by_text("No finished audit yet")).to_have_count(0)
    synthetic.network(db, "added-elsewhere")
    expect(home.get_by_text("added-elsewhere")).to_be_visible()
    networks.remove(db, networks.by_name(db, "added-elsewhere").id)
    expect(home.get_by_text("added-elsewhere")).to_have_count(0)


def test_a_screen_is_drawn_anew_only_when_something_has_changed(page: Page, quiet) -> None:
    db, address = quiet
    page.goto(f"{address}/explore?S=9")
    settled(page)
    page.evaluate("""() => {
        const noted = () => { window.last = performance.now(); };
        noted();
        new MutationObserver(noted).observe(
            document.querySelector("[data-testid=stMain]"), { childList: true, subtree: true, characterData: true });
    }""")
    page.wait_for_function("performance.now() - window.last > 4000")  # more than two looks
    synthetic.finish(db, synthetic.question(samples=9))
    expect(page.get_by_text("All 324 pairs are known; nothing needs computing.")).to_be_visible()


@pytest.fixture
def attended(tmp_path: Path) -> Iterator[tuple[store.Database, str]]:
    """A dashboard with a worker of its own, and nothing known."""
    db = store.connect(f"sqlite:///{tmp_path / 'strata.db'}")
    with dashboard(environment(db.url, tmp_path) | {"STRATA_WORKER": ""}, tmp_path) as (address, _):
        yield db, address
    supervisor.stop(db)
    until(lambda: not supervisor.lives(db))
    db.close()


def test_a_killed_worker_is_replaced_while_nobody_loads_a_page_and_the_screen_says_so(page: Page, attended) -> None:
    db, address = attended
    until(lambda: networks.by_name(db, "mnist-small-pgd2") is not None)  # its worker has come before any page
    slow = AuditSpec.of(
        "mnist-small-pgd2",
        dataset="mnist-5k",
        classes=(1, 5),
        samples=20,
        layers=("fc1", "logits"),
        m=(10,),
        preset="thorough",
    )
    asked = audits.submit(db, slow)
    page.goto(f"{address}/{explore(slow)}")
    expect(page.get_by_text(re.compile("of 800 pairs ·"))).to_be_visible(timeout=60_000)
    (first,) = workers.alive(db)
    os.kill(first.pid, signal.SIGKILL)
    expect(page.get_by_text(re.compile("A worker ended unexpectedly"))).to_be_visible()
    until(lambda: getattr(audits.get(db, asked.id).worker, "id", first.id) != first.id)
    expect(page.get_by_text(re.compile("What it had found is kept; another one goes on from there"))).to_be_visible()
    audits.cancel(db, asked.id)
