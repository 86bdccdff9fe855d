"""The ledger in the admin: totals of what is listed, and nothing to write."""

from __future__ import annotations

import datetime as dt
import uuid
from zoneinfo import ZoneInfo

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from apps.tenants import admin_audit
from apps.tenants.models import Membership
from apps.usage import admin
from apps.usage.models import UsageRecord
from tests import factories
from tests.apps.admin_world import World, logged_in, make_world

pytestmark = pytest.mark.usefixtures("database")
LIST = "admin:usage_usagerecord_changelist"


@pytest.fixture
def world() -> World:
    return make_world()


def analyst(world: World) -> Client:
    return logged_in(factories.make_member(tenant=world.acme, role=Membership.Role.ANALYST))


def totals(client: Client, **query: str) -> dict[str, int]:
    return client.get(reverse(LIST), query).context["totals"]


def test_totals_are_of_the_persons_tenants(world: World) -> None:
    assert totals(logged_in(world.alice))["tokens"] == 120
    assert totals(logged_in(world.operator))["tokens"] == 240
    assert totals(logged_in(world.operator), tenant__id__exact=str(world.globex.pk))["tokens"] == 120


@pytest.mark.parametrize(
    ("days_ago", "period", "listed"),
    [
        (0, "today", 1),
        (1, "today", 0),
        (1, "yesterday", 1),
        (2, "yesterday", 0),
        (6, "7", 1),
        (7, "7", 0),
        (29, "", 1),
        (30, "", 0),
        (30, "nonsense", 0),
        (89, "90", 1),
    ],
)
def test_period(world: World, days_ago: int, period: str, listed: int) -> None:
    noon = timezone.localtime().replace(hour=12, minute=0)
    UsageRecord.objects.update(created=noon - dt.timedelta(days=days_ago))
    assert totals(analyst(world), period=period)["records"] == listed


def test_days_are_those_of_the_tenant(world: World) -> None:
    world.acme.time_zone = "Pacific/Kiritimati"  # 14 hours before UTC
    world.acme.save()
    midnight = timezone.now().astimezone(ZoneInfo("Pacific/Kiritimati")).replace(hour=0, minute=0, second=0)
    for moment, listed in ((midnight, 1), (midnight - dt.timedelta(seconds=1), 0)):
        UsageRecord.objects.for_tenant(world.acme).update(created=moment)
        page = analyst(world).get(reverse(LIST), {"period": "today"})
        assert (page.context["totals"]["records"], page.context["cl"].result_count) == (listed, listed)


def test_more_rows_than_are_listed_are_not_added_up_for_a_page(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (admin, admin_audit):
        monkeypatch.setattr(module, "MOST_LISTED", 3)
    record = UsageRecord.objects.for_tenant(world.acme).get()
    for _ in range(4):
        record.pk, record.turn_id = uuid.uuid4(), uuid.uuid4()
        record.save(force_insert=True)
    assert totals(analyst(world))["records"] == 5  # from roll-ups
    for client, query in ((analyst(world), {"bill__exact": "once"}), (logged_in(world.operator), {})):
        page = client.get(reverse(LIST), query)
        assert page.context["totals"] is None
        assert "has the sums of all" in page.text
    assert totals(analyst(world), bill__exact="loss")["records"] == 0


def test_filter_by_bill(world: World) -> None:
    client = analyst(world)
    assert totals(client, bill__exact="once")["records"] == 1
    assert totals(client, bill__exact="loss")["records"] == 0


def test_nobody_writes_the_ledger(world: World) -> None:
    record = UsageRecord.objects.for_tenant(world.acme).get()
    client = logged_in(world.operator)
    assert client.get(reverse("admin:usage_usagerecord_add")).status_code == 403
    for page in ("change", "delete"):
        url = reverse(f"admin:usage_usagerecord_{page}", args=(record.pk,))
        assert client.post(url, {"prompt_tokens": "0", "post": "yes"}).status_code == 403
    record.refresh_from_db()
    assert record.prompt_tokens == 100
