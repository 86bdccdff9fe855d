"""/ws/chat: the same turns over a WebSocket. docs/websocket.md describes the frames."""

# Channels has no type hints.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import orjson
import structlog
from channels.generic.websocket import AsyncWebsocketConsumer

from apps.access import limiting
from apps.access.authentication import Caller, authenticate, key_in, still_valid
from apps.access.revocation import Watch
from apps.conversations import asking, draining, following, metrics, stopping
from apps.conversations.again import Deed
from apps.conversations.browsing import Browser, uuids
from apps.edge import tracing, turnstile
from apps.edge.errors import ServiceUnavailable, body_of, close_code_of, translate
from apps.edge.frames import frame
from apps.edge.inbound import Pace
from apps.edge.ratelimit_headers import Limit
from apps.edge.request_ids import accept_request_id
from apps.tenants.scoping import unit
from chatbot.errors import InvalidRequest, NotAuthenticated, NotFound, ParleyError
from chatbot.events import START, Cursor, Limits, Reconnect

log = structlog.get_logger(__name__)

MAX_FOLLOWED = 20  # turns that one socket follows at a time
AUTH_SECONDS = 10.0  # a socket that has not said who it is by then is closed


class ChatConsumer(AsyncWebsocketConsumer):
    """Each followed turn is a task, so that `stop` and a disconnect are heard while tokens flow."""

    # What each frame asks of its caller; with `auth` they say who they are.
    scopes: ClassVar[Mapping[str, str]] = {
        "ask": "chat:write",
        "regenerate": "chat:write",
        "continue": "chat:write",
        "stop": "chat:write",
        "resume": "chat:read",
    }

    async def connect(self) -> None:
        self.pace, self.closing = Pace(), False
        self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in self.scope["headers"]}
        self.browser = Browser(self.headers)
        self.origin = self.headers.get("origin", "")
        self.address = (self.scope.get("client") or [""])[0]
        self.request_id = accept_request_id(self.headers.get("x-request-id"))
        self.credential = key_in(self.headers.get("authorization"), self.headers.get("x-api-key"))
        self.session = limiting.session_in(self.headers.get("cookie", ""))
        self.following: dict[uuid.UUID, asyncio.Task[None]] = {}
        self.beside: set[asyncio.Task[None]] = set()
        self.drained = (self._send_away, self._refuse)
        # Accepted before it may be closed: closed earlier, a browser sees 1006 and no reason.
        await self.accept()
        draining.SOCKETS.add(self.drained)
        metrics.SOCKETS.set(len(draining.SOCKETS))
        self.watch: Watch | None = None
        self.late = asyncio.get_running_loop().call_later(AUTH_SECONDS, self._end)
        self.limits: list[Limit] = []
        try:
            await self._count(self.credential)
        except ParleyError as error:
            await self._refuse(error)
            return
        if self.credential:
            await self._guarded(self._auth, {"key": self.credential}, fatal=True)

    async def disconnect(self, code: int) -> None:
        # The readers end; the turns do not.
        draining.SOCKETS.discard(self.drained)
        metrics.SOCKETS.set(len(draining.SOCKETS))
        for task in self.following.values():
            task.cancel()
        self.late.cancel()
        if self.watch:
            self.watch.close()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if self.closing:
            return
        structlog.contextvars.bind_contextvars(request_id=self.request_id)
        try:
            self.pace.count(time.monotonic())
            data = _parse(text_data)
        except ParleyError as error:
            if self.pace.goes_on:
                await self._refuse(error)
            else:
                await self._send_error(error)
            return
        handlers: dict[str, Callable[[dict[str, Any]], Awaitable[None]]] = {
            "auth": self._auth,
            "ask": self._ask,
            "regenerate": partial(self._again, Deed.REGENERATE),
            "continue": partial(self._again, Deed.CONTINUE),
            "stop": self._stop,
            "resume": self._resume,
        }
        handler = handlers.get(str(data.get("type", "")))
        if handler is None:
            await self._send_error(InvalidRequest(fields={"type": f"Frames are {', '.join(handlers)}."}))
            return
        with tracing.span(f"ws {data['type']}", "SERVER"):
            await self._guarded(partial(self._counted, handler), data, fatal=data["type"] == "auth")

    async def send(self, *args: Any, **kwargs: Any) -> None:
        # What was under way when the socket was closed: uvicorn calls it an error, Daphne drops it.
        if not self.closing:
            await super().send(*args, **kwargs)

    async def close(self, *args: Any, **kwargs: Any) -> None:
        self.closing = True
        await super().close(*args, **kwargs)

    async def _guarded(
        self, handler: Callable[[dict[str, Any]], Awaitable[None]], data: dict[str, Any], *, fatal: bool
    ) -> None:
        """What is wrong with one frame is told in a frame; only failed authentication ends the socket."""
        try:
            await handler(data)
        except Exception as raised:  # noqa: BLE001 - the boundary: translate() logs what nobody foresaw
            error = translate(raised)
            await self._tell_standing(error.standing)
            await self._send_error(error, client_id=data.get("client_id"))
            if isinstance(error, NotAuthenticated):
                await limiting.count_failure(self.address)
            if fatal or isinstance(error, NotAuthenticated):
                await self.close(close_code_of(error))

    # --- Frames -------------------------------------------------------------------------------------------------------

    async def _auth(self, data: dict[str, Any]) -> None:
        key = data.get("key")
        caller = await authenticate(key if isinstance(key, str) else "", origin=self.origin, address=self.address)
        await self._part_from_others(caller)
        self.credential = str(key)
        still = partial(still_valid, self.credential, origin=self.origin, address=self.address, scopes=caller.scopes)
        self._look_out(caller, still)
        await self.send(text_data=orjson.dumps({"type": "ready", "tenant": caller.tenant.slug}).decode())
        await self._tell_limits()

    async def _counted(self, handler: Callable[[dict[str, Any]], Awaitable[None]], data: dict[str, Any]) -> None:
        presented = str(data.get("key")) if data["type"] == "auth" else self.credential
        await self._count(presented)
        async with turnstile.passing(presented or self.session or self):
            await handler(data)

    async def _count(self, credential: str) -> None:
        """Raises RateLimited for a handshake or a frame that is too much for its address or its credential.

        Without Redis it goes on: what costs money is refused by itself then (apps/access/limiting.py).
        """
        try:
            verdict = await limiting.count(self.address, credential or self.session)
        except ServiceUnavailable:
            return
        self.limits = verdict.limits
        if refusal := verdict.refusal:
            await self._tell_limits()
            raise refusal

    async def _tell_limits(self, standing: Sequence[Limit] = ()) -> None:
        """standing: of limits of what may be used, beside the rates."""
        if limits := [*self.limits, *standing]:
            await self.send(text_data=frame(Limits([limit.told() for limit in limits]), None))

    async def _tell_standing(self, standing: Sequence[Limit]) -> None:
        if standing:
            await self._tell_limits(standing)

    async def _part_from_others(self, caller: Caller) -> None:
        """A visitor's next token goes on with what the socket follows. Somebody else's credential does not."""
        for turn_id in list(self.following):
            try:
                await unit(following.turn_of, caller, turn_id)
            except NotFound:
                self.following[turn_id].cancel()

    async def _ask(self, data: dict[str, Any]) -> None:
        caller = await self._caller("ask", data.get("conversation") or data.get("assistant"))
        question = asking.question_in(data)
        self._refuse_more()
        if data.get("conversation"):
            conversation_id = _uuid_in(data, "conversation")
            accepted = await asking.accept(caller, conversation_id, asking.named(question, str(conversation_id)))
        else:
            name = data.get("assistant")
            if not isinstance(name, str) or not name or "\0" in name:
                raise InvalidRequest(fields={"assistant": "Name a conversation or an assistant."})
            accepted = await asking.accept_first(caller, name, asking.named_first(caller, name, question))
        await self._tell_standing(accepted.standing)
        self._follow(caller, accepted.turn_id, START, client_id=question.client_id)

    async def _again(self, deed: Deed, data: dict[str, Any]) -> None:
        turn_id = _uuid_in(data, "turn")
        caller = await self._caller(deed, turn_id)
        asked = asking.named(asking.again_in(data), deed, str(turn_id))
        self._refuse_more()
        accepted = await asking.accept_again(caller, turn_id, asked, deed)
        await self._tell_standing(accepted.standing)
        self._follow(caller, accepted.turn_id, START, client_id=asked.client_id)

    async def _stop(self, data: dict[str, Any]) -> None:
        turn_id = _uuid_in(data, "turn")
        caller = await self._caller("stop", turn_id)
        await unit(following.turn_of, caller, turn_id)
        self._aside(stopping.stop(caller.tenant, turn_id))

    async def _resume(self, data: dict[str, Any]) -> None:
        turn_id = _uuid_in(data, "turn")
        try:
            after = Cursor.parse(str(data.get("after") or START))
        except ValueError as error:
            raise InvalidRequest(fields={"after": "A cursor looks like 1-12."}) from error
        caller = await self._caller("resume", turn_id)
        turn = await unit(following.turn_of, caller, turn_id)
        self._follow(caller, turn_id, after, client_id=turn.client_id)

    # --- Who asks -----------------------------------------------------------------------------------------------------

    async def _caller(self, frame: str, named: Any) -> Caller:
        """The caller of a frame, who has its scope. A key is checked again at each, so that a revoked one ends within
        seconds. named: the id of what the frame is about."""
        if self.credential:
            caller = await authenticate(self.credential, origin=self.origin, address=self.address)
        else:
            caller = await self._logged_in(named)
        caller.require(self.scopes[frame])
        return caller

    async def _logged_in(self, named: Any) -> Caller:
        caller = await self.browser.caller(named)
        if self.watch:
            self.watch.words |= caller.ends_with
        else:
            self._look_out(caller, lambda: self.browser.still(list(self.following)))
            await self._tell_limits()
        return caller

    def _look_out(self, caller: Caller, still: Callable[[], Awaitable[bool]]) -> None:
        """Close the socket once its key, session or membership has ended."""
        self.late.cancel()
        if self.watch:
            self.watch.close()
        self.watch = Watch(caller.tenant_id, caller.ends_with, still=still, on_end=self._end)

    def _end(self) -> None:
        refusal = (self.watch and self.watch.refusal) or NotAuthenticated()
        self.ending = asyncio.ensure_future(self._refuse(refusal))

    async def _refuse(self, refusal: ParleyError) -> None:
        for task in self.following.values():
            task.cancel()
        await self._send_error(refusal)
        await self.close(close_code_of(refusal))

    # --- Turns --------------------------------------------------------------------------------------------------------

    def _follow(self, caller: Caller, turn_id: uuid.UUID, after: Cursor, *, client_id: str) -> None:
        if earlier := self.following.pop(turn_id, None):
            earlier.cancel()
        self._refuse_more()
        task = asyncio.create_task(self._send_turn(caller, turn_id, after, client_id))
        self.following[turn_id] = task
        task.add_done_callback(lambda done: self._forget(turn_id, done))

    def _refuse_more(self) -> None:
        if len(self.following) >= MAX_FOLLOWED:
            raise InvalidRequest(f"A socket follows at most {MAX_FOLLOWED} turns at a time.")

    def _forget(self, turn_id: uuid.UUID, done: asyncio.Task[None]) -> None:
        if self.following.get(turn_id) is done:
            del self.following[turn_id]

    async def _send_turn(self, caller: Caller, turn_id: uuid.UUID, after: Cursor, client_id: str) -> None:
        context = {"turn": str(turn_id)} | ({"client_id": client_id} if client_id else {})

        async def send() -> None:
            async for batch in following.follow(caller.tenant, turn_id, after):
                for cursor, event in batch:
                    await self.send(text_data=frame(event, cursor, **context))

        await self._spoken(send())

    async def _spoken(self, sending: Coroutine[Any, Any, None]) -> None:
        """Tell of an error instead of dying silently; there is nobody who awaits this task."""
        try:
            await sending
        except Exception as raised:  # noqa: BLE001 - the boundary: translate() logs what nobody foresaw
            await self._send_error(translate(raised))

    def _aside(self, work: Coroutine[Any, Any, Any]) -> None:
        """Do something that the next frame need not wait for."""
        task = asyncio.create_task(self._spoken(work))
        self.beside.add(task)
        task.add_done_callback(self.beside.discard)

    async def _send_away(self, word: Reconnect) -> None:
        await self.send(text_data=frame(word, None))

    async def _send_error(self, error: ParleyError, *, client_id: Any = None) -> None:
        body = {"type": "error", **body_of(error)}
        if isinstance(client_id, str) and client_id:
            body["client_id"] = client_id
        await self.send(text_data=orjson.dumps(body).decode())


def _parse(text: str | None) -> dict[str, Any]:
    if text is None:
        raise InvalidRequest("Frames are JSON text.")
    try:
        data = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest("The frame is not valid JSON.") from error
    if not isinstance(data, dict):
        raise InvalidRequest("The frame is not a JSON object.")
    return data


def _uuid_in(data: dict[str, Any], name: str) -> uuid.UUID:
    for found in uuids(data.get(name, "")):
        return found
    raise InvalidRequest(fields={name: "Give the id that a frame or the API told you."})
