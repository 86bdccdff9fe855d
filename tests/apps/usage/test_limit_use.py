"""Where a tenant stands: every kind of limit with what is used of it."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from apps.tenants.models import Tenant
from apps.tenants.scoping import tenant_scope
from apps.usage.limit_models import Plan, PlanLimit
from apps.usage.limit_use import in_use
from apps.usage.models import UsageRecord
from tests import factories

pytestmark = pytest.mark.django_db
NOW = timezone.now()


@pytest.fixture
def acme() -> Tenant:
    return factories.make_tenant("acme")


def used(tenant: Tenant, **fields: Any) -> None:
    settled = {"state": "settled", "bill": "once", "settled_at": NOW, "prompt_tokens": 10, "completion_tokens": 5}
    UsageRecord.objects.create(
        **{"tenant": tenant, "turn_id": uuid.uuid4(), "created": NOW, **settled, **fields},
    )


def standing(tenant: Tenant) -> list[tuple[str, str, int, int]]:
    with tenant_scope(tenant):
        return [(use.limit.name, use.subject, use.used, use.limit.amount) for use in in_use(tenant, NOW)]


def test_each_metric_in_its_unit(acme: Tenant) -> None:
    collection = factories.make_collection(tenant=acme)
    for _ in range(3):
        factories.make_document(tenant=acme, collection=collection)
    for metric, window in (
        ("requests", "day"),
        ("tokens", "month"),
        ("cost", "month"),
        ("turns", "once"),
        ("documents", "once"),
        ("bytes", "once"),
        ("pages", "hour"),
        ("ingestion", "month"),
    ):
        factories.make_quota(tenant=acme, metric=metric, window=window, amount=100)
    used(acme, cost=Decimal("1.5"))
    used(acme, created=NOW - dt.timedelta(days=40))
    used(acme, bill="loss")
    used(acme, state="reserved", bill="", settled_at=None, reserved_tokens=7, prompt_tokens=0, completion_tokens=0)
    used(acme, kind="ingestion", turn_id=None, pages=4, completion_tokens=0)
    assert {name: used for name, _, used, _ in standing(acme)} == {
        "tenant.requests.day": 2,
        "tenant.tokens.month": 22,
        "tenant.cost.month": 150_000_000,
        "tenant.turns.once": 1,
        "tenant.documents.once": 3,
        "tenant.bytes.once": 30,
        "tenant.pages.hour": 4,
        "tenant.ingestion.month": 10,
    }
    assert standing(acme)[0][0] == "tenant.bytes.once"  # most used first: 30 of 100


def test_of_each_user_the_ones_that_use_most_and_one_by_name(acme: Tenant) -> None:
    plan = Plan.objects.create(name="All", is_default=True)
    PlanLimit.objects.create(plan=plan, level="user", metric="requests", window="day", amount=10)
    factories.make_quota(tenant=acme, level="user", subject="vip", metric="requests", amount=100)
    people = {name: factories.make_end_user(tenant=acme, external_id=name) for name in ("alice", "vip", "visitor:1")}
    for name, times in (("alice", 3), ("vip", 5), ("visitor:1", 4)):
        for _ in range(times):
            used(acme, end_user=people[name])
    assert standing(acme) == [("user.requests.day", "alice", 3, 10), ("user.requests.day", "vip", 5, 100)]


def test_another_tenants_use_is_not_told(acme: Tenant) -> None:
    factories.make_quota(tenant=acme, metric="requests", amount=10)
    used(factories.make_tenant("globex"))
    assert standing(acme) == [("tenant.requests.day", "", 0, 10)]
