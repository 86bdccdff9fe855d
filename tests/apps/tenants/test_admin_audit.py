"""The audit log's pages: what is recorded through the admin, who may read it, and how it reads."""

from __future__ import annotations

from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from apps.tenants import audit
from apps.tenants.admin_auditing import Audited
from apps.tenants.models import PLATFORM, AuditEntry, Tenant
from apps.tenants.scoping import tenant_scope
from tests import factories
from tests.apps.admin_world import World, logged_in, make_world

pytestmark = pytest.mark.usefixtures("database")

MADE = "tenant.created"  # the one entry of the world's tenants
LIST = "/admin/tenants/auditentry/"
ALICE = audit.Actor("user", "7", "Alice", "203.0.113.7")


@pytest.fixture
def world() -> World:
    return make_world()


def recorded(chain: Any) -> list[tuple[str, str, dict[str, Any]]]:
    with tenant_scope(chain):
        rows = AuditEntry.objects.filter(tenant_id=getattr(chain, "pk", chain)).exclude(action=MADE).order_by("seq")
        return [(e.action, e.row_label, e.facts) for e in rows if not e.action.startswith("operator.")]


def page(client: Any, url: str) -> str:
    response = client.get(url)
    assert response.status_code == 200
    return " ".join(response.content.decode().split())


def last(chain: Any) -> AuditEntry:
    with tenant_scope(chain):
        rows = AuditEntry.objects.filter(tenant_id=getattr(chain, "pk", chain))
        return rows.exclude(action__startswith="operator.").latest("seq")


def test_saving_a_form_is_recorded_by_the_names_of_its_fields(world: World) -> None:
    client = logged_in(world.alice)
    collection = factories.make_collection(tenant=world.acme, name="Handbooks", slug="handbooks")
    url = reverse("admin:knowledge_collection_change", args=[collection.pk])
    client.post(url, {"name": "Manuals of old", "slug": "handbooks"})
    (entry,) = recorded(world.acme)
    assert entry == ("collection.changed", "Manuals of old", {"fields": ["Name"]})
    assert (last(world.acme).actor_label, last(world.acme).address) == (str(world.alice), "127.0.0.1")


def test_what_is_of_the_platform_is_recorded_in_its_own_chain(world: World) -> None:
    data = {
        "name": "GPU", "kind": "chat", "protocol": "openai", "base_url": "http://127.0.0.1:9/v1", "model": "m",
        "context_length": "4096", "first_token_seconds": "15", "enabled": "on",
        **factories.ENDPOINT_LIMITS, "new_key": "sk-canary",
    }  # fmt: skip
    logged_in(world.operator).post(reverse("admin:inference_endpoint_add"), data)
    assert [(action, label) for action, label, _ in recorded(PLATFORM)] == [("endpoint.added", "GPU")]
    assert recorded(world.acme) == []


def test_a_changed_secret_is_recorded_and_not_told(world: World) -> None:
    endpoint = factories.make_endpoint(name="GPU", api_key="sk-old-canary")
    data = {
        "name": "GPU", "kind": "chat", "protocol": "openai", "base_url": endpoint.base_url, "model": endpoint.model,
        "context_length": "8192", "first_token_seconds": "15", "enabled": "on",
        **factories.ENDPOINT_LIMITS, "new_key": "sk-new-canary",
    }  # fmt: skip
    logged_in(world.operator).post(reverse("admin:inference_endpoint_change", args=[endpoint.pk]), data)
    assert recorded(PLATFORM) == [("endpoint.changed", "GPU", {"fields": ["API key"]})]


def test_a_deletion_is_recorded_before_its_row_is_gone(world: World) -> None:
    collection = factories.make_collection(tenant=world.acme, name="Handbooks", slug="handbooks")
    url = reverse("admin:knowledge_collection_delete", args=[collection.pk])
    logged_in(world.alice).post(url, {"post": "yes"})
    assert [(action, label) for action, label, _ in recorded(world.acme)] == [("collection.deleted", "Handbooks")]
    assert last(world.acme).row_id == str(collection.pk)


def test_prompts_published_and_secrets_rotated_are_recorded(world: World) -> None:
    client = logged_in(world.alice)
    prompt, webhook = _of(world.acme, "assistants", "Prompt"), _of(world.acme, "webhooks", "Webhook")
    client.post(reverse("admin:assistants_prompt_publish", args=[prompt.pk]), {"version": str(prompt.published_id)})
    client.post(reverse("admin:webhooks_webhook_rotate", args=[webhook.pk]), {"_form_submitted": "1"})
    actions = [action for action, _, _ in recorded(world.acme)]
    assert actions == ["prompt.published", "webhook.secret_rotated"]


def test_keys_issued_and_revoked_and_passwords_set_are_recorded(world: World) -> None:
    key = _of(world.acme, "tenants", "ApiKey")
    url = reverse("admin:tenants_apikey_revoke", args=[key.pk])
    logged_in(world.alice).post(url, {"_form_submitted": "1"})
    password = {"usable_password": "true", "password1": "canary-battery-staple", "password2": "canary-battery-staple"}
    logged_in(world.operator).post(reverse("admin:auth_user_password_change", args=[world.bob.pk]), password)
    ended = ("user.signed_out", "bob@acme.example")
    assert [(action, label) for action, label, _ in recorded(world.acme)] == [("key.revoked", "acme key"), ended]
    assert [(action, label) for action, label, _ in recorded(PLATFORM)] == [("user.changed", ended[1]), ended]


def _of(tenant: Tenant, app: str, model: str) -> Any:
    return apps.get_model(app, model)._default_manager.for_tenant(tenant).first()


def test_owners_read_their_own_log_in_sentences(world: World) -> None:
    audit.record(world.globex, "key.issued", ALICE, world.globex)
    key = factories.make_key(tenant=world.acme)
    assert key
    audit.record(world.acme, "key.revoked", ALICE, _of(world.acme, "tenants", "ApiKey"))
    audit.record(world.acme, "login.failed", audit.Actor("user", "", "mallory@example.com", "192.0.2.9"))
    said = page(logged_in(world.alice), LIST)
    assert "<strong>Alice</strong> (203.0.113.7) revoked API key <strong>" in said
    assert "<strong>mallory@example.com</strong> (192.0.2.9) failed to log in" in said
    assert "globex" not in said.lower()


def test_times_are_the_tenants(world: World) -> None:
    Tenant.objects.filter(pk=world.acme.pk).update(time_zone="Asia/Tokyo")
    audit.record(world.acme, "key.issued", ALICE)
    assert "JST" in page(logged_in(world.alice), LIST)


def test_nobody_else_reads_it(world: World) -> None:
    audit.record(world.acme, "key.revoked", ALICE)
    entry = reverse("admin:tenants_auditentry_change", args=[last(world.acme).pk])
    assert logged_in(world.bob).get(LIST).status_code == 403
    assert logged_in(world.bob).get(entry).status_code == 403
    assert logged_in(world.charlie).get(entry).status_code == 302  # as for an unknown id


def test_nothing_can_be_added_changed_or_deleted(world: World) -> None:
    audit.record(world.acme, "key.revoked", ALICE)
    before = last(world.acme)
    for client in (logged_in(world.alice), logged_in(world.operator)):
        own = reverse("admin:tenants_auditentry_change", args=[before.pk])
        for url in (LIST + "add/", own, reverse("admin:tenants_auditentry_delete", args=[before.pk])):
            assert client.post(url, {"post": "yes", "action": "none"}).status_code == 403
        client.post(LIST, {"action": "delete_selected", "_selected_action": [str(before.pk)], "post": "yes"})
    assert last(world.acme).pk == before.pk


def test_the_page_of_an_entry_shows_facts_and_hashes(world: World) -> None:
    audit.record(world.acme, "member.role_changed", ALICE, old="owner", new="editor")
    entry = last(world.acme)
    said = page(logged_in(world.alice), reverse("admin:tenants_auditentry_change", args=[entry.pk]))
    assert bytes(entry.hash).hex() in said
    assert "old: owner" in said
    assert bytes(entry.previous).hex() in said


def test_operators_read_the_platforms_entries_too(world: World) -> None:
    audit.record(None, "user.added", ALICE, world.alice)
    said = page(logged_in(world.operator), LIST)
    assert "The platform" in said
    assert "The platform" in page(
        logged_in(world.operator), reverse("admin:tenants_auditentry_change", args=[last(PLATFORM).pk])
    )


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("?q=mallory", ["login.failed"]),
        ("?q=192.0.2.9", ["login.failed"]),
        ("?q=key.revoked", ["key.revoked"]),
        ("?about=login", ["login.failed"]),
        ("?actor_kind__exact=command", ["key.revoked"]),
        ("?at_from=2020-01-01&at_to=2020-02-01", []),
        ("?at_from=2020-01-01&at_to=9999-12-31", ["login.failed", "key.revoked", MADE]),
        ("?at_from=yesterday&at_to=2020-02-31", ["login.failed", "key.revoked", MADE]),
        ("?about=nothing-known", ["login.failed", "key.revoked", MADE]),
    ],
)
def test_entries_are_found(world: World, query: str, found: list[str]) -> None:
    audit.record(world.acme, "key.revoked", audit.actor_of_command("revoke_key"))
    audit.record(world.acme, "login.failed", audit.Actor("user", "", "mallory@example.com", "192.0.2.9"))
    response = logged_in(world.alice).get(LIST + query)
    assert [entry.action for entry in response.context["cl"].result_list] == found


def test_a_row_is_found_by_its_id(world: World) -> None:
    key = _of(world.acme, "tenants", "ApiKey")
    audit.record(world.acme, "key.revoked", ALICE, key)
    response = logged_in(world.alice).get(LIST, {"q": str(key.pk)})
    assert [entry.action for entry in response.context["cl"].result_list] == ["key.revoked"]


def test_a_list_costs_few_queries_however_long_it_is(world: World) -> None:
    client = logged_in(world.operator)
    audit.record(world.acme, "key.revoked", ALICE, world.acme)
    with CaptureQueriesContext(connection) as few:
        client.get(LIST)
    for number in range(40):
        audit.record((world.acme, world.globex, None)[number % 3], "key.revoked", ALICE, world.acme)
    with CaptureQueriesContext(connection) as many:
        client.get(LIST)
    assert len(many) <= len(few)


def test_djangos_own_log_stays_empty(world: World) -> None:
    """Its rows name no tenant: an erasure would not find them."""
    client = logged_in(world.alice)
    collection = factories.make_collection(tenant=world.acme, name="Handbooks", slug="handbooks")
    page_about = "admin:knowledge_collection_{}"
    client.post(reverse(page_about.format("add")), {"name": "Added", "slug": "added"})
    client.post(reverse(page_about.format("change"), args=[collection.pk]), {"name": "Changed", "slug": "handbooks"})
    client.post(reverse(page_about.format("delete"), args=[collection.pk]), {"post": "yes"})
    assert [action for action, _, _ in recorded(world.acme)] == [
        "collection.added",
        "collection.changed",
        "collection.deleted",
    ]
    assert not LogEntry.objects.exists()
    pages = [page for page in admin.site._registry.values() if not isinstance(page, Audited)]
    assert not pages, "these write it"


def test_the_history_of_a_row_is_in_the_audit_log(world: World) -> None:
    collection = factories.make_collection(tenant=world.acme, name="Handbooks", slug="handbooks")
    change = reverse("admin:knowledge_collection_change", args=[collection.pk])
    history = reverse("admin:knowledge_collection_history", args=[collection.pk])
    client = logged_in(world.alice)
    client.post(change, {"name": "Manuals", "slug": "handbooks"})
    assert history in page(client, change)
    followed = client.get(history, follow=True)
    assert followed.redirect_chain == [(f"{LIST}?q={collection.pk}", 302)]
    assert "Manuals" in followed.content.decode()
    bob = logged_in(world.bob)
    assert history not in page(bob, change)
    assert bob.get(history, follow=True).status_code == 403
