"""The anchor: the least that a Channels consumer and a Django view can do to relay a model's stream. Nothing of Parley.

No authentication, no search, no database, no middleware; aiohttp and orjson, as the product uses them. What the product
costs beyond this is what its promises cost; the server beneath is the same, with the same options.
"""

# channels has no type hints.
# mypy: disable-error-code="no-untyped-call"
# ruff: noqa: E402 - Django wants its settings before its modules are imported.

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import aiohttp
import orjson
from django.conf import settings

settings.configure(ALLOWED_HOSTS=["127.0.0.1"], ROOT_URLCONF=__name__, MIDDLEWARE=[], CHANNEL_LAYERS={})

from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path

_sessions: list[aiohttp.ClientSession] = []


async def relay(question: str) -> AsyncIterator[str]:
    """What each read from the model server brought, as one text."""
    if not _sessions:
        _sessions.append(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
    body = {"model": "bench", "messages": [{"role": "user", "content": question}], "stream": True}
    url = f"{os.environ['BENCH_UPSTREAM']}/v1/chat/completions"
    async with _sessions[0].post(url, json=body) as response:
        rest = b""
        async for data in response.content.iter_any():
            *events, rest = (rest + data).split(b"\n\n")
            if text := "".join(_text(event) for event in events):
                yield text


def _text(event: bytes) -> str:
    payload = event.removeprefix(b"data: ")
    if payload == b"[DONE]":
        return ""
    choices = orjson.loads(payload)["choices"]
    return str(choices[0]["delta"].get("content", "")) if choices else ""


class Relay(AsyncWebsocketConsumer):
    async def receive(self, text_data: str = "", bytes_data: bytes | None = None) -> None:  # noqa: ARG002
        async for text in relay(orjson.loads(text_data)["text"]):
            await self.send(orjson.dumps({"type": "token", "text": text}).decode())
        await self.send('{"type":"turn.finished"}')


async def stream(request: HttpRequest) -> StreamingHttpResponse:
    async def blocks() -> AsyncIterator[bytes]:
        async for text in relay(orjson.loads(request.body)["text"]):
            yield b"event: token\ndata: %s\n\n" % orjson.dumps({"text": text})
        yield b"event: turn.finished\ndata: {}\n\n"

    return StreamingHttpResponse(blocks(), content_type="text/event-stream")


async def live(_: HttpRequest) -> HttpResponse:
    return HttpResponse("ok")


urlpatterns = [path("stream", stream), path("healthz/live", live)]
application = ProtocolTypeRouter(
    {"http": get_asgi_application(), "websocket": URLRouter([path("ws/chat", Relay.as_asgi())])}
)
