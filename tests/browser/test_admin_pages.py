"""Every page of the admin in Chromium, wide and narrow, empty and full: it fits, it is quiet, it speaks in words.

The pictures are in var/screenshots/, to be looked at.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.contrib import admin
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.test import RequestFactory
from django.urls import URLPattern, reverse
from playwright.sync_api import Browser, Page

from apps.tenants.models import Membership, Tenant, User
from tests import factories
from tests.browser.admin_rows import fill
from tests.browser.conftest import SCREENSHOTS, Watch, open_page, session_of

WIDTHS = (1280, 390)
LOG_IN = re.compile("^Log in(?! with)")
UUID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")
# Dialogs, files, and what is only posted to.
NOT_PAGES = {
    "revoke",
    "withdraw",
    "test_now",
    "adopt",
    "wake_up",
    "retry",
    "language",
    "download",
    "publish",
    "preview",
    "send_test",
    "rotate",
    "again",
    "identity",
    "pieces",
    "run_now",
    "stop_run",
}
# The texts of elements that hold nothing else: table cells, labels, badges. What programs are sent is shown as it is.
LEAVES = """() => [...document.querySelectorAll("#main *")].filter(e => !e.children.length && e.checkVisibility()
    && !["SCRIPT", "STYLE", "OPTION", "PRE"].includes(e.tagName)).map(e => e.textContent.trim())"""

# Cells of lists whose text is cut off at the bottom.
CUT = """() => [...document.querySelectorAll("#result_list :is(td, th)")].filter(e => e.checkVisibility()
    && e.scrollHeight > e.clientHeight + 1).map(e => e.textContent.trim())"""


def look(page: Page, watch: Watch, url: str, name: str, directory: Path) -> list[str]:
    """Open a page, save its pictures, and return what is wrong with it."""
    page.set_viewport_size({"width": WIDTHS[0], "height": 900})
    answer = page.goto(url, wait_until="load")
    found = [] if answer and answer.ok else [f"status {answer and answer.status}"]
    login = reverse("admin:login")
    if login in page.url and login not in url:
        found.append("asks for a login")
    return found + inspect(page, watch, name, directory)


def inspect(page: Page, watch: Watch, name: str, directory: Path) -> list[str]:
    found = []
    directory.mkdir(parents=True, exist_ok=True)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(150)  # charts and transitions
        if (needed := page.evaluate("document.scrollingElement.scrollWidth")) > width:
            found.append(f"needs {needed} px of {width}")
        page.screenshot(path=directory / f"{name}-{width}.png")
        found += [f"cuts off {text!r} at {width} px" for text in page.evaluate(CUT)[:3]]
    texts = page.evaluate(LEAVES)
    found += [f"shows {text!r}" for text in texts if text in ("True", "False", "None") or UUID.search(text)]
    found += watch.complaints
    watch.complaints.clear()
    return [f"{name}: {complaint}" for complaint in found]


def lists() -> dict[str, str]:
    """Every list of the admin, and its first page."""
    found = {"dashboard": reverse("admin:index")}
    for model in admin.site._registry:
        name = f"{model._meta.app_label}_{model._meta.model_name}"
        found[f"{name}-list"] = reverse(f"admin:{name}_changelist")
    return found


def forms(tenant: Tenant, user: User) -> dict[str, str]:
    """Every page for adding a row, and every page about one."""
    found = {}
    request = RequestFactory().get("/")
    request.user = user
    for model, pages in admin.site._registry.items():
        name = f"{model._meta.app_label}_{model._meta.model_name}"
        if pages.has_add_permission(request):
            found[f"{name}-add"] = reverse(f"admin:{name}_add") + f"?tenant={tenant.slug}"
        left_out = NOT_PAGES if pages.has_delete_permission(request) else {*NOT_PAGES, "delete"}
        row = model._default_manager.filter(tenant=tenant).first() if hasattr(model, "tenant") else model.objects.last()
        for pattern in pages.get_urls():
            about_one = isinstance(pattern, URLPattern) and set(pattern.pattern.converters) == {"object_id"}
            if about_one and pattern.name and pattern.name.removeprefix(f"{name}_") not in left_out:
                found[f"{pattern.name}-one"] = reverse(f"admin:{pattern.name}", args=(row.pk,))
    return found


@pytest.mark.parametrize("count", [0, 3, 1000])
def test_every_page_fits_and_speaks_in_words(
    database: None, web: str, request: pytest.FixtureRequest, count: int
) -> None:
    tenant = factories.make_tenant("acme", name="Acme")
    operator = factories.make_user("operator@example.com", name="Olivia Operator", is_superuser=True)
    if count:
        fill(tenant, operator, count)
    session = session_of(operator)
    pages = lists() | (forms(tenant, operator) if count == 3 else {})
    browser: Browser = request.getfixturevalue("browser")
    page, watch = open_page(browser, web, session)
    wrong = []
    for name, url in pages.items():
        wrong += look(page, watch, url, name, SCREENSHOTS / str(count))
    assert not wrong, "\n".join(wrong)


def test_member_without_rows_is_told_what_to_do(database: None, web: str, request: pytest.FixtureRequest) -> None:
    tenant = factories.make_tenant("acme", name="Acme")
    sessions = {
        "owner": session_of(factories.make_member(tenant=tenant, role=Membership.Role.OWNER)),
        "stranger": session_of(factories.make_user("stranger@example.com")),
    }
    browser: Browser = request.getfixturevalue("browser")
    for who, session in sessions.items():
        page, watch = open_page(browser, web, session)
        assert not look(page, watch, reverse("admin:index"), f"dashboard-{who}", SCREENSHOTS / "people")
    assert page.get_by_text("not a member of a tenant").is_visible()


def test_login_and_dark_mode(database: None, web: str, request: pytest.FixtureRequest) -> None:
    tenant = factories.make_tenant("acme", name="Acme")
    operator: User = factories.make_user("operator@example.com", is_superuser=True)
    # The web process does not know the quick hashes of tests.
    operator.password = PBKDF2PasswordHasher().encode(factories.PASSWORD, "salt", iterations=1000)
    operator.save()
    fill(tenant, operator, 3)
    # Another one: a login stores the password's hash anew, which ends the sessions that there were.
    session = session_of(factories.make_user("another@example.com", is_superuser=True))
    pages = lists() | forms(tenant, operator)
    browser: Browser = request.getfixturevalue("browser")
    page, watch = open_page(browser, web)
    assert not look(page, watch, reverse("admin:login"), "login", SCREENSHOTS / "people")
    for name in ("E-mail", "Password"):
        page.get_by_label(name).fill("nobody@example.com")
    page.get_by_role("button", name=LOG_IN).click()
    assert not inspect(page, watch, "login-refused", SCREENSHOTS / "people")
    page.get_by_label("E-mail").fill("operator@example.com")
    page.get_by_label("Password").fill(factories.PASSWORD)
    page.get_by_role("button", name=LOG_IN).click()
    page.get_by_text("Turns today").wait_for()
    page.set_viewport_size({"width": WIDTHS[0], "height": 900})
    page.get_by_text("operator@example.com").first.click()
    page.get_by_role("button", name="Log out").click()
    assert not inspect(page, watch, "logged-out", SCREENSHOTS / "people")
    page, watch = open_page(browser, web, session, dark=True)
    shown = {"dashboard", "knowledge_document-list", "conversations_turn-list"}
    for name in pages:
        if name in shown or name.startswith("usage_"):
            assert not look(page, watch, pages[name], name, SCREENSHOTS / "dark")


def test_key_is_shown_once_and_reloading_issues_no_other(
    database: None, web: str, request: pytest.FixtureRequest
) -> None:
    tenant = factories.make_tenant("acme", name="Acme")
    session = session_of(factories.make_member(tenant=tenant, role=Membership.Role.OWNER))
    browser: Browser = request.getfixturevalue("browser")
    page, watch = open_page(browser, web, session)
    page.goto(reverse("admin:tenants_apikey_add"))
    page.get_by_label("Name").fill("Web shop")
    page.get_by_label("Ask assistants").check()
    page.get_by_role("button", name="Save", exact=True).click()
    key = page.locator("#key").inner_text()
    assert key.startswith("parley_")
    assert not inspect(page, watch, "key-issued", SCREENSHOTS / "people")
    page.reload()
    assert key not in page.content()
    assert page.get_by_role("link", name="Web shop").count() == 1


def test_endpoint_is_tested_in_a_dialog(database: None, web: str, request: pytest.FixtureRequest) -> None:
    endpoint = factories.make_endpoint("http://127.0.0.1:9", name="A server that is switched off")
    session = session_of(factories.make_user("operator@example.com", is_superuser=True))
    page_of_it = reverse("admin:inference_endpoint_change", args=(endpoint.pk,))
    browser: Browser = request.getfixturevalue("browser")
    page, watch = open_page(browser, web, session)
    page.goto(page_of_it)
    page.get_by_role("link", name="Test now").click()
    page.get_by_role("button", name="Test now").click()
    page.get_by_text("cannot be reached").wait_for()
    assert not inspect(page, watch, "endpoint-tested", SCREENSHOTS / "people")
    page.goto(reverse("admin:inference_endpoint_changelist"))
    assert page.get_by_text(re.compile(r"^tested .+, failed$")).is_visible()
