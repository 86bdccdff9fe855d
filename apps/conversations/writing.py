"""The transaction that accepts a question: from its commit on, nothing is lost.

Every question waits for it, so it is plain SQL (apps/tenants/statements.py says why).
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from psycopg.errors import UniqueViolation

from apps.access import idempotency
from apps.access.authentication import Caller
from apps.access.idempotency import Claim
from apps.conversations.again import Again
from apps.conversations.branches import Branch
from apps.conversations.bringing import attach
from apps.conversations.models import Conversation, Message, Turn
from apps.conversations.places import Place
from apps.conversations.question import Question
from apps.conversations.repeats import earlier_of
from apps.conversations.turn import Opened, place_of
from apps.tenants.pool import Connection
from apps.tenants.statements import insert
from apps.usage import ledger
from apps.usage.meter import Reserved
from chatbot.errors import TurnInProgress

TITLE_CHARS = 80


@dataclass(frozen=True, slots=True)
class Planned:
    """A question that may be answered, as things stood when it was looked at."""

    caller: Caller
    question: Question
    place: Place
    branch: Branch
    opened: Opened
    claim: Claim | None
    again: Again | None
    begin: bool  # a conversation
    brought: Sequence[uuid.UUID]  # attachments


async def write(
    connection: Connection, planned: Planned, reserved: Callable[[], Awaitable[Reserved]], replica: uuid.UUID
) -> Opened | uuid.UUID | None:
    """Write what was planned, or give the turn that a repeat has opened meanwhile. None where something else was asked
    meanwhile. reserved: what was reserved, asked for when all else is written."""
    place, branch, opened = planned.place, planned.branch, planned.opened
    if planned.claim:
        earlier = await earlier_of(connection, place, planned.claim, anywhere=planned.begin)
        if earlier and earlier.answered:
            return earlier.turn_id
    if planned.begin:
        opened = replace(opened, conversation_id=await _begin(connection, place, branch, opened))
    elif opened.conversation_id and not await _touch(connection, place, branch, opened):
        return None
    if not planned.again:
        await _write_question(connection, opened, branch)
        await attach(connection, opened, planned.brought)
    await _write_turn(connection, planned, opened, replica)
    if planned.claim:
        await idempotency.keep_turn(connection, planned.claim, opened.turn_id)
    held = await reserved()
    await _enter(connection, planned, opened, held)
    return replace(opened, standing=held.standing, unmetered=held.unmetered)


async def _begin(connection: Connection, place: Place, branch: Branch, opened: Opened) -> uuid.UUID:
    conversation = Conversation(
        tenant_id=place.end_user.tenant_id,
        assistant=place.assistant,
        end_user=place.end_user,
        title=_title(opened),
        active_at=branch.moment,
    )
    await insert(connection, conversation)
    return conversation.pk


# Whoever asked since it was looked at has moved it on.
_TOUCH = """
    UPDATE conversations_conversation SET active_at = %s, title = coalesce(nullif(title, ''), %s)
    WHERE tenant_id = %s AND id = %s AND active_at = %s
"""


async def _touch(connection: Connection, place: Place, branch: Branch, opened: Opened) -> bool:
    said = (branch.moment, _title(opened), opened.tenant.pk, place.conversation_id, place.active_at)
    return bool((await connection.execute(_TOUCH, said)).rowcount)


def _title(opened: Opened) -> str:
    return " ".join(opened.text.split())[:TITLE_CHARS]


async def _write_question(connection: Connection, opened: Opened, branch: Branch) -> None:
    asked = Message(
        id=opened.question_id,
        tenant=opened.tenant,
        role=Message.Role.USER,
        text=opened.text,
        created=branch.moment,
        **place_of(opened.conversation_id, opened.turn_id),
    )
    await insert(connection, asked)


async def _write_turn(connection: Connection, planned: Planned, opened: Opened, replica: uuid.UUID) -> None:
    caller, question, branch = planned.caller, planned.question, planned.branch
    turn = Turn(
        id=opened.turn_id,
        tenant=caller.tenant,
        conversation_id=opened.conversation_id,
        assistant=opened.assistant,
        end_user=opened.end_user,
        question_id=opened.question_id,
        parent_id=branch.parent,
        begins=branch.parent is None,
        continues_id=planned.again.continues if planned.again else None,
        created=branch.moment,
        api_key_id=caller.api_key_id,
        prompt_version=opened.prompt,
        replica=replica,
        epoch=opened.epoch,
        ends_with=sorted(opened.ends_with),
        client_id=question.client_id,
        request_id=question.request_id,
    )
    try:
        await insert(connection, turn)
    except UniqueViolation as error:
        if error.diag.constraint_name == "turn_one_open_per_conversation":
            raise TurnInProgress from error
        raise


async def _enter(connection: Connection, planned: Planned, opened: Opened, reserved: Reserved) -> None:
    caller = planned.caller
    await ledger.reserve(
        connection,
        caller.tenant,
        turn_id=opened.turn_id,
        end_user=opened.end_user,
        api_key_id=caller.api_key_id,
        oauth_client_id=caller.oauth_client_id,
        assistant_id=opened.assistant.pk,
        amounts=reserved.amounts,
        created=reserved.at or planned.branch.moment,
    )
