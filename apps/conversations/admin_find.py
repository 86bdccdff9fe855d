"""The one page that support has: the id of a conversation, which somebody named, opens it to be read."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from unfold.widgets import UnfoldAdminTextInputWidget

from apps.conversations.models import Conversation
from apps.tenants import audit

UNKNOWN = "There is no conversation with this id. Check that the whole id was copied."


class FindForm(forms.Form):
    conversation = forms.UUIDField(
        label="Conversation id",
        error_messages={"invalid": UNKNOWN},
        widget=UnfoldAdminTextInputWidget(
            attrs={"autocomplete": "off", "spellcheck": "false", "placeholder": "6f9619ff-8b86-d011-b42d-00cf4fc964ff"}
        ),
    )


def find_page(admin: Any, request: HttpRequest) -> HttpResponse:
    """admin: the page of conversations. Who was looked at by whom stands in the audit log."""
    if not admin.has_find_permission(request):
        raise PermissionDenied
    form = FindForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        found: Conversation | None = admin.get_object(request, str(form.cleaned_data["conversation"]))
        if found is not None:
            audit.record(found, "conversation.opened", audit.actor_of(request), found)
            return HttpResponseRedirect(reverse("admin:conversations_conversation_change", args=[found.pk]))
        form.add_error("conversation", UNKNOWN)
    context = {**admin.admin_site.each_context(request), "title": "Find a conversation", "form": form}
    return TemplateResponse(request, "admin/conversations/find.html", context)
