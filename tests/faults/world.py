"""What a row is played in: the stores, the model server, two tenants, the replicas and the clients of the row."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from tests.environment import ROOT
from tests.fakes.inference import Reply
from tests.faults.client import DOORS, Asker, Client
from tests.faults.replicas import Replica, launch
from tests.faults.stores import Stores
from tests.journeys.conftest import Model

WORDS = 60
# The machines that test are slower and busier than those that serve: `make faults` tells how long it really took.
PATIENCE = 4.0


@dataclass(frozen=True)
class Refusal:
    status: int
    code: str
    seconds: float
    conversation: str
    retry_after: float | None = None


@dataclass
class World:
    """random: decides the moments, differently in each run of a sweep. full: whether this is one. patient: whether
    replicas give their stores more time than the product does, which a busy machine may need."""

    stores: Stores
    model: Model
    askers: Sequence[Asker]
    random: random.Random
    full: bool
    patient: bool
    record: Callable[[str, object], None]
    session: aiohttp.ClientSession
    replicas: list[Replica] = field(default_factory=list)
    clients: list[Client] = field(default_factory=list)
    words: int = WORDS
    behind_proxy: bool = False

    # --- Replicas -----------------------------------------------------------------------------------------------------

    async def start(self, *servers: str, root: Path = ROOT, **environment: str) -> list[Replica]:
        """Web processes that answer, all started at once."""
        patient = self.patient and root == ROOT  # an earlier release has no tests that know this one's
        how = {"root": root, "patient": patient, **environment}
        started = [launch(server, self.stores.environment, **how) for server in servers]
        self.replicas += started
        await self.ready(*started)
        return started

    async def again(self, replica: Replica, **environment: str) -> Replica:
        """Another one at the address of one that has ended."""
        stores = self.stores.environment
        started = launch(replica.server, stores, port=replica.port, patient=self.patient, **environment)
        self.replicas += [started]
        await self.ready(started)
        return started

    async def ready(self, *replicas: Replica) -> None:
        await asyncio.gather(*(replica.ready(self.session) for replica in replicas))

    @property
    def living(self) -> list[Replica]:
        return [replica for replica in self.replicas if replica.is_alive]

    def stop_replicas(self) -> None:
        for replica in self.replicas:
            replica.kill()

    # --- The model ----------------------------------------------------------------------------------------------------

    def script(self, *, words: int = WORDS, delay: float = 0.07, on: Model | None = None, **how: Any) -> None:
        """From now on the model, or another one, says so many words to whoever asks, the tenant's canary first of all.
        how: what else its replies do. Where a row needs answers that have not ended when it strikes, they linger until
        then, and the model hurries afterwards."""
        self.words = words
        (on or self.model).script(*self.replies(delay=delay, always=True, **how))

    def replies(self, **how: Any) -> list[Reply]:
        """One for each tenant."""
        said = {asker.canary: {"tokens": list(self._tokens(asker))} | how for asker in self.askers}
        return [Reply(when=canary, **reply) for canary, reply in said.items()]

    def _tokens(self, asker: Asker) -> Iterator[str]:
        yield f"{asker.canary} "
        yield from (f"w{n} " for n in range(self.words - 1))

    # --- Clients ------------------------------------------------------------------------------------------------------

    def ask(self, *addresses: str, door: str = "sse", asker: int = 0, **how: Any) -> Client:
        """Ask through the first address; come back through the others, one after the other."""
        who = self.askers[asker]
        client = Client(door, who, addresses, f"What about the pump of {who.canary}?", **how)
        client.answer = "".join(self._tokens(who))
        self.clients.append(client)
        return client

    def ask_all(self, *addresses: str, times: int = 1, **how: Any) -> list[Client]:
        """Each tenant, by each door, so many times."""
        places = [(door, asker) for door in DOORS for asker in range(len(self.askers))]
        return [self.ask(*addresses, door=door, asker=asker, **how) for _ in range(times) for door, asker in places]

    def follow(self, client: Client, *addresses: str, door: str = "", **how: Any) -> Client:
        """Read another client's turn, whose id it knows by now, from its beginning."""
        assert client.turn
        reader = Client(door or client.door, client.asker, addresses, client.text, turn=client.turn, **how)
        reader.state, reader.bill, reader.answer = client.state, client.bill, client.answer
        self.clients.append(reader)
        return reader

    def moment(self, first: int, last: int) -> int:
        """After how many words something happens."""
        return self.random.randint(first, last)

    async def all_at(self, clients: Sequence[Client], count: int) -> None:
        """Wait until each of them has so many words, and then a part of a journal's tick."""
        await asyncio.gather(*(client.words(count) for client in clients))
        await asyncio.sleep(self.random.uniform(0, 0.1))

    async def finished(self, clients: Sequence[Client], seconds: float = 90.0) -> None:
        await asyncio.gather(*(client.finish(seconds) for client in clients))

    async def told_again(self, ended: Sequence[Client], *addresses: str) -> None:
        """Whoever comes late to turns that have ended hears of them what those heard who were there."""
        readers = [Client(one.door, one.asker, addresses, one.text, turn=one.turn) for one in ended]
        await self.finished(readers)
        assert [reader.transcript for reader in readers] == [one.transcript for one in ended]

    # --- Questions that are to be refused -----------------------------------------------------------------------------

    async def begin(self, address: str, asker: int = 0, assistant: str = "guide") -> str:
        """A conversation's id."""
        who = self.askers[asker]
        url = f"{address}/api/v1/conversations"
        async with self.session.post(url, json={"assistant": assistant}, headers=who.headers) as response:
            response.raise_for_status()
            return str((await response.json())["id"])

    async def refused(self, address: str, conversation: str, asker: int = 0) -> Refusal:
        """What an impatient client hears of a question."""
        who = self.askers[asker]
        begun = time.monotonic()
        async with self.session.post(
            f"{address}/api/v1/conversations/{conversation}/turns",
            json={"text": f"Is this of {who.canary} kept?"},
            headers=who.headers,
        ) as response:
            body = await response.json()
        seconds = time.monotonic() - begun
        return Refusal(response.status, body.get("code", ""), seconds, conversation, body.get("retry_after"))

    async def history(self, address: str, conversation: str, asker: int = 0) -> list[str]:
        """What the API tells was said there, oldest first."""
        url = f"{address}/api/v1/conversations/{conversation}/messages"
        async with self.session.get(url, headers=self.askers[asker].headers) as response:
            response.raise_for_status()
            return [message["text"] for message in (await response.json())["results"]]

    def kept(self, refusal: Refusal) -> tuple[list[str], list[tuple[str, str]], list[tuple[str, str]]]:
        """Of a refused question: the texts in its conversation, its turns (state, code), their bills (state, bill)."""
        rows = self.stores.postgres.rows
        texts = rows("SELECT text FROM conversations_message WHERE conversation_id = %s", refusal.conversation)
        turns = rows(
            "SELECT id, state, error_code FROM conversations_turn WHERE conversation_id = %s", refusal.conversation
        )
        bills = rows("SELECT state, bill FROM usage_usagerecord WHERE turn_id = ANY(%s)", [turn[0] for turn in turns])
        return [text for (text,) in texts], [(state, code) for _, state, code in turns], [(s, b) for s, b in bills]

    # --- How long it took ---------------------------------------------------------------------------------------------

    def took(self, seconds: float, *, promised: float | None = None) -> None:
        """Note how long it took until all was well again. promised: by the catalogue."""
        self.record("recovery", round(seconds, 2))
        if promised is not None:
            self.record("promised", promised)
            assert seconds < promised * PATIENCE, f"{seconds:.1f} s, and {promised} s are promised"
