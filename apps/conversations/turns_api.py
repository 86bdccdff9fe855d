"""REST and SSE: turns, asked, read, followed and stopped."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import Any

from django.http import HttpRequest, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.urls import path
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema

from apps.access import idempotency
from apps.access.authentication import Caller
from apps.access.doors import Door, read_body
from apps.access.revocation import watch_over
from apps.conversations import asking, draining, following, stopping
from apps.conversations.serializers import AskSerializer, PolledTurnSerializer, TurnSerializer
from apps.edge import ratelimit_headers
from apps.edge.errors import STATUS_OF_CODE, NotAcceptable, ServiceUnavailable, json_error, whole_seconds
from apps.edge.frames import KEEP_ALIVE, RETRY, pieces, sse
from apps.edge.request_ids import current_request_id
from apps.edge.schema import CONFLICT, ERRORS, IDEMPOTENCY_KEY, USER
from apps.tenants.scoping import unit
from chatbot.errors import InvalidRequest, NotAuthenticated, NotPermitted
from chatbot.events import START, Cursor, Event, Failed

CURSOR = {"type": "string", "pattern": r"^([0-9]+-[0-9]+)?$", "maxLength": 24, "example": "1-12"}


class Turns(Door):
    scopes = {"POST": "chat:write"}

    @extend_schema(
        operation_id="ask",
        request=AskSerializer,
        parameters=[IDEMPOTENCY_KEY],
        responses={
            (200, "application/json"): TurnSerializer,
            (200, "text/event-stream"): OpenApiResponse(OpenApiTypes.STR, "The turn's events as they happen."),
            **ERRORS,
            **CONFLICT,
        },
    )
    async def post(self, request: HttpRequest, caller: Caller, conversation_id: uuid.UUID) -> HttpResponseBase:
        """Ask a question. Answers with the finished turn, or with its events if `Accept` is `text/event-stream`."""
        streaming = wants_stream(request)
        question = asking.question_in(read_body(request), idempotency_key=idempotency.key_in(request))
        accepted = await asking.accept(caller, conversation_id, question)
        return await answered(request, caller, accepted, streaming=streaming)


class OneTurn(Door):
    scopes = {"GET": "chat:read"}

    @extend_schema(
        parameters=[
            OpenApiParameter("after", CURSOR, description="A cursor like 1-12: add the `events` beyond it."),
            USER,
        ],
        responses={200: PolledTurnSerializer, **ERRORS},
    )
    async def get(self, request: HttpRequest, caller: Caller, turn_id: uuid.UUID) -> HttpResponseBase:
        """A turn as it stands. With `after` it tells what came since, for clients that ask again and again."""
        body = await unit(_turn_body, caller, turn_id, request.GET.get("user", ""))
        if "after" not in request.GET:
            return JsonResponse(body)
        after = _cursor_of(request)
        entries = await following.so_far(caller.tenant, turn_id, after)
        body["events"] = [{"id": str(cursor), "type": event.type, **event.payload()} for cursor, event in entries]
        body["cursor"] = str(entries[-1].cursor if entries else after)
        return JsonResponse(body)


class TurnEvents(Door):
    scopes = {"GET": "chat:read"}

    @extend_schema(
        operation_id="follow_turn",
        parameters=[
            OpenApiParameter("after", CURSOR, description="A cursor like 1-12: only what lies beyond it."),
            OpenApiParameter("Last-Event-ID", CURSOR, OpenApiParameter.HEADER, description="The same, of EventSource."),
            USER,
        ],
        responses={
            (200, "text/event-stream"): OpenApiResponse(OpenApiTypes.STR, "The turn's events as they happen."),
            **ERRORS,
        },
    )
    async def get(self, request: HttpRequest, caller: Caller, turn_id: uuid.UUID) -> HttpResponseBase:
        """Follow a turn, from its beginning or from a cursor, also after it ended."""
        cursor = _cursor_of(request)
        draining.refuse_questions()
        await unit(following.turn_of, caller, turn_id, user=request.GET.get("user", ""))
        return stream(request, caller, turn_id, cursor)


def _cursor_of(request: HttpRequest) -> Cursor:
    """The farther one, where both are given: an EventSource that comes back asks for the same address as before."""
    given = (request.GET.get("after"), request.headers.get("Last-Event-ID"))
    try:
        return max((Cursor.parse(text) for text in given if text), default=START)
    except ValueError as error:
        raise InvalidRequest(fields={"after": "A cursor looks like 1-12."}) from error


class StopTurn(Door):
    scopes = {"POST": "chat:write"}

    @extend_schema(request=None, parameters=[USER], responses={200: TurnSerializer, **ERRORS})
    async def post(self, request: HttpRequest, caller: Caller, turn_id: uuid.UUID) -> HttpResponseBase:
        """End a running turn; what it has said is kept. Answers with the turn, which may have ended by itself."""
        await unit(following.turn_of, caller, turn_id, user=request.GET.get("user", ""))
        if await stopping.stop(caller.tenant, turn_id):
            try:
                await _ended(caller, turn_id)
            except ServiceUnavailable as error:
                return json_error(error, turn=str(turn_id))
        return JsonResponse(await unit(_turn_body, caller, turn_id))


def wants_stream(request: HttpRequest) -> bool:
    """Whether the client asked for events. Raises NotAcceptable where it takes neither events nor JSON."""
    if request.get_preferred_type(["application/json", "text/event-stream"]) is None:
        raise NotAcceptable
    return request.get_preferred_type(["application/json", "text/event-stream"]) == "text/event-stream"


def _turn_body(caller: Caller, turn_id: uuid.UUID, user: str = "") -> dict[str, Any]:
    return dict(TurnSerializer(following.turn_of(caller, turn_id, user=user)).data)


async def answered(
    request: HttpRequest, caller: Caller, accepted: asking.Accepted, *, streaming: bool
) -> HttpResponseBase:
    """The response to whoever asked: the turn's events, or the turn once it has ended."""
    response: HttpResponseBase
    if streaming:
        response = stream(request, caller, accepted.turn_id, START)
    else:
        response = await finished(caller, accepted.turn_id)
    if accepted.repeated:
        response[idempotency.REPLAYED] = "true"
    ratelimit_headers.add(response, accepted.standing)
    return response


async def finished(caller: Caller, turn_id: uuid.UUID) -> JsonResponse:
    """Wait for the turn to end; its failure is this response's failure."""
    try:
        end = await _ended(caller, turn_id)
    except ServiceUnavailable as error:
        return json_error(error, turn=str(turn_id))
    if isinstance(end, Failed):
        headers = {"Retry-After": whole_seconds(end.retry_after)} if end.retry_after else {}
        return JsonResponse(end.payload(), status=STATUS_OF_CODE.get(end.code, 500), headers=headers)
    return JsonResponse(await unit(_turn_body, caller, turn_id))


async def _ended(caller: Caller, turn_id: uuid.UUID) -> Event:
    """The turn's last event. Raises ServiceUnavailable where this process ends before."""
    return await following.last_event(following.follow(caller.tenant, turn_id, START, idle=following.LOOK_SECONDS))


def stream(request: HttpRequest, caller: Caller, turn_id: uuid.UUID, after: Cursor) -> StreamingHttpResponse:
    """The turn's events. The reader's leaving ends the response and nothing else."""
    return StreamingHttpResponse(
        _blocks(request, caller, turn_id, after),
        content_type="text/event-stream",
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


async def _blocks(request: HttpRequest, caller: Caller, turn_id: uuid.UUID, after: Cursor) -> AsyncIterator[bytes]:
    watch = watch_over(request, caller)
    lead = RETRY  # part of the first event's block
    try:
        async for batch in following.heard(caller.tenant, turn_id, after, watch):
            if word := draining.word_for_reader():
                yield sse(word, None)
                return
            if not batch:
                yield KEEP_ALIVE
            for piece in pieces(sse(event, cursor) for cursor, event in batch):
                yield lead + piece
                lead = b""
    except (NotAuthenticated, NotPermitted) as error:
        yield sse(Failed(error.code, error.message, str(turn_id), current_request_id()), None)
    finally:
        watch.close()


urlpatterns = [
    path("conversations/<uuid:conversation_id>/turns", Turns.as_view()),
    path("turns/<uuid:turn_id>", OneTurn.as_view()),
    path("turns/<uuid:turn_id>/events", TurnEvents.as_view()),
    path("turns/<uuid:turn_id>/stop", StopTurn.as_view()),
]
