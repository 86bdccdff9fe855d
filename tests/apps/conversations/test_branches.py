"""A conversation is a tree: each question follows a turn, and its history is what was said on the way there."""

from __future__ import annotations

import datetime as dt
import importlib
import uuid
from typing import Any

import pytest
from django.db import connections
from django.utils import timezone

from apps.conversations.branches import HISTORY_TURNS
from apps.conversations.models import Message, Turn
from apps.tenants.scoping import platform_unit
from tests import factories
from tests.apps.admin_world import make_turn
from tests.apps.conversations.conftest import Api, World
from tests.fakes.inference import Reply

parents = importlib.import_module("apps.conversations.migrations.0009_parents")


async def asked(world: World, api: Api, text: str, answer: str = "", **body: Any) -> dict[str, Any]:
    """The finished turn."""
    world.script(answer or f"answer to {text}")
    response = await api.post(world.turns, {"text": text, **body}, content_type="application/json")
    assert response.status_code == 200, response.json()
    turn: dict[str, Any] = response.json()
    return turn


def history(world: World) -> list[str]:
    """What the model was told after its instructions."""
    request = [request for request in world.fake.requests if request.path.endswith("completions")][-1]
    return [message["content"] for message in request.payload["messages"]][1:]


async def test_each_question_follows_the_latest_turn(world: World, api: Api) -> None:
    first = await asked(world, api, "one")
    second = await asked(world, api, "two")
    third = await asked(world, api, "three")
    assert [turn["parent"] for turn in (first, second, third)] == [None, first["id"], second["id"]]
    assert history(world) == ["one", "answer to one", "two", "answer to two", "three"]


async def test_an_edited_question_branches_off_and_the_old_branch_stays(world: World, api: Api) -> None:
    first = await asked(world, api, "one")
    second = await asked(world, api, "two")
    third = await asked(world, api, "three")
    edited = await asked(world, api, "two, but better", edits=second["id"])
    assert (edited["parent"], edited["id"] != second["id"]) == (first["id"], True)
    assert history(world) == ["one", "answer to one", "two, but better"]
    after = await asked(world, api, "four")
    assert after["parent"] == edited["id"]
    assert history(world) == ["one", "answer to one", "two, but better", "answer to two, but better", "four"]
    back = await asked(world, api, "five", parent=third["id"])
    assert back["parent"] == third["id"]
    assert history(world)[-3:] == ["three", "answer to three", "five"]
    assert await platform_unit(Turn.objects.count) == 6


async def test_the_first_question_can_be_edited(world: World, api: Api) -> None:
    first = await asked(world, api, "one")
    edited = await asked(world, api, "uno", edits=first["id"])
    assert edited["parent"] is None
    assert history(world) == ["uno"]
    await asked(world, api, "due")
    assert history(world) == ["uno", "answer to uno", "due"]


@pytest.mark.parametrize("named", ["parent", "edits"])
async def test_a_turn_that_is_not_of_the_conversation_is_unknown(world: World, api: Api, named: str) -> None:
    def others() -> list[Turn]:
        acme = factories.make_conversation(tenant=world.tenant, assistant=world.assistant)
        globex = factories.make_tenant("other")
        theirs = factories.make_conversation(tenant=globex, assistant=factories.make_assistant(tenant=globex))
        endpoint = factories.make_endpoint()
        return [make_turn(conversation, text="x", endpoint=endpoint) for conversation in (acme, theirs)]

    ids = [turn.pk for turn in await platform_unit(others)]
    answers = []
    for turn in (*ids, uuid.uuid4()):
        response = await api.post(world.turns, {"text": "x", named: str(turn)}, content_type="application/json")
        answers.append((response.status_code, response.json()["code"], response.json()["message"]))
    assert answers == [(404, "not_found", "There is no such turn.")] * 3
    assert await platform_unit(Message.objects.filter(conversation=world.conversation).count) == 0


async def test_a_question_has_one_place(world: World, api: Api) -> None:
    first = await asked(world, api, "one")
    body = {"text": "x", "edits": first["id"], "parent": first["id"]}
    response = await api.post(world.turns, body, content_type="application/json")
    assert (response.status_code, list(response.json()["fields"])) == (400, ["edits"])
    response = await api.post(world.turns, {"text": "x", "edits": "x"}, content_type="application/json")
    assert (response.status_code, list(response.json()["fields"])) == (400, ["edits"])


async def test_a_question_without_an_answer_is_passed_over(world: World, api: Api) -> None:
    await asked(world, api, "one")
    world.fake.script(Reply(status=429, body="busy"))
    failed = await api.ask(world.turns, "two")
    assert failed.status_code == 503
    third = await asked(world, api, "three")
    assert third["parent"] == failed.json()["turn"]
    assert history(world) == ["one", "answer to one", "three"]


async def test_history_ends_where_no_window_would_hold_it(world: World, api: Api) -> None:
    def long() -> None:
        endpoint = factories.make_endpoint()
        for number in range(HISTORY_TURNS + 3):
            make_turn(world.conversation, text=f"{number}", endpoint=endpoint)

    await platform_unit(long)
    await asked(world, api, "and now?")
    assert history(world)[:2] == ["3 user", "3 assistant"]
    assert len(history(world)) == 2 * HISTORY_TURNS + 1


async def test_a_clock_that_is_behind_changes_no_order(world: World, api: Api) -> None:
    first = await asked(world, api, "one")
    future = timezone.now() + dt.timedelta(minutes=10)
    await platform_unit(lambda: Turn.objects.filter(pk=first["id"]).update(created=future))
    second = await asked(world, api, "two")
    third = await asked(world, api, "three")
    assert [second["parent"], third["parent"]] == [first["id"], second["id"]]
    assert dt.datetime.fromisoformat(third["created"]) > dt.datetime.fromisoformat(second["created"]) > future


async def test_turns_that_the_release_before_wrote_follow_each_other(world: World, api: Api) -> None:
    first = await asked(world, api, "one")

    def older_release() -> None:
        make_turn(world.conversation, text="two", endpoint=factories.make_endpoint())

    await platform_unit(older_release)
    await asked(world, api, "three")
    assert history(world) == ["one", "answer to one", "two user", "two assistant", "three"]
    edited = await asked(world, api, "2", edits=str((await _named(world, "two user")).pk))
    assert edited["parent"] == first["id"]


@pytest.mark.django_db(transaction=True, databases=["default", "owner"])
def test_older_turns_get_their_parents() -> None:
    tenant = factories.make_tenant("acme")
    assistant = factories.make_assistant(tenant=tenant)
    endpoint = factories.make_endpoint()
    talks = [factories.make_conversation(tenant=tenant, assistant=assistant) for _ in range(2)]
    one, two, again, three = [make_turn(talks[0], text=f"{n}", endpoint=endpoint) for n in range(4)]
    Turn.objects.filter(pk=again.pk).update(question=two.question)
    alone = make_turn(talks[1], text="alone", endpoint=endpoint)
    with connections["owner"].schema_editor(atomic=False) as editor:
        parents.link(None, editor)
    linked = {turn.pk: (turn.parent_id, turn.begins) for turn in Turn.objects.all()}
    assert linked == {
        one.pk: (None, True),
        two.pk: (one.pk, False),
        again.pk: (one.pk, False),
        three.pk: (again.pk, False),
        alone.pk: (None, True),
    }


async def _named(world: World, text: str) -> Turn:
    return await platform_unit(lambda: Turn.objects.for_tenant(world.tenant).get(question__text=text))


async def test_messages_tell_where_they_stand(world: World, api: Api) -> None:
    first = await asked(world, api, "one")
    again = (await api.post(f"/api/v1/turns/{first['id']}/regenerate")).json()
    edited = await asked(world, api, "two", parent=first["id"])
    await asked(world, api, "two, but better", edits=edited["id"])
    listed = (await api.get(f"/api/v1/conversations/{world.conversation.pk}/messages")).json()["results"]
    placed = [(message["role"], message["turns"], message["parent"]) for message in listed]
    assert placed[:4] == [
        ("user", [first["id"], again["id"]], None),
        ("assistant", [first["id"]], None),
        ("assistant", [again["id"]], None),
        ("user", [edited["id"]], first["id"]),
    ]
    beside = [message["parent"] for message in listed if message["role"] == "user"]
    assert beside == [None, first["id"], first["id"]]
    assert {message["continues"] for message in listed} == {None}
