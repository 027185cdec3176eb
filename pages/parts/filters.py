"""Filters that stay while a reader goes from screen to screen: the network, the images, the method."""

from __future__ import annotations

from contextlib import suppress

import streamlit as st
from streamlit.errors import StreamlitAPIException

# Keys of widgets, by screen. Screens that share a key mean the same by it; each checks what depends on its network.
_FORM = ("dataset", "a", "b", "S", "m", "N", "full", "method", "preset", "seed", "split")
_BUDGETS = ("from", "to", "budgets", "at")
KEPT = {
    "Explore": ("network", "pre", "layers", "layer", *_FORM, *_BUDGETS),
    "Pairs": ("network", "layer", *_FORM),
    "Compare": ("networks", *_FORM, *_BUDGETS),
    "Scaling": ("network", "one", "ms", *_FORM, *_BUDGETS),
}
PAIR = ("Explore", "Pairs")  # screens that open a pair, which stands in the address alone


def keep(screen: str) -> None:
    """Note the filters of this screen; on arrival from another one at a bare address, set them as they stood.

    An address with a query says itself what it shows. Streamlit forgets the widgets of a screen that is left, and
    writes into the address only what its widgets became there, so both are noted: values and words of the address.
    """
    before = st.session_state.get("screen", screen)
    st.session_state["screen"] = screen
    values, address = st.session_state.setdefault("kept", ({}, {}))
    values |= {key: st.session_state[key] for key in KEPT.get(before, ()) if key in st.session_state}
    if before == screen:
        address |= {key: st.query_params.get_all(key) for key in KEPT.get(screen, ())}
        if screen in PAIR:
            address["pair"] = st.query_params.get_all("pair")
    elif not st.query_params:
        if screen in PAIR and address.get("pair"):
            st.query_params["pair"] = address["pair"]
        for key in KEPT.get(screen, ()):
            if key in values:
                st.session_state[key] = values[key]
                with suppress(StreamlitAPIException):  # a widget of the screen before still holds this word
                    if address[key]:
                        st.query_params[key] = address[key]
