"""The scripted model server misbehaves as it is told, and its machine bends under load as a GPU does."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from chatbot.errors import ModelBusy, ModelFailed
from chatbot.inference.client import Client
from tests.chatbot.listening import ask, listen
from tests.fakes.dialects import VLLM, Dialect, LlamaCpp
from tests.fakes.huggingface import TGI
from tests.fakes.inference import FakeInference, Reply, make_endpoint
from tests.fakes.machine import Full, Machine
from tests.fakes.serving import made, read_script


async def say(client: Client, fake: FakeInference) -> tuple[str, str | None, type[Exception] | None]:
    """The text, the finish reason, and what went wrong."""
    text, deltas, failure = await listen(client, make_endpoint(fake), ask())
    reasons = [delta.finish_reason for delta in deltas if delta.finish_reason]
    return text, reasons[0] if reasons else None, type(failure) if failure else None


@pytest.mark.parametrize(
    ("reply", "heard"),
    [
        (Reply(tokens=["a", "b"], ends_after=1), ("a", None, ModelFailed)),
        (Reply(tokens=["a"], no_done=True), ("a", "stop", None)),
        (Reply(tokens=["a"], finish_reason="abort"), ("a", None, ModelFailed)),
        (Reply(tokens=["a"], finish_reason="content_filter"), ("a", "content_filter", None)),
        (Reply(tokens=["a"], thoughts=["Let me ", "see."]), ("a", "stop", None)),
        (Reply(tokens=["a"], tool_call=['{"q":', "1}"], finish_reason="tool_calls"), ("a", "tool_calls", None)),
    ],
)
async def test_each_shape_is_heard_for_what_it_is(
    fake: FakeInference, client: Client, reply: Reply, heard: tuple[str, str | None, type[Exception] | None]
) -> None:
    fake.script(reply)
    assert await say(client, fake) == heard


async def test_a_server_that_flaps_answers_every_other_question(fake: FakeInference, client: Client) -> None:
    fake.script(Reply(status=500, again=True), Reply(tokens=["a"], again=True))
    assert [(await say(client, fake))[2] for _ in range(4)] == [ModelFailed, None, ModelFailed, None]


@pytest.mark.parametrize("dialect", [Dialect, VLLM, TGI, LlamaCpp])
async def test_beyond_its_slots_and_its_line_it_refuses_as_such_servers_do(
    client: Client, dialect: type[Dialect]
) -> None:
    async with FakeInference(dialect=dialect()) as fake:
        fake.machine = Machine(slots=2, queue=1, tokens_per_second=200)
        heard = await asyncio.gather(*(say(client, fake) for _ in range(5)))
    assert sorted(failure is ModelBusy for _, _, failure in heard) == [False] * 3 + [True] * 2
    assert (fake.machine.most, fake.machine.running, fake.machine.refused) == (2, 0, 2)


async def test_a_slot_passes_to_whoever_waits_longest_and_is_not_lost_with_those_who_leave() -> None:
    machine, order = Machine(slots=1, queue=3), []

    async def take(name: str, held: asyncio.Event) -> None:
        async with machine.place():
            order.append(name)
            await held.wait()

    opened = asyncio.Event()
    first, second, third = (asyncio.create_task(take(name, opened)) for name in "abc")
    await asyncio.sleep(0)
    assert (machine.running, machine.load.waiting) == (1, 2)
    second.cancel()
    await asyncio.sleep(0)
    opened.set()
    await asyncio.gather(first, third)
    assert (order, machine.running, machine.load.waiting) == (["a", "c"], 0, 0)


async def test_a_slot_given_to_one_who_leaves_at_that_moment_goes_on() -> None:
    machine = Machine(slots=1, queue=2)
    held = asyncio.Event()

    async def take() -> None:
        async with machine.place():
            await held.wait()

    first, second = asyncio.create_task(take()), asyncio.create_task(take())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)  # the slot is the second's now, which has not run yet
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    assert machine.running == 0


async def test_who_finds_no_place_in_the_line_is_refused_at_once() -> None:
    machine = Machine(slots=1)
    async with machine.place():
        with pytest.raises(Full):
            async with machine.place():
                pass
    assert machine.running == 0


def test_many_answers_are_slower_each_and_faster_together() -> None:
    machine = Machine(slots=8)
    alone = machine.step
    machine.running = 8
    assert machine.step > alone
    assert machine.capacity == pytest.approx(8 / machine.step)
    assert machine.capacity > machine.tokens_per_second


@pytest.mark.parametrize(
    ("dialect", "figure"),
    [
        (VLLM, 'vllm:num_requests_waiting{engine="0",model_name="fake"} 3.0'),
        (TGI, "tgi_queue_size 3"),
        (LlamaCpp, "llamacpp:requests_deferred 3"),
    ],
)
async def test_it_is_controlled_while_it_runs(dialect: type[Dialect], figure: str) -> None:
    async with FakeInference(dialect=dialect()) as fake, aiohttp.ClientSession(fake.base_url) as session:

        async def post(path: str, body: Any, status: int = 204) -> None:
            async with session.post(path, data=orjson.dumps(body)) as response:
                assert response.status == status

        await post("/load", {"running": 2, "waiting": 3, "cache": 0.5})
        async with session.get("/metrics") as response:
            assert figure in (await response.text()).splitlines()
        await post("/machine", {"slots": 3})
        await post("/load", None)
        assert fake.machine
        assert (fake.machine.slots, fake.load) == (3, fake.machine.load)
        await post("/machine", {"slotz": 3}, 400)
        await post("/script", {"tokens": ["a"]}, 400)
        await post("/machine", None)
        assert fake.machine is None


OPTIONS: dict[str, Any] = {"host": "127.0.0.1", "port": 0, "dialect": "tgi", "model": ["one", "two"], "api_key": "k"}
MACHINE = {"slots": 4, "queue": 2, "tokens_per_second": 9.0}


def test_the_process_is_made_as_its_options_say(tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    script.write_text('[{"status": 503, "headers": {"Retry-After": "2"}}]')
    fake = made({**OPTIONS, **MACHINE, "script": script})
    assert (type(fake.dialect), fake.dialect.models, fake.api_key) == (TGI, ("one", "two"), "k")
    assert fake.machine is not None
    assert (fake.machine.slots, fake.machine.queue, fake.machine.tokens_per_second) == (4, 2, 9.0)
    assert read_script(script) == [Reply(status=503, headers={"Retry-After": "2"})]


@pytest.mark.parametrize("text", ["{", "[1]", '[{"tokenz": []}]', '{"status": 1}'])
def test_a_script_that_is_none_is_refused_with_a_sentence(tmp_path: Path, text: str) -> None:
    script = tmp_path / "script.json"
    script.write_text(text)
    with pytest.raises(ValueError, match="is no JSON list of replies"):
        read_script(script)
    with pytest.raises(ValueError, match="cannot be read"):
        read_script(tmp_path / "missing.json")
