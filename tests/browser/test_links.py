"""Links between the screens: a link opens what it names, whatever was looked at before, and asks for nothing."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from playwright.sync_api import Page, expect

import store
from pages.parts import words
from robustness_core import datasets
from robustness_core.spec import EpsilonGrid, sample_indices
from store import audits
from testing import synthetic
from testing.browser import explore, served, settled

NETWORKS = ("first-made-up", "second-made-up", "third-made-up")
# Nothing at its default, and no two of them alike.
ASKED = synthetic.question("second-made-up", 7, ("conv1.pre", "conv1", "fc1")).replace(
    classes=(1, 5), m=(4,), projections=3, seed=3, split="test", method="algorithm1", preset="fast",
    epsilon=EpsilonGrid(0.5, 6, 23),
)  # fmt: skip
SCALED = ASKED.replace(layers=("conv1",), m=(2, 5), projections=2, seed=4, classes=(4, 6))
OTHER = ASKED.replace(
    network="third-made-up", layers=("conv2.pre", "conv2", "fc1"), classes=(8, 2), samples=6, m=(9,),
    projections=2, seed=5, preset="thorough", epsilon=EpsilonGrid(1, 5, 17), left_out=(2, 9), projection_seed=8,
)  # fmt: skip
SEEN = """() => ({
    inputs: [...document.querySelectorAll("[data-testid=stMain] input")].map(
        one => [one.ariaLabel, one.type === "checkbox" ? one.checked : one.value]),
    text: ["h1, h2, h3", "[data-testid=stAlert]", "[data-testid=stCaptionContainer]", "[data-baseweb=tag]"].flatMap(
        kind => [...document.querySelectorAll(kind)].map(one => one.innerText)),
})"""


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[store.Database, str]]:
    """Three networks of which two audits are done, and a pair kept at every layer; no worker."""
    with served(tmp_path_factory.mktemp("links")) as (db, address):
        available = {name: synthetic.network(db, name) for name in NETWORKS}
        synthetic.finish(db, SCALED)
        synthetic.finish(db, OTHER)
        synthetic.finish(db, ASKED)
        layers = tuple(layer.name for layer in synthetic.SMALL)
        synthetic.keep_collisions(db, ASKED.replace(layers=layers), available[ASKED.network], *PAIR)
        yield db, address


def _first_images() -> tuple[int, int]:
    labels = datasets.load(ASKED.sample.dataset, ASKED.sample.split).labels
    left, right = (
        int(sample_indices(labels, label, ASKED.sample.size, ASKED.sample.seed)[0]) for label in ASKED.sample.classes
    )
    return left, right


PAIR = _first_images()


def seen(page: Page) -> dict[str, object]:
    """What the screen shows, and the address without regard to order."""
    settled(page)
    place = urlsplit(page.url)
    said = sorted((key, re.sub(r"^(\d+)\.0$", r"\1", word)) for key, word in parse_qsl(place.query))
    return {"path": place.path, "address": said, **page.evaluate(SEEN)}


def shows_the_same(page: Page, address: str) -> None:
    """Assert that the page shows what a new window shows at an address, once both have come to rest, and then stays."""
    context = page.context.browser.new_context(viewport={"width": 1440, "height": 1000})  # type: ignore[union-attr]
    fresh = context.new_page()
    fresh.goto(address)
    end = time.monotonic() + 20
    while seen(page) != seen(fresh) and time.monotonic() < end:  # parts of a screen are loaded one by one
        page.wait_for_timeout(300)
    page.wait_for_timeout(600)
    assert seen(page) == seen(fresh), address
    context.close()


def walk(page: Page, screen: str) -> None:
    """Go to a screen by the navigation."""
    page.get_by_test_id("stMain").evaluate("one => one.scrollTo(0, 0)")
    page.get_by_role("link", name=screen, exact=True).first.click()
    page.wait_for_function(
        "name => document.querySelector('h1')?.innerText === name", arg=screen.replace("Home", "Strata")
    )
    settled(page)


def tick(page: Page, key: str, row: int) -> None:
    """Tick a row of a table."""
    before = page.url
    page.locator(f".st-key-{key} canvas").first.click(position={"x": 16, "y": 52 + 35 * row}, force=True)
    page.wait_for_function("before => location.href !== before", arg=before)
    settled(page)


def follow(page: Page, number: int) -> str:
    """Click the `number`th link between screens and wait for the screen it leads to; returns the address it names."""
    link = page.get_by_test_id("stPageLink-NavLink").nth(number)
    target: str = link.evaluate("one => one.href")
    link.click()
    page.wait_for_function("path => location.pathname === path", arg=urlsplit(target).path)
    return target


# Of the screens with links, how many links stand on it, and the table whose rows have links of their own.
SCREENS = {"Home": (1 + 3 + 3 + 1, None), "Audits": (1, "audits"), "Networks": (1, "network_table")}


@pytest.mark.parametrize(
    ("screen", "row"), [("Home", 0), ("Audits", 0), ("Audits", 2), ("Networks", 0), ("Networks", 1)]
)
def test_link_shows_what_its_address_shows_in_a_new_window(page: Page, made_up, screen: str, row: int) -> None:
    """Every link of a screen that was reached from another question, in which nothing is at its default either."""
    db, address = made_up
    asked = len(audits.recent(db, 100))
    count, table = SCREENS[screen]
    for number in range(count):
        page.goto(f"{address}/{explore(OTHER, layer='fc1', projection='2')}")
        settled(page)
        walk(page, screen)
        if table is not None:
            tick(page, table, row)
        expect(page.get_by_test_id("stPageLink-NavLink")).to_have_count(count)
        target = follow(page, number)
        named = dict(parse_qsl(urlsplit(target).query))
        if named.keys() == {"network"}:  # it leaves the other filters; layers are those of its network
            target = f"{address}/{explore(OTHER.replace(**named), layer='fc1', projection='2')}"
            if named["network"] != OTHER.network:
                target = re.sub("layers=[^&]*&", "", target)
        if named:
            shows_the_same(page, target)
    assert len(audits.recent(db, 100)) == asked


def test_pair_of_explore_is_opened_at_every_layer(page: Page, made_up) -> None:
    db, address = made_up
    asked = len(audits.recent(db, 100))
    pair = f"{PAIR[0]}-{PAIR[1]}"
    page.goto(f"{address}/{explore(ASKED, layer='fc1', projection='2', pair=pair)}")
    settled(page)
    target = follow(page, 0)
    expect(page.get_by_role("heading", name=f"The pair {PAIR[0]} (1) and {PAIR[1]} (5)")).to_be_visible()
    expect(page.locator("[class*=st-key-pair_pictures] img")).to_have_count(6 * 4)
    expect(page.get_by_role("combobox", name="Network")).to_have_value(ASKED.network)
    shows_the_same(page, target)
    assert dict(parse_qsl(urlsplit(page.url).query)) == {
        "network": ASKED.network, "a": "1", "b": "5", "S": "7", "N": "3", "seed": "3", "m": "4", "split": "test",
        "method": "algorithm1", "preset": "fast", "layer": "fc1", "projection": "2", "pair": pair,
    }  # fmt: skip
    walk(page, "Explore")
    shows_the_same(page, f"{address}/{explore(ASKED, layer='fc1', projection='2', pair=pair)}")
    assert len(audits.recent(db, 100)) == asked


def test_pairs_without_a_known_distance_lead_to_the_same_question(page: Page, made_up) -> None:
    db, address = made_up
    asked = len(audits.recent(db, 100))
    unknown = ASKED.replace(seed=6, layers=("conv2.pre",))
    page.goto(f"{address}/{explore(OTHER, layer='fc1', projection='2')}")
    settled(page)
    page.goto(
        f"{address}/pairs?{urlencode(words.address_of_pair(unknown, 'conv2.pre', 3, PAIR)).replace('pair=', 'x=')}"
    )
    expect(page.get_by_text("No distance at conv2.pre is known yet")).to_be_visible()
    target = follow(page, 0)
    shows_the_same(page, target)
    layers = [value for key, value in parse_qsl(urlsplit(page.url).query) if key == "layers"]
    assert layers == ["conv1", "conv2.pre", "conv2", "fc1", "logits"]
    assert len(audits.recent(db, 100)) == asked


def test_filters_stay_whole_on_a_tour_of_all_screens(page: Page, made_up) -> None:
    db, address = made_up
    asked = len(audits.recent(db, 100))
    start = f"{address}/{explore(ASKED, layer='fc1', projection='2', at='3.5', pair=f'{PAIR[0]}-{PAIR[1]}')}"
    page.goto(start)
    settled(page)
    for screen in ("Pairs", "Compare", "Scaling", "Audits", "Networks", "Images", "Learn", "Home"):
        walk(page, screen)
    walk(page, "Explore")
    shows_the_same(page, start)
    assert len(audits.recent(db, 100)) == asked


def test_an_address_of_no_screen_says_so_until_another_is_chosen(page: Page, made_up) -> None:
    page.goto(f"{made_up[1]}/explore?layr=fc1")
    expect(page.get_by_text("The address names layr, which no screen knows.")).to_be_visible()
    page.goto(f"{made_up[1]}/explorer?layer=fc1")
    expect(page.get_by_text("There is no screen explorer; this is Home.")).to_be_visible()
    for screen in ("Learn", "Home"):
        walk(page, screen)
    expect(page.get_by_test_id("stAlert")).to_have_count(0)
