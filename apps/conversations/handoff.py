"""Talking to a person: a tenant's webhook is told that a conversation's end user wants one."""

from __future__ import annotations

import uuid
from functools import partial

from apps.access.authentication import Caller
from apps.conversations.models import Conversation
from apps.conversations.parties import conversation_of
from apps.edge.errors import ServiceUnavailable
from apps.webhooks.deliveries import Happened, announce
from apps.webhooks.models import Event
from apps.widget.models import Widget, widget_of
from chatbot.errors import InvalidRequest

NOBODY = "Nobody can be reached this way just now. Please use another one."


def hand_off(caller: Caller, conversation_id: uuid.UUID, *, user: str = "", email: str = "", note: str = "") -> None:
    """Tell the tenant's webhooks. Raises NotFound, InvalidRequest where the assistant offers no such thing, and
    ServiceUnavailable where no webhook listens: the end user must not wait for nobody. Call it as one unit."""
    conversation = conversation_of(caller, conversation_id, user=user)
    kind = widget_of(conversation.assistant).handoff
    if kind == Widget.HandOff.EMAIL:
        raise InvalidRequest("This assistant hands over by e-mail, which the reader's own program sends.")
    if kind != Widget.HandOff.WEBHOOK:
        raise InvalidRequest("This assistant hands over to nobody.")
    tell = partial(_told, conversation, email, note)
    if not announce(caller.tenant_id, Event.CONVERSATION_HANDOFF, tell):
        raise ServiceUnavailable(NOBODY)


def _told(conversation: Conversation, email: str, note: str) -> Happened:
    return Happened(
        conversation.assistant_id,
        {
            "conversation": str(conversation.pk),
            "assistant": conversation.assistant.slug,
            "user": conversation.end_user.external_id,
            "email": email,
            "note": note,
        },
    )
