"""A question that is answered once more: its new turn stands beside the one that answered it, and both stay."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from apps.access.authentication import Caller
from apps.conversations.branches import PARENT
from apps.conversations.models import Turn
from apps.conversations.turn import Begun
from apps.tenants.pool import Connection
from chatbot.errors import InvalidRequest, NotFound, TurnInProgress
from chatbot.events import Source

_TURN = f"""
    SELECT t.assistant_id, t.conversation_id, t.question_id, q.text, {PARENT},
        t.state, t.finish_reason, coalesce(n.text, ''), t.sources
    FROM conversations_turn t
    JOIN tenants_enduser e ON e.id = t.end_user_id
    JOIN conversations_message q ON q.id = t.question_id
    LEFT JOIN conversations_message n ON n.id = t.answer_id
    WHERE t.tenant_id = %(tenant)s AND t.id = %(turn)s AND %(user)s IN ('', e.external_id)
"""  # noqa: S608 - put together from names of ours


class Deed(StrEnum):
    REGENERATE = "regenerate"
    CONTINUE = "continue"


@dataclass(frozen=True, slots=True)
class Again:
    """The turn whose question is answered once more, and the turn before it. begun: what the new answer begins with."""

    deed: Deed
    turn_id: uuid.UUID
    conversation_id: uuid.UUID
    question_id: uuid.UUID
    text: str
    parent: uuid.UUID | None
    begun: Begun | None = None

    @property
    def continues(self) -> uuid.UUID | None:
        return self.turn_id if self.deed == Deed.CONTINUE else None

    @property
    def fingerprint(self) -> str:
        """The same for a repeat, and for nothing else that the same key may stand before."""
        return hashlib.sha256(f"{self.deed} {self.turn_id}".encode()).hexdigest()


async def again_of(connection: Connection, caller: Caller, turn_id: uuid.UUID, user: str, deed: Deed) -> Again:
    """A turn within reach, and `user`'s where one is named, to be answered once more.

    Raises NotFound, the same for another's as for none; InvalidRequest for a turn without a conversation, and to
    continue what has come to its end; TurnInProgress to continue what is still being answered.
    """
    found = await connection.execute(_TURN, {"tenant": caller.tenant.pk, "turn": turn_id, "user": user})
    row = await found.fetchone()
    if row is None or not caller.reaches(row[0]):
        raise NotFound("There is no such turn.")
    _, conversation_id, question_id, text, parent, state, finish_reason, said, sources = row
    if conversation_id is None:
        raise InvalidRequest("This turn has no conversation: the client that keeps the talk asks it again.")
    again = Again(deed, turn_id, conversation_id, question_id, text, parent)
    if deed == Deed.REGENERATE:
        return again
    if state in Turn.OPEN:
        raise TurnInProgress
    if not said or not (state in {Turn.State.STOPPED, Turn.State.INTERRUPTED} or finish_reason == "length"):
        raise InvalidRequest("Only an answer that was stopped, interrupted or cut off at its longest can be continued.")
    return replace(again, begun=begun_by(state, said, sources))


def begun_by(state: str, said: str, sources: Sequence[dict[str, Any]]) -> Begun:
    """What a turn that goes on with another one's answer begins with: with what that one said."""
    # An interrupted answer was nobody's to pay for; the others are paid for as far as they went.
    paid = 0 if state == Turn.State.INTERRUPTED else len(said)
    return Begun(said, tuple(Source(**source) for source in sources), paid=paid)
