"""The usage page in Chromium: figures with units, a chart, who used most, an estimate, and tables to take along."""

from __future__ import annotations

import datetime as dt
import random
import uuid
from decimal import Decimal

import pytest
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Browser, expect

from apps.tenants.models import ApiKey, EndUser, Membership, Tenant
from apps.usage import rollups
from apps.usage.models import UsageRecord
from tests import factories
from tests.browser.conftest import SCREENSHOTS, open_page, session_of
from tests.browser.test_admin_pages import inspect, look

HERE = SCREENSHOTS / "usage"
MODELS = ("meta-llama/Llama-3.1-70B-Instruct", "Qwen/Qwen2.5-7B-Instruct", "")
DAYS = 120


def fill(tenant: Tenant, seed: int) -> None:
    """Four months, with weekends and growth."""
    chance = random.Random(seed)
    prompt = factories.make_prompt(tenant=tenant)
    names = ("Support desk", "Spare parts and accessories", "Returns")
    assistants = [factories.make_assistant(tenant=tenant, name=name, prompt=prompt) for name in names]
    for name in ("Web shop", "Intranet", "Mobile application for field engineers"):
        factories.make_key(tenant=tenant, name=name)
    keys = list(ApiKey.objects.for_tenant(tenant))
    people = EndUser.objects.bulk_create(
        EndUser(tenant=tenant, external_id=f"person-{n}@customers.example") for n in range(30)
    )
    now = timezone.now()
    rows = []
    for back in range(DAYS):
        day = now - dt.timedelta(days=back)
        for _ in range((4 if day.weekday() > 4 else 20) + (DAYS - back) // 6):
            bill = chance.choices(["once", "delivered", "loss", "none"], [90, 4, 3, 3])[0]
            tokens = bill in ("once", "delivered")
            rows.append(
                UsageRecord(
                    tenant=tenant,
                    turn_id=uuid.uuid4(),
                    created=day - dt.timedelta(minutes=chance.randrange(30)),
                    settled_at=day,
                    state="settled",
                    bill=bill,
                    assistant_id=chance.choices(assistants, [6, 3, 1])[0].pk,
                    api_key=chance.choices([*keys, None], [6, 3, 2, 1])[0],
                    end_user=chance.choices([*people, None], [1 / (n + 1) for n in range(31)])[0],
                    model=chance.choices(MODELS, [5, 3, 1])[0],
                    prompt_tokens=chance.randrange(600, 3000) if tokens else 0,
                    completion_tokens=chance.randrange(40, 500) if tokens else 0,
                    cost=Decimal(chance.randrange(10**5, 10**6)) / 10**8 if tokens else 0,
                )
            )
    UsageRecord.objects.bulk_create(rows, batch_size=2000)


def test_owners_and_operators_see_what_was_used(database: None, web: str, request: pytest.FixtureRequest) -> None:
    acme = factories.make_tenant("acme", name="Acme", time_zone="Europe/Berlin")
    globex = factories.make_tenant("globex", name="Globex Corporation")
    for seed, tenant in enumerate((acme, globex)):
        fill(tenant, seed)
    empty = factories.make_tenant("empty", name="Empty")
    sessions = {
        "analyst": session_of(factories.make_member(tenant=acme, role=Membership.Role.ANALYST)),
        "operator": session_of(factories.make_user("operator@example.com", is_superuser=True)),
        "nobody": session_of(factories.make_member(tenant=empty, role=Membership.Role.OWNER)),
    }
    rollups.roll_up()
    url = reverse("admin:usage_overview")
    browser: Browser = request.getfixturevalue("browser")
    for dark in (False, True):
        theme = "dark" if dark else "light"
        for who, session in sessions.items():
            page, watch = open_page(browser, web, session, dark=dark)
            assert not look(page, watch, f"{url}?period=90", f"{who}-{theme}", HERE)
            page.screenshot(path=HERE / f"{who}-{theme}-phone-whole.png", full_page=True)
            page.set_viewport_size({"width": 1280, "height": 900})
            page.wait_for_timeout(200)
            page.screenshot(path=HERE / f"{who}-{theme}-whole.png", full_page=True)
    page, watch = open_page(browser, web, sessions["analyst"])
    page.goto(url)
    expect(page.get_by_text("This is an estimate")).to_be_visible()
    expect(page.get_by_text("Globex")).to_have_count(0)
    page.get_by_role("link", name="Cost", exact=True).click()
    expect(page.get_by_role("heading", name="Cost a day")).to_be_visible()
    page.get_by_text("Export as CSV").click()
    assert not inspect(page, watch, "export", HERE)
    with page.expect_download() as download:
        page.get_by_role("link", name="by assistant").click()
    assert download.value.suggested_filename.endswith("-by-assistant.csv")
    assert "Support desk" in download.value.path().read_text()
