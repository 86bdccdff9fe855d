"""Opens turns: a short transaction finds out what is asked, and writes question, turn and ledger row while Redis
reserves what it may cost. From then on nothing is lost.

A transaction holds one of few connections, so it waits for Redis no longer than Redis takes when it is well. Where that
was not enough, it is rolled back, and another one writes. That one makes sure that nothing was asked meanwhile:
otherwise it all begins again. Every question waits for this, so it is plain SQL (apps/tenants/statements.py says why).
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

from django.utils import timezone

from apps.access.authentication import Caller
from apps.assistants.models import Assistant
from apps.conversations import charging
from apps.conversations.again import Again, Deed, again_of
from apps.conversations.branches import Branch, branch_of, walk
from apps.conversations.bringing import attached_to, brought_by, chars_of
from apps.conversations.committing import commit
from apps.conversations.parties import ANONYMOUS
from apps.conversations.places import Place, alone, in_conversation, meet_again
from apps.conversations.question import Question
from apps.conversations.repeats import asked_before, claim_of, earlier_of
from apps.conversations.reserving import LateError, Reservation
from apps.conversations.turn import Opened
from apps.conversations.writing import Planned, write
from apps.edge import turnstile
from apps.inference import gateway
from apps.inference.models import Endpoint
from apps.knowledge.models import Collection, EmbeddingIndex
from apps.tenants.models import Tenant
from apps.tenants.pool import Connection
from apps.tenants.statements import Columns, transaction
from apps.usage import remembering
from apps.usage.limits import limits_of
from apps.usage.meter import Reserved
from chatbot.errors import InvalidRequest, NotFound, QuotaExceeded, RateLimited, TurnInProgress

TRIES = 3
# That a transaction waits for Redis: many times what it takes, and little enough for the others who want a connection.
HELD_SECONDS = 0.02
# After it, the same question that was sent at once with this one is written, if it was the one that got through.
TWIN_SECONDS = 0.1


async def open_turn(
    caller: Caller, conversation_id: uuid.UUID, question: Question, *, replica: uuid.UUID
) -> Opened | uuid.UUID:
    """Write the question and its turn. A repeat (by idempotency key) gets the id of its first turn, and costs nothing.

    Raises NotFound, TurnInProgress, IdempotencyConflict, InvalidRequest where the assistant is not ready to answer,
    QuotaExceeded or RateLimited.
    """

    async def plan(connection: Connection) -> Planned | uuid.UUID:
        place = await in_conversation(connection, caller, conversation_id, question.user)
        return await _plan(connection, caller, place, question)

    return await _open(caller, question, plan, replica, place=conversation_id)


async def open_first_turn(
    caller: Caller, assistant: str, question: Question, *, replica: uuid.UUID
) -> Opened | uuid.UUID:
    """The same in a new conversation with an assistant, named by slug or id. A repeat begins none.

    Raises InvalidRequest where there is no such assistant.
    """

    async def plan(connection: Connection) -> Planned | uuid.UUID:
        try:
            place = await alone(connection, caller, assistant, question.user)
        except NotFound as error:
            raise InvalidRequest(fields={"assistant": error.message}) from error
        return await _plan(connection, caller, place, question, begin=True)

    return await _open(caller, question, plan, replica, user=question.user or ANONYMOUS)


async def open_lone_turn(
    caller: Caller, assistant: str, question: Question, *, replica: uuid.UUID
) -> Opened | uuid.UUID:
    """The same for a turn without a conversation: the asker brings the history. `assistant` is a slug or an id."""

    async def plan(connection: Connection) -> Planned | uuid.UUID:
        place = await alone(connection, caller, assistant, question.user)
        return await _plan(connection, caller, place, question)

    return await _open(caller, question, plan, replica, user=question.user or ANONYMOUS)


async def open_again(
    caller: Caller, turn_id: uuid.UUID, asked: Question, deed: Deed, *, replica: uuid.UUID
) -> Opened | uuid.UUID:
    """The same for the question of a turn, answered once more beside it. `asked` says who asks, and how a repeat of
    this request is known; what is asked is the turn's. Raises as again_of() does, too."""

    async def plan(connection: Connection) -> Planned | uuid.UUID:
        again = await again_of(connection, caller, turn_id, asked.user, deed)
        place = await in_conversation(connection, caller, again.conversation_id, asked.user)
        return await _plan(connection, caller, place, replace(asked, text=again.text), again=again)

    return await _open(caller, asked, plan, replica, place=turn_id)


async def _open(
    caller: Caller,
    question: Question,
    plan: Callable[[Connection], Awaitable[Planned | uuid.UUID]],
    replica: uuid.UUID,
    *,
    user: str = "",
    place: uuid.UUID | None = None,
) -> Opened | uuid.UUID:
    """user: the end user, where the call says who it is. place: the conversation or turn that it names."""
    await gateway.pool()  # the endpoints, before the transaction
    limited = bool(await limits_of(caller.tenant))
    if limited:
        await _turn_away(caller, question, user or question.user, place)
    twin = bool(question.idempotency_key)
    for _ in range(TRIES):
        try:
            found = await _attempt(caller, plan, replica, limited=limited)
        except (QuotaExceeded, RateLimited):
            if not twin:
                raise
            twin, found = False, None  # its own first sending may hold what it asks for
            turnstile.step_aside()
            await asyncio.sleep(TWIN_SECONDS)
        if found is not None:
            return found
    raise TurnInProgress


async def _attempt(
    caller: Caller,
    plan: Callable[[Connection], Awaitable[Planned | uuid.UUID]],
    replica: uuid.UUID,
    *,
    limited: bool,
) -> Opened | uuid.UUID | None:
    """Plan, and write while Redis reserves. None where something else was asked meanwhile."""
    reservation: Reservation | None = None
    written: Opened | uuid.UUID | None = None

    async def work(connection: Connection) -> Opened | uuid.UUID | None:
        nonlocal reservation
        planned = await plan(connection)
        if isinstance(planned, uuid.UUID):
            return planned
        if not limited:
            return await write(connection, planned, partial(_unlimited, planned), replica)
        reservation = Reservation(planned)
        if remembering.was_refused(caller.tenant):  # and is likely to be again: then nothing needs to be rolled back
            await reservation.within(HELD_SECONDS)
        return await write(connection, planned, partial(reservation.within, HELD_SECONDS), replica)

    try:
        written = await commit(caller.tenant, work)
    except LateError as late:
        written = await _write_late(late.reservation, replica)
    finally:
        if reservation and not isinstance(written, Opened):
            await reservation.give_back()
    return written


async def _unlimited(planned: Planned) -> Reserved:
    return Reserved(charging.most(planned.opened))


async def _write_late(reservation: Reservation, replica: uuid.UUID) -> Opened | uuid.UUID | None:
    planned = reservation.planned
    await reservation.made()

    async def work(connection: Connection) -> Opened | uuid.UUID | None:
        if not await meet_again(connection, planned.place.end_user):
            return None
        return await write(connection, planned, reservation.made, replica)

    return await commit(planned.caller.tenant, work)


async def _turn_away(caller: Caller, question: Question, user: str, place: uuid.UUID | None) -> None:
    """Refuse before anything is read, where that is certain; a flood of questions costs others little then."""
    try:
        await charging.look(caller, user)
    except (QuotaExceeded, RateLimited):
        if not question.idempotency_key:
            raise
        turnstile.step_aside()
        await asyncio.sleep(TWIN_SECONDS)
        async with transaction(caller.tenant) as connection:
            repeated = await asked_before(connection, caller.tenant, question, user, place)
        if not repeated:
            raise


async def _plan(
    connection: Connection,
    caller: Caller,
    place: Place,
    question: Question,
    *,
    again: Again | None = None,
    begin: bool = False,
) -> Planned | uuid.UUID:
    claim = claim_of(place, question, again)
    earlier = await earlier_of(connection, place, claim, anywhere=begin) if claim else None
    if earlier and earlier.answered:
        return earlier.turn_id
    if earlier and earlier.conversation_id and not again:
        # It failed before its first word, so there is no answer to repeat: its question is answered once more.
        again = await again_of(connection, caller, earlier.turn_id, question.user, Deed.REGENERATE)
        place = await in_conversation(connection, caller, again.conversation_id, question.user)
        begin = False
    if begin and (question.edits or question.parent):
        raise NotFound("There is no such turn.")  # not in a conversation that is yet to begin
    if place.busy:
        raise TurnInProgress
    branch = await _branch(connection, caller.tenant, place, question, again)
    opened = await _answerable(connection, caller, place, question, branch)
    asked = [again.question_id] if again else []
    chars = chars_of(place.assistant, opened.endpoints)
    brought = () if again else await brought_by(connection, place, question, chars)
    if again:
        opened = replace(opened, question_id=again.question_id, begun=again.begun)
    before = await attached_to(connection, place.assistant, [*asked, *branch.questions], chars)
    opened = replace(opened, attachments=list(dict.fromkeys([*brought, *before])))
    return Planned(caller, question, place, branch, opened, claim, again, begin, [each.pk for each in brought])


async def _branch(
    connection: Connection, tenant: Tenant, place: Place, question: Question, again: Again | None
) -> Branch:
    if again:
        return await walk(connection, tenant, again.conversation_id, again.parent)
    if place.conversation_id:
        return await branch_of(connection, tenant, place.conversation_id, question)
    return Branch(None, question.history, timezone.now())


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
        attachments=(),
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
