"""Opens and closes turns: two short transactions that between them lose nothing and bill once."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from django.db import IntegrityError, connection
from django.utils import timezone

from apps.assistants.models import Assistant, PromptVersion
from apps.conversations import announcing
from apps.conversations.models import Conversation, IdempotencyKey, Message, Turn
from apps.conversations.parties import assistant_of, conversation_of, end_user_of
from apps.conversations.question import NOT_SAID, Question, Sampling
from apps.inference import gateway
from apps.knowledge.models import Collection
from apps.tenants.authentication import Caller
from apps.tenants.models import EndUser, Tenant
from apps.usage import ledger
from apps.usage.models import UsageRecord
from chatbot.errors import IdempotencyConflict, InvalidRequest, ParleyError, TurnInProgress
from chatbot.events import Source, Timings, Usage
from chatbot.inference.endpoint import Endpoint

# More turns than any context window holds; the packing decides how many of them the model sees.
HISTORY_TURNS = 20
TITLE_CHARS = 80


@dataclass(frozen=True, slots=True)
class Opened:
    """An accepted question and everything needed to answer it, so that no database is needed until it closes."""

    tenant: Tenant
    turn_id: uuid.UUID
    epoch: int
    conversation_id: uuid.UUID | None
    question_id: uuid.UUID
    text: str
    end_user: EndUser
    assistant: Assistant
    prompt: PromptVersion
    collections: Sequence[Collection]
    history: Sequence[tuple[str, str]]
    endpoints: Sequence[Endpoint]  # that may answer, first one first
    instructions: str = ""  # the asker's own, after the prompt
    sampling: Sampling = NOT_SAID


@dataclass(slots=True)
class Outcome:
    """How a turn ended; it is filled while the turn runs, so that whatever happens, what is known is kept."""

    state: Turn.State = Turn.State.RUNNING
    bill: UsageRecord.Bill = UsageRecord.Bill.LOSS
    finish_reason: str = ""
    text: str = ""
    sources: list[Source] = field(default_factory=list)
    citations: list[Source] = field(default_factory=list)
    usage: Usage = field(default_factory=lambda: Usage(0, 0, estimated=True))
    timings: Timings = field(default_factory=Timings)
    endpoint_id: uuid.UUID | None = None
    error: ParleyError | None = None
    last_seq: int = 0


def open_turn(caller: Caller, conversation_id: uuid.UUID, question: Question, *, replica: uuid.UUID) -> Opened | Turn:
    """Write question, turn and ledger row: from here on nothing is lost. A repeat (by idempotency key) gets its turn.

    Call it as one unit. Raises NotFound, TurnInProgress, IdempotencyConflict, or InvalidRequest where the assistant
    is not ready to answer.
    """
    tenant = caller.tenant
    conversation = conversation_of(tenant, conversation_id, user=question.user, lock=True)
    earlier = _earlier(tenant, conversation.assistant, conversation.end_user, question, conversation)
    if earlier is not None:
        return earlier
    opened = _answerable(tenant, conversation.assistant, conversation.end_user, question, conversation)
    _write(caller, question, opened, replica)
    conversation.active_at = timezone.now()
    conversation.title = conversation.title or " ".join(question.text.split())[:TITLE_CHARS]
    conversation.save(update_fields=["active_at", "title"])
    return opened


def open_lone_turn(caller: Caller, assistant: str, question: Question, *, replica: uuid.UUID) -> Opened | Turn:
    """The same for a turn without a conversation: the asker brings the history. `assistant` is a slug or an id.

    Call it as one unit. Raises NotFound, IdempotencyConflict, or InvalidRequest where the assistant is not ready.
    """
    tenant = caller.tenant
    asked, end_user = assistant_of(tenant, assistant), end_user_of(tenant, question.user)
    earlier = _earlier(tenant, asked, end_user, question)
    if earlier is not None:
        return earlier
    opened = _answerable(tenant, asked, end_user, question)
    _write(caller, question, opened, replica)
    return opened


def _earlier(
    tenant: Tenant,
    assistant: Assistant,
    end_user: EndUser,
    question: Question,
    conversation: Conversation | None = None,
) -> Turn | None:
    """The turn that this key already opened. Repeats sent at once wait here for the first one to commit."""
    if not question.idempotency_key:
        return None
    with connection.cursor() as cursor:
        name = f"{tenant.pk}/{end_user.pk}/{question.idempotency_key}"
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [name])
    claim = (
        IdempotencyKey.objects.for_tenant(tenant)
        .filter(end_user=end_user, key=question.idempotency_key)
        .select_related("turn")
        .first()
    )
    if claim is None:
        return None
    turn: Turn = claim.turn
    place = (assistant.pk, conversation.pk if conversation else None)
    if claim.fingerprint != question.fingerprint or (turn.assistant_id, turn.conversation_id) != place:
        raise IdempotencyConflict
    return turn


def _answerable(
    tenant: Tenant,
    assistant: Assistant,
    end_user: EndUser,
    question: Question,
    conversation: Conversation | None = None,
) -> Opened:
    """What answering needs. Raises InvalidRequest where the assistant is not ready to answer."""
    if not assistant.is_active:
        raise InvalidRequest("This assistant is switched off.")
    if assistant.prompt.published is None:
        raise InvalidRequest("This assistant's prompt has no published version.")
    collections = Collection.objects.for_tenant(tenant).filter(assistants=assistant).select_related("index__endpoint")
    return Opened(
        tenant=tenant,
        turn_id=uuid.uuid4(),
        epoch=1,
        conversation_id=conversation.pk if conversation else None,
        question_id=uuid.uuid4(),
        text=question.text,
        end_user=end_user,
        assistant=assistant,
        prompt=assistant.prompt.published,
        collections=list(collections) if assistant.passages else [],
        history=_history(tenant, conversation) if conversation else question.history,
        endpoints=gateway.chat_endpoints(tenant, assistant.endpoint_id),
        instructions=question.instructions,
        sampling=question.sampling,
    )


def _history(tenant: Tenant, conversation: Conversation) -> list[tuple[str, str]]:
    """Questions with their answers, oldest first; of a question answered several times, the latest answer."""
    pairs = (
        Turn.objects.for_tenant(tenant)
        .filter(conversation=conversation, answer__isnull=False)
        .exclude(answer__text="")
        .order_by("-created")
        .values_list("question_id", "question__text", "answer__text")[:HISTORY_TURNS]
    )
    latest: dict[uuid.UUID, tuple[str, str]] = {}
    for question_id, asked, answered in pairs:
        latest.setdefault(question_id, (asked, answered))
    return list(latest.values())[::-1]


def _write(caller: Caller, question: Question, opened: Opened, replica: uuid.UUID) -> None:
    tenant = caller.tenant
    place = _place(opened.conversation_id, opened.turn_id)
    Message.objects.create(id=opened.question_id, tenant=tenant, role=Message.Role.USER, text=question.text, **place)
    try:
        turn = Turn.objects.create(
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
            client_id=question.client_id,
            request_id=question.request_id,
        )
    except IntegrityError as error:
        if "turn_one_open_per_conversation" in str(error):
            raise TurnInProgress from error
        raise
    if question.idempotency_key:
        IdempotencyKey.objects.create(
            tenant=tenant,
            end_user=opened.end_user,
            key=question.idempotency_key,
            fingerprint=question.fingerprint,
            turn=turn,
        )
    ledger.reserve(
        tenant,
        turn_id=turn.pk,
        end_user=opened.end_user,
        api_key_id=caller.api_key_id,
        assistant_id=opened.assistant.pk,
    )


def _place(conversation_id: uuid.UUID | None, turn_id: uuid.UUID) -> dict[str, uuid.UUID]:
    """Where a message belongs: to the conversation, or to the turn where there is none."""
    return {"conversation_id": conversation_id} if conversation_id else {"turn_id": turn_id}


def close_turn(
    tenant: Tenant,
    turn_id: uuid.UUID,
    epoch: int,
    outcome: Outcome,
    *,
    conversation_id: uuid.UUID | None,
    answer_id: uuid.UUID,
) -> bool:
    """Write answer, state and bill, if the turn is still open in this epoch: whoever comes second gets False.

    A turn that failed before its first word has no answer. Call it as one unit.
    """
    error = outcome.error
    has_answer = bool(outcome.text) or outcome.state in {Turn.State.FINISHED, Turn.State.STOPPED}
    won = (
        Turn.objects.for_tenant(tenant)
        .filter(pk=turn_id, epoch=epoch, state__in=Turn.OPEN)
        .update(
            state=outcome.state,
            answer_id=answer_id if has_answer else None,
            endpoint_id=outcome.endpoint_id,
            finish_reason=outcome.finish_reason,
            error_code=error.code if error else "",
            error_message=error.message[:500] if error else "",
            sources=[asdict(source) for source in outcome.sources],
            prompt_tokens=outcome.usage.prompt_tokens,
            completion_tokens=outcome.usage.completion_tokens,
            usage_estimated=outcome.usage.estimated,
            search_ms=outcome.timings.search_ms,
            first_token_ms=outcome.timings.first_token_ms,
            total_ms=outcome.timings.total_ms,
            last_seq=outcome.last_seq,
            closed_at=timezone.now(),
        )
    )
    if not won:
        return False
    if has_answer:
        Message.objects.create(
            id=answer_id,
            tenant=tenant,
            role=Message.Role.ASSISTANT,
            text=outcome.text,
            citations=[asdict(source) for source in outcome.citations],
            **_place(conversation_id, turn_id),
        )
    ledger.settle(tenant, turn_id=turn_id, bill=outcome.bill, usage=outcome.usage, endpoint_id=outcome.endpoint_id)
    announcing.turn_finished(tenant, turn_id)
    return True
