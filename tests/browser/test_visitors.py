"""The page of docs/visitors.md in Chromium: of another origin than Parley, let in where that is listed alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Error, Page, expect

from apps.assistants.models import Assistant
from apps.inference import gateway
from tests import factories
from tests.browser.conftest import open_page
from tests.browser.test_talking import fake
from tests.environment import ROOT
from tests.fakes.inference import FakeInference, Reply
from tests.pages.blocks import blocks_of

__all__ = ["fake"]

ANSWER = ["The seal ", "P-40 ", "fits."]
TALK = """
async ([url, token]) => {
    const api = (path, options = {}) => fetch(`${url}/api/v1/${path}`, {
        ...options,
        headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json", ...options.headers },
    });
    const post = (path, body, headers) => api(path, { method: "POST", body: JSON.stringify(body), headers });
    const { id } = await (await post("conversations", { assistant: "guide" })).json();
    const streamed = await post(`conversations/${id}/turns`, { text: "Which?" }, { Accept: "text/event-stream" });
    const events = await streamed.text();
    const renamed = await api(`conversations/${id}`, { method: "PATCH", body: '{"title": "Seals"}' });
    const renewed = await post("visitors/renew", {});
    const refused = await api("usage");
    const deleted = await api(`conversations/${id}`, { method: "DELETE" });
    return [events, (await renamed.json()).title, (await renewed.json()).token, (await refused.json()).code,
            deleted.status, refused.headers.get("X-Request-Id")];
}
"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def site(web: str, tmp_path: Path) -> Iterator[int]:
    """The port of a web site with the page of the documentation."""
    (script,) = [block for block in blocks_of(ROOT / "docs" / "visitors.md") if block.language == "js"]
    (tmp_path / "page.mjs").write_text(script.text.replace("http://127.0.0.1:8000", web))
    (tmp_path / "visitor.mjs").write_text((ROOT / "docs/examples/visitor.mjs").read_text())
    empty = '<!doctype html><link rel="icon" href="data:,">'
    (tmp_path / "empty.html").write_text(empty)
    (tmp_path / "index.html").write_text(empty + '<p id="answer"></p><script type="module" src="page.mjs"></script>')
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def guide(database: None, fake: FakeInference, site: int) -> Assistant:
    tenant = factories.make_tenant("demo")
    factories.make_endpoint(fake.base_url, **factories.PATIENT)
    gateway.changed()  # or the web process would ask those of the test before
    fake.script(Reply(tokens=ANSWER))
    return factories.make_assistant(tenant=tenant, slug="guide", visitor_origins=[f"http://localhost:{site}"])


def test_the_page_of_the_documentation(web: str, site: int, guide: Assistant, browser: Browser) -> None:
    page, watch = open_page(browser, f"http://localhost:{site}")
    page.goto("/")
    expect(page.locator("#answer")).to_have_text("".join(ANSWER))
    assert not watch.complaints


def test_the_same_page_elsewhere_lets_nobody_in(web: str, site: int, guide: Assistant, browser: Browser) -> None:
    page, watch = open_page(browser, f"http://127.0.0.1:{site}")
    with page.expect_event("pageerror"):
        page.goto("/")
    expect(page.locator("#answer")).to_be_empty()
    assert any("/api/v1/visitors/demo/guide" in complaint for complaint in watch.complaints)


def let_in(page: Page, web: str) -> str:
    told = page.evaluate(
        "async url => (await fetch(url, {method: 'POST'})).json()", f"{web}/api/v1/visitors/demo/guide"
    )
    return str(told["token"])


def test_a_page_talks_by_rest_and_sse(web: str, site: int, guide: Assistant, browser: Browser) -> None:
    page, watch = open_page(browser, f"http://localhost:{site}")
    page.goto("/empty.html")
    token = let_in(page, web)
    events, title, renewed, refused, deleted, request_id = page.evaluate(TALK, [web, token])
    assert "event: turn.finished" in events
    assert (title, refused, deleted) == ("Seals", "not_permitted", 204)
    assert renewed.startswith("parleyv_")
    assert renewed != token
    assert request_id
    assert [complaint for complaint in watch.complaints if "403" not in complaint] == []


def test_a_token_that_was_carried_off_is_worth_nothing(web: str, site: int, guide: Assistant, browser: Browser) -> None:
    page, _ = open_page(browser, f"http://localhost:{site}")
    page.goto("/empty.html")
    token = let_in(page, web)
    thief, watch = open_page(browser, f"http://127.0.0.1:{site}")
    thief.goto("/empty.html")
    with pytest.raises(Error, match="Failed to fetch"):
        thief.evaluate(TALK, [web, token])
    assert any("CORS" in complaint for complaint in watch.complaints)
    told = thief.evaluate(
        """([url, token]) => new Promise((resolve) => {
            const socket = new WebSocket(url.replace("http", "ws") + "/ws/chat");
            socket.onopen = () => socket.send(JSON.stringify({ type: "auth", key: token }));
            socket.onclose = ({ code }) => resolve(code);
        })""",
        [web, token],
    )
    assert told == 4401
