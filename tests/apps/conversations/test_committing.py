"""Questions whose COMMIT PostgreSQL heard, and whose process did not hear back: they are asked, and answered once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from apps.conversations import committing, runner, takeover
from apps.conversations.models import Message, Turn
from apps.tenants import pool
from apps.tenants.scoping import platform_unit
from apps.usage.models import UsageRecord
from tests import factories
from tests.apps.conversations.conftest import Api, World


@pytest.fixture(params=[False, True], ids=["unlimited", "limited"])
async def limited(request: pytest.FixtureRequest, world: World) -> None:
    if request.param:
        await platform_unit(lambda: factories.make_quota(tenant=world.tenant, metric="requests", amount=10))


@pytest.fixture
def unheard(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Breaks the connection just after the next COMMIT of a turn, and connections that are asked for after that."""
    heard, taken = psycopg.AsyncConnection.commit, pool.Pool._take
    left = [0, 0]

    async def commit(self: psycopg.AsyncConnection[Any]) -> None:
        wrote = (await (await self.execute("SELECT pg_current_xact_id_if_assigned()")).fetchone() or (None,))[0]
        await heard(self)
        if wrote and left[0]:
            left[0] -= 1
            await self.close()
            raise psycopg.OperationalError("server closed the connection unexpectedly")

    async def take(self: pool.Pool) -> pool.Connection:
        if not left[0] and left[1]:
            left[1] -= 1
            raise psycopg.OperationalError("connection refused")
        return await taken(self)

    def begin(away: int) -> None:
        left[:] = [1, away]

    monkeypatch.setattr(psycopg.AsyncConnection, "commit", commit)
    monkeypatch.setattr(pool.Pool, "_take", take)
    return begin


async def counted() -> tuple[int, int, int]:
    return await platform_unit(lambda: (Turn.objects.count(), Message.objects.count(), UsageRecord.objects.count()))


async def test_a_commit_that_was_kept_counts(
    limited: None, world: World, api: Api, unheard: Callable[[int], None]
) -> None:
    world.script("Prime it.")
    unheard(0)
    answer = await api.ask(world.turns, "pump?")
    assert (answer.status_code, answer.json()["answer"]["text"]) == (200, "Prime it.")
    await runner.drain(5)
    assert await counted() == (1, 2, 1)


async def test_one_that_nobody_can_look_after_is_answered_once_somebody_can(
    limited: None, world: World, api: Api, unheard: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committing, "LOOKS_EVERY", 0.05)
    world.script("Prime it.")
    unheard(2)
    key = {"Idempotency-Key": "once"}
    assert (await api.ask(world.turns, "pump?", **key)).status_code == 503
    assert committing._doubts
    await asyncio.gather(*committing._doubts)
    await takeover.claim_orphans()
    await runner.drain(5)
    again = await api.ask(world.turns, "pump?", **key)
    assert (again.status_code, again.json()["answer"]["text"]) == (200, "Prime it.")
    assert await counted() == (1, 2, 1)
    assert (await world.bill(again.json()["id"])).state == "settled"
