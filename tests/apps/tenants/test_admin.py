"""People in the admin: keys are shown once, members come by e-mail, a tenant keeps an owner, forms stay in a tenant."""

from __future__ import annotations

import uuid

import pytest
from django.contrib.messages import get_messages
from django.contrib.sessions.models import Session
from django.urls import reverse

from apps.assistants.models import Assistant
from apps.tenants import audit, keys, taking_back
from apps.tenants.models import ApiKey, AuditEntry, EndUser, Erasure, Membership, Tenant, User
from tests import factories
from tests.apps.admin_world import World, logged_in, make_world

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def world() -> World:
    return make_world()


def key_page(name: str, *arguments: object) -> str:
    return reverse(f"admin:tenants_apikey_{name}", args=arguments)


# --- Keys ---


def test_key_is_shown_once_and_kept_nowhere(world: World, caplog: pytest.LogCaptureFixture) -> None:
    client = logged_in(world.alice)
    response = client.post(key_page("add"), {"name": "Web shop", "scopes": ["chat:read"]})
    text = response.context["key"]
    assert text in response.content.decode()
    assert "no-store" in response.headers["Cache-Control"]
    row = ApiKey.objects.for_tenant(world.acme).get(name="Web shop")
    assert keys.digest(keys.parse(text).secret) == bytes(row.digest)
    assert row.created_by == world.alice
    secret = keys.parse(text).secret
    kept = [*(str(session.get_decoded()) for session in Session.objects.all())]
    kept += [str(message) for message in get_messages(response.wsgi_request)]
    kept += [caplog.text, client.get(key_page("changelist")).content.decode()]
    kept += [client.get(key_page("change", row.pk)).content.decode()]
    assert not [place for place in kept if secret in place]


def test_revoking_asks_first(world: World) -> None:
    key = ApiKey.objects.for_tenant(world.acme).get()
    url = reverse("admin:tenants_apikey_revoke", args=(key.pk,))
    client = logged_in(world.alice)
    assert "Revoke this key?" in client.get(url).content.decode()
    key.refresh_from_db()
    assert key.revoked_at is None
    assert client.post(url, {"_form_submitted": "1"}).headers["HX-Redirect"] == key_page("changelist")
    key.refresh_from_db()
    assert key.revoked_at is not None
    assert not ApiKey.objects.usable().filter(pk=key.pk).exists()
    assert "Revoked" in client.get(key_page("changelist")).content.decode()


def test_member_cannot_revoke_anothers(world: World) -> None:
    key = ApiKey.objects.for_tenant(world.acme).get()
    response = logged_in(world.bob).post(
        reverse("admin:tenants_apikey_revoke", args=(key.pk,)), {"_form_submitted": "1"}
    )
    key.refresh_from_db()
    assert (response.status_code, key.revoked_at) == (404, None)


def issue(user: User, **fields: object) -> ApiKey | None:
    logged_in(user).post(key_page("add"), {"name": "New", "scopes": ["chat:read"], **fields})
    return ApiKey.objects.select_related("service_account").filter(name="New").first()


def test_a_member_has_keys_of_their_own_within_their_role(world: World) -> None:
    client = logged_in(world.bob)
    page = client.get(key_page("add")).content.decode()
    assert ("chat:write" in page, "admin:*" in page, "usage:read" in page) == (True, False, False)
    assert issue(world.bob, scopes=["chat:read", "admin:*"]) is None
    key = issue(world.bob, program="Shop")  # which the form does not offer them
    assert key is not None
    assert (key.member, key.service_account) == (world.bob, None)
    listed = client.get(key_page("changelist")).content.decode()
    assert ("New" in listed, "acme key" in listed) == (True, False)
    revoke = reverse("admin:tenants_apikey_revoke", args=(key.pk,))
    assert client.post(revoke, {"_form_submitted": "1"}).status_code == 200
    key.refresh_from_db()
    assert key.revoked_at is not None


def test_owners_see_and_revoke_their_members_keys(world: World) -> None:
    key = issue(world.bob)
    assert key is not None
    client = logged_in(world.alice)
    listed = client.get(key_page("changelist")).content.decode()
    assert "New" in listed
    assert str(world.bob) in listed
    client.post(reverse("admin:tenants_apikey_revoke", args=(key.pk,)), {"_form_submitted": "1"})
    key.refresh_from_db()
    assert key.revoked_at is not None


def test_support_and_analysts(world: World) -> None:
    support = factories.make_member(tenant=world.acme, role=Membership.Role.SUPPORT)
    assert logged_in(support).get(key_page("add")).status_code == 403
    analyst = factories.make_member(tenant=world.acme, role=Membership.Role.ANALYST)
    assert issue(analyst, scopes=["chat:write"]) is None
    assert issue(analyst, scopes=["chat:read", "usage:read"]) is not None


def test_an_owner_issues_a_programs_key_with_limits(world: World) -> None:
    assistant = Assistant.objects.for_tenant(world.acme).get()
    key = issue(
        world.alice,
        program="Shop",
        scopes=["chat:read", "chat:write"],
        assistant_ids=[str(assistant.pk)],
        ip_ranges="203.0.113.7\n2001:db8::/32",
    )
    assert key is not None
    assert key.service_account is not None
    assert (key.service_account.name, key.member, key.created_by) == ("Shop", None, world.alice)
    assert (key.scopes, key.assistant_ids) == (["chat:read", "chat:write"], [assistant.pk])
    assert key.ip_ranges == ["203.0.113.7/32", "2001:db8::/32"]


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("ip_ranges", "203.0.113.7/24", "write the range as 203.0.113.0/24"),
        ("ip_ranges", "everywhere", "is no address or range"),
        ("scopes", [], "required"),
        ("scopes", ["chat:everything"], "not one of the available choices"),
    ],
)
def test_a_key_with_nonsense_is_not_issued(world: World, field: str, value: object, says: str) -> None:
    response = logged_in(world.alice).post(key_page("add"), {"name": "New", "scopes": ["chat:read"], field: value})
    assert says in response.content.decode()
    assert not ApiKey.objects.filter(name="New").exists()


def test_a_key_reaches_no_assistant_of_another_tenant(world: World) -> None:
    foreign = Assistant.objects.for_tenant(world.globex).get()
    assert str(foreign.pk) not in logged_in(world.alice).get(key_page("add")).content.decode()
    assert issue(world.alice, assistant_ids=[str(foreign.pk)]) is None


def test_a_key_can_be_narrowed_and_stays_narrow_when_its_assistant_goes(world: World) -> None:
    assistant = Assistant.objects.for_tenant(world.acme).get()
    key = issue(world.alice, scopes=["chat:read", "chat:write"], assistant_ids=[str(assistant.pk)])
    assert key is not None
    ApiKey.objects.filter(pk=key.pk).update(assistant_ids=[uuid.UUID(int=7)])
    page = logged_in(world.alice).get(key_page("change", key.pk)).content.decode()
    assert "A deleted assistant" in page
    narrowed = {"name": "New", "scopes": ["chat:read"], "assistant_ids": [str(uuid.UUID(int=7))], "ip_ranges": "::1"}
    assert logged_in(world.alice).post(key_page("change", key.pk), narrowed).status_code == 302
    key.refresh_from_db()
    assert (key.scopes, key.assistant_ids, key.ip_ranges) == (["chat:read"], [uuid.UUID(int=7)], ["::1/128"])


def test_key_cannot_expire_in_the_past(world: World) -> None:
    data = {"name": "Late", "scopes": ["chat:read"], "expires_at_0": "2020-01-01", "expires_at_1": "00:00:00"}
    response = logged_in(world.alice).post(key_page("add"), data)
    assert "in the future" in response.content.decode()
    assert not ApiKey.objects.filter(name="Late").exists()


# --- Whose a new row is ---


def test_member_of_one_tenant_is_not_asked_for_it(world: World) -> None:
    asked = {"name": "Mine", "scopes": ["chat:read"], "tenant": str(world.globex.pk)}
    logged_in(world.alice).post(key_page("add") + "?tenant=globex", asked)
    assert ApiKey.objects.get(name="Mine").tenant == world.acme


def test_operator_chooses_the_tenant_before_the_form(world: World) -> None:
    client = logged_in(world.operator)
    assert "For which tenant?" in client.get(key_page("add")).content.decode()
    client.post(key_page("add") + "?tenant=globex", {"name": "Theirs", "scopes": ["chat:read"]})
    assert ApiKey.objects.get(name="Theirs").tenant == world.globex


def test_foreign_tenant_cannot_be_chosen(world: World) -> None:
    Membership.objects.create(tenant=factories.make_tenant("initech"), user=world.alice, role=Membership.Role.OWNER)
    logged_in(world.alice).post(key_page("add") + "?tenant=globex", {"name": "Stolen", "scopes": ["chat:read"]})
    assert ApiKey.objects.get(name="Stolen").tenant != world.globex


def test_forms_refuse_rows_of_another_tenant_even_for_operators(world: World) -> None:
    assistant = Assistant.objects.for_tenant(world.acme).get()
    foreign = Assistant.objects.for_tenant(world.globex).get().prompt
    page = reverse("admin:assistants_assistant_change", args=(assistant.pk,))
    for user in (world.operator, world.alice):
        response = logged_in(user).get(page)
        assert str(foreign.pk) not in response.content.decode()
        logged_in(user).post(page, {"name": "x", "slug": "x", "prompt": str(foreign.pk), "temperature": "0.2"})
        assistant.refresh_from_db()
        assert assistant.prompt != foreign


# --- Members ---


def member_rows(*rows: dict[str, str], initial: int) -> dict[str, str]:
    data = {"memberships-TOTAL_FORMS": str(len(rows)), "memberships-INITIAL_FORMS": str(initial)}
    for number, row in enumerate(rows):
        data |= {f"memberships-{number}-{name}": value for name, value in row.items()}
    return data


@pytest.fixture
def page_data(world: World) -> tuple[str, dict[str, str], dict[str, str], dict[str, str]]:
    """Acme's page, its fields, and the rows of its two members."""
    rows = [
        {"id": str(membership.pk), "tenant": str(world.acme.pk), "role": membership.role}
        for membership in Membership.objects.for_tenant(world.acme).order_by("user__email")
    ]
    url = reverse("admin:tenants_tenant_change", args=(world.acme.pk,))
    return url, {"name": "Acme", "time_zone": "UTC"}, rows[0], rows[1]


def test_nobody_is_made_a_member_without_an_invitation(world: World, page_data) -> None:
    url, fields, alice, bob = page_data
    new = {"tenant": str(world.acme.pk), "user": str(world.charlie.pk), "email": world.charlie.email, "role": "editor"}
    response = logged_in(world.alice).post(url, fields | member_rows(alice, bob, new, initial=2), follow=True)
    assert "bob@acme.example" in logged_in(world.alice).get(url).content.decode()
    assert response.status_code == 200
    assert [membership.tenant for membership in world.charlie.memberships.all()] == [world.globex]


@pytest.mark.parametrize("change", [{"role": "editor"}, {"DELETE": "on"}])
def test_last_owner_stays(world: World, page_data, change: dict[str, str]) -> None:
    url, fields, alice, bob = page_data
    response = logged_in(world.alice).post(url, fields | member_rows(alice | change, bob, initial=2))
    assert "needs an owner" in response.content.decode()
    assert Membership.objects.get(user=world.alice).role == Membership.Role.OWNER


def test_member_cannot_change_the_tenant(world: World, page_data) -> None:
    url, fields, alice, bob = page_data
    bob_promoted = bob | {"role": "owner"}
    response = logged_in(world.bob).post(url, fields | member_rows(alice, bob_promoted, initial=2))
    assert response.status_code == 403
    assert Membership.objects.get(user=world.bob).role == Membership.Role.EDITOR


def test_owner_cannot_set_what_operators_set(world: World, page_data) -> None:
    url, fields, alice, bob = page_data
    sent = {"name": "Acme & Sons", "slug": "globex-2", "is_active": ""}
    logged_in(world.alice).post(url, fields | sent | member_rows(alice, bob, initial=2))
    tenant = Tenant.objects.get(pk=world.acme.pk)
    assert (tenant.name, tenant.slug, tenant.is_active) == ("Acme & Sons", "acme", True)


@pytest.mark.parametrize(("days", "kept"), [("90", 90), ("", None), ("0", 7), ("-1", 7), ("many", 7), ("36501", 7)])
def test_owner_says_how_long_conversations_are_kept(world: World, page_data, days: str, kept: int | None) -> None:
    Tenant.objects.filter(pk=world.acme.pk).update(conversation_days=7)
    url, fields, alice, bob = page_data
    logged_in(world.alice).post(url, fields | {"conversation_days": days} | member_rows(alice, bob, initial=2))
    assert Tenant.objects.get(pk=world.acme.pk).conversation_days == kept
    changed = AuditEntry.objects.filter(tenant=world.acme, action="tenant.changed")
    assert changed.count() == (kept != 7)


def test_a_tenant_that_is_being_erased_stays_suspended(world: World, page_data) -> None:
    taking_back.suspend_tenant(world.acme, audit.SYSTEM)
    Erasure.objects.create(pk=world.acme.pk, slug="acme")
    url, fields, alice, bob = page_data
    sent = {"slug": "acme", "is_active": "on"}
    operator = logged_in(world.operator)
    response = operator.post(url, fields | sent | member_rows(alice, bob, initial=2), follow=True)
    assert "being erased and cannot be resumed" in response.content.decode()
    assert not Tenant.objects.get(pk=world.acme.pk).is_active


# --- Users ---


def test_operator_makes_a_user_who_can_log_in(world: World) -> None:
    data = {
        "email": "eve@example.com",
        "name": "Eve",
        "usable_password": "true",
        "password1": "a long enough secret",
        "password2": "a long enough secret",
    }
    logged_in(world.operator).post(reverse("admin:tenants_user_add"), data)
    eve = User.objects.get(email="eve@example.com")
    assert eve.is_staff
    assert not eve.is_superuser
    assert eve.check_password("a long enough secret")


# --- Deleting ---


def test_deletion_counts_what_goes_and_names_what_stands_in_the_way(world: World) -> None:
    assistant = Assistant.objects.for_tenant(world.acme).get()
    client = logged_in(world.bob)
    text = client.get(reverse("admin:assistants_assistant_delete", args=(assistant.pk,))).content.decode()
    assert all(part in text for part in ("Conversations", "Turns", "Messages"))
    text = client.get(reverse("admin:assistants_prompt_delete", args=(assistant.prompt.pk,))).content.decode()
    assert "1 assistant" in text


def test_list_says_what_to_do_when_it_is_empty(world: World) -> None:
    EndUser.objects.for_tenant(world.acme).delete()
    text = logged_in(world.alice).get(reverse("admin:tenants_enduser_changelist")).content.decode()
    assert "No end users yet" in text
    assert "your application names them" in text


def test_search_without_a_match_offers_the_whole_list(world: World) -> None:
    text = logged_in(world.alice).get(reverse("admin:tenants_enduser_changelist") + "?q=nobody").content.decode()
    assert "Nothing matches" in text
