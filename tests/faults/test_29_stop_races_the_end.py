"""Row 29: a stop races the end of the answer. There is one end: the whole answer, billed once, or what was said, billed
as delivered."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from tests.faults.client import Client
from tests.faults.invariants import invariants
from tests.faults.world import World

pytestmark = [pytest.mark.journey, pytest.mark.fault, pytest.mark.timeout(300)]

WORDS = 8


async def test_there_is_one_end(world: World) -> None:
    one, other = await world.start("daphne", "uvicorn")
    world.script(words=WORDS, delay=0.04)
    url = "{}/api/v1/turns/{}/stop"

    async def stop(client: Client, address: str) -> None:
        headers = client.asker.headers
        async with world.session.post(url.format(address, client.turn), headers=headers) as response:
            assert response.status == 200, await response.text()

    for _ in range(4):
        clients = world.ask_all(one.address)
        word = world.moment(WORDS - 3, WORDS)
        await asyncio.gather(*(client.words(word) for client in clients))
        await asyncio.sleep(world.random.uniform(0, 0.05))
        await asyncio.gather(*(stop(client, place.address) for client in clients for place in (one, other)))
        for client in clients:
            end = await client.finish()
            if end.data["state"] == "stopped":
                client.state, client.bill = "stopped", "delivered"
    await invariants(world)


async def test_whoever_stops_by_the_socket_that_asked_hears_the_end(world: World) -> None:
    (replica,) = await world.start("daphne")
    world.script(delay=0.1, lingers_after=20)
    (client,) = (world.ask(replica.address, door="ws"),)
    await world.all_at([client], world.moment(2, 20))
    client.state, client.bill = "stopped", "delivered"
    async with world.session.ws_connect(f"{replica.address}/ws/chat", headers=client.asker.headers) as socket:
        assert (await socket.receive_json())["type"] == "ready"
        await socket.send_json({"type": "stop", "turn": client.turn})
        assert (await client.finish()).data["state"] == "stopped"
        assert not isinstance(socket.exception(), aiohttp.ClientError)
    await invariants(world)
