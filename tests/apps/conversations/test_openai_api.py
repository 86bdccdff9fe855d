"""/v1 to the byte; in tests/journeys/test_openai_clients.py the clients themselves ask."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
import uuid
from typing import Any

import pytest

from apps.conversations import asking, runner
from apps.conversations.models import Turn
from apps.conversations.opening import open_lone_turn
from apps.inference import gateway
from apps.inference.models import Endpoint
from apps.tenants.models import ApiKey
from apps.tenants.scoping import platform_unit
from apps.usage.models import UsageRecord
from chatbot.events import Token, TurnStarted
from tests import factories
from tests.apps.conversations.conftest import PASSAGE, Api, World, until_it_says
from tests.fakes.inference import Reply, embedding

CHAT = "/v1/chat/completions"
EMBEDDINGS = "/v1/embeddings"


async def chat(api: Api, *messages: Any, headers: dict[str, str] | None = None, **fields: Any) -> Any:
    said = [{"role": "user", "content": message} if isinstance(message, str) else message for message in messages]
    body = {"model": "guide", "messages": said, **fields}
    return await api.post(CHAT, body, content_type="application/json", headers=headers)


async def chunks(response: Any) -> list[Any]:
    """The data of a stream's events; every block is data alone, or a comment."""
    blocks = b"".join([part async for part in response.streaming_content]).decode().split("\n\n")
    assert blocks.pop() == ""
    assert all(block.startswith(("data: ", ": ")) and "\n" not in block for block in blocks)
    data = [block.removeprefix("data: ") for block in blocks if block.startswith("data: ")]
    return [text if text == "[DONE]" else json.loads(text) for text in data]


def asked(world: World) -> Any:
    """What the model server was asked last."""
    return [request for request in world.fake.requests if request.path.endswith("completions")][-1].payload


# --- One answer -------------------------------------------------------------------------------------------------------


async def test_a_completion(world: World, api: Api) -> None:
    world.script("Prime", " it", " [1]", " [7].")
    response = await chat(api, "how do I start the pump?", user="zoe")
    body = response.json()
    turn = await world.only_turn()
    (choice,) = body["choices"]
    extension = choice["message"].pop("parley")
    assert body["id"] == f"chatcmpl-{turn.pk}"
    assert (body["object"], body["model"], body["system_fingerprint"]) == ("chat.completion", "guide", None)
    assert abs(body["created"] - turn.created.timestamp()) < 5
    assert choice == {
        "index": 0,
        "message": {"role": "assistant", "content": "Prime it [1].", "refusal": None},
        "logprobs": None,
        "finish_reason": "stop",
    }
    usage = body["usage"]
    assert usage == {
        "prompt_tokens": turn.prompt_tokens, "completion_tokens": 4, "total_tokens": turn.prompt_tokens + 4,
    }  # fmt: skip
    assert (extension["turn"], extension["state"], extension["finish_reason"]) == (str(turn.pk), "finished", "stop")
    assert [source["text"] for source in extension["sources"]] == [PASSAGE]
    assert extension["citations"] == extension["sources"]
    assert extension["timings"]["total_ms"] > 0
    assert extension["usage_estimated"] is False
    assert response["X-Request-Id"] == turn.request_id
    assert int(response["openai-processing-ms"]) >= 0
    assert turn.conversation_id is None
    assert (await world.bill(turn.pk)).bill == "once"


async def test_a_stream(world: World, api: Api) -> None:
    world.script("Prime", " it", " [1].", delay=0.03)
    response = await chat(api, "pump?", stream=True)
    assert response["Content-Type"] == "text/event-stream; charset=utf-8"
    assert response["X-Accel-Buffering"] == "no"
    *said, last, done = await chunks(response)
    turn = await world.only_turn()
    assert done == "[DONE]"
    assert {chunk["id"] for chunk in [*said, last]} == {f"chatcmpl-{turn.pk}"}
    assert {chunk["object"] for chunk in [*said, last]} == {"chat.completion.chunk"}
    assert said[0]["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in said) == "Prime it [1]."
    assert len(said) > 2
    assert last["choices"] == [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}]
    assert last["parley"]["turn"] == str(turn.pk)
    assert [source["text"] for source in last["parley"]["citations"]] == [PASSAGE]
    assert all("usage" not in chunk for chunk in [*said, last])
    assert turn.answer is not None
    assert turn.answer.text == "Prime it [1]."


async def test_usage_comes_last_and_without_choices_where_it_was_asked_for(world: World, api: Api) -> None:
    world.script("Prime", " it.")
    *said, last, done = await chunks(await chat(api, "pump?", stream=True, stream_options={"include_usage": True}))
    assert done == "[DONE]"
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 2
    assert last["usage"]["total_tokens"] == last["usage"]["prompt_tokens"] + 2
    assert all(chunk["usage"] is None for chunk in said)


@pytest.mark.parametrize(("theirs", "ours"), [("length", "length"), ("content_filter", "content_filter")])
async def test_how_it_finished(world: World, api: Api, theirs: str, ours: str) -> None:
    world.script("Prime", finish_reason=theirs)
    assert (await chat(api, "pump?")).json()["choices"][0]["finish_reason"] == ours


async def test_an_unknown_end_reads_as_a_stop_and_is_told_beside(world: World, api: Api) -> None:
    world.script("Prime", finish_reason="tired")
    (choice,) = (await chat(api, "pump?")).json()["choices"]
    assert (choice["finish_reason"], choice["message"]["parley"]["finish_reason"]) == ("stop", "tired")


@pytest.mark.parametrize("stream", [True, False])
async def test_without_a_model_the_passages_stand_for_the_answer(world: World, api: Api, stream: bool) -> None:
    await platform_unit(lambda: Endpoint.objects.filter(kind="chat").update(base_url="http://127.0.0.1:9"))
    gateway.forget()
    response = await chat(api, "prime the pump?", stream=stream)
    if stream:
        *said, last, _ = await chunks(response)
        text = "".join(chunk["choices"][0]["delta"]["content"] for chunk in said)
        extension = last["parley"]
    else:
        message = response.json()["choices"][0]["message"]
        text, extension = message["content"], message["parley"]
    assert text == f"No model can be reached just now. These passages were found:\n\n[1] Manual > First use\n{PASSAGE}"
    assert extension["finish_reason"] == "sources_only"
    assert (await platform_unit(UsageRecord.objects.get)).bill == "none"


# --- What is asked ----------------------------------------------------------------------------------------------------


async def test_the_clients_messages_are_the_history_and_its_system_follows_the_prompt(world: World, api: Api) -> None:
    await chat(
        api,
        {"role": "system", "content": "Rhyme."},
        "Is it a pump?",
        {"role": "assistant", "content": "It is."},
        {"role": "developer", "content": [{"type": "text", "text": "Be "}, {"type": "text", "text": "brief."}]},
        {"role": "user", "content": [{"type": "text", "text": "How do I "}, {"type": "text", "text": "start it?"}]},
    )
    system, *rest = asked(world)["messages"]
    assert system["content"].startswith(f"You are {world.assistant.name}.")
    assert system["content"].endswith("\n\nRhyme.\n\nBe brief.")
    assert [(message["role"], message["content"]) for message in rest] == [
        ("user", "Is it a pump?"), ("assistant", "It is."), ("user", "How do I start it?"),
    ]  # fmt: skip
    assert (await world.only_turn()).question.text == "How do I start it?"


async def test_what_comes_in_a_row_is_one_message_and_the_last_of_it_the_question(world: World, api: Api) -> None:
    await chat(
        api, "One.", "Two.", {"role": "assistant", "content": "Three."}, {"role": "assistant", "content": "Four."},
        "Here is a text.", "What of it?",
    )  # fmt: skip
    assert [message["content"] for message in asked(world)["messages"][1:]] == [
        "One.\n\nTwo.", "Three.\n\nFour.", "Here is a text.\n\nWhat of it?",
    ]  # fmt: skip
    assert (await world.only_turn()).question.text == "What of it?"


async def test_a_tools_result_stands_with_the_question(world: World, api: Api) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    await chat(
        api,
        "How warm is it?",
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "12 degrees"},
    )
    assert [message["content"] for message in asked(world)["messages"][1:]] == [
        "How warm is it?\n\nResult of a tool:\n12 degrees"
    ]


async def test_sampling_is_honoured_within_the_assistants_limits(world: World, api: Api) -> None:
    await chat(api, "pump?", max_tokens=10**9, temperature=0, top_p=0.3, stop=["END", "\n\n"])
    payload = asked(world)
    assert (payload["max_tokens"], payload["temperature"], payload["top_p"]) == (512, 0, 0.3)
    assert payload["stop"] == ["END", "\n\n"]
    await chat(api, "pump?", max_tokens=10, max_completion_tokens=20, top_p=1, stop="END", temperature=None)
    payload = asked(world)
    assert (payload["max_tokens"], payload["temperature"], payload["stop"]) == (20, 0.2, ["END"])
    assert "top_p" not in payload


async def test_what_assistants_do_not_do_is_ignored(world: World, api: Api) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    response = await chat(
        api, "pump?", tools=[tool], tool_choice="auto", metadata={"a": "b"}, seed=7, logprobs=True, store=True, n=1,
        presence_penalty=1, parallel_tool_calls=False, response_format={"type": "text"}, base_url="http://evil.example",
        stream=None, user=None, best_of=9, whatever={"deep": []},
    )  # fmt: skip
    assert response.status_code == 200
    assert not {"tools", "tool_choice", "metadata", "seed", "n", "best_of"} & set(asked(world))


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages.0.role"),
        ({"messages": ["hello"]}, "messages.0"),
        ({"messages": [{"role": "system", "content": "Rhyme."}]}, "messages"),
        ({"messages": [{"role": "user", "content": "  "}]}, "messages"),
        ({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}, "messages"),
        ({"messages": [{"role": "user", "content": "x" * 16_001}]}, "messages"),
        ({"messages": [{"role": "user", "content": "x\0"}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": [7]}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": "x"}] * 1001}, "messages"),
        ({"model": ""}, "model"),
        ({"model": "gui\0de"}, "model"),
        ({"n": 2}, "n"),
        ({"temperature": 2.1}, "temperature"),
        ({"top_p": -1}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"stop": [7]}, "stop"),
        ({"stream": "maybe"}, "stream"),
        ({"stream_options": 7}, "stream_options"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"user": "x" * 201}, "user"),
    ],
)
async def test_what_is_refused_names_its_field(world: World, api: Api, fields: dict[str, Any], param: str) -> None:
    body = {"model": "guide", "messages": [{"role": "user", "content": "x"}], **fields}
    response = await api.post(CHAT, body, content_type="application/json")
    error = response.json()["error"]
    assert response.status_code == 400
    assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_request")
    assert error["param"] is not None
    assert error["param"].startswith(param)
    assert error["message"].startswith(f"The request is not valid. {error['param']}: ")
    assert await platform_unit(Turn.objects.count) == 0


async def test_an_image_is_refused_in_words(world: World, api: Api) -> None:
    image = {"type": "image_url", "image_url": {"url": "http://evil.example/x.png"}}
    response = await chat(api, {"role": "user", "content": [{"type": "text", "text": "What is it?"}, image]})
    assert response.status_code == 400
    assert "Only text is read here, and this has a part of type image_url." in response.json()["error"]["message"]


# --- Errors -----------------------------------------------------------------------------------------------------------


async def test_an_unknown_model(world: World, api: Api) -> None:
    outside = await platform_unit(
        lambda: factories.make_assistant(tenant=factories.make_tenant("other"), slug="theirs")
    )
    await platform_unit(lambda: factories.make_assistant(tenant=world.tenant, slug="off", is_active=False))
    assert (await api.get("/v1/models/a%00b")).status_code == 404
    for model in ("gpt-4o", "theirs", str(outside.pk), "off", str(uuid.uuid4())):
        for response in (await chat(api, "x", model=model), await api.get(f"/v1/models/{model}")):
            error = response.json()["error"]
            assert (response.status_code, error["code"]) == (404, "model_not_found")
            assert error["message"] == f"The model '{model}' does not exist or you do not have access to it."
            assert error["type"] == "invalid_request_error"


async def test_every_refusal_is_in_the_envelope(world: World, api: Api) -> None:
    stranger = Api()
    cases = [
        (401, "not_authenticated", await chat(stranger, "x")),
        (401, "not_authenticated", await stranger.get("/v1/nowhere")),
        (404, "not_found", await api.get("/v1/nowhere")),
        (404, "not_found", await api.post("/v1/responses", {"model": "guide"}, content_type="application/json")),
        (404, "not_found", await api.get("/v1/")),
        (405, "method_not_allowed", await api.get(CHAT)),
        (405, "method_not_allowed", await api.options("/v1/models")),
        (400, "invalid_request", await api.post(CHAT, b"{", content_type="application/json")),
        (400, "invalid_request", await api.post(CHAT, b"[]", content_type="application/json")),
        (400, "invalid_request", await api.get("/v1/models?x=%00")),
        (413, "payload_too_large", await chat(api, "x", metadata={"x": "y" * 1_100_000})),
        (415, "unsupported_type", await api.post(CHAT, b"model=guide", content_type="text/plain")),
    ]
    for status, code, response in cases:
        body = response.json()
        assert (response.status_code, body["error"]["code"]) == (status, code), body
        assert set(body) == {"error"}
        assert {"message", "type", "param", "code", "request_id"} <= set(body["error"])
        assert response["X-Request-Id"] == body["error"]["request_id"]
    assert "/v1/chat/completions" in cases[3][2].json()["error"]["message"]
    assert cases[0][2]["WWW-Authenticate"] == 'Bearer realm="parley"'


@pytest.mark.parametrize("stream", [True, False])
async def test_a_failure_before_the_first_word_has_its_status(world: World, api: Api, stream: bool) -> None:
    world.fake.script(Reply(status=429, body="busy", headers={"Retry-After": "7"}))
    response = await chat(api, "pump?", stream=stream)
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["type"]) == (503, "model_busy", "server_error")
    assert (response["Retry-After"], response["retry-after-ms"]) == ("7", "7000")
    assert "x-should-retry" not in response
    assert error["turn"] == str((await world.only_turn()).pk)


async def test_clients_are_not_put_to_sleep_for_long(world: World, api: Api) -> None:
    await platform_unit(lambda: Endpoint.objects.filter(kind="chat").update(enabled=False))
    gateway.forget()
    response = await chat(api, "pump?")
    assert (response.status_code, response["Retry-After"], response["x-should-retry"]) == (503, "60", "false")


async def test_a_failure_in_mid_stream_is_the_last_event(world: World, api: Api) -> None:
    world.script("half ", "an ", delay=0.02, cut_after=2)
    *said, last = await chunks(await chat(api, "pump?", stream=True))
    assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in said) == "half an "
    assert (last["error"]["code"], last["error"]["type"]) == ("model_failed", "server_error")
    assert (await platform_unit(UsageRecord.objects.get)).bill == "loss"


async def test_a_failure_in_mid_answer_is_a_status_where_nothing_streams(world: World, api: Api) -> None:
    world.script("half ", "an ", cut_after=2)
    response = await chat(api, "pump?")
    assert (response.status_code, response.json()["error"]["code"]) == (502, "model_failed")


async def test_a_revoked_key_ends_its_stream(world: World, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apps.access.revocation.RECHECK_SECONDS", 0.1)
    monkeypatch.setattr("apps.access.authentication.CACHE_SECONDS", 0.05)
    world.script(*["word "] * 200, delay=0.02)
    response = await chat(api, "pump?", stream=True)
    await platform_unit(lambda: ApiKey.objects.for_tenant(world.tenant).delete())
    *_, last = await chunks(response)
    assert last["error"]["code"] in {"not_authenticated", "not_permitted"}


# --- Repeats and departures -------------------------------------------------------------------------------------------


async def test_a_repeat_gets_the_first_answer_and_one_bill(world: World, api: Api) -> None:
    key = {"Idempotency-Key": "once"}
    world.script("one ", "answer", delay=0.05)
    responses = await asyncio.gather(*(chat(api, "pump?", headers=key) for _ in range(4)))
    assert {response.json()["id"] for response in responses} == {f"chatcmpl-{(await world.only_turn()).pk}"}
    *said, _last, _done = await chunks(await chat(api, "pump?", headers=key, stream=True))
    assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in said) == "one answer"
    other = await chat(api, "something else?", headers=key)
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_conflict")
    assert (await platform_unit(UsageRecord.objects.get)).bill == "once"


async def until_asked(world: World) -> None:
    """For words, not vectors."""
    async with asyncio.timeout(30):
        while not any(request.path.endswith("completions") for request in world.fake.requests):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def _leave(api: Api, world: World, *, first_delay: float = 0.0, **how: Any) -> Turn:
    """Ask, leave while the answer is being written, and return the turn when it has ended."""
    world.script(*["word "] * 60, delay=0.05, first_delay=first_delay)
    calling = asyncio.create_task(chat(api, "pump?", **how))
    await until_asked(world)
    if not first_delay:
        await until_it_says((await world.only_turn()).pk, Token)
    calling.cancel()
    if not how.get("headers"):
        await world.fake.wait_disconnected()
    await runner.drain(30)
    return await world.only_turn()


async def test_who_leaves_a_plain_call_stops_the_turn(world: World, api: Api) -> None:
    turn = await _leave(api, world)
    assert (turn.state, turn.finish_reason) == ("stopped", "stopped")
    assert turn.answer is not None
    assert turn.answer.text.startswith("word ")
    bill = await world.bill(turn.pk)
    assert (bill.bill, bill.completion_tokens > 0) == ("delivered", True)


async def test_who_leaves_before_the_first_word_stops_the_turn(world: World, api: Api) -> None:
    turn = await _leave(api, world, first_delay=5, stream=True)
    assert turn.state == "stopped"
    assert (await world.bill(turn.pk)).bill == "delivered"


async def test_a_stream_that_nobody_began_to_read_stops_its_turn(world: World, api: Api) -> None:
    world.script(*["word "] * 60, delay=0.05)
    response = await chat(api, "pump?", stream=True)
    await asyncio.to_thread(response.close)
    await world.fake.wait_disconnected()
    await runner.drain(30)
    assert (await world.only_turn()).state == "stopped"


async def test_who_may_come_back_for_the_answer_stops_nothing(world: World, api: Api) -> None:
    world.script(*["word "] * 10, delay=0.02)
    turn = await _leave(api, world, headers={"Idempotency-Key": "again"})
    assert turn.state == "finished"


async def test_who_leaves_while_the_turn_is_being_opened_stops_it_too(
    world: World, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, outside = asyncio.Event(), asyncio.Event()

    async def slow(*args: Any, **kwargs: Any) -> Any:
        inside.set()
        opened = await open_lone_turn(*args, **kwargs)
        await asyncio.sleep(0.1)
        outside.set()
        return opened

    monkeypatch.setattr(asking, "open_lone_turn", slow)
    world.script(*["word "] * 60, delay=0.05)
    calling = asyncio.create_task(chat(api, "pump?"))
    await inside.wait()
    calling.cancel()
    await outside.wait()
    await until_it_says((await world.only_turn()).pk, TurnStarted)
    await runner.drain(30)
    assert (await world.only_turn()).state == "stopped"


# --- Models and embeddings --------------------------------------------------------------------------------------------


async def test_models_are_the_tenants_active_assistants(world: World, api: Api) -> None:
    await platform_unit(lambda: factories.make_assistant(tenant=world.tenant, slug="off", is_active=False))
    body = (await api.get("/v1/models")).json()
    assert body["object"] == "list"
    (model,) = body["data"]
    assert {"id": "guide", "object": "model", "owned_by": "acme"}.items() <= model.items()
    assert isinstance(model["created"], int)
    assert (await api.get("/v1/models/guide")).json() == model
    assert (await api.get(f"/v1/models/{world.assistant.pk}")).json() == model
    assert (await Api(world.outsider_key).get("/v1/models")).json()["data"] == []
    assert (await Api(world.outsider_key).get("/v1/models/guide")).status_code == 404


async def embed(api: Api, **fields: Any) -> Any:
    return await api.post(EMBEDDINGS, {"model": "fake", **fields}, content_type="application/json")


async def test_embeddings(world: World, api: Api) -> None:
    body = (await embed(api, input=["a pump", "a mill"], user="zoe")).json()
    assert (body["object"], body["model"]) == ("list", "fake")
    assert [row["index"] for row in body["data"]] == [0, 1]
    assert body["data"][1]["embedding"] == pytest.approx(embedding("a mill"))
    assert body["usage"]["prompt_tokens"] == body["usage"]["total_tokens"] > 0
    record = await platform_unit(lambda: UsageRecord.objects.select_related("end_user", "endpoint").get())
    assert (record.turn_id, record.bill, record.prompt_tokens) == (None, "once", body["usage"]["prompt_tokens"])
    assert record.end_user is not None
    assert (record.end_user.external_id, record.estimated) == ("zoe", True)
    (request,) = [request for request in world.fake.requests if request.path.endswith("embeddings")]
    assert request.payload["input_type"] == "passage"


async def test_embeddings_as_base64(world: World, api: Api) -> None:
    body = (await embed(api, input="a pump", encoding_format="base64", dimensions=384, input_type="query")).json()
    packed = base64.b64decode(body["data"][0]["embedding"])
    assert struct.unpack("<384f", packed) == pytest.approx(embedding("a pump"), abs=1e-6)
    assert world.fake.requests[-1].payload["input_type"] == "query"


async def test_many_texts_reach_the_server_in_batches_and_come_back_in_order(world: World, api: Api) -> None:
    texts = [f"text number {number}" for number in range(70)]
    body = (await embed(api, input=texts)).json()
    assert [row["embedding"] for row in body["data"]] == [pytest.approx(embedding(text)) for text in texts]
    assert [len(request.payload["input"]) for request in world.fake.requests] == [32, 32, 6]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": []}, "input"),
        ({"input": ""}, "input"),
        ({"input": ["x", " "]}, "input.1"),
        ({"input": 7}, "input"),
        ({"input": [{"image": "x"}]}, "input.0"),
        ({"input": ["x"] * 2049}, "input"),
        ({"input": "x" * 32_001}, "input"),
        ({"input": [1, 2, 3]}, "input"),
        ({"input": [[1, 2, 3]]}, "input"),
        ({"input": "x", "dimensions": 100}, "dimensions"),
        ({"input": "x", "encoding_format": "int8"}, "encoding_format"),
        ({"input": "x", "input_type": "clustering"}, "input_type"),
        ({}, "input"),
    ],
)
async def test_bad_input_is_named(world: World, api: Api, fields: dict[str, Any], param: str) -> None:
    response = await embed(api, **fields)
    error = response.json()["error"]
    assert response.status_code == 400
    assert error["param"].startswith(param)
    assert await platform_unit(UsageRecord.objects.count) == 0


async def test_token_numbers_are_refused_with_what_to_do(world: World, api: Api) -> None:
    assert "check_embedding_ctx_length=False" in (await embed(api, input=[[1, 2]])).json()["error"]["message"]


async def test_an_embedding_endpoint_serves_whom_it_may(world: World, api: Api) -> None:
    def reserve() -> None:
        row = Endpoint.objects.get(kind="embedding")
        row.tenants.add(world.tenant)
        Endpoint.objects.filter(pk=row.pk).update(model="e5")

    await platform_unit(reserve)
    assert (await embed(api, model="e5", input="x")).status_code == 200
    for key, model in ((world.outsider_key, "e5"), (world.key, "fake"), (world.key, "guide")):
        response = await embed(Api(key), model=model, input="x")
        assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")


async def test_a_failing_embedding_server_costs_nothing(world: World, api: Api) -> None:
    world.fake.script(Reply(kind="embedding", status=500))
    response = await embed(api, input="x")
    assert (response.status_code, response.json()["error"]["code"]) == (502, "model_failed")
    row = await platform_unit(UsageRecord.objects.get)
    assert (row.bill, row.prompt_tokens, row.reserved_tokens) == ("none", 0, 0)
