"""Links that show a conversation to whoever has them: made, ended, and read."""

from __future__ import annotations

import datetime
import hashlib
import secrets
import uuid
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import connection
from django.urls import reverse
from django.utils import timezone

from apps.access.authentication import Caller
from apps.conversations.branches import PARENT
from apps.conversations.models import Conversation, Share, Turn
from apps.conversations.parties import conversation_of
from apps.tenants import lookups
from apps.tenants.scoping import tenant_scope
from apps.widget.dressing import shared_settings
from apps.widget.models import widget_of
from chatbot.errors import InvalidRequest

TOKEN_BYTES = 32
TOKEN_CHARS = 43
MOST_SHARES = 20  # of a conversation at the same time
MOST_TURNS = 500
# From the shared turn to the beginning, over turns that a release wrote which knew no branches, too.
_BRANCH = f"""
    WITH RECURSIVE branch AS (
        SELECT t.id, t.tenant_id, {PARENT} AS follows, 1 AS place FROM conversations_turn t
        WHERE t.tenant_id = %(tenant)s AND t.conversation_id = %(conversation)s AND t.id = %(turn)s
        UNION ALL
        SELECT t.id, t.tenant_id, {PARENT}, b.place + 1 FROM branch b JOIN conversations_turn t ON t.id = b.follows
        WHERE t.tenant_id = %(tenant)s AND t.conversation_id = %(conversation)s AND b.place < %(most)s
    )
    SELECT id FROM branch ORDER BY place DESC
"""  # noqa: S608 - put together from names of ours


@dataclass(frozen=True, slots=True)
class Shared:
    """What a link shows: how the widget looks, the conversation's title, and its turns as the page embeds them."""

    settings: dict[str, Any]
    title: str
    turns: list[dict[str, Any]]


def share(
    caller: Caller,
    conversation_id: uuid.UUID,
    *,
    user: str = "",
    turn: uuid.UUID | None = None,
    days: int | None = None,
) -> tuple[Share, str]:
    """A new link to the branch that ends with `turn`, or with the latest answered one; and its address.

    Raises NotFound, and InvalidRequest where nothing was answered yet or there are too many links. Call it as one unit.
    """
    conversation = conversation_of(caller, conversation_id, user=user, lock=True)
    shares = Share.objects.for_tenant(caller.tenant).filter(conversation=conversation)
    now = timezone.now()
    shares.filter(expires_at__lte=now).delete()
    if shares.count() >= MOST_SHARES:
        raise InvalidRequest(f"A conversation has {MOST_SHARES} links at most. End them first.")
    token = secrets.token_urlsafe(TOKEN_BYTES)
    made: Share = Share.objects.create(
        tenant=caller.tenant,
        conversation=conversation,
        turn=_last(conversation, turn),
        digest=digest(token),
        created=now,
        expires_at=now + datetime.timedelta(days=days) if days else None,
    )
    return made, settings.PARLEY_BASE_URL.rstrip("/") + reverse("shared_page", args=[token])


def unshare(caller: Caller, conversation_id: uuid.UUID, *, user: str = "") -> int:
    """End all links of a conversation; how many there were. Raises NotFound."""
    conversation = conversation_of(caller, conversation_id, user=user, lock=True)
    ended, _ = Share.objects.for_tenant(caller.tenant).filter(conversation=conversation).delete()
    return int(ended)


def digest(token: str) -> bytes:
    """The token is random and long enough that nobody finds it by its digest."""
    return hashlib.sha256(token.encode()).digest()


def _last(conversation: Conversation, turn: uuid.UUID | None) -> Turn:
    rows = _answered(conversation)
    if turn is not None:
        found = rows.filter(pk=turn).first()
        if found is None:
            raise InvalidRequest(fields={"turn": "There is no such answered turn in this conversation."})
    else:
        found = rows.order_by("-created").first()
        if found is None:
            raise InvalidRequest("There is nothing to share yet: nothing was answered.")
    last: Turn = found
    return last


def _answered(conversation: Conversation) -> Any:
    rows = Turn.objects.for_tenant(conversation.tenant_id).filter(conversation=conversation, answer__isnull=False)
    return rows.exclude(state__in=Turn.OPEN)


def shown(token: str) -> Shared | None:
    """What a link shows; None for one that never was, has ended or expired, or of a suspended tenant."""
    if len(token) != TOKEN_CHARS or not token.isascii():
        return None
    for tenant_id, share_id in lookups.call("share_of", digest(token)):
        with tenant_scope(tenant_id):
            rows = Share.objects.for_tenant(tenant_id).select_related("tenant", "conversation__assistant")
            found = rows.filter(pk=share_id, tenant__is_active=True).first()
            if found and (found.expires_at is None or found.expires_at > timezone.now()):
                return _shown(found)
    return None


def _shown(found: Share) -> Shared:
    conversation = found.conversation
    places: dict[str, Any] = {
        "tenant": found.tenant_id,
        "conversation": conversation.pk,
        "turn": found.turn_id,
        "most": MOST_TURNS,
    }
    with connection.cursor() as cursor:
        cursor.execute(_BRANCH, places)
        branch = [turn_id for (turn_id,) in cursor.fetchall()]
    # What was still being answered when the link was made came later than what was shared.
    rows = _answered(conversation).filter(pk__in=branch, closed_at__lte=found.created)
    rows = rows.select_related("question", "answer").prefetch_related("question__attachments")
    turns = {turn.pk: turn for turn in rows}
    return Shared(
        settings=shared_settings(found.tenant, widget_of(conversation.assistant)),
        title=conversation.title,
        turns=[_turn(turns[turn_id]) for turn_id in branch if turn_id in turns],
    )


def _turn(turn: Any) -> dict[str, Any]:
    return {
        "question": turn.question.text,
        "attachments": [attachment.name for attachment in turn.question.attachments.all()],
        "answer": turn.answer.text,
        "citations": [_citation(source) for source in turn.answer.citations],
        "asked": int(turn.created.timestamp() * 1000),
    }


def _citation(source: dict[str, Any]) -> dict[str, Any]:
    """What was quoted, and not where Parley keeps it."""
    kept = {name: source.get(name) for name in ("n", "title", "heading", "page", "text")}
    return {**kept, "document": ""}
