"""Logging in: a password, a second factor where there is one, and nothing else open to those who need one."""

from __future__ import annotations

import datetime
import json
import re
from io import StringIO
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from axes.models import AccessAttempt
from django.conf import settings as configured
from django.contrib.sessions.models import Session
from django.core import signing
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.test import Client, RequestFactory
from django.utils import timezone

from apps.access import rates, sessions, tasks
from apps.access.logins import guesses
from apps.access.rates import Rate
from apps.edge import broker
from apps.tenants.models import AuditEntry, Membership, Tenant, User
from tests import factories
from tests.apps.access.logging_in import CODE, LOGIN, SET_UP, code_of, give_app, is_in, log_in, set_up_app

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def acme() -> Tenant:
    return factories.make_tenant("acme")


@pytest.fixture
def alice(acme: Tenant) -> User:
    return factories.make_member(tenant=acme, email="alice@acme.example", role=Membership.Role.OWNER)


@pytest.fixture
def operator() -> User:
    return factories.make_user("operator@example.com", is_superuser=True)


@pytest.fixture(autouse=True)
def worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs what requests leave to the worker at once."""

    def work(task: str, *arguments: str, expires: float) -> bool:
        {"access.record_failed_login": tasks.record_failed_login}[task](*arguments)
        return True

    monkeypatch.setattr(broker, "send", work)


def actions() -> list[str]:
    return list(AuditEntry.objects.order_by("at").values_list("action", flat=True))


# --- Passwords ---


def test_a_password_opens_the_admin_and_leads_where_one_wanted_to_go(alice: User) -> None:
    client = Client()
    answer = log_in(client, "  Alice@ACME.example")
    assert (answer.status_code, answer["Location"]) == (302, "/admin/")
    answer = Client().post(f"{LOGIN}?next=/admin/security/", {"username": alice.email, "password": factories.PASSWORD})
    assert answer["Location"] == "/admin/security/"
    for elsewhere in ("https://evil.example/", "//evil.example/", "javascript:alert(1)"):
        answer = Client().post(LOGIN, {"username": alice.email, "password": factories.PASSWORD, "next": elsewhere})
        assert answer["Location"] == "/admin/"
    assert is_in(client)
    assert actions() == ["login.succeeded"] * 5
    assert AuditEntry.objects.latest("at").facts == {"ways": ["password"]}


def test_whatever_is_wrong_the_page_is_the_same(alice: User) -> None:
    factories.make_user("gone@example.com", is_active=False)
    bare = factories.make_user("bare@example.com")
    bare.set_unusable_password()
    bare.save()
    tries = [(alice.email, "wrong"), ("nobody@example.com", "wrong"), ("gone@example.com", factories.PASSWORD)]
    tries += [("gone@example.com", "wrong"), (bare.email, "wrong"), (bare.email, ""), ("nobody@example.com", "")]
    pages: dict[bool, set[str]] = {True: set(), False: set()}
    for email, password in tries:
        page = log_in(Client(), email, password)
        assert page.status_code == 200
        words = re.sub(r'nonce="[^"]*"|csrf\S+ value="[^"]*"', "", page.content.decode()).replace(email, "")
        pages[bool(password)].add(words)
    assert [len(found) for found in pages.values()] == [1, 1]


def test_every_failure_costs_one_hash_and_the_same_statements(
    alice: User, django_assert_num_queries: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.contrib.auth.hashers import MD5PasswordHasher  # noqa: PLC0415
    from django.db import connection  # noqa: PLC0415
    from django.test.utils import CaptureQueriesContext  # noqa: PLC0415

    hashed: list[str] = []
    encode = MD5PasswordHasher.encode

    def counted(self: Any, password: str, salt: str) -> str:
        hashed.append(password)
        return str(encode(self, password, salt))

    monkeypatch.setattr(MD5PasswordHasher, "encode", counted)
    monkeypatch.setattr(broker, "send", lambda *_, **__: True)
    costs = set()
    for email in (alice.email, "nobody@example.com"):
        hashed.clear()
        with CaptureQueriesContext(connection) as queries:
            log_in(Client(), email, "wrong")
        costs.add((len(hashed), len(queries)))
    assert len(costs) == 1
    assert costs.pop()[0] == 1


def test_wrong_passwords_lock_the_account_for_their_address(alice: User) -> None:
    for _ in range(configured.AXES_FAILURE_LIMIT):
        log_in(Client(), alice, "wrong")
    locked = log_in(Client(), alice)
    assert locked.status_code == 429
    assert not is_in(Client())
    assert log_in(Client(), alice, REMOTE_ADDR="192.0.2.7").status_code == 302
    assert actions().count("login.failed") >= configured.AXES_FAILURE_LIMIT


def test_one_address_cannot_try_many_accounts(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guesses, "OF_ADDRESS", Rate(burst=5, every=600.0))
    answers = [log_in(Client(), f"somebody{n}@example.com", "x") for n in range(guesses.OF_ADDRESS.burst + 1)]
    assert [answer.status_code for answer in answers] == [200] * guesses.OF_ADDRESS.burst + [429]
    assert b"Try again in a few minutes" in answers[-1].content
    assert log_in(Client(), alice).status_code == 429
    assert log_in(Client(), alice, REMOTE_ADDR="2001:db8::1").status_code == 302


@pytest.mark.parametrize("requests_a_minute", [0, 6_000])
def test_without_redis_nobody_tries_a_password(alice: User, settings: Any, requests_a_minute: int) -> None:
    """With the rates of the edge, which refuse first, and without them."""
    settings.PARLEY_ADDRESS_REQUESTS_A_MINUTE = settings.PARLEY_CREDENTIAL_REQUESTS_A_MINUTE = requests_a_minute
    settings.REDIS_URL = "redis://127.0.0.1:9"
    for answer in (log_in(Client(), alice), Client().post("/admin/password_reset/", {"email": alice.email})):
        assert answer.status_code == 503
        assert b"ust now" in answer.content or b"at the moment" in answer.content
    assert log_in(Client(), alice)["Retry-After"] == "5"
    assert Client().get("/admin/login/").status_code == 200
    rates.forget()


def test_without_redis_nobody_tries_a_code(alice: User, settings: Any) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:9"
    request = RequestFactory().post("/admin/login/code/")
    with pytest.raises(ValidationError, match="cannot be checked"):
        guesses.refuse_guessing(request, alice)
    rates.forget()


def test_a_new_session_is_made_at_the_login(alice: User) -> None:
    client = Client()
    client.get(LOGIN)
    client.session["planted"] = 1
    session = client.session
    session["planted"] = "by somebody"
    session.save()
    before = session.session_key
    log_in(client, alice)
    assert client.session.session_key != before


def test_a_failed_login_for_an_unknown_address_stands_in_no_chain(alice: User) -> None:
    log_in(Client(), "nobody@example.com", "wrong")
    assert actions() == []
    log_in(Client(), alice, "wrong")
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.actor_label, entry.address) == ("login.failed", alice.email, "127.0.0.1")
    assert entry.tenant_id == alice.memberships.get().tenant_id


# --- The second step ---


def test_a_code_is_asked_for_and_works_once(alice: User) -> None:
    secret = give_app(alice)
    client = Client()
    answer = log_in(client, alice)
    assert (answer.status_code, answer["Location"]) == (302, CODE)
    assert not is_in(client)
    code = code_of(secret)
    assert client.post(CODE, {"code": "000000"}).status_code == 200
    assert not is_in(client)
    assert client.post(CODE, {"code": code})["Location"] == "/admin/"
    assert is_in(client)
    again = Client()
    log_in(again, alice)
    assert b"Incorrect code" in again.post(CODE, {"code": code}).content
    assert not is_in(again)
    assert AuditEntry.objects.filter(action="login.succeeded").get().facts == {"ways": ["password", "totp"]}


def test_the_second_step_needs_the_first(alice: User) -> None:
    secret = give_app(alice)
    client = Client()
    assert client.get(CODE)["Location"] == LOGIN
    assert client.post(CODE, {"code": code_of(secret)})["Location"] == LOGIN
    assert not is_in(client)


def test_guesses_at_codes_lock_whoever_holds_the_password(alice: User) -> None:
    secret = give_app(alice)
    client = Client()
    log_in(client, alice)
    for number in range(guesses.CODES_OF_USER.burst):
        client.post(CODE, {"code": f"{number:06}"}, REMOTE_ADDR=f"192.0.2.{number}")
    answer = client.post(CODE, {"code": code_of(secret)}, REMOTE_ADDR="192.0.2.99")
    assert guesses.LATER.encode() in answer.content
    assert not is_in(client)
    assert {"way": "code"} in AuditEntry.objects.filter(action="login.failed").values_list("facts", flat=True)


def test_wrong_codes_count_as_wrong_passwords_do(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = give_app(alice)
    monkeypatch.setattr(guesses, "CODES_OF_USER", Rate(burst=1_000, every=1.0))
    client = Client()
    log_in(client, alice)
    for number in range(configured.AXES_FAILURE_LIMIT):
        client.post(CODE, {"code": f"{number:06}"})
    assert guesses.LATER.encode() in client.post(CODE, {"code": code_of(secret)}).content
    assert log_in(Client(), alice).status_code == 429


def test_a_recovery_code_works_once(alice: User) -> None:
    client = Client()
    log_in(client, alice)
    set_up_app(client)
    page = client.get("/admin/security/codes/").content.decode()
    codes = re.findall(r"^(?:<pre[^>]*>)?(\d{8})$", page, re.MULTILINE)
    assert len(codes) == 10
    again = client.get("/admin/security/codes/").content.decode()
    assert not [code for code in codes if code in again]
    stored = Authenticator.objects.get(type=Authenticator.Type.RECOVERY_CODES).data
    assert not [code for code in codes if code in str(stored)]
    for expected in (True, False):
        lost = Client()
        log_in(lost, alice)
        lost.post(CODE, {"code": codes[0]})
        assert is_in(lost) is expected


def test_the_secret_waits_encrypted_in_the_session(alice: User) -> None:
    client = Client()
    log_in(client, alice)
    page = client.get("/admin/security/app/").content.decode()
    [secret] = re.findall(r'id="secret">(\w+)<', page)
    for row in Session.objects.all():
        assert secret not in str(signing.loads(row.session_data, salt="django.contrib.sessions.SessionStore"))


def test_sessions_that_are_over_are_removed(alice: User, operator: User) -> None:
    stays, over = Client(), Client()
    log_in(stays, alice)
    log_in(over, operator)
    Session.objects.filter(pk=over.session.session_key).update(expire_date=timezone.now())
    tasks.prune_sessions()
    assert [row.pk for row in Session.objects.all()] == [stays.session.session_key]


def test_failed_logins_that_keep_nobody_out_any_more_are_removed(alice: User) -> None:
    for address in ("203.0.113.1", "203.0.113.2"):
        Client(REMOTE_ADDR=address).post(LOGIN, {"username": alice.email, "password": "wrong"})
    first = AccessAttempt.objects.order_by("attempt_time").first()
    AccessAttempt.objects.filter(pk=first.pk).update(attempt_time=timezone.now() - datetime.timedelta(minutes=16))
    assert AccessAttempt.objects.count() == 2
    tasks.prune_failed_logins()
    assert AccessAttempt.objects.count() == 1
    assert not AccessAttempt.objects.filter(pk=first.pk).exists()


@pytest.mark.parametrize(
    "credential",
    ["", "null", "[]", "1", "{}", '{"response": null}', '{"response": {"userHandle": "x"}}', "[" * 5000]
    + [
        json.dumps({"id": "AA", "rawId": "AA", "type": "public-key", "response": {"userHandle": name}}) for name in "A "
    ],
)
def test_no_passkey_is_made_up(alice: User, credential: str) -> None:
    client = Client()
    client.get("/admin/login/passkey/", headers={"accept": "application/json"})
    answer = client.post("/admin/login/passkey/", {"credential": credential})
    assert (answer.status_code, answer["Location"]) == (302, LOGIN)
    assert not is_in(client)
    log_in(client, alice)
    assert client.post("/admin/security/passkeys/add/", {"credential": credential}).status_code == 200
    assert not Authenticator.objects.exists()


# --- Who must have one ---


@pytest.mark.parametrize(
    ("policy", "needed"),
    [
        ("off", ()),
        ("operators", ("operator@example.com",)),
        ("everybody", ("operator@example.com", "alice@acme.example")),
    ],
)
def test_who_needs_a_second_factor_sets_one_up_first(
    alice: User, operator: User, settings: Any, policy: str, needed: str
) -> None:
    settings.PARLEY_REQUIRE_SECOND_FACTOR = policy
    for user in (alice, operator):
        client = Client()
        log_in(client, user)
        for page in ("/admin/", "/admin/security/", "/admin/password_change/", "/admin/tenants/user/"):
            answer = client.get(page)
            led = answer.status_code == 302 and answer["Location"].startswith(SET_UP)
            assert led is (user.email in needed), (policy, user, page)


def test_setting_one_up_opens_the_rest(operator: User, settings: Any) -> None:
    settings.PARLEY_REQUIRE_SECOND_FACTOR = "operators"
    client = Client()
    log_in(client, operator)
    led = client.get("/admin/tenants/user/")["Location"]
    assert "An authenticator app" in client.get(led).content.decode()
    set_up_app(client)
    assert client.get("/admin/security/").status_code == 302 or is_in(client)
    assert 'href="/admin/tenants/user/"' in client.get("/admin/security/codes/").content.decode()
    assert client.get("/admin/tenants/user/").status_code == 200
    assert "second_factor.added" in actions()


def test_a_session_of_a_password_alone_shows_the_second_factor_first(operator: User, settings: Any) -> None:
    client = Client()
    log_in(client, operator)
    secret = give_app(operator)  # by another session
    settings.PARLEY_REQUIRE_SECOND_FACTOR = "operators"
    answer = client.get("/admin/tenants/user/")
    assert answer["Location"] == "/admin/security/again/code/?next=%2Fadmin%2Ftenants%2Fuser%2F"
    shown = client.post(answer["Location"], {"code": code_of(secret)})
    assert shown["Location"] == "/admin/tenants/user/"
    assert client.get("/admin/tenants/user/").status_code == 200


def test_a_socket_opens_no_earlier_than_the_pages(operator: User, settings: Any) -> None:
    client = Client()
    log_in(client, operator)
    cookie = f"{configured.SESSION_COOKIE_NAME}={client.session.session_key}"
    assert sessions.user_of(cookie) == operator
    settings.PARLEY_REQUIRE_SECOND_FACTOR = "operators"
    assert sessions.user_of(cookie) is None
    set_up_app(client)
    cookie = f"{configured.SESSION_COOKIE_NAME}={client.session.session_key}"
    assert sessions.user_of(cookie) == operator


# --- One's own account ---


def test_signing_out_everywhere_else_ends_the_other_sessions(alice: User) -> None:
    here, there = Client(), Client()
    log_in(here, alice)
    log_in(there, alice)
    assert there.get("/admin/security/sign-out/").status_code == 405
    here.post("/admin/security/sign-out/")
    assert is_in(here)
    assert not is_in(there)
    assert "user.signed_out" in actions()


def test_a_new_password_ends_the_other_sessions(alice: User) -> None:
    here, there = Client(), Client()
    log_in(here, alice)
    log_in(there, alice)
    new = "a new horse, a new battery"
    words = {"old_password": factories.PASSWORD, "new_password1": new, "new_password2": new}
    here.post("/admin/password_change/", words)
    assert (is_in(here), is_in(there)) == (True, False)


def test_an_old_session_shows_who_it_is_before_factors_change(alice: User) -> None:
    client = Client()
    log_in(client, alice)
    set_up_app(client)
    session = client.session
    for record in session["account_authentication_methods"]:
        record["at"] -= configured.ACCOUNT_REAUTHENTICATION_TIMEOUT + 1
    session.save()
    answer = client.post("/admin/security/app/remove/")
    assert answer["Location"].startswith("/admin/security/again/password/")
    assert client.post(answer["Location"], {"password": "wrong"}).status_code == 200
    assert Authenticator.objects.filter(type="totp").exists()
    client.post(answer["Location"], {"password": factories.PASSWORD})
    assert not Authenticator.objects.filter(type="totp").exists()  # what was wanted went on
    assert not Authenticator.objects.exists()
    assert actions()[-1] == "second_factor.removed"


def test_an_operator_takes_lost_factors_away(alice: User) -> None:
    client = Client()
    log_in(client, alice)
    set_up_app(client)
    out = StringIO()
    call_command("remove_second_factors", "ALICE@acme.example", stdout=out)
    assert out.getvalue() == "alice@acme.example: 2 removed.\n"
    assert not is_in(client)
    assert log_in(Client(), alice)["Location"] == "/admin/"
    entry = AuditEntry.objects.get(action="second_factor.removed")
    assert (entry.actor_kind, entry.row_label) == ("command", alice.email)
    with pytest.raises(CommandError, match="Nobody has an account"):
        call_command("remove_second_factors", "nobody@example.com")


def test_nobody_removes_anothers_passkey(alice: User, operator: User) -> None:
    key = Authenticator.objects.create(user=operator, type="webauthn", data={"name": "Laptop", "credential": {}})
    client = Client()
    log_in(client, alice)
    assert client.post(f"/admin/security/passkeys/{key.pk}/remove/").status_code == 404
    assert Authenticator.objects.filter(pk=key.pk).exists()


def test_allauths_other_pages_have_no_address() -> None:
    for path in ("signup/", "accounts/signup/", "admin/signup/", "accounts/login/", "accounts/email/", "mfa/"):
        assert Client().get(f"/{path}").status_code in {302, 404}
        assert Client().post(f"/{path}").status_code in {403, 404, 302}
    assert User.objects.count() == 0
