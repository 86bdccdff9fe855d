"""An answer goes on from where it broke off, where the model server can; elsewhere it begins again."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from apps.inference import gateway
from apps.inference.models import Endpoint
from apps.tenants.scoping import platform_unit
from tests.apps.conversations.conftest import Api, World, read_sse
from tests.apps.conversations.test_again import interrupted, url
from tests.fakes.dialects import VLLM
from tests.fakes.inference import FakeInference, Reply


@pytest.fixture
async def fake() -> AsyncIterator[FakeInference]:
    async with FakeInference(dialect=VLLM()) as server:
        yield server


async def speak(world: World, protocol: str) -> None:
    await platform_unit(lambda: Endpoint.objects.filter(kind="chat").update(protocol=protocol))
    gateway.forget()


async def test_a_server_that_can_is_asked_to_go_on(world: World, api: Api) -> None:
    await speak(world, "vllm")
    broken = await interrupted(world, api)
    world.fake.script(Reply(tokens=["half ", "an ", "hour ", "[1]."], always=True))
    response = await api.post(url(broken, "continue"), headers={"Accept": "text/event-stream"})
    events = [event async for event in read_sse(response)]
    assert [event.type for event in events[:3]] == ["turn.started", "sources", "token"]
    assert events[2].body["text"] == "half an "
    assert "".join(event.body["text"] for event in events if event.type == "token") == "half an hour [1]."
    end = events[-1].body
    assert (end["text"], end["state"], [source["n"] for source in end["citations"]]) == (
        "half an hour [1].", "finished", [1],
    )  # fmt: skip
    assert world.fake.requests[-1].prefix == "half an"
    bill = await world.bill(end["turn"])
    assert (bill.bill, bill.estimated) == ("once", True)
    assert bill.completion_tokens > 2, "its beginning was nobody's to pay for"
    assert (await api.get(f"/api/v1/turns/{broken}")).json()["text"] == "half an "


async def test_what_was_paid_for_is_not_billed_again(world: World, api: Api) -> None:
    await speak(world, "vllm")
    said = " ".join(["word"] * 300)
    world.script(said, finish_reason="length")
    cut = (await api.ask(world.turns, "pump?")).json()
    world.fake.script(Reply(tokens=[said, " and", " done"], always=True))
    whole = (await api.post(url(cut, "continue"))).json()
    assert whole["text"] == f"{said} and done"
    assert (await world.bill(whole["id"])).completion_tokens < 10


async def test_elsewhere_the_answer_begins_again(world: World, api: Api) -> None:
    await speak(world, "openai")
    broken = await interrupted(world, api)
    world.fake.script(Reply(tokens=["all ", "of ", "it"], always=True))
    response = await api.post(url(broken, "continue"), headers={"Accept": "text/event-stream"})
    events = [event async for event in read_sse(response)]
    assert [event.type for event in events[:3]] == ["turn.started", "restarted", "sources"]
    assert events[1].body["after"] == 1
    assert events[-1].body["text"] == "all of it"


async def test_a_server_that_refuses_to_go_on_is_asked_anew(world: World, api: Api) -> None:
    await speak(world, "vllm")
    broken = await interrupted(world, api)
    world.fake.script(Reply(status=400, body='{"error": {"message": "no prefill"}}'), Reply(tokens=["all ", "of it"]))
    response = await api.post(url(broken, "continue"), headers={"Accept": "text/event-stream"})
    events = [event async for event in read_sse(response)]
    assert [event.type for event in events if event.type != "token"] == [
        "turn.started", "sources", "restarted", "sources", "turn.finished",
    ]  # fmt: skip
    assert events[-1].body["text"] == "all of it"
