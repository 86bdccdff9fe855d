"""No page of the admin tells a member of another tenant: every page is walked, and a foreign id is an unknown id."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator

import pytest
from django.contrib import admin
from django.db import connection
from django.test import Client
from django.urls import URLPattern, reverse

from apps.conversations.models import Conversation, Turn
from apps.inference.models import Endpoint
from apps.oauth.models import Application
from apps.tenants.models import ApiKey, AuditEntry, EndUser, Invitation, Tenant, User
from apps.tenants.scoping import TenantOwned
from apps.usage.models import Grant, Quota, QuotaAlert, TenantPlan, UsageRecord
from apps.webhooks.models import Delivery, Webhook
from tests.apps.admin_world import World, logged_in, make_world, row_of

pytestmark = pytest.mark.usefixtures("database")

OPERATORS_ONLY = (User, Endpoint)
# What an editor does not see.
NOT_BUILT = (
    ApiKey, Application, AuditEntry, Conversation, Delivery, EndUser, Grant, Invitation, Quota, QuotaAlert, Tenant,
    TenantPlan, Turn, UsageRecord, Webhook,
)  # fmt: skip


@pytest.fixture
def world() -> World:
    return make_world()


def models() -> list[type]:
    return list(admin.site._registry)


def address(model: type, page: str, *arguments: object) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=arguments)


def pages_about(model: type) -> Iterator[str]:
    """The names of all pages of a model that are about one row, its own ones too."""
    for pattern in admin.site._registry[model].get_urls():
        if isinstance(pattern, URLPattern) and pattern.name and set(pattern.pattern.converters) == {"object_id"}:
            yield f"admin:{pattern.name}"


def text_of(client: Client, url: str) -> str:
    response = client.get(url, follow=True)
    content = b"".join(response.streaming_content) if response.streaming else response.content
    return content.decode()


@pytest.mark.parametrize("who", ["alice", "bob"])
def test_member_meets_no_trace_of_another_tenant(world: World, who: str) -> None:
    client = logged_in(getattr(world, who))
    visited = 0
    for model in models():
        urls = [address(model, "changelist"), address(model, "changelist") + "?q=e", address(model, "add")]
        own = row_of(model, world.acme)
        if own is not None:
            urls += [reverse(name, args=(own.pk,)) for name in pages_about(model)]
        for url in urls:
            text = text_of(client, url)
            assert "globex" not in text.lower().replace("q=globex", ""), url
            visited += 1
    assert "globex" not in text_of(client, reverse("admin:index")).lower()
    assert "globex" not in text_of(client, reverse("admin:search") + "?s=e&extended=1").lower()
    assert visited > 3 * len(models())


@pytest.mark.parametrize("who", ["alice", "bob"])
def test_own_rows_are_there(world: World, who: str) -> None:
    client = logged_in(getattr(world, who))
    for model in models():
        own = row_of(model, world.acme)
        if own is None or model in OPERATORS_ONLY or (who == "bob" and model in NOT_BUILT):
            continue
        response = client.get(address(model, "changelist"))
        assert response.status_code == 200, model
        assert str(own.pk) in response.content.decode(), model  # in the link to it
        assert client.get(address(model, "change", own.pk)).status_code == 200, model


@pytest.mark.parametrize("method", ["get", "post"])
def test_foreign_row_answers_like_an_unknown_one(world: World, method: str) -> None:
    """CSRF tokens and ids aside, the answers are equal, byte for byte."""
    client = logged_in(world.alice)
    for model in models():
        foreign = row_of(model, world.globex)
        if foreign is None:
            continue
        for name in pages_about(model):
            answers = []
            for row_id in (foreign.pk, uuid.uuid4()):
                response = getattr(client, method)(reverse(name, args=(row_id,)), {"_form_submitted": "1"})
                body = b"" if response.streaming else response.content
                comparable = re.sub(rb'(csrfmiddlewaretoken" value="|nonce-)[^"]*|' + str(row_id).encode(), b"", body)
                comparable = re.sub(rb"req_\w+|[0-9a-f]{32}", b"", comparable)
                location = response.headers.get("Location", "").replace(str(row_id), "")
                answers.append((response.status_code, location, comparable))
                text_of(client, reverse("admin:index"))  # shows, and so uses up, a message
            assert answers[0] == answers[1], name
            assert "globex" not in answers[0][2].decode().lower()


def test_filters_take_no_foreign_row(world: World) -> None:
    foreign = Endpoint.objects.get(name="globex chat")
    client = logged_in(world.alice)
    response = client.get(reverse("admin:usage_usagerecord_changelist"), {"endpoint__id__exact": str(foreign.pk)})
    assert "globex" not in response.content.decode().lower()


def test_url_cannot_probe_columns_that_are_no_filter(world: World) -> None:
    key = ApiKey.objects.for_tenant(world.acme).get()
    response = logged_in(world.alice).get(
        reverse("admin:tenants_apikey_changelist"), {"key_id__startswith": key.key_id[:2]}
    )
    assert response.status_code == 400


def test_only_operators_reach_users_and_endpoints(world: World) -> None:
    for model in OPERATORS_ONLY:
        row = model.objects.first()
        for url in (address(model, "changelist"), address(model, "add"), address(model, "change", row.pk)):
            assert logged_in(world.alice).get(url).status_code == 403
            assert logged_in(world.operator).get(url).status_code == 200


def test_only_owners_reach_others_keys_and_members(world: World) -> None:
    key = ApiKey.objects.for_tenant(world.acme).get()
    one = reverse("admin:tenants_apikey_change", args=(key.pk,))
    assert logged_in(world.bob).get(one).status_code == 302  # as an unknown one
    assert logged_in(world.alice).get(one).status_code == 200
    assert key.name not in text_of(logged_in(world.bob), reverse("admin:tenants_apikey_changelist"))
    page = reverse("admin:tenants_tenant_change", args=(world.acme.pk,))
    assert "alice@acme.example" in text_of(logged_in(world.alice), page)
    assert logged_in(world.bob).get(page).status_code == 403


def test_user_without_membership_sees_nothing(world: World) -> None:
    world.bob.memberships.all().delete()
    client = logged_in(world.bob)
    assert "not a member of a tenant" in text_of(client, reverse("admin:index"))
    for model in models():
        assert client.get(address(model, "changelist")).status_code == 403, model


def test_suspended_tenant_is_closed_to_its_members(world: World) -> None:
    Tenant.objects.filter(pk=world.acme.pk).update(is_active=False)
    for model in models():
        assert logged_in(world.alice).get(address(model, "changelist")).status_code == 403, model


def test_operator_sees_every_tenant_and_says_whose_a_row_is(world: World) -> None:
    text = text_of(logged_in(world.operator), reverse("admin:tenants_enduser_changelist"))
    assert all(name in text for name in ("acme-person", "globex-person", "Acme", "Globex"))


def test_opening_a_page_changes_nothing(world: World) -> None:
    """Every page of the admin by GET, as an operator who may do everything."""
    client = logged_in(world.operator)
    client.get(reverse("admin:index"))
    for tenant in (world.acme, world.globex):  # that they look around in it is written down once
        client.get(address(Tenant, "change", tenant.pk))
    before = contents()
    for model in models():
        for row in (row_of(model, world.acme), *model._default_manager.all()[:1]):
            if row is None:
                continue
            for name in pages_about(model):
                text_of(client, reverse(name, args=(row.pk,)))
        text_of(client, address(model, "changelist"))
        text_of(client, address(model, "add"))
    assert contents() == before


def contents() -> dict[str, str]:
    """A fingerprint of every table that holds what people made."""
    others = ("django_", "axes_", "conversations_replica")  # the last is renewed by each web process
    tables = [name for name in connection.introspection.table_names() if not name.startswith(others)]
    with connection.cursor() as cursor:
        found = {}
        for table in tables:
            cursor.execute(f"SELECT coalesce(md5(string_agg(t::text, '|' ORDER BY t::text)), '') FROM {table} t")
            found[table] = cursor.fetchone()[0]
    return found


def test_every_tenants_model_of_the_admin_has_rows_here(world: World) -> None:
    """Or the walks above would pass over it."""
    for model in models():
        assert not issubclass(model, TenantOwned) or row_of(model, world.globex), model
    assert {EndUser, ApiKey, UsageRecord, Tenant} <= set(models())
