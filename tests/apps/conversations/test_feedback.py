"""What end users say of answers: once each, the latest counts, and only of answers that are theirs."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from apps.conversations.models import Feedback
from apps.tenants.scoping import platform_unit
from tests import factories
from tests.apps.admin_world import logged_in
from tests.apps.conversations.conftest import Api, World


async def answer_of(world: World, api: Api) -> dict[str, Any]:
    turn: dict[str, Any] = (await api.ask(world.turns, "pump?")).json()
    return turn


async def give(api: Api, message: str, **said: Any) -> Any:
    return await api.post(f"/api/v1/messages/{message}/feedback", said, content_type="application/json")


async def test_the_latest_word_counts(world: World, api: Api) -> None:
    message = (await answer_of(world, api))["answer"]["id"]
    first = await give(api, message, rating="down", reasons=["wrong", "sources", "wrong"], comment="Which pump?")
    assert first.status_code == 200
    assert first.json() | {"created": 0, "changed": 0} == {
        "message": message,
        "user": world.conversation.end_user.external_id,
        "rating": "down",
        "reasons": ["wrong", "sources"],
        "comment": "Which pump?",
        "created": 0,
        "changed": 0,
    }
    second = (await give(api, message, rating="up")).json()
    assert (second["rating"], second["reasons"], second["comment"]) == ("up", [], "")
    assert second["created"] == first.json()["created"]
    assert await platform_unit(Feedback.objects.count) == 1


async def test_it_is_taken_back_by_whose_answer_it_is(world: World, api: Api) -> None:
    message = (await answer_of(world, api))["answer"]["id"]
    await give(api, message, rating="up")
    path = f"/api/v1/messages/{message}/feedback"
    assert (await Api(world.outsider_key).delete(path)).status_code == 404
    assert (await api.delete(f"{path}?user=somebody")).status_code == 404
    assert await platform_unit(Feedback.objects.count) == 1
    assert [(await api.delete(path)).status_code for _ in range(2)] == [204, 204]
    assert await platform_unit(Feedback.objects.count) == 0


async def test_many_at_once_are_one(world: World, api: Api) -> None:
    message = (await answer_of(world, api))["answer"]["id"]
    given = await asyncio.gather(*(give(api, message, rating="up") for _ in range(6)))
    assert {response.status_code for response in given} == {200}
    assert await platform_unit(Feedback.objects.count) == 1


async def test_what_is_not_ones_own_answer_is_a_404(world: World, api: Api) -> None:
    turn = await answer_of(world, api)
    outsider = Api(world.outsider_key)
    assert (await give(outsider, turn["answer"]["id"], rating="up")).status_code == 404
    assert (await give(api, turn["question"]["id"], rating="up")).status_code == 404
    assert (await give(api, str(uuid.uuid4()), rating="up")).status_code == 404
    assert (await give(api, turn["answer"]["id"], rating="up", user="somebody else")).status_code == 404
    owner = world.conversation.end_user.external_id
    assert (await give(api, turn["answer"]["id"], rating="up", user=owner)).status_code == 200


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({}, "rating"),
        ({"rating": "five stars"}, "rating"),
        ({"rating": "up", "comment": "x" * 2001}, "comment"),
        ({"rating": "up", "comment": "a\0b"}, "comment"),
        ({"rating": "up", "comment": 5}, "comment"),
        ({"rating": "up", "reasons": ["taste"]}, "reasons.0"),
        ({"rating": "up", "reasons": "wrong"}, "reasons"),
        ({"rating": "up", "reasons": ["wrong"] * 8}, "reasons"),
    ],
)
async def test_what_is_no_feedback_is_refused(world: World, api: Api, said: dict[str, Any], field: str) -> None:
    response = await give(api, str(uuid.uuid4()), **said)
    assert (response.status_code, list(response.json()["fields"])) == (400, [field])


async def test_the_conversations_page_shows_it(world: World, api: Api) -> None:
    message = (await answer_of(world, api))["answer"]["id"]
    await give(api, message, rating="down", reasons=["wrong", "sources"], comment="Which pump? <b>")

    def page() -> str:
        client: Client = logged_in(factories.make_member(tenant=world.tenant, role="owner"))
        url = reverse("admin:conversations_conversation_change", args=(world.conversation.pk,))
        return client.get(url).content.decode()

    shown = await platform_unit(page)
    assert "<strong>Not helpful: not correct, wrong sources</strong>Which pump? &lt;b&gt;" in shown


async def test_it_goes_with_its_conversation(world: World, api: Api) -> None:
    message = (await answer_of(world, api))["answer"]["id"]
    await give(api, message, rating="up")
    assert (await api.delete(f"/api/v1/conversations/{world.conversation.pk}")).status_code == 204
    assert await platform_unit(Feedback.objects.count) == 0
