"""The endpoint board in Chromium: it renews itself, says how each server is, and its buttons do what they say."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from typing import Any

import orjson
import pytest
from django.urls import reverse
from playwright.sync_api import Browser, expect

from apps.edge.shared_state import redis as shared
from apps.inference.models import Endpoint
from chatbot.inference.state import ServerLoad, ServerState
from tests import factories
from tests.browser.conftest import SCREENSHOTS, open_page, session_of
from tests.browser.test_admin_pages import inspect, look

HERE = SCREENSHOTS / "board"
WELL = ServerState(
    endpoint="", address="10.0.0.1:8000", state="closed", reopens_in=None, in_flight=41, limit=64.0, waiting=3,
    tokens_per_second=1240.0, first_token_p50=0.21, first_token_p95=0.94, between_p50=0.012, between_p95=0.031,
    error_rate=0.0, last_failure="", last_failure_ago=None, load=ServerLoad(running=39.0, waiting=2.0, cache=0.42),
)  # fmt: skip
ILL = replace(
    WELL, address="10.0.0.2:8000", state="open", reopens_in=7.2, in_flight=0, waiting=0, tokens_per_second=0.0,
    error_rate=0.6, last_failure="The model server took too long.", last_failure_ago=12.0, load=None,
)  # fmt: skip


def apart(work: Callable[[], Any]) -> Any:
    """In a thread: Playwright's event loop runs in the test's."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work).result()


def run(work: Callable[[], Awaitable[None]]) -> None:
    apart(lambda: asyncio.run(work()))  # type: ignore[arg-type]


def told(*states: ServerState) -> None:
    """One more process tells of these, as long as the test runs."""

    async def tell() -> None:
        client = await shared()
        await client.set("parley:board:another", orjson.dumps([asdict(state) for state in states]))
        await client.zadd("parley:board", {"another": time.time() + 600})

    run(tell)


def test_operators_see_how_servers_are_and_act(database: None, web: str, request: pytest.FixtureRequest) -> None:
    # Not enabled, so that of these servers only the process tells that the test plays.
    main = factories.make_endpoint(
        "http://vllm:8000", protocol="vllm", name="Main chat", model="Qwen2.5-7B", enabled=False
    )
    live = factories.make_endpoint("http://127.0.0.1:9", name="Spare chat", model="small", tier=1)
    session = session_of(factories.make_user("operator@example.com", is_superuser=True))
    board = reverse("admin:inference_board")
    browser: Browser = request.getfixturevalue("browser")
    page, watch = open_page(browser, web, session)
    told(replace(WELL, endpoint=str(main.pk)))
    assert not look(page, watch, board, "well", HERE)
    expect(page.get_by_text("39 in work, 2 in line, cache 42% full")).to_be_visible()

    # Nobody reloads the page.
    told(replace(WELL, endpoint=str(main.pk)), replace(ILL, endpoint=str(main.pk)))
    expect(page.get_by_text("Not asked, tried in 7 s")).to_be_visible()
    expect(page.get_by_text("The model server took too long. That was 12 s ago.")).to_be_visible()
    assert not inspect(page, watch, "ill", HERE)

    card = page.locator("section.p-card", has_text="Spare chat")
    card.get_by_role("button", name="Drain").click()
    expect(page.get_by_text("Spare chat takes no new questions")).to_be_visible()
    expect(card.get_by_text("Draining")).to_be_visible()
    assert apart(lambda: Endpoint.objects.get(pk=live.pk).draining)
    assert not inspect(page, watch, "draining", HERE)
    card.get_by_role("button", name="Take in again").click()
    expect(page.get_by_text("Spare chat is asked again.")).to_be_visible()
    card.get_by_role("button", name="Reset breaker").click()
    expect(page.get_by_text("Every process asks Spare chat again")).to_be_visible()
    card.get_by_role("button", name="Test now").click()
    expect(page.get_by_text("Spare chat is not right.")).to_be_visible()
    assert not inspect(page, watch, "tested", HERE)
