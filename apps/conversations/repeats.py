"""A question that was asked before, as its idempotency key says: the turn that it opened then."""

from __future__ import annotations

import uuid
from typing import NamedTuple

from apps.access import idempotency
from apps.access.idempotency import Claim
from apps.conversations.again import Again
from apps.conversations.models import Turn
from apps.conversations.places import Place
from apps.conversations.question import Question
from apps.tenants.models import Tenant
from apps.tenants.pool import Connection
from chatbot.errors import IdempotencyConflict, NotFound

# Of one of whom it may be: the end user that is named, the conversation's or the turn's.
_ASKED_BEFORE = """
    SELECT EXISTS (
        SELECT FROM conversations_idempotencykey k
        WHERE k.tenant_id = %(tenant)s AND k.key = %(key)s AND k.end_user_id IN (
            SELECT id FROM tenants_enduser WHERE tenant_id = %(tenant)s AND external_id = %(user)s
            UNION ALL SELECT end_user_id FROM conversations_conversation WHERE tenant_id = %(tenant)s AND id = %(place)s
            UNION ALL SELECT end_user_id FROM conversations_turn WHERE tenant_id = %(tenant)s AND id = %(place)s
        )
    )
"""
_WHERE = "SELECT assistant_id, conversation_id, state FROM conversations_turn WHERE tenant_id = %s AND id = %s"


class Earlier(NamedTuple):
    """The turn that a key opened already."""

    turn_id: uuid.UUID
    conversation_id: uuid.UUID | None
    state: str

    @property
    def answered(self) -> bool:
        """Whether it got as far as a first word, or still may."""
        return self.state != Turn.State.FAILED


async def asked_before(
    connection: Connection, tenant: Tenant, question: Question, user: str, place: uuid.UUID | None
) -> bool:
    """Whether a question may be a repeat, before anything else is read: by its key alone. place: its conversation, or
    the turn that is answered once more."""
    asked = {"tenant": tenant.pk, "key": question.idempotency_key, "user": user, "place": place}
    row = await (await connection.execute(_ASKED_BEFORE, asked)).fetchone()
    return bool(row and row[0])


def claim_of(place: Place, question: Question, again: Again | None) -> Claim | None:
    if not question.idempotency_key:
        return None
    return Claim(
        tenant_id=place.end_user.tenant_id,
        end_user_id=place.end_user.pk,
        key=question.idempotency_key,
        route=again.deed if again else "ask",
        fingerprint=again.fingerprint if again else question.fingerprint,
    )


async def earlier_of(connection: Connection, place: Place, claim: Claim, *, anywhere: bool) -> Earlier | None:
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
    return Earlier(turn_id, conversation_id, state)
