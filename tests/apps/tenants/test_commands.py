"""create_tenant and issue_key as an operator types them."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from apps.tenants import keys
from apps.tenants.models import ApiKey, AuditEntry, Membership, Tenant
from apps.tenants.scoping import tenant_scope
from tests import factories


def run(*arguments: str) -> str:
    out = StringIO()
    call_command(*arguments, stdout=out)
    return out.getvalue().strip()


def test_create_tenant_with_a_new_owner(db: None) -> None:
    said = run(
        "create_tenant", "acme", "--name", "Acme Ltd", "--owner", "Alice@Acme.example", "--password", "long enough"
    )
    assert said == "Created tenant acme, owned by Alice@Acme.example."
    membership = Membership.objects.get()
    assert (membership.tenant.name, membership.role, membership.user.email) == (
        "Acme Ltd",
        "owner",
        "alice@acme.example",
    )
    assert membership.user.check_password("long enough")


def test_an_existing_user_can_own_a_second_tenant(db: None) -> None:
    user = factories.make_user("alice@acme.example")
    run("create_tenant", "acme", "--owner", "alice@acme.example")
    assert Membership.objects.get().user == user


@pytest.mark.parametrize("slug", ["Acme", "a b", "-a", "a-", "", "x" * 64])
def test_a_malformed_slug_is_refused(db: None, slug: str) -> None:
    with pytest.raises(CommandError):
        run("create_tenant", slug)
    assert not Tenant.objects.exists()


def test_a_taken_slug_is_refused(db: None) -> None:
    factories.make_tenant("acme")
    with pytest.raises(CommandError, match="already exists"):
        run("create_tenant", "acme")


def test_issue_key_prints_a_key_that_works(db: None) -> None:
    factories.make_tenant("acme")
    text = run("issue_key", "--tenant", "acme", "--days", "3")
    assert keys.parse(text) is not None


@pytest.mark.parametrize("arguments", [["--tenant", "nobody"], ["--tenant", "acme", "--days", "0"]])
def test_issue_key_refuses_with_a_sentence(db: None, arguments: list[str]) -> None:
    factories.make_tenant("acme")
    with pytest.raises(CommandError):
        run("issue_key", *arguments)


def test_both_are_recorded_with_who_ran_them(db: None) -> None:
    run("create_tenant", "acme", "--owner", "alice@acme.example", "--password", "long enough")
    text = run("issue_key", "--tenant", "acme", "--name", "Website")
    tenant = Tenant.objects.get()
    with tenant_scope(tenant):
        entries = list(AuditEntry.objects.for_tenant(tenant).order_by("seq"))
    assert [(entry.action, entry.row_label) for entry in entries] == [
        ("tenant.created", "Acme"), ("member.added", "alice@acme.example"), ("key.issued", "Website"),
    ]  # fmt: skip
    assert [entry.actor_id for entry in entries] == ["create_tenant", "create_tenant", "issue_key"]
    assert {entry.actor_kind for entry in entries} == {"command"}
    assert text not in str([vars(entry) for entry in entries])


def test_issue_key_narrows_as_told(db: None) -> None:
    tenant = factories.make_tenant("acme")
    assistant = factories.make_assistant(tenant=tenant, slug="guide")
    text = run(
        *("issue_key", "--tenant", "acme", "--name", "Shop", "--service-account", "Web"),
        *("--scope", "chat:read", "--scope", "chat:write", "--assistant", "guide", "--ip", "203.0.113.0/24"),
    )
    parts = keys.parse(text)
    assert parts is not None
    key = ApiKey.objects.select_related("service_account").get(key_id=parts.key_id)
    assert (key.name, key.scopes, key.ip_ranges) == ("Shop", ["chat:read", "chat:write"], ["203.0.113.0/24"])
    assert key.assistant_ids == [assistant.pk]
    assert key.service_account is not None
    assert (key.service_account.name, key.member) == ("Web", None)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--scope", "chat:everything"], "invalid choice"),
        (["--assistant", "foreign"], "Acme has no assistant 'foreign'"),
        (["--ip", "203.0.113.7/24"], "write the range as"),
        (["--days", "0"], "at least 1"),
    ],
)
def test_issue_key_refuses(db: None, arguments: list[str], says: str) -> None:
    factories.make_tenant("acme")
    factories.make_assistant(tenant=factories.make_tenant("globex"), slug="foreign")
    with pytest.raises(CommandError, match=says):
        run("issue_key", "--tenant", "acme", *arguments)
    assert not ApiKey.objects.exists()
