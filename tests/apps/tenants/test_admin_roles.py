"""What each role may do on each page: the whole table, tried page by page."""

from __future__ import annotations

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import reverse

from apps.assistants.models import Assistant, Prompt
from apps.conversations.models import Conversation, Turn
from apps.inference.models import Endpoint
from apps.knowledge.models import Collection, Document, Layout, Source
from apps.oauth.models import Application
from apps.tenants import rights
from apps.tenants.models import ApiKey, AuditEntry, EndUser, Membership, Tenant, User
from apps.usage.models import Grant, Plan, Quota, QuotaAlert, TenantPlan, UsageRecord
from apps.webhooks.models import Delivery, Webhook
from apps.widget.models import Widget
from tests import factories
from tests.apps.admin_world import World, logged_in, make_world, row_of

pytestmark = pytest.mark.usefixtures("database")

Role = Membership.Role
PAGES = ("changelist", "view", "add", "change", "delete")
# Which pages open, by their first letters: l(ist) v(iew) a(dd) c(hange) d(elete). What is not named here fails a test.
ALL, READ, NONE, ONE = "lvacd", "lv", "", "v"
TABLE: dict[type, dict[str, str]] = {
    # model: owner, editor, analyst, support
    Assistant: dict(zip(Role, (ALL, ALL, READ, NONE), strict=True)),
    Prompt: dict(zip(Role, (ALL, ALL, READ, NONE), strict=True)),
    Widget: dict(zip(Role, ("lvc", "lvc", READ, NONE), strict=True)),
    Collection: dict(zip(Role, (ALL, ALL, READ, NONE), strict=True)),
    Document: dict(zip(Role, ("lvd", "lvd", READ, NONE), strict=True)),
    Source: dict(zip(Role, (ALL, ALL, READ, NONE), strict=True)),
    Layout: dict(zip(Role, (READ, READ, READ, NONE), strict=True)),
    Conversation: dict(zip(Role, (READ, NONE, READ, ONE), strict=True)),
    Turn: dict(zip(Role, (READ, NONE, READ, NONE), strict=True)),
    EndUser: dict(zip(Role, (READ, NONE, READ, NONE), strict=True)),
    UsageRecord: dict(zip(Role, (READ, NONE, READ, NONE), strict=True)),
    TenantPlan: dict(zip(Role, (READ, NONE, NONE, NONE), strict=True)),
    Quota: dict(zip(Role, (READ, NONE, NONE, NONE), strict=True)),
    Grant: dict(zip(Role, (READ, NONE, NONE, NONE), strict=True)),
    QuotaAlert: dict(zip(Role, (READ, NONE, NONE, NONE), strict=True)),
    Plan: dict.fromkeys(Role, NONE),
    Tenant: dict(zip(Role, ("lvc", NONE, NONE, NONE), strict=True)),
    AuditEntry: dict(zip(Role, (READ, NONE, NONE, NONE), strict=True)),
    Webhook: dict(zip(Role, (ALL, NONE, NONE, NONE), strict=True)),
    Delivery: dict(zip(Role, (READ, NONE, NONE, NONE), strict=True)),
    Application: dict(zip(Role, (ALL, NONE, NONE, NONE), strict=True)),
    User: dict.fromkeys(Role, NONE),
    Endpoint: dict.fromkeys(Role, NONE),
}
# Pages with rules of their own, tried in their apps: who issues keys, and who invites.
ELSEWHERE = {"tenants.apikey", "tenants.serviceaccount", "tenants.invitation"}


@pytest.fixture
def world() -> World:
    return make_world()


def address(model: type, page: str, row: object | None) -> str:
    name = f"admin:{model._meta.label_lower.replace('.', '_')}_{'change' if page == 'view' else page}"
    return reverse(name) if page in ("changelist", "add") else reverse(name, args=(row.pk,))


def opens(client: Client, model: type, page: str, row: object | None) -> bool:
    """Whether the person gets on: a form that complains of what is missing is one that they may fill in."""
    url = address(model, page, row)
    response = client.post(url, {}) if page in ("add", "change") else client.get(url)
    assert response.status_code in (200, 302, 403), (url, response.status_code)
    return response.status_code != 403


@pytest.mark.parametrize("role", list(Role))
def test_pages_of_a_role(world: World, role: str) -> None:
    client = logged_in(factories.make_member(tenant=world.acme, role=role))
    wrong = []
    for model, allowed in TABLE.items():
        row = row_of(model, world.acme) or model.objects.first()
        opened = "".join(page[0] if page != "changelist" else "l" for page in PAGES if opens(client, model, page, row))
        if opened != allowed[role]:
            wrong.append(f"{model.__name__}: {opened or 'nothing'} instead of {allowed[role] or 'nothing'}")
    assert not wrong


def test_every_page_is_in_the_table() -> None:
    named = {model._meta.label_lower for model in TABLE} | ELSEWHERE
    assert {model._meta.label_lower for model in admin.site._registry} <= named
    assert ApiKey._meta.label_lower in ELSEWHERE


@pytest.mark.parametrize("role", list(Role))
def test_the_menu_names_what_opens(world: World, role: str) -> None:
    client = logged_in(factories.make_member(tenant=world.acme, role=role))
    groups = client.get(reverse("admin:index")).context["sidebar_navigation"]
    links = [item["link"] for group in groups for item in group["items"]]
    assert [link for link in links if client.get(link).status_code != 200] == []
    lists = [address(model, "changelist", None) for model, allowed in TABLE.items() if "l" in allowed[role]]
    assert set(lists) <= set(links)


def test_the_admin_shows_no_more_than_a_key_of_the_same_role_reads() -> None:
    for model, scope in ((UsageRecord, "usage:read"), (Document, "knowledge:read"), (Conversation, "chat:read")):
        readers = {role for role in Role if "l" in TABLE[model][role]}
        assert readers <= {role for role in Role if scope in rights.OF_ROLE[role]}


@pytest.mark.parametrize(
    ("page", "model"),
    [
        ("assistants_prompt_publish", Prompt),
        ("assistants_prompt_preview", Prompt),
        ("knowledge_collection_upload", Collection),
        ("knowledge_collection_search", Collection),
        ("knowledge_collection_pieces", Collection),
        ("knowledge_collection_index", Collection),
        ("knowledge_document_retry", Document),
    ],
)
def test_who_only_reads_posts_nothing(world: World, page: str, model: type) -> None:
    row = row_of(model, world.acme)
    for role in (Role.ANALYST, Role.SUPPORT):
        client = logged_in(factories.make_member(tenant=world.acme, role=role))
        assert client.post(reverse(f"admin:{page}", args=(row.pk,)), {"text": "x"}).status_code == 403
    client = logged_in(world.bob)
    assert client.post(reverse(f"admin:{page}", args=(row.pk,)), {"text": "x"}).status_code != 403


# --- Support ---


@pytest.fixture
def support(world: World) -> Client:
    return logged_in(factories.make_member(tenant=world.acme, role=Role.SUPPORT))


FIND = "admin:conversations_find"


def test_support_opens_one_conversation_by_its_id(world: World, support: Client) -> None:
    conversation = Conversation.objects.for_tenant(world.acme).get()
    response = support.post(reverse(FIND), {"conversation": f" {conversation.pk} "}, follow=True)
    assert "acme assistant" in response.content.decode()
    assert address(Turn, "view", Turn.objects.for_tenant(world.acme).get()) not in response.content.decode()
    entry = AuditEntry.objects.filter(tenant=world.acme).latest("seq")
    assert (entry.action, entry.row_id, entry.row_label) == ("conversation.opened", str(conversation.pk), "")


def test_an_unknown_and_a_foreign_conversation_are_the_same_to_support(world: World, support: Client) -> None:
    foreign = Conversation.objects.for_tenant(world.globex).get()
    for wrong in (foreign.pk, "00000000-0000-4000-8000-000000000000", "nonsense"):
        response = support.post(reverse(FIND), {"conversation": str(wrong)})
        assert "There is no conversation with this id" in response.content.decode()
        assert "globex" not in response.content.decode()


def test_support_has_no_list_and_no_search(world: World, support: Client) -> None:
    assert support.get(address(Conversation, "changelist", None)).status_code == 403
    found = support.get(reverse("admin:search"), {"s": "acme", "extended": "1"}).content.decode()
    assert "acme" not in found.replace("s=acme", "")
    assert "Which conversation is it about?" in support.get(reverse("admin:index")).content.decode()


def test_nobody_else_has_supports_page(world: World) -> None:
    for user in (world.alice, world.bob, world.operator):
        assert logged_in(user).get(reverse(FIND)).status_code == 403


def test_editors_open_what_they_asked_themselves(world: World) -> None:
    assistant = Assistant.objects.for_tenant(world.acme).get()
    own = factories.make_conversation(
        tenant=world.acme,
        assistant=assistant,
        end_user=factories.make_end_user(tenant=world.acme, external_id=f"staff:{world.bob.email}"),
    )
    client = logged_in(world.bob)
    assert client.get(address(Conversation, "view", own)).status_code == 200
    customers = Conversation.objects.for_tenant(world.acme).exclude(pk=own.pk).get()
    assert client.get(address(Conversation, "view", customers)).status_code == 403
