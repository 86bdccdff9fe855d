"""Abuse 16: null, empty, reused, expired and foreign reset tokens fail, and asking for one tells nothing."""

from __future__ import annotations

import datetime
import re
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.tokens import default_token_generator
from django.core import mail
from django.test import Client
from django.utils import timezone
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode

from apps.access import passwords, tasks
from apps.edge import broker
from apps.tenants.models import User
from tests.factories import PASSWORD, make_user

ASK = "/admin/password_reset/"
NEW = "a new horse, a new battery"
SENT = "If there is an account with that address"

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def alice() -> User:
    return make_user("alice@example.com")


@pytest.fixture(autouse=True)
def posted(monkeypatch: pytest.MonkeyPatch, settings: Any) -> list[str]:
    """The worker, in this process: the addresses that requests were made for."""
    asked: list[str] = []

    def work(task: str, email: str, *_: str, expires: float) -> bool:
        if task == tasks.record_failed_login.name:
            return True
        assert (task, expires > 0) == (tasks.mail_new_password.name, True)
        asked.append(email)
        passwords.mail_new_password(email)
        return True

    monkeypatch.setattr(broker, "send", work)
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    return asked


def ask(email: str, **extra: Any) -> str:
    page = Client().post(ASK, {"email": email}, follow=True, **extra).content
    return page.decode()


def mailed_link() -> str:
    [message] = mail.outbox
    [link] = re.findall(r"https?://\S+", str(message.body))
    assert link.startswith(f"{settings.PARLEY_BASE_URL}{ASK}")
    return str(link).removeprefix(settings.PARLEY_BASE_URL)


def choose(link: str, password: str = NEW) -> bool:
    """Follow the link in a browser of its own and set the password; whether that worked."""
    client = Client()
    page = client.get(link, follow=True)
    assert page.status_code == 200
    assert page["Referrer-Policy"] == "same-origin"
    if b"no longer valid" in page.content:
        return False
    done = client.post(page.redirect_chain[-1][0], {"new_password1": password, "new_password2": password}, follow=True)
    return b"Log in with it" in done.content


def opens(user: User, password: str) -> bool:
    user.refresh_from_db()
    return user.check_password(password)


def test_a_mailed_link_sets_a_password_once(alice: User) -> None:
    elsewhere = Client()
    elsewhere.force_login(alice, "django.contrib.auth.backends.ModelBackend")
    assert SENT in ask("Alice@Example.com ")
    link = mailed_link()
    assert mail.outbox[0].to == ["alice@example.com"]
    assert choose(link)
    assert opens(alice, NEW)
    assert elsewhere.get("/admin/").status_code == 302
    assert not choose(link, "a third horse, a third battery")
    assert opens(alice, NEW)


def test_guesses_at_tokens_fail(alice: User) -> None:
    mallory = make_user("mallory@example.com")
    uid, other = (urlsafe_base64_encode(force_bytes(user.pk)) for user in (alice, mallory))
    stolen = default_token_generator.make_token(mallory)
    for token in ("null", "undefined", "None", "0", "-", "set-password", "%00", "a" * 4000, stolen, f"{stolen}x"):
        assert not choose(f"{ASK}{uid}/{token}/"), token
    for name in ("null", "AA", "%00", "..", urlsafe_base64_encode(b"' OR 1=1 --"), "a" * 4000):
        assert not choose(f"{ASK}{name}/{stolen}/"), name
    assert Client().get(f"{ASK}{uid}//")["Location"].startswith("/admin/login/")
    assert not choose(f"{ASK}{other}/{default_token_generator.make_token(alice)}/")
    client = Client()
    assert (
        b"no longer valid"
        in client.post(f"{ASK}{uid}/set-password/", {"new_password1": NEW, "new_password2": NEW}, follow=True).content
    )
    assert opens(alice, PASSWORD)


def test_a_link_expires(alice: User, settings: Any) -> None:
    ask("alice@example.com")
    settings.PASSWORD_RESET_TIMEOUT = -1
    assert not choose(mailed_link())
    assert opens(alice, PASSWORD)


@pytest.mark.parametrize(
    "change",
    [{"email": "other@example.com"}, {"is_active": False}, {"last_login": timezone.now() + datetime.timedelta(1)}],
)
def test_a_link_is_void_once_the_account_has_changed(alice: User, change: dict[str, Any]) -> None:
    ask("alice@example.com")
    User.objects.filter(pk=alice.pk).update(**change)
    assert not choose(mailed_link())
    assert opens(alice, PASSWORD)


def test_asking_tells_nobody_who_has_an_account(alice: User, posted: list[str]) -> None:
    make_user("gone@example.com", is_active=False)
    member = make_user("member@example.com")
    member.set_unusable_password()
    member.save()
    pages = {
        re.sub(r'nonce="[^"]*"|csrf\S+ value="[^"]*"', "", ask(email))
        for email in ("alice@example.com", "nobody@example.com", "gone@example.com", "member@example.com")
    }
    assert len(pages) == 1
    assert len(posted) == 4  # the worker looks, not the request, whose time would tell
    assert [message.to for message in mail.outbox] == [["alice@example.com"]]


def test_an_address_gets_a_few_mails_and_a_client_asks_a_few_times(alice: User, posted: list[str]) -> None:
    said = [ask("alice@example.com") for _ in range(passwords.MAILS_TO_ADDRESS.burst + 2)]
    said += [ask("ALICE@example.com"), ask("al\u0131ce@example.com")]  # \u0131 is an i without its dot
    assert all(SENT in page for page in said)
    assert len(posted) == len(mail.outbox) == passwords.MAILS_TO_ADDRESS.burst
    for number in range(passwords.REQUESTS_OF_CLIENT.burst):
        last = ask(f"somebody{number}@example.com")
    assert "Too many requests" in last
    assert SENT in ask("somebody@example.com", REMOTE_ADDR="192.0.2.7")


def test_the_link_leads_to_parley_whatever_the_host_header_says(alice: User) -> None:
    ask("alice@example.com", HTTP_HOST="localhost", HTTP_X_FORWARDED_HOST="evil.example")
    mailed_link()
    assert Client().post(ASK, {"email": "alice@example.com"}, HTTP_HOST="evil.example").status_code == 400
    assert len(mail.outbox) == 1


@pytest.mark.parametrize(
    "email", ["", "alice", "alice@example.com\r\nBcc: all@example.com", "a\0@example.com", "x" * 400]
)
def test_what_is_no_address_sends_nothing(alice: User, email: str) -> None:
    assert SENT not in ask(email)
    assert mail.outbox == []


def test_asking_needs_the_csrf_token() -> None:
    assert Client(enforce_csrf_checks=True).post(ASK, {"email": "alice@example.com"}).status_code == 403


def test_weak_passwords_are_refused(alice: User) -> None:
    ask("alice@example.com")
    for password in ("short", "alice@example.com", "password1234"):
        assert not choose(mailed_link(), password)
    assert opens(alice, PASSWORD)


def test_a_new_password_ends_the_lock_that_wrong_guesses_made(alice: User) -> None:
    client = Client()
    for _ in range(settings.AXES_FAILURE_LIMIT):
        client.post("/admin/login/", {"username": "alice@example.com", "password": "wrong"})
    right = {"username": "alice@example.com", "password": NEW}
    ask("alice@example.com")
    assert choose(mailed_link())
    assert client.post("/admin/login/?next=/admin/", right).status_code == 302


def test_without_mail_or_without_a_broker_the_page_says_so(
    alice: User, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker, "send", lambda *_, **__: False)
    assert "Try again in a few minutes" in ask("alice@example.com")
    settings.PARLEY_MAIL = False
    assert "sends no e-mail" in Client().get(ASK).content.decode()
    assert SENT not in ask("alice@example.com")
    assert mail.outbox == []


def test_the_login_page_leads_there() -> None:
    assert f'href="{ASK}"' in Client().get("/admin/login/").content.decode()
