"""Single sign-on, end to end against a provider on a socket that tells the truth, and one that does not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount
from django.conf import settings as configured
from django.test import Client

from apps.access import invitations
from apps.access.logins import proof
from apps.tenants.models import AuditEntry, Membership, User
from apps.tenants.scoping import tenant_scope
from tests import factories
from tests.apps.access.logging_in import CODE, LOGIN, code_of, give_app, is_in
from tests.fakes.oidc import CLIENT, SECRET, Provider, running_provider
from tests.fakes.site import running_site

pytestmark = pytest.mark.usefixtures("database")

START = "/admin/login/sso/"


@pytest.fixture
def provider(settings: Any) -> Iterator[Provider]:
    with running_provider() as running:
        settings.PARLEY_OIDC = replace(
            settings.PARLEY_OIDC, issuer=running.issuer, client_id=CLIENT, secret=SECRET, name="Example account"
        )
        yield running


@pytest.fixture
def dave() -> User:
    return factories.make_user("dave@example.com")


def go(provider: Provider, client: Client, query: str = "") -> Any:
    """From the login page to the provider and back."""
    away = client.get(START + query)
    assert away.status_code == 302, away.content
    back = provider.let_in(away["Location"])
    assert back.startswith(f"{configured.PARLEY_BASE_URL}{START}callback/?")
    return client.get(back.removeprefix(configured.PARLEY_BASE_URL))


def refuse(provider: Provider, client: Client | None = None) -> str:
    client = client or Client()
    answer = go(provider, client)
    assert answer.status_code == 403
    assert not is_in(client)
    return re.sub(r'nonce="[^"]*"|csrf\S+ value="[^"]*"', "", answer.content.decode())


# --- Who gets in ---


def test_the_account_with_the_verified_address_is_linked_and_found_again(provider: Provider, dave: User) -> None:
    client = Client()
    assert b"Continue with Example account" in client.get(LOGIN).content
    answer = go(provider, client, "?next=/admin/security/")
    assert (answer.status_code, answer["Location"]) == (302, "/admin/security/")
    assert is_in(client)
    link = SocialAccount.objects.get()
    assert (link.user, link.extra_data) == (dave, {"issuer": provider.issuer, "email": "dave@example.com"})
    dave.refresh_from_db()
    assert dave.check_password(factories.PASSWORD)  # nobody doubted that the account is theirs
    provider.claims = {"email": "david@example.com"}  # a new name, the same person
    again = Client()
    go(provider, again)
    assert again.session["_auth_user_id"] == str(dave.pk)
    assert AuditEntry.objects.latest("at").facts == {"ways": ["socialaccount"]}


def test_an_address_in_other_capitals_is_the_same_one(provider: Provider, dave: User) -> None:
    provider.claims = {"email": "Dave@EXAMPLE.com"}
    client = Client()
    go(provider, client)
    assert client.session["_auth_user_id"] == str(dave.pk)


def test_the_email_may_come_from_the_userinfo(provider: Provider, dave: User) -> None:
    provider.claims = {"email": None, "email_verified": None}
    provider.userinfo = {"sub": "dave-1", "email": "dave@example.com", "email_verified": True}
    client = Client()
    go(provider, client)
    assert is_in(client)
    SocialAccount.objects.all().delete()
    provider.userinfo["sub"] = "somebody else"
    refuse(provider)


def test_strangers_are_refused_but_where_signing_up_is_on(provider: Provider, settings: Any) -> None:
    refuse(provider)
    assert not User.objects.exists()
    settings.PARLEY_OIDC = replace(settings.PARLEY_OIDC, sign_up=True)
    client = Client()
    go(provider, client)
    made = User.objects.get()
    assert (made.email, made.name, made.has_usable_password()) == ("dave@example.com", "Dave", False)
    assert (made.is_superuser, made.memberships.count()) == (False, 0)


def test_who_holds_an_invitation_gets_an_account(provider: Provider) -> None:
    acme = factories.make_tenant("acme")
    alice = factories.make_member(tenant=acme, role=Membership.Role.OWNER)
    with tenant_scope(acme):
        _, link = invitations.invite(acme, email="dave@example.com", role="analyst", by=alice)
        _, other = invitations.invite(acme, email="other@example.com", role="owner", by=alice)
    client = Client()
    client.get(other.removeprefix(configured.PARLEY_BASE_URL))
    refuse(provider, client)
    page = client.get(link.removeprefix(configured.PARLEY_BASE_URL), follow=True)
    [href] = re.findall(rf'href="({START}[^"]+)"', page.content.decode())
    answer = go(provider, client, href.removeprefix(START))
    assert answer["Location"] == "/invitations/opened/"
    client.post(answer["Location"])
    assert Membership.objects.get(user__email="dave@example.com").role == "analyst"


def test_a_second_factor_is_asked_for_all_the_same(provider: Provider, dave: User, settings: Any) -> None:
    secret = give_app(dave)
    client = Client()
    assert go(provider, client)["Location"] == CODE
    assert not is_in(client)
    client.post(CODE, {"code": code_of(secret)})
    assert is_in(client)
    Authenticator.objects.all().delete()
    settings.PARLEY_REQUIRE_SECOND_FACTOR = "everybody"
    fresh = Client()
    go(provider, fresh)
    assert fresh.get("/admin/")["Location"].startswith("/admin/security/start/")


def test_an_account_in_doubt_loses_what_its_maker_could_have_left(provider: Provider, dave: User) -> None:
    proof.doubt(dave)
    give_app(dave)
    client = Client()
    go(provider, client)
    dave.refresh_from_db()
    assert is_in(client)
    assert (dave.has_usable_password(), dave.session_epoch, Authenticator.objects.count()) == (False, 1, 0)


# --- Who does not ---


@pytest.mark.parametrize(
    "claims",
    [
        {"email_verified": False},
        {"email_verified": None},
        {"email_verified": "true"},
        {"email": None},
        {"email": ["dave@example.com"]},
        {"email": ""},
        {"nonce": "of another login"},
        {"nonce": None},
        {"iss": "https://evil.example"},
        {"iss": None},
        {"aud": "another client"},
        {"aud": None},
        {"aud": [CLIENT, "another"], "azp": "another"},
        {"exp": 1},
        {"exp": None},
        {"iat": 4_102_444_800},  # the year 2100
        {"sub": None},
        {"sub": ""},
        {"sub": 7},
    ],
    ids=str,
)
def test_what_the_provider_does_not_vouch_for_is_refused(
    provider: Provider, dave: User, claims: dict[str, Any]
) -> None:
    provider.claims = claims
    refuse(provider)
    assert not SocialAccount.objects.exists()


@pytest.mark.parametrize("wrong", [{"forged": True}, {"algorithm": "none"}, {"algorithm": "HS256"}], ids=str)
def test_a_token_that_the_provider_did_not_sign_is_refused(
    provider: Provider, dave: User, wrong: dict[str, Any]
) -> None:
    provider.__dict__.update(wrong)
    refuse(provider)


def test_every_refusal_is_the_same_page(provider: Provider, dave: User, settings: Any) -> None:
    pages = set()
    for claims in ({"email": "nobody@example.com"}, {"email_verified": False}, {"nonce": "x"}, {"exp": 1}):
        provider.claims = claims
        pages.add(refuse(provider))
    provider.claims = {}
    User.objects.update(is_active=False)
    pages.add(refuse(provider))
    User.objects.update(is_active=True)
    settings.PARLEY_OIDC = replace(settings.PARLEY_OIDC, domains=("corp.example",))
    pages.add(refuse(provider))
    assert len(pages) == 1


def test_domains_are_compared_whole(provider: Provider, settings: Any) -> None:
    settings.PARLEY_OIDC = replace(settings.PARLEY_OIDC, domains=("Example.com",), sign_up=True)
    for email in ("dave@example.com.evil.example", "dave@evilexample.com", "dave@sub.example.com"):
        provider.claims = {"email": email, "sub": email}
        refuse(provider)
    provider.claims = {}
    client = Client()
    go(provider, client)
    assert is_in(client)


def test_a_linked_account_is_closed_with_its_user_and_its_address(provider: Provider, dave: User) -> None:
    go(provider, Client())
    provider.claims = {"email_verified": False}
    refuse(provider)
    provider.claims = {}
    User.objects.update(is_active=False)
    refuse(provider)


# --- The way there and back ---


def test_an_answer_that_nobody_waits_for_is_refused(provider: Provider, dave: User) -> None:
    mine, victims = Client(), Client()
    back = provider.let_in(mine.get(START)["Location"]).removeprefix(configured.PARLEY_BASE_URL)
    assert victims.get(back).status_code == 403  # somebody else's login
    assert not is_in(victims)
    for query in ("", "?code=x", "?state=x", "?error=access_denied", "?code=x&state=x", "?state=x&error=server_error"):
        assert mine.get(f"{START}callback/{query}").status_code == 403
    assert mine.get(back).status_code == 302
    assert mine.get(back).status_code == 403  # twice


def test_it_leads_to_our_pages_alone(provider: Provider, dave: User) -> None:
    for where in ("https://evil.example/", "//evil.example"):
        assert go(provider, Client(), f"?next={where}")["Location"] == "/admin/"
    away = Client().get(START + "?scope=admin&auth_params=prompt%3Dnone&process=connect")["Location"]
    asked = {"client_id", "redirect_uri", "scope", "response_type", "state", "nonce"}
    assert set(parse_qs(urlsplit(away).query)) == asked | {"code_challenge", "code_challenge_method"}


@pytest.mark.parametrize("endpoint", ["token_endpoint", "jwks_uri", "userinfo_endpoint"])
def test_no_request_goes_to_a_host_that_is_not_configured(provider: Provider, dave: User, endpoint: str) -> None:
    with running_site() as elsewhere:
        elsewhere.serves("/", "{}", "application/json")
        provider.endpoints = {endpoint: f"http://127.0.0.1:{elsewhere.port}/"}
        provider.claims = {"email": None} if endpoint == "userinfo_endpoint" else {}
        refuse(provider)
        assert not elsewhere.requests


def test_a_provider_that_redirects_or_calls_itself_otherwise_is_refused(provider: Provider, dave: User) -> None:
    provider.endpoints = {"issuer": "https://evil.example"}
    assert Client().get(START).status_code == 403
    provider.endpoints = {}
    with running_site() as elsewhere:
        provider.site.redirects("/keys", f"{elsewhere.url}/keys")
        refuse(provider)
        assert not elsewhere.requests
    provider.site.serves("/keys", "no JSON", "application/json")
    refuse(provider)


def test_a_provider_that_is_away_is_told_in_a_sentence(provider: Provider, settings: Any) -> None:
    settings.PARLEY_OIDC = replace(settings.PARLEY_OIDC, issuer="http://127.0.0.1:9")
    answer = Client().get(START)
    assert answer.status_code == 403
    assert b"did not answer as it should" in answer.content


def test_without_a_provider_there_is_no_such_page() -> None:
    assert Client().get(START).status_code == 404
    assert Client().get(f"{START}callback/?code=x&state=y").status_code == 404
    assert b"Continue with" not in Client().get(LOGIN).content
