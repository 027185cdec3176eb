"""The page that every address answers with holds the product's style and scripts, whatever the browser kept of it."""

from __future__ import annotations

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from starlette.applications import Starlette
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.routing import Route

from pages.parts import filters, shell
from store.database import PROJECT

PAGE = "<html><head></head><body><div id='root'></div></body></html>"
BROWSER = {"accept": "text/html,application/xhtml+xml", "accept_encoding": "gzip"}


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    text: str


def ask(path: str, method: str = "GET", **headers: str) -> Answer:
    """What a server that has the middleware answers; names of headers with _ for -."""

    def page(request) -> HTMLResponse:
        known = request.headers.get("if-none-match") == '"old"'
        return HTMLResponse("" if known else PAGE, 304 if known else 200, {"etag": '"old"', "set-cookie": "a=1"})

    def missing(_) -> HTMLResponse:
        return HTMLResponse(PAGE, 404)

    def file(_) -> PlainTextResponse:
        return PlainTextResponse("</body>", headers={"etag": '"file"'})

    def report(_) -> HTMLResponse:
        return HTMLResponse(PAGE, headers={"content-disposition": 'attachment; filename="report.html"'})

    routes = [
        Route("/", page, methods=["GET", "POST"]),
        Route("/missing", missing),
        Route("/file", file),
        Route("/report", report),
        Route("/explore", page),
        Route("/explorer/{rest}", page),
    ]
    server = Starlette(routes=routes, middleware=shell.MIDDLEWARE)
    sent = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": sent}
    told = []

    async def receive() -> dict:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message) -> None:
        told.append(message)

    with ThreadPoolExecutor(1) as elsewhere:  # the browser tests keep a loop running in this thread
        elsewhere.submit(lambda: asyncio.run(server(scope, receive, send))).result()
    start, *rest = told
    body = b"".join(message.get("body", b"") for message in rest)
    heads = {name.decode(): value.decode() for name, value in start["headers"]}
    return Answer(start["status"], heads, body.decode())


def test_the_parts_come_before_the_end_of_the_body_once_each() -> None:
    answer = ask("/", **BROWSER)
    assert answer.text == PAGE.replace("</body>", f"{shell.parts()}</body>")
    assert int(answer.headers["content-length"]) == len(answer.text.encode())
    for name in shell.SCRIPTS:
        text = (shell.ASSETS / f"{name}.js").read_text("utf-8").replace("SCREENS", " ".join(filters.SCREENS))
        assert answer.text.count(text) == 1
    assert answer.text.count("</script>") == len(shell.SCRIPTS)


def test_a_page_that_the_browser_kept_is_sent_anew() -> None:
    answer = ask("/", **BROWSER, if_none_match='"old"')
    assert answer.status == 200
    assert "etag" not in answer.headers
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["set-cookie"] == "a=1"


def test_everything_else_is_left_as_it_is() -> None:
    assert ask("/file", **BROWSER).text == "</body>"
    assert ask("/file", **BROWSER).headers["etag"] == '"file"'
    assert ask("/", "POST", **BROWSER).text == PAGE
    assert ask("/", accept="*/*").text == PAGE
    assert ask("/report", **BROWSER).text == PAGE
    assert ask("/missing", **BROWSER).status == 404


def test_an_address_of_no_screen_leads_to_home_which_says_so() -> None:
    assert ask("/explore", **BROWSER).status == 200
    answer = ask("/explorer/a b", **BROWSER)
    assert (answer.status, answer.headers["location"]) == (307, "/?missing=explorer%2Fa+b")
    assert ask("/explorer/x", accept="*/*").status == 200


def test_the_browser_knows_every_screen_by_its_name() -> None:
    named = re.search(r'const screens = "(.*)"\.split', shell.parts())
    assert named
    assert named[1].split(" ") == list(filters.SCREENS)
    app = (PROJECT / "app.py").read_text("utf-8")
    assert set(re.findall(r'PAGES / "(\w+)\.py"', app)) == set(filters.SCREENS)


def test_every_asset_is_in_the_page_and_none_ends_its_element_early() -> None:
    names = {file.name for file in shell.ASSETS.iterdir() if file.suffix in {".js", ".css"}}
    assert names == {"style.css", *(f"{name}.js" for name in shell.SCRIPTS)}
    for name in names:
        assert not re.search(r"</(script|style|body)", (shell.ASSETS / name).read_text("utf-8"), re.IGNORECASE)
