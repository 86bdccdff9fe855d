"""The audit log in Chromium: a list of sentences, and the page of one entry."""

from __future__ import annotations

import pytest
from django.urls import reverse
from playwright.sync_api import Browser

from apps.tenants import audit
from apps.tenants.models import ApiKey, AuditEntry, Membership
from tests import factories
from tests.browser.conftest import SCREENSHOTS, open_page, session_of
from tests.browser.test_admin_pages import WIDTHS, inspect, look

PICTURES = SCREENSHOTS / "audit"
ALICE = audit.Actor(
    "user", "2c1f6b52-7f4b-4a86-9a3a-3f6f8a2d4c11", "Alice Cooper-Featherstonehaugh", "2001:db8::7f4b:4a86"
)


def test_a_deed_is_found_and_read(database: None, web: str, request: pytest.FixtureRequest) -> None:
    tenant = factories.make_tenant("acme", name="Acme", time_zone="Europe/Berlin")
    owner = factories.make_member(tenant=tenant, role=Membership.Role.OWNER)
    factories.make_key(tenant=tenant, name="The web shop's search box")
    key = ApiKey.objects.for_tenant(tenant).get()
    audit.record(tenant, "key.revoked", ALICE, key)
    audit.record(tenant, "login.failed", audit.Actor("user", "", "mallory@example.com", "192.0.2.9"))
    audit.record(tenant, "operator.entered", audit.Actor("user", "1", "Olga", "198.51.100.3"), tenant)
    audit.record(tenant, "assistant.changed", ALICE, factories.make_assistant(tenant=tenant), fields=["Name", "Prompt"])
    audit.record(tenant, "secrets.rotated", audit.actor_of_command("rotate_keys"), secrets=12)
    changed = AuditEntry.objects.get(action="assistant.changed")
    operator = factories.make_user("operator@example.com", is_superuser=True)
    audit.record(None, "user.added", audit.SYSTEM, operator)
    sessions = session_of(owner), session_of(operator)
    browser: Browser = request.getfixturevalue("browser")
    page, watch = open_page(browser, web, sessions[0])
    url = reverse("admin:tenants_auditentry_changelist")
    assert not look(page, watch, url, "list", PICTURES)
    assert not look(page, watch, reverse("admin:tenants_auditentry_change", args=[changed.pk]), "entry", PICTURES)
    assert not look(page, watch, f"{url}?q=nobody", "nothing", PICTURES)
    page.set_viewport_size({"width": WIDTHS[0], "height": 900})
    page.goto(url)
    page.get_by_text("Filters").first.click()
    page.wait_for_timeout(300)
    assert not inspect(page, watch, "filters", PICTURES)
    page.goto(f"{url}?q=mallory")
    assert page.get_by_text("failed to log in").is_visible()
    assert not page.get_by_text("revoked").is_visible()
    page, watch = open_page(browser, web, sessions[1])
    assert not look(page, watch, url, "operator", PICTURES)
