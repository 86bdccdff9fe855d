"""Whoever was refused a moment ago is refused again before anything is read, and only where that is right."""

from __future__ import annotations

import asyncio
import datetime
import uuid
from collections.abc import Iterator

import pytest
from django.utils import timezone

from apps.conversations import opening
from apps.tenants.scoping import platform_unit
from apps.usage import limits, remembering
from apps.usage.models import Grant
from tests import factories
from tests.apps.conversations.conftest import Api, World, answers_of
from tests.apps.conversations.test_quotas import chat, limit, rows

# Nobody can ask here, so whoever is refused there was refused before it was looked for.
NOWHERE = f"/api/v1/conversations/{uuid.uuid4()}/turns"


@pytest.fixture(autouse=True)
def _nobody_refused() -> Iterator[None]:
    remembering.forget()
    yield
    remembering.forget()


async def test_nothing_is_read_for_who_was_refused_a_moment_ago(world: World, api: Api) -> None:
    await limit(world, metric="requests", amount=1)
    world.script("Prime", always=True)
    await chat(api)
    assert (await api.ask(NOWHERE, "pump?")).status_code == 404
    first = (await chat(api)).json()["error"]
    refused = await api.ask(NOWHERE, "pump?")
    assert refused.status_code == 429
    said = refused.json()
    assert (said["code"], said["message"]) == (first["code"], first["message"])
    assert said["limit"] | {"reset": 1} == first["limit"] | {"reset": 1}
    assert abs(said["limit"]["reset"] - first["limit"]["reset"]) <= 5
    assert len(await rows(world)) == 1


async def test_what_was_given_back_helps_at_once(world: World, api: Api) -> None:
    await limit(world, metric="turns", window="once", amount=1)
    world.script("Prime", " it.", always=True, held=True)
    for _ in range(3):
        answers = await answers_of(world, *(chat(api) for _ in range(3)))
        assert sorted(answer.status_code for answer in answers) == [200, 429, 429]


@pytest.mark.parametrize("how", ["raised", "granted"])
async def test_more_helps_at_once(world: World, api: Api, how: str) -> None:
    quota = await limit(world, metric="requests", amount=1)
    world.script("Prime", always=True)
    assert [(await chat(api)).status_code for _ in range(3)] == [200, 429, 429]

    def more() -> None:
        if how == "raised":
            quota.amount = 2
            quota.save()
        else:
            end = timezone.now() + datetime.timedelta(hours=1)
            of = {"level": "tenant", "metric": "requests", "window": "day"}
            Grant.objects.create(tenant=world.tenant, **of, amount=1, reason="A fair", expires=end)
        limits.forget()

    await platform_unit(more)
    assert [(await chat(api)).status_code for _ in range(2)] == [200, 429]


async def test_a_repeat_of_what_was_answered_is_answered(world: World, api: Api) -> None:
    await limit(world, metric="requests", amount=1)
    world.script("Prime", always=True)
    key = {"Idempotency-Key": "once"}
    first = await api.ask(world.turns, "pump?", **key)
    assert [(await chat(api)).status_code for _ in range(2)] == [429, 429]
    repeat = await api.ask(world.turns, "pump?", **key)
    assert (repeat.status_code, repeat.json()["id"]) == (200, first.json()["id"])
    assert repeat["Idempotent-Replayed"] == "true"
    assert (await api.ask(world.turns, "pump?", **{"Idempotency-Key": "another"})).status_code == 429
    # A key is its end user's.
    other = {"text": "pump?", "user": "another one"}
    refused = await api.post(NOWHERE, other, content_type="application/json", headers=key)
    assert refused.status_code == 429
    assert len(await rows(world)) == 1


async def test_a_repeat_that_comes_while_the_first_is_being_written_is_answered(
    world: World, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    await limit(world, metric="turns", window="once", amount=1)
    world.script("Prime", held=True)
    world.script("Prime", always=True, delay=0.05)
    written = opening.write

    async def later(*arguments: object) -> object:
        await asyncio.sleep(0.05)
        return await written(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(opening, "write", later)
    answers = await answers_of(world, chat(api), chat(api))
    assert sorted(answer.status_code for answer in answers) == [200, 429]
    key = {"Idempotency-Key": "once"}
    answers = await asyncio.gather(*(api.ask(world.turns, "pump?", **key) for _ in range(5)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["id"] for answer in answers}) == 1


async def test_a_question_that_would_fit_is_not_refused_for_one_that_did_not(world: World, api: Api) -> None:
    await limit(world, metric="tokens", amount=3_000)
    world.script("Prime", always=True)
    large = "x " * 6_000
    assert [(await chat(api, large)).status_code for _ in range(2)] == [429, 429]
    assert (await chat(api, max_tokens=5)).status_code == 200


async def test_others_are_not_looked_at(world: World, api: Api) -> None:
    other = Api(await platform_unit(lambda: factories.make_key(tenant=world.tenant)))
    await limit(world, level="key", metric="requests", amount=1)
    await limit(world, level="user", metric="requests", amount=1)
    world.script("Prime", always=True)
    assert [(await chat(api, user="one")).status_code for _ in range(3)] == [200, 429, 429]
    assert (await other.ask(NOWHERE, "pump?")).status_code == 404
    assert [(await chat(other, user="two")).status_code for _ in range(2)] == [200, 429]


async def test_who_was_refused_a_moment_ago_writes_nothing_that_is_taken_back(
    world: World, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[object] = []
    write = opening.write

    async def counted(*arguments: object) -> object:
        written.append(arguments)
        return await write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(opening, "write", counted)
    monkeypatch.setattr(opening, "HELD_SECONDS", 60.0)
    # Of tokens of a minute nobody can say beforehand whether the next question is refused.
    await limit(world, metric="tokens", window="minute", amount=10)
    answers = [await api.ask(world.turns, "pump?") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [429] * 3
    assert len(written) == 1
