"""Uploading and asking in Chromium: what changes on the page by itself, and what happens when things break."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from django.db import connections
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Browser, Page, WebSocketRoute, expect

from apps.conversations.models import Turn
from apps.inference import gateway
from apps.inference.models import Endpoint
from apps.knowledge.models import Collection, Document
from apps.tenants.models import Tenant
from tests import factories
from tests.browser.conftest import SCREENSHOTS, Watch, open_page, session_of
from tests.browser.test_admin_pages import inspect
from tests.fakes.inference import FakeInference, Reply, embedding
from tests.journeys.conftest import Model

HOSTILE = "<img src=x onerror=\"document.title='owned'\">"
# Each thing that the page says of how it goes, however short it stands there.
LISTEN = """() => {
    const line = document.querySelector("[role=status]");
    window.said = [];
    new MutationObserver(() => window.said.push(line.textContent)).observe(line, { childList: true });
}"""


@pytest.fixture
def fake() -> Iterator[FakeInference]:
    """The scripted model server on a loop of its own: Playwright occupies this thread's."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = FakeInference()
    asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result(60)
    yield server
    asyncio.run_coroutine_threadsafe(server.__aexit__(), loop).result(60)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def acme(database: None, fake: FakeInference) -> Tenant:
    """A tenant whose assistant knows two passages."""
    tenant = factories.make_tenant("acme", name="Acme")
    factories.make_endpoint(fake.base_url, **factories.PATIENT)
    endpoint = factories.make_endpoint(fake.base_url, kind=Endpoint.Kind.EMBEDDING, **factories.PATIENT)
    collection = factories.make_collection(
        tenant=tenant, index=factories.make_index(tenant=tenant, endpoint=endpoint), name="Manuals"
    )
    document = factories.make_document(tenant=tenant, collection=collection, title="EM-200 manual")
    for page, text in enumerate(("Prime the pump before the first brew.", f"Descale monthly. {HOSTILE}"), start=3):
        factories.make_passage(
            tenant=tenant, document=document, text=text, vector=embedding(text), heading=["First use"], page=page
        )
    factories.make_assistant(tenant=tenant, collections=(collection,), name="Guide")
    gateway.changed()  # or the web process would ask those of the test before
    return tenant


@pytest.fixture
def session(acme: Tenant) -> str:
    return session_of(factories.make_member(tenant=acme, email="bob@acme.example"))


def in_thread(work: Any) -> Any:
    """Run database work where Playwright's loop does not forbid it."""

    def run() -> Any:
        try:
            return work()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result(60)


def ask(page: Page, question: str) -> Any:
    """Ask, and return the turn's place on the page."""
    place = page.locator(".p-turn").nth(page.locator(".p-turn").count())
    page.get_by_label("Your question").fill(question)
    page.get_by_label("Your question").press("Enter")
    return place


def open_ask(browser: Browser, web: str, session: str) -> tuple[Page, Watch, list[WebSocketRoute]]:
    """The page that asks, and the sockets that it opens, so that a test can break them."""
    page, watch = open_page(browser, web, session)
    sockets: list[WebSocketRoute] = []

    def route(socket: WebSocketRoute) -> None:
        sockets.append(socket)
        socket.connect_to_server()

    page.route_web_socket("**/ws/chat", route)
    page.goto(reverse("admin:conversations_playground"))
    return page, watch, sockets


def test_answer_streams_with_its_sources_and_ends_with_its_citations(
    web: str, session: str, fake: FakeInference, request: pytest.FixtureRequest
) -> None:
    browser: Browser = request.getfixturevalue("browser")
    page, watch, _ = open_ask(browser, web, session)
    fake.script(Reply(tokens=["Prime ", "the pump", f" [1]. {HOSTILE}", " [9]"], delay=0.2))
    turn = ask(page, f"How? {HOSTILE}")
    expect(turn.locator(".p-found > summary")).to_have_text("1 passage goes to the model")  # neighbours are one
    expect(turn.locator(".p-facts")).to_contain_text("Done after")
    assert turn.locator(".p-text").inner_text() == f"Prime the pump 1. {HOSTILE}"
    assert turn.locator(".p-bubble").inner_text() == f"How? {HOSTILE}"
    turn.locator(".p-text .p-chip").click()
    expect(turn.locator(".p-cited .p-body")).to_be_visible()
    assert turn.locator("img").count() == 0
    assert not inspect(page, watch, "ask-answered", SCREENSHOTS / "people")
    page.get_by_role("link", name="Open its record").click()
    expect(page.locator(".p-answer .p-text")).to_have_text(f"Prime the pump 1. {HOSTILE}")
    assert page.locator("#content img").count() == 0
    assert not inspect(page, watch, "conversation-answered", SCREENSHOTS / "people")


def test_answer_goes_on_after_a_broken_connection(
    web: str, session: str, fake: FakeInference, request: pytest.FixtureRequest
) -> None:
    browser: Browser = request.getfixturevalue("browser")
    page, _, sockets = open_ask(browser, web, session)
    words = [f"word{number} " for number in range(30)]
    fake.script(Reply(tokens=words, delay=0.1, lingers_after=10))
    page.evaluate(LISTEN)
    turn = ask(page, "Tell me everything")
    expect(turn.locator(".p-text")).to_contain_text("word5")
    sockets[0].close(code=1011)
    Model(fake.base_url).hurry()
    expect(turn.locator(".p-facts")).to_contain_text("Done after")
    assert [said for said in page.evaluate("said") if "The connection broke at 1-" in said]
    assert turn.locator(".p-text").inner_text().split() == "".join(words).split()
    assert len(sockets) == 2


def test_stop_keeps_what_was_said_and_the_conversation_goes_on(
    web: str, session: str, fake: FakeInference, request: pytest.FixtureRequest
) -> None:
    browser: Browser = request.getfixturevalue("browser")
    page, watch, _ = open_ask(browser, web, session)
    fake.script(Reply(tokens=["word "] * 200, delay=0.1), Reply(tokens=["Gladly."]))
    stopped = ask(page, "Tell me everything")
    expect(stopped.locator(".p-text")).to_contain_text("word")
    page.get_by_role("button", name="Stop").click()
    expect(stopped.locator(".p-problem")).to_contain_text("What had been written until then is kept.")
    expect(stopped.locator(".p-text")).to_contain_text("word")
    again = ask(page, "And shorter?")
    expect(again.locator(".p-text")).to_have_text("Gladly.")
    assert page.locator("#record").get_attribute("href") is not None
    assert not inspect(page, watch, "ask-stopped", SCREENSHOTS / "people")


def test_a_question_that_was_not_confirmed_is_sent_again_and_asked_once(
    web: str, session: str, acme: Tenant, fake: FakeInference, request: pytest.FixtureRequest
) -> None:
    browser: Browser = request.getfixturevalue("browser")
    page, _ = open_page(browser, web, session)
    sockets: list[WebSocketRoute] = []

    def route(socket: WebSocketRoute) -> None:
        """The first one breaks when the question has arrived and nothing has come back yet."""
        sockets.append(socket)
        server = socket.connect_to_server()
        if len(sockets) == 1:
            server.on_message(lambda _: socket.close(code=1011))

    page.route_web_socket("**/ws/chat", route)
    page.goto(reverse("admin:conversations_playground"))
    fake.script(Reply(tokens=["Prime ", "it."], always=True))
    turn = ask(page, "How?")
    expect(turn.locator(".p-text")).to_have_text("Prime it.")
    assert len(sockets) == 2
    assert in_thread(Turn.objects.for_tenant(acme).count) == 1


def test_failure_is_told_in_words_and_keeps_what_was_said(
    web: str, session: str, fake: FakeInference, request: pytest.FixtureRequest
) -> None:
    browser: Browser = request.getfixturevalue("browser")
    page, watch, _ = open_ask(browser, web, session)
    fake.script(Reply(tokens=["half ", "way ", "there"], cut_after=2, delay=0.1))
    turn = ask(page, "Break")
    expect(turn.locator(".p-problem")).to_contain_text("The answer broke off")
    expect(turn.locator(".p-text")).to_contain_text("half way")
    assert not inspect(page, watch, "ask-failed", SCREENSHOTS / "people")


def test_ended_session_is_told(web: str, session: str, request: pytest.FixtureRequest) -> None:
    browser: Browser = request.getfixturevalue("browser")
    page, _, _ = open_ask(browser, web, session)
    page.context.clear_cookies()
    turn = ask(page, "Anybody there?")
    expect(turn.locator(".p-problem")).to_be_visible()


def test_upload_shows_progress_refusals_and_the_ingestion_as_it_goes(
    web: str, acme: Tenant, session: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = reverse("admin:knowledge_collection_upload", args=[Collection.objects.for_tenant(acme).get().pk])
    browser: Browser = request.getfixturevalue("browser")
    page, watch = open_page(browser, web, session)
    page.goto(url)
    for name, content in {"good.md": b"# Cleaning\n\nWeekly.", "bad.pdf": b"PK\x03\x04 zip", "empty.txt": b""}.items():
        (tmp_path / name).write_bytes(content)
    with ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("manuals/pump.md", "# Pump\n\nClose the valve.")
        archive.writestr("manuals/<b>film</b>.mp4", "frames")
    page.locator("input[type=file]").set_input_files(sorted(tmp_path.iterdir()))
    files = page.locator(".p-files li")
    expect(files.filter(has_text="bad.pdf").locator(".p-failure")).to_contain_text("PDF")
    expect(files.filter(has_text="empty.txt").locator(".p-failure")).to_have_text("The file is empty.")
    expect(files.filter(has_text="Unpacked")).to_contain_text("1 of 2 files taken")
    pump = files.filter(has=page.get_by_role("link", name="pump"))
    expect(pump).to_contain_text("From all.zip")
    expect(pump.locator(".p-status")).to_contain_text("Queued")
    expect(files.filter(has_text="film</b>.mp4").locator(".p-failure")).to_contain_text("cannot be read")
    good = files.filter(has=page.get_by_role("link", name="good"))
    expect(good.locator(".p-status")).to_contain_text("Queued")
    # Chromium reports the refused upload on its console; nothing else may be there.
    assert [complaint for complaint in watch.complaints if "415" not in complaint] == []
    watch.complaints.clear()
    assert not inspect(page, watch, "upload", SCREENSHOTS / "people")

    def move_on(**fields: Any) -> None:
        in_thread(lambda: Document.objects.for_tenant(acme).filter(title="good").update(**fields))

    move_on(status=Document.Status.EMBEDDING, progress_done=3, progress_total=4)
    expect(good.locator(".p-status")).to_contain_text("3 of 4 passages")
    move_on(status=Document.Status.READY, passages=4, ready_at=timezone.now())
    expect(good.locator(".p-status")).to_have_text("Ready", ignore_case=True)
