"""A receiver of webhooks on a socket that does what a script says: answers, hangs, redirects, breaks off."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Self

import orjson
from aiohttp import web


@dataclass(frozen=True)
class Answer:
    """How to answer one request. hang: seconds before it does. reset: break the connection off instead."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    hang: float = 0.0
    reset: bool = False
    endless: bool = False


@dataclass(frozen=True)
class Received:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def message(self) -> dict[str, Any]:
        parsed: dict[str, Any] = orjson.loads(self.body)
        return parsed


class Receiver:
    def __init__(self) -> None:
        self.requests: list[Received] = []
        self._news = asyncio.Condition()
        self._script: deque[Answer] = deque()
        self._always = Answer()

    def script(self, *answers: Answer, always: Answer | None = None) -> None:
        """`answers` in this order, then `always` (200 unless told)."""
        self._script.extend(answers)
        self._always = always or self._always

    async def received(self, count: int) -> None:
        """Wait until so many requests have come."""
        async with self._news:
            await self._news.wait_for(lambda: len(self.requests) >= count)

    def url(self, path: str = "/hook", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    async def __aenter__(self) -> Self:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._receive)
        self._runner = web.AppRunner(application, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _receive(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(Received(request.path, dict(request.headers), await request.read()))
        async with self._news:
            self._news.notify_all()
        answer = self._script.popleft() if self._script else self._always
        await asyncio.sleep(answer.hang)
        if answer.reset:
            assert request.transport is not None
            request.transport.abort()
        if not answer.endless:
            return web.Response(status=answer.status, headers=answer.headers, body=answer.body)
        response = web.StreamResponse(status=answer.status)
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65536)
