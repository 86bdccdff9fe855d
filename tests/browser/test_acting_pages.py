"""Acting for a tenant in Chromium: the switcher, an operator's view of all tenants, and support's one page."""

from __future__ import annotations

import pytest
from django.urls import reverse
from playwright.sync_api import Browser, Page

from apps.conversations.models import Conversation
from apps.tenants.models import Membership
from tests import factories
from tests.apps.admin_world import make_world
from tests.browser.conftest import SCREENSHOTS, open_page, session_of
from tests.browser.test_admin_pages import WIDTHS, inspect, look

HERE = SCREENSHOTS / "acting"


def open_switcher(page: Page) -> None:
    page.get_by_label("Act for another tenant").click()
    page.locator(".parley-menu form").wait_for()


def test_operator_switches_between_one_tenant_and_all(database: None, web: str, request: pytest.FixtureRequest) -> None:
    world = make_world()
    for number in range(60):
        factories.make_tenant(f"customer-{number}", name=f"Customer {number} of the northern region, with a long name")
    session = session_of(world.operator)
    browser: Browser = request.getfixturevalue("browser")
    page, watch = open_page(browser, web, session)
    assistants = reverse("admin:assistants_assistant_changelist")
    assert not look(page, watch, assistants, "all-tenants", HERE)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(assistants)
        open_switcher(page)
        assert not inspect(page, watch, f"switcher-{width}", HERE)
    page.set_viewport_size({"width": WIDTHS[0], "height": 900})
    page.goto(assistants)
    open_switcher(page)
    page.get_by_role("button", name="Acme").click()
    page.get_by_text("Turns today").wait_for()
    page.goto(assistants)
    assert page.get_by_role("link", name="acme assistant").is_visible()
    assert not page.get_by_text("globex assistant").count()
    assert not look(page, watch, assistants, "one-tenant", HERE)
    assert not look(page, watch, reverse("admin:acting_for"), "choose", HERE)
    assert not look(page, watch, reverse("admin:acting_for") + "?q=globex", "choose-found", HERE)
    page.set_viewport_size({"width": WIDTHS[0], "height": 900})
    page.get_by_role("button", name="Globex").click()
    page.get_by_text("Turns today").wait_for()
    page.goto(assistants)
    assert page.get_by_role("link", name="globex assistant").is_visible()


def test_support_opens_a_conversation(database: None, web: str, request: pytest.FixtureRequest) -> None:
    world = make_world()
    session = session_of(factories.make_member(tenant=world.acme, role=Membership.Role.SUPPORT))
    conversation = str(Conversation.objects.for_tenant(world.acme).get().pk)
    browser: Browser = request.getfixturevalue("browser")
    page, watch = open_page(browser, web, session)
    assert not look(page, watch, reverse("admin:index"), "support-dashboard", HERE)
    assert not look(page, watch, reverse("admin:conversations_find"), "support", HERE)
    page.set_viewport_size({"width": WIDTHS[0], "height": 900})
    page.get_by_label("Conversation id").fill("nonsense")
    page.get_by_role("button", name="Open the conversation").click()
    page.get_by_text("There is no conversation with this id").wait_for()
    assert not inspect(page, watch, "support-unknown", HERE)
    page.get_by_label("Conversation id").fill(conversation)
    page.get_by_role("button", name="Open the conversation").click()
    page.get_by_text("acme user").wait_for()
    assert not inspect(page, watch, "support-conversation", HERE)


def test_analyst_reads_what_builders_write(database: None, web: str, request: pytest.FixtureRequest) -> None:
    world = make_world()
    session = session_of(factories.make_member(tenant=world.acme, role=Membership.Role.ANALYST))
    conversation = Conversation.objects.for_tenant(world.acme).select_related("assistant__prompt").get()
    assistant = conversation.assistant
    browser: Browser = request.getfixturevalue("browser")
    page, watch = open_page(browser, web, session)
    addresses = {
        "analyst-dashboard": reverse("admin:index"),
        "analyst-assistant": reverse("admin:assistants_assistant_change", args=(assistant.pk,)),
        "analyst-prompt": reverse("admin:assistants_prompt_change", args=(assistant.prompt.pk,)),
        "analyst-conversation": reverse("admin:conversations_conversation_change", args=(conversation.pk,)),
    }
    for name, url in addresses.items():
        assert not look(page, watch, url, name, HERE)
