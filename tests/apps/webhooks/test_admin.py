"""Webhooks and their deliveries in the admin, as an owner meets them."""

from __future__ import annotations

import re
import uuid
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from apps.tenants.models import Tenant
from apps.tenants.scoping import tenant_scope
from apps.webhooks import registration
from apps.webhooks.models import Delivery, Event, Webhook
from tests.apps.admin_world import World, logged_in, make_world
from tests.factories import make_assistant, make_collection

pytestmark = pytest.mark.django_db

ADD = "admin:webhooks_webhook_add"
NEW: dict[str, Any] = {
    "name": "Tickets",
    "url": "https://tickets.example/parley",
    "events": ["turn.finished", "document.failed"],
    "enabled": "on",
}


@pytest.fixture
def world() -> World:
    return make_world()


@pytest.fixture
def alice(world: World) -> Client:
    return logged_in(world.alice)


def own(world: World) -> Webhook:
    found: Webhook = Webhook.objects.for_tenant(world.acme).get(name="acme webhook")
    return found


def page(name: str, row: Any) -> str:
    return reverse(f"admin:webhooks_{name}", args=[row.pk])


def test_the_secret_is_shown_on_one_page(world: World, alice: Client) -> None:
    shown = alice.post(reverse(ADD), NEW)
    made = Webhook.objects.for_tenant(world.acme).get(name="Tickets")
    assert (made.events, made.created_by) == (NEW["events"], world.alice)
    assert made.secret in shown.content.decode().replace("&#x2B;", "+")
    assert "no-store" in shown["Cache-Control"]
    for url in (
        page("webhook_change", made),
        page("webhook_history", made),
        page("webhook_delete", made),
        reverse("admin:webhooks_webhook_changelist"),
        reverse("admin:index"),
    ):
        text = alice.get(url).content.decode()
        assert "whsec_" not in text, url
    rotated = alice.post(page("webhook_rotate", made), {"_form_submitted": "1"}).content.decode()
    old = made.secret
    made.refresh_from_db()
    assert made.previous_secret == old != made.secret
    assert re.findall(r"whsec_[\w+/=]+", rotated.replace("&#x2B;", "+")) == [made.secret]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("url", "http://169.254.169.254/latest"),
        ("url", "https://10.1.2.3/"),
        ("url", "https://user:secret@tickets.example/"),
        ("events", []),
        ("events", ["webhook.test"]),
        ("assistants", [str(uuid.uuid4())]),
    ],
)
def test_what_is_not_valid_is_said_at_its_field(world: World, alice: Client, field: str, value: Any) -> None:
    response = alice.post(reverse(ADD), {**NEW, field: value})
    assert list(response.context["adminform"].form.errors) == [field]
    assert Webhook.objects.for_tenant(world.acme).count() == 1


def test_only_own_things_are_offered_and_taken(world: World, alice: Client) -> None:
    webhook = own(world)
    mine, foreign = make_assistant(tenant=world.acme, name="Mine"), make_assistant(tenant=world.globex, name="Foreign")
    collection = make_collection(tenant=world.acme)
    form = alice.get(page("webhook_change", webhook)).content.decode()
    assert str(mine.pk) in form
    assert str(foreign.pk) not in form
    change = {**NEW, "assistants": [str(foreign.pk)]}
    assert "assistants" in alice.post(page("webhook_change", webhook), change).context["adminform"].form.errors
    change = {**NEW, "assistants": [str(mine.pk)], "collections": [str(collection.pk)]}
    assert alice.post(page("webhook_change", webhook), change).status_code == 302
    webhook.refresh_from_db()
    assert (webhook.assistants, webhook.collections) == ([mine.pk], [collection.pk])
    mine.delete()
    assert "Deleted meanwhile" in alice.get(page("webhook_change", webhook)).content.decode()
    assert alice.post(page("webhook_change", webhook), change).status_code == 302
    webhook.refresh_from_db()
    assert len(webhook.assistants) == 1, "it would be told of all"


def test_switching_it_off_and_on(world: World, alice: Client) -> None:
    webhook = own(world)
    Webhook.objects.filter(pk=webhook.pk).update(failures=3, failing_since=webhook.created)
    off = {name: value for name, value in NEW.items() if name != "enabled"}
    assert alice.post(page("webhook_change", webhook), off).status_code == 302
    assert set(Delivery.objects.filter(webhook=webhook).values_list("status", flat=True)) == {"failed"}
    assert alice.post(page("webhook_change", webhook), NEW).status_code == 302
    webhook.refresh_from_db()
    assert (webhook.enabled, webhook.failures) == (True, 0)


def test_a_test_event_says_what_came_of_it(database: None, world: World, alice: Client) -> None:
    webhook = own(world)
    Webhook.objects.filter(pk=webhook.pk).update(url="http://127.0.0.1:9/")
    shown = alice.post(page("webhook_send_test", webhook), {"_form_submitted": "1"}).content.decode()
    assert "It does not accept connections." in shown
    delivery = Delivery.objects.for_tenant(world.acme).get(event=Event.TEST)
    assert delivery.status == "failed"


def test_a_delivery_is_sent_again(world: World, alice: Client) -> None:
    delivery = Delivery.objects.for_tenant(world.acme).get()
    Delivery.objects.filter(pk=delivery.pk).update(status="failed", attempts=8, error="It answered 500.")
    text = alice.get(page("delivery_change", delivery)).content.decode()
    assert "It answered 500." in text
    assert "turn.finished" in text
    assert alice.post(page("delivery_again", delivery), {"_form_submitted": "1"}).status_code == 200
    delivery.refresh_from_db()
    assert (delivery.status, delivery.attempts) == ("pending", 0)


def test_deleting_takes_the_log_along(world: World, alice: Client) -> None:
    webhook = own(world)
    confirmation = alice.get(page("webhook_delete", webhook)).content.decode()
    assert "Deliveries" in confirmation or "deliveries" in confirmation
    assert alice.post(page("webhook_delete", webhook), {"post": "yes"}).status_code == 302
    assert not Webhook.objects.for_tenant(world.acme).exists()
    assert not Delivery.objects.for_tenant(world.acme).exists()
    assert Delivery.objects.for_tenant(world.globex).exists()


def test_the_limit_is_told(world: World, alice: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registration, "MOST_WEBHOOKS", 1)
    text = alice.post(reverse(ADD), NEW, follow=True).content.decode()
    assert "There can be 1 webhooks" in text


def fill(tenant: Tenant, webhook: Webhook, count: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO webhooks_delivery (id, tenant_id, webhook_id, event, data, status, attempts, next_attempt_at,
                error, created, delivered_at)
            SELECT gen_random_uuid(), %s, %s, 'turn.finished', '{}', s.status, 1, now(), '', now() - n * interval '1 s',
                CASE s.status WHEN 'delivered' THEN now() END
            FROM generate_series(1, %s) n, LATERAL (
                SELECT CASE WHEN n %% 1000 = 0 THEN 'failed' ELSE 'delivered' END AS status) s
            """,
            [tenant.pk, webhook.pk, count],
        )
        cursor.execute("ANALYZE webhooks_delivery")


def test_a_long_log_is_read_by_its_indexes(world: World, alice: Client) -> None:
    webhook = own(world)
    fill(world.acme, webhook, 20_000)
    for query in ("", "?status__exact=failed", f"?webhook__id__exact={webhook.pk}"):
        with CaptureQueriesContext(connection) as seen:
            assert alice.get(reverse("admin:webhooks_delivery_changelist") + query).status_code == 200
        sent = [query["sql"] for query in seen.captured_queries]
        (rows,) = [sql for sql in sent if 'FROM "webhooks_delivery"' in sql and "ORDER BY" in sql]
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN {rows}")
            plan = "\n".join(line for (line,) in cursor.fetchall())
        assert "Seq Scan on webhooks_delivery" not in plan, (query, plan)


def test_the_dashboard_tells_owners_of_a_webhook_that_was_switched_off(world: World, alice: Client) -> None:
    with tenant_scope(world.acme):
        registration.disable(own(world), "Its receiver answered 410 Gone.")
    text = alice.get(reverse("admin:index")).content.decode()
    assert "Its receiver answered 410 Gone." in text
    assert page("webhook_change", own(world)) in text
    for other in (world.bob, world.charlie):
        assert "410 Gone" not in logged_in(other).get(reverse("admin:index")).content.decode()
    with tenant_scope(world.acme):
        registration.change(own(world), enabled=True)
    assert "410 Gone" not in alice.get(reverse("admin:index")).content.decode()
