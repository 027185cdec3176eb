"""The login: off by default; where it is set up nothing is seen without it, and what is asked keeps who asked."""

from __future__ import annotations

from typing import Any

import pytest
import streamlit.user_info
from streamlit.testing.v1 import AppTest

from pages.parts import login
from store import audits
from testing import screens, synthetic
from testing.screens import labels, words

AUTH = {
    "redirect_uri": "http://localhost:8501/oauth2callback",
    "cookie_secret": "0123456789abcdef0123456789abcdef",
    "client_id": "strata",
    "client_secret": "secret",
    "server_metadata_url": "http://localhost:1/.well-known/openid-configuration",
}
ANN = {"is_logged_in": True, "email": "ann@example.org", "name": "Ann", "sub": "1"}
SCREENS = ("home", "explore", "pairs", "compare", "scaling", "audits", "networks", "images", "learn")


@pytest.fixture
def claims(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the provider says of the user; to be filled by the test."""
    said: dict[str, Any] = {"is_logged_in": False}
    monkeypatch.setattr(streamlit.user_info, "_get_user_info", lambda: dict(said))
    return said


def opened(name: str, settings: dict[str, Any] | None = None, auth: dict[str, Any] = AUTH) -> AppTest:
    return screens.opened(name, {"auth": auth} | ({} if settings is None else {"strata": settings}))


@pytest.mark.parametrize("name", SCREENS)
def test_without_a_login_no_screen_shows_anything(name, db, claims) -> None:
    synthetic.network(db, "secret-network")
    screen = opened(name)
    assert not screen.exception
    assert labels(screen) == ["Log in"]
    assert words(screen) == "Strata\nLog in to go on."
    assert not screen.selectbox


def test_each_provider_has_its_button(db, claims) -> None:
    shared = {key: AUTH[key] for key in ("redirect_uri", "cookie_secret")}
    own = {key: AUTH[key] for key in ("client_id", "client_secret", "server_metadata_url")}
    screen = opened("home", auth={**shared, "one": own, "two": own})
    assert labels(screen) == ["Log in with one", "Log in with two"]


def test_who_is_logged_in_is_shown_and_kept_with_what_they_ask(db, claims) -> None:
    claims.update(ANN)
    synthetic.network(db)
    screen = opened("explore")
    assert not screen.exception
    assert "ann@example.org" in words(screen)
    assert "Log out" in labels(screen)
    next(button for button in screen.button if button.label == "Start").click().run()
    assert audits.recent(db)[0].requested_by == "ann@example.org"
    screen = opened("audits")
    assert screen.dataframe[0].value["asked by"].tolist() == ["ann@example.org"]


def test_without_a_login_set_up_nobody_is_asked_or_named(db, open_screen) -> None:
    synthetic.network(db)
    synthetic.finish(db, synthetic.question())
    screen = open_screen("audits")
    assert "Log out" not in labels(screen)
    assert "asked by" not in screen.dataframe[0].value


def test_who_is_not_listed_stays_outside(db, claims) -> None:
    claims.update(ANN)
    screen = opened("home", {"users": ["bob@example.org"]})
    assert "may not use this installation" in words(screen)
    assert labels(screen) == ["Log out"]
    assert "Networks" not in words(screen)
    assert "may not use" not in words(opened("home", {"users": ["@example.org"]}))


@pytest.mark.parametrize(
    ("said", "listed", "enters"),
    [
        ({"email": "a@x.org"}, None, True),
        ({"email": "A@x.org"}, ["a@X.org"], True),
        ({"email": "a@x.org"}, ["@x.org"], True),
        ({"email": "a@evilx.org"}, ["@x.org"], False),
        ({"email": "a@x.org"}, ["x.org"], False),
        ({"email": "a@x.org", "email_verified": False}, ["a@x.org"], False),
        ({"email": "a@x.org", "email_verified": True}, ["a@x.org"], True),
        ({"name": "a@x.org"}, ["a@x.org"], False),
        ({"email": "a@x.org"}, [], False),
    ],
)
def test_the_list_of_users(said, listed, enters) -> None:
    assert login.may_enter(said, listed) is enters
