"""Opens a turn anew that another process left, as it was opened there."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from apps.assistants.models import Assistant, PromptVersion
from apps.conversations.again import begun_by
from apps.conversations.branches import PARENT, walk
from apps.conversations.bringing import attached_to, chars_of
from apps.conversations.opening import collections_of
from apps.conversations.turn import Opened
from apps.inference import gateway
from apps.tenants.models import EndUser, Tenant
from apps.tenants.pool import Connection
from apps.tenants.statements import Columns
from chatbot.errors import NotFound
from chatbot.events import Source

_TENANT = Columns(Tenant, "n")
_END_USER = Columns(EndUser, "e")
_ASSISTANT = Columns(Assistant, "a")
_PROMPT = Columns(PromptVersion, "v")
_LEFT = f"""
    SELECT t.epoch, {PARENT}, t.conversation_id, t.question_id, t.stopping, t.partial, t.sources, t.ends_with,
        t.request_id, q.text, c.state, m.text, c.sources, {_TENANT}, {_END_USER}, {_ASSISTANT}, {_PROMPT}
    FROM conversations_turn t
    JOIN conversations_message q ON q.id = t.question_id
    JOIN tenants_tenant n ON n.id = t.tenant_id
    JOIN tenants_enduser e ON e.id = t.end_user_id
    JOIN assistants_assistant a ON a.id = t.assistant_id
    JOIN assistants_promptversion v ON v.id = t.prompt_version_id
    LEFT JOIN conversations_turn c ON c.id = t.continues_id
    LEFT JOIN conversations_message m ON m.id = c.answer_id
    WHERE t.tenant_id = %s AND t.id = %s
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class Left:
    """A turn that another process began. opened: None where only that process could answer it, since its client brought
    the history. partial, sources: its latest checkpoint."""

    tenant: Tenant
    turn_id: uuid.UUID
    epoch: int
    request_id: str
    conversation_id: uuid.UUID | None
    stopping: bool
    partial: str
    sources: Sequence[Source]
    opened: Opened | None


async def reopen(connection: Connection, tenant_id: uuid.UUID, turn_id: uuid.UUID) -> Left:
    """An open turn with all that answering needs, as it was opened."""
    row = await (await connection.execute(_LEFT, (tenant_id, turn_id))).fetchone()
    if row is None:
        raise NotFound("There is no such turn.")
    values = iter(row)
    epoch, parent, conversation_id, question_id, stopping, partial, sources, *rest = islice(values, 13)
    ends_with, request_id, text, *continued = rest
    tenant, end_user, assistant = _TENANT.read(values), _END_USER.read(values), _ASSISTANT.read(values)
    prompt = _PROMPT.read(values)
    opened = None
    if conversation_id is not None:
        branch = await walk(connection, tenant, conversation_id, parent)
        endpoints = gateway.chat_endpoints(tenant, assistant.endpoint_id)
        chars = chars_of(assistant, endpoints)
        opened = Opened(
            tenant=tenant,
            turn_id=turn_id,
            epoch=epoch,
            conversation_id=conversation_id,
            question_id=question_id,
            text=text,
            end_user=end_user,
            assistant=assistant,
            prompt=prompt,
            collections=await collections_of(connection, tenant, assistant) if assistant.passages else [],
            history=branch.history,
            attachments=await attached_to(connection, assistant, [question_id, *branch.questions], chars),
            endpoints=endpoints,
            ends_with=frozenset(ends_with),
            begun=begun_by(*continued) if continued[1] else None,
        )
    kept = [Source(**source) for source in sources]
    return Left(tenant, turn_id, epoch, request_id, conversation_id, stopping, partial, kept, opened)
