"""The admin's page that asks an assistant and shows the answer as it streams, over the same socket as every client."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from apps.assistants.models import Assistant
from apps.conversations.models import Conversation
from apps.tenants.admin_access import acts_for_several, is_operator, tenants_of
from apps.tenants.admin_base import TenantAdmin


def ask_page(admin: TenantAdmin, request: HttpRequest) -> HttpResponse:
    """`assistant` in the URL chooses one, `conversation` goes on with one; what is not the user's is ignored."""
    assistants = Assistant.objects.filter(is_active=True).select_related("tenant")
    if not is_operator(request):
        assistants = assistants.filter(tenant__in=tenants_of(request))
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


def _conversation(admin: TenantAdmin, request: HttpRequest) -> Conversation | None:
    """Only one that the user began here: another's is read, not continued."""
    named: Conversation | None = admin.get_object(request, request.GET.get("conversation", ""))
    if named is None or named.end_user.external_id != f"staff:{request.user.email}":  # type: ignore[union-attr]
        return None
    return named
