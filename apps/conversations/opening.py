"""Opens turns: one short transaction writes question, turn and ledger row, and from then on nothing is lost.

Every question waits for it, so it is plain SQL (apps/tenants/statements.py says why).
"""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import NamedTuple

from django.utils import timezone
from psycopg.errors import UniqueViolation

from apps.access import idempotency
from apps.access.authentication import Caller
from apps.access.idempotency import Claim
from apps.assistants.models import Assistant
from apps.conversations.again import Again, Deed, again_of
from apps.conversations.branches import Branch, branch_of, walk
from apps.conversations.models import Conversation, Message, Turn
from apps.conversations.places import Place, alone, in_conversation
from apps.conversations.question import Question
from apps.conversations.turn import Opened, place_of
from apps.inference import gateway
from apps.inference.models import Endpoint
from apps.knowledge.models import Collection, EmbeddingIndex
from apps.tenants.models import Tenant
from apps.tenants.pool import Connection
from apps.tenants.statements import Columns, insert, transaction
from apps.usage import ledger
from chatbot.errors import IdempotencyConflict, InvalidRequest, NotFound, TurnInProgress

TITLE_CHARS = 80


async def open_turn(
    caller: Caller, conversation_id: uuid.UUID, question: Question, *, replica: uuid.UUID
) -> Opened | uuid.UUID:
    """Write the question and its turn. A repeat (by idempotency key) gets the id of its first turn.

    Raises NotFound, TurnInProgress, IdempotencyConflict, or InvalidRequest where the assistant is not ready to answer.
    """
    await gateway.pool()  # the endpoints, before the transaction
    async with transaction(caller.tenant) as connection:
        place = await in_conversation(connection, caller, conversation_id, question.user)
        return await _open(connection, caller, place, question, replica)


async def open_first_turn(
    caller: Caller, assistant: str, question: Question, *, replica: uuid.UUID
) -> Opened | uuid.UUID:
    """The same in a new conversation with an assistant, named by slug or id. A repeat begins none.

    Raises InvalidRequest where there is no such assistant.
    """
    await gateway.pool()
    async with transaction(caller.tenant) as connection:
        try:
            place = await alone(connection, caller, assistant, question.user)
        except NotFound as error:
            raise InvalidRequest(fields={"assistant": error.message}) from error
        return await _open(connection, caller, place, question, replica, begin=True)


async def open_lone_turn(
    caller: Caller, assistant: str, question: Question, *, replica: uuid.UUID
) -> Opened | uuid.UUID:
    """The same for a turn without a conversation: the asker brings the history. `assistant` is a slug or an id."""
    await gateway.pool()
    async with transaction(caller.tenant) as connection:
        place = await alone(connection, caller, assistant, question.user)
        return await _open(connection, caller, place, question, replica)


async def open_again(
    caller: Caller, turn_id: uuid.UUID, asked: Question, deed: Deed, *, replica: uuid.UUID
) -> Opened | uuid.UUID:
    """The same for the question of a turn, answered once more beside it. `asked` says who asks, and how a repeat of
    this request is known; what is asked is the turn's. Raises as again_of() does, too."""
    await gateway.pool()
    async with transaction(caller.tenant) as connection:
        again = await again_of(connection, caller, turn_id, asked.user, deed)
        place = await in_conversation(connection, caller, again.conversation_id, asked.user)
        return await _open(connection, caller, place, replace(asked, text=again.text), replica, again=again)


async def _open(
    connection: Connection,
    caller: Caller,
    place: Place,
    question: Question,
    replica: uuid.UUID,
    *,
    again: Again | None = None,
    begin: bool = False,
) -> Opened | uuid.UUID:
    claim = _claim(place, question, again)
    earlier = await _earlier(connection, place, claim, anywhere=begin) if claim else None
    if earlier and earlier.state != Turn.State.FAILED:
        return earlier.turn_id
    if earlier and earlier.conversation_id and not again:
        # It failed before its first word, so there is no answer to repeat: its question is answered once more.
        again = await again_of(connection, caller, earlier.turn_id, question.user, Deed.REGENERATE)
        place = replace(place, conversation_id=again.conversation_id)
    elif begin:
        place = await _begin(connection, place)
    branch = await _branch(connection, caller.tenant, place, question, again)
    opened = await _answerable(connection, caller, place, question, branch)
    if again:
        opened = replace(opened, question_id=again.question_id, begun=again.begun)
    else:
        await _write_question(connection, opened, branch)
    await _write_turn(connection, caller, question, opened, branch, replica=replica, again=again)
    if claim:
        await idempotency.keep_turn(connection, claim, opened.turn_id)
    return opened


async def _branch(
    connection: Connection, tenant: Tenant, place: Place, question: Question, again: Again | None
) -> Branch:
    if again:
        return await walk(connection, tenant, again.conversation_id, again.parent)
    if place.conversation_id:
        return await branch_of(connection, tenant, place.conversation_id, question)
    return Branch(None, question.history, timezone.now())


async def _begin(connection: Connection, place: Place) -> Place:
    conversation = Conversation(tenant_id=place.end_user.tenant_id, assistant=place.assistant, end_user=place.end_user)
    await insert(connection, conversation)
    return replace(place, conversation_id=conversation.pk)


# --- A repeat ---------------------------------------------------------------------------------------------------------

_WHERE = "SELECT assistant_id, conversation_id, state FROM conversations_turn WHERE tenant_id = %s AND id = %s"


class _Earlier(NamedTuple):
    """The turn that a key opened already."""

    turn_id: uuid.UUID
    conversation_id: uuid.UUID | None
    state: str


def _claim(place: Place, question: Question, again: Again | None) -> Claim | None:
    if not question.idempotency_key:
        return None
    return Claim(
        tenant_id=place.end_user.tenant_id,
        end_user_id=place.end_user.pk,
        key=question.idempotency_key,
        route=again.deed if again else "ask",
        fingerprint=again.fingerprint if again else question.fingerprint,
    )


async def _earlier(connection: Connection, place: Place, claim: Claim, *, anywhere: bool) -> _Earlier | None:
    """The same question elsewhere is another one. anywhere: in whichever conversation with the assistant."""
    turn_id = await idempotency.first_turn(connection, claim)
    if turn_id is None:
        return None
    row = await (await connection.execute(_WHERE, (place.end_user.tenant_id, turn_id))).fetchone()
    if row is None:
        raise NotFound("What was asked with this key has been deleted.")
    assistant_id, conversation_id, state = row
    if assistant_id != place.assistant.pk or (conversation_id != place.conversation_id and not anywhere):
        raise IdempotencyConflict
    return _Earlier(turn_id, conversation_id, state)


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


async def _answerable(
    connection: Connection, caller: Caller, place: Place, question: Question, branch: Branch
) -> Opened:
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
        collections=await collections_of(connection, tenant, assistant) if assistant.passages else [],
        history=branch.history,
        endpoints=gateway.chat_endpoints(tenant, assistant.endpoint_id),
        instructions=question.instructions,
        sampling=question.sampling,
        ends_with=caller.ends_with | {word.replace("member:", "asker:") for word in caller.ends_with},
    )


async def collections_of(connection: Connection, tenant: Tenant, assistant: Assistant) -> list[Collection]:
    """The collections that the assistant may read, with what search needs of their indexes."""
    collections = []
    async for row in await connection.execute(_COLLECTIONS, {"tenant": tenant.pk, "assistant": assistant.pk}):
        values = iter(row)
        collection, index, embedder = _COLLECTION.read(values), _INDEX.read(values), _EMBEDDER.read(values)
        index.endpoint, collection.index = embedder, index
        collections.append(collection)
    return collections


# --- What is written --------------------------------------------------------------------------------------------------

_TOUCH = """
    UPDATE conversations_conversation SET active_at = %s, title = coalesce(nullif(title, ''), %s)
    WHERE tenant_id = %s AND id = %s
"""


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


async def _write_turn(
    connection: Connection,
    caller: Caller,
    question: Question,
    opened: Opened,
    branch: Branch,
    *,
    replica: uuid.UUID,
    again: Again | None,
) -> None:
    tenant = caller.tenant
    turn = Turn(
        id=opened.turn_id,
        tenant=tenant,
        conversation_id=opened.conversation_id,
        assistant=opened.assistant,
        end_user=opened.end_user,
        question_id=opened.question_id,
        parent_id=branch.parent,
        begins=branch.parent is None,
        continues_id=again.continues if again else None,
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
    await ledger.reserve(
        connection,
        tenant,
        turn_id=turn.pk,
        end_user=opened.end_user,
        api_key_id=caller.api_key_id,
        oauth_client_id=caller.oauth_client_id,
        assistant_id=opened.assistant.pk,
        created=branch.moment,
    )
    if opened.conversation_id:
        title = " ".join(opened.text.split())[:TITLE_CHARS]
        await connection.execute(_TOUCH, (branch.moment, title, tenant.pk, opened.conversation_id))
