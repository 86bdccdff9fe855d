"""What a turn is between its two short transactions, and the second of them: closing (opening.py has the first)."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from django.db.models.functions import Now

from apps.assistants.models import Assistant, PromptVersion
from apps.conversations import announcing
from apps.conversations.models import Attachment, Message, Turn
from apps.conversations.question import NOT_SAID, Sampling
from apps.edge.ratelimit_headers import Limit
from apps.knowledge.models import Collection
from apps.tenants.models import EndUser, Tenant
from apps.usage import ledger
from apps.usage.models import UsageRecord
from chatbot.errors import ParleyError
from chatbot.events import Source, Timings, Usage
from chatbot.inference.asker import Rank
from chatbot.inference.endpoint import Endpoint
from chatbot.inference.story import Story
from chatbot.quota import Amounts


@dataclass(frozen=True, slots=True)
class Begun:
    """What an answer begins with, that was said before: by a process that is gone, or in another turn.

    told: whether the turn's readers have it. paid: how many of its characters were paid for, with another turn.
    """

    text: str
    sources: Sequence[Source]
    told: bool = False
    paid: int = 0


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
    attachments: Sequence[Attachment]  # of the question, then of those before it
    endpoints: Sequence[Endpoint]  # that may answer, first one first
    instructions: str = ""  # the asker's own, after the prompt
    sampling: Sampling = NOT_SAID
    ends_with: frozenset[str] = frozenset()  # what, announced as ended, stops the answer
    begun: Begun | None = None
    unmetered: bool = False  # Redis did not say whether the limits allow it: it is kept, and not answered
    standing: Sequence[Limit] = ()  # what the asker's limits leave, to be told

    @property
    def rank(self) -> Rank:
        """Where not everybody can be served, visitors, who are nobody's customers yet, go first."""
        return Rank.VISITOR if any(name.startswith("visitor:") for name in self.ends_with) else Rank.INTERACTIVE


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
    story: Story = field(default_factory=Story)  # how the model server was found
    used: Amounts | None = None  # what the ledger has settled, here


def place_of(conversation_id: uuid.UUID | None, turn_id: uuid.UUID) -> dict[str, Any]:
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

    A turn that failed before its first word has no answer. Call it as one unit, and again with the same `answer_id`
    where nobody knows whether it was committed.
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
            partial="",
            sources=[asdict(source) for source in outcome.sources],
            prompt_tokens=outcome.usage.prompt_tokens,
            completion_tokens=outcome.usage.completion_tokens,
            usage_estimated=outcome.usage.estimated,
            search_ms=outcome.timings.search_ms,
            first_token_ms=outcome.timings.first_token_ms,
            total_ms=outcome.timings.total_ms,
            degraded=outcome.timings.degraded,
            last_seq=outcome.last_seq,
            story=asdict(outcome.story) if outcome.story.considered else {},
            closed_at=Now(),
        )
    )
    if not won:
        return Turn.objects.for_tenant(tenant).filter(pk=turn_id, epoch=epoch, answer_id=answer_id).exists()
    if has_answer:
        Message.objects.create(
            id=answer_id,
            tenant=tenant,
            role=Message.Role.ASSISTANT,
            text=outcome.text,
            citations=[asdict(source) for source in outcome.citations],
            created=Now(),  # by the clock that dated the question, whichever process this is
            **place_of(conversation_id, turn_id),
        )
    outcome.used = ledger.settle(
        tenant, turn_id=turn_id, bill=outcome.bill, usage=outcome.usage, endpoint_id=outcome.endpoint_id
    )
    announcing.turn_finished(tenant, turn_id)
    return True


def keep_partial(tenant: Tenant, turn_id: uuid.UUID, epoch: int, outcome: Outcome) -> bool:
    """Note what was said so far, in case that this process and Redis end together. False where the turn is no longer
    open in this epoch."""
    sources = [asdict(source) for source in outcome.sources]
    open_turn = Turn.objects.for_tenant(tenant).filter(pk=turn_id, epoch=epoch, state__in=Turn.OPEN)
    return bool(open_turn.update(partial=outcome.text, sources=sources))
