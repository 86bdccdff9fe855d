"""Every page of the admin writes what is added, changed and deleted through it into the audit log."""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from typing import Any
from urllib.parse import urlencode

from django.contrib.admin.options import ModelAdmin
from django.contrib.admin.utils import unquote
from django.db.models import Model
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from apps.tenants import audit, taking_back
from apps.tenants.models import Tenant
from apps.tenants.scoping import TenantOwned, Whose

# What such rows are called in actions; others by their model's name.
NOUNS = {
    "tenants.apikey": "key",
    "tenants.membership": "member",
    "tenants.serviceaccount": "service_account",
    "tenants.enduser": "end_user",
}
ACTIONS = {
    "key.added": "key.issued",
    "tenant.added": "tenant.created",
    "webhook.added": "webhook.registered",
    "application.added": "application.registered",
    "invitation.added": "member.invited",
}


def action_on(row: Model, verb: str) -> str:
    """ "assistant.changed", "key.issued"."""
    noun = NOUNS.get(row._meta.label_lower, row._meta.model_name)
    return ACTIONS.get(f"{noun}.{verb}", f"{noun}.{verb}")


def whose(row: Model) -> Whose | None:
    """The tenant whose chain tells of this row; None for a row of the platform."""
    return row if isinstance(row, Tenant | TenantOwned) else None


class Audited(ModelAdmin):  # type: ignore[type-arg]
    """Records what Django's own log would be told of: forms, their inlines, and deletions. That one stays empty: its
    rows name no tenant, so that nothing would hide them from others or find them when a tenant is erased.

    Deeds on pages of their own record themselves under their own name.
    """

    def log_addition(self, request: HttpRequest, obj: Model, _message: Any) -> None:  # type: ignore[override]
        _record(request, obj, "added")

    def log_change(self, request: HttpRequest, obj: Model, message: Any) -> None:  # type: ignore[override]
        if fields := _changed_fields(message):
            _record(request, obj, "changed", fields=fields)

    def log_deletions(self, request: HttpRequest, queryset: Iterable[Any]) -> None:  # type: ignore[override]
        # Recorded once they are gone: a large deletion takes long, and would keep everybody from the tenant's chain.
        request._to_record = [copy(row) for row in queryset]  # type: ignore[attr-defined]  # a deleted row has no id

    def history_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        """What the audit log says of the row, if the person may read that."""
        log = reverse("admin:tenants_auditentry_changelist")
        return HttpResponseRedirect(f"{log}?{urlencode({'q': unquote(object_id)})}")

    def _delete_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        response = super()._delete_view(request, *args, **kwargs)  # type: ignore[misc]
        _record_deletions(request)
        return response

    def response_action(self, request: HttpRequest, queryset: Any, *where: Any) -> Any:
        response = super().response_action(request, queryset, *where)
        _record_deletions(request)
        return response

    def construct_change_message(self, request: HttpRequest, form: Any, formsets: Any, add: bool = False) -> Any:
        for formset in formsets or ():
            for row in formset.new_objects:
                _record(request, row, "added")
            for row, fields in formset.changed_objects:
                _record(request, row, "changed", fields=_labels(formset, fields))
            for row in formset.deleted_objects:
                _record(request, row, "deleted")
        return super().construct_change_message(request, form, formsets, add)


def _record_deletions(request: HttpRequest) -> None:
    for row in request.__dict__.pop("_to_record", ()):
        _record(request, row, "deleted")


def _record(request: HttpRequest, row: Model, verb: str, **facts: Any) -> None:
    audit.record(whose(row), action_on(row, verb), audit.actor_of(request), row, **facts)
    if verb != "added":
        taking_back.announce(*taking_back.words_of(row))


def _changed_fields(message: Any) -> list[str]:
    """The labels of the form's own fields in Django's message about a change; an inline's part names its row."""
    parts = [part["changed"] for part in message if "changed" in part]
    return [label for part in parts if "object" not in part for label in part.get("fields", ())]


def _labels(formset: Any, fields: Iterable[str]) -> list[str]:
    form = formset.forms[0]
    return [str(form.fields[name].label or name) if name in form.fields else name for name in fields]
