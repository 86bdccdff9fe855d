"""The one way in for every door: check a question, open its turn and set it running, or find the turn it repeats."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from django.http import HttpRequest

from apps.access.authentication import Caller
from apps.conversations import draining, replicas, runner, takeover
from apps.conversations.again import Deed
from apps.conversations.models import Conversation
from apps.conversations.opening import open_again, open_lone_turn, open_turn
from apps.conversations.parties import assistant_of, start_conversation, user_for
from apps.conversations.question import Question
from apps.conversations.serializers import AgainSerializer, AskSerializer
from apps.conversations.turn import Opened
from apps.edge.request_ids import current_request_id
from chatbot.errors import InvalidRequest, NotFound

MAX_IDEMPOTENCY_KEY = 200


def question_in(data: Mapping[str, Any], *, idempotency_key: str = "") -> Question:
    """The question in a request's body or a frame. Raises DRF's ValidationError or InvalidRequest, with fields."""
    serializer = AskSerializer(data=data)
    serializer.is_valid(raise_exception=True)
    return Question(**serializer.validated_data, idempotency_key=idempotency_key, request_id=current_request_id())


def again_in(data: Mapping[str, Any], *, idempotency_key: str = "") -> Question:
    """Who asks a turn's question once more: a question without a text. Raises as question_in() does."""
    serializer = AgainSerializer(data=data)
    serializer.is_valid(raise_exception=True)
    said = serializer.validated_data
    return Question(text="", **said, idempotency_key=idempotency_key, request_id=current_request_id())


def key_in(request: HttpRequest) -> str:
    """The idempotency key of a request; empty where it has none. Raises InvalidRequest."""
    key = request.headers.get("Idempotency-Key", "").strip()
    if len(key) > MAX_IDEMPOTENCY_KEY or not key.isprintable():
        raise InvalidRequest(fields={"Idempotency-Key": f"Use at most {MAX_IDEMPOTENCY_KEY} printable characters."})
    return key


async def ask(caller: Caller, conversation_id: uuid.UUID, question: Question) -> uuid.UUID:
    """Accept a question; its turn runs when this returns. A repeat of an idempotency key returns its first turn.

    Whoever leaves meanwhile leaves a turn that runs: what is written is always answered.
    """

    question = _of(caller, question)

    async def ask_whole() -> uuid.UUID:
        await _may_ask()
        return await _running(await open_turn(caller, conversation_id, question, replica=replicas.ME))

    return await asyncio.shield(asyncio.ensure_future(ask_whole()))


async def ask_again(caller: Caller, turn_id: uuid.UUID, asked: Question, deed: Deed) -> uuid.UUID:
    """The same for the question of a turn, answered once more: `asked` says who asks, and no text."""
    asked = _of(caller, asked)

    async def ask_whole() -> uuid.UUID:
        await _may_ask()
        return await _running(await open_again(caller, turn_id, asked, deed, replica=replicas.ME))

    return await asyncio.shield(asyncio.ensure_future(ask_whole()))


async def ask_alone(caller: Caller, assistant: str, question: Question) -> uuid.UUID:
    """The same without a conversation, of an assistant named by slug or id; it must not be cancelled."""
    await _may_ask()
    return await _running(await open_lone_turn(caller, assistant, _of(caller, question), replica=replicas.ME))


async def _may_ask() -> None:
    """Raises ServiceUnavailable while this process cannot answer for what it accepts."""
    draining.refuse_questions()
    lease = await replicas.join(takeover.claim_orphans)
    await lease.joined()


def _of(caller: Caller, question: Question) -> Question:
    return replace(question, user=user_for(caller, question.user))


async def _running(opened: Opened | uuid.UUID) -> uuid.UUID:
    if isinstance(opened, uuid.UUID):
        return opened
    await runner.start(opened)
    return opened.turn_id


def begin(caller: Caller, assistant: str, *, user: str = "", title: str = "") -> Conversation:
    """A new conversation with an assistant, named by slug or id. Raises InvalidRequest where there is no such one."""
    try:
        found = assistant_of(caller, assistant)
    except NotFound as error:
        raise InvalidRequest(fields={"assistant": error.message}) from error
    return start_conversation(caller.tenant, found, user=user_for(caller, user), title=title)
