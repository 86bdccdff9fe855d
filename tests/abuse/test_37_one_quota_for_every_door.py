"""What a tenant may use is used up by whichever door it is asked through, and then every door is shut."""

from __future__ import annotations

from typing import Any

import pytest

from apps.conversations import runner
from apps.tenants.scoping import platform_unit
from apps.usage.models import UsageRecord
from apps.usage.reconciling import reconcile
from tests import factories
from tests.abuse.asking import DOORS, ask, first_turn
from tests.apps.conversations.conftest import Api, World


async def limit(world: World, **fields: Any) -> None:
    await platform_unit(lambda: factories.make_quota(tenant=world.tenant, **fields))


async def rows(world: World) -> int:
    return await platform_unit(lambda: UsageRecord.objects.for_tenant(world.tenant).count())


async def embed(api: Api, *texts: str) -> Any:
    call = {"model": "fake", "input": list(texts)}
    return await api.post("/v1/embeddings", call, content_type="application/json")


@pytest.mark.parametrize("door", DOORS)
async def test_what_another_door_used_up_is_used_up_here(world: World, api: Api, door: str) -> None:
    turn = await first_turn(world, api)
    await limit(world, metric="requests", amount=1)
    asked = len(world.fake.requests)
    for _ in range(2):  # and for whom it was so a moment ago
        assert (await ask(world, door, turn))["code"] == "quota_exceeded"
    assert len(world.fake.requests) == asked, "no model, and no search"
    assert await rows(world) == 1


@pytest.mark.parametrize("door", DOORS)
async def test_what_is_asked_here_is_used_up_elsewhere(world: World, api: Api, door: str) -> None:
    turn = await first_turn(world, api)
    await limit(world, metric="requests", amount=2)
    world.script("Prime", always=True)
    answered = await ask(world, door, turn)
    assert "code" not in answered, answered
    assert (await api.ask(world.turns, "and then?")).status_code == 429
    assert (await embed(api, "pump")).status_code == 429
    await runner.drain(5)
    assert (await reconcile(world.tenant, repair=False)).differ == []


async def test_embeddings_draw_on_it_too(world: World, api: Api) -> None:
    await limit(world, metric="requests", amount=1)
    assert (await embed(api, "pump")).status_code == 200
    assert (await api.ask(world.turns, "pump?")).status_code == 429
    assert (await embed(api, "pump")).status_code == 429


async def test_many_texts_in_one_call_cost_what_they_cost_one_by_one(world: World, api: Api) -> None:
    text = "which seal fits this pump " * 40
    used = (await embed(api, text)).json()["usage"]["total_tokens"]
    await limit(world, metric="tokens", amount=used * 10)
    assert (await embed(api, *[text] * 10)).status_code == 429  # one is in the ledger already
    assert (await embed(api, *[text] * 9)).status_code == 200
    assert (await embed(api, text)).status_code == 429


@pytest.mark.parametrize("door", ["visitor", "visitor socket"])
async def test_each_visitor_has_one_of_their_own_besides(world: World, api: Api, door: str) -> None:
    turn = await first_turn(world, api)
    await limit(world, level="visitor", metric="tokens", amount=1)
    assert (await ask(world, door, turn))["code"] == "quota_exceeded"
    world.script("Prime", always=True)
    assert "code" not in await ask(world, "json", turn)
