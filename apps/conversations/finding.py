"""Finds an end user's own conversations by words: in their titles, and in what was said."""

from __future__ import annotations

from django.db.models import Q, QuerySet

from apps.access.authentication import Caller
from apps.conversations.models import Conversation, Message
from apps.conversations.parties import user_for
from chatbot.errors import InvalidRequest

MOST_WORDS = 8
MOST_CHARS = 200


def with_words(rows: QuerySet[Conversation], caller: Caller, text: str, *, user: str = "") -> QuerySet[Conversation]:
    """Those of one end user's conversations in which each word stands somewhere, as a part of a word or whole.

    Raises InvalidRequest. An index leads to the end user's conversations and to the messages of each, so it costs what
    they said and not what the tenant's other end users did; that is why one has to be named.
    """
    whose = user_for(caller, user)
    if not whose:
        raise InvalidRequest(fields={"q": "Name the end user, too: `user`."})
    words = list(dict.fromkeys(text.split()))
    if len(text) > MOST_CHARS or len(words) > MOST_WORDS or "\0" in text:
        raise InvalidRequest(fields={"q": f"Give at most {MOST_WORDS} words of {MOST_CHARS} characters in all."})
    # Not by EXISTS: beside the title's OR, PostgreSQL would gather it for all conversations of the tenant first.
    theirs = Conversation.objects.for_tenant(caller.tenant).filter(end_user__external_id=whose)
    said = Message.objects.for_tenant(caller.tenant).filter(conversation__in=theirs)
    for word in words:
        rows = rows.filter(
            Q(title__icontains=word) | Q(pk__in=said.filter(text__icontains=word).values("conversation"))
        )
    return rows
