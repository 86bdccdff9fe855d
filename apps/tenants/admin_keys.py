"""API keys in the admin: issued and shown once on a page of its own, found again by name, revoked by a dialog."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.cache import add_never_cache_headers
from unfold.decorators import action, display

from apps.tenants import audit, keys, rights, taking_back
from apps.tenants.admin_base import TenantAdmin, TenantForm
from apps.tenants.admin_words import ago
from apps.tenants.models import ApiKey


class ApiKeyForm(TenantForm):
    class Meta:
        model = ApiKey
        fields = ("name", "expires_at")
        labels = {"expires_at": "Expires"}
        help_texts = {"expires_at": "Leave empty for a key that works until it is revoked."}

    def clean_expires_at(self) -> Any:
        expires_at = self.cleaned_data["expires_at"]
        if "expires_at" in self.changed_data and expires_at is not None and expires_at <= timezone.now():
            self.add_error("expires_at", "Choose a time in the future; to end the key now, revoke it.")
        return expires_at


@admin.register(ApiKey)
class ApiKeyAdmin(TenantAdmin):
    owner_only = True
    form = ApiKeyForm
    empty_hint = "A program authenticates with a key. Issue one and give it to your application."
    list_display = ("name", "state", "beginning", "last_used", "made_by", "issued")
    list_select_related = ("created_by",)
    search_fields = ("name", "key_id")
    readonly_fields = ("state", "beginning", "last_used", "made_by", "issued")
    actions_detail: Any = ("revoke",)
    actions_row: Any = ("revoke",)

    def get_fields(self, _request: HttpRequest, obj: ApiKey | None = None) -> Any:
        return ("name", "expires_at", *self.readonly_fields) if obj else ("name", "expires_at")

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
        issued, text = keys.issue(
            obj.tenant,
            name=obj.name,
            scopes=rights.ALL,
            service_account=keys.service_account(obj.tenant, obj.name),
            created_by=request.user,  # type: ignore[arg-type]
            expires_at=obj.expires_at,
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
        self.log_change(request, key, "Revoked.")
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

    @display(description="Last used", ordering="last_used_at")
    def last_used(self, key: ApiKey) -> str:
        return ago(key.last_used_at, "never")

    @display(description="Issued by", ordering="created_by__email")
    def made_by(self, key: ApiKey) -> str:
        return str(key.created_by) if key.created_by else "a command"

    @display(description="Issued", ordering="created")
    def issued(self, key: ApiKey) -> str:
        return ago(key.created)
