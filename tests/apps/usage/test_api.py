"""Usage over REST: what a tenant's period cost, in the tenant's own days, and nothing of anybody else's."""

from __future__ import annotations

import csv
import datetime as dt
import io
import uuid
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.test import Client
from django.utils import timezone

from apps.tenants.models import ApiKey, EndUser, Tenant
from apps.usage.models import UsageRecord
from tests import factories
from tests.apps.usage.downloads import text_of

pytestmark = pytest.mark.django_db
TOKYO = ZoneInfo("Asia/Tokyo")
GUIDE, SALES = uuid.uuid4(), uuid.uuid4()


@pytest.fixture
def tenant() -> Tenant:
    return factories.make_tenant("acme", time_zone="Asia/Tokyo")


@pytest.fixture
def client(tenant: Tenant) -> Client:
    return Client(headers={"Authorization": f"Bearer {factories.make_key(tenant=tenant)}"})


def used(tenant: Tenant, when: dt.datetime, *, user: EndUser | None = None, **fields: Any) -> UsageRecord:
    """A settled record of 10 + 5 tokens."""
    settled = {"state": "settled", "bill": "once", "settled_at": when, "prompt_tokens": 10, "completion_tokens": 5}
    return UsageRecord.objects.create(
        **{"tenant": tenant, "turn_id": uuid.uuid4(), "end_user": user, "created": when, **settled, **fields}
    )


def read(client: Client, path: str = "usage", **query: Any) -> dict[str, Any]:
    response = client.get(f"/api/v1/{path}", query)
    assert response.status_code == 200, response.content
    body: dict[str, Any] = response.json()
    return body


def test_days_are_the_tenants_own_and_the_last_one_counts(client: Client, tenant: Tenant) -> None:
    # In Tokyo the last of these is already on the 2nd, in UTC still on the 1st.
    for hour in (0, 12, 24):
        used(tenant, dt.datetime(2026, 3, 1, tzinfo=TOKYO) + dt.timedelta(hours=hour))
    used(tenant, dt.datetime(2026, 3, 3, tzinfo=TOKYO))
    report = read(client, **{"from": "2026-03-01", "to": "2026-03-02"})
    assert [(day["key"], day["requests"]) for day in report["results"]] == [("2026-03-01", 2), ("2026-03-02", 1)]
    assert report["total"] == {
        "requests": 3,
        "unsettled": 0,
        "prompt_tokens": 30,
        "completion_tokens": 15,
        "total_tokens": 45,
        "pages": 0,
        "cost": "0.00000000",
        "bills": {"once": 3, "delivered": 0, "loss": 0, "none": 0},
    }
    assert (report["from"], report["to"], report["group_by"]) == ("2026-03-01", "2026-03-02", "day")


def test_without_a_period_it_is_thirty_days_up_to_today(client: Client, tenant: Tenant) -> None:
    today = timezone.now().astimezone(TOKYO).replace(hour=0, minute=0)
    used(tenant, today - dt.timedelta(days=30))
    used(tenant, today - dt.timedelta(days=29))
    used(tenant, timezone.now())
    report = read(client)
    assert report["total"]["requests"] == 2
    assert (report["from"], report["to"]) == (str((today - dt.timedelta(days=29)).date()), str(today.date()))


def test_assistants_and_end_users_come_by_their_tokens(client: Client, tenant: Tenant) -> None:
    alice, bob = (factories.make_end_user(tenant=tenant, external_id=name) for name in ("alice", "bob"))
    used(tenant, timezone.now(), user=alice, assistant_id=GUIDE)
    used(tenant, timezone.now(), user=bob, assistant_id=SALES, prompt_tokens=100)
    used(tenant, timezone.now(), user=bob, assistant_id=GUIDE, bill="loss", prompt_tokens=0, completion_tokens=0)
    used(tenant, timezone.now(), assistant_id=None, state="reserved", bill="", settled_at=None, prompt_tokens=0)
    users = read(client, group_by="user")["results"]
    assert [(row["key"], row["requests"], row["total_tokens"]) for row in users] == [
        ("bob", 2, 105),
        ("alice", 1, 15),
        (None, 1, 5),
    ]
    assert users[0]["bills"] == {"once": 1, "delivered": 0, "loss": 1, "none": 0}
    assert [row["unsettled"] for row in users] == [0, 0, 1]
    assistants = read(client, group_by="assistant", user="bob")["results"]
    assert [(row["key"], row["requests"]) for row in assistants] == [(str(SALES), 1), (str(GUIDE), 1)]


def test_records_come_page_by_page(client: Client, tenant: Tenant) -> None:
    alice = factories.make_end_user(tenant=tenant, external_id="alice")
    rows = [used(tenant, timezone.now(), user=alice, assistant_id=GUIDE) for _ in range(3)]
    first = read(client, "usage/records", limit=2)
    assert [row["turn"] for row in first["results"]] == [str(row.turn_id) for row in rows[:0:-1]]
    second = client.get(first["next"]).json()
    assert [row["turn"] for row in second["results"]] == [str(rows[0].turn_id)]
    assert second["next"] is None
    (row,) = second["results"]
    assert (row["user"], row["assistant"], row["bill"], row["prompt_tokens"]) == ("alice", str(GUIDE), "once", 10)
    assert read(client, "usage/records", user="nobody")["results"] == []


def test_another_tenants_usage_is_not_told(client: Client, tenant: Tenant) -> None:
    globex = factories.make_tenant("globex")
    used(globex, timezone.now(), user=factories.make_end_user(tenant=globex, external_id="charlie"))
    assert read(client, group_by="user")["total"]["requests"] == 0
    assert read(client, "usage/records", user="charlie")["results"] == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"from": "yesterday"}, "from"),
        ({"from": "2026-03-02", "to": "2026-03-01"}, "from"),
        ({"from": "2025-03-01", "to": "2026-03-02"}, "from"),
        ({"to": "0001-01-01"}, "to"),
        ({"to": "9999-12-31"}, "to"),
        ({"group_by": "weather"}, "group_by"),
    ],
)
def test_what_is_no_period_is_refused(client: Client, query: dict[str, str], field: str) -> None:
    response = client.get("/api/v1/usage", query)
    assert (response.status_code, list(response.json()["fields"])) == (400, [field])


def test_every_group_has_its_requests_tokens_and_cost(client: Client, tenant: Tenant) -> None:
    key = ApiKey.objects.get(tenant=tenant)
    other = uuid.uuid4()
    used(tenant, timezone.now(), api_key=key, model="large", cost=Decimal("0.5"))
    used(tenant, timezone.now(), api_key=key, model="small", cost=Decimal("0.00000001"))
    used(tenant, timezone.now(), oauth_client_id=other, model="large", kind="embeddings", turn_id=None)
    groups = {by: read(client, group_by=by)["results"] for by in ("key", "client", "model", "kind")}
    assert [(row["key"], row["name"], row["requests"], row["cost"]) for row in groups["key"]] == [
        (str(key.pk), "test", 2, "0.50000001"),
        (None, None, 1, "0.00000000"),
    ]
    assert [(row["key"], row["requests"]) for row in groups["client"]] == [(None, 2), (str(other), 1)]
    assert [(row["key"], row["total_tokens"]) for row in groups["model"]] == [("large", 30), ("small", 15)]
    assert [(row["key"], row["requests"]) for row in groups["kind"]] == [("turn", 2), ("embeddings", 1)]
    assert read(client)["total"]["cost"] == "0.50000001"


def test_a_record_tells_kind_model_program_and_cost(client: Client, tenant: Tenant) -> None:
    program = uuid.uuid4()
    used(tenant, timezone.now(), model="large", kind="ingestion", cost=Decimal("1.25"), oauth_client_id=program)
    (row,) = read(client, "usage/records")["results"]
    assert (row["kind"], row["model"], row["client"], row["cost"]) == ("ingestion", "large", str(program), "1.25000000")


@pytest.mark.parametrize(("query", "accept"), [({"format": "csv"}, "*/*"), ({}, "text/csv")])
def test_csv(client: Client, tenant: Tenant, query: dict[str, str], accept: str) -> None:
    used(tenant, dt.datetime(2026, 3, 1, 12, tzinfo=TOKYO), cost=Decimal("0.25"))
    used(tenant, dt.datetime(2026, 3, 2, 12, tzinfo=TOKYO), bill="loss", prompt_tokens=0, completion_tokens=0)
    period = {"from": "2026-03-01", "to": "2026-03-05"}
    response = client.get("/api/v1/usage", period | query, headers={"Accept": accept})
    assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert response.headers["Content-Disposition"] == (
        'attachment; filename="usage-2026-03-01-to-2026-03-05-by-day.csv"'
    )
    assert text_of(response).splitlines() == [
        "day,name,requests,unsettled,once,delivered,loss,none,prompt_tokens,completion_tokens,total_tokens,pages,cost",
        "2026-03-01,,1,0,1,0,0,0,10,5,15,0,0.25000000",
        "2026-03-02,,1,0,0,0,1,0,0,0,0,0,0.00000000",
    ]


HOSTILE = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "  =1", "＝1", '=HYPERLINK("http://evil.example")', "a,b\n=1"]


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_becomes_a_formula(client: Client, tenant: Tenant, name: str) -> None:
    used(tenant, timezone.now(), user=factories.make_end_user(tenant=tenant, external_id=name))
    ApiKey.objects.filter(tenant=tenant).update(name=name)
    used(tenant, timezone.now(), api_key=ApiKey.objects.get(tenant=tenant))
    for by, column in (("user", 0), ("key", 1)):
        answer = text_of(client.get("/api/v1/usage", {"format": "csv", "group_by": by}))
        _, *lines = csv.reader(io.StringIO(answer, newline=""))
        (cell,) = [line[column] for line in lines if line[column]]
        assert cell == (name if name.startswith("a") else f"'{name}")


def test_an_error_is_json_whatever_was_asked_for(client: Client) -> None:
    response = client.get("/api/v1/usage", {"format": "csv", "from": "yesterday"})
    assert (response.status_code, response.headers["Content-Type"]) == (400, "application/json")
    assert "from" in response.json()["fields"]
    refused = client.get("/api/v1/usage", {"format": "xml"})
    assert (refused.status_code, refused.json()["fields"]) == (400, {"format": "Give json or csv."})
    assert client.get("/api/v1/usage", headers={"Accept": "text/html"}).status_code == 406
