"""Filters that stay while a reader goes from screen to screen: the network, the images, the method."""

from __future__ import annotations

from contextlib import suppress

import streamlit as st
from streamlit.errors import StreamlitAPIException
from streamlit.runtime.scriptrunner import get_script_run_ctx

from robustness_core.spec.fields import BUDGETS, FIELDS

# Keys of widgets, by screen. Screens that share a key mean the same by it; each checks what depends on its network.
_FORM = (*(key for name, field in FIELDS.items() if name != "layers" for key in field.keys), "full")
_BUDGETS = (*(key for field in BUDGETS.values() for key in field.keys), "at")
KEPT = {
    "Explore": ("network", "pre", "layers", "layer", "projection", *_FORM, *_BUDGETS),
    "Pairs": ("network", "layer", "projection", *_FORM),
    "Compare": ("networks", *_FORM, *_BUDGETS),
    "Classes": ("network", "classes", "layer", "number", "pairs_alone", *_FORM, *_BUDGETS),
    "Scaling": ("network", "one", "ms", *_FORM, *_BUDGETS),
}
MISSING = "missing"  # names the screen that an address asked for in vain, see `shell`
SCREENS = (
    "home",
    "explore",
    "pairs",
    "compare",
    "classes",
    "scaling",
    "paper",
    "audits",
    "networks",
    "images",
    "learn",
)  # in addresses
PAIR = ("Explore", "Pairs")  # screens that open a pair, which stands in the address alone
# What else an address may name, on one screen or another.
_ELSE = (
    MISSING,
    "pair", "amplification", "single", "input", "whole", "attacks", "attack", "gap",
    "bars", "relative", "minus", "both", "audit", "state", "pairs", "show",
    "figure", "idea", "weak", "mix", "kind", "degrees", "moves", "steps", "gamma", "budget", "points",
    "x1", "x2", "y1", "y2",
)  # fmt: skip
NAMES = frozenset(_ELSE).union(*KEPT.values())


def unknown() -> list[str]:
    """Sentences on what the address names that there is not: a screen, settings."""
    missing = st.query_params.get(MISSING)
    told = [] if missing is None else [f"There is no screen {missing}; this is Home."]
    strange = [name for name in st.query_params if name not in NAMES]
    if strange:
        told.append(f"The address names {', '.join(strange)}, which no screen knows.")
    return told


def keep(screen: str) -> None:
    """Note the filters of this screen; on arrival from another one set them as they stood.

    An address with a query says itself what it shows, but one that names a network alone leaves the other filters.
    Streamlit writes into the address only what its widgets became there, so both are noted, values and words of the
    address. What it still holds of a widget would go before a word of the address that equals the widget's default,
    so that is dropped where the address decides.
    """
    before = st.session_state.get("screen", screen)
    st.session_state["screen"] = screen
    values, address = st.session_state.setdefault("kept", ({}, {}))
    values |= {key: st.session_state[key] for key in KEPT.get(before, ()) if key in st.session_state}
    if before == screen:
        address |= {key: st.query_params.get_all(key) for key in KEPT.get(screen, ())}
        if screen in PAIR:
            address["pair"] = st.query_params.get_all("pair")
        return
    _read_address()
    named = set(st.query_params)
    if not named and screen in PAIR and address.get("pair"):
        st.query_params["pair"] = address["pair"]
    for key in named.union(KEPT.get(screen, ())):
        if key in named or not named <= {"network"}:
            st.session_state.pop(key, None)
        elif key in values:
            st.session_state[key] = values[key]
            with suppress(StreamlitAPIException):  # a widget of the screen before still holds this word
                if address[key]:
                    st.query_params[key] = address[key]


def _read_address() -> None:
    """Read what the address of a link names anew, whole.

    On the way to another screen Streamlit leaves out what a widget of the screen before has for its key, though the
    link names it, and the screens share their keys. It offers no way to say otherwise. See pages/assets/back.js for
    what the browser leaves out.
    """
    context = get_script_run_ctx()
    if context is None:
        return
    with context.session_state.query_params() as query:
        query.populate_from_query_string(context.query_string)
        query.set_initial_query_params_from_current()  # from which widgets take their first value
        query._send_query_param_msg()
