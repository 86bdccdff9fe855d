"""Webhooks over REST: registered, changed, rotated, deleted; the secret is told once."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from apps.tenants.models import Tenant
from apps.webhooks.models import ANNOUNCED, Delivery, Event, Webhook
from tests.apps.webhooks.conftest import make_webhook, tell
from tests.factories import make_assistant, make_key

NEW = {"name": "Tickets", "url": "https://tickets.example/parley", "events": ["turn.finished", "document.ready"]}


@pytest.fixture
def http(acme: Tenant) -> Client:
    return Client(headers={"Authorization": f"Bearer {make_key(tenant=acme)}"})


def send(http: Client, method: str, path: str, body: Any = None) -> Any:
    return getattr(http, method)(f"/api/v1/webhooks{path}", body, content_type="application/json")


def test_the_secret_is_told_once(http: Client, acme: Tenant) -> None:
    created = send(http, "post", "", NEW)
    assert created.status_code == 201
    secret = created.json()["secret"]
    assert secret.startswith("whsec_")
    path = f"/{created.json()['id']}"
    for answer in (
        send(http, "get", ""),
        send(http, "get", path),
        send(http, "patch", path, {"name": "Other"}),
        send(http, "get", f"{path}/deliveries"),
    ):
        assert answer.status_code == 200
        assert "secret" not in answer.content.decode()
    rotated = send(http, "post", f"{path}/secret").json()["secret"]
    assert rotated != secret
    row = Webhook.objects.for_tenant(acme).get()
    assert (row.secret, row.previous_secret, row.name) == (rotated, secret, "Other")


def test_a_webhook_can_be_changed_and_deleted(http: Client, acme: Tenant) -> None:
    path = f"/{make_webhook(acme).pk}"
    assistant = make_assistant(tenant=acme)
    change = {"enabled": False, "events": ["document.failed"], "assistants": [str(assistant.pk)]}
    changed = send(http, "patch", path, change).json()
    assert {name: changed[name] for name in change} == change
    assert send(http, "get", path).json() == changed
    assert send(http, "delete", path).status_code == 204
    assert send(http, "get", path).status_code == 404


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("url", "http://169.254.169.254/latest"),
        ("url", "https://[::ffff:a9fe:a9fe]/"),
        ("url", "https://user:secret@tickets.example/"),
        ("url", "ftp://tickets.example/"),
        ("url", "https://tickets.example/" + "x" * 500),
        ("events", []),
        ("events", ["webhook.test"]),
        ("events", ["turn.finished"] * (len(ANNOUNCED) + 1)),
        ("events", ["☕"]),
        ("assistants", ["00000000-0000-4000-8000-000000000000"]),
        ("collections", ["manuals"]),
        ("name", ""),
        ("name", "\0"),
    ],
)
def test_what_is_not_valid_names_its_field(http: Client, acme: Tenant, field: str, value: Any) -> None:
    known = make_webhook(acme)
    for method, path in (("post", ""), ("patch", f"/{known.pk}")):
        refused = send(http, method, path, {**NEW, field: value})
        assert refused.status_code == 400, path
        assert [name.partition(".")[0] for name in refused.json()["fields"]] == [field]
    assert Webhook.objects.for_tenant(acme).count() == 1


def test_production_sends_over_https_only(http: Client, settings: Any) -> None:
    plain = {**NEW, "url": "http://tickets.example/"}
    assert send(http, "post", "", plain).status_code == 201
    settings.LOCAL = False
    assert send(http, "post", "", plain).json()["fields"] == {"url": "Events are sent over https:// only."}
    assert send(http, "post", "", {**NEW, "url": "http://127.0.0.1/"}).status_code == 201  # an operator allowed it


def test_what_a_client_may_not_set_is_ignored(http: Client, acme: Tenant, globex: Tenant) -> None:
    own = {
        "id": "00000000-0000-4000-8000-000000000000",
        "tenant": str(globex.pk),
        "secret": "whsec_AAAA",
        "failures": 9,
    }
    made = send(http, "post", "", NEW | own).json()
    row = Webhook.objects.get()
    assert (row.tenant_id, row.failures, row.secret) == (acme.pk, 0, made["secret"])
    assert made["id"] != own["id"]
    assert made["secret"] != own["secret"]


def test_the_log(http: Client, acme: Tenant) -> None:
    webhook = make_webhook(acme, events=[Event.TURN_FINISHED, Event.DOCUMENT_READY])
    for event in (Event.TURN_FINISHED, Event.DOCUMENT_READY):
        tell(acme, event)
    Delivery.objects.filter(event=Event.TURN_FINISHED).update(status="failed", error="It answered 500.")
    path = f"/{webhook.pk}/deliveries"
    newest, oldest = send(http, "get", path).json()["results"]
    assert (newest["type"], newest["status"], oldest["type"], oldest["error"]) == (
        "document.ready", "pending", "turn.finished", "It answered 500.",
    )  # fmt: skip
    assert newest["next_attempt_at"] is not None
    assert oldest["next_attempt_at"] is None
    (failed,) = send(http, "get", f"{path}?status=failed").json()["results"]
    assert failed == oldest
    assert send(http, "get", f"{path}?status=x").status_code == 400
