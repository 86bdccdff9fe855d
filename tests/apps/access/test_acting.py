"""What programs change over the API stands in the audit log, under their key's name."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from apps.inference.models import Endpoint
from apps.tenants import audit_chain
from apps.tenants.models import ApiKey, AuditEntry, Tenant
from apps.tenants.scoping import tenant_scope
from tests import factories

HOOK = {"name": "Tickets", "url": "https://tickets.example.com/parley", "events": ["turn.finished"]}


@pytest.fixture
def acme(database: None, settings: Any, tmp_path: Any) -> Tenant:
    settings.MEDIA_ROOT = tmp_path / "media"
    factories.make_endpoint(kind=Endpoint.Kind.EMBEDDING)
    return factories.make_tenant("acme")


@pytest.fixture
def program(acme: Tenant) -> Client:
    key = factories.make_key(tenant=acme, name="Importer")
    return Client(headers={"Authorization": f"Bearer {key}", "X-Request-Id": "request-of-the-test"})


def recorded(tenant: Tenant) -> list[AuditEntry]:
    with tenant_scope(tenant):
        return list(AuditEntry.objects.for_tenant(tenant).order_by("seq"))


def test_webhooks_registered_changed_given_a_new_secret_and_deleted(acme: Tenant, program: Client) -> None:
    made = program.post("/api/v1/webhooks", HOOK, content_type="application/json").json()
    program.patch(f"/api/v1/webhooks/{made['id']}", {"enabled": False}, content_type="application/json")
    rotated = program.post(f"/api/v1/webhooks/{made['id']}/secret").json()
    program.delete(f"/api/v1/webhooks/{made['id']}")
    found = recorded(acme)
    assert [entry.action for entry in found] == [
        "webhook.registered", "webhook.changed", "webhook.secret_rotated", "webhook.deleted",
    ]  # fmt: skip
    assert {(entry.row_id, entry.row_label) for entry in found} == {(made["id"], "Tickets")}
    assert found[1].facts == {"fields": ["enabled"]}
    assert {entry.request_id for entry in found} == {"request-of-the-test"}
    whole = str([vars(entry) for entry in found])
    assert made["secret"] not in whole
    assert rotated["secret"] not in whole


def test_the_actor_is_the_key_by_its_name(acme: Tenant, program: Client) -> None:
    program.post("/api/v1/webhooks", HOOK, content_type="application/json")
    (entry,) = recorded(acme)
    key = ApiKey.objects.for_tenant(acme).get()
    assert (entry.actor_kind, entry.actor_id, entry.actor_label, entry.address) == (
        "key", str(key.pk), "Importer", "127.0.0.1",
    )  # fmt: skip


def test_collections_and_documents(acme: Tenant, program: Client) -> None:
    body = {"name": "Manuals", "slug": "manuals"}
    made = program.post("/api/v1/collections", body, content_type="application/json").json()
    program.patch("/api/v1/collections/manuals", {"description": "All"}, content_type="application/json")
    text = {"collection": "manuals", "text": "canary", "title": "Canary"}
    document = program.post("/api/v1/documents", text, content_type="application/json").json()
    program.delete(f"/api/v1/documents/{document['id']}")
    program.delete("/api/v1/collections/manuals")
    found = [(entry.action, entry.row_id) for entry in recorded(acme)]
    assert found == [
        ("collection.added", made["id"]), ("collection.changed", made["id"]),
        ("document.deleted", document["id"]), ("collection.deleted", made["id"]),
    ]  # fmt: skip
    assert "canary" not in str([vars(entry) for entry in recorded(acme)]).lower()
    assert audit_chain.verify(acme.pk).bad is None


def test_what_was_refused_is_not_recorded(acme: Tenant, program: Client) -> None:
    assert program.post("/api/v1/webhooks", HOOK | {"events": []}, content_type="application/json").status_code == 400
    assert program.delete(f"/api/v1/webhooks/{acme.pk}").status_code == 404
    assert recorded(acme) == []
