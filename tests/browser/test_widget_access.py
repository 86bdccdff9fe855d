"""The widget and the hosted page without a mouse, read aloud, and from right to left: every state on the real stack."""

from __future__ import annotations

import re
from collections.abc import Iterator
from http.server import ThreadingHTTPServer

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, Page, expect

from apps.assistants.models import Assistant
from apps.widget.models import Widget
from tests.browser.test_widget_journeys import (
    WORDS,
    answer,
    ask,
    fake,
    guide,
    in_thread,
    shot,
    site,
    tab,
    visitor,
)
from tests.browser.test_widget_troubles import tag
from tests.fakes.inference import FakeInference, Reply

__all__ = ["fake", "guide", "site", "visitor"]

FOCUSED = """() => {
    let element = document.activeElement;
    while (element?.shadowRoot?.activeElement) element = element.shadowRoot.activeElement;
    return element?.getAttribute("aria-label") ?? element?.textContent.trim() ?? "";
}"""
AXE = Axe()


def violations(page: Page) -> list[str]:
    page.wait_for_timeout(400)  # colours that still change have no contrast of their own
    found = AXE.run(page).response["violations"]
    return [f"{one['id']}: {[node['html'][:160] for node in one['nodes']]}" for one in found]


@pytest.fixture
def plain(site: ThreadingHTTPServer, web: str) -> None:
    """A page without mistakes of its own."""
    site.page = tag(web).replace("<h1>Shop</h1>", "<main><h1>Shop</h1><p>Pumps.</p></main>")  # type: ignore[attr-defined]


@pytest.fixture
def reader(plain: None, visitor: BrowserContext) -> BrowserContext:
    return visitor


# --- Keyboard ---------------------------------------------------------------------------------------------------------


def focused(page: Page) -> str:
    return str(page.evaluate(FOCUSED))


def expect_focus(page: Page, name: str) -> None:
    page.wait_for_function(f"(name) => ({FOCUSED})() === name", arg=name)


def go_to(page: Page, name: str, *, key: str = "Tab") -> None:
    """Press a key until what is called so has the focus. Parts of the widget come late: first it has to be there."""
    called = re.compile(name)
    expect(page.get_by_label(called).or_(page.get_by_text(called)).first).to_be_attached()
    for _ in range(40):
        if re.search(name, focused(page)):
            return
        page.keyboard.press(key)
    raise AssertionError(f"{key} never reached {name!r}")


def test_everything_by_keyboard(reader: BrowserContext, fake: FakeInference) -> None:
    page, watch = tab(reader)
    page.wait_for_function("window.Parley")
    go_to(page, "^(Chat|Open chat)")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Your question")).to_be_focused()
    fake.script(Reply(tokens=WORDS * 5, delay=0.1), Reply(tokens=["Prime it [1]."]))
    page.keyboard.type("Tell me everything")
    page.keyboard.press("Enter")
    expect(answer(page)).to_contain_text("word3")
    go_to(page, "^Stop answering$")
    page.keyboard.press("Enter")
    expect(page.locator(".notice", has_text="Stopped.")).to_be_visible()
    assert focused(page), "the focus fell off"
    go_to(page, "^Your question$", key="Shift+Tab")
    page.keyboard.type("How do I begin?")
    page.keyboard.press("Enter")
    expect(answer(page)).to_contain_text("Prime it")
    go_to(page, "^Source 1: EM-200 manual$", key="Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.locator(".passage")).to_be_visible()
    expect_focus(page, "Close")
    page.keyboard.press("Escape")
    expect(page.locator(".passage")).to_have_count(0)
    expect_focus(page, "Source 1: EM-200 manual")
    go_to(page, "^Bad answer$")
    page.keyboard.press("Space")
    go_to(page, "^Did not help$")
    page.keyboard.press("Space")
    go_to(page, "^Send feedback$")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Thank you for your feedback.").first).to_be_visible()
    assert focused(page), "the focus fell off"
    go_to(page, "^Your question$")
    page.keyboard.press("Escape")
    expect(page.get_by_label("Your question")).to_have_count(0)
    # What is closed hands the focus on after it is gone; whose label says more than this.
    page.wait_for_function(f"() => ({FOCUSED})().startsWith('Open chat')")
    assert not watch.complaints


def test_the_hosted_page_by_keyboard(reader: BrowserContext, web: str, fake: FakeInference) -> None:
    page, watch = tab(reader, f"{web}/chat/acme/guide/")
    fake.script(Reply(tokens=["Gladly."]))
    go_to(page, "^Your question$")
    page.keyboard.type("One?")
    page.keyboard.press("Enter")
    expect(answer(page)).to_have_text("Gladly.")
    go_to(page, r"^Options for One\?$")
    page.keyboard.press("Enter")
    go_to(page, "^Rename$")
    page.keyboard.press("Enter")
    expect(page.locator(".entry-deeds input")).to_be_focused()
    page.keyboard.type("Pumps")
    page.keyboard.press("Enter")
    expect(page.locator(".pick")).to_have_text("Pumps")
    expect_focus(page, "Options for Pumps")
    page.keyboard.press("Enter")
    go_to(page, "^Delete$")
    page.keyboard.press("Enter")
    expect_focus(page, "Cancel")
    page.keyboard.press("Escape")
    expect_focus(page, "Options for Pumps")
    assert not watch.complaints


# --- axe --------------------------------------------------------------------------------------------------------------


RICH = """# Heading

Prime **it** [1] with `water`.

- one
- [two](https://example.com/)

| part | fits |
|---|---|
| P-40 | yes |

```python
prime()
```
"""


@pytest.mark.parametrize(("scheme", "locale"), [("light", "en"), ("dark", "de"), ("light", "ar"), ("dark", "ar")])
@pytest.mark.parametrize("where", ["bubble", "hosted page"])
def test_axe_finds_nothing_in_any_state(
    request: pytest.FixtureRequest, guide: Assistant, where: str, scheme: str, locale: str
) -> None:
    fake: FakeInference = request.getfixturevalue("fake")
    web: str = request.getfixturevalue("web")
    dressed = {"consent_text": "We store what you ask.", "starters": ["Which seal?"], "retention": "Kept for a week."}
    looks = {"scheme": scheme, "locale": locale, "handoff": "webhook"}
    in_thread(lambda: Widget.objects.filter(assistant=guide).update(**dressed, **looks))
    page, _ = tab(request.getfixturevalue("reader"), "/" if where == "bubble" else f"{web}/chat/acme/guide/")
    found = {}
    for state in states(page, fake, hosted=where != "bubble"):
        shot(page, f"{where.split(maxsplit=1)[0]}-{scheme}-{locale}-{state}")
        if wrong := violations(page):
            found[state] = wrong
    assert not found


def states(page: Page, fake: FakeInference, *, hosted: bool) -> Iterator[str]:
    """Brings the page into one state after the other, whatever its language."""
    question = page.locator(".composer textarea")
    if not hosted:
        page.locator("button").first.hover()  # which fetches the app
        page.wait_for_function("window.Parley && !Parley.q")
        yield "closed"
        page.evaluate("Parley.open()")
    expect(page.locator(".consent")).to_be_visible()
    yield "consent"
    page.locator(".consent .primary").click()
    expect(question).to_be_visible()
    yield "welcome"
    fake.script(Reply(tokens=WORDS * 9, delay=0.15), Reply(tokens=[RICH]), Reply(status=400, body="{}", always=True))
    question.fill("Tell me everything")
    question.press("Enter")
    expect(answer(page)).to_contain_text("word3")
    yield "answering"
    page.locator(".send").click()
    expect(page.locator(".notice")).to_be_visible()
    yield "stopped"
    question.fill("How do I begin?")
    question.press("Enter")
    expect(page.locator(".chip")).to_be_visible()
    expect(page.locator(".progress")).to_have_count(0)
    yield "answered"
    yield from cards(page)
    question.fill("And?")
    question.press("Enter")
    expect(page.locator(".trouble")).to_be_visible()
    yield "failed"
    if hosted:
        yield from listed(page)
    page.set_viewport_size({"width": 390, "height": 800})
    yield "narrow"
    if hosted:
        page.locator(".menu").click()
        expect(page.locator(".aside")).to_be_visible()
        yield "drawer"
        page.keyboard.press("Escape")
    page.context.set_offline(True)
    question.fill("Is anybody there?")
    question.press("Enter")
    expect(page.locator(".banner")).to_be_visible()
    yield "offline"
    page.context.set_offline(False)


def cards(page: Page) -> Iterator[str]:
    page.locator(".chip").click()
    expect(page.locator(".sheet button")).to_be_focused()
    yield "passage"
    page.keyboard.press("Escape")
    page.locator(".question button").last.click()
    expect(page.locator(".editor textarea")).to_be_focused()
    yield "editing"
    page.keyboard.press("Escape")
    page.locator(".deeds [aria-pressed]").last.click()
    expect(page.locator(".why")).to_be_visible()
    yield "rating"
    page.locator(".why textarea").press("Escape")
    page.locator(".header .square").first.click()
    expect(page.locator(".sheet")).to_be_visible()
    yield "hand-off"
    page.keyboard.press("Escape")


def listed(page: Page) -> Iterator[str]:
    """What can be done with a conversation of the hosted page's list."""
    more = page.locator(".entry .small").first
    more.click()
    yield "menu"
    for place, deed in enumerate(("renaming", "sharing", "deleting")):
        if not page.locator(".entry-deeds .tag").count():
            more.click()
        page.locator(".entry-deeds .tag").nth(place).click()
        page.wait_for_timeout(500)
        yield deed
        page.locator(".entry-deeds button").first.press("Escape")
    page.locator(".aside input").first.fill("nothing like it")
    expect(page.locator(".aside .none")).to_be_visible()
    yield "nothing-found"


def test_axe_finds_nothing_where_it_is_refused_or_shared(
    reader: BrowserContext, fake: FakeInference, guide: Assistant, web: str, site: ThreadingHTTPServer
) -> None:
    page, _ = tab(reader, f"http://127.0.0.1:{site.server_port}/")
    open_refused(page)
    assert not violations(page)
    page, _ = tab(reader, f"{web}/chat/acme/guide/")
    fake.script(Reply(tokens=[RICH]))
    ask(page, "How do I begin?")
    expect(page.locator(".chip")).to_be_visible()
    page.get_by_role("button", name=re.compile("^Options for")).click()
    page.get_by_role("button", name="Share").click()
    link = page.locator(".entry-deeds input")
    expect(link).to_have_value(re.compile("/share/"))
    shared, _ = tab(reader, link.input_value())
    expect(shared.locator(".chip")).to_be_visible()
    shot(shared, "shared")
    assert not violations(shared)
    gone, _ = tab(reader, f"{web}/share/{'A' * 43}")
    assert not violations(gone)


def open_refused(page: Page) -> None:
    page.get_by_role("button", name=re.compile("Chat|Open chat")).click()
    expect(page.get_by_text("This assistant is not available on this page.").first).to_be_visible()


# --- From right to left -----------------------------------------------------------------------------------------------


def test_from_right_to_left(reader: BrowserContext, fake: FakeInference, guide: Assistant, web: str) -> None:
    in_thread(lambda: Widget.objects.filter(assistant=guide).update(locale="ar"))
    for place in ("/", f"{web}/chat/acme/guide/"):
        page, watch = tab(reader, place)
        if place == "/":
            page.locator("button").first.click()
        question = page.locator(".composer textarea")
        question.fill("How do I begin?")
        fake.script(Reply(tokens=["English first. ", "\u0634\u0643\u0631\u0627"]))
        question.press("Enter")
        expect(answer(page)).to_contain_text("English first.")
        asked, send, field = (
            page.locator(each).last.bounding_box() for each in (".question p", ".send", ".composer .field")
        )
        assert asked
        assert send
        assert field
        middle = field["x"] + field["width"] / 2
        assert asked["x"] + asked["width"] / 2 < middle, "what was asked stands at the end of the line: on the left"
        assert send["x"] < middle
        for said in (answer(page), page.locator(".question p").last):  # in English
            assert said.evaluate("one => getComputedStyle(one).direction") == "ltr"
        assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
        assert not watch.complaints
