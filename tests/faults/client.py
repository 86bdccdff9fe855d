"""A patient client: it asks by SSE or WebSocket, reads, comes back with its cursor through any replica, keeps to the
protocol, and complains of whatever the protocol does not allow."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import aiohttp

from chatbot.events import START, Cursor
from chatbot.reader import Reader, Seen

DOORS = ("sse", "ws")
BACKOFF = 0.05
TOO_MANY, PATIENT = 429, 3.0
_LONG_LINES = 2**20  # bytes of one event


@dataclass(frozen=True)
class Asker:
    """A tenant, as its clients know it."""

    id: str
    slug: str
    canary: str
    key: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}


class Client(Reader):
    """One question, from the moment that it is made. It runs in the test's event loop.

    addresses: tried one after the other, whenever a connection ends; a test may change them. conversation: ask in this
    one, else in a new one. turn: follow this one instead of asking. silence: seconds without a word after which it
    comes back elsewhere. obeys: whether it waits as long as it is told where it has asked too much.
    state, bill and answer: how the turn should end, and what the model says if it says it all. Times are
    time.monotonic().
    """

    def __init__(
        self,
        door: str,
        asker: Asker,
        addresses: Sequence[str],
        text: str,
        *,
        conversation: str = "",
        turn: str = "",
        silence: float = 40.0,
        obeys: bool = True,
    ) -> None:
        super().__init__(turn, conversation)
        self.door, self.asker, self.text, self.silence, self.obeys = door, asker, text, silence, obeys
        self.addresses = list(addresses)
        self.asks = not turn
        self.name = uuid.uuid4().hex  # by which a repeat of the question is known
        self.state, self.bill, self.answer = "finished", "once", ""
        self.raw: list[str] = []
        self.refusals: list[tuple[int, str]] = []
        self.connections = 0
        self._pause = BACKOFF
        self._news = asyncio.Event()
        self.task = self._begin()

    # --- What a test asks ---------------------------------------------------------------------------------------------

    async def words(self, count: int = 1) -> None:
        """Wait until so many words of the answer are kept. How many come in one piece is the busy machine's affair."""
        await self.until(lambda: self.said >= count, f"{count} words")

    async def until(self, holds: Callable[[], bool], what: str = "it", seconds: float = 90.0) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not holds() and not self.task.done():
                    self._news.clear()
                    await self._news.wait()
        if not holds():
            if self.task.done():
                self.task.result()
            raise AssertionError(f"No {what}: {self}")

    async def finish(self, seconds: float = 90.0) -> Seen:
        """The last event."""
        async with asyncio.timeout(seconds):
            await asyncio.wait([self.task])
        self.task.result()
        return self.kept[-1]

    async def close(self) -> None:
        """Vanish without a word."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    def come_back(self, *addresses: str) -> None:
        """After close(): go on from where it stood."""
        self.addresses = list(addresses)
        self.task = self._begin()

    @property
    def said(self) -> int:
        """How many words of the answer are kept."""
        return len(self.transcript.split())

    @property
    def first_word(self) -> float:
        """The time.monotonic() at which it came."""
        return next(seen.at for seen in self.history if seen.kind == "token")

    @property
    def restarts(self) -> list[dict[str, Any]]:
        return [seen.data for seen in self.history if seen.kind == "restarted"]

    def longest_silence(self, since: float) -> float:
        """Seconds between two words, at most, from then on."""
        times = [since, *(seen.at for seen in self.history if seen.at > since)]
        return max((later - earlier for earlier, later in itertools.pairwise(times)), default=0.0)

    def __str__(self) -> str:
        place = f"{self.asker.slug} by {self.door}, turn {self.turn or 'unknown'}, at {self.cursor}"
        return f"{place}, {self.said} words, {self.connections} connections, refused {self.refusals[-3:]}"

    # --- Coming and coming back ---------------------------------------------------------------------------------------

    def _begin(self) -> asyncio.Task[None]:
        task = asyncio.create_task(self._run())
        task.add_done_callback(lambda _: self._news.set())  # whoever waits for words need not wait longer
        return task

    async def _run(self) -> None:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=self.silence)
        async with aiohttp.ClientSession(
            headers=self.asker.headers, timeout=timeout, read_bufsize=_LONG_LINES
        ) as session:
            reads = self._by_stream if self.door == "sse" else self._by_socket
            while not self.ended:
                address = self.addresses[self.connections % len(self.addresses)]
                self.connections += 1
                self._pause = BACKOFF
                self.connected()
                with suppress(aiohttp.ClientError, OSError, TimeoutError):
                    await reads(session, address)
                if not self.ended:
                    await asyncio.sleep(self._pause)

    async def _by_stream(self, session: aiohttp.ClientSession, address: str) -> None:
        api = f"{address}/api/v1"
        if not self.turn and not self.conversation:
            begin, key = {"assistant": "guide"}, {"Idempotency-Key": f"begin {self.name}"}
            async with session.post(f"{api}/conversations", json=begin, headers=key) as response:
                if not await self._let_in(response):
                    return
                self.conversation = (await response.json())["id"]
        if self.turn:
            asking = session.get(f"{api}/turns/{self.turn}/events", params={"after": str(self.cursor)})
        else:
            asking = session.post(
                f"{api}/conversations/{self.conversation}/turns",
                json={"text": self.text},
                headers={"Idempotency-Key": self.name, "Accept": "text/event-stream"},
            )
        async with asking as response:
            if await self._let_in(response):
                await self._read_blocks(response)

    async def _read_blocks(self, response: aiohttp.ClientResponse) -> None:
        block: dict[str, str] = {}
        async for raw in response.content:
            line = raw.decode().rstrip("\r\n")
            if line.startswith(":"):
                continue
            if line:
                name, _, value = line.partition(": ")
                block[name] = value
                continue
            if "event" in block and self._hear(block["event"], block.get("id", ""), block["data"]):
                return
            block = {}

    async def _by_socket(self, session: aiohttp.ClientSession, address: str) -> None:
        patience = aiohttp.ClientWSTimeout(ws_receive=self.silence, ws_close=1.0)
        async with session.ws_connect(f"{address}/ws/chat", timeout=patience) as socket:
            async for message in socket:
                if message.type is not aiohttp.WSMsgType.TEXT:
                    return
                frame = json.loads(message.data)
                if frame["type"] == "ready":
                    await socket.send_json(self._first_frame)
                elif self._hear(frame["type"], frame.get("id", ""), message.data):
                    return

    @property
    def _first_frame(self) -> dict[str, str]:
        if self.turn:
            return {"type": "resume", "turn": self.turn, "after": str(self.cursor)}
        place = {"conversation": self.conversation} if self.conversation else {"assistant": "guide"}
        return {"type": "ask", **place, "text": self.text, "client_id": self.name}

    async def _let_in(self, response: aiohttp.ClientResponse) -> bool:
        """Whether it may go on; refused for the moment, it comes again."""
        if response.ok:
            return True
        body = await response.text()
        self.raw.append(body)
        # nginx as shipped lets in so many requests a second of one address, which a whole crowd has here.
        assert response.status in (429, 502, 503, 504), f"{response.status} {body}"
        self._note_refusal(response.status, json.loads(body) if body.startswith("{") else {})
        return False

    def _note_refusal(self, status: int, body: dict[str, Any]) -> None:
        self.refusals.append((status, body.get("code", "")))
        if status == TOO_MANY and self.obeys:
            self._pause = body.get("retry_after") or PATIENT
        else:
            self._pause = min(0.5, body.get("retry_after") or BACKOFF)

    def _may_ask_again(self, code: str) -> bool:
        """A question of its own that is kept but has no answer, since a store was late: a busy machine's often is."""
        return code == "service_unavailable" and self.asks and self.state == "finished" and not self.texts

    def _forget_question(self) -> None:
        self.turn, self.cursor, self.name = "", START, uuid.uuid4().hex
        self.kept.clear()
        self.history.clear()

    # --- Keeping to the protocol --------------------------------------------------------------------------------------

    def _hear(self, kind: str, cursor: str, data: str) -> bool:
        """Take what came. True where it is time to leave."""
        self.raw.append(data)
        body = json.loads(data)
        if kind == "reconnect":
            self._pause = body["delay"]
            return True
        if kind == "limits":
            return False
        if not cursor:  # no end of the turn, but a refusal of what was sent
            assert (kind, body["code"]) == ("error", "service_unavailable"), body
            self._note_refusal(503, body)
            return True
        if kind == "error" and self._may_ask_again(body["code"]):
            self._note_refusal(503, body)
            self._forget_question()
            return True
        self.take(Seen(time.monotonic(), Cursor.parse(cursor), kind, body))
        self._news.set()
        return self.ended
