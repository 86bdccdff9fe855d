"""What the widget costs the page that it stands on: bytes, requests, time and movement. `widget_pace` measures the same
on a machine that has nothing else to do; limits of time are generous here."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.browser import widget_pace
from tests.browser.conftest import PATIENCE
from tests.browser.played_parley import Sites, played

LOADER = 1_024
APP = 35_000
READING = 17_000


@pytest.fixture
def sites() -> Iterator[Sites]:
    with played() as started:
        yield started


@pytest.fixture
def page(sites: Sites, browser: Browser) -> Page:
    return widget_pace.shop(browser, sites)


def of(sites: Sites, name: str) -> list[int]:
    return [size for file, size in sites.served.items() if re.match(rf"{name}(-\w+)?\.js$", file)]


def test_a_page_pays_for_the_loader_alone_until_somebody_asks(sites: Sites, page: Page) -> None:
    page.wait_for_load_state("networkidle")
    assert list(sites.served) == ["loader.js"]
    assert sites.served["loader.js"] < LOADER


def test_opening_fetches_the_app_and_what_reads_answers_from_parley_alone(sites: Sites, page: Page) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    widget_pace.opened(page)
    page.wait_for_load_state("networkidle")
    assert all(url.startswith(sites.parley) for url in asked)
    assert len(sites.served) == 3
    [app], [reading] = of(sites, "app"), of(sites, "reading")
    assert (app < APP, reading < READING) == (True, True)


def test_the_panel_is_painted_soon_and_moves_nothing(page: Page) -> None:
    assert widget_pace.opened(page) < PATIENCE
    page.wait_for_timeout(300)
    assert page.evaluate("played.shifts") == {"all": 0, "outside": 0}


def test_a_long_answer_costs_as_much_for_each_token_at_its_end(page: Page) -> None:
    widget_pace.opened(page)
    pace = widget_pace.stream(page, 3000, rate=600, windows=6)
    # The first window draws what is drawn once. Lexing all of it again would cost five times as much in the last.
    assert pace.script[-1] < 3 * max(pace.script[1], 0.05)
    frames = sorted(pace.frames)
    assert frames[len(frames) // 2] < 50
    assert pace.shifts["outside"] == 0
    answer = page.locator(".answer .prose").last
    assert answer.locator("table").count() > 10
    assert answer.locator("strong").count() > 10


def test_a_part_that_is_not_what_was_built_does_not_run(sites: Sites, page: Page) -> None:
    def changed(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, body=f"window.stolen = true;{answer.text()}")

    page.route("**/static/widget/extras-*.js", changed)
    widget_pace.opened(page)
    page.get_by_role("button", name="Talk to a person").click()
    expect(page.get_by_text("The chat could not be loaded.")).to_be_visible()
    assert page.evaluate("window.stolen") is None
    page.unroute("**/static/widget/extras-*.js")
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_label("E-mail address")).to_be_visible()


def test_an_answer_can_be_read_where_the_part_that_shows_it_does_not_come(page: Page) -> None:
    page.route("**/static/widget/reading-*.js", lambda route: route.abort())
    widget_pace.opened(page)
    page.get_by_label("Your question").fill("How do I begin?")
    page.get_by_label("Your question").press("Enter")
    page.get_by_role("button", name="Stop answering").wait_for()
    page.evaluate("played.stream(['The ', '**pump**', ' first.'], 100, 100, () => {})")
    expect(page.locator(".raw")).to_have_text("The **pump** first.")
    page.unroute("**/static/widget/reading-*.js")
    expect(page.locator(".answer strong")).to_have_text("pump")
