"""Every screen as a reader sees it: wide and narrow, light and dark, with the keyboard; screenshots in artefacts/."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Error, FloatRect, Locator, Page, expect

from store import audits, networks
from testing import synthetic
from testing.browser import KNOWN_TINY, settled, shoot

SCREENS = {
    "home": "",
    "explore": f"explore?{KNOWN_TINY}&layer=logits",
    "pairs": "pairs?network=mnist-small-pgd2&S=4&m=2&preset=fast&layer=logits",
    "compare": "compare?networks=mnist-small-pgd2&networks=small-made-up&S=24",
    "classes": "classes?network=mnist-small-pgd2&S=4&m=2",
    "scaling": "scaling?network=small-made-up&one=conv2&ms=10&S=24",
    "paper": "paper?figure=Figure+4",
    "audits": "audits?audit=1",
    "networks": "networks?show=mnist-small-pgd2",
    "learn": "learn?idea=Conflicts&budget=0.4",
}


def open_whole(page: Page, address: str) -> None:
    page.goto(address)
    settled(page)
    expect(page.get_by_test_id("stException")).to_have_count(0)
    expect(page.get_by_test_id("stSkeleton")).to_have_count(0)
    page.wait_for_function("[...document.querySelectorAll('[data-testid=stPlotlyChart]')]"
                           ".every(one => one.querySelector('.plot-container'))")  # fmt: skip


@pytest.mark.parametrize("name", SCREENS)
def test_screen_in_both_themes_and_widths(page: Page, filled, name: str) -> None:
    """Also: no request leaves the machine, images have alternative text, fields have labels."""
    _, address = filled
    seen: set[str] = set()
    page.context.on("request", lambda request: seen.add(request.url))
    page.on("websocket", lambda socket: seen.add(socket.url))
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        page.set_viewport_size({"width": 1440, "height": 1000})
        open_whole(page, f"{address}/{SCREENS[name]}")
        background = page.evaluate("getComputedStyle(document.querySelector('.stApp')).backgroundColor")
        assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(14, 17, 23)"}[theme]
        shoot(page, f"{name}-{theme}-1440")
        page.set_viewport_size({"width": 390, "height": 1000})
        page.wait_for_function("document.querySelector('[data-testid=stMain]').clientWidth <= 390")
        shoot(page, f"{name}-{theme}-390")
        overflow = page.evaluate(
            "(() => { const main = document.querySelector('[data-testid=stMain]');"
            " return main.scrollWidth - main.clientWidth; })()"
        )
        assert overflow <= 0, f"{name} is {overflow} pixels too wide at 390"
    nameless = page.evaluate(
        "[...document.querySelectorAll('[data-testid=stMain] img')].filter(one => !one.alt).length"
        " + [...document.querySelectorAll('[data-testid=stMain] input:not([type=file])')]"
        ".filter(one => !one.labels?.length && !one.ariaLabel && !one.getAttribute('aria-labelledby')).length"
    )
    assert nameless == 0
    assert {urlsplit(url).hostname for url in seen if urlsplit(url).scheme not in ("data", "blob")} == {"127.0.0.1"}
    assert len(seen) > 20


def cut(page: Page, which: str) -> list[str]:
    """The text of all elements that are wider than what is shown of them; KaTeX counts a slant of 2 pixels."""
    return page.evaluate(
        "which => [...document.querySelectorAll(which)].filter(one => one.scrollWidth > one.clientWidth + 3)"
        ".map(one => one.textContent)", which,
    )  # fmt: skip


def test_chips_tables_and_formulas_are_whole(page: Page, filled) -> None:
    _, address = filled
    page.set_viewport_size({"width": 720, "height": 1000})  # as in a window of 1440 pixels that is enlarged twice
    open_whole(page, f"{address}/{SCREENS['compare']}")
    assert page.get_by_test_id("stMultiSelect").get_by_text("mnist-small-pgd2").count() == 1
    assert cut(page, "[data-testid=stMultiSelect] span") == []
    page.set_viewport_size({"width": 1440, "height": 1000})
    open_whole(page, f"{address}/{SCREENS['compare']}")
    assert page.get_by_test_id("stTable").count() == 2
    assert cut(page, "[data-testid=stTable], [data-testid=stTable] td") == []
    page.set_viewport_size({"width": 390, "height": 1000})
    for idea in ("Features", "Distance", "Search", "Conflicts"):
        open_whole(page, f"{address}/learn?idea={idea}")
        expect(page.locator(".katex-display").first).to_be_visible()
        assert (
            cut(page, "[data-testid=stMain] .katex-display, [data-testid=stMain] [data-testid=stMarkdownContainer]")
            == []
        )


NOWHERE = "?network=nothing&networks=nothing&layers=x&layer=x&one=x&ms=x&m=abc&S=-1&pair=1-1&idea=x&audit=x&show=x"


@pytest.mark.parametrize("name", SCREENS)
def test_screen_of_an_empty_store_and_of_a_wrong_address(page: Page, filled, empty, name: str) -> None:
    path = SCREENS[name].split("?")[0]
    for address in (f"{empty[1]}/{path}", f"{filled[1]}/{path}{NOWHERE}"):
        page.goto(address)
        settled(page)
        expect(page.get_by_test_id("stException")).to_have_count(0)
        words = page.get_by_test_id("stMain").inner_text().replace(page.locator("h1").inner_text(), "")
        assert len(words) > 20, f"{address} explains nothing"


def test_every_screen_while_an_audit_runs(page: Page, filled) -> None:
    db, address = filled
    asked = synthetic.finish(db, synthetic.question(samples=6).replace(seed=5), share=0.3)
    try:
        for path in SCREENS.values():
            page.goto(f"{address}/{path}")
            settled(page)
            expect(page.get_by_test_id("stException")).to_have_count(0)
        page.goto(f"{address}/explore?network=small-made-up&S=6&seed=5")
        expect(page.get_by_role("button", name="Cancel")).to_be_visible()
        expect(page.locator(".st-key-figure_curves .legendtext").nth(1)).to_contain_text("% known")
        shoot(page, "explore-running-light-1440")
    finally:
        audits.cancel(db, asked.id)


def test_keyboard_alone_opens_a_pair(page: Page, filled) -> None:
    """The table of closest pairs is the keyboard's way to what a click on the matrix does."""
    _, address = filled
    page.goto(f"{address}/explore?{KNOWN_TINY}")
    settled(page)
    table = page.locator(".st-key-closest canvas").first
    table.scroll_into_view_if_needed()
    table.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Shift+Space")
    page.wait_for_function("location.search.includes('pair=')")
    expect(page.get_by_role("heading", name=re.compile("^The pair "))).to_be_visible()


def test_running_audit_is_followed_and_a_quiet_screen_only_looked_after(page: Page, filled) -> None:
    db, address = filled
    frames: list[int] = []
    drawn: list[int] = []
    page.on("websocket", lambda socket: socket.on("framesent", lambda _: frames.append(1)))
    page.on("websocket", lambda socket: socket.on("framereceived", lambda text: drawn.append(len(text))))
    page.goto(f"{address}/explore?network=small-made-up&S=24")
    settled(page)
    frames.clear()
    drawn.clear()
    page.wait_for_timeout(2500)
    assert len(frames) <= 4  # a look every 1.5 s whether something has changed elsewhere; a busy machine bunches them
    assert sum(drawn) < 10_000  # and nothing is drawn for it
    network = networks.by_name(db, "small-made-up")
    assert network is not None
    asked = audits.submit(db, synthetic.question(samples=5))
    try:
        page.reload()
        expect(page.get_by_role("button", name="Cancel")).to_be_visible()
        frames.clear()
        page.wait_for_timeout(2500)
        assert len(frames) <= 8
        for _ in range(40):  # a busy machine polls late
            if len(frames) < 2:
                page.wait_for_timeout(250)
        assert len(frames) >= 2
        page.get_by_role("button", name="Cancel").click()
        expect(page.get_by_role("button", name="Cancel")).to_have_count(0)
        assert audits.get(db, asked.id).state == "cancelled"
    finally:
        if audits.get(db, asked.id).active:
            audits.cancel(db, asked.id)


def test_upload_of_rubbish_is_refused_in_words(page: Page, filled) -> None:
    _, address = filled
    page.goto(f"{address}/networks")
    settled(page)
    page.get_by_text("Add a network of your own").click()
    page.locator("input[type=file]").set_input_files(
        {"name": "<img src=x onerror=alert(1)>.pt", "mimeType": "application/octet-stream", "buffer": b"rubbish" * 99}
    )
    alert = page.get_by_test_id("stAlert").filter(has_text=re.compile("accepted are safetensors"))
    expect(alert).to_be_visible(timeout=60_000)
    assert page.locator("img[src=x]").count() == 0


def test_bar_of_a_figure_saves_svg_and_png(page: Page, filled) -> None:
    _, address = filled
    page.goto(f"{address}/learn?idea=Conflicts")
    figure = page.locator(".st-key-figure_graph .js-plotly-plot")
    expect(figure.locator(".main-svg").first).to_be_visible()
    figure.hover()
    for form, first in (("SVG", b"<svg"), ("PNG", b"\x89PNG"), ("SVG", b"<svg")):
        with page.expect_download() as waiting:
            figure.get_by_role("button", name=f"Save the figure as {form}").click()
        assert waiting.value.suggested_filename == f"strata-conflicts.{form.lower()}"
        assert Path(waiting.value.path()).read_bytes().startswith(first)


def plane_of(page: Page, address: str) -> tuple[Locator, FloatRect]:
    """The plane from -2 to 2 of Learn's second idea, ready for the pointer, and its box on the page."""
    page.goto(f"{address}/learn?idea=Distance")
    plane = page.locator(".st-key-figure_meeting .nsewdrag")
    expect(plane).to_be_visible()
    settled(page)
    page.wait_for_timeout(500)  # plotly binds its clicks after it has drawn
    box = plane.bounding_box()
    assert box is not None
    return plane, box


def test_click_on_the_plane_moves_the_chosen_point(page: Page, filled) -> None:
    plane, box = plane_of(page, filled[1])
    plane.click(position={"x": box["width"] * 0.75, "y": box["height"] * 0.75}, force=True)
    expect(page.get_by_role("slider", name=re.compile("^x, across"))).to_have_value("1")
    expect(page.get_by_role("slider", name=re.compile("^x, up"))).to_have_value("-1")


def test_points_of_the_plane_can_be_dragged(page: Page, filled) -> None:
    """Whichever point is pressed moves, the other stays, and a press beside both drags nothing."""
    _, box = plane_of(page, filled[1])

    def at(x: float, y: float) -> tuple[float, float]:
        return box["x"] + box["width"] * (x + 2) / 4, box["y"] + box["height"] * (2 - y) / 4

    for start, end in (((0.9, 0.6), (1.2, -1.0)), ((-1.5, 1.5), (1.5, 1.5))):  # x′; nothing is at the second start
        page.mouse.move(*at(*start))
        page.mouse.down()
        page.mouse.move(*at(*end), steps=8)
        page.mouse.move(*at(*end))
        page.mouse.up()
        expect(page.get_by_role("slider", name=re.compile("^x′, across"))).to_have_value("1.2")
        expect(page.get_by_role("slider", name=re.compile("^x′, up"))).to_have_value("-1")
        expect(page.get_by_role("slider", name=re.compile("^x, across"))).to_have_value("-0.9")


def test_back_button_returns_to_the_network_before(page: Page, filled) -> None:
    _, address = filled
    page.goto(f"{address}/explore?{KNOWN_TINY}")
    settled(page)
    chosen = page.get_by_role("combobox", name="Network")
    chosen.click()
    page.get_by_role("option", name="small-made-up").click()
    page.wait_for_function("location.search.includes('small-made-up')")
    settled(page)
    page.go_back()
    page.wait_for_function("location.search.includes('mnist-small-pgd2')")
    expect(page.get_by_text("All 48 pairs are known")).to_be_visible()


def test_back_and_forward_between_screens_bring_each_back_as_it_was(page: Page, filled) -> None:
    """Explore, Compare and Learn, back to the first and forward again; one step a screen."""
    _, address = filled
    page.goto(f"{address}/explore?{KNOWN_TINY}")
    settled(page)
    left = {}
    for here, there in (("explore", "Compare"), ("compare", "Learn")):
        page.wait_for_function("name => location.pathname === '/' + name && location.search.includes('S=4')", arg=here)
        left[here] = set(urlsplit(page.evaluate("location.href")).query.split("&"))
        page.get_by_role("link", name=there, exact=True).first.click()
        page.wait_for_function("name => location.pathname === '/' + name.toLowerCase()", arg=there)
        settled(page)
    for step, name in ((page.go_back, "compare"), (page.go_back, "explore"), (page.go_forward, "compare")):
        with page.expect_event("load"):  # the address is loaded anew; before that it stands there over the old screen
            step()
        page.wait_for_function("name => location.pathname === '/' + name && location.search.includes('S=4')", arg=name)
        settled(page)
        assert set(urlsplit(page.evaluate("location.href")).query.split("&")) == left[name]
        if name == "explore":
            expect(page.get_by_text("All 48 pairs are known")).to_be_visible()
        else:
            expect(page.get_by_role("spinbutton", name="Sample S")).to_have_value("4")


@pytest.mark.parametrize("pause", [50, 400])
def test_back_twice_at_once_leads_two_screens_back(page: Page, filled, pause: int) -> None:
    """The second Back comes while the screen that the first one named is only loading."""
    _, address = filled
    page.goto(f"{address}/explore?{KNOWN_TINY}")
    for here, there in (("explore", "Compare"), ("compare", "Learn")):
        page.wait_for_function("name => location.pathname === '/' + name && location.search.includes('S=4')", arg=here)
        settled(page)
        page.get_by_role("link", name=there, exact=True).first.click()
    page.wait_for_function("location.pathname === '/learn'")
    settled(page)
    browser = page.context.new_cdp_session(page)  # presses Back as a user does, whatever the page is doing
    history = browser.send("Page.getNavigationHistory")
    for steps in (1, 2):
        entry = history["entries"][history["currentIndex"] - steps]["id"]
        pressed = False
        while not pressed:
            with suppress(Error):  # the moment at which one document gives way to the next takes no commands
                browser.send("Page.navigateToHistoryEntry", {"entryId": entry})
                pressed = True
        page.wait_for_timeout(pause)
    page.wait_for_function("location.pathname === '/explore' && location.search.includes('mnist-small-pgd2')")
    expect(page.get_by_text("All 48 pairs are known")).to_be_visible()


def test_a_click_while_a_screen_still_loads_can_be_taken_back(page: Page, filled) -> None:
    """The navigation stands before the screen does; whoever uses it then comes back to what the address named."""
    _, address = filled
    page.goto(f"{address}/explore?{KNOWN_TINY}")
    page.get_by_role("link", name="Compare", exact=True).first.click()
    page.wait_for_function("location.pathname === '/compare'")
    settled(page)
    page.go_back()
    page.wait_for_function("location.pathname === '/explore' && location.search.includes('mnist-small-pgd2')")
    expect(page.get_by_text("All 48 pairs are known")).to_be_visible()


def test_filters_stay_from_screen_to_screen(page: Page, filled) -> None:
    """The screen and its address: S = 4, m = 2 and preset fast of one network, whichever way a reader goes."""
    _, address = filled
    page.goto(f"{address}/explore?{KNOWN_TINY}")
    settled(page)
    for name in ("Pairs", "Scaling", "Learn", "Compare", "Explore"):
        page.get_by_role("link", name=name, exact=True).first.click()
        page.wait_for_function("name => location.pathname === '/' + name.toLowerCase()", arg=name)
        settled(page)
        if name in ("Pairs", "Scaling", "Explore"):
            expect(page.get_by_role("combobox", name="Network")).to_have_value("mnist-small-pgd2")
            page.wait_for_function("location.search.includes('mnist-small-pgd2')")
        if name != "Learn":
            expect(page.get_by_role("spinbutton", name="Sample S")).to_have_value("4")
            page.wait_for_function("location.search.includes('S=4')")
    expect(page.get_by_text("All 48 pairs are known")).to_be_visible()


# Streamlit keeps a figure that is replaced for as long as the keyboard is in it, and hides it after that.
CURVES = ".st-key-figure_curves:not([data-retained]) .js-plotly-plot"


def drawn(page: Page) -> tuple[list[str], list[float], list[float]] | None:
    """Of the curves: the lines that the reader has hidden, and the ranges of both axes; None before there is one."""
    found = page.evaluate(
        "one => { const { _fullData, _fullLayout } = document.querySelector(one) ?? {}; return _fullLayout?.xaxis && ["
        "[...new Set(_fullData.filter(line => line.visible === 'legendonly').map(line => line.name))],"
        "_fullLayout.xaxis.range, _fullLayout.yaxis.range]; }",
        CURVES,
    )
    return tuple(found) if found else None


def check_drawn(page: Page, wanted: tuple[list[str], list[float], list[float]] | None) -> None:
    """That the curves come to be drawn so: a figure is given to plotly more than once."""
    settled(page)
    page.wait_for_timeout(500)
    for _ in range(40):
        if drawn(page) == wanted:
            return
        page.wait_for_timeout(250)
    assert drawn(page) == wanted


def test_what_was_hidden_and_zoomed_stays_while_the_question_is_the_same(page: Page, filled) -> None:
    page.goto(f"{filled[1]}/explore?{KNOWN_TINY}")
    figure = page.locator(CURVES)
    expect(figure.locator(".legendtoggle")).to_have_count(4)
    settled(page)
    page.wait_for_timeout(500)  # plotly binds its clicks after it has drawn
    whole = drawn(page)
    assert whole is not None
    figure.locator(".legendtoggle").nth(2).click()
    page.wait_for_function("one => document.querySelector(one)?._fullData?.[1].visible === 'legendonly'", arg=CURVES)
    box = figure.locator(".nsewdrag").first.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 100, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 260, box["y"] + 250, steps=5)
    page.mouse.up()
    page.wait_for_function("one => document.querySelector(one)?._fullLayout?.xaxis?.range[0] > 0", arg=CURVES)
    chosen = drawn(page)
    assert chosen is not None
    assert chosen[0] == ["conv1"]
    budget = (
        "([one, x]) => document.querySelector(one)?._fullLayout?.shapes.some(shape => Math.abs(shape.x0 - x) < 1e-9)"
    )
    page.get_by_role("slider", name=re.compile("^Budget ε")).focus()
    for key, x in (("ArrowRight", 2.1), ("ArrowLeft", 2.0)):
        page.keyboard.press(key)
        page.wait_for_function(budget, arg=[CURVES, x])
        check_drawn(page, chosen)
    figure.locator(".nsewdrag").first.dblclick()
    page.wait_for_function("one => document.querySelector(one)?._fullLayout?.xaxis?.range[0] === 0", arg=CURVES)
    page.keyboard.press("ArrowRight")
    page.wait_for_function(budget, arg=[CURVES, 2.1])
    check_drawn(page, (["conv1"], *whole[1:]))
    page.get_by_role("spinbutton", name="Sample S").fill("3")
    page.keyboard.press("Tab")
    page.wait_for_function("location.search.includes('S=3')")
    settled(page)
    expect(figure.locator(".legendtoggle")).to_have_count(4)
    check_drawn(page, whole)


def test_legend_is_used_by_the_keyboard_alone(page: Page, filled) -> None:
    """Tab reaches every entry, Enter and Space toggle it, and a figure drawn anew leaves the keyboard where it was."""
    page.goto(f"{filled[1]}/explore?{KNOWN_TINY}")
    figure = page.locator(CURVES)
    expect(figure.get_by_role("button", name="input", exact=True)).to_be_attached()
    settled(page)
    page.get_by_role("slider", name=re.compile("^Budget ε")).focus()
    for name in ("input", "conv1.pre", "conv1"):
        page.keyboard.press("Tab")
        expect(figure.get_by_role("button", name=name, exact=True)).to_be_focused()
    entry = figure.get_by_role("button", name="conv1", exact=True)
    assert entry.evaluate("one => getComputedStyle(one).strokeWidth") == "2px"
    for key, pressed in (("Enter", "false"), ("Enter", "true"), ("Space", "false")):
        page.keyboard.press(key)
        expect(entry).to_have_attribute("aria-pressed", pressed)
        now = drawn(page)
        assert now is not None
        assert now[0] == ([] if pressed == "true" else ["conv1"])
        expect(entry).to_be_focused()
    old = figure.element_handle()
    page.get_by_role("slider", name=re.compile("^Budget ε")).focus()
    before = page.url
    page.keyboard.press("ArrowRight")
    page.wait_for_function("before => location.href !== before", arg=before)  # the slider is done with the keyboard
    # As a rule before the new figure comes, and until it is taken: a figure that is hidden takes no focus.
    page.wait_for_function(
        "one => { const entry = [...document.querySelectorAll(`${one} .legendtoggle`)]"
        ".find(toggle => toggle.ariaLabel === 'conv1'); entry?.focus(); return entry === document.activeElement; }",
        arg=CURVES,
    )
    page.wait_for_function("one => !one.checkVisibility()", arg=old)
    expect(entry).to_be_focused()
    expect(entry).to_have_attribute("aria-pressed", "false")
    expect(page.locator(".st-key-figure_curves").filter(visible=True)).to_have_count(1)


@pytest.mark.parametrize("width", [1440, 390])
def test_bar_of_a_figure_leaves_its_legend_free(page: Page, filled, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 1000})
    page.goto(f"{filled[1]}/explore?{KNOWN_TINY}&attacks=true")
    figure = page.locator(CURVES)
    expect(figure.locator(".legendtoggle")).to_have_count(6)
    settled(page)
    page.wait_for_timeout(500)
    figure.hover()
    free = figure.locator(".legendtoggle").evaluate_all(
        "all => all.map(one => { const { left, right, top, bottom } = one.getBoundingClientRect();"
        " return [left + 2, (left + right) / 2, right - 2].every("
        "x => document.elementFromPoint(x, (top + bottom) / 2) === one); })"
    )
    assert free == [True] * 6
    figure.locator(".legendtoggle").nth(1).click()
    page.wait_for_function("one => document.querySelector(one)._fullData[0].visible === 'legendonly'", arg=CURVES)
    figure.get_by_role("button", name="Zoom in").click()
    page.wait_for_function("one => document.querySelector(one)?._fullLayout?.xaxis?.range[0] > 0", arg=CURVES)


def light(colour: tuple[float, ...]) -> float:
    """WCAG's relative luminance of red, green and blue up to 255."""
    red, green, blue = (
        value / 255 / 12.92 if value / 255 <= 0.04045 else ((value / 255 + 0.055) / 1.055) ** 2.4 for value in colour
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast_with_white(colour: str) -> float:
    """WCAG's ratio of an `rgb(…)` colour of the browser, its opacity left out, on white."""
    return 1.05 / (light(tuple(float(value) for value in re.findall(r"[\d.]+", colour)[:3])) + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_saved_figure_is_fit_for_a_paper(page: Page, filled, tmp_path: Path, theme: str) -> None:
    """A white background, text and lines that can be seen on it, and a legend that another program does not cut."""
    page.emulate_media(color_scheme=theme)
    page.goto(f"{filled[1]}/explore?{KNOWN_TINY}")
    figure = page.locator(".st-key-figure_curves .js-plotly-plot")
    expect(figure.locator(".main-svg").first).to_be_visible()
    settled(page)
    figure.hover()
    with page.expect_download() as waiting:
        figure.get_by_role("button", name="Save the figure as SVG").click()
    saved = tmp_path / "saved.svg"
    waiting.value.save_as(saved)
    page.goto(saved.as_uri())
    colours = {
        part: page.evaluate(
            f"[...document.querySelectorAll('{part}')].map(one => getComputedStyle(one).{style})"
            ".filter(colour => colour.startsWith('rgb'))"
        )
        for part, style in (("text", "fill"), ("path.js-line", "stroke"), ("svg > rect", "fill"))
    }
    assert colours["svg > rect"][0] == "rgb(255, 255, 255)"
    assert len(colours["text"]) > 10
    assert min(map(contrast_with_white, colours["text"])) >= 4.5
    assert min(map(contrast_with_white, colours["path.js-line"])) >= 3
    cut = page.evaluate(
        "(() => { const end = document.querySelector('.legend').getBoundingClientRect().right;"
        " return [...document.querySelectorAll('.legendtext')].map(one => one.getBoundingClientRect().right)"
        ".filter(right => right > Math.min(end, innerWidth)); })()"
    )
    assert cut == []
    fonts = page.evaluate("[...document.querySelectorAll('text')].map(one => getComputedStyle(one).fontFamily)")
    assert {font.split(",")[0] for font in fonts} == {"Arial"}


def test_row_of_an_audit_and_its_address_name_each_other(page: Page, filled) -> None:
    db, address = filled
    newest = audits.recent(db, 1, kind="audit")[0].id
    page.goto(f"{address}/audits?audit={newest}")
    settled(page)
    ticked = page.locator(".st-key-audits tr[aria-selected=true] td").first
    expect(ticked).to_have_text(str(newest))
    table = page.locator(".st-key-audits canvas").first
    table.click(position={"x": 16, "y": 52}, force=True)  # the box of the first row
    page.wait_for_function("!location.search.includes('audit=')")
    expect(ticked).to_have_count(0)
    settled(page)  # a click while the screen is still drawn would be of the table before
    table.click(position={"x": 16, "y": 52}, force=True)
    page.wait_for_function("name => location.search.includes('audit=' + name)", arg=newest)
    expect(ticked).to_have_text(str(newest))


def test_screens_without_networks_see_them_and_their_audits_arrive(page: Page, empty) -> None:
    db, address = empty
    opened = {name: page.context.new_page() for name in ("", "pairs", "compare", "scaling", "networks")}
    for name, tab in opened.items():
        tab.goto(f"{address}/{name}")
        settled(tab)
        expect(tab.get_by_text(re.compile("no network yet|needs two networks|Nothing is here yet"))).to_be_visible()
    added = [synthetic.network(db, name) for name in ("first-made-up", "second-made-up")]
    try:
        for tab in opened.values():
            expect(tab.get_by_text(re.compile("bundled"))).to_have_count(0)
            expect(tab.get_by_test_id("stException")).to_have_count(0)
        home = opened[""]
        expect(home.get_by_text("No finished audit yet")).to_have_count(2)
        synthetic.finish(db, synthetic.question("first-made-up"))  # as those that come with Strata, a little later
        expect(home.get_by_text("Recent audits")).to_be_visible()
        expect(home.get_by_text("No finished audit yet")).to_have_count(1)
    finally:
        for network in added:
            networks.remove(db, network.id)


def test_menu_of_a_narrow_window_closes_when_a_screen_is_chosen(page: Page, empty) -> None:
    page.set_viewport_size({"width": 390, "height": 900})
    page.goto(empty[1])
    settled(page)
    menu = page.get_by_test_id("stSidebar")
    for name, choose in (("Audits", "click"), ("Learn", "keyboard")):
        page.get_by_role("button", name="Expand sidebar").click()
        link = menu.get_by_role("link", name=name, exact=True)
        expect(link).to_be_in_viewport()
        link.click() if choose == "click" else link.press("Enter")
        expect(page.get_by_role("heading", name=name, exact=True)).to_be_visible()
        expect(menu).not_to_be_in_viewport()
    page.reload()
    settled(page)
    expect(menu).not_to_be_in_viewport()
    expect(page.get_by_role("button", name="Expand sidebar")).to_be_visible()


def test_uploader_states_the_limit_that_holds(page: Page, empty) -> None:
    """Streamlit rounds the limit to whole units, 512 MB to 1 GB."""
    page.goto(f"{empty[1]}/networks")
    expect(page.get_by_test_id("stFileUploaderDropzoneInstructions")).to_have_text("500MB per file")


def contrast(part: Locator) -> float:
    """WCAG's ratio of the text of a part on all that lies behind it, opacities included."""
    text, *behind = part.evaluate("""part => {
        const sheets = [];
        let opacity = 1;
        for (let one = part; one; one = one.parentElement) {
            sheets.push(getComputedStyle(one).backgroundColor);
            opacity *= getComputedStyle(one).opacity;
        }
        return [getComputedStyle(part).color, ...sheets.reverse(), opacity];
    }""")
    opacity = behind.pop()
    ground: tuple[float, ...] = (255, 255, 255)

    def over(colour: str, ground: tuple[float, ...], share: float = 1) -> tuple[float, ...]:
        *channels, alpha = [*(float(value) for value in re.findall(r"[\d.]+", colour)), 1.0][:4]
        return tuple(alpha * share * a + (1 - alpha * share) * b for a, b in zip(channels, ground, strict=True))

    for colour in behind:
        ground = over(colour, ground)
    dim, bright = sorted((light(over(text, ground, opacity)), light(ground)))
    return (bright + 0.05) / (dim + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_that_streamlit_draws_faint_can_be_read(page: Page, filled, theme: str) -> None:
    """At 4.5:1 or more: what is chosen, the keys that press Start, and the card of a network."""
    page.emulate_media(color_scheme=theme)
    for path, part in (
        ("learn", page.get_by_role("radio", name="Features")),
        ("scaling?network=small-made-up&one=conv1", page.get_by_role("button", name="Start").locator("kbd")),
        ("networks?show=mnist-small-pgd2", page.get_by_test_id("stCode").last.locator("code, code span")),
    ):
        page.goto(f"{filled[1]}/{path}")
        settled(page)
        if path.startswith("networks"):
            page.get_by_text("Card", exact=True).click()
        expect(part.first).to_be_visible()
        page.wait_for_timeout(500)  # colours change by and by
        ratios = [contrast(one) for one in part.all()]
        assert min(ratios) >= 4.5, (path, ratios)


def test_no_screen_asks_for_what_is_not_there(page: Page, filled) -> None:
    missed = []
    page.on("response", lambda answer: missed.append(answer.url) if answer.status >= 400 else None)
    for path in SCREENS.values():
        page.goto(f"{filled[1]}/{path}")
        settled(page)
    page.goto(f"{filled[1]}/explore/")
    settled(page)
    expect(page.get_by_role("heading", name="Explore")).to_be_visible()
    assert missed == []
