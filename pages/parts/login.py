"""Who may see the screens: everybody, unless [auth] of .streamlit/secrets.toml sets up a login (OpenID Connect)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st
from streamlit.errors import Error

from pages.parts.screen import escape


def require() -> None:
    """Where a login is set up the screen ends here for everybody who may not go on, else says who is logged in."""
    if not _is_on():
        return
    if not st.user.get("is_logged_in"):
        st.title("Strata", anchor=False)
        st.markdown("Log in to go on.")
        for provider in _providers():
            st.button(f"Log in with {provider}" if provider else "Log in", on_click=_ask, args=(provider,))
        st.stop()
    if not may_enter(st.user.to_dict(), st.secrets.get("strata", {}).get("users")):
        st.error(f"{escape(user())} may not use this installation. Ask the person who runs it.")
        st.button("Log out", on_click=st.logout)
        st.stop()
    with st.container(horizontal=True, horizontal_alignment="right", vertical_alignment="center"):
        st.text(user(), width="content")
        st.button("Log out", on_click=st.logout, type="tertiary")


def user() -> str:
    """The e-mail address of who is logged in, else their name or number at the provider; empty without a login."""
    if not _is_on() or not st.user.get("is_logged_in"):
        return ""
    return str(next((st.user[claim] for claim in ("email", "name", "sub") if st.user.get(claim)), "somebody"))


def may_enter(claims: Mapping[str, Any], listed: Sequence[str] | None) -> bool:
    """Whether these claims of a provider belong to somebody who is listed; None lets everybody in.

    `listed`: e-mail addresses, or @example.org for all of a domain. An address that the provider has not verified
    is nobody's.
    """
    if listed is None:
        return True
    address = str(claims.get("email") or "").lower()
    verified = claims.get("email_verified", True) in (True, "true")
    return verified and any(
        address == one.lower() or (one.startswith("@") and address.endswith(one.lower())) for one in listed
    )


def _is_on() -> bool:
    return "is_logged_in" in st.user  # streamlit gives this attribute exactly where [auth] is set up


def _providers() -> list[str | None]:
    """The names of the sections [auth.NAME], or None for the one provider of [auth] itself."""
    named = [name for name, value in st.secrets["auth"].items() if isinstance(value, Mapping) and "client_id" in value]
    return [*named] or [None]


def _ask(provider: str | None) -> None:
    try:
        st.login(provider)
    except Error as error:
        st.error(escape(str(error)))
