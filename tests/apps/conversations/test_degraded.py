"""A turn says what its search had to do without, at every door; and is answered all the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.core.management import call_command

from apps.inference import gateway
from apps.inference.models import Endpoint
from apps.tenants.scoping import platform_unit
from tests.apps.conversations.conftest import PASSAGE, Api, World, read_sse
from tests.factories import make_document, make_endpoint, make_passage
from tests.fakes.inference import DIMENSION, Reply

QUESTION = "How do I prime the pump?"
TOO_LARGE = json.dumps({"data": [{"object": "embedding", "index": 0, "embedding": [1e6] * DIMENSION}]})


def without_cache(body: dict[str, Any]) -> list[str]:
    """What a busy machine is slow at now and then is not what these tests are about."""
    return [said for said in body["timings"]["degraded"] if not said.startswith("cache")]


@pytest.mark.parametrize(
    "reply",
    [
        Reply(kind="embedding", status=500, always=True),
        Reply(kind="embedding", dimension=768, always=True),
        Reply(kind="embedding", garbage="{}", always=True),
        Reply(kind="embedding", garbage=TOO_LARGE, always=True),
    ],
    ids=["500", "dimension", "garbage", "too large"],
)
async def test_no_vector_of_the_question(
    world: World, api: Api, reply: Reply, capsys: pytest.CaptureFixture[str]
) -> None:
    world.fake.script(reply, Reply(tokens=["Prime it [1]."], always=True))
    events = [event async for event in read_sse(await api.ask(world.turns, QUESTION, Accept="text/event-stream"))]
    assert events[1].body["sources"][0]["text"] == PASSAGE  # its words found it
    end = events[-1]
    assert end.type == "turn.finished"
    (said,) = without_cache(end.body)
    assert said.startswith("vector: model_")
    turn = await world.turn(end.body["turn"])
    assert turn.degraded == end.body["timings"]["degraded"]
    replayed = [event async for event in read_sse(await api.get(f"/api/v1/turns/{turn.pk}/events"))]
    assert replayed[-1].body["timings"] == end.body["timings"]
    stored = (await api.get(f"/api/v1/turns/{turn.pk}")).json()
    assert stored["timings"] == end.body["timings"]
    await platform_unit(call_command, "explain_turn", str(turn.pk), "--tenant", world.tenant.slug)
    assert said in capsys.readouterr().out


async def test_the_reranking_model_is_late(world: World, api: Api, settings: Any) -> None:
    settings.PARLEY_RERANK_MILLISECONDS = 200
    await platform_unit(lambda: make_endpoint(world.fake.base_url, kind=Endpoint.Kind.RERANK, name="reranker"))

    def another() -> None:  # one passage is in order without a model
        document = make_document(tenant=world.tenant, collection=world.assistant.collections.get())
        make_passage(tenant=world.tenant, document=document, text="The pump is heavy.")

    await platform_unit(another)
    gateway.forget()
    world.fake.script(Reply(kind="rerank", first_delay=60, always=True), Reply(tokens=["Prime it [1]."], always=True))
    body = (await api.ask(world.turns, QUESTION)).json()
    assert (body["state"], without_cache(body)) == ("finished", ["rerank: too_late"])


async def test_nothing_is_said_where_nothing_was_missing(world: World, api: Api) -> None:
    world.script("Prime it [1].")
    body = (await api.ask(world.turns, QUESTION)).json()
    assert without_cache(body) == []
