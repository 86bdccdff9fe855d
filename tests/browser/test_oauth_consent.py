"""An application is let in by a member in Chromium, on a running server, and its token opens every door of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs, urlsplit

import httpx
from playwright.sync_api import Browser
from websockets.sync.client import connect

from apps.oauth.models import Application
from tests import factories
from tests.apps.oauth.clients import Client, make_service, make_site
from tests.browser.conftest import SCREENSHOTS, open_page, session_of
from tests.browser.test_admin_pages import inspect, look

PICTURES = SCREENSHOTS / "oauth"


class Back(BaseHTTPRequestHandler):
    """A program on its user's device, to which the browser comes back."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<link rel=icon href=data:,>You can close this window.")

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def listening() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Back)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/back"
    server.shutdown()
    thread.join()
    server.server_close()


def opens_every_door(web: str, token: str) -> bool:
    bearer = {"Authorization": f"Bearer {token}"}
    found = [
        httpx.get(web + path, headers=bearer).status_code == 200 for path in ("/api/v1/conversations", "/v1/models")
    ]
    with connect(f"ws{web.removeprefix('http')}/ws/chat") as socket:
        socket.send(f'{{"type": "auth", "key": "{token}"}}')
        found.append('"ready"' in str(socket.recv(timeout=60)))
    assert len(set(found)) == 1
    return found[0]


def test_a_member_lets_an_application_in(database: None, web: str, request: object) -> None:
    tenant = factories.make_tenant("acme", name="Acme Coffee Machines")
    session = session_of(factories.make_member(tenant=tenant, email="ann@acme.example", role="analyst"))
    application, _ = make_site(
        tenant, name="Desk companion", client_type=Application.CLIENT_PUBLIC, redirect_uris="http://127.0.0.1/back"
    )
    client = Client(application)
    browser: Browser = request.getfixturevalue("browser")  # type: ignore[attr-defined]  # after the rows
    with listening() as back:
        page, watch = open_page(browser, web, session)
        assert not look(page, watch, client.link(redirect_uri=back), "consent", PICTURES)
        page.get_by_role("button", name="Deny").click()
        page.get_by_text("You can close this window").wait_for()
        assert "error=access_denied" in page.url
        page.goto(client.link(redirect_uri=back))
        page.get_by_role("button", name="Allow").click()
        page.get_by_text("You can close this window").wait_for()
        assert not inspect(page, watch, "allowed", PICTURES)
        answer = parse_qs(urlsplit(page.url).query)
    assert answer["state"] == ["x y&z"]
    exchange = {
        "grant_type": "authorization_code",
        "client_id": application.client_id,
        "code": answer["code"][0],
        "redirect_uri": back,
        "code_verifier": client.verifier,
    }
    tokens = httpx.post(f"{web}/oauth/token", data=exchange).raise_for_status().json()
    assert opens_every_door(web, tokens["access_token"])
    form = {"client_id": application.client_id, "token": tokens["access_token"]}
    assert httpx.post(f"{web}/oauth/revoke", data=form).status_code == 200
    page.goto(client.link(client_id="nobody"))
    page.get_by_text("There is nothing here").wait_for()


def test_a_service_needs_nobody(database: None, web: str) -> None:
    application, secret = make_service(factories.make_tenant("acme"))
    found = httpx.get(f"{web}/.well-known/oauth-authorization-server").raise_for_status().json()
    assert found["issuer"] == web
    answer = httpx.post(
        found["token_endpoint"], data={"grant_type": "client_credentials"}, auth=(application.client_id, secret)
    )
    assert opens_every_door(web, answer.raise_for_status().json()["access_token"])
