"""What was removed last can be brought back with one press."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from pages.parts import screen
from store import StoreError
from store.database import Database

Restore = Callable[[Database, int], object]


def offer(title: str, sentence: str, restore: Restore, what: int) -> None:
    """Offer on the screen `title` to call `restore` with the id `what`; a callback, after something was removed."""
    st.session_state["removed"] = (title, sentence, restore, what)


def show(db: Database, title: str) -> None:
    """What was removed on this screen, with Undo, until something else is removed."""
    on, sentence, restore, what = st.session_state.get("removed", ("", "", None, 0))
    if on == title:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(screen.escape(sentence))
            st.button("Undo", on_click=_undo, args=(db, restore, what))


def _undo(db: Database, restore: Restore, what: int) -> None:
    try:
        restore(db, what)
    except StoreError as error:
        st.toast(screen.escape(str(error)))
    st.session_state.pop("removed", None)
