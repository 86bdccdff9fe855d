"""Row 47: nobody takes what is logged: the volume is full, or the pipe's reader has stopped. Nobody notices: lines wait
or are dropped and counted, and no process waits for them, neither web, worker nor nginx."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.deploy.proxy import directory, nginx
from tests.fakes.unread import unread
from tests.faults.ingesting import Works, manual
from tests.faults.invariants import invariants
from tests.faults.replicas import Replica, launch
from tests.faults.world import World

pytestmark = [pytest.mark.journey, pytest.mark.fault, pytest.mark.timeout(300)]

FULL = Path("/dev/full")  # each write to it fails as on a full disk


@pytest.mark.skipif(shutil.which("nginx") is None, reason="needs nginx: apt-get install nginx")
async def test_answers_and_documents_come_whoever_takes_the_log(world: World) -> None:
    works = Works(world)
    (works.home / "static").mkdir()
    with ExitStack() as opened:
        opened.callback(works.close)
        web = opened.enter_context(unread(works.home / "web"))
        opened.enter_context(unread(works.home / "0.log"))  # of the first worker
        gateway = opened.enter_context(unread(opened.enter_context(directory()) / "pipe"))

        def started(server: str, output: Path) -> Replica:
            how = {"PARLEY_HOME": str(works.home), "PARLEY_BEHIND_PROXY": "on"}
            return launch(server, world.stores.environment, output=output, patient=world.patient, **how)

        world.replicas = [started("daphne", web.path), started("uvicorn", FULL)]
        world.behind_proxy = True
        await world.ready(*world.replicas)
        behind = [replica.place for replica in world.replicas]
        proxy = opened.enter_context(nginx(*behind, output=gateway.path))
        works.address = proxy.url
        works.worker()
        world.script(delay=0.02)
        document = await works.upload(manual(5, world.askers[0].canary))
        clients = world.ask_all(proxy.url, times=4)
        await world.finished(clients)
        assert max(client.longest_silence(client.first_word) for client in clients) < 10, "somebody waited"
        await works.becomes(document, "ready")
        assert await dropped(world, world.replicas[1]) > 0
        # What waited comes as soon as somebody reads, and what comes after that.
        told = web.read_until(b"turn.finished").decode()
        ended = [json.loads(line) for line in told.splitlines() if "turn.finished" in line]
        assert ended[0]["turn"] in {client.turn for client in clients}
        gateway.read()
        for _ in range(100):  # what comes within a second after the reader does is thrown away
            await works.look(document)
            if b"nginx.request" in gateway.read():
                break
            await asyncio.sleep(0.1)
        else:
            raise AssertionError("nginx's log does not come again")
        await invariants(world)


async def dropped(world: World, replica: Replica) -> float:
    """How many lines, as it tells."""
    async with world.session.get(f"{replica.address}/metrics") as response:
        [count] = re.findall(r"^parley_log_lines_dropped_total (\S+)$", await response.text(), re.MULTILINE)
    return float(count)
