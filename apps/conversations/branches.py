"""Branches: which turn a question follows, and what was said on the way there.

Every question waits for it, so it is plain SQL (apps/tenants/statements.py says why).
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from apps.conversations.question import Question
from apps.tenants.models import Tenant
from apps.tenants.pool import Connection
from chatbot.errors import NotFound

# More turns than any context window holds; the packing decides how many of them the model sees.
HISTORY_TURNS = 20

# A release that knew no branches wrote neither parent nor `begins`: its turns follow the one before them in time.
_PARENT = """coalesce({0}.parent_id, CASE WHEN NOT {0}.begins THEN (
    SELECT e.id FROM conversations_turn e
    WHERE e.tenant_id = {0}.tenant_id AND e.conversation_id = {0}.conversation_id AND e.created < {0}.created
    ORDER BY e.created DESC LIMIT 1
) END)"""
PARENT = _PARENT.format("t")  # of the turn `t`, for other statements
_COLUMNS = "t.id, t.tenant_id, t.conversation_id, t.parent_id, t.begins, t.created, t.question_id, t.answer_id"
_FOUND = f"""
    SELECT {PARENT} FROM conversations_turn t
    WHERE t.tenant_id = %s AND t.conversation_id = %s AND t.id = %s
"""  # noqa: S608 - these are all put together from names of ours
_WALK = f"""
    WITH RECURSIVE latest AS (
        SELECT id, created FROM conversations_turn
        WHERE tenant_id = %(tenant)s AND conversation_id = %(conversation)s ORDER BY created DESC LIMIT 1
    ), branch AS (
        SELECT {_COLUMNS}, 1 AS place FROM conversations_turn t JOIN latest ON t.id = coalesce(%(after)s, latest.id)
        WHERE t.tenant_id = %(tenant)s AND t.conversation_id = %(conversation)s AND NOT %(begins)s
        UNION ALL
        SELECT {_COLUMNS}, b.place + 1 FROM branch b JOIN conversations_turn t ON t.id = {_PARENT.format("b")}
        WHERE t.tenant_id = %(tenant)s AND b.place < %(most)s
    )
    SELECT greatest(clock_timestamp(), latest.created + interval '1 microsecond'), b.id, q.id, q.text, n.text
    FROM (VALUES (1)) AS always
    LEFT JOIN latest ON true
    LEFT JOIN branch b ON true
    LEFT JOIN conversations_message q ON q.id = b.question_id
    LEFT JOIN conversations_message n ON n.id = b.answer_id
    ORDER BY b.place
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class Branch:
    """What a question follows. parent: the turn before it, None at the beginning. history: (question, answer), oldest
    first. moment: now by PostgreSQL's clock, which all processes share, and later than any turn of the conversation.
    questions: of these turns and of those that had no answer, latest first."""

    parent: uuid.UUID | None
    history: Sequence[tuple[str, str]]
    moment: datetime.datetime
    questions: Sequence[uuid.UUID] = ()


async def branch_of(connection: Connection, tenant: Tenant, conversation_id: uuid.UUID, question: Question) -> Branch:
    """Where a question goes on: after the latest turn, after the one it names, or beside the one that it edits.

    Call it with the conversation locked. Raises NotFound for turns that are not the conversation's.
    """
    if question.edits:
        before = await _before(connection, tenant, conversation_id, question.edits)
        return await walk(connection, tenant, conversation_id, before)
    if question.parent:
        await _before(connection, tenant, conversation_id, question.parent)
        return await walk(connection, tenant, conversation_id, question.parent)
    return await walk(connection, tenant, conversation_id, None, latest=True)


async def _before(
    connection: Connection, tenant: Tenant, conversation_id: uuid.UUID, turn_id: uuid.UUID
) -> uuid.UUID | None:
    found = await connection.execute(_FOUND, (tenant.pk, conversation_id, turn_id))
    row = await found.fetchone()
    if row is None:
        raise NotFound("There is no such turn.")
    parent: uuid.UUID | None = row[0]
    return parent


async def walk(
    connection: Connection,
    tenant: Tenant,
    conversation_id: uuid.UUID,
    after: uuid.UUID | None,
    *,
    latest: bool = False,
) -> Branch:
    """The branch that ends with the turn `after`, at most HISTORY_TURNS long: with None it is empty, or the one of the
    latest turn. What had no answer is left out of its history."""
    place = {
        "tenant": tenant.pk,
        "conversation": conversation_id,
        "after": after,
        "begins": after is None and not latest,
        "most": HISTORY_TURNS,
    }
    rows = await (await connection.execute(_WALK, place)).fetchall()
    turns = [turn for _, *turn in rows if turn[0]]
    history = [(asked, answered) for _, _, asked, answered in reversed(turns) if answered]
    questions = [question_id for _, question_id, _, _ in turns]
    return Branch(turns[0][0] if turns else None, history, rows[0][0], questions)
