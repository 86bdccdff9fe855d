"""The usage page and its exports: whose usage, of which days, told to whom."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import uuid
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from apps.tenants.models import EndUser, Membership
from apps.usage import rollups
from apps.usage.admin_overview import money
from apps.usage.models import UsageRecord
from tests import factories
from tests.apps.admin_world import World, logged_in, make_world
from tests.apps.usage.downloads import text_of

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def world() -> World:
    return make_world()


def analyst(world: World) -> Client:
    return logged_in(factories.make_member(tenant=world.acme, role=Membership.Role.ANALYST))


def page(client: Client, **query: str) -> Any:
    response = client.get(reverse("admin:usage_overview"), query)
    assert response.status_code == 200
    return response


def names(response: Any) -> dict[str, list[str]]:
    return {title: [row.name for row in rows] for title, rows in response.context["consumers"]}


def exported(client: Client, **query: str) -> list[list[str]]:
    response = client.get(reverse("admin:usage_export"), query)
    assert (response.status_code, response.headers["Content-Type"]) == (200, "text/csv; charset=utf-8")
    return list(csv.reader(io.StringIO(text_of(response), newline="")))


def move(days: int) -> None:
    UsageRecord.objects.update(created=timezone.now() - dt.timedelta(days=days))


def test_people_see_their_tenants_usage(world: World) -> None:
    response = page(analyst(world))
    assert response.context["total"]["total_tokens"] == 120
    assert "globex" not in response.text
    assert "Tenants" not in names(response)
    assert names(response)["End users"] == ["acme-person"]
    assert names(response)["API keys"] == ["acme key"]


def test_operators_see_all_tenants_and_whose_what_is(world: World) -> None:
    response = page(logged_in(world.operator))
    assert response.context["total"]["total_tokens"] == 240
    assert sorted(names(response)["Tenants"]) == ["Acme", "Globex"]
    assert "End users" not in names(response)
    whose = {
        row.name: row.tenant for title, rows in response.context["consumers"] if title == "API keys" for row in rows
    }
    assert whose == {"acme key": "Acme", "globex key": "Globex"}


@pytest.mark.parametrize("role", [Membership.Role.EDITOR, Membership.Role.SUPPORT])
def test_who_may_not_read_the_ledger_sees_no_usage(world: World, role: str) -> None:
    client = logged_in(factories.make_member(tenant=world.acme, role=role))
    for name in ("overview", "export"):
        assert client.get(reverse(f"admin:usage_{name}")).status_code == 403
    assert Client().get(reverse("admin:usage_overview")).status_code == 302


@pytest.mark.parametrize(
    ("period", "days_ago", "requests"),
    [("30", 29, 1), ("30", 30, 0), ("90", 89, 1), ("90", 90, 0), ("365", 364, 1), ("365", 365, 0), ("month", 31, 0)],
)
def test_periods(world: World, period: str, days_ago: int, requests: int) -> None:
    move(days_ago)
    rollups.roll_up()
    response = page(analyst(world), period=period)
    assert response.context["total"]["requests"] == requests
    assert sum(json.loads(response.context["chart"])["datasets"][0]["data"]) == 100 * requests
    assert ("Nothing was used in this period" in response.text) == (not requests)


def test_last_month_is_a_whole_one(world: World) -> None:
    today = timezone.now().date()
    last = today.replace(day=1) - dt.timedelta(days=1)
    for day in (last, last.replace(day=1)):
        UsageRecord.objects.update(created=dt.datetime.combine(day, dt.time(12), dt.UTC))
        assert page(analyst(world), period="last_month").context["total"]["requests"] == 1
    labels = json.loads(page(analyst(world), period="last_month").context["chart"])["labels"]
    assert len(labels) == last.day


def test_the_page_tells_losses_cost_and_units(world: World) -> None:
    UsageRecord.objects.filter(tenant=world.acme).update(cost=Decimal("1234.5"))
    text = page(analyst(world), show="cost").text
    for said in ("1,234.50", "in the currency of the endpoints&#x27; prices", "Cost a day", "estimate"):
        assert said in text or said.replace("&#x27;", "'") in text, said
    assert page(analyst(world), show="nonsense", period="nonsense").context["measure"] == "Tokens"


def test_names_are_escaped(world: World) -> None:
    EndUser.objects.for_tenant(world.acme).update(external_id="<script>alert(1)</script>")
    assert "<script>alert(1)" not in page(analyst(world)).text


def test_exports_are_of_the_same_rows(world: World) -> None:
    head, line = exported(analyst(world), by="assistant")
    assert (head[0], "tenant" in head, dict(zip(head, line, strict=True))["total_tokens"]) == (
        "assistant",
        False,
        "120",
    )
    assert exported(analyst(world), by="user")[1][0] == "acme-person"
    head, *lines = exported(logged_in(world.operator), by="key")
    told = [dict(zip(head, line, strict=True)) for line in lines]
    assert sorted((each["name"], each["tenant"]) for each in told) == [("acme key", "Acme"), ("globex key", "Globex")]
    assert len(exported(logged_in(world.operator), by="tenant")) == 3


def test_what_cannot_be_exported_is_refused(world: World) -> None:
    for by in ("tenant", "weather", ""):
        assert analyst(world).get(reverse("admin:usage_export"), {"by": by}).status_code == 400
    assert logged_in(world.operator).get(reverse("admin:usage_export"), {"by": "user"}).status_code == 400
    UsageRecord.objects.filter(tenant=world.acme).update(model="=cmd|' /C calc'!A0", assistant_id=uuid.uuid4())
    assert exported(analyst(world), by="model")[1][0].startswith("'=")


@pytest.mark.parametrize(
    ("amount", "said"), [("0", "0.00"), ("0.00000120", "0.0000012"), ("0.01", "0.01"), ("12345.678", "12,345.68")]
)
def test_money(amount: str, said: str) -> None:
    assert money(Decimal(amount)) == said
