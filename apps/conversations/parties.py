"""Who talks to whom: a tenant's assistants and end users as calls name them, and their conversations."""

from __future__ import annotations

import uuid

from django.db.models import Q

from apps.access.authentication import Caller
from apps.assistants.models import Assistant
from apps.conversations.models import Conversation, Turn
from apps.tenants.models import EndUser, Tenant
from apps.tenants.scoping import tenant_scope
from chatbot.errors import NotFound, TurnInProgress

ANONYMOUS = "anonymous"  # the end user of calls that name none


def user_for(caller: Caller, named: str | None = "") -> str:
    """Whom a call concerns: the end user that its credential is bound to, whoever it names, else the one it names."""
    return caller.acts_for or named or ""


def conversation_of(tenant: Tenant, conversation_id: uuid.UUID, *, user: str = "", lock: bool = False) -> Conversation:
    """A tenant's conversation, and `user`'s where one is named. Raises NotFound, the same for another's as for none."""
    rows = Conversation.objects.for_tenant(tenant).select_related("end_user", "assistant__prompt__published")
    if user:
        rows = rows.filter(end_user__external_id=user)
    if lock:
        rows = rows.select_for_update(of=("self",))
    conversation: Conversation | None = rows.filter(pk=conversation_id).first()
    if conversation is None:
        raise NotFound("There is no such conversation.")
    conversation.assistant.tenant = conversation.tenant = tenant
    return conversation


def assistant_of(tenant: Tenant, name: str) -> Assistant:
    """A tenant's active assistant by slug or id. Raises NotFound, the same for another's as for none."""
    rows = Assistant.objects.for_tenant(tenant).select_related("prompt__published").filter(is_active=True)
    # PostgreSQL refuses a NUL even in a comparison, and an address may hold one.
    found = [] if "\0" in name else list(rows.filter(Q(slug=name) | Q(pk=id_in(name))))
    if not found:
        raise NotFound("There is no such assistant.")
    assistant: Assistant = max(found, key=lambda row: row.slug == name)  # a slug may look like another one's id
    assistant.tenant = tenant
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


def delete_conversation(tenant: Tenant, conversation: Conversation) -> None:
    """Delete a conversation with everything in it; its bills stay. Raises TurnInProgress while it is answering."""
    with tenant_scope(tenant):
        locked = conversation_of(tenant, conversation.pk, lock=True)
        if Turn.objects.for_tenant(tenant).filter(conversation=locked, state__in=Turn.OPEN).exists():
            raise TurnInProgress
        locked.delete()
