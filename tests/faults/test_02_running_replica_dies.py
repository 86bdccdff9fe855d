"""Row 2: the replica that runs the turn dies (kill -9) or hangs (SIGSTOP). Another one takes it over, within 3 seconds
or 13, and goes on with the answer or begins it again; the hung one wakes up and writes nothing."""

from __future__ import annotations

import asyncio
import shutil
import time

import pytest

from tests.deploy.proxy import nginx
from tests.faults.invariants import invariants
from tests.faults.world import World

pytestmark = [pytest.mark.journey, pytest.mark.fault, pytest.mark.timeout(300)]


@pytest.mark.parametrize("server", ["daphne", "uvicorn"])
async def test_a_dead_ones_answer_is_gone_on_with(world: World, server: str) -> None:
    dies, other = await world.start(server, server)
    world.script(lingers_after=35)
    askers = world.ask_all(dies.address, other.address)
    await world.all_at(askers, 2)
    watchers = [world.follow(asker, other.address) for asker in askers]
    await world.all_at([*askers, *watchers], world.moment(4, 30))
    dies.kill()
    died = time.monotonic()
    world.model.hurry()
    await world.finished([*askers, *watchers])
    for client in (*askers, *watchers):
        assert [(told["epoch"], told["reset"]) for told in client.restarts] == [(2, False)]
        assert client.restarts[0]["after"] > 2, "it was begun again"
    world.took(max(client.longest_silence(died) for client in (*askers, *watchers)), promised=3)
    await invariants(world)


async def test_where_no_model_server_can_go_on_the_answer_begins_again(world: World, beginning_again: None) -> None:
    dies, other = await world.start("daphne", "daphne")
    world.script(lingers_after=35)
    askers = world.ask_all(dies.address, other.address)
    await world.all_at(askers, world.moment(4, 30))
    dies.kill()
    died = time.monotonic()
    world.model.hurry()
    await world.finished(askers)
    assert [[told["after"] for told in asker.restarts] for asker in askers] == [[1]] * len(askers)
    world.took(max(asker.longest_silence(died) for asker in askers), promised=3)
    await invariants(world)


async def test_a_hung_one_loses_its_turns_and_writes_nothing_when_it_wakes_up(world: World) -> None:
    """Its own readers who wait for it hear the rest from it, once it has noticed; the impatient ones go elsewhere."""
    hangs, other = await world.start("daphne", "uvicorn")
    world.script(delay=0.25, lingers_after=15)
    waiting = world.ask_all(hangs.address)
    leaving = [world.ask(hangs.address, other.address, door=door, silence=4) for door in ("sse", "ws")]
    await world.all_at([*waiting, *leaving], 2)
    watchers = [world.follow(asker, other.address) for asker in waiting]
    await world.all_at([*waiting, *leaving, *watchers], world.moment(3, 10))
    hangs.hang()
    hung = time.monotonic()
    await asyncio.gather(*(client.until(lambda client=client: client.restarts) for client in (*watchers, *leaving)))
    await asyncio.sleep(world.random.uniform(0, 2))
    hangs.wake()
    world.model.hurry()
    await world.finished(world.clients)
    for client in world.clients:
        assert [told["epoch"] for told in client.restarts] == [2]
    world.took(max(watcher.longest_silence(hung) for watcher in watchers), promised=13)
    await invariants(world)


@pytest.mark.skipif(shutil.which("nginx") is None, reason="needs nginx: apt-get install nginx")
@pytest.mark.parametrize("server", ["daphne", "uvicorn"])
async def test_behind_nginx_everybody_comes_back_by_the_same_address(world: World, server: str) -> None:
    """Half of the clients ask the one that dies; all of them know the proxy only."""
    dies, other = await world.start(server, server, PARLEY_BEHIND_PROXY="on")
    world.behind_proxy = True
    world.script(lingers_after=35)
    with nginx(*(replica.place for replica in (dies, other))) as proxy:
        clients = world.ask_all(proxy.url, times=2)
        await world.all_at(clients, world.moment(4, 30))
        dies.kill()
        died = time.monotonic()
        world.model.hurry()
        await world.finished(clients)
        moved = [client for client in clients if client.restarts]
        assert 0 < len(moved) < len(clients)
        world.took(max(client.longest_silence(died) for client in clients), promised=3)
        await invariants(world)


@pytest.mark.parametrize("door", ["sse", "ws"])
async def test_a_stop_through_another_replica_is_obeyed(world: World, door: str) -> None:
    runs, other = await world.start("daphne", "daphne")
    world.script(delay=0.3, lingers_after=10)
    asker = world.ask(runs.address, door=door)
    await world.all_at([asker], 3)
    asker.state, asker.bill = "stopped", "delivered"
    url = f"{other.address}/api/v1/turns/{asker.turn}"
    async with world.session.post(f"{url}/stop", headers=asker.asker.headers) as response:
        assert (await response.json())["state"] == "stopped"
    assert (await asker.finish()).data["finish_reason"] == "stopped"
    async with world.session.get(url, params={"after": "1-2"}, headers=asker.asker.headers) as response:
        told = await response.json()
    assert "".join(event["text"] for event in told["events"] if event["type"] == "token") == asker.transcript
    assert (told["events"][-1]["type"], told["cursor"]) == ("turn.finished", str(asker.cursor))
    await invariants(world)
