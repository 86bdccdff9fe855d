"""Invitations: one link, one address, one week, once; made by owners, and whatever is wrong, the page is the same."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from django.conf import settings as configured
from django.core import mail
from django.test import Client
from django.utils import timezone

from apps.access import invitations, passwords, tasks
from apps.access.logins import proof
from apps.edge import broker
from apps.tenants.models import AuditEntry, Invitation, Membership, Tenant, User
from apps.tenants.scoping import tenant_scope
from chatbot.errors import NotPermitted
from tests import factories
from tests.apps.access.logging_in import give_app, is_in, log_in

pytestmark = pytest.mark.usefixtures("database")

ADD = "/admin/tenants/invitation/add/"
OPENED = "/invitations/opened/"
ACCOUNT = "/invitations/account/"
NEW = "a new horse, a new battery"
DEAD = "It may have been used or withdrawn"


@pytest.fixture
def acme() -> Tenant:
    return factories.make_tenant("acme")


@pytest.fixture
def alice(acme: Tenant) -> User:
    return factories.make_member(tenant=acme, email="alice@acme.example", role=Membership.Role.OWNER)


@pytest.fixture(autouse=True)
def sent(monkeypatch: pytest.MonkeyPatch, settings: Any) -> list[tuple[str, ...]]:
    """The worker, in this process, and what it was sent."""
    messages: list[tuple[str, ...]] = []
    works = {task.name: task for task in (tasks.mail_invitation, tasks.mail_new_password, tasks.record_failed_login)}

    def work(task: str, *arguments: str, expires: float) -> bool:
        messages.append((task, *arguments))
        works[task](*arguments)
        return True

    monkeypatch.setattr(broker, "send", work)
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    return messages


def invite(tenant: Tenant, by: User, email: str = "dave@example.com", role: str = "editor") -> str:
    """The path of the link."""
    with tenant_scope(tenant):
        _, link = invitations.invite(tenant, email=email, role=role, by=by)
    return link.removeprefix(configured.PARLEY_BASE_URL)


def roles_of(email: str) -> list[str]:
    return list(Membership.objects.filter(user__email=email).values_list("role", flat=True))


def make_account(client: Client, password: str = NEW) -> Any:
    return client.post(ACCOUNT, {"name": "Dave", "password1": password, "password2": password})


# --- Making ---


def test_an_owner_invites_in_the_admin_and_the_link_is_shown_once(acme: Tenant, alice: User) -> None:
    client = Client()
    log_in(client, alice)
    page = client.post(ADD, {"email": "Dave@Example.com", "role": "analyst"})
    [link] = re.findall(rf"{configured.PARLEY_BASE_URL}/invitations/[\w-]{{43}}/", page.content.decode())
    assert "no-store" in page["Cache-Control"]
    token = link.split("/")[-2]
    row = Invitation.objects.get()
    assert (row.email, row.role, row.invited_by, row.tenant) == ("dave@example.com", "analyst", alice, acme)
    assert bytes(row.digest) == invitations.digest(token)
    week = row.expires_at - timezone.now()
    assert datetime.timedelta(days=6, hours=23) < week <= invitations.LASTS
    shown = (
        client.get("/admin/tenants/invitation/").content
        + client.get(f"/admin/tenants/invitation/{row.pk}/change/").content
    )
    assert b"dave@example.com" in shown
    assert token.encode() not in shown
    [message] = mail.outbox
    assert (message.to, link in str(message.body)) == (["dave@example.com"], True)
    assert [entry.action for entry in AuditEntry.objects.order_by("at")] == ["login.succeeded", "member.invited"]
    assert token not in str([entry.__dict__ for entry in AuditEntry.objects.all()])


def test_the_broker_never_holds_the_link(acme: Tenant, alice: User, sent: list[tuple[str, ...]]) -> None:
    token = invite(acme, alice).split("/")[-2]
    assert sent
    assert token not in str(sent)


@pytest.mark.parametrize("role", ["editor", "analyst", "support", None])
def test_only_owners_invite(acme: Tenant, role: str | None) -> None:
    bob = factories.make_member(tenant=acme, role=role) if role else factories.make_user()
    globex = factories.make_tenant("globex")
    factories_owner = Membership.objects.create(tenant=globex, user=bob, role="owner")
    assert factories_owner.role == "owner"
    with pytest.raises(NotPermitted):
        invite(acme, bob)
    client = Client()
    log_in(client, bob)
    client.post(f"{ADD}?tenant=acme", {"email": "dave@example.com", "role": "owner", "tenant": str(acme.pk)})
    assert not Invitation.objects.for_tenant(acme).exists()


def test_a_member_is_not_invited_and_a_second_invitation_replaces_the_first(acme: Tenant, alice: User) -> None:
    client = Client()
    log_in(client, alice)
    assert b"a member already" in client.post(ADD, {"email": "ALICE@acme.example", "role": "editor"}).content
    first, second = invite(acme, alice), invite(acme, alice, role="support")
    assert Client().get(first).status_code == 404
    assert Client().get(second)["Location"] == OPENED


# --- Accepting ---


def test_somebody_new_makes_an_account_and_accepts(acme: Tenant, alice: User) -> None:
    link = invite(acme, alice, role="analyst")
    client = Client()
    page = client.get(link, follow=True)
    assert page.redirect_chain == [(OPENED, 302)]
    assert "Acme" in page.content.decode()
    assert link.split("/")[-2] not in page.content.decode()
    assert client.get(ACCOUNT).status_code == 200
    assert not is_in(client)
    made = make_account(client)
    assert made["Location"] == OPENED, made.content
    assert roles_of("dave@example.com") == []
    assert client.post(OPENED)["Location"] == "/admin/"
    assert roles_of("dave@example.com") == ["analyst"]
    dave = User.objects.get(email="dave@example.com")
    assert (dave.name, dave.is_superuser, dave.check_password(NEW)) == ("Dave", False, True)
    entry = AuditEntry.objects.filter(action="invitation.accepted").get()
    assert (entry.actor_label, entry.tenant_id, entry.facts["role"]) == ("Dave", acme.pk, "analyst")
    assert client.get(link).status_code == 404


def test_who_has_an_account_logs_in_first(acme: Tenant, alice: User) -> None:
    dave = factories.make_user("dave@example.com")
    client = Client()
    page = client.get(invite(acme, alice), follow=True).content.decode()
    assert f"/admin/login/?next={OPENED}" in page
    assert client.get(ACCOUNT)["Location"] == OPENED
    assert make_account(client)["Location"] == OPENED
    dave.refresh_from_db()
    assert dave.check_password(factories.PASSWORD)
    answer = client.post(f"/admin/login/?next={OPENED}", {"username": dave.email, "password": factories.PASSWORD})
    assert answer["Location"] == OPENED
    client.post(OPENED)
    assert roles_of(dave.email) == ["editor"]


SPOILERS: dict[str, Callable[[], Any]] = {
    "used": lambda: Invitation.objects.update(accepted_at=timezone.now()),
    "withdrawn": lambda: Invitation.objects.update(withdrawn_at=timezone.now()),
    "expired": lambda: Invitation.objects.update(expires_at=timezone.now()),
    "suspended": lambda: Tenant.objects.update(is_active=False),
    "inviter demoted": lambda: Membership.objects.update(role="editor"),
    "inviter closed": lambda: User.objects.filter(email="alice@acme.example").update(is_active=False),
    "inviter gone": lambda: Invitation.objects.update(invited_by=None),
}
OTHERS = {"random": f"/invitations/{'a' * 43}/", "hostile": "/invitations/%27%20OR%201=1--%ff/"}


@pytest.mark.parametrize("how", [*SPOILERS, *OTHERS])
def test_whatever_is_wrong_with_a_link_the_page_is_the_same(acme: Tenant, alice: User, how: str) -> None:
    link = invite(acme, alice)
    opened = Client()
    opened.get(link)
    SPOILERS.get(how, lambda: None)()
    spoilt = OTHERS.get(how, link)
    pages = {plain(Client().get(OTHERS["random"])), plain(Client().get(spoilt)), plain(Client().get(OPENED))}
    pages |= {plain(Client().post(spoilt)), plain(Client().get(ACCOUNT))}
    if how in SPOILERS:
        pages |= {plain(opened.get(OPENED)), plain(opened.get(ACCOUNT)), plain(make_account(opened))}
    assert len(pages) == 1
    assert DEAD in pages.pop()
    assert not User.objects.filter(email="dave@example.com").exists()


def test_another_account_cannot_tell_the_link_from_a_random_one(acme: Tenant, alice: User) -> None:
    client = Client()
    log_in(client, factories.make_user("mallory@example.com"))
    assert client.get(invite(acme, alice)).status_code == 404
    pages = {plain(client.get(path)) for path in (OTHERS["random"], OPENED, ACCOUNT)}
    assert len({*pages, plain(client.post(OPENED)), plain(make_account(client))}) == 1
    assert roles_of("mallory@example.com") == []


def plain(page: Any) -> str:
    assert page.status_code == 404
    return re.sub(r'nonce="[^"]*"|csrf\S+ value="[^"]*"', "", page.content.decode())


def test_what_was_spoilt_after_the_page_opened_is_not_accepted(acme: Tenant, alice: User) -> None:
    client = Client()
    client.get(invite(acme, alice))
    make_account(client)
    Invitation.objects.update(withdrawn_at=timezone.now())
    assert client.post(OPENED).status_code == 404
    assert roles_of("dave@example.com") == []


def test_accepting_needs_the_csrf_token_and_a_post(acme: Tenant, alice: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.get(invite(acme, alice))
    client.force_login(factories.make_user("dave@example.com"), "django.contrib.auth.backends.ModelBackend")
    session = client.session
    assert client.post(OPENED).status_code == 403
    assert session is not None
    assert roles_of("dave@example.com") == []


def test_an_account_needs_a_good_password(acme: Tenant, alice: User) -> None:
    client = Client()
    client.get(invite(acme, alice))
    for password in ("short", "dave@example.com", "password1234"):
        assert make_account(client, password).status_code == 200
    assert not User.objects.filter(email="dave@example.com").exists()


def test_a_second_factor_comes_before_accepting(acme: Tenant, alice: User, settings: Any) -> None:
    settings.PARLEY_REQUIRE_SECOND_FACTOR = "everybody"
    client = Client()
    client.get(invite(acme, alice))
    make_account(client)
    assert client.post(OPENED)["Location"].startswith("/admin/security/start/")
    assert roles_of("dave@example.com") == []


def test_withdrawing_in_the_admin_ends_the_link(acme: Tenant, alice: User) -> None:
    link = invite(acme, alice)
    row = Invitation.objects.get()
    client = Client()
    log_in(client, alice)
    client.post(f"/admin/tenants/invitation/{row.pk}/withdraw/", {"_form_submitted": "1"})
    assert Client().get(link).status_code == 404
    assert AuditEntry.objects.filter(action="invitation.withdrawn").exists()


# --- Whose the address is ---


def test_the_owner_of_an_address_takes_the_account_back_from_whoever_made_it(
    acme: Tenant, alice: User, sent: list[tuple[str, ...]]
) -> None:
    """An owner sees the link, too, and could make the account of the person whom they invited."""
    squatter = Client()
    squatter.get(invite(acme, alice))
    make_account(squatter)
    dave = User.objects.get(email="dave@example.com")
    give_app(dave)
    assert is_in(squatter)
    passwords.request_mail("dave@example.com", client="192.0.2.1")
    [link] = re.findall(rf"{configured.PARLEY_BASE_URL}(/admin/password_reset/\S+)", str(mail.outbox[-1].body))
    real = Client()
    form = real.get(link, follow=True).redirect_chain[-1][0]
    real.post(form, {"new_password1": "quite another horse", "new_password2": "quite another horse"})
    assert not is_in(squatter)
    assert not Authenticator.objects.exists()
    assert EmailAddress.objects.get().verified
    log_in(real, dave, "quite another horse")
    assert is_in(real)


def test_proving_an_address_that_nobody_doubts_takes_nothing_away(alice: User) -> None:
    give_app(alice)
    for _ in range(2):
        proof.prove(alice, keep_password=False)
    alice.refresh_from_db()
    assert (alice.check_password(factories.PASSWORD), alice.session_epoch) == (True, 0)
    assert Authenticator.objects.count() == 1
