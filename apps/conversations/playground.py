"""The admin's page that asks an assistant and shows the answer as it streams, over the same socket as every client."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from apps.assistants.models import Assistant
from apps.conversations.models import Conversation
from apps.tenants.admin_access import acts_for_several
from apps.tenants.admin_acting import acting_of


def ask_page(admin: Any, request: HttpRequest) -> HttpResponse:
    """`assistant` in the URL chooses one, `conversation` goes on with one; what is not the user's is ignored."""
    if not admin.has_ask_permission(request):
        raise PermissionDenied
    assistants = Assistant.objects.filter(is_active=True).select_related("tenant")
    if not acts_for_several(request):
        assistants = assistants.filter(tenant=acting_of(request).tenant_id)
    conversation = _conversation(admin, request)
    chosen = str(conversation.assistant_id) if conversation else request.GET.get("assistant", "")
    context: dict[str, Any] = {
        **admin.admin_site.each_context(request),
        "title": "Ask",
        "assistants": assistants.order_by("tenant__name", "name"),
        "by_tenant": acts_for_several(request),
        "chosen": chosen,
        "conversation": conversation,
        "local": settings.LOCAL,
        "max_chars": settings.PARLEY_MAX_QUESTION_CHARS,
    }
    return TemplateResponse(request, "admin/conversations/ask.html", context)


def _conversation(admin: Any, request: HttpRequest) -> Conversation | None:
    """Only one that the user began here: another's is read, not continued."""
    named: Conversation | None = admin.get_object(request, request.GET.get("conversation", ""))
    return named if named is not None and is_own(named, request) else None


def is_own(conversation: Conversation, request: HttpRequest) -> bool:
    """Whether the user asked the assistant themself, on this page."""
    return conversation.end_user.external_id == f"staff:{request.user.email}"  # type: ignore[union-attr]
