"""Who talks to whom: a tenant's assistants and end users as calls name them, and their conversations."""

from __future__ import annotations

import uuid
from typing import TypeVar

from django.db import models
from django.db.models import Q, QuerySet

from apps.access.authentication import Caller
from apps.assistants.models import Assistant
from apps.conversations.models import Conversation, Turn
from apps.tenants.models import EndUser, Tenant
from apps.tenants.scoping import TenantQuerySet, tenant_scope
from chatbot.errors import NotFound, TurnInProgress

M = TypeVar("M", bound=models.Model)
ANONYMOUS = "anonymous"  # the end user of calls that name none


def within_reach(rows: TenantQuerySet[M], caller: Caller, named: str | None = "") -> TenantQuerySet[M]:
    """Of conversations or turns those that the caller may touch: with its assistants, and of the end user whom its
    credential is bound to, whoever is named, or else of the one named."""
    rows = rows.for_tenant(caller.tenant)
    if caller.assistant_ids is not None:
        rows = rows.filter(assistant__in=caller.assistant_ids)
    if user := user_for(caller, named):
        rows = rows.filter(end_user__external_id=user)
    return rows


def user_for(caller: Caller, named: str | None = "") -> str:
    """Whom a call concerns: the end user that its credential is bound to, whoever it names, else the one it names."""
    return caller.acts_for or named or ""


def conversation_of(caller: Caller, conversation_id: uuid.UUID, *, user: str = "", lock: bool = False) -> Conversation:
    """A conversation within reach, and `user`'s where one is named.

    Raises NotFound, the same for another's as for none.
    """
    rows = within_reach(Conversation.objects.select_related("end_user", "assistant__prompt__published"), caller, user)
    if lock:
        rows = rows.select_for_update(of=("self",))
    conversation: Conversation | None = rows.filter(pk=conversation_id).first()
    if conversation is None:
        raise NotFound("There is no such conversation.")
    conversation.assistant.tenant = conversation.tenant = caller.tenant
    return conversation


def assistants_of(caller: Caller) -> QuerySet[Assistant]:
    """The active assistants that the caller may ask."""
    rows: QuerySet[Assistant] = Assistant.objects.for_tenant(caller.tenant).filter(is_active=True)
    return rows if caller.assistant_ids is None else rows.filter(pk__in=caller.assistant_ids)


def assistant_of(caller: Caller, name: str) -> Assistant:
    """One of them by slug or id. Raises NotFound, the same for another's as for none."""
    rows = assistants_of(caller).select_related("prompt__published")
    # PostgreSQL refuses a NUL even in a comparison, and an address may hold one.
    found = [] if "\0" in name else list(rows.filter(Q(slug=name) | Q(pk=id_in(name))))
    if not found:
        raise NotFound("There is no such assistant.")
    assistant: Assistant = max(found, key=lambda row: row.slug == name)  # a slug may look like another one's id
    assistant.tenant = caller.tenant
    return assistant


def id_in(name: str) -> uuid.UUID | None:
    """The id that an assistant is named by; None where the name can only be a slug."""
    try:
        return uuid.UUID(name)
    except ValueError:
        return None


def end_user_of(tenant: Tenant, user: str) -> EndUser:
    """The end user whom the tenant calls `user`, known from now on."""
    end_user, _ = EndUser.objects.get_or_create(tenant=tenant, external_id=user or ANONYMOUS)
    return end_user


def start_conversation(tenant: Tenant, assistant: Assistant, *, user: str = "", title: str = "") -> Conversation:
    """A new conversation of the end user whom the tenant calls `user`."""
    conversation: Conversation = Conversation.objects.create(
        tenant=tenant, assistant=assistant, end_user=end_user_of(tenant, user), title=title
    )
    return conversation


def delete_conversation(caller: Caller, conversation: Conversation) -> None:
    """Delete a conversation with everything in it; its bills stay. Raises TurnInProgress while it is answering."""
    with tenant_scope(caller):
        locked = conversation_of(caller, conversation.pk, lock=True)
        if Turn.objects.for_tenant(caller.tenant).filter(conversation=locked, state__in=Turn.OPEN).exists():
            raise TurnInProgress
        locked.delete()
