"""Applications in the admin, for owners: registered, their secret shown once; deleting one ends its tokens."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.cache import add_never_cache_headers
from unfold.decorators import display
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminRadioSelectWidget,
    UnfoldAdminTextareaWidget,
)

from apps.oauth import registration
from apps.oauth.models import AccessToken, Application, Grant, IDToken, RefreshToken
from apps.tenants import rights
from apps.tenants.admin_base import TenantAdmin, TenantForm
from apps.tenants.admin_words import ago

# The toolkit's own pages, which know no tenants.
admin.site.unregister([Application, Grant, AccessToken, RefreshToken, IDToken])

OWN_FIELDS = ("name", "authorization_grant_type", "client_type", "redirect_uris", "scopes")
CHOICES = {"authorization_grant_type": Application.GRANTS, "client_type": Application.TYPES}
# Tokens may exist that were made by them.
FIXED = tuple(CHOICES)


class ApplicationForm(TenantForm):
    scopes = forms.MultipleChoiceField(
        label="It may ask for",
        choices=list(rights.SCOPES.items()),
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text="In a member's name it never gets more than their role permits.",
    )

    class Meta:
        model = Application
        fields = OWN_FIELDS
        widgets = {
            **dict.fromkeys(FIXED, UnfoldAdminRadioSelectWidget),
            "redirect_uris": UnfoldAdminTextareaWidget(attrs={"rows": 3}),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, choices in CHOICES.items():
            if name in self.fields:
                self.fields[name].choices = choices  # type: ignore[attr-defined]  # without an empty one


@admin.register(Application)
class ApplicationAdmin(TenantAdmin):
    form = ApplicationForm
    empty_hint = "An application of others gets tokens of its own, by OAuth2: for itself or in a member's name."
    list_display = ("name", "acts", "kind", "beginning", "registered")
    search_fields = ("name", "client_id")
    readonly_fields = ("client_id", "registered", "made_by")

    class Media:
        css = {"all": ["admin/parley/admin.css"]}

    def get_fields(self, _request: HttpRequest, obj: Application | None = None) -> Any:
        return (*OWN_FIELDS, *self.readonly_fields) if obj else OWN_FIELDS

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        fields = super().get_readonly_fields(request, obj)
        return [*FIXED, *fields] if obj else [name for name in fields if name == "tenant"]

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        if not kwargs.get("obj"):
            # A secret issued on the way to the next form would never be seen.
            context |= {"show_save_and_add_another": False, "show_save_and_continue": False}
        return super().render_change_form(request, context, *args, **kwargs)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if change:
            registration.change(obj)
            return
        fields = {name: form.cleaned_data[name] for name in OWN_FIELDS}
        made, secret = registration.register(obj.tenant, created_by=request.user, **fields)  # type: ignore[arg-type]
        obj.__dict__.update(made.__dict__)
        request._issued_secret = secret  # type: ignore[attr-defined]

    def response_add(
        self, request: HttpRequest, obj: Application, post_url_continue: str | None = None
    ) -> HttpResponse:
        """The only page that ever shows the secret: it is the answer to the POST, so nothing has to keep the text."""
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "Your new application",
            "row": obj,
            "secret": request._issued_secret,  # type: ignore[attr-defined]
            "list_url": reverse("admin:oauth_application_changelist"),
        }
        response = TemplateResponse(request, "admin/oauth/registered.html", context)
        add_never_cache_headers(response)
        return response

    def delete_model(self, request: HttpRequest, obj: Application) -> None:
        registration.delete(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Application]) -> None:
        for application in queryset:
            registration.delete(application)

    # --- Columns ---

    @display(description="Acts", ordering="authorization_grant_type")
    def acts(self, application: Application) -> str:
        by_itself = application.authorization_grant_type == Application.GRANT_CLIENT_CREDENTIALS
        return "by itself" if by_itself else "in members' names"

    @display(description="Kind", ordering="client_type")
    def kind(self, application: Application) -> str:
        return "with a secret" if application.client_type == Application.CLIENT_CONFIDENTIAL else "without a secret"

    @display(description="Client id")
    def beginning(self, application: Application) -> str:
        return f"{application.client_id[:8]}…"

    @display(description="Registered by", ordering="created_by__email")
    def made_by(self, application: Application) -> str:
        return str(application.created_by) if application.created_by else "a command"

    @display(description="Registered", ordering="created")
    def registered(self, application: Application) -> str:
        return ago(application.created)
