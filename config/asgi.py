"""The web process: HTTP through Django, WebSockets through the chat consumer, static files ahead of both."""

# Channels has no type hints.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import asyncio
import os
import resource
import sys
from functools import partialmethod
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

import django

django.setup(set_prefix=False)

from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.http import HttpResponseBadRequest
from django.urls import path, re_path
from servestatic import ServeStaticASGI

from apps.conversations.consumers import ChatConsumer
from apps.conversations.draining import serve
from apps.edge import lines
from apps.edge.backpressure import BackPressure
from apps.edge.inbound import bound_sockets
from apps.edge.proxies import Proxies
from apps.ops.looking import look


class Handler(ASGIHandler):
    """Django, refusing what it would fail on before any middleware of ours could answer."""

    async def handle(self, scope: Any, receive: Any, send: Any) -> None:
        # Daphne lets any client choose this prefix of all our addresses, by a header.
        await super().handle({**scope, "root_path": ""}, receive, send)

    def create_request(self, scope: Any, body_file: Any) -> Any:
        try:
            return super().create_request(scope, body_file)
        except ValueError:  # a Content-Type whose parameters cannot be decoded
            return None, HttpResponseBadRequest()


async def no_socket(_scope: Any, _receive: Any, send: Any) -> None:
    """Refuse the handshake of an address that has no sockets."""
    await send({"type": "websocket.close"})


def leave_forms_alone() -> None:
    """Daphne's Twisted reads each posted form into memory and parses it on the event loop, for nobody; one that it
    cannot parse it refuses without a word. Django does that, in a thread, and streams files to disk."""
    if protocol := sys.modules.get("daphne.http_protocol"):
        protocol.WebRequest.__init__ = partialmethod(protocol.WebRequest.__init__, parsePOSTFormSubmission=False)


def allow_many_sockets() -> None:
    """As many as the system lets this process have. Shells give 1,024, which one crowd fills."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


_serving: list[asyncio.Task[Any]] = []  # the loop itself holds tasks weakly


def serve_from_now_on() -> None:
    loop = asyncio.get_running_loop()
    _serving.extend((loop.create_task(serve()), loop.create_task(look())))


async def lifespan(_scope: Any, receive: Any, send: Any) -> None:
    """uvicorn tells so that it runs; Daphne has no such protocol."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            serve_from_now_on()
        else:
            lines.flush()  # uvicorn ends by the signal that it got
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def begin_with_daphne() -> None:
    """Have serve() called once Twisted's reactor runs and has set its own signal handlers, which it does only after
    what it calls first."""
    if "daphne.server" in sys.modules:
        from twisted.internet import reactor  # noqa: PLC0415 - which one it is, Daphne has decided by now

        reactor.callWhenRunning(lambda: reactor.callLater(0, serve_from_now_on))  # type: ignore[arg-type]


leave_forms_alone()
allow_many_sockets()
begin_with_daphne()
bound_sockets()
routes = ProtocolTypeRouter(
    {
        "http": ServeStaticASGI(
            Handler(),
            root=settings.STATIC_ROOT,
            prefix=settings.PARLEY_STATIC_PATH,
            max_age=31_536_000,
            autorefresh=False,
        ),
        "lifespan": lifespan,
        "websocket": URLRouter(
            [path("ws/chat", ChatConsumer.as_asgi()), re_path("", no_socket)]  # type: ignore[arg-type]
        ),
    }
)
application = BackPressure(Proxies(routes) if settings.PARLEY_BEHIND_PROXY else routes)
