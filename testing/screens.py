"""Screens without a browser, and what a reader sees of them."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import streamlit as st
from streamlit.delta_generator import DeltaGenerator
from streamlit.testing.v1 import AppTest

from store.database import PROJECT


def opened(name: str, secrets: Mapping[str, Any] | None = None, **query: str | list[str]) -> AppTest:
    """A screen at an address: opened("explore", network="x", layers=["a", "b"])."""
    screen = AppTest.from_file(str(PROJECT / "app.py"), default_timeout=60)
    screen.secrets.update(secrets or {})
    for key, value in query.items():
        screen.query_params[key] = value
    if name != "home":
        screen.switch_page(f"pages/{name}.py")
    return screen.run()


def words(screen: AppTest) -> str:
    """All text of a screen that a reader sees, one string."""
    kinds = ("title", "subheader", "markdown", "caption", "info", "error", "success", "warning", "text")
    elements: list[Any] = [element for kind in kinds for element in screen.get(kind)]
    return "\n".join(str(element.value) for element in elements)


def labels(screen: AppTest) -> list[str]:
    """What stands on the buttons."""
    return [button.label for button in screen.button]


def downloads(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Label -> content, text or bytes, of every download that a screen offers from now on.

    It is made in another thread, as streamlit does when the button is pressed: there is no session then.
    """
    found: dict[str, Any] = {}
    offered = DeltaGenerator.download_button

    def spy(self: Any, label: str, data: Any, *arguments: Any, **options: Any) -> bool:
        with ThreadPoolExecutor(1) as elsewhere:
            found[label] = elsewhere.submit(data).result()
        return offered(self, label, data, *arguments, **options)

    monkeypatch.setattr(DeltaGenerator, "download_button", spy)
    monkeypatch.setattr("streamlit.download_button", lambda *a, **o: spy(st._main, *a, **o))
    return found
