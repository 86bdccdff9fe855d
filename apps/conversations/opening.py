"""Opens turns: one short transaction writes question, turn and ledger row, and from then on nothing is lost.

Every question waits for it, so it is plain SQL (apps/tenants/statements.py says why).
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import cast

from django.utils import timezone
from psycopg.errors import UniqueViolation

from apps.access.authentication import Caller
from apps.assistants.models import Assistant, PromptVersion
from apps.conversations.models import IdempotencyKey, Message, Turn
from apps.conversations.parties import ANONYMOUS, id_in
from apps.conversations.question import Question
from apps.conversations.turn import Opened, place_of
from apps.inference import gateway
from apps.inference.models import Endpoint
from apps.knowledge.models import Collection, EmbeddingIndex
from apps.tenants.models import EndUser, Tenant
from apps.tenants.pool import Connection
from apps.tenants.statements import Columns, insert, transaction
from apps.usage import ledger
from chatbot.errors import IdempotencyConflict, InvalidRequest, NotFound, TurnInProgress
from chatbot.events import Source

# More turns than any context window holds; the packing decides how many of them the model sees.
HISTORY_TURNS = 20
TITLE_CHARS = 80


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a question is asked: of which assistant, by whom, and in which conversation if in any."""

    assistant: Assistant
    prompt: PromptVersion | None
    end_user: EndUser
    conversation_id: uuid.UUID | None = None


async def open_turn(
    caller: Caller, conversation_id: uuid.UUID, question: Question, *, replica: uuid.UUID
) -> Opened | uuid.UUID:
    """Write the question and its turn. A repeat (by idempotency key) gets the id of its first turn.

    Raises NotFound, TurnInProgress, IdempotencyConflict, or InvalidRequest where the assistant is not ready to answer.
    """
    await gateway.pool()  # the endpoints, before the transaction
    async with transaction(caller.tenant) as connection:
        place = await _in_conversation(connection, caller, conversation_id, question.user)
        opened = await _open(connection, caller, place, question, replica)
        if isinstance(opened, Opened):
            title = " ".join(question.text.split())[:TITLE_CHARS]
            await connection.execute(_TOUCH, (timezone.now(), title, caller.tenant.pk, conversation_id))
        return opened


async def open_lone_turn(
    caller: Caller, assistant: str, question: Question, *, replica: uuid.UUID
) -> Opened | uuid.UUID:
    """The same for a turn without a conversation: the asker brings the history. `assistant` is a slug or an id."""
    await gateway.pool()
    async with transaction(caller.tenant) as connection:
        place = await _alone(connection, caller, assistant, question.user)
        return await _open(connection, caller, place, question, replica)


async def _open(
    connection: Connection, caller: Caller, place: _Place, question: Question, replica: uuid.UUID
) -> Opened | uuid.UUID:
    if earlier := await _earlier(connection, caller.tenant, place, question):
        return earlier
    opened = await _answerable(connection, caller, place, question)
    await _write(connection, caller, question, opened, replica)
    return opened


# --- Who asks whom ----------------------------------------------------------------------------------------------------

_END_USER = Columns(EndUser, "e")
_ASSISTANT = Columns(Assistant, "a")
_PROMPT = Columns(PromptVersion, "v")

# The conversation is locked until its turn is written.
_IN_CONVERSATION = f"""
    SELECT {_END_USER}, {_ASSISTANT}, {_PROMPT}
    FROM conversations_conversation c
    JOIN tenants_enduser e ON e.id = c.end_user_id
    JOIN assistants_assistant a ON a.id = c.assistant_id
    JOIN assistants_prompt p ON p.id = a.prompt_id
    LEFT JOIN assistants_promptversion v ON v.id = p.published_id
    WHERE c.tenant_id = %(tenant)s AND c.id = %(conversation)s AND %(user)s IN ('', e.external_id)
    FOR UPDATE OF c
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
    INSERT INTO tenants_enduser (id, tenant_id, external_id, created) VALUES (gen_random_uuid(), %s, %s, now())
    ON CONFLICT DO NOTHING
"""


async def _in_conversation(connection: Connection, caller: Caller, conversation_id: uuid.UUID, user: str) -> _Place:
    found = await connection.execute(
        _IN_CONVERSATION, {"tenant": caller.tenant.pk, "conversation": conversation_id, "user": user}
    )
    row = await found.fetchone()
    if row is None:
        raise NotFound("There is no such conversation.")
    values = iter(row)
    end_user, assistant = _END_USER.read(values), _ASSISTANT.read(values)
    if not caller.reaches(assistant.pk):
        raise NotFound("There is no such conversation.")
    return _Place(assistant, _PROMPT.read_joined(values), end_user, conversation_id)


async def _alone(connection: Connection, caller: Caller, name: str, user: str) -> _Place:
    asked = {"tenant": caller.tenant.pk, "name": name, "id": id_in(name)}
    row = await (await connection.execute(_ALONE, asked)).fetchone()
    if row is None:
        raise NotFound("There is no such assistant.")
    values = iter(row)
    assistant = _ASSISTANT.read(values)
    if not caller.reaches(assistant.pk):
        raise NotFound("There is no such assistant.")
    end_user = await _end_user(connection, caller.tenant, user or ANONYMOUS)
    return _Place(assistant, _PROMPT.read_joined(values), end_user)


async def _end_user(connection: Connection, tenant: Tenant, name: str) -> EndUser:
    """The end user whom the tenant calls so, known from now on."""
    while True:
        row = await (await connection.execute(_NAMED, (tenant.pk, name))).fetchone()
        if row is not None:
            return _END_USER.read(iter(row))
        await connection.execute(_MEET, (tenant.pk, name))


# --- A repeat ---------------------------------------------------------------------------------------------------------

_CLAIM = """
    SELECT k.fingerprint, t.id, t.assistant_id, t.conversation_id
    FROM conversations_idempotencykey k JOIN conversations_turn t ON t.id = k.turn_id
    WHERE k.tenant_id = %s AND k.end_user_id = %s AND k.key = %s
"""


async def _earlier(connection: Connection, tenant: Tenant, place: _Place, question: Question) -> uuid.UUID | None:
    """The turn that this key already opened. Repeats sent at once wait here for the first one to commit."""
    if not question.idempotency_key:
        return None
    name = f"{tenant.pk}/{place.end_user.pk}/{question.idempotency_key}"
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (name,))
    found = await connection.execute(_CLAIM, (tenant.pk, place.end_user.pk, question.idempotency_key))
    row = await found.fetchone()
    if row is None:
        return None
    fingerprint, turn_id, *where = row
    if fingerprint != question.fingerprint or where != [place.assistant.pk, place.conversation_id]:
        raise IdempotencyConflict
    return cast("uuid.UUID", turn_id)


# --- What answering needs ---------------------------------------------------------------------------------------------

_COLLECTION = Columns(Collection, "k")
_INDEX = Columns(EmbeddingIndex, "i")
_EMBEDDER = Columns(Endpoint, "x", "id", "name", "model", "dimension")

_COLLECTIONS = f"""
    SELECT {_COLLECTION}, {_INDEX}, {_EMBEDDER}
    FROM assistants_assistantcollection l
    JOIN knowledge_collection k ON k.id = l.collection_id
    JOIN knowledge_embeddingindex i ON i.id = k.index_id
    JOIN inference_endpoint x ON x.id = i.endpoint_id
    WHERE l.tenant_id = %(tenant)s AND k.tenant_id = %(tenant)s AND l.assistant_id = %(assistant)s
"""  # noqa: S608
_HISTORY = """
    SELECT t.question_id, q.text, n.text
    FROM conversations_turn t
    JOIN conversations_message q ON q.id = t.question_id
    JOIN conversations_message n ON n.id = t.answer_id
    WHERE t.tenant_id = %s AND t.conversation_id = %s AND n.text <> ''
    ORDER BY t.created DESC LIMIT %s
"""


async def _answerable(connection: Connection, caller: Caller, place: _Place, question: Question) -> Opened:
    """What answering needs. Raises InvalidRequest where the assistant is not ready to answer."""
    tenant = caller.tenant
    assistant = place.assistant
    if not assistant.is_active:
        raise InvalidRequest("This assistant is switched off.")
    if place.prompt is None:
        raise InvalidRequest("This assistant's prompt has no published version.")
    return Opened(
        tenant=tenant,
        turn_id=uuid.uuid4(),
        epoch=1,
        conversation_id=place.conversation_id,
        question_id=uuid.uuid4(),
        text=question.text,
        end_user=place.end_user,
        assistant=assistant,
        prompt=place.prompt,
        collections=await _collections(connection, tenant, assistant) if assistant.passages else [],
        history=(
            await _history(connection, tenant, place.conversation_id) if place.conversation_id else question.history
        ),
        endpoints=gateway.chat_endpoints(tenant, assistant.endpoint_id),
        instructions=question.instructions,
        sampling=question.sampling,
        ends_with=caller.ends_with | {word.replace("member:", "asker:") for word in caller.ends_with},
    )


async def _collections(connection: Connection, tenant: Tenant, assistant: Assistant) -> list[Collection]:
    """The collections that the assistant may read, with what search needs of their indexes."""
    collections = []
    async for row in await connection.execute(_COLLECTIONS, {"tenant": tenant.pk, "assistant": assistant.pk}):
        values = iter(row)
        collection, index, embedder = _COLLECTION.read(values), _INDEX.read(values), _EMBEDDER.read(values)
        index.endpoint, collection.index = embedder, index
        collections.append(collection)
    return collections


async def _history(connection: Connection, tenant: Tenant, conversation_id: uuid.UUID) -> list[tuple[str, str]]:
    """Questions with their answers, oldest first; of a question answered several times, the latest answer."""
    found = await connection.execute(_HISTORY, (tenant.pk, conversation_id, HISTORY_TURNS))
    latest: dict[uuid.UUID, tuple[str, str]] = {}
    for question_id, asked, answered in await found.fetchall():
        latest.setdefault(question_id, (asked, answered))
    return list(latest.values())[::-1]


# --- What is written --------------------------------------------------------------------------------------------------

_TOUCH = """
    UPDATE conversations_conversation SET active_at = %s, title = coalesce(nullif(title, ''), %s)
    WHERE tenant_id = %s AND id = %s
"""


async def _write(
    connection: Connection, caller: Caller, question: Question, opened: Opened, replica: uuid.UUID
) -> None:
    tenant = caller.tenant
    asked = Message(
        id=opened.question_id,
        tenant=tenant,
        role=Message.Role.USER,
        text=question.text,
        **place_of(opened.conversation_id, opened.turn_id),
    )
    await insert(connection, asked)
    turn = Turn(
        id=opened.turn_id,
        tenant=tenant,
        conversation_id=opened.conversation_id,
        assistant=opened.assistant,
        end_user=opened.end_user,
        question_id=opened.question_id,
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
    if question.idempotency_key:
        await insert(
            connection,
            IdempotencyKey(
                tenant=tenant,
                end_user=opened.end_user,
                key=question.idempotency_key,
                fingerprint=question.fingerprint,
                turn=turn,
            ),
        )
    await ledger.reserve(
        connection,
        tenant,
        turn_id=turn.pk,
        end_user=opened.end_user,
        api_key_id=caller.api_key_id,
        assistant_id=opened.assistant.pk,
    )


# --- What another process left ----------------------------------------------------------------------------------------

_TENANT = Columns(Tenant, "n")
_LEFT = f"""
    SELECT t.epoch, t.conversation_id, t.question_id, t.stopping, t.partial, t.sources, t.ends_with, q.text,
        {_TENANT}, {_END_USER}, {_ASSISTANT}, {_PROMPT}
    FROM conversations_turn t
    JOIN conversations_message q ON q.id = t.question_id
    JOIN tenants_tenant n ON n.id = t.tenant_id
    JOIN tenants_enduser e ON e.id = t.end_user_id
    JOIN assistants_assistant a ON a.id = t.assistant_id
    JOIN assistants_promptversion v ON v.id = t.prompt_version_id
    WHERE t.tenant_id = %s AND t.id = %s
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class Left:
    """A turn that another process began. opened: None where only that process could answer it, since its client brought
    the history. partial, sources: its latest checkpoint."""

    tenant: Tenant
    turn_id: uuid.UUID
    epoch: int
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
    epoch, conversation_id, question_id, stopping, partial, sources, ends_with, text = islice(values, 8)
    tenant, end_user, assistant = _TENANT.read(values), _END_USER.read(values), _ASSISTANT.read(values)
    prompt = _PROMPT.read(values)
    opened = None
    if conversation_id is not None:
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
            collections=await _collections(connection, tenant, assistant) if assistant.passages else [],
            history=await _history(connection, tenant, conversation_id),
            endpoints=gateway.chat_endpoints(tenant, assistant.endpoint_id),
            ends_with=frozenset(ends_with),
        )
    kept = [Source(**source) for source in sources]
    return Left(tenant, turn_id, epoch, conversation_id, stopping, partial, kept, opened)
