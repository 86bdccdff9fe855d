"""Webhooks in Chromium: added, tested and given a new secret, and the log of their deliveries."""

from __future__ import annotations

import pytest
from django.urls import reverse
from playwright.sync_api import Browser

from apps.tenants.models import Membership
from apps.webhooks.models import Delivery, Webhook
from tests import factories
from tests.browser.admin_rows import fill
from tests.browser.conftest import SCREENSHOTS, open_page, session_of
from tests.browser.test_admin_pages import WIDTHS, inspect, look

PICTURES = SCREENSHOTS / "webhooks"


def test_a_webhook_from_its_address_to_a_new_secret(database: None, web: str, request: pytest.FixtureRequest) -> None:
    tenant = factories.make_tenant("acme", name="Acme")
    factories.make_assistant(tenant=tenant, name="Support desk")
    session = session_of(factories.make_member(tenant=tenant, role=Membership.Role.OWNER))
    browser: Browser = request.getfixturevalue("browser")
    page, watch = open_page(browser, web, session)
    page.goto(reverse("admin:webhooks_webhook_add"))
    page.get_by_label("Name").fill("Ticket system")
    page.get_by_label("Address").fill("http://10.0.0.7/hook")
    page.get_by_label("A turn has ended").check()
    page.locator(".select2-selection").first.click()
    page.get_by_role("option", name="Support desk").click()
    assert not inspect(page, watch, "form", PICTURES)
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_text("This address is not public").wait_for()
    assert not inspect(page, watch, "refused", PICTURES)
    page.get_by_label("Address").fill("https://tickets.invalid/hook")
    page.get_by_role("button", name="Save", exact=True).click()
    secret = page.locator("#key").inner_text()
    assert secret.startswith("whsec_")
    assert not inspect(page, watch, "secret", PICTURES)
    page.reload()
    assert secret not in page.content()
    page.set_viewport_size({"width": WIDTHS[0], "height": 900})
    page.get_by_role("link", name="Ticket system").click()
    page.get_by_role("link", name="Send a test event").click()
    page.get_by_role("button", name="Send", exact=True).click()
    page.get_by_text("Its host name is not known.").wait_for()
    assert not inspect(page, watch, "tested", PICTURES)
    page.set_viewport_size({"width": WIDTHS[0], "height": 900})
    page.reload()
    page.get_by_role("link", name="Rotate secret").click()
    page.get_by_role("button", name="Make a new secret").click()
    page.get_by_text("has a new secret").wait_for()
    assert page.locator(".parley-key").inner_text() not in ("", secret)
    assert not inspect(page, watch, "rotated", PICTURES)
    page.get_by_role("button", name="I have stored it").click()
    page.get_by_text("has a new secret").wait_for(state="hidden")
    page.reload()
    assert "whsec_" not in page.content()
    assert not inspect(page, watch, "changed", PICTURES)


def test_the_log_of_deliveries(database: None, web: str, request: pytest.FixtureRequest) -> None:
    tenant = factories.make_tenant("acme", name="Acme")
    owner = factories.make_member(tenant=tenant, role=Membership.Role.OWNER)
    fill(tenant, owner, 24)
    failed = Delivery.objects.filter(status="failed", webhook__enabled=True).first()
    off = Webhook.objects.filter(enabled=False).first()
    assert failed is not None
    assert off is not None
    session = session_of(owner)
    browser: Browser = request.getfixturevalue("browser")
    page, watch = open_page(browser, web, session)
    assert not look(page, watch, reverse("admin:webhooks_webhook_changelist"), "webhooks", PICTURES)
    assert not look(page, watch, reverse("admin:webhooks_webhook_change", args=[off.pk]), "off", PICTURES)
    assert not look(page, watch, reverse("admin:webhooks_delivery_changelist"), "deliveries", PICTURES)
    assert not look(page, watch, reverse("admin:webhooks_delivery_change", args=[failed.pk]), "failed", PICTURES)
    page.set_viewport_size({"width": WIDTHS[0], "height": 900})
    page.get_by_role("link", name="Deliver again").click()
    page.get_by_role("button", name="Deliver again").click()
    page.get_by_text("It is on its way.").wait_for()
    assert page.get_by_text("Pending").first.is_visible()
    assert not inspect(page, watch, "again", PICTURES)
