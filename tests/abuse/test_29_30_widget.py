"""Markup from anyone runs nothing and fetches nothing in the widget, on the hosted page and behind a shared link, whose
policies would not even let it: names, greetings, words, questions, answers cut at every place, citations, titles."""

from __future__ import annotations

from http.server import ThreadingHTTPServer

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from apps.assistants.models import Assistant
from apps.knowledge.models import Chunk, Document
from apps.widget.models import Widget
from tests.abuse.test_29_30_scripts_and_images import AWAY, HOSTILE, SHORT
from tests.browser.test_widget_journeys import fake, guide, in_thread, site, visitor
from tests.browser.test_widget_troubles import tag
from tests.fakes.inference import FakeInference, Reply

__all__ = ["fake", "guide", "site", "visitor"]

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

# An answer may hold links to read, but nothing that acts by itself.
PLANTED = "img, script, iframe, object, video, form[action], [onload], [onerror], [x-init], a[href^='javascript']"
MODEL = f"""{HOSTILE}

<img src={AWAY}/a.png> ![remote]({AWAY}/b.png) ![ref][one] [run](javascript:owned()) [data](data:text/html,x)
<a href="vbscript:owned()">x</a> [one]: {AWAY}/c.png "x" [1]"""


class Guard:
    def __init__(self, context: BrowserContext, *ours: str) -> None:
        self.ran: list[str] = []
        self.reached: list[str] = []
        self.refused: list[str] = []
        context.expose_function("owned", lambda: self.ran.append("owned"))
        context.on("dialog", lambda dialog: self.ran.append(dialog.message))
        context.on("request", lambda asked: asked.url.startswith((*ours, "data:")) or self.reached.append(asked.url))
        context.on("console", lambda said: "Content Security" in said.text and self.refused.append(said.text))

    def check(self) -> None:
        assert (self.ran, self.reached, self.refused) == ([], [], [])


@pytest.fixture
def hostile(guide: Assistant, site: ThreadingHTTPServer, web: str) -> Assistant:
    site.page = tag(web)  # type: ignore[attr-defined]

    def poison() -> None:
        Assistant.objects.filter(pk=guide.pk).update(name=f"G {SHORT}", description=HOSTILE[:200])
        words = {"send": SHORT, "placeholder": SHORT, "you": SHORT, "mayErr": HOSTILE[:300]}
        Widget.objects.filter(assistant=guide).update(
            greeting=HOSTILE[:500], starters=[SHORT], retention=SHORT, consent_text=HOSTILE[:900], strings=words
        )
        Document.objects.for_tenant(guide.tenant).update(title=SHORT)
        Chunk.objects.for_tenant(guide.tenant).update(heading=[SHORT], text=HOSTILE)

    in_thread(poison)
    return guide


def converse(page: Page, fake: FakeInference) -> None:
    """Meet every text, with an answer in pieces of each size."""
    page.locator(".consent .primary").click()
    question = page.locator(".composer textarea")
    for count, size in enumerate((1, 7, len(MODEL)), start=1):
        fake.script(Reply(tokens=[MODEL[start : start + size] for start in range(0, len(MODEL), size)]))
        question.fill(HOSTILE)
        question.press("Enter")
        expect(page.locator(".answer .prose")).to_have_count(count)
        expect(page.locator(".progress")).to_have_count(0)
        expect(page.locator(".answer .prose").last).to_contain_text("<script>owned()</script>")
        assert page.locator(f".inside :is({PLANTED})").count() == 0
    page.locator(".chip").last.click()
    expect(page.locator(".passage")).to_contain_text("<script>owned()</script>")
    assert page.locator(f".sheet :is({PLANTED})").count() == 0
    page.keyboard.press("Escape")


def test_the_widget(hostile: Assistant, web: str, fake: FakeInference, request: pytest.FixtureRequest) -> None:
    visitor: BrowserContext = request.getfixturevalue("visitor")
    page = visitor.new_page()
    site: ThreadingHTTPServer = request.getfixturevalue("site")
    guard = Guard(visitor, web, f"http://localhost:{site.server_port}")
    page.goto("/")
    page.wait_for_function("window.Parley")
    page.evaluate("Parley.open()")
    converse(page, fake)
    page.reload()
    expect(page.locator(".answer .prose").last).to_contain_text("<script>owned()</script>")
    guard.check()


def test_the_hosted_page_and_what_it_shares(
    hostile: Assistant, web: str, fake: FakeInference, request: pytest.FixtureRequest
) -> None:
    visitor: BrowserContext = request.getfixturevalue("visitor")
    page = visitor.new_page()
    guard = Guard(visitor, web)
    page.goto(f"{web}/chat/acme/guide/")
    converse(page, fake)
    page.locator(".entry .small").first.click()
    page.locator(".entry-deeds .tag").nth(0).click()
    page.locator(".entry-deeds input").fill(SHORT)
    page.locator(".entry-deeds input").press("Enter")
    expect(page.locator(".pick bdi")).to_have_text(SHORT)
    page.locator(".entry .small").first.click()
    page.locator(".entry-deeds .tag").nth(1).click()
    page.wait_for_function(
        "() => document.querySelector('#parley').shadowRoot.querySelector('.entry-deeds input')?.value"
    )
    shared = visitor.new_page()
    shared.goto(page.locator(".entry-deeds input").input_value())
    expect(shared.locator(".answer .prose").last).to_contain_text("<script>owned()</script>")
    assert shared.locator(f".inside :is({PLANTED})").count() == 0
    assert shared.title().startswith(SHORT[:4])
    guard.check()
