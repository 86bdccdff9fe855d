"""The product in Chromium: a browser that watches for anything amiss.

Write rows before `browser` starts, or in a thread: Playwright's event loop runs in the test's thread, and there Django
refuses to query.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

from apps.tenants.models import User
from tests.browser.chromium import CHROMIUM, FLAGS
from tests.conftest import serving
from tests.environment import ROOT, Backends

SCREENSHOTS = ROOT / "var" / "screenshots"
# Milliseconds until what is expected of a page must be so: Playwright's five seconds are few on a busy machine.
PATIENCE = 30_000


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/browser/" in str(item.path):
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.timeout(600))


@pytest.fixture(scope="session")
def web(servers: Backends) -> Iterator[str]:
    """One for all: no test here leaves a turn to nobody."""
    with serving() as address:
        yield address


@pytest.fixture
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        expect.set_options(timeout=PATIENCE)
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield launched
        launched.close()


@dataclass
class Watch:
    """What went wrong on a page without anyone seeing it."""

    complaints: list[str] = field(default_factory=list)

    def over(self, page: Page) -> None:
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))
        page.on("requestfailed", self._failed)
        page.on(
            "response", lambda answer: answer.status >= 500 and self.complaints.append(f"{answer.status} {answer.url}")
        )

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text} ({message.location.get('url')})")

    def _failed(self, request: Request) -> None:
        # Leaving a page aborts what it was still loading.
        if request.failure != "net::ERR_ABORTED":
            self.complaints.append(f"failed: {request.url} {request.failure}")


def session_of(user: User) -> str:
    """A logged-in session's key; the web process hashes passwords in another way than tests do."""
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    return str(session.session_key)


def open_page(browser: Browser, web: str, session: str = "", *, dark: bool = False) -> tuple[Page, Watch]:
    """A watched page at 1280 px, logged in where a session is given."""
    context = browser.new_context(
        base_url=web, viewport={"width": 1280, "height": 900}, color_scheme="dark" if dark else "light"
    )
    if session:
        context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": session, "url": web}])
    page = context.new_page()
    watch = Watch()
    watch.over(page)
    return page, watch
