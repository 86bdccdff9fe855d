"""Spans of a question, as a receiver on a socket gets them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import Tracer
from opentelemetry.sdk.trace.sampling import Decision, SamplingResult
from opentelemetry.trace import TraceFlags

from apps.conversations import runner
from apps.edge import broker, sampling, shared_state, tracing
from tests.apps.conversations.conftest import Api, World, read_sse
from tests.environment import ROOT
from tests.fakes.otlp import Otlp, Span, running_otlp, tracing_here


@pytest.fixture
def otlp(monkeypatch: pytest.MonkeyPatch) -> Iterator[Otlp]:
    with running_otlp() as server:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.url)
        with tracing_here():
            yield server


DOOR = "POST api/v1/conversations/<uuid:conversation_id>/turns"


def spans_of(otlp: Otlp) -> dict[str, Span]:
    """By their names, the last of each."""
    tracing.flush()
    return {span.name: span for span in otlp.spans()}


async def test_a_question_is_one_trace_from_its_door_to_the_model_server(otlp: Otlp, world: World, api: Api) -> None:
    world.script("canaryanswer ", "canaryanswer [1].")
    events = [one async for one in read_sse(await api.ask(world.turns, "canaryquestion", Accept="text/event-stream"))]
    await runner.drain(30)
    spans = spans_of(otlp)
    door, turn, search, chat = (spans[name] for name in (DOOR, "turn", "search", "chat"))
    assert door.parent == ""
    assert (turn.parent, search.parent, chat.parent) == (door.id, turn.id, turn.id)
    assert {span.trace for span in spans.values()} == {door.trace}
    assert {"transaction", "SELECT", "EVALSHA"} <= set(spans)
    assert (door.attributes["http.response.status_code"], turn.attributes["parley.tenant"]) == (200, "acme")
    asked = [one for one in world.fake.requests if one.path.endswith("/chat/completions")]
    assert [one.headers["traceparent"].rpartition("-")[0] for one in asked] == [f"00-{chat.trace}-{chat.id}"]
    stored = await world.turn(events[-1].body["turn"])
    said = {name: value for name, value in chat.attributes.items() if name.startswith("gen_ai")}
    assert said["gen_ai.operation.name"] == "chat"
    assert (said["gen_ai.usage.input_tokens"], said["gen_ai.usage.output_tokens"]) == (
        stored.prompt_tokens,
        stored.completion_tokens,
    )
    assert {"gen_ai.request.model", "gen_ai.provider.name", "gen_ai.request.max_tokens"} <= set(said)


async def test_no_span_holds_what_anybody_wrote_or_a_key(otlp: Otlp, world: World, api: Api) -> None:
    world.script("canaryanswer")
    world.script(status=400, body="canaryanswer")
    for _ in range(2):
        await api.ask(world.turns, "canaryquestion")
    await runner.drain(30)
    spans = spans_of(otlp)
    assert spans["chat"].failed
    assert spans["chat"].attributes["error.type"] == "model_failed"
    told = b"".join(otlp.bodies)
    for canary in ("canaryquestion", "canaryanswer", "primed before", world.key, world.key.split("_")[2]):
        assert canary.encode() not in told


def test_a_message_bears_the_trace_of_its_sender(otlp: Otlp, redis: None) -> None:
    with tracing.span("POST", "SERVER"):
        sent: dict[str, Any] = tracing.headers()
        assert broker.send("some.task", expires=60)
    assert spans_of(otlp)["send some.task"].trace == sent["traceparent"].split("-")[1]


def test_nothing_is_traced_that_nobody_asked_for(otlp: Otlp, redis: None) -> None:
    with tracing.span("SELECT", "CLIENT"):
        pass
    assert spans_of(otlp) == {}


async def test_what_is_not_kept_begins_no_spans(otlp: Otlp, redis: None, monkeypatch: pytest.MonkeyPatch) -> None:
    client = await shared_state.redis()
    with tracing.span("POST", "SERVER"):
        await client.ping()
    assert {"POST", "PING"} <= set(spans_of(otlp))

    def begun(*_: Any, **__: Any) -> None:
        raise AssertionError("a span was begun")

    dropped = SamplingResult(Decision.DROP)
    monkeypatch.setattr(sampling._Entrances, "should_sample", lambda *_, **__: dropped)
    with tracing.span("POST", "SERVER") as door:
        monkeypatch.setattr(Tracer, "start_span", begun)
        await client.ping()
        with tracing.span("search") as part:
            assert part is door
        assert not int(tracing.headers()["traceparent"].rpartition("-")[2], 16) & TraceFlags.SAMPLED
    await client.ping()


def test_off_nothing_of_ours_is_imported() -> None:
    # redis-py itself imports what it finds of the SDK.
    looked = "import django, sys; django.setup(); print(*(name for name in sys.modules if 'opentelemetry' in name))"
    done = subprocess.run([sys.executable, "-c", looked], cwd=ROOT, check=True, capture_output=True, text=True)
    assert not [
        name for name in done.stdout.split() if name.startswith(("opentelemetry.exporter", "opentelemetry.instr"))
    ]
    with tracing.span("turn") as span:
        span.set_attribute("some", 1)
    assert tracing.headers() == {}
