"""All classes at once in a real browser: asked, worked, drawn, and a cell that opens its two classes."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from store import audits
from testing.browser import settled, shoot

MAP = ".st-key-figure_classes_map .nsewdrag"
ASKED = "network=mnist-small-pgd2&classes=3&classes=7&classes=9&S=3&m=10&preset=fast"


def test_from_start_to_two_classes(page: Page, filled, worker) -> None:
    db, address = filled
    worker()
    page.goto(f"{address}/classes?{ASKED}")
    expect(page.get_by_text(re.compile("^Nothing is known of this question yet"))).to_be_visible()
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_text(re.compile("PGD fools the network on"))).to_be_visible(timeout=120_000)
    by_browser = [audit for audit in audits.recent(db, kind="audit") if audit.requested_by == "browser"]
    (asked,) = [audit for audit in by_browser if len(audit.spec.sample.classes) > 2]
    assert (asked.spec.sample.classes, asked.spec.search.sets) == ((3, 7, 9), 3)
    expect(page.get_by_text(re.compile("^From pairs and"))).to_be_visible()
    expect(page.get_by_role("button", name="Cancel")).to_have_count(0)  # until then the figures are drawn anew
    settled(page)
    page.wait_for_timeout(500)  # plotly binds its clicks after it has drawn
    drag = page.locator(MAP)
    drag.scroll_into_view_if_needed()
    box = drag.bounding_box()
    assert box is not None
    drag.click(position={"x": box["width"] * 2.5 / 3, "y": box["height"] * 1.5 / 3}, force=True)
    link = page.get_by_role("link", name=re.compile("Open 7 against 9 in Explore"))
    expect(link).to_be_visible()
    shoot(page, "classes-light-1440")
    link.click()
    page.wait_for_url(re.compile("/explore"))
    settled(page)
    assert "a=7" in page.evaluate("location.search")
    assert "b=9" in page.evaluate("location.search")
    expect(page.get_by_text(re.compile(r"^\d+ of 36 pairs are known")).first).to_be_visible()  # as three classes needed
    expect(page.get_by_test_id("stException")).to_have_count(0)
