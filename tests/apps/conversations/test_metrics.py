"""What /metrics tells of turns and of the model servers that answer them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from apps.inference import gateway, standing
from apps.inference.metrics import count
from apps.tenants.scoping import platform_unit
from apps.usage import limits
from chatbot.inference.story import Attempt, Story
from tests import factories
from tests.apps.conversations.conftest import Api, World, read_sse
from tests.scraping import grown, sample, scraped


async def test_a_turn_is_counted_once_for_each_thing_that_is_known_of_it(
    world: World,
    settings: Any,
) -> None:
    settings.PARLEY_METRICS_TENANTS = frozenset({"acme"})
    before = await scraped()
    world.script(*(f"word{n} " for n in range(12)))
    events = [one async for one in read_sse(await Api(world.key).ask(world.turns, "p?", Accept="text/event-stream"))]
    assert events[-1].type == "turn.finished"
    turn = await world.turn(events[-1].body["turn"])
    for name, labels, much in (
        ("parley_turns_total", {"state": "finished", "finish_reason": "stop"}, 1),
        ("parley_tenant_turns_total", {"tenant": "acme", "state": "finished"}, 1),
        ("parley_tokens_total", {"kind": "completion"}, turn.completion_tokens),
        ("parley_tenant_tokens_total", {"tenant": "acme", "kind": "prompt"}, turn.prompt_tokens),
        ("parley_turn_first_token_seconds_count", {}, 1),
        ("parley_turn_between_tokens_seconds_count", {}, 2),
        ("parley_turn_queue_seconds_count", {}, 1),
        ("parley_model_attempts_total", {"endpoint": str(turn.endpoint_id), "outcome": "answered"}, 1),
        ("parley_cache_lookups_total", {"cache": "keys", "result": "miss"}, 1),
    ):
        assert await grown(before, name, **labels) == much, name


async def test_tenants_that_nobody_named_are_one(world: World) -> None:
    before = await scraped()
    world.script("Prime it.")
    await Api(world.key).ask(world.turns, "pump?")
    assert await grown(before, "parley_tenant_turns_total", tenant="(others)", state="finished") == 1
    assert await grown(before, "parley_tenant_turns_total", tenant="acme", state="finished") == 0


async def test_a_failure_and_a_refusal_by_a_limit_are_counted(world: World, api: Api) -> None:
    before = await scraped()
    world.script(status=500)
    assert (await api.ask(world.turns, "pump?")).status_code == 502
    assert await grown(before, "parley_turns_total", state="failed", finish_reason="model_failed") == 1
    await platform_unit(lambda: factories.make_quota(tenant=world.tenant, metric="tokens", window="day", amount=1))
    limits.forget()
    assert (await api.ask(world.turns, "pump?")).status_code == 429
    refused = {"level": "tenant", "metric": "tokens", "window": "day"}
    assert await grown(before, "parley_quota_refusals_total", **refused) == 1
    assert await grown(before, "parley_tenant_quota_refusals_total", tenant="(others)") == 1


async def test_how_model_servers_stand_is_told_until_they_are_gone(world: World) -> None:
    pool = await gateway.pool()
    standing.tell(pool.states())
    endpoint = pool.states()[0].endpoint
    told = await scraped()
    assert told[sample("parley_model_servers", endpoint=endpoint, state="closed")] == 1
    assert told[sample("parley_model_servers", endpoint=endpoint, state="open")] == 0
    standing.tell([])
    assert (await scraped())[sample("parley_model_servers", endpoint=endpoint, state="closed")] == 0


async def test_a_turn_has_one_line_of_the_log_with_all_that_matters(
    world: World, api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "apps.conversations.recording")
    world.script("Prime ", "it [1].")
    assert (await api.ask(world.turns, "canary?", **{"X-Request-Id": "request-1"})).status_code == 200
    (line,) = [one.msg for one in caplog.records if one.name == "apps.conversations.recording"]
    assert isinstance(line, dict)
    turn = await world.turn(line["turn"])
    assert line["event"] == "turn.finished"
    assert (line["tenant"], line["assistant"], line["request_id"]) == ("acme", "guide", "request-1")
    assert line["conversation"] == str(world.conversation.pk)
    assert (line["state"], line["finish_reason"], line["error"], line["bill"]) == ("finished", "stop", None, "once")
    assert (line["attempts"], line["epoch"], line["sources"], line["citations"]) == (1, 1, 1, 1)
    assert (line["prompt_tokens"], line["completion_tokens"]) == (turn.prompt_tokens, turn.completion_tokens)
    assert {"endpoint", "model", "estimated", "queue_ms", "woken_ms"} <= set(line)
    assert (line["search_ms"], line["ttft_ms"], line["ms"]) == (turn.search_ms, turn.first_token_ms, turn.total_ms)
    assert "canary" not in str(line)


async def test_a_question_that_goes_to_a_second_server_is_a_retry(database: None) -> None:
    before = await scraped()
    failed = Attempt("7", "one", "10.0.0.7", 0.0, None, "model_failed", "It failed.")
    count(Story(attempts=[failed, replace(failed, endpoint="8", error="", first_token_ms=9.0)]))
    assert await grown(before, "parley_model_retries_total") == 1
    assert await grown(before, "parley_model_attempts_total", endpoint="7", outcome="model_failed") == 1
    assert await grown(before, "parley_model_attempts_total", endpoint="8", outcome="answered") == 1
