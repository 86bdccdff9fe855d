"""Tickets and signed identities: forged, stolen, replayed, too old or too long, and visitors who become somebody."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from typing import Any

import jwt
import pytest

from apps.access import tickets, visitors
from apps.access.tickets import Ticket
from apps.conversations.models import Conversation, Feedback, Merging, Turn
from apps.tenants.models import AuditEntry, EndUser, Tenant
from apps.tenants.scoping import platform_unit
from tests import factories
from tests.apps.access.visiting import OTHER, PAGE, SHOP, Page, change
from tests.apps.conversations.conftest import World
from tests.apps.conversations.test_websocket import Socket
from tests.apps.widget.dressed import SECRET, dress, identity

UNSIGNED = jwt.encode({"sub": "customer-17", "exp": int(time.time()) + 300}, None, algorithm="none")


@pytest.fixture
async def shop(world: World) -> World:
    """acme's guide, whose visitors come from two sites, and whose shop signs who they are."""
    visitors.forget()

    def arrange() -> None:
        change(world.assistant, visitor_origins=[SHOP, OTHER])
        dress(world.assistant, identity_secret=SECRET)

    await platform_unit(arrange)
    return world


async def enter(page: Page | None = None, /, *, path: str = PAGE, **said: Any) -> Any:
    return await (page or Page()).post(path, json.dumps(said), content_type="text/plain")


async def entered(page: Page | None = None, /, **said: Any) -> dict[str, Any]:
    response = await enter(page, **said)
    assert response.status_code == 201, response.content
    assert response["Access-Control-Allow-Origin"] == (page or Page()).sent["Origin"]
    told: dict[str, Any] = response.json()
    return told


async def who(token: str, origin: str = SHOP) -> str:
    """Whom a token stands for."""
    found = await visitors.visit_of(token)
    assert found
    return found[0].visitor


async def begin(world: World, told: dict[str, Any]) -> str:
    """A conversation of this visitor with one answer, rated."""
    page = Page(token=told["token"])
    conversation = (await page.say("conversations", {"assistant": "guide"})).json()["id"]
    world.script("Prime it [1].")
    turn = (await page.say(f"conversations/{conversation}/turns", {"text": "pump?"})).json()
    assert (await page.say(f"messages/{turn['answer']['id']}/feedback", {"rating": "up"})).status_code == 200
    return str(conversation)


async def conversations_of(told: dict[str, Any]) -> list[str]:
    listed = (await Page(token=told["token"]).get("/api/v1/conversations")).json()["results"]
    return [row["id"] for row in listed]


# --- Tickets ----------------------------------------------------------------------------------------------------------


async def test_a_visitor_comes_back_with_a_ticket(shop: World) -> None:
    first = await entered()
    conversation = await begin(shop, first)
    again = await entered(ticket=first["ticket"])
    assert await who(again["token"]) == await who(first["token"])
    assert await conversations_of(again) == [conversation]
    assert again["ticket"] != first["ticket"]  # it knows the visitor's row now, and the time anew


def forged(ticket: str, **fields: Any) -> str:
    """The ticket with other contents under its old signature."""
    body, _, signature = ticket.removeprefix(tickets.PREFIX).partition(".")
    said = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    said[3] = fields["visitor"]
    return f"{tickets.PREFIX}{base64.urlsafe_b64encode(json.dumps(said).encode()).decode().rstrip('=')}.{signature}"


async def test_a_ticket_that_is_wrong_begins_a_new_visitor_silently(shop: World) -> None:
    told = await entered()
    mine = await who(told["token"])
    wrong: list[Any] = [
        "",
        "x",
        tickets.PREFIX,
        told["ticket"][:-1] + ("A" if told["ticket"][-1] != "A" else "B"),
        told["ticket"] + "x" * 3000,
        forged(told["ticket"], visitor="customer-17"),
        told["token"],
        None,
        17,
        {"ticket": told["ticket"]},
        "\u202e\0",
    ]
    for ticket in wrong:
        visitor = await who((await entered(ticket=ticket))["token"])
        assert visitor.startswith("visitor:"), ticket
        assert visitor != mine, ticket


async def test_a_ticket_is_worth_nothing_elsewhere(shop: World) -> None:
    """On another listed origin, at another assistant, at another tenant."""
    told = await entered()
    mine = await who(told["token"])

    def arrange() -> None:
        factories.make_assistant(tenant=shop.tenant, slug="other", visitor_origins=[SHOP])
        globex = Tenant.objects.get(slug="globex")
        factories.make_assistant(tenant=globex, slug="guide", visitor_origins=[SHOP])

    await platform_unit(arrange)
    assert await who((await entered(Page(OTHER), ticket=told["ticket"]))["token"]) != mine
    for path in ("/api/v1/visitors/acme/other", "/api/v1/visitors/globex/guide"):
        assert await who((await enter(path=path, ticket=told["ticket"])).json()["token"]) != mine
    assert await who((await entered(ticket=told["ticket"]))["token"]) == mine


async def test_a_ticket_is_no_token(shop: World) -> None:
    told = await entered()
    assert (await Page(token=told["ticket"]).get("/api/v1/conversations")).status_code == 401


async def test_a_ticket_ends_thirty_days_after_its_last_use(shop: World, monkeypatch: pytest.MonkeyPatch) -> None:
    told = await entered()
    place = Ticket(shop.tenant.pk, shop.assistant.pk, SHOP, "")
    where = (place.tenant_id, place.assistant_id, place.origin)
    now = time.time()
    monkeypatch.setattr(tickets.time, "time", lambda: now + tickets.LASTS - 60)
    read = tickets.read(told["ticket"], *where)
    assert read
    renewed = tickets.write(read)
    monkeypatch.setattr(tickets.time, "time", lambda: now + tickets.LASTS + 60)
    assert tickets.read(told["ticket"], *where) is None
    assert tickets.read(renewed, *where) is not None
    monkeypatch.setattr(tickets.time, "time", lambda: now - 3600)
    assert tickets.read(told["ticket"], *where) is None


async def test_a_ticket_ends_with_its_site(shop: World) -> None:
    told = await entered()
    await platform_unit(change, shop.assistant, visitor_origins=[OTHER])
    response = await enter(ticket=told["ticket"])
    assert response.status_code == 401
    assert "ticket" not in response.json()


async def test_an_erased_end_user_does_not_come_back(shop: World) -> None:
    told = await entered()
    await begin(shop, told)
    told = await entered(ticket=told["ticket"])
    mine = await who(told["token"])
    await platform_unit(lambda: EndUser.objects.get(external_id=mine).delete())
    assert await who((await entered(ticket=told["ticket"]))["token"]) != mine


async def test_a_body_that_is_none_is_told(shop: World) -> None:
    for body in ("{", "[]", '"x"'):
        response = await Page().post(PAGE, body, content_type="text/plain")
        assert (response.status_code, response.json()["code"]) == (400, "invalid_request")
        assert response["Access-Control-Allow-Origin"] == SHOP
    assert (await Page().post(PAGE)).status_code == 201


# --- Identities -------------------------------------------------------------------------------------------------------


async def test_an_identity_says_who_it_is(shop: World) -> None:
    told = await entered(identity=identity())
    conversation = await begin(shop, told)
    assert await who(told["token"]) == "customer-17"
    elsewhere = await entered(Page(OTHER), identity=identity())
    listed = await Page(OTHER, token=elsewhere["token"]).get("/api/v1/conversations")
    assert [row["id"] for row in listed.json()["results"]] == [conversation]


@pytest.mark.parametrize(
    ("forgery", "words"),
    [
        (UNSIGNED, "HS256"),
        (identity(algorithm="HS512", secret="x" * 64), "HS256"),
        (identity(secret="another assistant's secret, long enough"), "not signed with this assistant's secret"),
        (identity(exp=int(time.time()) - 120), "expired"),
        (identity(exp=int(time.time()) + 86_400), "hour"),
        (identity(exp=None), "`exp`"),
        (identity(None), "`sub`"),
        (identity(""), "printable"),
        (identity("x" * 201), "printable"),
        (identity("a\0b"), "printable"),
        (identity("visitor:0b8a4c1e"), "must not begin"),
        (identity("staff:alice@acme.example"), "must not begin"),
        (identity(nbf=int(time.time()) + 3600), "future"),
        ("x.y.z", "no JSON Web Token"),
        ("\u202e", "no JSON Web Token"),
    ],
    ids=lambda value: value if " " in value else "",
)
async def test_a_forged_identity_is_refused_with_a_sentence(shop: World, forgery: str, words: str) -> None:
    response = await enter(identity=forgery)
    told = response.json()
    assert (response.status_code, told["code"]) == (401, "not_authenticated")
    assert words in told["fields"]["identity"]
    assert SECRET not in response.content.decode()
    assert response["Access-Control-Allow-Origin"] == SHOP
    assert await platform_unit(lambda: EndUser.objects.filter(external_id="customer-17").count()) == 0


async def test_an_identity_is_good_at_its_own_assistant_alone(shop: World) -> None:
    def arrange() -> None:
        other = factories.make_assistant(tenant=shop.tenant, slug="other", visitor_origins=[SHOP])
        dress(other, identity_secret="the other assistant's secret, which is long")
        factories.make_assistant(tenant=shop.tenant, slug="bare", visitor_origins=[SHOP])

    await platform_unit(arrange)
    response = await enter(path="/api/v1/visitors/acme/other", identity=identity())
    assert "not signed" in response.json()["fields"]["identity"]
    response = await enter(path="/api/v1/visitors/acme/bare", identity=identity())
    assert "takes no identities" in response.json()["fields"]["identity"]


async def test_an_identified_visitors_ticket_lets_nobody_in_as_them(shop: World) -> None:
    """Whoever sits down at the browser after they left is somebody else."""
    told = await entered(identity=identity())
    await begin(shop, told)
    again = await entered(ticket=told["ticket"])
    assert (await who(again["token"])).startswith("visitor:")
    assert await conversations_of(again) == []


# --- Merging ----------------------------------------------------------------------------------------------------------


async def test_what_an_anonymous_visitor_said_becomes_the_identified_ones(shop: World) -> None:
    before = await entered()
    conversation = await begin(shop, before)
    anonymous = await who(before["token"])
    told = await entered(ticket=before["ticket"], identity=identity())
    assert await conversations_of(told) == [conversation]
    for path in ("", f"/{conversation}"):
        assert (await Page(token=before["token"]).get(f"/api/v1/conversations{path}")).status_code == 401

    def owners() -> set[str]:
        rows = [*Conversation.objects.filter(pk=conversation), *Turn.objects.all(), *Feedback.objects.all()]
        return {row.end_user.external_id for row in rows}

    assert await platform_unit(owners) == {"customer-17"}
    [entry] = await platform_unit(lambda: list(AuditEntry.objects.filter(action="visitor.identified")))
    assert (entry.actor_label, entry.row_label, entry.facts) == (anonymous, "customer-17", {"conversations": 1})


async def test_it_happens_once(shop: World) -> None:
    """The old ticket, replayed with another identity or alone, gives nothing away."""
    before = await entered()
    await begin(shop, before)
    anonymous = await who(before["token"])
    mine = await entered(ticket=before["ticket"], identity=identity())
    for _ in range(2):
        again = await entered(ticket=before["ticket"], identity=identity("customer-18"))
        assert await conversations_of(again) == []
    alone = await entered(ticket=before["ticket"])
    assert await who(alone["token"]) != anonymous
    assert len(await conversations_of(mine)) == 1
    assert await platform_unit(Merging.objects.count) == 1


async def test_tokens_of_who_has_a_name_now_are_refused(shop: World) -> None:
    """Of every tab, renewed ones too, and at once on a socket: the widget then comes back as the person."""
    before, bystander = await entered(), await entered()
    await begin(shop, before)
    tab = await entered(ticket=before["ticket"])
    renewed = (await Page(token=before["token"]).say("visitors/renew")).json()
    socket = Socket(Origin=SHOP)
    await socket.connect()
    await socket.say(type="auth", key=tab["token"])
    assert (await socket.hear())["type"] == "ready"
    await entered(ticket=before["ticket"], identity=identity())
    for told in (before, tab, renewed):
        page = Page(token=told["token"])
        for response in (await page.get("/api/v1/conversations"), await page.say("visitors/renew")):
            assert (response.status_code, response.json()["code"]) == (401, "not_authenticated")
    sent = await socket.receive_output()
    while sent["type"] != "websocket.close":
        sent = await socket.receive_output()
    assert sent["code"] == 4401
    assert await conversations_of(bystander) == []


async def test_a_crowd_merges_it_once(shop: World) -> None:
    before = await entered()
    conversation = await begin(shop, before)
    people = [f"customer-{number % 2}" for number in range(8)]
    told = await asyncio.gather(*(entered(ticket=before["ticket"], identity=identity(name)) for name in people))
    owned = {name: await conversations_of(one) for name, one in zip(people, told, strict=True)}
    assert sorted(map(len, owned.values())) == [0, 1]
    assert [conversation] in owned.values()
    assert await platform_unit(lambda: AuditEntry.objects.filter(action="visitor.identified").count()) == 1


async def test_one_identified_user_is_never_merged_into_another(shop: World) -> None:
    mine = await entered(identity=identity("customer-17"))
    conversation = await begin(shop, mine)
    told = await entered(ticket=mine["ticket"], identity=identity("customer-18"))
    assert await who(told["token"]) == "customer-18"
    assert await conversations_of(told) == []
    assert await conversations_of(mine) == [conversation]


async def test_a_stolen_ticket_of_another_site_merges_nothing(shop: World) -> None:
    victim = await entered()
    conversation = await begin(shop, victim)
    told = await entered(Page(OTHER), ticket=victim["ticket"], identity=identity("mallory"))
    listed = await Page(OTHER, token=told["token"]).get("/api/v1/conversations")
    assert listed.json()["results"] == []
    assert await conversations_of(victim) == [conversation]
