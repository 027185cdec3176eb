"""What a user does, in a real browser: ask, watch, read, click a cell, see the pair; and what must not happen."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from pages.parts import shell
from robustness_core.spec import AuditSpec
from store import audits
from testing.browser import KNOWN_TINY, TINY, settled, shoot

MATRIX = ".st-key-figure_matrix .nsewdrag"
ASK_TINY = "network=mnist-small-pgd2&layers=conv1&layers=logits&S=4&m=2&preset=fast&N=2"


def cell(page: Page, row: float, column: float, size: int) -> None:
    """Click a cell of the distance matrix of `size` rows and columns."""
    drag = page.locator(MATRIX)
    drag.scroll_into_view_if_needed()
    box = drag.bounding_box()
    assert box is not None
    position = {"x": box["width"] * (column + 0.5) / size, "y": box["height"] * (row + 0.5) / size}
    drag.click(position=position, force=True)  # type: ignore[arg-type]


def test_from_start_to_a_pair_on_screen(page: Page, filled, worker) -> None:
    db, address = filled
    worker()
    page.goto(f"{address}/explore?{ASK_TINY}")
    expect(page.get_by_text(re.compile("^32 of 64 pairs are known"))).to_be_visible()
    expect(page.get_by_role("button", name="Start")).to_be_visible()
    page.keyboard.press("Control+Enter")  # at once, wherever the focus is
    expect(page.get_by_text("All 64 pairs are known; nothing needs computing.")).to_be_visible(timeout=90_000)
    by_browser = [audit for audit in audits.recent(db, kind="audit") if audit.requested_by == "browser"]
    (asked,) = [audit for audit in by_browser if len(audit.spec.sample.classes) == 2]  # others ask all classes
    assert asked.spec == TINY.replace(layers=("conv1", "logits"), projections=2)
    expect(page.locator(".st-key-figure_curves .legendtext")).to_have_text(["input", "conv1", "logits"])
    cell(page, 0, 0, 4)
    expect(page.locator("[class*=st-key-pair_pictures] img")).to_have_count(6, timeout=60_000)
    expect(page.get_by_text(re.compile("^Distances are ℓ2 norms"))).to_be_visible()
    assert re.search(r"pair=\d+-\d+", page.evaluate("location.href"))
    says = page.locator("[class*=st-key-pair_pictures]").inner_text()
    assert says.count("says") == 4
    shoot(page, "pair-light-1440")
    # The same address in a fresh profile opens the same pair at once; here in a narrow, dark window.
    again = page.context.browser.new_context(viewport={"width": 390, "height": 900}, color_scheme="dark").new_page()
    again.goto(page.evaluate("location.href"))
    expect(again.locator("[class*=st-key-pair_pictures] img")).to_have_count(6)
    shoot(again, "pair-dark-390")
    again.context.close()


def test_click_on_a_cell_opens_that_pair(page: Page, filled) -> None:
    db, address = filled
    page.goto(f"{address}/explore?network=small-made-up&S=24&layer=fc1")
    page.wait_for_selector(MATRIX)
    settled(page)
    page.wait_for_timeout(500)  # plotly binds its clicks after it has drawn
    cell(page, 3, 7, 24)
    page.wait_for_function("location.search.includes('pair=')")
    left, right = (int(part) for part in re.search(r"pair=(\d+)-(\d+)", page.evaluate("location.href")).groups())
    expect(page.get_by_role("heading", name=f"The pair {left} (3) and {right} (7)")).to_be_visible()
    (asked, *_) = audits.recent(db, kind="pair")
    assert (asked.spec.left[2], asked.spec.right[2]) == (left, right)
    assert asked.spec.series[0].layer == "fc1"
    page.wait_for_function("document.querySelectorAll('.st-key-figure_matrix .shapelayer path').length > 0")
    page.get_by_role("link", name=re.compile("Open in Pairs")).click()
    expect(page.get_by_role("heading", name="Pairs", exact=True)).to_be_visible()
    expect(page.get_by_role("heading", name=f"The pair {left} (3) and {right} (7)")).to_be_visible()
    assert f"pair={left}-{right}" in page.evaluate("location.search")


def test_known_question_is_answered_within_a_second_and_a_slider_within_a_second(page: Page, filled) -> None:
    _, address = filled
    page.goto(f"{address}/explore?{KNOWN_TINY}&bars=loss+at+ε")
    settled(page)
    expect(page.get_by_text("All 48 pairs are known")).to_be_visible()
    page.get_by_role("slider", name="Budget ε").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_text("loss at ε = 2.1 (nats)")).to_be_visible()
    page.wait_for_function("location.search.includes('at=2.1')")


@pytest.mark.parametrize("query", ["network=nothing&layers=x&m=abc&S=-1&at=zzz&pair=1-1", "to=0&from=5"])
def test_wrong_address_still_gives_a_screen(page: Page, filled, query: str) -> None:
    _, address = filled
    page.goto(f"{address}/explore?{query}")
    settled(page)
    expect(page.get_by_role("heading", name="Explore", exact=True)).to_be_visible()
    expect(page.get_by_test_id("stException")).to_have_count(0)


def test_first_visitor_of_a_link_gets_the_whole_dashboard(page: Page, empty) -> None:
    _, address = empty
    page.goto(f"{address}/audits")
    expect(page.get_by_text("Nothing was asked yet.")).to_be_visible()
    expect(page.get_by_role("link", name="Learn")).to_be_visible()
    page.goto(address)
    expect(page.get_by_text(re.compile("enters the bundled networks; start one"))).to_be_visible()


def test_downloads_hold_spec_seed_and_device(page: Page, filled, tmp_path: Path) -> None:
    _, address = filled
    page.goto(f"{address}/explore?{KNOWN_TINY}")
    settled(page)
    with page.expect_download() as waiting:
        page.get_by_role("button", name="JSON", exact=True).click()
    waiting.value.save_as(tmp_path / "x.json")
    document = json.loads((tmp_path / "x.json").read_text())
    assert AuditSpec.from_json(document["settings"]["spec"]).search.layers == ("conv1.pre", "conv1", "logits")
    assert document["settings"]["devices"][0].startswith("cpu")
    with page.expect_download() as waiting:
        page.get_by_role("button", name="CSV", exact=True).click()
    waiting.value.save_as(tmp_path / "x.csv")
    assert (tmp_path / "x.csv").read_text().count("\n") == 1 + (3 + 1) * 81  # three layers and the input, same m
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Report", exact=True).click()
    waiting.value.save_as(tmp_path / "x.html")
    report = (tmp_path / "x.html").read_text()
    assert "mnist-small-pgd2" in report
    assert shell.parts() not in report  # it is a page of its own, not one of the dashboard
