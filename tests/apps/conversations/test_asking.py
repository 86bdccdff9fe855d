"""Asking over REST and SSE: what a caller gets, what is stored, what is billed."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any

import psycopg
import pytest
from django.db import OperationalError

from apps.conversations import answering, asking, runner
from apps.conversations.models import Message, Turn
from apps.conversations.opening import open_turn
from apps.inference.models import Endpoint
from apps.tenants.scoping import platform_unit
from apps.usage.models import UsageRecord
from chatbot.events import TurnStarted
from tests.apps.conversations.conftest import PASSAGE, Api, World, read_sse, until_it_says
from tests.fakes.inference import FakeInference, Reply


async def test_answer_is_cited_stored_and_billed_once(world: World, api: Api) -> None:
    world.script("Prime ", "the pump ", "[1].")
    response = await api.ask(world.turns, "How do I prime the pump?")
    body = response.json()
    assert response.status_code == 200, body
    assert (body["state"], body["finish_reason"], body["text"]) == ("finished", "stop", "Prime the pump [1].")
    (citation,) = body["citations"]
    assert (citation["title"], citation["heading"], citation["page"]) == ("Manual", ["First use"], 3)
    assert citation["text"] == PASSAGE
    assert body["usage"]["completion_tokens"] == 3
    assert body["usage"]["estimated"] is False
    assert body["timings"]["first_token_ms"] > 0
    turn = await world.turn(body["id"])
    assert turn.answer is not None
    assert turn.answer.text == "Prime the pump [1]."
    bill = await world.bill(turn.pk)
    assert (bill.state, bill.bill, bill.completion_tokens) == ("settled", "once", 3)


async def test_sources_come_first_then_tokens_then_the_end(world: World, api: Api) -> None:
    world.script("Prime ", "it [1].", delay=0.05)
    response = await api.ask(world.turns, "prime the pump?", Accept="text/event-stream")
    assert response["Content-Type"] == "text/event-stream"
    events = [event async for event in read_sse(response)]
    kinds = [event.type for event in events]
    assert kinds[:2] == ["turn.started", "sources"]
    assert set(kinds[2:-1]) == {"token"}
    assert kinds[-1] == "turn.finished"
    assert [event.cursor for event in events] == [f"1-{n}" for n in range(1, len(events) + 1)]
    assert "".join(event.body["text"] for event in events if event.type == "token") == events[-1].body["text"]
    assert events[1].body["sources"][0]["text"] == PASSAGE


@pytest.mark.parametrize("split", [1, 3, None])
async def test_unknown_markers_never_reach_the_reader(world: World, api: Api, split: int | None) -> None:
    world.script("Yes [", "1", "] and [", "7", "] and no more", split=split)
    response = await api.ask(world.turns, "pump?", Accept="text/event-stream")
    events = [event async for event in read_sse(response)]
    said = "".join(event.body["text"] for event in events if event.type == "token")
    assert said == events[-1].body["text"] == "Yes [1] and and no more"
    assert [citation["n"] for citation in events[-1].body["citations"]] == [1]


async def test_an_answer_without_markers_cites_nothing(world: World, api: Api) -> None:
    world.script("I do not know.")
    body = (await api.ask(world.turns, "pump?")).json()
    assert body["citations"] == []
    assert body["sources"] != []


async def test_history_reaches_the_model(world: World, api: Api) -> None:
    world.script("Forty-two.")
    await api.ask(world.turns, "What is the answer?")
    await api.ask(world.turns, "And the question?")
    chat = [request for request in world.fake.requests if request.path.endswith("completions")]
    said = [(message["role"], message["content"]) for message in chat[-1].payload["messages"]]
    assert said[1:] == [("user", "What is the answer?"), ("assistant", "Forty-two."), ("user", "And the question?")]
    assert PASSAGE in said[0][1]


async def test_a_reader_who_leaves_loses_nothing(world: World, api: Api) -> None:
    world.script(*("word " for _ in range(20)), delay=0.02)
    response = await api.ask(world.turns, "pump?", Accept="text/event-stream")
    async for event in read_sse(response):
        if event.type == "token":
            break
    await response.streaming_content.aclose()
    turn = await world.only_turn()
    events = await api.get(f"/api/v1/turns/{turn.pk}/events")
    assert [event.type async for event in read_sse(events)][-1] == "turn.finished"
    turn = await world.only_turn()
    assert turn.answer is not None
    assert turn.answer.text == "word " * 20
    assert (await world.bill(turn.pk)).bill == "once"


async def test_following_from_a_cursor_gives_the_rest_and_no_more(world: World, api: Api) -> None:
    world.script("a ", "b ", "c ", "d", delay=0.02)
    response = await api.ask(world.turns, "pump?", Accept="text/event-stream")
    seen = [event async for event in read_sse(response)]
    for place, event in enumerate(seen):
        rest = await api.get(f"/api/v1/turns/{seen[0].body['turn']}/events?after={event.cursor}")
        assert [later async for later in read_sse(rest)] == seen[place + 1 :]


async def test_stop_keeps_and_bills_what_was_said(world: World, api: Api) -> None:
    world.script(*("word " for _ in range(200)), delay=0.02)
    response = await api.ask(world.turns, "pump?", Accept="text/event-stream")
    events = read_sse(response)
    async for event in events:
        if event.type == "token":
            break
    turn = await world.only_turn()
    stopped = (await api.post(f"/api/v1/turns/{turn.pk}/stop")).json()
    assert (stopped["state"], stopped["finish_reason"]) == ("stopped", "stopped")
    assert stopped["text"].startswith("word")
    assert len(stopped["text"]) < 1000
    assert [event async for event in events][-1].body["text"] == stopped["text"]
    assert (await world.bill(turn.pk)).bill == "delivered"
    await world.fake.wait_disconnected()
    again = await api.post(f"/api/v1/turns/{turn.pk}/stop")
    assert again.json()["text"] == stopped["text"]


async def test_stop_races_completion_to_one_end(world: World, api: Api) -> None:
    for _ in range(15):
        world.script("a ", "b")
        asking = asyncio.create_task(api.ask(world.turns, "pump?", Accept="text/event-stream"))
        response = await asking
        events = read_sse(response)
        first = await anext(events)
        stopping = asyncio.create_task(api.post(f"/api/v1/turns/{first.body['turn']}/stop"))
        rest = [event async for event in events]
        await stopping
        assert [event.type for event in rest].count("turn.finished") == 1
        # A stop that comes before the model was asked leaves nothing to bill.
        paid = {"once", "delivered"} if rest[-1].body["text"] else {"once", "delivered", "none"}
        assert (await world.bill(first.body["turn"])).bill in paid


async def test_one_answer_at_a_time_in_a_conversation(world: World, api: Api) -> None:
    world.script("slow ", "answer", held=True)
    first = await api.ask(world.turns, "pump?", Accept="text/event-stream")
    second = await api.ask(world.turns, "pump again?")
    assert (second.status_code, second.json()["code"]) == (409, "turn_in_progress")
    world.fake.release()
    assert [event.type async for event in read_sse(first)][-1] == "turn.finished"
    assert (await api.ask(world.turns, "pump again?")).status_code == 200


async def test_the_same_key_twenty_times_at_once_is_one_turn(world: World, api: Api) -> None:
    world.script("one ", "answer", delay=0.05)
    headers = {"Idempotency-Key": "abc"}
    responses = await asyncio.gather(*(api.ask(world.turns, "pump?", **headers) for _ in range(20)))
    assert {response.status_code for response in responses} == {200}
    assert len({response.json()["id"] for response in responses}) == 1
    assert await platform_unit(Turn.objects.count) == await platform_unit(UsageRecord.objects.count) == 1
    assert len([request for request in world.fake.requests if request.path.endswith("completions")]) == 1
    replayed = await api.ask(world.turns, "pump?", **headers)
    assert replayed.json()["text"] == "one answer"
    other = await api.ask(world.turns, "something else?", **headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_conflict")


async def test_a_dead_model_server_shows_the_passages_and_bills_nothing(world: World, api: Api) -> None:
    await platform_unit(lambda: Endpoint.objects.filter(kind="chat").update(base_url="http://127.0.0.1:9"))
    body = (await api.ask(world.turns, "prime the pump?")).json()
    assert (body["state"], body["finish_reason"], body["text"]) == ("finished", "sources_only", "")
    assert body["sources"][0]["text"] == PASSAGE
    assert (await world.bill(body["id"])).bill == "none"


async def test_a_dead_model_server_without_passages_is_a_503_that_keeps_the_question(world: World, api: Api) -> None:
    await platform_unit(lambda: Endpoint.objects.filter(kind="chat").update(base_url="http://127.0.0.1:9"))
    world.assistant.passages = 0
    await platform_unit(world.assistant.save)
    response = await api.ask(world.turns, "anyone there?")
    body = response.json()
    assert (response.status_code, body["code"]) == (503, "model_unavailable")
    assert body["retry_after"] > 0
    assert response["Retry-After"]
    turn = await world.turn(body["turn"])
    assert (turn.state, turn.question.text) == ("failed", "anyone there?")
    assert (await world.bill(turn.pk)).bill == "none"


@pytest.mark.parametrize(
    ("how", "status", "code"),
    [
        (Reply(tokens=["half ", "an "], cut_after=2), 502, "model_failed"),
        (Reply(tokens=["half ", "an "], no_finish=True), 502, "model_failed"),
        (Reply(tokens=["half ", "an "], garbage="data: {nonsense\n\n"), 502, "model_failed"),
    ],
)
async def test_a_broken_stream_keeps_its_part_and_is_our_loss(
    world: World, api: Api, how: Reply, status: int, code: str
) -> None:
    world.fake.script(how)
    response = await api.ask(world.turns, "pump?")
    assert (response.status_code, response.json()["code"]) == (status, code)
    turn = await world.turn(response.json()["turn"])
    assert turn.state == "interrupted"
    assert turn.answer is not None
    assert turn.answer.text == "half an "
    assert (await world.bill(turn.pk)).bill == "loss"


async def test_an_overloaded_server_is_a_503_with_a_time(world: World, api: Api) -> None:
    world.fake.script(Reply(status=429, body="busy", headers={"Retry-After": "7"}))
    response = await api.ask(world.turns, "pump?")
    assert (response.status_code, response.json()["code"]) == (503, "model_busy")
    assert response.json()["retry_after"] == 7


@pytest.mark.parametrize("text", ["", "   ", None, 7, ["x"], "a\0b", "x" * 16_001])
async def test_a_bad_question_is_refused_with_its_field(world: World, api: Api, text: object) -> None:
    response = await api.ask(world.turns, text)
    assert (response.status_code, response.json()["code"]) == (400, "invalid_request")
    assert "text" in response.json()["fields"]
    assert await platform_unit(Message.objects.count) == 0


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff", b"null"])
async def test_malformed_json_is_a_400(world: World, api: Api, body: bytes) -> None:
    response = await api.post(world.turns, body, content_type="application/json")
    assert (response.status_code, response.json()["code"]) == (400, "invalid_request")


async def test_another_tenants_ids_are_as_unknown_as_random_ones(world: World, api: Api) -> None:
    world.script("secret")
    turn = (await api.ask(world.turns, "pump?")).json()["id"]
    outsider = Api(world.outsider_key)
    for path, method in [
        ("conversations/{}/turns", "post"),
        ("conversations/{}", "get"),
        ("conversations/{}", "delete"),
        ("conversations/{}/messages", "get"),
        ("turns/{}", "get"),
        ("turns/{}/events", "get"),
        ("turns/{}/stop", "post"),
    ]:
        known = world.conversation.pk if path.startswith("conv") else turn
        answers = []
        for some_id in (known, uuid.uuid4()):
            call = getattr(outsider, method)
            response = await call(
                f"/api/v1/{path.format(some_id)}",
                {"text": "x"} if method == "post" else None,
                **({"content_type": "application/json"} if method == "post" else {}),
            )
            answers.append((response.status_code, {**response.json(), "request_id": ""}))
        assert answers[0] == answers[1], path
        assert answers[0][0] == 404, path


async def test_someone_elses_conversation_is_not_found(world: World, api: Api) -> None:
    body = {"text": "mine?", "user": "somebody-else"}
    response = await api.post(world.turns, body, content_type="application/json")
    assert response.status_code == 404


@pytest.mark.parametrize(
    "credential",
    ["", "Bearer", "Bearer x", "Basic abc", "Bearer parley_aaaaaaaaaaaa_" + "b" * 49, "Bearer \x00", "Bearer ' OR 1=1"],
)
async def test_every_bad_credential_gets_the_same_401(world: World, credential: str) -> None:
    response = await Api().ask(world.turns, "hi", **({"Authorization": credential} if credential else {}))
    body = response.json()
    assert response.status_code == 401
    assert {**body, "request_id": ""} == {
        "code": "not_authenticated",
        "message": "Valid credentials are required.",
        "request_id": "",
    }


async def test_request_id_is_kept_or_made(world: World, api: Api) -> None:
    response = await api.ask(world.turns, "", **{"X-Request-Id": "my-request-0001"})
    assert response["X-Request-Id"] == response.json()["request_id"] == "my-request-0001"
    response = await api.ask(world.turns, "", **{"X-Request-Id": "bad id\n"})
    assert response["X-Request-Id"] != "bad id\n"


async def test_conversations_can_be_begun_listed_renamed_read_and_deleted(world: World, api: Api) -> None:
    begun = await api.post(
        "/api/v1/conversations", {"assistant": "guide", "user": "zoe"}, content_type="application/json"
    )
    assert begun.status_code == 201, begun.json()
    url = f"/api/v1/conversations/{begun.json()['id']}"
    await api.ask(f"{url}/turns", "What about the pump?")
    listed = (await api.get("/api/v1/conversations?user=zoe")).json()
    assert [row["title"] for row in listed["results"]] == ["What about the pump?"]
    renamed = await api.patch(url, json.dumps({"title": "Pumps"}), content_type="application/json")
    assert renamed.json()["title"] == "Pumps"
    messages = (await api.get(f"{url}/messages")).json()["results"]
    assert [message["role"] for message in messages] == ["user", "assistant"]
    assert (await api.delete(url)).status_code == 204
    assert (await api.get(url)).status_code == 404


async def test_an_unknown_assistant_is_named(world: World, api: Api) -> None:
    response = await api.post("/api/v1/conversations", {"assistant": "nobody"}, content_type="application/json")
    assert (response.status_code, list(response.json()["fields"])) == (400, ["assistant"])


async def test_usage_is_estimated_and_said_so_where_the_server_is_silent(world: World, api: Api) -> None:
    world.script("some ", "words", no_usage=True)
    usage = (await api.ask(world.turns, "pump?")).json()["usage"]
    assert usage["estimated"] is True
    assert usage["completion_tokens"] > 0


async def test_endless_generation_is_cut_at_the_cap(world: World, api: Api) -> None:
    world.assistant.max_tokens = 20
    await platform_unit(world.assistant.save)
    world.script("word ", endless=True)
    body = (await api.ask(world.turns, "pump?")).json()
    assert body["finish_reason"] == "length"


async def test_two_endpoints_fail_over_before_the_first_token(world: World, api: Api) -> None:
    async with FakeInference() as second:
        second.script(Reply(tokens=["from the second"]))
        await platform_unit(lambda: Endpoint.objects.filter(kind="chat").update(base_url="http://127.0.0.1:9"))
        await platform_unit(
            lambda: Endpoint.objects.create(name="second", kind="chat", model="fake", base_url=second.base_url)
        )
        assert (await api.ask(world.turns, "pump?")).json()["text"] == "from the second"


async def test_a_conversation_that_is_answering_cannot_be_deleted(world: World, api: Api) -> None:
    world.script("slow ", "answer", held=True)
    streaming = await api.ask(world.turns, "pump?", Accept="text/event-stream")
    url = f"/api/v1/conversations/{world.conversation.pk}"
    refused = await api.delete(url)
    assert (refused.status_code, refused.json()["code"]) == (409, "turn_in_progress")
    world.fake.release()
    assert [event.type async for event in read_sse(streaming)][-1] == "turn.finished"
    assert (await api.delete(url)).status_code == 204
    assert (await platform_unit(UsageRecord.objects.get)).bill == "once"


async def test_an_end_that_is_not_kept_is_not_told_as_one(world: World, api: Api) -> None:
    world.script("slow ", "answer", held=True)
    streaming = await api.ask(world.turns, "pump?", Accept="text/event-stream")
    await platform_unit(world.assistant.delete)
    world.fake.release()
    events = [event async for event in read_sse(streaming)]
    assert (events[-1].type, events[-1].body["code"]) == ("error", "not_found")


async def test_who_leaves_while_the_question_is_accepted_finds_its_answer(
    world: World, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, outside = asyncio.Event(), asyncio.Event()

    async def slow(*args: Any, **kwargs: Any) -> Any:
        inside.set()
        opened = await open_turn(*args, **kwargs)
        await asyncio.sleep(0.1)
        outside.set()
        return opened

    monkeypatch.setattr(asking, "open_turn", slow)
    world.script("the ", "answer")
    calling = asyncio.create_task(api.ask(world.turns, "pump?"))
    await inside.wait()
    calling.cancel()
    await outside.wait()
    await until_it_says((await world.only_turn()).pk, TurnStarted)
    await runner.drain(30)
    turn = await world.only_turn()
    assert turn.answer is not None
    assert (turn.state, turn.answer.text) == ("finished", "the answer")


async def test_a_question_does_not_fail_because_no_connection_was_to_be_had(
    world: World, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = [OperationalError("No connection"), OperationalError("No connection")]
    passages = answering.passages

    async def crowded(*args: Any, **kwargs: Any) -> Any:
        if failures:
            raise failures.pop() from psycopg.OperationalError("No connection to PostgreSQL got free in time.")
        return await passages(*args, **kwargs)

    monkeypatch.setattr(answering, "passages", crowded)
    world.script("Prime", always=True)
    answer = await api.ask(world.turns, "pump?")
    assert answer.status_code == 200
    assert not failures
