"""A scripted inference server: chat, embeddings, reranking, and every way a real one misbehaves.

It answers as https://platform.openai.com/docs/api-reference says (chat/create, chat-streaming, embeddings, models;
errors as in docs/guides/error-codes); tests/fakes/dialects.py has the servers that differ, for `dialect`.

In a test:      async with FakeInference() as fake: fake.script(Reply(tokens=["Hi"])); ... fake.base_url
As a process:   python -m tests.fakes.serving --port 9000 --dialect vllm
                It prints its base URL; port 0 picks a free one. POST /script with a JSON list of replies replaces what
                is left of the script, and POST /hurry lets no answer linger until the next one; GET /requests tells
                what was asked, what the answer was to go on from, and whether the client stayed, and DELETE forgets
                it. POST /machine gives it the limits of a GPU, and POST /load says what its /metrics are to tell; null
                takes either back.

Without a script it is a healthy server that answers "You asked: <question> [1]". Asked to continue an answer, servers
that can do so go on from where its prefix ends, scripted or not.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any, Self, TypeVar

import orjson
from aiohttp import web

from chatbot.inference.endpoint import Deadlines, Endpoint
from tests.fakes.dialects import CONTEXT_LENGTH, Dialect, Refusal, chunk, usage
from tests.fakes.machine import Full, Load, Machine
from tests.fakes.replies import DIMENSION, LINGER, Received, Reply
from tests.fakes.speaking import Speech
from tests.fakes.vectors import embedding, ranking

__all__ = ["CONTEXT_LENGTH", "DIMENSION", "FakeInference", "Received", "Reply", "embedding", "make_endpoint"]

FOREVER = 3600.0
T = TypeVar("T")


class FakeInference:
    """`dialect` is the kind of server that it plays; `api_key` is asked for where it is set. `tls`: it speaks HTTPS."""

    def __init__(
        self,
        port: int = 0,
        *,
        dialect: Dialect | None = None,
        api_key: str = "",
        host: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.dialect = dialect or Dialect()
        self.api_key = api_key
        self.requests: list[Received] = []
        self.most_at_once = 0  # requests that were being answered
        self.moved: dict[str, str] = {}  # pages that are elsewhere now
        self.host = host
        self.tls = tls
        self.port = port
        self.machine: Machine | None = None  # without one all are answered at once, each at its reply's pace
        self.told_load: Load | None = None
        self._answering = 0
        self._released = asyncio.Semaphore(0)
        self._script: list[Reply] = []
        self._received = asyncio.Event()
        self._disconnected = asyncio.Event()
        self._hurry = asyncio.Event()
        app = web.Application(client_max_size=64 * 1024 * 1024)
        if self.dialect.chat_path:
            app.router.add_post(self.dialect.chat_path, self._chat)
        if self.dialect.embed_path:
            app.router.add_post(self.dialect.embed_path, self._embeddings)
        if self.dialect.rerank_path:
            app.router.add_post(self.dialect.rerank_path, self._rerank)
        for path, tell in self.dialect.pages().items():
            app.router.add_get(path, self._page(tell))
        app.router.add_get("/api/resolve-cache/{file}", self._moved_page)
        app.router.add_get("/health", self._health)
        app.router.add_post("/script", self._take_script)
        app.router.add_post("/hurry", self._take_hurry)
        app.router.add_post("/machine", self._take_machine)
        app.router.add_post("/load", self._take_load)
        app.router.add_get("/requests", self._tell_requests)
        app.router.add_delete("/requests", self._forget_requests)
        app.router.add_get("/metrics", self._metrics)
        # handler_cancellation: a client that goes away cancels its handler, which is how we learn of it.
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0, access_log=None)

    @property
    def base_url(self) -> str:
        return self.at(self.host)

    def at(self, name: str) -> str:
        """Its address under a name."""
        host = f"[{name}]" if ":" in name else name
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"

    def script(self, *replies: Reply) -> None:
        """Add to the script; replies are taken in order by the requests that match them."""
        self._script.extend(replies)

    def release(self) -> None:
        """Let one reply go that is `held`, or the next that will be. From any thread."""
        self._loop.call_soon_threadsafe(self._released.release)

    def recover(self) -> None:
        """Forget the script."""
        self._script.clear()

    async def wait_received(self, timeout: float = 30.0) -> Received:
        """The first request. Raises TimeoutError."""
        async with asyncio.timeout(timeout):
            await self._received.wait()
        return self.requests[0]

    async def wait_disconnected(self, timeout: float = 30.0) -> Received:
        """The first request whose client went away before the answer ended. Raises TimeoutError."""
        async with asyncio.timeout(timeout):
            await self._disconnected.wait()
        return next(request for request in self.requests if request.disconnected_at is not None)

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        await self._runner.setup()
        await web.TCPSite(self._runner, self.host, self.port, ssl_context=self.tls).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    def _next_reply(self, kind: str, model: str, text: str) -> Reply:
        for place, reply in enumerate(self._script):
            if reply.matches(kind, model, text):
                if not reply.always:
                    self._script.pop(place)
                if reply.again:
                    self._script.append(reply)
                return reply
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
        answer = self.dialect.vectors([embedding(text, reply.dimension) for text in texts], texts)
        return await self._watched(request, received, self._in_one_piece(request, reply, answer))

    async def _rerank(self, request: web.Request) -> web.StreamResponse:
        received = await self._receive(request)
        if denied := self._denied(request, received.payload):
            return denied
        if not self.dialect.reranks:
            return _refusal(self.dialect.no_reranking())
        query = received.payload["query"]
        reply = self._next_reply("rerank", received.payload.get("model", ""), query)
        answer = self.dialect.scores(ranking(query, self.dialect.ranked(received.payload)))
        return await self._watched(request, received, self._in_one_piece(request, reply, answer))

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
        self._answering += 1
        self.most_at_once = max(self.most_at_once, self._answering)
        try:
            answer: web.StreamResponse = await answering
        except (asyncio.CancelledError, ConnectionError):
            if request.transport is None:  # else it is we who stop
                received.disconnected_at = time.monotonic()
                self._disconnected.set()
            raise
        finally:
            self._answering -= 1
        return answer

    async def _answer(self, request: web.Request, received: Received, reply: Reply) -> web.StreamResponse:
        await self._until_due(reply)
        if reply.status != 200:
            return web.Response(status=reply.status, text=reply.body, headers=reply.headers)
        if self.machine is None or reply.fault in ("overloaded", "too_long"):
            return await self._speak(request, received.payload, reply)
        try:
            async with self.machine.place():
                await asyncio.sleep(usage(received.payload, [])["prompt_tokens"] / self.machine.prefill)
                return await self._speak(request, received.payload, reply)
        except Full:
            return await self._speak(request, received.payload, replace(reply, fault="overloaded"))

    async def _speak(self, request: web.Request, payload: dict[str, Any], reply: Reply) -> web.StreamResponse:
        if refused := self._refused(reply):
            return refused
        machine = self.machine
        step = (lambda: machine.step) if machine else None
        speech = Speech(self.dialect, reply, payload, lambda: _cut(request), self._linger, step)
        if self.dialect.whole and not payload.get("stream"):
            tokens, finish = speech.whole()
            await asyncio.sleep(step() * len(tokens) if step else 0)
            repeated = self.dialect.prefix(payload) if self.dialect.repeats else ""
            message = {"role": "assistant", "content": repeated + "".join(tokens)}
            return web.json_response(chunk({"message": message, "finish_reason": finish}, usage(payload, tokens)))
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"} | reply.headers)
        await response.prepare(request)
        async for piece in speech.pieces():
            await response.write(piece)
        return response

    async def _health(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    @property
    def load(self) -> Load:
        """What /metrics tells: what was set, else the machine's, else who is being answered."""
        if self.told_load:
            return self.told_load
        return self.machine.load if self.machine else Load(running=self._answering)

    async def _metrics(self, _: web.Request) -> web.Response:
        if page := self.dialect.metrics(self.load):
            return web.Response(text=page, content_type="text/plain", charset="utf-8")
        return web.Response(status=404)

    async def _until_due(self, reply: Reply) -> None:
        if reply.held:
            await self._released.acquire()
        await asyncio.sleep(reply.first_delay)

    async def _in_one_piece(self, request: web.Request, reply: Reply, answer: Any) -> web.Response:
        """Vectors or scores, unless the reply has something else in mind."""
        await self._until_due(reply)
        if reply.lingers_after is not None:
            await self._hurry.wait()
        if reply.cut_after is not None:
            await _cut(request)
        if reply.hang_after is not None:
            await asyncio.sleep(FOREVER)
        if reply.status != 200:
            return web.Response(status=reply.status, text=reply.body, headers=reply.headers)
        if refused := self._refused(reply):
            return refused
        if reply.garbage:
            return web.Response(text=reply.garbage, content_type="application/json")
        return web.json_response(answer)

    async def _take_script(self, request: web.Request) -> web.Response:
        self._script = await _read(request, lambda body: [Reply(**reply) for reply in body])
        self._hurry.clear()
        return web.Response(status=204)

    async def _take_hurry(self, _: web.Request) -> web.Response:
        self._hurry.set()
        return web.Response(status=204)

    async def _linger(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER):
                await self._hurry.wait()

    async def _take_machine(self, request: web.Request) -> web.Response:
        self.machine = await _read(request, lambda body: Machine(**body) if body else None)
        return web.Response(status=204)

    async def _take_load(self, request: web.Request) -> web.Response:
        self.told_load = await _read(request, lambda body: Load(**body) if body else None)
        return web.Response(status=204)

    async def _tell_requests(self, _: web.Request) -> web.Response:
        return web.json_response([asdict(request) for request in self.requests])

    async def _forget_requests(self, _: web.Request) -> web.Response:
        self.requests.clear()
        return web.Response(status=204)


def _refusal(refusal: Refusal, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response(refusal.body, status=refusal.status, headers=headers)


async def _read(request: web.Request, understood: Callable[[Any], T]) -> T:
    """What whoever controls us sent."""
    try:
        return understood(orjson.loads(await request.read()))
    except (orjson.JSONDecodeError, TypeError) as error:
        raise web.HTTPBadRequest(text=f"This is not understood: {error}.\n") from error


async def _cut(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.close()
    await asyncio.sleep(FOREVER)  # until the broken connection cancels us


def make_endpoint(fake: FakeInference | None, **fields: Any) -> Endpoint:
    """An endpoint value that points at the fake."""
    defaults: dict[str, Any] = {
        "id": "fake",
        "kind": "chat",
        "name": "Fake",
        "base_url": fake.base_url if fake else "",
        "model": "fake",
        "context_length": 8192,
        "deadlines": Deadlines(connect=20.0),  # of a busy machine
    }
    return Endpoint(**(defaults | fields))
