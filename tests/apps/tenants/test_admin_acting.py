"""For whom the admin acts: its people for one tenant at a time, operators for one or all, with crossings on record."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from django.db import connections
from django.test import Client
from django.urls import reverse

from apps.assistants.models import Assistant
from apps.conversations.models import Turn
from apps.inference.models import Endpoint
from apps.knowledge.models import Collection
from apps.tenants.models import PLATFORM, ApiKey, AuditEntry, Membership, Tenant, User
from apps.usage.models import UsageRecord
from tests import factories
from tests.apps.admin_world import World, logged_in, make_world

pytestmark = pytest.mark.usefixtures("database")

CHOOSE = "admin:acting_for"


@pytest.fixture
def world() -> World:
    return make_world()


@pytest.fixture
def operator(world: World) -> Client:
    return logged_in(world.operator)


def text_of(client: Client, url: str) -> str:
    return client.get(url, follow=True).content.decode()


def list_of(model: type) -> str:
    return reverse(f"admin:{model._meta.label_lower.replace('.', '_')}_changelist")


def page_of(row: Assistant | Collection | Tenant | Endpoint | User) -> str:
    return reverse(f"admin:{row._meta.label_lower.replace('.', '_')}_change", args=(row.pk,))


def choose(client: Client, slug: str) -> str:
    return client.post(reverse(CHOOSE), {"tenant": slug}, follow=True).content.decode()


def crossings(chain: uuid.UUID) -> list[str]:
    entries = AuditEntry.objects.filter(tenant_id=chain, action__startswith="operator.").order_by("seq")
    return [f"{entry.action} {entry.facts['page']}" for entry in entries]


# --- Members of several tenants ---


@pytest.fixture
def alice(world: World) -> Client:
    """Owner of acme, and an analyst of initech."""
    initech = factories.make_tenant("initech")
    factories.make_assistant(tenant=initech, name="initech assistant")
    Membership.objects.create(tenant=initech, user=world.alice, role=Membership.Role.ANALYST)
    return logged_in(world.alice)


def test_one_tenant_at_a_time(alice: Client) -> None:
    choose(alice, "acme")
    text = text_of(alice, list_of(Assistant))
    assert "acme assistant" in text
    assert "initech assistant" not in text
    choose(alice, "initech")
    text = text_of(alice, list_of(Assistant))
    assert "initech assistant" in text
    assert "acme assistant" not in text


def test_the_role_is_that_of_the_tenant(world: World, alice: Client) -> None:
    choose(alice, "acme")
    assert alice.get(list_of(ApiKey)).status_code == 200
    choose(alice, "initech")
    own = Assistant.objects.for_tenant(world.acme).get()
    assert alice.post(page_of(own), {"name": "x"}).status_code == 403
    assert alice.get(page_of(own)).status_code == 302  # as an unknown id


def test_a_foreign_tenant_is_an_unknown_one(alice: Client) -> None:
    answers = [choose(alice, slug) for slug in ("globex", "no-such-tenant", "", "\0")]
    assert all("There is no such tenant here." in answer for answer in answers)
    choices = text_of(alice, reverse(CHOOSE))
    assert "Initech" in choices
    assert "Globex" not in choices


def test_a_lost_membership_ends_the_choice(world: World, alice: Client) -> None:
    choose(alice, "initech")
    world.alice.memberships.exclude(tenant=world.acme).delete()
    assert "acme assistant" in text_of(alice, list_of(Assistant))


def test_whoever_has_one_tenant_has_nothing_to_choose(world: World) -> None:
    text = text_of(logged_in(world.bob), reverse("admin:index"))
    assert "Acme" in text
    assert reverse(CHOOSE) not in text


# --- Operators: all tenants ---


def test_lists_read_with_the_operators_login(world: World, operator: Client) -> None:
    text = text_of(operator, list_of(Assistant))
    assert "acme assistant" in text
    assert "globex assistant" in text
    assert operator.get(reverse("admin:index")).context["week"] == 2


def test_looking_across_is_recorded_once_an_hour(world: World, operator: Client) -> None:
    for _ in range(3):
        operator.get(list_of(Assistant))
    operator.get(list_of(Turn))
    assert crossings(PLATFORM) == ["operator.looked_across assistants_assistant_changelist"]


def test_a_rows_page_runs_in_its_tenant(world: World, operator: Client) -> None:
    own = Assistant.objects.for_tenant(world.globex).get()
    assert "globex prompt" in text_of(operator, page_of(own))
    text_of(operator, page_of(own))
    assert crossings(world.globex.pk) == ["operator.entered assistants_assistant_change"]
    assert crossings(world.acme.pk) == []


def test_each_change_is_recorded_as_a_crossing(world: World, operator: Client) -> None:
    collection = Collection.objects.for_tenant(world.globex).get()
    for name in ("First", "Second"):
        operator.post(page_of(collection), {"name": name, "description": ""})
    collection.refresh_from_db()
    assert collection.name == "Second"
    assert crossings(world.globex.pk) == ["operator.entered knowledge_collection_change"] * 2


def test_an_action_over_one_tenants_rows_is_done(world: World, operator: Client) -> None:
    own = Collection.objects.for_tenant(world.acme).get()
    Assistant.objects.for_tenant(world.acme).get().collections.clear()
    data = {"action": "delete_selected", "_selected_action": [str(own.pk)], "post": "yes"}
    operator.post(list_of(Collection), data)
    assert not Collection.objects.for_tenant(world.acme).exists()
    assert Collection.objects.for_tenant(world.globex).exists()


@pytest.mark.parametrize("all_of_them", [False, True])
def test_an_action_over_several_tenants_is_refused(world: World, operator: Client, all_of_them: bool) -> None:
    chosen = [str(each.pk) for each in Collection.objects.all()][: 1 if all_of_them else 2]
    data = {"action": "delete_selected", "_selected_action": chosen, "post": "yes"}
    response = operator.post(list_of(Collection), data | {"select_across": "1" if all_of_them else "0"}, follow=True)
    assert "Choose one tenant in the header first." in response.content.decode()
    assert Collection.objects.count() == 2


def test_a_tenant_is_added_and_no_slug_twice(operator: Client) -> None:
    data = {"time_zone": "UTC", "is_active": "on", "memberships-TOTAL_FORMS": "0", "memberships-INITIAL_FORMS": "0"}
    add = reverse("admin:tenants_tenant_add")
    operator.post(add, data | {"name": "Initech", "slug": "initech"})
    assert Tenant.objects.get(slug="initech").name == "Initech"
    response = operator.post(add, data | {"name": "Another", "slug": "acme"})
    assert "A tenant with this slug exists already." in response.content.decode()
    assert Tenant.objects.filter(slug="acme").count() == 1


def test_an_endpoint_is_lent_and_taken_back(world: World, operator: Client) -> None:
    endpoint = Endpoint.objects.get(name="acme chat")
    data = {
        "name": endpoint.name, "kind": "chat", "protocol": endpoint.protocol, "base_url": endpoint.base_url,
        "model": endpoint.model, "context_length": "4096", "first_token_seconds": "30", "enabled": "on",
        **factories.ENDPOINT_LIMITS,
    }  # fmt: skip
    for wanted in ([world.globex], [world.globex, world.acme], []):
        operator.post(page_of(endpoint), data | {"tenants": [str(tenant.pk) for tenant in wanted]})
        assert set(endpoint.tenants.all()) == set(wanted)


def test_deleting_what_tenants_refer_to_leaves_their_rows(world: World, operator: Client) -> None:
    endpoint = Endpoint.objects.get(name="acme chat")
    operator.post(reverse("admin:inference_endpoint_delete", args=(endpoint.pk,)), {"post": "yes"})
    assert not Endpoint.objects.filter(pk=endpoint.pk).exists()
    assert Turn.objects.for_tenant(world.acme).get().endpoint is None
    assert UsageRecord.objects.for_tenant(world.acme).get().endpoint is None
    assert UsageRecord.objects.for_tenant(world.globex).get().endpoint is not None


def test_deleting_a_user_ends_their_memberships_everywhere(world: World, operator: Client) -> None:
    Membership.objects.create(tenant=world.globex, user=world.bob)
    operator.post(reverse("admin:tenants_user_delete", args=(world.bob.pk,)), {"post": "yes"})
    assert not User.objects.filter(pk=world.bob.pk).exists()
    assert not Membership.objects.filter(user_id=world.bob.pk).exists()


# --- Operators: one tenant ---


def test_a_chosen_tenant_is_all_that_an_operator_sees(world: World, operator: Client) -> None:
    choose(operator, "acme")
    text = text_of(operator, list_of(Assistant))
    assert "acme assistant" in text
    assert "globex" not in text
    foreign = Assistant.objects.for_tenant(world.globex).get()
    assert operator.get(page_of(foreign)).status_code == 302
    assert operator.get(reverse("admin:index")).context["week"] == 1
    assert crossings(world.acme.pk)[0] == "operator.entered acting_for"
    assert crossings(world.globex.pk) == []
    choose(operator, "")
    assert "globex assistant" in text_of(operator, list_of(Assistant))


def test_users_and_endpoints_are_the_platforms_whatever_is_chosen(world: World, operator: Client) -> None:
    choose(operator, "acme")
    text = text_of(operator, list_of(User))
    assert "charlie@globex.example" in text
    assert "Globex" in text
    assert "globex chat" in text_of(operator, list_of(Endpoint))


def test_operators_find_tenants_by_name(world: World, operator: Client) -> None:
    menu = operator.get(reverse(CHOOSE), headers={"HX-Request": "true"}).content.decode()
    assert all(name in menu for name in ("All tenants", "Acme", "Globex"))
    found = text_of(operator, reverse(CHOOSE) + "?q=glob")
    assert 'value="globex"' in found
    assert 'value="acme"' not in found


# --- Without the operators' login ---


@pytest.fixture
def no_login(world: World) -> Iterator[None]:
    settings = connections.settings.pop("operator")
    yield
    connections.settings["operator"] = settings


def test_without_a_login_the_admin_says_what_to_set(operator: Client, no_login: None) -> None:
    for url in (reverse("admin:index"), list_of(Assistant), reverse(CHOOSE)):
        text = text_of(operator, url)
        assert "OPERATOR_DATABASE_URL" in text
        assert "acme assistant" not in text
    choose(operator, "acme")
    assert "acme assistant" in text_of(operator, list_of(Assistant))


def test_without_a_login_users_and_endpoints_stay_open(world: World, operator: Client, no_login: None) -> None:
    assert "bob@acme.example" in text_of(operator, list_of(User))
    assert operator.get(page_of(world.bob)).status_code == 200
    endpoint = Endpoint.objects.get(name="acme chat")
    assert "acme chat" in text_of(operator, list_of(Endpoint))
    assert operator.get(page_of(endpoint)).status_code == 200
    assert operator.post(reverse("admin:tenants_user_delete", args=(world.bob.pk,)), {"post": "yes"}).status_code == 403


# --- Taking back ---


def members_as(world: World, roles: dict[str, str]) -> dict[str, str]:
    """The part of acme's page about its members."""
    data = {"memberships-TOTAL_FORMS": str(len(roles)), "memberships-INITIAL_FORMS": str(len(roles))}
    for number, (email, role) in enumerate(roles.items()):
        row = Membership.objects.for_tenant(world.acme).get(user__email=email)
        values = {"id": str(row.pk), "tenant": str(world.acme.pk), "role": role}
        data |= {f"memberships-{number}-{name}": value for name, value in values.items()}
    return data


def test_a_suspended_tenant_and_a_deactivated_user_are_on_record(world: World, operator: Client) -> None:
    fields = {"name": "Acme", "slug": "acme", "time_zone": "UTC"}
    formset = members_as(world, {"alice@acme.example": "owner", "bob@acme.example": "editor"})
    for active, action in ((False, "tenant.suspended"), (True, "tenant.resumed")):
        operator.post(page_of(world.acme), fields | formset | ({"is_active": "on"} if active else {}))
        world.acme.refresh_from_db()
        assert world.acme.is_active is active
        assert AuditEntry.objects.filter(tenant=world.acme, action=action).count() == 1
    client = logged_in(world.bob)
    operator.post(page_of(world.bob), {"email": world.bob.email, "name": ""})
    assert AuditEntry.objects.filter(tenant=world.acme, action="user.deactivated").count() == 1
    assert client.get(reverse("admin:index")).status_code == 302


def test_a_new_password_ends_every_session_but_ones_own(world: World, operator: Client) -> None:
    others = logged_in(world.bob), logged_in(world.operator)
    for user in (world.bob, world.operator):
        data = {"usable_password": "true", "password1": "quite long and new", "password2": "quite long and new"}
        operator.post(reverse("admin:auth_user_password_change", args=(user.pk,)), data)
    assert [client.get(reverse("admin:index")).status_code for client in others] == [302, 302]
    assert operator.get(reverse("admin:index")).status_code == 200


def test_owners_change_places_in_one_form(world: World) -> None:
    roles = {"alice@acme.example": "editor", "bob@acme.example": "owner"}
    fields = {"name": "Acme", "time_zone": "UTC"}
    logged_in(world.alice).post(page_of(world.acme), fields | members_as(world, roles))
    rows = Membership.objects.for_tenant(world.acme)
    assert dict(rows.values_list("user__email", "role")) == roles
    entries = AuditEntry.objects.filter(tenant=world.acme, action__startswith="member.")
    assert [entry.action for entry in entries] == ["member.role_changed"] * 2
