"""Talking to a person: who is told, once, and what the reader learns where nobody is."""

from __future__ import annotations

from typing import Any

import pytest

from apps.access import rates
from apps.tenants.scoping import platform_unit
from apps.webhooks.models import Delivery, Webhook
from apps.webhooks.registration import register
from tests.apps.access.visiting import Page, token_for
from tests.apps.conversations.conftest import Api, World, api, fake, world
from tests.apps.widget.dressed import dressed

__all__ = ["api", "fake", "world"]
ASKED = {"email": "ada@shop.example", "note": "The seal does not fit."}


@pytest.fixture
async def desk(world: World) -> World:
    """A webhook listens, and the widget hands over to it."""
    await dressed(world.assistant, handoff="webhook")
    await platform_unit(
        lambda: register(world.tenant, name="Desk", url="https://desk.example/", events=["conversation.handoff"])
    )
    return world


async def hand_off(world: World, api: Any, said: dict[str, Any] | None = None, **headers: str) -> Any:
    path = f"{world.turns[:-5]}handoff"
    return await api.post(path, ASKED if said is None else said, content_type="application/json", headers=headers)


async def deliveries() -> list[Delivery]:
    return await platform_unit(lambda: list(Delivery.objects.all()))


async def test_the_webhook_is_told(desk: World, api: Api) -> None:
    response = await hand_off(desk, api)
    assert (response.status_code, response.json()) == (202, {"conversation": str(desk.conversation.pk)})
    [delivery] = await deliveries()
    assert delivery.event == "conversation.handoff"
    end_user = await platform_unit(lambda: desk.conversation.end_user.external_id)
    assert delivery.data == {
        "conversation": str(desk.conversation.pk),
        "assistant": "guide",
        "user": end_user,
        **ASKED,
    }


async def test_a_visitor_hands_over_their_own(desk: World) -> None:
    mine, theirs = [Page(token=await token_for(desk, user=name)) for name in ("zoe", "yan")]
    conversation = (await mine.say("conversations", {"assistant": "guide"})).json()["id"]
    assert (await theirs.say(f"conversations/{conversation}/handoff", ASKED)).status_code == 404
    assert await deliveries() == []
    assert (await mine.say(f"conversations/{conversation}/handoff")).status_code == 202
    [delivery] = await deliveries()
    assert (delivery.data["user"], delivery.data["email"]) == ("zoe", "")


async def test_sent_again_it_is_told_once(desk: World, api: Api) -> None:
    answers = [await hand_off(desk, api, **{"Idempotency-Key": "once"}) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [202] * 3
    assert answers[-1]["Idempotent-Replayed"] == "true"
    assert len(await deliveries()) == 1
    other = await hand_off(desk, api, {"note": "Another."}, **{"Idempotency-Key": "once"})
    assert other.status_code == 422


async def test_who_asks_too_often_has_to_wait_and_is_not_told_of(
    desk: World, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apps.conversations.sharing_api.HAND_OFFS", rates.Rate(burst=2, every=60.0))
    assert [(await hand_off(desk, api)).status_code for _ in range(3)] == [202, 202, 429]
    assert len(await deliveries()) == 2


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"handoff": ""}, "hands over to nobody"),
        ({"handoff": "email", "handoff_address": "desk@shop.example"}, "by e-mail"),
    ],
)
async def test_what_is_not_offered_is_refused(desk: World, api: Api, fields: dict[str, Any], words: str) -> None:
    await dressed(desk.assistant, **fields)
    response = await hand_off(desk, api)
    assert response.status_code == 400
    assert words in response.json()["message"]
    assert await deliveries() == []


async def test_where_nobody_listens_the_reader_learns_it(desk: World, api: Api) -> None:
    await platform_unit(lambda: Webhook.objects.update(enabled=False))
    response = await hand_off(desk, api)
    assert response.status_code == 503
    assert response.json()["message"] == "Nobody can be reached this way just now. Please use another one."


async def test_a_webhook_of_other_assistants_does_not_listen(desk: World, api: Api) -> None:
    await platform_unit(lambda: Webhook.objects.update(assistants=[desk.tenant.pk]))
    assert (await hand_off(desk, api)).status_code == 503


@pytest.mark.parametrize(("said", "field"), [({"email": "no address"}, "email"), ({"note": "x" * 2001}, "note")])
async def test_bad_input_is_told(desk: World, api: Api, said: dict[str, Any], field: str) -> None:
    response = await hand_off(desk, api, said)
    assert (response.status_code, set(response.json()["fields"])) == (400, {field})
