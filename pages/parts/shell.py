"""The page that every address answers with: Streamlit's own, with this product's style and scripts in it."""

from __future__ import annotations

from pathlib import Path
from typing import Final
from urllib.parse import urlencode

import streamlit as st
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from pages.parts import filters

ASSETS: Final = Path(__file__).parent.parent / "assets"
SCRIPTS: Final = ("server", "back", "legend", "saving", "menu")  # files of pages/assets, each with its reason on top
# A packed answer cannot be read, and one that the browser kept may hold the scripts of an earlier version.
_WITHOUT = (b"accept-encoding", b"if-none-match", b"if-modified-since")


def parts() -> str:
    """The style and the scripts, as they stand in the page."""
    scripts = "".join(f"<script>\n{(ASSETS / f'{name}.js').read_text('utf-8')}</script>\n" for name in SCRIPTS)
    scripts = scripts.replace('"SCREENS"', f'"{" ".join(filters.SCREENS)}"')
    return f"<style>\n{(ASSETS / 'style.css').read_text('utf-8')}</style>\n{scripts}"


async def _with_parts(request: Request, go_on: RequestResponseEndpoint) -> Response:
    """Answer a browser that opens an address with the page and the parts at its end, before Streamlit's code begins.

    A script that a screen brings runs only once that screen is drawn; whoever clicks or goes back before would meet
    Streamlit's ways instead.
    """
    if request.method != "GET" or "text/html" not in request.headers.get("accept", ""):
        return await go_on(request)
    request.scope["headers"] = [header for header in request.scope["headers"] if header[0] not in _WITHOUT]
    answer = await go_on(request)
    page = answer.headers.get("content-type", "").startswith("text/html")
    if not page or "content-disposition" in answer.headers:  # a report to be saved stays as it is
        return answer
    base = "/".join(["", *str(st.get_option("server.baseUrlPath")).strip("/").split("/")]).rstrip("/")
    screen = request.url.path.removeprefix(base).strip("/")
    known = not screen or screen.split("/")[-1] in filters.SCREENS
    if answer.status_code == 200 and not known:  # Home says so; Streamlit would lay a box over it
        return RedirectResponse(f"{base}/?{urlencode({filters.MISSING: screen})}")
    text = b"".join([part async for part in answer.body_iterator]).decode()  # type: ignore[attr-defined]
    whole = text.replace("</body>", f"{parts()}</body>")
    sent = Response(whole, answer.status_code, {"cache-control": "no-cache"}, "text/html")
    sent.raw_headers += [header for header in answer.raw_headers if header[0] == b"set-cookie"]
    return sent


MIDDLEWARE: Final = [Middleware(BaseHTTPMiddleware, dispatch=_with_parts)]
