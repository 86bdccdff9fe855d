"""Dressing a widget in Chromium: made, changed, refused in sentences, put into a page, judged, given a secret."""

from __future__ import annotations

import re

import pytest
from django.urls import reverse
from playwright.sync_api import Browser, expect

from apps.tenants.models import Membership
from tests import factories
from tests.browser.conftest import SCREENSHOTS, open_page, session_of
from tests.browser.test_admin_pages import WIDTHS, inspect

PICTURES = SCREENSHOTS / "widget"


def test_a_widget_from_nothing_to_a_page(database: None, web: str, request: pytest.FixtureRequest) -> None:
    tenant = factories.make_tenant("acme", name="Acme")
    guide = factories.make_assistant(
        tenant=tenant, name="Pump guide", slug="guide", visitor_origins=["https://shop.example"]
    )
    session = session_of(factories.make_member(tenant=tenant, role=Membership.Role.EDITOR))
    browser: Browser = request.getfixturevalue("browser")
    page, watch = open_page(browser, web, session)
    page.goto(reverse("admin:assistants_assistant_change", args=[guide.pk]))
    page.get_by_role("link", name=re.compile("Widget$")).click()
    assert not inspect(page, watch, "none-yet", PICTURES)
    page.set_viewport_size({"width": WIDTHS[0], "height": 900})
    page.get_by_role("button", name="Make its widget").click()
    page.get_by_label("Greeting").fill("Ask me about our pumps.")
    page.get_by_label("Starter questions").fill("Which seal fits?\nHow is it primed?")
    page.get_by_label("Wording").fill("{send: Ask}")
    assert not inspect(page, watch, "form", PICTURES)
    page.set_viewport_size({"width": WIDTHS[0], "height": 900})
    page.get_by_role("button", name="Save and continue editing").click()
    page.get_by_text("This is no JSON.").wait_for()
    assert not inspect(page, watch, "refused", PICTURES)
    page.set_viewport_size({"width": WIDTHS[0], "height": 900})
    page.get_by_label("Wording").fill('{"send": "Ask"}')
    page.get_by_label("Hosted page").check()
    page.get_by_role("button", name="Save and continue editing").click()
    page.get_by_text("was changed successfully").wait_for()
    page.get_by_role("link", name="New identity secret").click()
    page.get_by_role("button", name="Make a secret").click()
    page.get_by_text("has an identity secret").wait_for()
    secret = page.locator(".parley-key").inner_text()
    assert len(secret) >= 43
    assert not inspect(page, watch, "secret", PICTURES)
    page.get_by_role("button", name="I have stored it").click()
    page.reload()
    assert secret not in page.content()
    page.set_viewport_size({"width": WIDTHS[0], "height": 900})
    page.get_by_role("link", name="Put it into a page").click()
    page.get_by_label("The address of your page").fill("https://www.shop.example/contact")
    page.get_by_role("button", name="Check").click()
    page.get_by_text("https://shop.example is listed, and to browsers that is another site.").wait_for()
    tag = page.locator("#tag").inner_text()
    assert f'<script src="{web}/widget.js" data-tenant="acme" data-assistant="guide"' in tag
    preview = page.frame_locator("iframe")
    expect(preview.get_by_role("button", name="Open chat")).to_be_visible()
    expect(preview.get_by_label("Your question")).to_have_count(0)  # it shows the bubble, and takes no focus
    assert not inspect(page, watch, "page", PICTURES)
    page.goto(f"{web}/chat/acme/guide/")
    assert not inspect(page, watch, "hosted", PICTURES)
    page.goto(f"{web}/share/{'A' * 43}")
    assert page.get_by_text("There is nothing here.").is_visible()
