"""Screens without a browser, and what a reader sees of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
