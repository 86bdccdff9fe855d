"""The files that a question brings along, and those that came with the questions before it.

Questions wait for it, so it is plain SQL (apps/tenants/statements.py says why); an assistant that takes no attachments
costs them nothing. Of each file no more is read than a model could have room for.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from apps.assistants.models import Assistant
from apps.assistants.prompting import room_for_files
from apps.conversations.models import Attachment
from apps.conversations.places import Place
from apps.conversations.question import Question
from apps.conversations.turn import Opened
from apps.tenants.pool import Connection
from apps.tenants.statements import Columns
from chatbot.attachments import TOKEN_CHARS
from chatbot.errors import InvalidRequest, NotFound
from chatbot.inference.endpoint import Endpoint

_ATTACHMENT = Columns(
    Attachment, "a", *(field.name for field in Attachment._meta.concrete_fields if field.name != "text")
)
_READ = f"{_ATTACHMENT}, left(a.text, %(chars)s), a.shortened OR char_length(a.text) > %(chars)s"
_NAMED = f"""
    SELECT {_READ} FROM conversations_attachment a
    WHERE a.tenant_id = %(tenant)s AND a.conversation_id = %(conversation)s AND a.id = ANY(%(ids)s)
    ORDER BY a.created, a.id
"""  # noqa: S608 - these are put together from names of ours
_OF_TURN = """
    SELECT l.attachment_id FROM conversations_attached l JOIN conversations_turn t ON t.question_id = l.question_id
    WHERE t.tenant_id = %s AND t.conversation_id = %s AND t.id = %s
"""
_OF_QUESTIONS = f"""
    SELECT {_READ}
    FROM conversations_attached l JOIN conversations_attachment a ON a.id = l.attachment_id
    WHERE l.tenant_id = %(tenant)s AND l.question_id = ANY(%(questions)s)
    ORDER BY array_position(%(questions)s::uuid[], l.question_id), a.created, a.id
"""  # noqa: S608
# Whoever deletes one of them waits until the question is there, or has deleted it.
_ATTACH = """
    INSERT INTO conversations_attached (id, tenant_id, question_id, attachment_id)
    SELECT gen_random_uuid(), %(tenant)s, %(question)s, a.id FROM (
        SELECT id FROM conversations_attachment
        WHERE tenant_id = %(tenant)s AND conversation_id = %(conversation)s AND id = ANY(%(ids)s) FOR KEY SHARE
    ) AS a
"""


def chars_of(assistant: Assistant, endpoints: Sequence[Endpoint]) -> int:
    """As many of a file as a model could have room for, at most."""
    return TOKEN_CHARS * room_for_files(assistant, endpoints)


async def brought_by(connection: Connection, place: Place, question: Question, chars: int) -> list[Attachment]:
    """The files that a question brings, or takes over from the one that it edits, with so many characters of each.

    Raises InvalidRequest where the assistant takes none, and NotFound for one that is not the conversation's.
    """
    if not place.assistant.takes_attachments:
        if question.attachments:
            raise InvalidRequest(fields={"attachments": "This assistant takes no attachments."})
        return []
    ids: Sequence[uuid.UUID] | None = question.attachments
    where = (place.assistant.tenant_id, place.conversation_id)
    if ids is None and question.edits:
        ids = [attachment_id for (attachment_id,) in await _rows(connection, _OF_TURN, (*where, question.edits))]
    if not ids:
        return []
    given = {"tenant": where[0], "conversation": where[1], "ids": list(ids), "chars": chars}
    rows = await _rows(connection, _NAMED, given)
    if len(rows) < len(ids):
        raise NotFound("There is no such attachment.")
    return [_read(row) for row in rows]


async def attached_to(
    connection: Connection, assistant: Assistant, questions: Sequence[uuid.UUID], chars: int
) -> list[Attachment]:
    """The files that came with these questions, in their order, with so many characters of each; none where the
    assistant takes no attachments (any more)."""
    if not assistant.takes_attachments or not questions:
        return []
    given = {"tenant": assistant.tenant_id, "questions": list(questions), "chars": chars}
    return [_read(row) for row in await _rows(connection, _OF_QUESTIONS, given)]


async def attach(connection: Connection, opened: Opened, ids: Sequence[uuid.UUID]) -> None:
    """Let a question that was just written bring these. Raises NotFound for one that was deleted meanwhile."""
    if not ids:
        return
    given = {
        "tenant": opened.tenant.pk,
        "conversation": opened.conversation_id,
        "question": opened.question_id,
        "ids": list(ids),
    }
    if (await connection.execute(_ATTACH, given)).rowcount < len(ids):
        raise NotFound("There is no such attachment.")


def _read(row: Sequence[Any]) -> Attachment:
    values = iter(row)
    attachment = _ATTACHMENT.read(values)
    attachment.text, attachment.shortened = values
    return attachment


async def _rows(
    connection: Connection, statement: str, given: Mapping[str, Any] | Sequence[Any]
) -> list[tuple[Any, ...]]:
    return await (await connection.execute(statement, given)).fetchall()
