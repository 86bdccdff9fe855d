"""A scripted OpenAI-compatible inference server on 127.0.0.1: chat, embeddings, and every way a real one misbehaves.

It answers as https://platform.openai.com/docs/api-reference says (chat/create, chat-streaming, embeddings, models;
errors as in docs/guides/error-codes); tests/fakes/dialects.py has the servers that differ, for `dialect`.

In a test:      async with FakeInference() as fake: fake.script(Reply(tokens=["Hi"])); ... fake.base_url
As a process:   python -m tests.fakes.inference --port 9000 --dialect vllm
                It prints its base URL; port 0 picks a free one. POST /script with a JSON list of replies replaces what
                is left of the script; GET /requests tells what was asked, what the answer was to go on from, and
                whether the client stayed.

Without a script it is a healthy server that answers "You asked: <question> [1]". Asked to continue an answer, servers
that can do so go on from where its prefix ends, scripted or not.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import re
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import asdict
from typing import Any, Self

import orjson
from aiohttp import web

from chatbot.inference.endpoint import Endpoint
from tests.fakes.dialects import CONTEXT_LENGTH, VLLM, Dialect, LlamaCpp, Refusal, chunk, usage
from tests.fakes.huggingface import TGI, TGIGenerate
from tests.fakes.replies import DIMENSION, Received, Reply, following
from tests.fakes.vectors import embedding

__all__ = ["CONTEXT_LENGTH", "DIMENSION", "FakeInference", "Received", "Reply", "embedding", "make_endpoint"]

FOREVER = 3600.0
LONGEST = 100_000  # tokens, where nobody asks for fewer
DIALECTS: dict[str, type[Dialect]] = {
    "openai": Dialect,
    "vllm": VLLM,
    "tgi": TGI,
    "tgi-generate": TGIGenerate,
    "llamacpp": LlamaCpp,
}


class FakeInference:
    """`dialect` is the kind of server that it plays; `api_key` is asked for where it is set."""

    def __init__(self, port: int = 0, *, dialect: Dialect | None = None, api_key: str = "") -> None:
        self.dialect = dialect or Dialect()
        self.api_key = api_key
        self.requests: list[Received] = []
        self.moved: dict[str, str] = {}  # pages that are elsewhere now
        self.port = port
        self._script: list[Reply] = []
        self._received = asyncio.Event()
        self._disconnected = asyncio.Event()
        app = web.Application(client_max_size=64 * 1024 * 1024)
        if self.dialect.chat_path:
            app.router.add_post(self.dialect.chat_path, self._chat)
        if self.dialect.embed_path:
            app.router.add_post(self.dialect.embed_path, self._embeddings)
        for path, tell in self.dialect.pages().items():
            app.router.add_get(path, self._page(tell))
        app.router.add_get("/api/resolve-cache/{file}", self._moved_page)
        app.router.add_get("/health", self._health)
        app.router.add_post("/script", self._take_script)
        app.router.add_get("/requests", self._tell_requests)
        # handler_cancellation: a client that goes away cancels its handler, which is how we learn of it.
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0, access_log=None)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def script(self, *replies: Reply) -> None:
        """Add to the script; replies are taken in order by the requests that match them."""
        self._script.extend(replies)

    async def wait_received(self, timeout: float = 5.0) -> Received:
        """The first request. Raises TimeoutError."""
        async with asyncio.timeout(timeout):
            await self._received.wait()
        return self.requests[0]

    async def wait_disconnected(self, timeout: float = 5.0) -> Received:
        """The first request whose client went away before the answer ended. Raises TimeoutError."""
        async with asyncio.timeout(timeout):
            await self._disconnected.wait()
        return next(request for request in self.requests if request.disconnected_at is not None)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    def _next_reply(self, kind: str, model: str, text: str) -> Reply:
        for place, reply in enumerate(self._script):
            if reply.matches(kind, model, text):
                return reply if reply.always else self._script.pop(place)
        return Reply()

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        received = await self._receive(request)
        if denied := self._denied(request, received.payload):
            return denied
        received.prefix = self.dialect.prefix(received.payload)
        reply = self._next_reply("chat", received.payload.get("model", ""), self.dialect.question(received.payload))
        return await self._watched(request, received, self._answer(request, received, reply))

    async def _embeddings(self, request: web.Request) -> web.StreamResponse:
        received = await self._receive(request)
        if denied := self._denied(request, received.payload):
            return denied
        texts = self.dialect.texts(received.payload)
        reply = self._next_reply("embedding", received.payload.get("model", ""), texts[0] if texts else "")
        return await self._watched(request, received, self._embed(request, reply, texts))

    def _denied(self, request: web.Request, payload: dict[str, Any]) -> web.Response | None:
        """What is refused whatever the script says: a wrong key, an unknown model. It takes no reply."""
        if self.api_key and request.headers.get("Authorization") != f"Bearer {self.api_key}":
            return _refusal(self.dialect.unauthorised())
        unknown = self.dialect.unknown_model(payload)
        return _refusal(unknown) if unknown else None

    def _refused(self, reply: Reply) -> web.Response | None:
        refusal = self.dialect.refusal(reply.fault) if reply.fault in ("overloaded", "too_long") else None
        return _refusal(refusal, reply.headers) if refusal and refusal.status != 200 else None

    def _page(self, tell: Callable[[], dict[str, Any]]) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def page(request: web.Request) -> web.Response:
            if self.api_key and request.headers.get("Authorization") != f"Bearer {self.api_key}":
                return _refusal(self.dialect.unauthorised())
            if target := self.moved.get(request.path):
                return web.Response(status=307, headers={"Location": target})
            return web.json_response(tell())

        return page

    async def _moved_page(self, request: web.Request) -> web.Response:
        before = next(old for old, new in self.moved.items() if new == request.path)
        return web.json_response(self.dialect.pages()[before]())

    async def _receive(self, request: web.Request) -> Received:
        port = request.transport.get_extra_info("peername")[1] if request.transport else 0
        received = Received(request.path, orjson.loads(await request.read()), dict(request.headers), port)
        self.requests.append(received)
        self._received.set()
        return received

    async def _watched(self, request: web.Request, received: Received, answering: Any) -> web.StreamResponse:
        try:
            answer: web.StreamResponse = await answering
        except (asyncio.CancelledError, ConnectionError):
            if request.transport is None:  # else it is we who stop
                received.disconnected_at = time.monotonic()
                self._disconnected.set()
            raise
        return answer

    async def _answer(self, request: web.Request, received: Received, reply: Reply) -> web.StreamResponse:
        await asyncio.sleep(reply.first_delay)
        if reply.status != 200:
            return web.Response(status=reply.status, text=reply.body, headers=reply.headers)
        payload = received.payload
        if refused := self._refused(reply):
            return refused
        if self.dialect.whole and not payload.get("stream"):
            tokens, finish = self._spoken(reply, payload)
            repeated = self.dialect.prefix(payload) if self.dialect.repeats else ""
            message = {"role": "assistant", "content": repeated + "".join(tokens)}
            return web.json_response(chunk({"message": message, "finish_reason": finish}, usage(payload, tokens)))
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"} | reply.headers)
        await response.prepare(request)
        async for event in self._stream(request, reply, payload):
            for piece in self._pieces(event, reply):
                await response.write(piece)
                await asyncio.sleep(0)
        return response

    async def _health(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    def _tokens(self, reply: Reply, payload: dict[str, Any]) -> Iterator[str]:
        last_line = (self.dialect.question(payload).strip().splitlines() or [""])[-1]
        tokens = reply.tokens if reply.tokens is not None else re.findall(r"\s*\S+", f"You asked: {last_line} [1]")
        return following(itertools.cycle(tokens) if reply.endless else tokens, self.dialect.prefix(payload))

    def _spoken(self, reply: Reply, payload: dict[str, Any]) -> tuple[list[str], str]:
        """The tokens of an answer that ends, and why it does."""
        limit = self.dialect.limit(payload)
        most = LONGEST if limit is None else limit
        tokens = list(itertools.islice(self._tokens(reply, payload), most + 1))
        return (tokens[:most], "length") if len(tokens) > most else (tokens, reply.finish_reason)

    async def _stream(self, request: web.Request, reply: Reply, payload: dict[str, Any]) -> AsyncIterator[bytes]:
        """The events of one answer, paced and broken as the reply says."""
        if reply.fault in ("overloaded", "too_long"):
            yield _event(self.dialect.refusal(reply.fault).body)
        else:
            async for event in self._spoken_events(request, reply, payload):
                yield event
        if done := self.dialect.done:
            yield done

    async def _spoken_events(self, request: web.Request, reply: Reply, payload: dict[str, Any]) -> AsyncIterator[bytes]:
        tokens, finish = ([], "") if reply.endless else self._spoken(reply, payload)
        for event in self.dialect.opening():
            yield _event(event)
        for place, token in enumerate(self._tokens(reply, payload) if reply.endless else tokens):
            async for ping in _misbehave(request, reply, place):
                yield ping
            if place:
                await asyncio.sleep(reply.delay)
            last = place == len(tokens) - 1 and not reply.ends_badly
            yield _event(self.dialect.token(token, tokens, finish if last else None))
        async for ping in _misbehave(request, reply, len(tokens)):
            yield ping
        if reply.garbage:
            yield reply.garbage.encode()
        for event in self._ending(reply, payload, tokens, finish):
            yield _event(event)

    def _ending(
        self, reply: Reply, payload: dict[str, Any], tokens: list[str], finish: str
    ) -> Iterator[dict[str, Any]]:
        if reply.fault == "broken":
            yield self.dialect.refusal("broken").body
        elif reply.error_event is not None:
            yield reply.error_event
        elif not reply.no_finish:
            yield from self.dialect.closing(tokens, finish)
        if not reply.no_usage:
            yield from self.dialect.counted(payload, tokens)

    def _pieces(self, event: bytes, reply: Reply) -> Iterator[bytes]:
        if reply.noise:
            empty = _event(self.dialect.token("", [], None))
            event = (b": keep-alive\n\n" + empty + b"event: message\nid: 7\n" + event).replace(b"\n", b"\r\n")
        size = reply.split or len(event)
        return (event[start : start + size] for start in range(0, len(event), size))

    async def _embed(self, request: web.Request, reply: Reply, texts: list[str]) -> web.Response:
        await asyncio.sleep(reply.first_delay)
        async for _ in _misbehave(request, reply, 0):
            pass
        if reply.status != 200:
            return web.Response(status=reply.status, text=reply.body, headers=reply.headers)
        if refused := self._refused(reply):
            return refused
        if reply.garbage:
            return web.Response(text=reply.garbage, content_type="application/json")
        return web.json_response(self.dialect.vectors([embedding(text, reply.dimension) for text in texts], texts))

    async def _take_script(self, request: web.Request) -> web.Response:
        self._script = [Reply(**reply) for reply in orjson.loads(await request.read())]
        return web.Response(status=204)

    async def _tell_requests(self, _: web.Request) -> web.Response:
        return web.json_response([asdict(request) for request in self.requests])


def _refusal(refusal: Refusal, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response(refusal.body, status=refusal.status, headers=headers)


def _event(body: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(body) + b"\n\n"


async def _misbehave(request: web.Request, reply: Reply, place: int) -> AsyncIterator[bytes]:
    if place == reply.cut_after and request.transport is not None:
        request.transport.close()
        await asyncio.sleep(FOREVER)  # until the broken connection cancels us
    while place == reply.hang_after:
        await asyncio.sleep(0.02)
        if reply.noise:
            yield b": keep-alive\n\n"


def make_endpoint(fake: FakeInference | None, **fields: Any) -> Endpoint:
    """An endpoint value that points at the fake."""
    defaults: dict[str, Any] = {
        "id": "fake",
        "kind": "chat",
        "name": "Fake",
        "base_url": fake.base_url if fake else "",
        "model": "fake",
        "context_length": 8192,
    }
    return Endpoint(**(defaults | fields))


async def serve(port: int, dialect: Dialect) -> None:
    async with FakeInference(port, dialect=dialect) as fake:
        sys.stdout.write(f"{fake.base_url}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A scripted OpenAI-compatible inference server.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--dialect", choices=DIALECTS, default="openai", help="the kind of server to play")
    arguments = parser.parse_args()
    try:
        asyncio.run(serve(arguments.port, DIALECTS[arguments.dialect]()))
    except KeyboardInterrupt:
        sys.exit(0)
