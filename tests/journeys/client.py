"""The doors of a running Parley as a client sees them: events one by one, over SSE or WebSocket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect

# What differs from turn to turn, or is said by the transport.
_OWN = ("turn", "conversation", "question", "answer", "timings", "id", "type")


@dataclass(frozen=True)
class Event:
    cursor: str
    type: str
    data: dict[str, Any]


@dataclass(frozen=True)
class Doors:
    base_url: str
    key: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    def http(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=f"{self.base_url}/api/v1", headers=self.headers, timeout=30)

    async def conversation(self) -> str:
        async with self.http() as http:
            return str((await http.post("/conversations", json={"assistant": "guide"})).raise_for_status().json()["id"])

    async def ask(self, text: str) -> dict[str, Any]:
        """The finished turn."""
        async with self.http() as http:
            answer = await http.post(f"/conversations/{await self.conversation()}/turns", json={"text": text})
        turn: dict[str, Any] = answer.raise_for_status().json()
        return turn

    async def turn(self, turn_id: str) -> dict[str, Any]:
        async with self.http() as http:
            turn: dict[str, Any] = (await http.get(f"/turns/{turn_id}")).raise_for_status().json()
        return turn

    @asynccontextmanager
    async def stream(self, text: str) -> AsyncIterator[AsyncIterator[Event]]:
        """The events of a question over SSE; leaving early closes the connection."""
        path = f"/conversations/{await self.conversation()}/turns"
        accept = {"Accept": "text/event-stream"}
        async with self.http() as http, http.stream("POST", path, json={"text": text}, headers=accept) as response:
            yield _events(response.raise_for_status())

    @asynccontextmanager
    async def follow(self, turn_id: str, after: str) -> AsyncIterator[AsyncIterator[Event]]:
        """The events of a turn beyond a cursor, over SSE."""
        async with self.http() as http, http.stream("GET", f"/turns/{turn_id}/events?after={after}") as response:
            yield _events(response.raise_for_status())

    @asynccontextmanager
    async def socket(self) -> AsyncIterator[ClientConnection]:
        """An authenticated WebSocket."""
        address = self.base_url.replace("http", "ws", 1) + "/ws/chat"
        async with connect(address, additional_headers=self.headers) as socket:
            assert json.loads(await socket.recv()) == {"type": "ready", "tenant": "acme"}
            with suppress(TimeoutError):  # nothing is counted, and no limit told, while Redis is late
                async with asyncio.timeout(10):
                    assert json.loads(await socket.recv())["type"] == "limits"
            yield socket


async def _events(response: httpx.Response) -> AsyncIterator[Event]:
    fields: dict[str, str] = {}
    async for line in response.aiter_lines():
        if line.startswith(":"):
            continue
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif fields:
            yield Event(fields.get("id", ""), fields["event"], json.loads(fields["data"]))
            fields = {}


async def say(socket: ClientConnection, **frame: str) -> None:
    await socket.send(json.dumps(frame))


async def heard(socket: ClientConnection) -> AsyncIterator[Event]:
    """The events of one turn, to its last one."""
    async for frame in socket:
        data = json.loads(frame)
        if data["type"] == "limits":
            continue
        yield Event(data["id"], data["type"], data)
        if data["type"] in ("turn.finished", "error"):
            return


def told(events: list[Event]) -> list[tuple[str, Any]]:
    """What a turn's events say, without what is each turn's own: tokens joined, since reads cut them anywhere."""
    parts: list[tuple[str, Any]] = []
    for kind, group in groupby(events, key=lambda event: event.type):
        said = [{name: value for name, value in event.data.items() if name not in _OWN} for event in group]
        parts.append((kind, "".join(data["text"] for data in said)) if kind == "token" else (kind, said))
    return parts
