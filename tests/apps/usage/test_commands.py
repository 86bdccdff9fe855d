"""The commands of usage: a report for people and programs, and roll-ups by hand."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import uuid
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from apps.tenants.models import Tenant
from apps.usage.models import RolledDay, RolledMonth, UsageRecord
from tests import factories

pytestmark = pytest.mark.django_db
PERIOD = ("--from", "2026-03-01", "--to", "2026-03-31")


def used(tenant: Tenant, day: int, **fields: Any) -> None:
    when = dt.datetime(2026, 3, day, 12, tzinfo=dt.UTC)
    settled = {"state": "settled", "bill": "once", "settled_at": when, "prompt_tokens": 10, "completion_tokens": 5}
    UsageRecord.objects.create(tenant=tenant, turn_id=uuid.uuid4(), created=when, **settled, **fields)


@pytest.fixture
def tenants() -> list[Tenant]:
    found = [factories.make_tenant(slug) for slug in ("acme", "globex")]
    for tenant in found:
        used(tenant, 1, model="large")
    used(found[1], 2, model="=1+1")
    return found


def said(*arguments: str) -> str:
    out = io.StringIO()
    call_command(*arguments, stdout=out)
    return out.getvalue()


def test_a_table_for_people(tenants: list[Tenant]) -> None:
    head, *lines, acme, globex = said("usage_report", *PERIOD).splitlines()
    assert (acme, globex) == ("acme keeps 0 documents, 0 bytes", "globex keeps 0 documents, 0 bytes")
    assert head.split()[:4] == ["day", "name", "tenant", "requests"]
    assert [line.split()[:3] for line in lines] == [
        ["2026-03-01", "acme", "1"],
        ["2026-03-01", "globex", "1"],
        ["2026-03-02", "globex", "1"],
    ]


def test_csv_and_json_for_programs(tenants: list[Tenant]) -> None:
    text = said("usage_report", "--tenant", "globex", "--by", "model", "--format", "csv", *PERIOD)
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert {row["model"]: row["requests"] for row in rows} == {"large": "1", "'=1+1": "1"}
    told = json.loads(said("usage_report", "--by", "tenant", "--format", "json", *PERIOD))
    assert [(row["tenant"], row["name"], row["requests"], row["bills"]["once"]) for row in told] == [
        ("acme", "Acme", 1, 1),
        ("globex", "Globex", 2, 2),
    ]


def test_where_each_tenant_stands_at_its_limits(tenants: list[Tenant]) -> None:
    acme, globex = tenants
    factories.make_quota(tenant=acme, metric="cost", window="month", amount=100)
    factories.make_quota(tenant=acme, metric="documents", window="once", amount=4)
    factories.make_quota(tenant=globex, metric="tokens", window="month", amount=60)
    factories.make_document(tenant=acme, collection=factories.make_collection(tenant=acme))
    now = dt.datetime.now(dt.UTC)
    settled = {"state": "settled", "bill": "once", "settled_at": now, "prompt_tokens": 30}
    UsageRecord.objects.create(tenant=globex, turn_id=uuid.uuid4(), created=now, **settled)
    head, *lines = said("usage_report", "--limits").splitlines()
    assert head.split() == ["tenant", "limit", "of", "whom", "used", "amount", "share", "until"]
    ends = f"{(now.replace(day=1) + dt.timedelta(days=32)).replace(day=1):%F} 00:00"
    assert [line.split() for line in lines] == [
        ["acme", "tenant.documents.once", "1", "4", "25%"],
        ["acme", "tenant.cost.month", "0.00", "100.00", "0%", *ends.split()],
        ["globex", "tenant.tokens.month", "30", "60", "50%", *ends.split()],
    ]
    assert said("usage_report", "--limits", "--tenant", "globex").count("\n") == 2


def test_a_period_without_use_has_no_lines(tenants: list[Tenant]) -> None:
    head, kept = said("usage_report", "--tenant", "acme").splitlines()
    assert (head.split()[0], kept) == ("day", "acme keeps 0 documents, 0 bytes")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["usage_report", "--tenant", "nobody"], "no tenant"),
        (["usage_report", "--from", "2026-03-02", "--to", "2026-03-01"], "between 1 and 366"),
        (["usage_report", "--from", "2020-01-01", "--to", "2026-03-01"], "between 1 and 366"),
        (["usage_report", "--from", "yesterday"], "no day like"),
        (["usage_report", "--by", "weather"], "invalid choice"),
        (["roll_up_usage", "--tenant", "nobody"], "no tenant"),
        (["roll_up_usage", "--from", "2026-03-02"], "both"),
        (["roll_up_usage", "--from", "2026-03-02", "--to", "2026-03-01"], "later"),
    ],
)
def test_bad_arguments_get_a_sentence(tenants: list[Tenant], arguments: list[str], why: str) -> None:
    with pytest.raises(CommandError, match=why):
        call_command(*arguments)


def test_rolling_up_by_hand(tenants: list[Tenant]) -> None:
    assert "Rolled up" in said("roll_up_usage", "--tenant", "acme")
    assert {row.tenant for row in RolledDay.objects.all()} == {tenants[0]}
    RolledDay.objects.update(requests=1000)
    RolledMonth.objects.update(requests=1000)
    assert "1000" in said("usage_report", "--tenant", "acme", *PERIOD)
    assert said("roll_up_usage", *PERIOD) == "Rolled up 62 days.\n"
    assert "1000" not in said("usage_report", *PERIOD)
