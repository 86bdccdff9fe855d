"""A web site to fetch documents from: what it answers is scripted, what it was asked is kept."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from aiohttp import web

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Site:
    """`pages` by path: a response, or a function of the request. `requests`: what was asked, in order."""

    def __init__(self) -> None:
        self.pages: dict[str, Callable[[web.Request], web.StreamResponse] | Answer] = {}
        self.requests: list[web.Request] = []
        self.port = 0
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Under a name, which a resolver has to look up."""
        return f"http://localhost:{self.port}"

    def serves(self, path: str, body: bytes | str, content_type: str = "text/html", **headers: str) -> str:
        """Let `path` answer this; its address. An If-None-Match that is its ETag is answered with 304."""
        content = body if isinstance(body, bytes) else body.encode()
        sent = {"Content-Type": content_type} if content_type else {}

        def answer(request: web.Request) -> web.Response:
            if "ETag" in headers and request.headers.get("If-None-Match") == headers["ETag"]:
                return web.Response(status=304)
            return web.Response(body=content, headers={**sent, **headers})

        self.pages[path] = answer
        return f"{self.url}{path}"

    def redirects(self, path: str, to: str, status: int = 302) -> str:
        self.pages[path] = lambda _: web.Response(status=status, headers={"Location": to})
        return f"{self.url}{path}"

    async def start(self) -> None:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(application, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        page = self.pages.get(request.path)
        if page is None:
            return web.Response(status=404)
        answer = page(request)
        return await answer if asyncio.iscoroutine(answer) else answer  # type: ignore[return-value]


@contextmanager
def running_site() -> Iterator[Site]:
    """The site on a loop of its own, so that sync tests reach it too."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    site = Site()
    try:
        asyncio.run_coroutine_threadsafe(site.start(), loop).result(10)
        yield site
        asyncio.run_coroutine_threadsafe(site.stop(), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
