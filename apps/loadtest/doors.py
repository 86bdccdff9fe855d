"""The doors of a Parley as a client sees them: a question goes in, its events come out. Only the public API is used."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import aiohttp
import orjson

from chatbot.reader import TERMINAL, ProtocolBroken, Reader

# What 429 and 503 say, be it as a status or in an event: come again later. tests/apps/loadtest holds them against the
# product's table.
REFUSALS: Final = frozenset(
    {"quota_exceeded", "rate_limited", "model_busy", "model_unavailable", "service_unavailable"}
)
_AGAIN: Final = (429, 502, 503, 504)
_LONG_LINES: Final = 2**20  # bytes of one event
_CLOSED_FOR_A_REASON: Final = 4000


class Frame(NamedTuple):
    """cursor: empty for what is no event of a turn."""

    kind: str
    cursor: str
    data: dict[str, Any]


class TurnedAway(Exception):
    """The target answered, and not with what was asked for."""

    def __init__(self, code: str, status: int, retry_after: float = 0.0) -> None:
        super().__init__(code)
        self.code, self.status, self.retry_after = code, status, retry_after

    @property
    def refused(self) -> bool:
        return self.code in REFUSALS or self.status in (429, 503)

    @property
    def for_now(self) -> bool:
        return self.status in _AGAIN


class Asked(Reader):
    """A question, known by a name, so that it can be sent again and stays the same."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.name = text, uuid.uuid4().hex


@dataclass
class Target:
    """A Parley, an assistant of it, and who asks."""

    session: aiohttp.ClientSession
    url: str
    assistant: str

    @classmethod
    @asynccontextmanager
    async def reached(cls, url: str, key: str, assistant: str) -> AsyncIterator[Target]:
        """How long to wait for a word is for whoever asks: a second limit here would tell some silences as losses."""
        async with aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {key}"},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=5),
            connector=aiohttp.TCPConnector(limit=0),
            read_bufsize=_LONG_LINES,
            json_serialize=lambda body: orjson.dumps(body).decode(),
        ) as session:
            yield cls(session, url, assistant)

    @asynccontextmanager
    async def request(
        self, method: str, path: str, body: dict[str, Any] | None = None, **headers: str
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Raises TurnedAway unless it succeeds."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.session.request(
            method, f"{self.url}/api/v1{path}", json=body, headers=named, allow_redirects=False
        ) as response:
            if response.status >= 300:
                raise _turned_away(response.status, await response.read())
            yield response

    async def told(self, method: str, path: str, body: dict[str, Any] | None = None, **headers: str) -> dict[str, Any]:
        async with self.request(method, path, body, **headers) as response:
            told: dict[str, Any] = orjson.loads(await response.read())
        return told


def _turned_away(status: int, body: bytes) -> TurnedAway:
    try:
        told = orjson.loads(body)
        return TurnedAway(told["code"], status, told.get("retry_after") or 0.0)
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return TurnedAway(f"http_{status}", status)


@dataclass
class Conversation:
    """One end user's conversation, over HTTP."""

    target: Target
    user: str
    id: str = ""

    async def begin(self) -> None:
        if not self.id:
            body = {"assistant": self.target.assistant, "user": self.user}
            self.id = (await self.target.told("POST", "/conversations", body))["id"]

    async def whole(self, asked: Asked) -> dict[str, Any]:
        """The turn when it has ended, as JSON."""
        await self.begin()
        path, body = f"/conversations/{self.id}/turns", {"text": asked.text}
        return await self.target.told("POST", path, body, Idempotency_Key=asked.name)

    async def events(self, asked: Asked) -> AsyncGenerator[Frame]:
        """What comes by one connection: from the question on, or of its turn beyond the cursor."""
        await self.begin()
        path, body = f"/conversations/{self.id}/turns", {"text": asked.text}
        asking = (
            self.target.request("GET", f"/turns/{asked.turn}/events?after={asked.cursor}")
            if asked.turn
            else self.target.request("POST", path, body, Accept="text/event-stream", Idempotency_Key=asked.name)
        )
        async with asking as response:
            fields: dict[bytes, bytes] = {}
            async for line in response.content:
                if not (bare := line.rstrip(b"\r\n")):
                    if b"event" in fields:
                        yield Frame(
                            fields[b"event"].decode(), fields.get(b"id", b"").decode(), orjson.loads(fields[b"data"])
                        )
                    fields = {}
                elif not bare.startswith(b":"):
                    name, _, value = bare.partition(b": ")
                    fields[name] = value

    async def stop(self, asked: Asked) -> None:
        await self.target.told("POST", f"/turns/{asked.turn}/stop")

    async def close(self) -> None:
        """Nothing stays open between two questions."""


@dataclass
class Socket(Conversation):
    """The same over one WebSocket, which stays open between questions, as a widget's does."""

    _socket: aiohttp.ClientWebSocketResponse | None = field(default=None, repr=False)

    async def events(self, asked: Asked) -> AsyncGenerator[Frame]:
        socket = self._socket or await self._attach()
        await socket.send_json(self._first_frame(asked))
        async for message in socket:
            if message.type is not aiohttp.WSMsgType.TEXT:
                break
            data = orjson.loads(message.data)
            kind = data["type"]
            if kind == "limits":
                continue
            if data.get("client_id", asked.name) != asked.name and kind != "reconnect":
                raise ProtocolBroken("An event came after the end of its turn.")
            self.id = self.id or data.get("conversation") or ""
            yield Frame(kind, data.get("id", ""), data)
            if kind in TERMINAL:
                return
        await self._gone(socket)

    async def stop(self, asked: Asked) -> None:
        if self._socket:
            await self._socket.send_json({"type": "stop", "turn": asked.turn})

    async def close(self) -> None:
        if self._socket:
            await self._socket.close()
        self._socket = None

    async def _attach(self) -> aiohttp.ClientWebSocketResponse:
        socket = await self.target.session.ws_connect(
            f"{self.target.url}/ws/chat", timeout=aiohttp.ClientWSTimeout(ws_close=1.0)
        )
        async for message in socket:
            if message.type is aiohttp.WSMsgType.TEXT and orjson.loads(message.data)["type"] == "ready":
                self._socket = socket
                return socket
        await self._gone(socket)
        raise aiohttp.ServerDisconnectedError

    async def _gone(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        await self.close()
        status = (socket.close_code or 0) - _CLOSED_FOR_A_REASON
        if 400 <= status < 500:
            raise TurnedAway(f"closed_{socket.close_code}", status)

    def _first_frame(self, asked: Asked) -> dict[str, str]:
        if asked.turn:
            return {"type": "resume", "turn": asked.turn, "after": str(asked.cursor), "client_id": asked.name}
        place = {"conversation": self.id} if self.id else {"assistant": self.target.assistant, "user": self.user}
        return {"type": "ask", **place, "text": asked.text, "client_id": asked.name}
