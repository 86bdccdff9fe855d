"""The embedding index of a collection in Chromium: a second one is begun, watched, switched to and back, dropped."""

from __future__ import annotations

from typing import Any

import pytest
from django.urls import reverse
from playwright.sync_api import Browser, expect

from apps.inference.models import Endpoint
from tests import factories
from tests.browser.conftest import SCREENSHOTS, open_page, session_of
from tests.browser.test_admin_pages import inspect
from tests.environment import Backends

FAILED = "The embedding server gave 384 dimensions where 1024 are expected."


def became(servers: Backends, **fields: Any) -> None:
    """What a worker writes. Not by Django, which refuses to be called beside Playwright's loop."""
    names = ", ".join(f"{name} = %({name})s" for name in fields)
    servers.superuser.execute(f"UPDATE knowledge_secondindex SET {names}", fields)


def test_a_second_index_is_built_and_switched_to(
    database: None, servers: Backends, web: str, request: pytest.FixtureRequest
) -> None:
    tenant = factories.make_tenant("acme", name="Acme")
    small = factories.make_endpoint(name="Small and quick", kind=Endpoint.Kind.EMBEDDING, model="bge-small-en-v1.5")
    factories.make_endpoint(name="Large", kind=Endpoint.Kind.EMBEDDING, model="BAAI/bge-m3", dimension=1024, tier=1)
    index = factories.make_index(tenant=tenant, endpoint=small)
    collection = factories.make_collection(tenant=tenant, index=index, slug="manuals", name="Manuals")
    session = session_of(factories.make_user("operator@example.com", is_superuser=True))
    browser: Browser = request.getfixturevalue("browser")
    address = reverse("admin:knowledge_collection_index", args=[collection.pk])
    pages = [open_page(browser, web, session, dark=dark) for dark in (False, True)]

    def pictures(name: str) -> None:
        for (page, watch), theme in zip(pages, ("light", "dark"), strict=True):
            page.goto(address)
            assert not inspect(page, watch, f"index-{name}", SCREENSHOTS / theme)

    pictures("none")
    page, _ = pages[0]
    page.get_by_role("button", name="Build it").click()
    became(servers, done=412, total=1204)
    expect(page.locator(".p-status")).to_contain_text("412 of 1,204 passages")  # by itself
    pictures("building")
    became(servers, state="failed", failure_code="model_failed", failure_message=FAILED)
    pictures("failed")
    page.get_by_role("button", name="Try again now").click()
    expect(page.get_by_text("It goes on as soon as a worker is free.")).to_be_visible()
    became(servers, state="ready", done=1204)
    expect(page.get_by_role("button", name="Switch to it")).to_be_visible()  # the page was loaded anew
    pictures("ready")
    page.get_by_role("button", name="Switch to it").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.get_by_role("button", name="Switch to it").click()
    page.screenshot(path=SCREENSHOTS / "light" / "index-dialog.png")
    page.get_by_role("dialog").get_by_role("button", name="Switch to it").click()
    expect(page.get_by_role("button", name="Switch back")).to_be_visible()
    pictures("switched")
    page.get_by_role("button", name="Drop it").click()
    page.get_by_role("dialog").get_by_role("button", name="Drop it").click()
    expect(page.locator(".p-status")).to_contain_text("Its vectors are deleted.")
    servers.superuser.execute("DELETE FROM knowledge_secondindex")
    expect(page.get_by_role("button", name="Build it")).to_be_visible()
