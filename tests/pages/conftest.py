"""A store on disk for the screens, and a way to open a screen without a browser."""

from collections.abc import Callable
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

import store

ROOT = Path(__file__).resolve().parents[2]
Open = Callable[..., AppTest]


@pytest.fixture
def db(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    url = f"sqlite:///{tmp_path / 'strata.db'}"
    monkeypatch.setenv("STRATA_DATABASE", url)
    monkeypatch.setenv("STRATA_WORKER", "none")
    monkeypatch.setenv("STRATA_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("STRATA_DATA", raising=False)
    st.cache_resource.clear()
    st.cache_data.clear()
    database = store.connect(url)
    yield database
    database.close()
    st.cache_resource.clear()


@pytest.fixture
def open_screen(db: store.Database) -> Open:
    """open_screen("explore", network="x", layers=["a", "b"]) opens a screen at an address."""

    def opened(name: str, **query: str | list[str]) -> AppTest:
        screen = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
        for key, value in query.items():
            screen.query_params[key] = value
        if name != "home":
            screen.switch_page(f"pages/{name}.py")
        return screen.run()

    return opened


def words(screen: AppTest) -> str:
    """All text of a screen that a reader sees, one string."""
    kinds = ("title", "subheader", "markdown", "caption", "info", "error", "success", "warning", "text")
    return "\n".join(str(element.value) for kind in kinds for element in screen.get(kind))
