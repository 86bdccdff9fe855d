"""/v1: assistants for clients that speak OpenAI's API. docs/openai.md says what they may rely on.

Each chat completion is a turn without a conversation: the client brings the talk. Its leaving stops the turn.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import orjson
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.urls import path
from drf_spectacular.utils import extend_schema

from apps.access import idempotency
from apps.access.authentication import Caller
from apps.access.doors import METHODS, Door, read_body
from apps.access.revocation import Watch, watch_over
from apps.assistants.models import Assistant
from apps.conversations import asking, following, runner
from apps.conversations import openai_schema as schema
from apps.conversations.log import Entry
from apps.conversations.openai_answers import Answer, failure
from apps.conversations.openai_embeddings import embeddings
from apps.conversations.openai_shapes import Asked, ChatSerializer, EmbeddingsSerializer, ModelNotFound, asked_in
from apps.conversations.parties import assistant_of, assistants_of
from apps.edge import ratelimit_headers
from apps.edge.errors import STATUS_OF_CODE, body_of, openai_error, openai_refusal, status_of, translate
from apps.edge.frames import KEEP_ALIVE
from apps.edge.middleware import ahead_of_middleware
from apps.tenants.models import Tenant
from apps.tenants.scoping import unit
from chatbot.errors import NotFound, ParleyError
from chatbot.events import START, Failed, Token, TurnFinished


class OpenAIDoor(Door):
    """A Door whose every refusal is in OpenAI's envelope, for programs: their calls bring instructions and history."""

    visitors = False

    @staticmethod
    def refuse(error: Exception) -> HttpResponse:
        return openai_refusal(error)

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Any:
        answer = super().as_view(**initkwargs)

        async def view(request: HttpRequest, **parts: Any) -> HttpResponseBase:
            try:
                response: HttpResponseBase = await answer(request, **parts)
            except Exception as raised:  # noqa: BLE001 - the boundary: translate() logs what nobody foresaw
                return cls.refuse(raised)
            return response

        view.cls = cls  # type: ignore[attr-defined]
        view.initkwargs = initkwargs  # type: ignore[attr-defined]
        return ahead_of_middleware(view)


class ChatCompletions(OpenAIDoor):
    scopes = {"POST": "chat:write"}

    @extend_schema(
        operation_id="create_chat_completion",
        tags=schema.TAGS,
        request=ChatSerializer,
        examples=[schema.QUESTION],
        parameters=[schema.IDEMPOTENCY_KEY],
        responses={
            (200, "application/json"): schema.COMPLETION,
            (200, "text/event-stream"): schema.CHUNKS,
            **schema.ASKING,
        },
    )
    async def post(self, request: HttpRequest, caller: Caller) -> HttpResponseBase:
        """Ask an assistant. The last message is the question, those before it are the history."""
        started = time.perf_counter()
        asked = asked_in(read_body(request), idempotency_key=idempotency.key_in(request))
        accepted = await _open(caller, asked)
        turn_id = accepted.turn_id
        leave = _leaving(turn_id, asked)
        answer = Answer(turn_id, asked.model, include_usage=asked.include_usage)
        watch = watch_over(request, caller)
        # Whatever becomes of the response, its watch ends; a stream's when Django closes it.
        with ExitStack() as unless_streamed:
            unless_streamed.callback(watch.close)
            entries = following.heard(caller.tenant, turn_id, START, watch)
            try:
                held = await (_first_word(entries) if asked.stream else _whole(entries))
            except asyncio.CancelledError:
                leave()
                raise
            first = answer.chunks(held)
            end = held[-1].event if held else None
            response: HttpResponseBase
            if isinstance(end, Failed) and not any(isinstance(event, Token) for _, event in held):
                response = openai_error(end.payload(), STATUS_OF_CODE.get(end.code, 500))
            elif isinstance(end, TurnFinished) and not asked.stream:
                response = HttpResponse(answer.completion(end), content_type="application/json")
            else:
                unless_streamed.pop_all()
                response = _streamed(_parts(answer, first, entries), partial(_part, watch, leave))
        if accepted.repeated:
            response[idempotency.REPLAYED] = "true"
        ratelimit_headers.add(response, accepted.standing, path=request.path)
        response["openai-processing-ms"] = str(round((time.perf_counter() - started) * 1000))
        return response


class Models(OpenAIDoor):
    scopes = {"GET": "chat:read"}

    @extend_schema(
        operation_id="list_models",
        tags=schema.TAGS,
        filters=False,
        responses={200: schema.MODELS, **schema.READING},
    )
    async def get(self, request: HttpRequest, caller: Caller) -> HttpResponseBase:
        """The tenant's active assistants."""
        return _json({"object": "list", "data": await unit(_models, caller)})


class OneModel(OpenAIDoor):
    scopes = {"GET": "chat:read"}

    @extend_schema(operation_id="get_model", tags=schema.TAGS, responses={200: schema.MODEL, **schema.NAMING})
    async def get(self, request: HttpRequest, caller: Caller, model: str) -> HttpResponseBase:
        """An active assistant, by slug or id."""
        try:
            return _json(_model(caller.tenant, await unit(assistant_of, caller, model)))
        except NotFound as error:
            raise _unknown(model) from error


class Embeddings(OpenAIDoor):
    scopes = {"POST": "chat:write"}

    @extend_schema(
        operation_id="create_embeddings",
        tags=schema.TAGS,
        request=EmbeddingsSerializer,
        examples=[schema.TEXTS],
        responses={200: schema.VECTORS, **schema.SENDING},
    )
    async def post(self, request: HttpRequest, caller: Caller) -> HttpResponseBase:
        """A vector for each text, by an embedding endpoint of the tenant's."""
        serializer = EmbeddingsSerializer(data=read_body(request))
        serializer.is_valid(raise_exception=True)
        given = {name: value for name, value in serializer.validated_data.items() if value is not None}
        try:
            answer, standing = await embeddings(caller, **given)
        except NotFound as error:
            raise _unknown(given["model"]) from error
        response = _json(answer)
        ratelimit_headers.add(response, standing, path=request.path)
        return response


@extend_schema(exclude=True)
class Elsewhere(OpenAIDoor):
    """Every other address: newer clients try /v1/responses first, and read what to do instead."""

    scopes = dict.fromkeys(METHODS, "chat:read")

    async def get(self, request: HttpRequest, caller: Caller, rest: str) -> HttpResponseBase:
        raise NotFound(f"There is no /v1/{rest[:100]} here. Chats are answered at /v1/chat/completions.")

    post = put = patch = delete = get


async def _open(caller: Caller, asked: Asked) -> asking.Accepted:
    """The call's turn, running. A client that leaves meanwhile leaves one that is stopped as soon as it is there."""
    opening = asyncio.ensure_future(asking.accept_alone(caller, asked.model, asked.question))
    try:
        return await asyncio.shield(opening)
    except NotFound as error:
        raise _unknown(asked.model) from error
    except asyncio.CancelledError:
        opening.add_done_callback(partial(_left_early, asked=asked))
        raise


def _left_early(opening: asyncio.Future[asking.Accepted], *, asked: Asked) -> None:
    if not opening.cancelled() and opening.exception() is None:
        _leaving(opening.result().turn_id, asked)()


def _leaving(turn_id: uuid.UUID, asked: Asked) -> Callable[[], object]:
    """What to do when the client is gone. Who names an idempotency key may come back for the answer."""
    # Here it runs, unless it was left to another process, which ends it.
    return (lambda: None) if asked.question.idempotency_key else partial(runner.stop, turn_id)


def _part(watch: Watch, leave: Callable[[], object]) -> None:
    watch.close()
    leave()


def _unknown(model: str) -> ModelNotFound:
    return ModelNotFound(f"The model {model[:100]!r} does not exist or you do not have access to it.")


async def _first_word(entries: AsyncIterator[list[Entry]]) -> list[Entry]:
    """The turn's events up to its first word, its end or a long silence.

    A stream begins only then, so that what goes wrong before the first word has an HTTP status, as at OpenAI's.
    """
    held: list[Entry] = []
    async for batch in entries:
        held += batch
        if not batch or any(isinstance(event, Token) or event.terminal for _, event in batch):
            break
    return held


async def _whole(entries: AsyncIterator[list[Entry]]) -> list[Entry]:
    """All the turn's events but its words, which the last event repeats."""
    return [entry async for batch in entries for entry in batch if not isinstance(entry.event, Token)]


def _streamed(parts: AsyncIterator[bytes], leave: Callable[[], object]) -> StreamingHttpResponse:
    return StreamingHttpResponse(
        _Stream(parts, leave),
        content_type="text/event-stream; charset=utf-8",
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


class _Stream:
    """The body of a streamed answer. Django closes it when it has ended, also when its client is gone before the
    first byte, which a generator that has not begun would not notice."""

    def __init__(self, parts: AsyncIterator[bytes], leave: Callable[[], object]) -> None:
        self._parts = parts
        self._leave = leave
        self._loop = asyncio.get_running_loop()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._parts

    def close(self) -> None:
        """Called in a thread."""
        self._loop.call_soon_threadsafe(self._leave)


async def _parts(answer: Answer, first: bytes, entries: AsyncIterator[list[Entry]]) -> AsyncIterator[bytes]:
    yield answer.opening + first
    try:
        async for batch in entries:
            yield answer.chunks(batch) or KEEP_ALIVE
    except Exception as raised:  # noqa: BLE001 - the boundary: translate() logs what nobody foresaw
        error: ParleyError = translate(raised)
        yield failure(body_of(error, turn=str(answer.turn_id)), status_of(error))


def _models(caller: Caller) -> list[dict[str, Any]]:
    return [_model(caller.tenant, assistant) for assistant in assistants_of(caller).order_by("name")]


def _model(tenant: Tenant, assistant: Assistant) -> dict[str, Any]:
    return {
        "id": assistant.slug,
        "object": "model",
        "created": int(assistant.created.timestamp()),
        "owned_by": tenant.slug,
        "name": assistant.name,
        "description": assistant.description,
    }


def _json(body: Any) -> HttpResponse:
    return HttpResponse(orjson.dumps(body), content_type="application/json")


urlpatterns = [
    path("chat/completions", ChatCompletions.as_view()),
    path("models", Models.as_view()),
    path("models/<path:model>", OneModel.as_view()),
    path("embeddings", Embeddings.as_view()),
    path("<path:rest>", Elsewhere.as_view()),
]
