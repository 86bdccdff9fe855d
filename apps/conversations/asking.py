"""The one way in for every door: check a question, open its turn and set it running, or find the turn it repeats."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from apps.access.authentication import Caller
from apps.conversations import runner
from apps.conversations.models import Conversation
from apps.conversations.opening import open_lone_turn, open_turn
from apps.conversations.parties import assistant_of, start_conversation, user_for
from apps.conversations.question import Question
from apps.conversations.serializers import AskSerializer
from apps.conversations.turn import Opened
from apps.edge.request_ids import current_request_id
from chatbot.errors import InvalidRequest, NotFound

MAX_IDEMPOTENCY_KEY = 200


def question_in(data: Mapping[str, Any], *, idempotency_key: str = "") -> Question:
    """The question in a request's body or a frame. Raises DRF's ValidationError or InvalidRequest, with fields."""
    serializer = AskSerializer(data=data)
    serializer.is_valid(raise_exception=True)
    if len(idempotency_key) > MAX_IDEMPOTENCY_KEY or not idempotency_key.isprintable():
        raise InvalidRequest(fields={"Idempotency-Key": f"Use at most {MAX_IDEMPOTENCY_KEY} printable characters."})
    return Question(**serializer.validated_data, idempotency_key=idempotency_key, request_id=current_request_id())


async def ask(caller: Caller, conversation_id: uuid.UUID, question: Question) -> uuid.UUID:
    """Accept a question; its turn runs when this returns. A repeat of an idempotency key returns its first turn.

    Whoever leaves meanwhile leaves a turn that runs: what is written is always answered.
    """

    question = _of(caller, question)

    async def ask_whole() -> uuid.UUID:
        return _running(await open_turn(caller, conversation_id, question, replica=runner.REPLICA))

    return await asyncio.shield(asyncio.ensure_future(ask_whole()))


async def ask_alone(caller: Caller, assistant: str, question: Question) -> uuid.UUID:
    """The same without a conversation, of an assistant named by slug or id; it must not be cancelled."""
    return _running(await open_lone_turn(caller, assistant, _of(caller, question), replica=runner.REPLICA))


def _of(caller: Caller, question: Question) -> Question:
    return replace(question, user=user_for(caller, question.user))


def _running(opened: Opened | uuid.UUID) -> uuid.UUID:
    if isinstance(opened, uuid.UUID):
        return opened
    runner.start(opened)
    return opened.turn_id


def begin(caller: Caller, assistant: str, *, user: str = "", title: str = "") -> Conversation:
    """A new conversation with an assistant, named by slug or id. Raises InvalidRequest where there is no such one."""
    try:
        found = assistant_of(caller, assistant)
    except NotFound as error:
        raise InvalidRequest(fields={"assistant": error.message}) from error
    return start_conversation(caller.tenant, found, user=user_for(caller, user), title=title)
