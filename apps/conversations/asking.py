"""The one way in for every door: check a question, open its turn and set it running, or find the turn it repeats."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from apps.access.authentication import Caller
from apps.conversations import draining, replicas, runner, takeover
from apps.conversations.again import Deed
from apps.conversations.models import Conversation
from apps.conversations.opening import open_again, open_first_turn, open_lone_turn, open_turn
from apps.conversations.parties import assistant_of, start_conversation, user_for
from apps.conversations.question import Question
from apps.conversations.serializers import AgainSerializer, AskSerializer
from apps.conversations.turn import Opened
from apps.edge import turnstile
from apps.edge.ratelimit_headers import Limit
from apps.edge.request_ids import current_request_id
from chatbot.errors import InvalidRequest, NotFound

UNIQUE_CHARS = 16


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


def named(question: Question, *place: str) -> Question:
    """The question, whose repeat at the same place is known by the client's own name for it, where it has one."""
    if not question.client_id:
        return question
    # Several lines, which no header has: it is nobody's Idempotency-Key.
    return replace(question, idempotency_key="\n".join(("client_id", *place, question.client_id)))


def named_first(caller: Caller, assistant: str, question: Question) -> Question:
    """The same for a question that begins a conversation: of the same end user, to the same assistant, with the same
    text. All who name no end user are one: of them a client_id tells a client apart only where it is long enough to be
    nobody else's."""
    if not user_for(caller, question.user) and len(question.client_id) < UNIQUE_CHARS:
        return question
    return named(question, hashlib.sha256(f"{assistant}\n{question.fingerprint}".encode()).hexdigest())


@dataclass(frozen=True, slots=True)
class Accepted:
    """A question's turn, which runs or has run. repeated: it was asked before, with the same idempotency key. standing:
    what the asker's limits leave."""

    turn_id: uuid.UUID
    repeated: bool
    standing: Sequence[Limit] = ()


async def accept(caller: Caller, conversation_id: uuid.UUID, question: Question) -> Accepted:
    """Accept a question; its turn runs when this returns. A repeat of an idempotency key gets its first turn.

    Whoever leaves meanwhile leaves a turn that runs: what is written is always answered.
    """
    question = _of(caller, question)
    return await _whole(lambda: open_turn(caller, conversation_id, question, replica=replicas.ME))


async def accept_first(caller: Caller, assistant: str, question: Question) -> Accepted:
    """The same in a new conversation with an assistant, named by slug or id."""
    question = _of(caller, question)
    return await _whole(lambda: open_first_turn(caller, assistant, question, replica=replicas.ME))


async def accept_again(caller: Caller, turn_id: uuid.UUID, asked: Question, deed: Deed) -> Accepted:
    """The same for the question of a turn, answered once more: `asked` says who asks, and no text."""
    asked = _of(caller, asked)
    return await _whole(lambda: open_again(caller, turn_id, asked, deed, replica=replicas.ME))


async def accept_alone(caller: Caller, assistant: str, question: Question) -> Accepted:
    """The same without a conversation, of an assistant named by slug or id; it must not be cancelled."""
    await _may_ask()
    return await _running(await open_lone_turn(caller, assistant, _of(caller, question), replica=replicas.ME))


async def ask(caller: Caller, conversation_id: uuid.UUID, question: Question) -> uuid.UUID:
    """The turn of an accepted question, for those to whom a repeat is no different."""
    return (await accept(caller, conversation_id, question)).turn_id


async def ask_alone(caller: Caller, assistant: str, question: Question) -> uuid.UUID:
    """The same without a conversation."""
    return (await accept_alone(caller, assistant, question)).turn_id


async def _may_ask() -> None:
    """Raises ServiceUnavailable while this process cannot answer for what it accepts."""
    draining.refuse_questions()
    lease = await replicas.join(takeover.claim_orphans)
    await lease.joined()


async def _whole(opening: Callable[[], Awaitable[Opened | uuid.UUID]]) -> Accepted:
    """Open and start a turn, whether or not somebody still waits for it."""

    async def both() -> Accepted:
        await _may_ask()
        return await _running(await opening())

    return await asyncio.shield(asyncio.ensure_future(both()))


def _of(caller: Caller, question: Question) -> Question:
    return replace(question, user=user_for(caller, question.user))


async def _running(opened: Opened | uuid.UUID) -> Accepted:
    if isinstance(opened, uuid.UUID):
        return Accepted(opened, repeated=True)
    await runner.start(opened)
    turnstile.step_aside()
    return Accepted(opened.turn_id, repeated=False, standing=opened.standing)


def begin(caller: Caller, assistant: str, *, user: str = "", title: str = "") -> Conversation:
    """A new conversation with an assistant, named by slug or id. Raises InvalidRequest where there is no such one."""
    try:
        found = assistant_of(caller, assistant)
    except NotFound as error:
        raise InvalidRequest(fields={"assistant": error.message}) from error
    return start_conversation(caller.tenant, found, user=user_for(caller, user), title=title)
