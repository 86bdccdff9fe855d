"""A member lets an application act in their name; it never may more than they, and a stolen code or token ends it."""

from __future__ import annotations

import asyncio
import datetime
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.test import AsyncClient
from django.utils import timezone

from apps.oauth import bearers
from apps.oauth.models import AccessToken, Application, Grant
from apps.tenants.models import AuditEntry, Tenant, User
from tests.apps.oauth.clients import BACK, Client, browser_of, make_site, status_of, within
from tests.factories import make_member, make_tenant, make_user

pytestmark = pytest.mark.usefixtures("database")


# --- Consent ---


async def test_the_page_says_who_asks_for_what_where(client: Client, alice: User) -> None:
    page = await (await browser_of(alice)).get(client.link(scope="chat:read usage:read"))
    assert page.status_code == 200
    text = page.content.decode()
    for words in ("Acme Ltd", "Intranet", "alice@example.com", "client.example", "Read usage", "Read conversations"):
        assert words in text
    assert "Manage webhooks" not in text
    assert "no-store" in page["Cache-Control"]
    assert "https://client.example" in page["Content-Security-Policy"].split("form-action")[1].split(";")[0]


async def test_whoever_is_not_logged_in_logs_in_first(client: Client) -> None:
    for link in (client.link(), client.link(client_id="nobody"), client.link(redirect_uri="https://evil.example/")):
        response = await AsyncClient().get(link)
        assert response.status_code == 302
        assert response["Location"].startswith("/admin/login/?next=/oauth/authorize")


async def test_outsiders_meet_an_unknown_application(client: Client, alice: User) -> None:
    globex = await sync_to_async(make_tenant)("globex")
    charlie = await sync_to_async(make_member)(tenant=globex, role="owner")
    operator = await sync_to_async(make_user)("root@example.com", is_superuser=True)
    unknown = await (await browser_of(alice)).get(client.link(client_id="nobody"))
    assert unknown.status_code == 404
    for outsider in (charlie, operator):
        browser = await browser_of(outsider)
        for answer in (await browser.get(client.link()), await browser.post(client.link(), {"answer": "allow"})):
            assert answer.status_code == 404
            assert without_request_id(answer) == without_request_id(unknown)


def without_request_id(response: Any) -> str:
    return str(response.content.decode().split("<small>")[0])


async def test_only_registered_addresses_are_redirected_to(client: Client, alice: User) -> None:
    browser = await browser_of(alice)
    for address in (
        "https://evil.example/",
        BACK + "/",
        BACK + "?x=1",
        BACK + "#",
        "http://client.example/back",
        "https://client.example@evil.example/back",
        "javascript:alert(1)",
        "//client.example/back",
        "%zz",
    ):
        for response in (
            await browser.get(client.link(redirect_uri=address)),
            await browser.post(client.link(redirect_uri=address), {"answer": "allow"}),
        ):
            assert response.status_code == 400, address
            assert "Location" not in response


async def test_a_program_on_its_own_device_may_listen_on_any_port(acme: Tenant, alice: User) -> None:
    registered = {"client_type": Application.CLIENT_PUBLIC, "redirect_uris": "http://127.0.0.1/back"}
    client = Client(*await sync_to_async(make_site)(acme, **registered))
    page = await (await browser_of(alice)).get(client.link(redirect_uri="http://127.0.0.1:45678/back"))
    assert page.status_code == 200


async def test_state_and_issuer_come_back(client: Client, alice: User) -> None:
    for answer in ("allow", "deny"):
        back = await client.agreed(alice, answer)
        assert back["state"] == "x y&z"
        assert back["iss"] == "http://127.0.0.1:8000"
        assert ("code" in back, back.get("error")) == ((True, None) if answer == "allow" else (False, "access_denied"))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"code_challenge": None, "code_challenge_method": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"code_challenge": "x" * 5000}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": "code token"}, "unauthorized_client"),
        ({"scope": "chat:read everything"}, "invalid_scope"),
        ({"resource": "https://elsewhere.example"}, "invalid_target"),
    ],
)
async def test_what_the_application_got_wrong_it_is_told(
    client: Client, alice: User, changes: dict[str, str | None], error: str
) -> None:
    back = await client.agreed(alice, "allow", **changes)
    assert (back["error"], back["state"]) == (error, "x y&z")


async def test_parameters_of_openid_connect_change_nothing(client: Client, alice: User) -> None:
    more = {"nonce": "n" * 5000, "claims": "{]", "prompt": "none", "approval_prompt": "auto", "login_hint": "x"}
    page = await (await browser_of(alice)).get(client.link(**more))
    assert page.status_code == 200
    assert "code" in await client.agreed(alice, "allow", **{**more, "prompt": None})


async def test_consent_is_recorded(client: Client, alice: User) -> None:
    await client.agreed(alice, scope="chat:read")
    entry = await within(client, lambda: AuditEntry.objects.get(action="application.allowed"))
    assert (entry.actor_label, entry.row_label, entry.facts) == (
        "alice@example.com",
        "Intranet",
        {"scopes": ["chat:read"]},
    )


# --- Codes and tokens ---


async def test_the_whole_walk(client: Client, alice: User) -> None:
    tokens = await client.tokens(alice)
    assert tokens["access_token"].startswith("parleyt_")
    assert tokens["refresh_token"].startswith("parleyr_")
    known = await bearers.look_up(tokens["access_token"])
    assert known is not None
    caller = known.caller
    assert (caller.user_id, caller.acts_for) == (alice.pk, "staff:alice@example.com")
    tenant_id = client.application.tenant_id
    assert {f"tenant:{tenant_id}", f"oauth:{client.application.pk}", f"user:{alice.pk}",
            f"member:{tenant_id}:{alice.pk}"} < caller.ends_with  # fmt: skip
    assert await status_of(tokens["access_token"]) == 200


async def test_a_public_client_needs_no_secret(acme: Tenant, alice: User) -> None:
    client = Client(*await sync_to_async(make_site)(acme, client_type=Application.CLIENT_PUBLIC))
    assert client.secret == ""
    tokens = await client.tokens(alice)
    assert (await client.refreshed(tokens["refresh_token"])).status_code == 200


async def test_a_confidential_client_needs_its_secret(client: Client, alice: User) -> None:
    code = (await client.agreed(alice))["code"]
    client.secret = ""
    assert (await client.exchanged(code)).json() == {"error": "invalid_client"}


@pytest.mark.parametrize(
    "changes",
    [{"code_verifier": "x" * 43}, {"code_verifier": ""}, {"redirect_uri": "https://client.example/other"}],
)
async def test_a_code_needs_its_verifier_and_its_address(client: Client, alice: User, changes: dict[str, str]) -> None:
    response = await client.exchanged((await client.agreed(alice))["code"], **changes)
    assert (response.status_code, response.json()["error"]) in {(400, "invalid_grant"), (400, "invalid_request")}


async def test_a_code_lives_a_minute(client: Client, alice: User) -> None:
    code = (await client.agreed(alice))["code"]
    past = timezone.now() - datetime.timedelta(seconds=1)
    await within(client, lambda: Grant.objects.update(expires=past))
    assert (await client.exchanged(code)).json()["error"] == "invalid_grant"


async def test_a_code_is_stored_as_a_digest(client: Client, alice: User) -> None:
    code = (await client.agreed(alice))["code"]
    stored = await within(client, lambda: Grant.objects.values_list("code", flat=True).get())
    assert code not in stored
    assert len(stored) == 64


async def test_a_code_used_twice_ends_what_came_of_it(client: Client, alice: User) -> None:
    code = (await client.agreed(alice))["code"]
    tokens = (await client.exchanged(code)).json()
    renewed = (await client.refreshed(tokens["refresh_token"])).json()
    assert (await client.exchanged(code)).json()["error"] == "invalid_grant"
    bearers.forget()
    assert await status_of(renewed["access_token"]) == 401
    assert (await client.refreshed(renewed["refresh_token"])).json()["error"] == "invalid_grant"


async def test_of_two_exchanges_at_once_neither_keeps_a_token(client: Client, alice: User) -> None:
    code = (await client.agreed(alice))["code"]
    answers = await asyncio.gather(client.exchanged(code), client.exchanged(code))
    assert sorted(answer.status_code for answer in answers) == [200, 400]
    assert await within(client, AccessToken.objects.count) == 0


async def test_another_application_cannot_use_the_code(client: Client, acme: Tenant, alice: User) -> None:
    code = (await client.agreed(alice))["code"]
    other = Client(*await sync_to_async(make_site)(acme, name="Other"))
    other.verifier = client.verifier
    assert (await other.exchanged(code)).json()["error"] == "invalid_grant"
    assert (await client.exchanged(code)).status_code == 200
