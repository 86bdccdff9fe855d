"""A question answered once more: regenerated from its beginning, or continued from where its answer broke off."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from apps.conversations import replicas
from apps.conversations.again import Deed
from apps.conversations.models import Message, Turn
from apps.conversations.opening import open_again
from apps.conversations.question import Question
from apps.conversations.turn import Opened
from apps.tenants.scoping import platform_unit
from apps.usage.models import UsageRecord
from tests import factories
from tests.apps.conversations.conftest import PASSAGE, Api, World, read_sse
from tests.apps.conversations.test_branches import asked, history
from tests.apps.conversations.test_websocket import Socket
from tests.fakes.inference import Reply


def url(turn: dict[str, Any] | str, deed: str) -> str:
    return f"/api/v1/turns/{turn if isinstance(turn, str) else turn['id']}/{deed}"


async def interrupted(world: World, api: Api) -> str:
    """The id of a turn that broke off after `half an `."""
    world.fake.script(Reply(tokens=["half ", "an "], cut_after=2))
    response = await api.ask(world.turns, "pump?")
    assert response.status_code == 502
    return str(response.json()["turn"])


async def test_a_regenerated_answer_stands_beside_the_first(world: World, api: Api) -> None:
    before = await asked(world, api, "one")
    first = await asked(world, api, "two", "first answer")
    world.script("second answer")
    second = (await api.post(url(first, "regenerate"))).json()
    assert (second["text"], second["id"] != first["id"]) == ("second answer", True)
    assert (second["question"]["id"], second["parent"], second["continues"]) == (
        first["question"]["id"], before["id"], None,
    )  # fmt: skip
    assert history(world) == ["one", "answer to one", "two"]
    assert (await api.get(f"/api/v1/turns/{first['id']}")).json()["text"] == "first answer"
    assert [(await world.bill(turn["id"])).bill for turn in (first, second)] == ["once", "once"]
    await asked(world, api, "three")
    assert history(world)[2:4] == ["two", "second answer"]
    await asked(world, api, "four", parent=first["id"])
    assert history(world)[2:4] == ["two", "first answer"]


async def test_it_streams_where_events_are_asked_for(world: World, api: Api) -> None:
    first = await asked(world, api, "one")
    world.script("an", "ew")
    response = await api.post(url(first, "regenerate"), headers={"Accept": "text/event-stream"})
    events = [event async for event in read_sse(response)]
    assert [events[0].type, events[-1].type] == ["turn.started", "turn.finished"]
    assert events[0].body["question"] == first["question"]["id"]
    assert events[-1].body["text"] == "anew"


async def test_the_first_of_a_branch_is_regenerated_as_one(world: World, api: Api) -> None:
    first = await asked(world, api, "one")
    edited = await asked(world, api, "uno", edits=first["id"])
    again = (await api.post(url(edited, "regenerate"))).json()
    assert (again["parent"], history(world)) == (None, ["uno"])


@pytest.mark.parametrize("deed", ["regenerate", "continue"])
async def test_a_conversation_that_is_answering_answers_nothing_else(world: World, api: Api, deed: str) -> None:
    broken = await interrupted(world, api)
    world.script("slow ", "answer", held=True)
    streaming = await api.ask(world.turns, "and?", Accept="text/event-stream")
    events = read_sse(streaming)
    running = (await anext(events)).body["turn"]
    for turn in (broken, running):
        refused = await api.post(url(turn, deed))
        assert (refused.status_code, refused.json()["code"]) == (409, "turn_in_progress")
    world.fake.release()
    assert [event.type async for event in events][-1] == "turn.finished"


async def test_what_can_be_continued_begins_with_what_was_said(world: World) -> None:
    api = Api(world.key)
    broken = await interrupted(world, api)
    opened = await open_again(world.caller, uuid.UUID(broken), Question(text=""), Deed.CONTINUE, replica=replicas.ME)
    assert isinstance(opened, Opened)
    assert opened.begun
    assert (opened.text, opened.begun.text) == ("pump?", "half an ")
    assert [source.text for source in opened.begun.sources] == [PASSAGE]
    old, new = await world.turn(broken), await world.turn(str(opened.turn_id))
    assert (new.question_id, new.parent_id, new.continues_id) == (old.question_id, old.parent_id, old.pk)
    assert (await world.bill(opened.turn_id)).state == "reserved"


async def test_a_stopped_answer_and_one_cut_off_are_continued(world: World, api: Api) -> None:
    world.script(*("word " for _ in range(200)), delay=0.02)
    response = await api.ask(world.turns, "pump?", Accept="text/event-stream")
    events = read_sse(response)
    async for event in events:
        if event.type == "token":
            break
    stopped = await world.only_turn()
    assert (await api.post(url(str(stopped.pk), "stop"))).json()["state"] == "stopped"
    world.assistant.max_tokens = 20
    await platform_unit(world.assistant.save)
    world.script("word ", endless=True)
    cut = (await api.post(url(str(stopped.pk), "continue"))).json()
    assert (cut["continues"], cut["finish_reason"]) == (str(stopped.pk), "length")
    again = (await api.post(url(cut, "continue"))).json()
    assert (again["continues"], again["question"]["id"]) == (cut["id"], cut["question"]["id"])
    assert await platform_unit(lambda: UsageRecord.objects.exclude(state="settled").count()) == 0


async def test_a_whole_answer_or_none_cannot_be_continued(world: World, api: Api) -> None:
    whole = await asked(world, api, "one")
    world.fake.script(Reply(status=429, body="busy"))
    silent = (await api.ask(world.turns, "two")).json()["turn"]
    for turn in (whole, silent):
        refused = await api.post(url(turn, "continue"))
        assert (refused.status_code, refused.json()["code"]) == (400, "invalid_request")
        assert "can be continued" in refused.json()["message"]
    assert await platform_unit(Turn.objects.count) == 2


@pytest.mark.parametrize("deed", ["regenerate", "continue"])
async def test_a_lone_turn_is_its_clients(world: World, api: Api, deed: str) -> None:
    body = {"model": "guide", "messages": [{"role": "user", "content": "pump?"}]}
    await api.post("/v1/chat/completions", body, content_type="application/json")
    lone = await world.only_turn()
    refused = await api.post(url(str(lone.pk), deed))
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_request")
    assert (await Api(world.outsider_key).post(url(str(lone.pk), deed))).status_code == 404


@pytest.mark.parametrize("deed", ["regenerate", "continue"])
async def test_it_is_within_the_callers_reach(world: World, api: Api, deed: str) -> None:
    broken = await interrupted(world, api)
    other = await platform_unit(lambda: factories.make_assistant(tenant=world.tenant))
    bound = await platform_unit(lambda: factories.make_key(tenant=world.tenant, assistant_ids=[other.pk]))
    reader = await platform_unit(lambda: factories.make_key(tenant=world.tenant, scopes=["chat:read"]))
    for client, query in ((Api(bound), ""), (api, "?user=somebody-else"), (Api(world.outsider_key), "")):
        refused = await client.post(url(broken, deed) + query)
        assert (refused.status_code, refused.json()["message"]) == (404, "There is no such turn.")
    assert (await Api(reader).post(url(broken, deed))).status_code == 403
    assert await platform_unit(Turn.objects.count) == 1


async def test_over_a_socket(world: World) -> None:
    socket = Socket(Authorization=f"Bearer {world.key}")
    await socket.connect()
    await socket.hear()
    world.fake.script(Reply(tokens=["half ", "an "], cut_after=2))
    await socket.say(type="ask", conversation=str(world.conversation.pk), text="pump?")
    broken = (await socket.hear_turn())[0]
    for deed in ("regenerate", "continue"):
        await socket.say(type=deed, turn=broken["turn"], client_id=f"mine-{deed}")
        frames = await socket.hear_turn()
        assert frames[0]["question"] == broken["question"]
        assert {frame["client_id"] for frame in frames} == {f"mine-{deed}"}
        assert frames[-1]["type"] == "turn.finished"
    for bad in ({"turn": "x"}, {}, {"turn": broken["turn"], "client_id": 7}):
        await socket.say(type="regenerate", **bad)
        assert (await socket.hear())["code"] == "invalid_request"
    await socket.say(type="ask", conversation=str(world.conversation.pk), text="pump!", edits=broken["turn"])
    assert (await socket.hear_turn())[-1]["type"] == "turn.finished"
    await socket.disconnect()
    assert await platform_unit(Message.objects.filter(role="user").count) == 2
    assert await platform_unit(lambda: sorted(str(t.parent_id) for t in Turn.objects.all())) == ["None"] * 4


async def test_the_same_key_is_one_more_answer(world: World, api: Api) -> None:
    first = await asked(world, api, "one")
    key = {"Idempotency-Key": "again"}
    one, two = [(await api.post(url(first, "regenerate"), headers=key)).json() for _ in range(2)]
    assert one["id"] == two["id"]
    other = await api.post(url(one, "regenerate"), headers=key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_conflict")
