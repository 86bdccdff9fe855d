"""Row 3: a deploy. Replicas behind nginx drain on SIGTERM and are replaced, one after the other, under streams: readers
come back silently, and no word is lost or doubled."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from pathlib import Path

import pytest

from local.home import free_port
from tests.deploy.proxy import directory, nginx
from tests.environment import ROOT
from tests.faults.invariants import invariants
from tests.faults.replicas import launch, manage
from tests.faults.world import World

pytestmark = [pytest.mark.journey, pytest.mark.fault, pytest.mark.timeout(1800)]

STREAMS = 25  # of each of four kinds of clients
ROUNDS = 10  # of a sweep: restarts of both


@pytest.mark.skipif(shutil.which("nginx") is None, reason="needs nginx: apt-get install nginx")
@pytest.mark.parametrize("server", ["daphne", "uvicorn"])
async def test_rolling_restarts_lose_and_double_nothing(world: World, server: str) -> None:
    how = {"PARLEY_BEHIND_PROXY": "on", "PARLEY_DRAIN_SECONDS": "60"}
    replicas = await world.start(server, server, **how)
    world.behind_proxy = True
    world.script(words=80, delay=0.1)
    slowest = 0.0
    with nginx(*(replica.place for replica in replicas)) as proxy:
        for _ in range(ROUNDS if world.full else 1):
            for place in (0, 1):
                clients = world.ask_all(proxy.url, times=STREAMS)
                await world.all_at(clients, world.moment(2, 6))
                replicas[place].terminate()
                begun = time.monotonic()
                await asyncio.gather(world.finished(clients, 180), replicas[place].gone(90))
                slowest = max(slowest, *(client.longest_silence(begun) for client in clients))
                assert not [f"{one} {one.restarts}" for one in clients if one.restarts], "silently"
                replicas[place] = await world.again(replicas[place], **how)
        assert any(client.connections > 1 for client in world.clients), "nobody was sent away"
        world.took(slowest)
        await invariants(world)


async def test_while_it_drains_a_replica_is_not_ready_and_says_so(world: World) -> None:
    (drains,) = await world.start("daphne", PARLEY_DRAIN_SECONDS="30")
    (other,) = await world.start("daphne")
    world.script(delay=0.1, lingers_after=20)
    clients = world.ask_all(drains.address, other.address)
    await world.all_at(clients, 2)
    probe = f"{drains.address}/healthz"
    async with world.session.get(f"{probe}/ready") as response:  # and keeps its connection
        assert response.status == 200
    conversation = await world.begin(drains.address)
    drains.terminate()
    await asyncio.gather(*(client.until(lambda client=client: client.connections > 1) for client in clients))
    async with world.session.get(f"{probe}/ready") as response:
        assert response.status == 503
    refusal = await world.refused(drains.address, conversation)
    assert (refusal.status, refusal.code) == (503, "service_unavailable")
    assert world.kept(refusal) == ([], [], [])
    world.model.hurry()
    await world.finished(clients)
    await drains.gone()
    await invariants(world)


class Colours:
    """deploy/bluegreen over web processes of the world. What it starts, the test starts when it is asked to."""

    def __init__(self, world: World, home: Path, **how: str) -> None:
        self.world, self.home, self.how = world, home, how
        self.upstream = home / "upstream.conf"
        self.ports = {"BLUE": [free_port(), free_port()], "GREEN": [free_port(), free_port()]}

    def addresses(self, colour: str) -> str:
        return " ".join(f"127.0.0.1:{port}" for port in self.ports[colour])

    def start(self, port: int) -> None:
        replica = launch("daphne", self.world.stores.environment, port=port, patient=self.world.patient, **self.how)
        self.world.replicas += [replica]
        (self.home / f"{port}.pid").write_text(str(replica.process.pid))

    async def run(self, deed: str, nginx_home: Path) -> None:
        """Fails where the script does."""
        pid = f"$(cat {self.home}/{{port}}.pid)"
        process = await asyncio.create_subprocess_exec(
            ROOT / "deploy" / "bluegreen",
            deed,
            env={
                **os.environ,
                **{colour: self.addresses(colour) for colour in self.ports},
                "START": f"touch {self.home}/{{port}}.wanted",
                "STOP": f"kill -TERM {pid}; while kill -0 {pid} 2>/dev/null; do sleep 0.1; done",
                "NGINX_HOME": str(nginx_home),
                "NGINX_UPSTREAM_FILE": str(self.upstream),
                "HOST_NAME": "127.0.0.1",
            },
        )
        ended = asyncio.ensure_future(process.wait())
        while not ended.done():
            for wanted in self.home.glob("*.wanted"):
                wanted.unlink()
                self.start(int(wanted.stem))
            [replica.is_alive for replica in self.world.replicas]  # which takes leave of those that have ended
            await asyncio.sleep(0.05)
        assert ended.result() == 0
        await self.world.ready(*(replica for replica in self.world.living if not replica.resident))


@pytest.mark.skipif(shutil.which("nginx") is None, reason="needs nginx: apt-get install nginx")
async def test_a_switch_of_colours_and_back_loses_and_doubles_nothing(world: World) -> None:
    how = {"PARLEY_BEHIND_PROXY": "on", "PARLEY_DRAIN_SECONDS": "60"}
    world.behind_proxy = True
    world.script(words=80, delay=0.1)
    with directory() as home:
        how["PARLEY_HOME"] = str(home)  # whose static files the login page, which is tried, is made of
        await manage({**world.stores.environment, **how}, "collectstatic", "--no-input")
        colours = Colours(world, home, **how)
        for port in colours.ports["BLUE"]:
            colours.start(port)
        await world.ready(*world.replicas)
        with nginx(*colours.addresses("BLUE").split(), NGINX_UPSTREAM_FILE=str(colours.upstream)) as proxy:
            for deed, live in (("deploy", "GREEN"), ("rollback", "BLUE")):
                clients = world.ask_all(proxy.url, times=STREAMS)
                await world.all_at(clients, world.moment(2, 6))
                begun = time.monotonic()
                await colours.run(deed, proxy.home)
                world.record(f"{deed}_seconds", round(time.monotonic() - begun, 1))
                world.took(max(client.longest_silence(begun) for client in clients))
                assert {replica.port for replica in world.living} == set(colours.ports[live])
                await world.finished(clients, 180)
                assert not [f"{one} {one.restarts}" for one in clients if one.restarts], "silently"
            await invariants(world)
