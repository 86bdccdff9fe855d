"""Who asks whom, and where: the end user, the assistant with its published prompt, and the conversation if in any.

Every question waits for it, so it is plain SQL (apps/tenants/statements.py says why).
"""

from __future__ import annotations

import datetime
import uuid
from dataclasses import dataclass

from apps.access.authentication import Caller
from apps.assistants.models import Assistant, PromptVersion
from apps.conversations.parties import ANONYMOUS, id_in
from apps.tenants.models import EndUser, Tenant
from apps.tenants.pool import Connection
from apps.tenants.statements import Columns
from chatbot.errors import NotFound


@dataclass(frozen=True, slots=True)
class Place:
    """Where a question is asked: of which assistant, by whom, and in which conversation if in any.

    active_at: when something was last asked there, by which a later transaction finds out whether something was asked
    meanwhile. busy: whether an answer is under way.
    """

    assistant: Assistant
    prompt: PromptVersion | None
    end_user: EndUser
    conversation_id: uuid.UUID | None = None
    active_at: datetime.datetime | None = None
    busy: bool = False


_END_USER = Columns(EndUser, "e")
_ASSISTANT = Columns(Assistant, "a")
_PROMPT = Columns(PromptVersion, "v")

_IN_CONVERSATION = f"""
    SELECT c.active_at, EXISTS (
        SELECT FROM conversations_turn t WHERE t.conversation_id = c.id AND t.state IN ('queued', 'running')
    ), {_END_USER}, {_ASSISTANT}, {_PROMPT}
    FROM conversations_conversation c
    JOIN tenants_enduser e ON e.id = c.end_user_id
    JOIN assistants_assistant a ON a.id = c.assistant_id
    JOIN assistants_prompt p ON p.id = a.prompt_id
    LEFT JOIN assistants_promptversion v ON v.id = p.published_id
    WHERE c.tenant_id = %(tenant)s AND c.id = %(conversation)s AND %(user)s IN ('', e.external_id)
"""  # noqa: S608 - these are all put together from names of ours
# A slug may look like another assistant's id: the slug counts.
_ALONE = f"""
    SELECT {_ASSISTANT}, {_PROMPT}
    FROM assistants_assistant a
    JOIN assistants_prompt p ON p.id = a.prompt_id
    LEFT JOIN assistants_promptversion v ON v.id = p.published_id
    WHERE a.tenant_id = %(tenant)s AND a.is_active AND (a.slug = %(name)s OR a.id = %(id)s)
    ORDER BY a.slug = %(name)s DESC LIMIT 1
"""  # noqa: S608
_NAMED = f"SELECT {_END_USER} FROM tenants_enduser e WHERE e.tenant_id = %s AND e.external_id = %s"  # noqa: S608
_MEET = """
    INSERT INTO tenants_enduser (id, tenant_id, external_id, created) VALUES (%s, %s, %s, now())
    ON CONFLICT DO NOTHING
"""


async def in_conversation(connection: Connection, caller: Caller, conversation_id: uuid.UUID, user: str) -> Place:
    """A conversation within reach, and `user`'s where one is named. Raises NotFound."""
    found = await connection.execute(
        _IN_CONVERSATION, {"tenant": caller.tenant.pk, "conversation": conversation_id, "user": user}
    )
    row = await found.fetchone()
    if row is None:
        raise NotFound("There is no such conversation.")
    active_at, busy, *rest = row
    values = iter(rest)
    end_user, assistant = _END_USER.read(values), _ASSISTANT.read(values)
    if not caller.reaches(assistant.pk):
        raise NotFound("There is no such conversation.")
    return Place(assistant, _PROMPT.read_joined(values), end_user, conversation_id, active_at, busy)


async def alone(connection: Connection, caller: Caller, name: str, user: str) -> Place:
    """Beside an assistant within reach, by slug or id, as the end user called `user`. Raises NotFound."""
    asked = {"tenant": caller.tenant.pk, "name": name, "id": id_in(name)}
    row = await (await connection.execute(_ALONE, asked)).fetchone()
    if row is None:
        raise NotFound("There is no such assistant.")
    values = iter(row)
    assistant = _ASSISTANT.read(values)
    if not caller.reaches(assistant.pk):
        raise NotFound("There is no such assistant.")
    end_user = await _end_user(connection, caller.tenant, user or ANONYMOUS)
    return Place(assistant, _PROMPT.read_joined(values), end_user)


async def _end_user(connection: Connection, tenant: Tenant, name: str) -> EndUser:
    """The end user whom the tenant calls so, known from now on."""
    while True:
        row = await (await connection.execute(_NAMED, (tenant.pk, name))).fetchone()
        if row is not None:
            return _END_USER.read(iter(row))
        await connection.execute(_MEET, (uuid.uuid4(), tenant.pk, name))


async def meet_again(connection: Connection, end_user: EndUser) -> bool:
    """An end user whom a transaction that was rolled back may have met first. False where another one is called so
    now."""
    said = (end_user.tenant_id, end_user.external_id)
    await connection.execute(_MEET, (end_user.pk, *said))
    row = await (await connection.execute(_NAMED, said)).fetchone()
    return row is not None and bool(_END_USER.read(iter(row)).pk == end_user.pk)
