"""API keys in the admin: issued and shown once on a page of its own, found again by name, revoked by a dialog.

Owners see all keys of their tenant; other members issue keys of their own, within their role, and see those.
"""

from __future__ import annotations

import uuid
from typing import Any

from django import forms
from django.apps import apps
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.cache import add_never_cache_headers
from unfold.decorators import action, display
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from apps.tenants import addresses, audit, keys, rights, taking_back
from apps.tenants.admin_access import OWNERS, is_operator
from apps.tenants.admin_acting import acting_of
from apps.tenants.admin_base import TenantAdmin, TenantForm
from apps.tenants.admin_words import ago
from apps.tenants.models import ApiKey, Membership, User

OWN_FIELDS = ("name", "scopes", "assistant_ids", "ip_ranges", "expires_at")
ISSUERS = frozenset(Membership.Role(role) for role, scopes in rights.OF_ROLE.items() if scopes)


class ApiKeyForm(TenantForm):
    """Set on the class like the tenant: user, who fills it in and gives no more than they have; for_programs, whether
    the key may be a program's."""

    user: User
    for_programs = False

    program = forms.CharField(
        label="For a program",
        max_length=100,
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text="Its name, where the key is a service account's; leave empty for a key of your own.",
    )
    scopes = forms.MultipleChoiceField(
        label="It may",
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text="Never more than whoever issued it may do at the time of use.",
    )
    assistant_ids = forms.TypedMultipleChoiceField(
        label="Assistants",
        coerce=uuid.UUID,
        required=False,
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text="The only ones that it reaches; choose none for all.",
    )
    ip_ranges = forms.CharField(
        label="Addresses",
        max_length=5000,
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
        help_text="Where it may come from, one to a line, such as 203.0.113.0/24; leave empty for everywhere.",
    )

    class Meta:
        model = ApiKey
        fields = OWN_FIELDS
        labels = {"expires_at": "Expires"}
        help_texts = {"expires_at": "Leave empty for a key that works until it is revoked."}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.for_programs:
            del self.fields["program"]
        if "scopes" not in self.fields:  # a page that only shows the key
            return
        key: ApiKey = self.instance
        offered = rights.of(self.user, key.tenant_id) | {*key.scopes}
        self.fields["scopes"].choices = [  # type: ignore[attr-defined]
            (scope, f"{meaning} ({scope})") for scope, meaning in rights.SCOPES.items() if scope in offered
        ]
        # Of an upper app, so by name. A deleted one is kept: without any, the key would reach all.
        assistants = apps.get_model("assistants.Assistant")._default_manager.filter(tenant=key.tenant_id)
        named = dict(assistants.order_by("name").values_list("pk", "name"))
        gone = {pk: "A deleted assistant" for pk in key.assistant_ids if pk not in named}
        self.fields["assistant_ids"].choices = list({**named, **gone}.items())  # type: ignore[attr-defined]
        self.initial["ip_ranges"] = "\n".join(key.ip_ranges)

    def clean_ip_ranges(self) -> list[str]:
        try:
            return [addresses.ip_range(line) for line in self.cleaned_data["ip_ranges"].split()]
        except ValueError as error:
            raise forms.ValidationError(str(error)) from error

    def clean_expires_at(self) -> Any:
        expires_at = self.cleaned_data["expires_at"]
        if "expires_at" in self.changed_data and expires_at is not None and expires_at <= timezone.now():
            self.add_error("expires_at", "Choose a time in the future; to end the key now, revoke it.")
        return expires_at


@admin.register(ApiKey)
class ApiKeyAdmin(TenantAdmin):
    read_by = written_by = ISSUERS
    form = ApiKeyForm
    empty_hint = "A program authenticates with a key. Issue one and give it to your application."
    list_display = ("name", "state", "beginning", "may", "holder", "last_used", "issued")
    list_select_related = ("member", "service_account")
    search_fields = ("name", "key_id")
    readonly_fields = ("state", "beginning", "holder", "last_used", "made_by", "issued")
    actions_detail: Any = ("revoke",)
    actions_row: Any = ("revoke",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[ApiKey]:
        rows = super().get_queryset(request)
        return rows if self._sees_all(request) else rows.filter(member=request.user)

    def _sees_all(self, request: HttpRequest) -> bool:
        return is_operator(request) or acting_of(request).role in OWNERS

    def get_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> Any:
        if obj:
            return (*OWN_FIELDS, *self.readonly_fields)
        # Programs are the tenant's, and their keys stay when people go.
        return ("name", "program", *OWN_FIELDS[1:]) if self._sees_all(request) else OWN_FIELDS

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form: Any = super().get_form(request, obj, change, **kwargs)
        form.user, form.for_programs = request.user, obj is None and self._sees_all(request)
        return form

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # A revoked key stays, since turns and the ledger name it.
        return False

    # --- Issuing ---

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        # A key issued on the way to the next form would never be seen.
        context |= {"show_save_and_add_another": False, "show_save_and_continue": False}
        return super().render_change_form(request, context, *args, **kwargs)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if change:
            super().save_model(request, obj, form, change)
            return
        program = form.cleaned_data.get("program")
        issued, text = keys.issue(
            obj.tenant,
            service_account=keys.service_account(obj.tenant, program) if program else None,
            created_by=request.user,  # type: ignore[arg-type]
            **{name: form.cleaned_data[name] for name in OWN_FIELDS},
        )
        obj.__dict__.update(issued.__dict__)
        request._issued_key = text  # type: ignore[attr-defined]

    def response_add(self, request: HttpRequest, obj: ApiKey, post_url_continue: str | None = None) -> HttpResponse:
        """The only page that ever shows the key: it is the answer to the POST, so nothing has to keep the text."""
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "Your new API key",
            "key": request._issued_key,  # type: ignore[attr-defined]
            "row": obj,
            "list_url": reverse("admin:tenants_apikey_changelist"),
        }
        response = TemplateResponse(request, "admin/tenants/key_issued.html", context)
        add_never_cache_headers(response)
        return response

    # --- Revoking ---

    @action(  # type: ignore[operator]
        description="Revoke",
        url_path="revoke",
        icon="block",
        permissions=["change"],
        dialog={
            "title": "Revoke this key?",
            "description": "Programs that use it are refused within seconds. This cannot be undone.",
            "form_class": None,
            "form_submit_text": "Revoke",
        },
    )
    def revoke(self, request: HttpRequest, _form: Any, object_id: str) -> HttpResponse:
        key = self.row(request, object_id)
        taking_back.revoke_key(key, audit.actor_of(request))
        messages.success(request, f"{key.name} is revoked.")
        return HttpResponse(headers={"HX-Redirect": reverse("admin:tenants_apikey_changelist")})

    # --- Columns ---

    @display(description="State", label={"Active": "success", "Expired": "warning", "Revoked": "danger"})
    def state(self, key: ApiKey) -> str:
        if key.revoked_at:
            return "Revoked"
        return "Expired" if key.expires_at and key.expires_at <= timezone.now() else "Active"

    @display(description="Begins with")
    def beginning(self, key: ApiKey) -> str:
        return f"parley_{key.key_id}_…"

    @display(description="May")
    def may(self, key: ApiKey) -> str:
        return "everything" if {*key.scopes} >= rights.ALL else ", ".join(key.scopes)

    @display(description="Belongs to")
    def holder(self, key: ApiKey) -> str:
        return str(key.service_account or key.member)

    @display(description="Last used", ordering="last_used_at")
    def last_used(self, key: ApiKey) -> str:
        return ago(key.last_used_at, "never")

    @display(description="Issued by", ordering="created_by__email")
    def made_by(self, key: ApiKey) -> str:
        return str(key.created_by) if key.created_by else "a command"

    @display(description="Issued", ordering="created")
    def issued(self, key: ApiKey) -> str:
        return ago(key.created)
