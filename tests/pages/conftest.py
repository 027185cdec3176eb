"""A store on disk for the screens, and a way to open a screen without a browser."""

from collections.abc import Callable
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

import store
from testing.screens import opened

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
    """`testing.screens.opened` over the store `db`."""
    return opened
