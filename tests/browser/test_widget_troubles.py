"""What goes wrong around a widget, on the real stack: its reader is told in one line, or need not be told at all, and
its developer in one message."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from functools import partial
from http.server import ThreadingHTTPServer

import pytest
from django.conf import settings
from playwright.sync_api import BrowserContext, Route, expect
from redis import Redis

from apps.assistants.models import Assistant
from apps.conversations.models import Replica as Row
from apps.conversations.models import Turn
from local.processes import healthy, wait_until
from tests import factories
from tests.apps.access.visiting import change
from tests.browser.conftest import Watch
from tests.browser.test_widget_journeys import (
    WORDS,
    answer,
    ask,
    fake,
    guide,
    in_thread,
    open_widget,
    shot,
    site,
    tab,
    visitor,
)
from tests.deploy.proxy import Proxy, nginx
from tests.fakes.inference import FakeInference, Reply
from tests.faults.replicas import Replica, launch
from tests.journeys.conftest import Model

__all__ = ["fake", "guide", "site", "visitor"]

# Long enough to ask a second time on a busy machine.
ONE_IN_TWENTY_SECONDS = {"level": "visitor", "metric": "requests", "window": "minute", "amount": 3, "burst": 1}
TICKET = "Object.keys(localStorage).find((name) => name.endsWith('ticket'))"


def ours(watch: Watch) -> list[str]:
    """What the widget told the page's developer."""
    return [said for said in watch.complaints if "Parley" in said]


def tag(place: str, *, assistant: str = "guide") -> str:
    return f"""<!doctype html><html lang="en"><title>Shop</title><link rel="icon" href="data:,"><h1>Shop</h1>
        <script src="{place}/widget.js" data-tenant="acme" data-assistant="{assistant}" async></script>"""


# --- A replica dies ---------------------------------------------------------------------------------------------------


@pytest.fixture
def replicas(web: str) -> Iterator[list[Replica]]:
    """Two of them. web: its static files are theirs, too."""
    shared = {name: os.environ[name] for name in os.environ if name.startswith(("PARLEY_HOME", "STATIC"))}
    started = [launch("daphne", {}, PARLEY_BEHIND_PROXY="on", **shared) for _ in range(2)]
    for replica in started:
        ready = f"{replica.address}/healthz/ready"
        wait_until(partial(healthy, ready), name="web", process=replica.process, log=replica.log)
    yield started
    for replica in started:
        replica.kill()


@pytest.fixture
def proxy(replicas: list[Replica]) -> Iterator[Proxy]:
    with nginx(*(replica.place for replica in replicas)) as started:
        yield started


def test_a_replica_dies_in_mid_answer_and_the_reader_sees_all_of_it_once(
    replicas: list[Replica],
    proxy: Proxy,
    guide: Assistant,
    fake: FakeInference,
    request: pytest.FixtureRequest,
) -> None:
    site: ThreadingHTTPServer = request.getfixturevalue("site")
    site.page = tag(proxy.url)  # type: ignore[attr-defined]
    visitor: BrowserContext = request.getfixturevalue("visitor")
    page, _ = tab(visitor)
    page.wait_for_function("window.Parley")
    open_widget(page)
    fake.script(Reply(tokens=WORDS, delay=0.15, always=True, lingers_after=12))
    ask(page, "Tell me everything")
    expect(answer(page)).to_contain_text("word8")
    turn = in_thread(lambda: Turn.objects.for_tenant(guide.tenant).get())
    name = in_thread(lambda: Row.objects.get(pk=turn.replica).name)
    (runs,) = [one for one in replicas if name.endswith(f":{one.process.pid}")]
    runs.kill()
    Model(fake.base_url).hurry()
    expect(answer(page)).to_have_text("".join(WORDS).strip(), timeout=40_000)
    expect(page.get_by_role("button", name="Stop answering")).to_have_count(0)
    closed = in_thread(lambda: Turn.objects.for_tenant(guide.tenant).select_related("answer").get())
    assert (closed.state, closed.epoch) == ("finished", turn.epoch + 1)
    assert closed.answer.text == "".join(WORDS)
    assert page.locator(".trouble").count() == 0
    ask(page, "And now?")
    expect(page.locator(".answer")).to_have_count(2)


# --- Limits -----------------------------------------------------------------------------------------------------------


def test_a_limit_is_told_with_its_time_and_then_it_works(
    visitor: BrowserContext, fake: FakeInference, guide: Assistant
) -> None:
    in_thread(lambda: factories.make_quota(tenant=guide.tenant, **ONE_IN_TWENTY_SECONDS))
    page, watch = tab(visitor)
    open_widget(page)
    fake.script(Reply(tokens=["First."]), Reply(tokens=["Second."]))
    ask(page, "One?")
    expect(answer(page)).to_have_text("First.")
    ask(page, "Two?")
    expect(page.locator(".trouble")).to_contain_text("That was a lot at once.")
    again = page.locator(".trouble").get_by_role("button")
    expect(again).to_have_text(re.compile(r"Try again in [12]?[0-9] seconds?"))
    expect(again).to_have_attribute("aria-disabled", "true")
    shot(page, "limit")
    expect(again).to_have_text("Try again")
    again.click()
    expect(answer(page)).to_have_text("Second.")
    expect(page.locator(".trouble")).to_have_count(0)
    assert not ours(watch)


# --- Who is let in ----------------------------------------------------------------------------------------------------


def test_a_token_that_ends_is_replaced_without_a_word(
    visitor: BrowserContext, fake: FakeInference, guide: Assistant
) -> None:
    page, watch = tab(visitor)
    open_widget(page)
    fake.script(Reply(tokens=["First."]), Reply(tokens=["Second."]))
    ask(page, "One?")
    expect(answer(page)).to_have_text("First.")
    in_thread(forget_tokens)
    page.reload()
    ask(page, "Two?")
    expect(answer(page)).to_have_text("Second.")
    expect(page.locator(".answer")).to_have_count(2)  # the same visitor: the history is there
    assert not ours(watch)


def forget_tokens() -> None:
    with Redis.from_url(settings.REDIS_URL) as client:
        for name in client.scan_iter("visitor:*"):
            client.delete(name)


@pytest.mark.parametrize("wrong", ["forged", "expired key", "no text"])
def test_a_ticket_that_is_worth_nothing_begins_anew(
    visitor: BrowserContext, fake: FakeInference, guide: Assistant, wrong: str
) -> None:
    page, watch = tab(visitor)
    open_widget(page)
    fake.script(Reply(tokens=["First."]), Reply(tokens=["Second."]))
    ask(page, "One?")
    expect(answer(page)).to_have_text("First.")
    page.wait_for_function(TICKET)
    how = {"forged": "ticket.slice(0, -4) + 'AAAA'", "expired key": "'parleyt_' + ticket.slice(20)", "no text": "'\\0'"}
    page.evaluate(
        f"(() => {{ const name = {TICKET}, ticket = localStorage[name]; localStorage[name] = {how[wrong]} }})()"
    )
    page.reload()
    expect(page.get_by_label("Your question")).to_be_visible()
    ask(page, "Two?")
    expect(answer(page)).to_have_text("Second.")
    people = in_thread(lambda: set(Turn.objects.for_tenant(guide.tenant).values_list("end_user_id", flat=True)))
    assert len(people) == 2
    assert len(ours(watch)) <= 1


def test_a_ticket_that_was_carried_to_another_site_shows_nothing(
    visitor: BrowserContext, fake: FakeInference, guide: Assistant, site: ThreadingHTTPServer
) -> None:
    thief = f"http://127.0.0.1:{site.server_port}"
    in_thread(lambda: change(guide, visitor_origins=[*guide.visitor_origins, thief]))
    page, _ = tab(visitor)
    open_widget(page)
    fake.script(Reply(tokens=["My secret is out."]), Reply(tokens=["Second."]))
    ask(page, "One?")
    expect(answer(page)).to_have_text("My secret is out.")
    page.wait_for_function(TICKET)
    kept = page.evaluate("({...localStorage})")
    stolen, watch = tab(visitor, f"{thief}/")
    stolen.evaluate("(kept) => Object.assign(localStorage, kept)", kept)
    stolen.reload()
    open_widget(stolen)
    ask(stolen, "Two?")
    expect(answer(stolen)).to_have_text("Second.")
    expect(stolen.get_by_text("My secret is out.")).to_have_count(0)
    assert not ours(watch)


@pytest.mark.parametrize("where", ["the bubble", "by JavaScript"])
def test_a_wrong_assistant_is_told_in_a_line_each(
    visitor: BrowserContext, site: ThreadingHTTPServer, web: str, where: str
) -> None:
    site.page = tag(web, assistant="nobody")  # type: ignore[attr-defined]
    page, watch = tab(visitor)
    if where == "the bubble":
        page.get_by_role("button", name=re.compile("Chat|Open chat")).click()
    else:
        page.evaluate("Parley.ask('One?')")
    expect(page.get_by_text("This assistant is not available on this page.").first).to_be_visible()
    expect(page.get_by_label("Your question")).to_have_count(0)
    (said,) = ours(watch)
    assert "in to acme/nobody. Check the names" in said


# --- Pages ------------------------------------------------------------------------------------------------------------


def test_a_page_whose_policy_forbids_it_is_told_what_to_allow(
    visitor: BrowserContext, site: ThreadingHTTPServer, web: str
) -> None:
    site.page = tag(web)  # type: ignore[attr-defined]
    policy = f"default-src 'self'; script-src {web}; style-src 'unsafe-inline'; img-src data:"
    site.headers = {"Content-Security-Policy": policy}  # type: ignore[attr-defined]
    page, watch = tab(visitor)
    page.get_by_role("button", name=re.compile("Chat|Open chat")).click()
    expect(page.get_by_text("This assistant is not available on this page.").first).to_be_visible()
    expect(page.get_by_text("You are offline.")).to_have_count(0)
    said = [told for told in watch.complaints if "Parley: " in told and "Content-Security-Policy" in told]
    assert len(said) == 1
    assert f"Allow {web} and {web.replace('http', 'ws')} in connect-src" in said[0]


@pytest.mark.parametrize("years", [-30, 30])
def test_a_clock_that_is_wrong_changes_nothing(
    visitor: BrowserContext, fake: FakeInference, guide: Assistant, years: int
) -> None:
    visitor.add_init_script(f"{{ const now = Date.now; Date.now = () => now() + {years} * 365 * 86400e3; }}")
    in_thread(lambda: factories.make_quota(tenant=guide.tenant, **ONE_IN_TWENTY_SECONDS))
    page, watch = tab(visitor)
    open_widget(page)
    fake.script(Reply(tokens=WORDS[:10], delay=0.1), Reply(tokens=["Second."]))
    ask(page, "One?")
    expect(answer(page)).to_contain_text("word2")
    page.reload()
    expect(answer(page)).to_have_text("".join(WORDS[:10]).strip())
    ask(page, "Two?")
    again = page.locator(".trouble").get_by_role("button")
    expect(again).to_have_text(re.compile(r"Try again in [12]?[0-9] seconds?"))
    expect(again).to_have_text("Try again")
    again.click()
    expect(answer(page)).to_have_text("Second.")
    assert in_thread(Turn.objects.for_tenant(guide.tenant).count) == 2
    assert not ours(watch)


def test_a_clock_that_stands_still_or_fails_ends_nothing(visitor: BrowserContext, fake: FakeInference) -> None:
    visitor.add_init_script("Date.now = () => NaN;")
    page, watch = tab(visitor)
    open_widget(page)
    fake.script(Reply(tokens=WORDS[:10], delay=0.05), Reply(tokens=["Second."]))
    ask(page, "One?")
    expect(answer(page)).to_have_text("".join(WORDS[:10]).strip())
    ask(page, "Two?")
    expect(answer(page)).to_have_text("Second.")
    assert not watch.complaints


def test_a_socket_that_is_accepted_and_passes_nothing_is_given_up(visitor: BrowserContext, fake: FakeInference) -> None:
    """As some proxies do: the answer comes as an event stream."""
    visitor.route_web_socket("**/ws/chat", lambda _: None)
    page, watch = tab(visitor)
    open_widget(page)
    fake.script(Reply(tokens=WORDS[:10], delay=0.05))
    ask(page, "One?")
    expect(answer(page)).to_have_text("".join(WORDS[:10]).strip(), timeout=40_000)
    assert len(ours(watch)) == 1
    assert "are blocked; answers come as event streams instead" in ours(watch)[0]


def test_an_app_that_does_not_load_is_said_once_and_tried_again(visitor: BrowserContext, fake: FakeInference) -> None:
    page, watch = tab(visitor)
    refused = threading.Event()

    def refuse(route: Route) -> None:
        refused.set()
        route.abort()

    page.route("**/static/widget/app-*.js", refuse, times=1)
    page.get_by_role("button", name=re.compile("Chat|Open chat")).click()
    while not refused.is_set() or not ours(watch):
        page.wait_for_timeout(20)
    assert len(ours(watch)) == 1
    open_widget(page)
