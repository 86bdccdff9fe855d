"""The widget in Chromium, on a web site that is hostile to it by its styles, against the real product."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, Route, WebSocketRoute, expect

from apps.assistants.models import Assistant
from apps.conversations.models import Turn
from apps.inference import gateway
from apps.inference.models import Endpoint
from apps.widget.models import Widget
from tests import factories
from tests.browser.conftest import SCREENSHOTS, Watch
from tests.browser.test_talking import fake, in_thread
from tests.fakes.inference import FakeInference, Reply, embedding
from tests.journeys.conftest import Model

__all__ = ["fake"]

HERE = SCREENSHOTS / "widget"
HOSTILE = """
* { color: red !important; font: italic 40px serif !important; letter-spacing: 9px !important; }
div, button { display: none !important; position: static !important; transform: rotate(30deg) !important; }
"""
WORDS = [f"word{number} " for number in range(40)]


class Site(BaseHTTPRequestHandler):
    """Every path is the page; `page` is what it says, by the server that it belongs to."""

    def do_GET(self) -> None:
        body = self.server.page.encode()  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        for name, value in self.server.headers.items():  # type: ignore[attr-defined]
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def site(web: str) -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    server.headers = {}  # type: ignore[attr-defined]
    server.page = f"""<!doctype html><html lang="en"><title>Shop</title><link rel="icon" href="data:,">
        <style>{HOSTILE}</style><h1>Shop</h1>
        <script src="{web}/widget.js" data-tenant="acme" data-assistant="guide" async></script>"""  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def guide(database: None, fake: FakeInference, site: ThreadingHTTPServer) -> Assistant:
    """An assistant that knows a passage, and lets the site's visitors in."""
    tenant = factories.make_tenant("acme", name="Acme")
    factories.make_endpoint(fake.base_url, **factories.PATIENT)
    endpoint = factories.make_endpoint(fake.base_url, kind=Endpoint.Kind.EMBEDDING, **factories.PATIENT)
    index = factories.make_index(tenant=tenant, endpoint=endpoint)
    collection = factories.make_collection(tenant=tenant, index=index, name="Manuals")
    document = factories.make_document(tenant=tenant, collection=collection, title="EM-200 manual")
    text = "Prime the pump before the first brew."
    factories.make_passage(
        tenant=tenant, document=document, text=text, vector=embedding(text), heading=["First use"], page=3
    )
    gateway.changed()  # or the web process would ask those of the test before
    made = factories.make_assistant(
        tenant=tenant,
        collections=(collection,),
        name="Guide",
        slug="guide",
        visitor_origins=[f"http://localhost:{site.server_port}"],
    )
    Widget.objects.create(tenant=tenant, assistant=made, hosted=True, greeting="What can I do for you?")
    return made


@pytest.fixture
def visitor(guide: Assistant, site: ThreadingHTTPServer, request: pytest.FixtureRequest) -> BrowserContext:
    browser: Browser = request.getfixturevalue("browser")
    return browser.new_context(base_url=f"http://localhost:{site.server_port}", viewport={"width": 1100, "height": 800})


def tab(context: BrowserContext, path: str = "/") -> tuple[Page, Watch]:
    page = context.new_page()
    watch = Watch()
    watch.over(page)
    page.goto(path)
    return page, watch


def open_widget(page: Page) -> None:
    page.get_by_role("button", name=re.compile("Chat|Open chat")).click()
    expect(page.get_by_label("Your question")).to_be_visible()


def ask(page: Page, question: str) -> None:
    page.get_by_label("Your question").fill(question)
    page.get_by_label("Your question").press("Enter")


def answer(page: Page) -> Locator:
    return page.locator(".answer .prose").last


def shot(page: Page, name: str) -> None:
    HERE.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=HERE / f"{name}.png")


def test_ask_and_open_what_the_answer_rests_on(visitor: BrowserContext, fake: FakeInference) -> None:
    page, watch = tab(visitor)
    shot(page, "closed")
    assert page.evaluate("Object.keys(window).filter(name => /parley/i.test(name))") == ["Parley"]
    requests: list[str] = []
    page.on("request", lambda asked: requests.append(asked.url))
    open_widget(page)
    expect(page.get_by_text("What can I do for you?")).to_be_visible()
    shot(page, "open")
    fake.script(Reply(tokens=["Prime ", "the **pump**", " first [1]."], delay=0.1))
    ask(page, "How do I begin?")
    expect(answer(page)).to_contain_text("Prime the pump first")
    expect(page.get_by_role("button", name="Stop answering")).to_have_count(0)
    assert answer(page).locator("strong").inner_text() == "pump"
    answer(page).locator(".chip").click()
    expect(page.locator(".passage")).to_have_text("Prime the pump before the first brew.")
    expect(page.get_by_text("First use")).to_be_visible()
    shot(page, "cited")
    assert all(url.startswith(("http://127.0.0.1", "ws://127.0.0.1", "data:")) for url in requests)
    assert not watch.complaints


def test_a_press_during_which_the_app_comes_opens_it(visitor: BrowserContext, fake: FakeInference) -> None:
    page, _ = tab(visitor)
    middle = page.get_by_role("button", name="Chat").bounding_box()
    assert middle
    held: list[Route] = []
    page.route("**/static/widget/app-*.js", lambda route: held.append(route))  # noqa: PLW0108 - Playwright wants a function
    with page.expect_request("**/static/widget/app-*.js"):
        page.mouse.move(middle["x"] + 28, middle["y"] + 28)
    page.mouse.down()
    while not held:
        page.wait_for_timeout(20)
    held[0].continue_()
    expect(page.get_by_label("Your question")).to_be_visible()
    page.mouse.up()
    expect(page.get_by_label("Your question")).to_be_visible()


def test_stop_keeps_what_was_said(visitor: BrowserContext, fake: FakeInference) -> None:
    page, watch = tab(visitor)
    open_widget(page)
    fake.script(Reply(tokens=WORDS * 5, delay=0.1), Reply(tokens=["Gladly."]))
    ask(page, "Tell me everything")
    expect(answer(page)).to_contain_text("word3")
    page.get_by_role("button", name="Stop answering").click()
    expect(page.locator(".notice", has_text="Stopped.")).to_be_visible()
    expect(answer(page)).to_contain_text("word3")
    ask(page, "And shorter?")
    expect(answer(page)).to_have_text("Gladly.")
    assert not watch.complaints


def test_a_reload_in_mid_answer_loses_no_word(visitor: BrowserContext, fake: FakeInference, guide: Assistant) -> None:
    page, watch = tab(visitor)
    open_widget(page)
    fake.script(Reply(tokens=WORDS, delay=0.15))
    ask(page, "Tell me everything")
    expect(answer(page)).to_contain_text("word4")
    page.reload()
    expect(answer(page)).to_contain_text("word4")  # open by itself, as it was
    expect(answer(page)).to_have_text("".join(WORDS).strip())
    assert in_thread(Turn.objects.for_tenant(guide.tenant).count) == 1
    assert not watch.complaints


def test_two_tabs_show_the_same(visitor: BrowserContext, fake: FakeInference, guide: Assistant) -> None:
    one, watch = tab(visitor)
    open_widget(one)
    fake.script(Reply(tokens=["First."]), Reply(tokens=WORDS[:20], delay=0.1), Reply(tokens=["Third."]))
    ask(one, "One?")
    expect(answer(one)).to_have_text("First.")
    two, watched = tab(visitor)
    open_widget(two)
    expect(answer(two)).to_have_text("First.")
    ask(one, "Two?")
    expect(two.get_by_text("Two?")).to_be_visible()
    expect(answer(two)).to_contain_text("word2")
    expect(answer(two)).to_have_text("".join(WORDS[:20]).strip())
    ask(two, "Three?")
    expect(answer(one)).to_have_text("Third.")
    users = in_thread(lambda: set(Turn.objects.for_tenant(guide.tenant).values_list("end_user_id", flat=True)))
    assert len(users) == 1
    assert not watch.complaints + watched.complaints


def test_without_a_network_the_question_waits_and_the_draft_is_kept(
    visitor: BrowserContext, fake: FakeInference, guide: Assistant
) -> None:
    page, _ = tab(visitor)
    open_widget(page)
    fake.script(Reply(tokens=["First."]), Reply(tokens=["Second."]))
    ask(page, "One?")
    expect(answer(page)).to_have_text("First.")
    visitor.set_offline(True)
    ask(page, "Two?")
    expect(page.get_by_text("You are offline.").first).to_be_visible()
    shot(page, "offline")
    page.get_by_label("Your question").fill("half a thought")
    visitor.set_offline(False)
    expect(answer(page)).to_have_text("Second.")
    page.reload()
    expect(page.get_by_label("Your question")).to_have_value("half a thought")
    assert in_thread(Turn.objects.for_tenant(guide.tenant).count) == 2


def test_a_socket_that_breaks_is_not_noticed(visitor: BrowserContext, fake: FakeInference) -> None:
    sockets: list[WebSocketRoute] = []

    def route(socket: WebSocketRoute) -> None:
        sockets.append(socket)
        socket.connect_to_server()

    visitor.route_web_socket("**/ws/chat", route)
    page, watch = tab(visitor)
    open_widget(page)
    fake.script(Reply(tokens=WORDS, delay=0.1, lingers_after=10))
    ask(page, "Tell me everything")
    expect(answer(page)).to_contain_text("word5")
    sockets[0].close(code=1011)
    Model(fake.base_url).hurry()
    expect(answer(page)).to_have_text("".join(WORDS).strip())
    assert len(sockets) == 2
    assert not watch.complaints


def test_where_sockets_are_blocked_answers_stream_all_the_same(visitor: BrowserContext, fake: FakeInference) -> None:
    page, watch = tab(visitor)
    page.add_init_script("window.WebSocket = class { constructor() { throw new Error('blocked'); } }")
    page.reload()
    open_widget(page)
    fake.script(Reply(tokens=WORDS[:10], delay=0.1), Reply(tokens=["Second."]))
    ask(page, "One?")
    expect(answer(page)).to_contain_text("word1")
    expect(answer(page)).to_have_text("".join(WORDS[:10]).strip())
    ask(page, "Two?")
    expect(answer(page)).to_have_text("Second.")
    assert [said for said in watch.complaints if "WebSocket connections" in said] == watch.complaints
    assert len(watch.complaints) == 1


def test_a_site_that_is_not_listed_is_told_so_in_a_line_each(
    visitor: BrowserContext, site: ThreadingHTTPServer
) -> None:
    page, watch = tab(visitor, f"http://127.0.0.1:{site.server_port}/")
    page.get_by_role("button", name=re.compile("Chat|Open chat")).click()
    expect(page.get_by_text("not available on this page").first).to_be_visible()
    shot(page, "refused")
    ours = [said for said in watch.complaints if "Parley:" in said]
    assert len(ours) == 1
    assert f"lets no visitors of http://127.0.0.1:{site.server_port} in to acme/guide" in ours[0]


def test_the_page_speaks_with_it(visitor: BrowserContext, fake: FakeInference) -> None:
    page, watch = tab(visitor)
    fake.script(Reply(tokens=["Gladly."]))
    page.evaluate("""() => {
        window.heard = [];
        Parley.on("answer", ({ text }) => heard.push(text));
        Parley.ask("From the page?");
    }""")
    expect(answer(page)).to_have_text("Gladly.")
    page.wait_for_function("heard.length === 1")
    assert page.evaluate("heard") == ["Gladly."]
    page.evaluate("Parley.close()")
    expect(page.get_by_label("Your question")).to_be_hidden()
    assert not watch.complaints


def test_the_hosted_page(visitor: BrowserContext, web: str, fake: FakeInference) -> None:
    page, watch = tab(visitor, f"{web}/chat/acme/guide/")
    fake.script(Reply(tokens=["Gladly."]))
    ask(page, "By itself?")
    expect(answer(page)).to_have_text("Gladly.")
    expect(page.locator("nav, aside").get_by_text("By itself?").first).to_be_visible()
    shot(page, "hosted")
    page.reload()
    expect(answer(page)).to_have_text("Gladly.")
    assert not watch.complaints
