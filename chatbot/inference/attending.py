"""What goes on beside the questions: names are looked up again, suspects probed, servers asked how busy they are."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import aclosing
from typing import Any, Final

from chatbot.errors import ModelError, ModelTimeout, ParleyError
from chatbot.inference.client import Client
from chatbot.inference.desk import Desk
from chatbot.inference.load import FIGURES
from chatbot.inference.servers import Server, Site
from chatbot.inference.wire import ChatRequest, Message

Resolve = Callable[[str, int], Awaitable[Iterable[str]]]  # the addresses of a name

ROUND: Final = 0.5  # seconds
LOOK_UP_EVERY: Final = 5.0
LOOK_UP_WAIT: Final = 2.0
LOAD_EVERY: Final = 5.0
LOAD_AGAIN: Final = 60.0  # seconds until a server that told nothing is asked again
# A question that gets stuck fails after 15 s by default; its server is suspect then, and this much later known to be
# stuck, within the 30 s after which nothing new may go there.
PROBE_WAIT: Final = 10.0
PROBE: Final = ChatRequest((Message("user", "Say hello."),), max_tokens=4, temperature=0.0)


class Attendant:
    """Works on one of the loops that ask, as tasks that end with it; then on the next that asks."""

    def __init__(self, desk: Desk, client: Client, resolve: Resolve) -> None:
        self._desk = desk
        self._client = client
        self._resolve = resolve
        self._rounds: asyncio.Task[None] | None = None
        self._look_ups: dict[str, asyncio.Task[None]] = {}
        self._others: set[asyncio.Task[None]] = set()

    def attend(self) -> None:
        """Go on with it on the running loop, unless another one does it."""
        rounds = self._rounds
        if rounds is None or rounds.done() or rounds.get_loop().is_closed():
            self._rounds = asyncio.get_running_loop().create_task(self._go_round())

    async def ready(self, endpoints: Iterable[str]) -> None:
        """Wait until names that were never looked up have been, LOOK_UP_WAIT at most."""
        sites = self._desk.fleet.sites
        unseen = [site for key in endpoints if (site := sites.get(key)) and site.host and not site.looked_up]
        if unseen:
            # asyncio.wait() leaves them alone when the one who waits is cancelled: others may wait, too.
            await asyncio.wait([self.look_up(site) for site in unseen])

    def look_up(self, site: Site) -> asyncio.Task[None]:
        """Look a site's name up now."""
        loop = asyncio.get_running_loop()
        task = self._look_ups.get(site.endpoint.id)
        if task is None or task.done() or task.get_loop() is not loop:
            task = self._look_ups[site.endpoint.id] = loop.create_task(self._look_up(site))
        return task

    async def _go_round(self) -> None:
        while True:
            now = self._desk.clock()
            with self._desk.lock:
                sites = list(self._desk.fleet.sites.values())
                servers = list(self._desk.fleet)
            for site in sites:
                if site.host and now >= site.due:
                    self.look_up(site)
            for server in servers:
                if self._desk.begin_probe(server):
                    self._start(self._probe(server))
                if now >= server.load_due and server.endpoint.protocol in FIGURES:
                    server.load_due = now + LOAD_EVERY
                    self._start(self._read_load(server))
            await asyncio.sleep(ROUND)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._others.add(task)  # a loop alone does not keep its tasks
        task.add_done_callback(self._others.discard)

    async def _look_up(self, site: Site) -> None:
        site.due = self._desk.clock() + LOOK_UP_EVERY
        try:
            async with asyncio.timeout(LOOK_UP_WAIT):
                addresses = list(await self._resolve(site.host, site.port))
        except (OSError, UnicodeError):  # a timeout, too
            addresses = []
        with self._desk.lock:
            site.looked_up = True
            # Without an answer it stays where it was; where that is nowhere, connecting tells what is wrong.
            if not addresses or self._desk.fleet.sites.get(site.endpoint.id) is not site:
                return
            found, gone = self._desk.fleet.found(site.endpoint.id, addresses, self._desk.clock())
            for server in found:
                self._desk.tell(server, "server.found", f"{site.host} has this address.")
            for server in gone:
                if server.address:
                    self._desk.tell(server, "server.gone", f"{site.host} no longer has this address.")
            self._desk.admission.reconsider()

    async def _probe(self, server: Server) -> None:
        well: bool | None = False
        why = ""
        try:
            async with asyncio.timeout(PROBE_WAIT):
                await self._generate(server)
            well = True
        except TimeoutError:
            why = ModelTimeout.default_message
        except ModelError as error:
            well, why = not error.at_fault, error.message
        except ParleyError:
            well = True  # it answered, if only that our question does not suit it
        except asyncio.CancelledError:
            well = None
            raise
        finally:
            self._desk.end_probe(server, well, why)

    async def _generate(self, server: Server) -> None:
        endpoint, address = server.endpoint, server.address
        if endpoint.kind == "embedding":
            await self._client.embed(endpoint, ["hello"], input_type="query", address=address)
        elif endpoint.kind == "rerank":
            await self._client.rerank(endpoint, "hello", ["hello"], address=address)
        elif endpoint.kind == "chat":
            async with aclosing(self._client.chat(endpoint, PROBE, address=address)) as deltas:
                async for _ in deltas:
                    pass

    async def _read_load(self, server: Server) -> None:
        try:
            server.load = await self._client.load(server.endpoint, address=server.address)
        except ParleyError:
            server.load = None
        if server.load is None:
            server.load_due = self._desk.clock() + LOAD_AGAIN
