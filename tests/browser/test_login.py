"""The login against a real OpenID Connect provider of a few lines on this machine: in, asked as somebody, out."""

from __future__ import annotations

import base64
import importlib
import json
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from playwright.sync_api import Browser, expect

import store
from store import audits
from testing import synthetic
from testing.browser import dashboard, environment
from testing.processes import free_port

pytest.importorskip("joserfc", reason="the login needs the extra cluster")
jwk, jwt = importlib.import_module("joserfc.jwk"), importlib.import_module("joserfc.jwt")


class Provider(BaseHTTPRequestHandler):
    """Knows one user, who is never asked for a password. Checks the client's secret; signs with a key of its own."""

    key = jwk.RSAKey.generate_key(2048, {"kid": "1"}, private=True)
    nonces: dict[str, str] = {}  # noqa: RUF012
    refused: list[str] = []  # noqa: RUF012

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        base = f"http://{self.headers['Host']}"
        if address.path == "/.well-known/openid-configuration":
            names = {"authorization_endpoint": "authorize", "token_endpoint": "token", "jwks_uri": "keys"}
            self._json({"issuer": base, **{name: f"{base}/{path}" for name, path in names.items()}})
        elif address.path == "/keys":
            self._json({"keys": [self.key.as_dict(private=False)]})
        else:
            asked = {name: values[0] for name, values in parse_qs(address.query).items()}
            self.nonces["the-code"] = asked["nonce"]
            self.send_response(302)
            answer = urlencode({"code": "the-code", "state": asked["state"]})
            self.send_header("Location", f"{asked['redirect_uri']}?{answer}")
            self.end_headers()

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        given = base64.b64decode(self.headers["Authorization"].removeprefix("Basic ")).decode()
        if given != "strata:the-secret" or form["code"] != ["the-code"]:
            self.refused.append(given)
            self.send_error(401)
            return
        now = int(time.time())
        claims = {
            "iss": f"http://{self.headers['Host']}", "aud": "strata", "sub": "1", "email": "ann@example.org",
            "iat": now, "exp": now + 600, "nonce": self.nonces["the-code"],
        }  # fmt: skip
        token = jwt.encode({"alg": "RS256", "kid": "1"}, claims, self.key)
        self._json({"access_token": "x", "token_type": "Bearer", "id_token": token})

    def _json(self, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def provider() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def guarded(provider: str, tmp_path: Path) -> Iterator[tuple[store.Database, str]]:
    """A dashboard with a login, and its store."""
    db = store.connect(f"sqlite:///{tmp_path / 'strata.db'}")
    synthetic.network(db)
    port = free_port()
    secrets = tmp_path / "secrets.toml"
    secrets.write_text(
        "[auth]\n"
        f'redirect_uri = "http://localhost:{port}/oauth2callback"\n'
        'cookie_secret = "0123456789abcdef0123456789abcdef"\n'
        'client_id = "strata"\nclient_secret = "the-secret"\n'
        f'server_metadata_url = "{provider}/.well-known/openid-configuration"\n'
    )
    with dashboard(environment(db.url, tmp_path), tmp_path, "--secrets.files", str(secrets), port=port):
        yield db, f"http://localhost:{port}"
    db.close()
    said = (tmp_path / "dashboard.log").read_text()
    assert "the-secret" not in said
    assert "0123456789abcdef" not in said


def test_in_asked_as_somebody_and_out(browser: Browser, guarded: tuple[store.Database, str]) -> None:
    db, address = guarded
    page = browser.new_context().new_page()
    page.goto(f"{address}/explore")
    log_in = page.get_by_role("button", name="Log in")
    expect(log_in).to_be_visible()
    assert "small-made-up" not in page.content()
    log_in.click()
    expect(page.get_by_text("ann@example.org")).to_be_visible()
    assert Provider.refused == []
    page.goto(f"{address}/explore")
    start = page.get_by_role("button", name=re.compile("Start"))
    expect(start.first).to_be_enabled()
    start.first.click()
    expect(page.get_by_text("Waiting").first).to_be_visible()
    assert [audit.requested_by for audit in audits.recent(db)] == ["ann@example.org"]
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("button", name="Log in")).to_be_visible()
    page.goto(f"{address}/audits")
    expect(page.get_by_role("button", name="Log in")).to_be_visible()
    page.context.close()
