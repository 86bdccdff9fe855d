"""Documents from an address and as a text, added in Chromium."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.urls import reverse
from playwright.sync_api import Browser, Route, expect

from apps.inference.models import Endpoint
from apps.knowledge.models import Document
from apps.usage import limits
from apps.usage.models import Quota
from tests import factories
from tests.browser.conftest import SCREENSHOTS, open_page, session_of
from tests.browser.test_admin_pages import inspect
from tests.browser.test_talking import in_thread


def test_an_address_and_a_text(database: None, web: str, request: pytest.FixtureRequest) -> None:
    tenant = factories.make_tenant("acme", name="Acme")
    index = factories.make_index(tenant=tenant, endpoint=factories.make_endpoint(kind=Endpoint.Kind.EMBEDDING))
    collection = factories.make_collection(tenant=tenant, index=index, slug="manuals")
    session = session_of(factories.make_user("operator@example.com", is_superuser=True))
    browser: Browser = request.getfixturevalue("browser")
    page, watch = open_page(browser, web, session)
    page.goto(reverse("admin:knowledge_collection_upload", args=[collection.pk]))
    newest = page.locator(".p-files li").first

    address = page.get_by_label("Address")
    address.fill("http://127.0.0.1/secret")
    page.get_by_role("button", name="Fetch").click()
    expect(newest.locator(".p-failure")).to_contain_text("not public")
    expect(address).to_have_value("http://127.0.0.1/secret")  # to be mended
    for _ in range(2):
        address.fill("https://www.example.org/new.html")
        page.get_by_role("button", name="Fetch").click()
        expect(newest.get_by_role("link", name="https://www.example.org/new.html")).to_be_visible()
        expect(address).to_have_value("")
    expect(newest).to_contain_text("Already here")

    page.get_by_label("Title").fill("Opening <b>hours</b>")
    page.get_by_label("Text", exact=True).fill("Monday to Friday")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(newest.get_by_role("link", name="Opening <b>hours</b>")).to_be_visible()
    expect(newest).to_contain_text("Queued")
    # Chromium reports the refused address on its console; nothing else may be there.
    assert [complaint for complaint in watch.complaints if "400" not in complaint] == []
    watch.complaints.clear()
    assert not inspect(page, watch, "adding", SCREENSHOTS / "people")


def test_a_large_file_goes_on_after_a_lost_connection(
    database: None, web: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    tenant = factories.make_tenant("acme", name="Acme")
    index = factories.make_index(tenant=tenant, endpoint=factories.make_endpoint(kind=Endpoint.Kind.EMBEDDING))
    collection = factories.make_collection(tenant=tenant, index=index, slug="manuals")
    session = session_of(factories.make_user("operator@example.com", is_superuser=True))
    browser: Browser = request.getfixturevalue("browser")
    page, watch = open_page(browser, web, session)
    large = tmp_path / "large.txt"
    large.write_text("Close the valve, then replace the rubber seal.\n" * 200_000)
    pieces: list[str] = []

    def broken_twice(route: Route) -> None:
        """Once before the piece arrives, and once after, when only its answer is lost."""
        if route.request.method != "PATCH":
            route.continue_()
            return
        pieces.append(route.request.headers["upload-offset"])
        if len(pieces) == 3:
            route.fetch()
        if len(pieces) in {2, 3}:
            route.abort("connectionreset")
        else:
            route.continue_()

    page.route("**/upload/pieces/**", broken_twice)
    page.goto(reverse("admin:knowledge_collection_upload", args=[collection.pk]))
    page.locator("input[type=file]").set_input_files(large)
    newest = page.locator(".p-files li").first
    expect(newest).to_contain_text("The connection broke")
    expect(newest.get_by_role("link", name="large")).to_be_visible(timeout=60_000)
    piece = 4 * 1024 * 1024
    assert pieces == ["0", str(piece), str(piece), str(2 * piece)]
    [document] = in_thread(lambda: list(Document.objects.for_tenant(tenant)))
    assert document.size == large.stat().st_size
    watch.complaints.clear()  # Chromium reports the lost connections on its console
    assert not inspect(page, watch, "adding-large", SCREENSHOTS / "people")


def test_a_large_file_is_told_that_there_is_no_room_and_goes_on_when_there_is(
    database: None, web: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    tenant = factories.make_tenant("acme", name="Acme")
    index = factories.make_index(tenant=tenant, endpoint=factories.make_endpoint(kind=Endpoint.Kind.EMBEDDING))
    collection = factories.make_collection(tenant=tenant, index=index, slug="manuals")
    quota = factories.make_quota(tenant=tenant, metric="bytes", window="once", amount=1000)
    session = session_of(factories.make_user("operator@example.com", is_superuser=True))
    browser: Browser = request.getfixturevalue("browser")
    page, _ = open_page(browser, web, session)
    large = tmp_path / "large.txt"
    large.write_text("Close the valve, then replace the rubber seal.\n" * 200_000)
    pieces: list[str] = []

    def full_once(route: Route) -> None:
        """The disk, at the second piece."""
        if route.request.method == "PATCH":
            pieces.append(route.request.headers["upload-offset"])
        if len(pieces) == 2 and route.request.method == "PATCH":
            route.fulfill(status=507, json={"code": "storage_full", "message": "The disk is full."})
        else:
            route.continue_()

    page.route("**/upload/pieces/**", full_once)
    page.goto(reverse("admin:knowledge_collection_upload", args=[collection.pk]))
    failure = page.locator(".p-files li").first.locator(".p-failure")
    page.locator("input[type=file]").set_input_files(large)
    expect(failure).to_contain_text("may keep 1.0 kB of documents")
    in_thread(lambda: Quota.objects.filter(pk=quota.pk).delete())
    limits.forget()
    page.locator("input[type=file]").set_input_files(large)
    expect(failure).to_contain_text("The disk is full.", timeout=60_000)
    page.locator("input[type=file]").set_input_files(large)
    expect(page.locator(".p-files li").first.get_by_role("link", name="large")).to_be_visible(timeout=60_000)
    piece = 4 * 1024 * 1024
    assert pieces == ["0", str(piece), str(piece), str(2 * piece)]
