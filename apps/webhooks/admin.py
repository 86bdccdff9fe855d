"""The admin of webhooks, for owners: registered, tested and given new secrets, each of which is shown once."""

from __future__ import annotations

import uuid
from typing import Any
from urllib.parse import urlsplit

from asgiref.sync import async_to_sync
from django import forms
from django.contrib import admin, messages
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.cache import add_never_cache_headers
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget, UnfoldAdminSelect2MultipleWidget

from apps.tenants import audit
from apps.tenants.admin_acting import acting_of, enters_alone
from apps.tenants.admin_base import TenantAdmin, TenantForm
from apps.tenants.admin_words import NOTHING, ago
from apps.webhooks import admin_deliveries as admin_deliveries  # noqa: PLC0414 - registers the log
from apps.webhooks import courier, registration
from apps.webhooks.models import ANNOUNCED, Delivery, Webhook
from chatbot.errors import InvalidRequest, ParleyError

HELP = {
    "name": "By which you find it again.",
    "url": "Your own program's, at a public https:// address. It gets a POST with JSON for each event; what it answers "
    "is not kept.",
    "enabled": "Switched off, nothing is sent, and nothing is kept for later.",
}
RESTRICTIONS = ("assistants", "collections")
OWN_FIELDS = ("name", "url", "events", "assistants", "collections", "enabled")


class WebhookForm(TenantForm):
    events = forms.MultipleChoiceField(
        label="Tell it when",
        choices=[(str(event), str(event.label)) for event in ANNOUNCED],
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
    )
    assistants = forms.TypedMultipleChoiceField(
        coerce=uuid.UUID,
        required=False,
        widget=UnfoldAdminSelect2MultipleWidget,
        help_text="Tell of turns of these only. Without a choice: of all.",
    )
    collections = forms.TypedMultipleChoiceField(
        coerce=uuid.UUID,
        required=False,
        widget=UnfoldAdminSelect2MultipleWidget,
        help_text="Tell of documents of these only. Without a choice: of all.",
    )

    class Meta:
        model = Webhook
        fields = OWN_FIELDS
        help_texts = HELP

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for kind in RESTRICTIONS:
            field: Any = self.fields[kind]
            field.choices = self._offered(kind)
            self.initial[kind] = [str(key) for key in getattr(self.instance, kind)]

    def _offered(self, kind: str) -> list[tuple[str, str]]:
        found = {row.pk: row.name for row in registration.choices(self.instance.tenant, kind)}
        # What was deleted stays chosen until somebody unticks it: without it, the webhook would be told of all.
        gone = [key for key in getattr(self.instance, kind) if key not in found]
        return [(str(key), name) for key, name in found.items()] + [(str(key), "Deleted meanwhile") for key in gone]

    def clean_url(self) -> str:
        try:
            return registration.check_address(self.cleaned_data["url"])
        except InvalidRequest as error:
            raise forms.ValidationError(error.message) from error


@admin.register(Webhook)
class WebhookAdmin(TenantAdmin):
    form = WebhookForm
    empty_hint = (
        "A webhook tells a program of yours when a turn has ended, a document is ready or a limit is reached. Add its"
        " address."
    )
    list_display = ("name", "host", "state", "told_of", "last_event")
    list_filter = ("enabled",)
    search_fields = ("name", "url")
    readonly_fields = ("state", "told_why", "log", "rotated")
    fieldsets = (
        (None, {"fields": ("name", "url", "events", "enabled")}),
        ("Only of", {"fields": RESTRICTIONS}),
        ("How it fares", {"fields": readonly_fields}),
    )
    actions_detail: Any = ("send_test", "rotate")
    actions_row: Any = ("send_test",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Webhook]:
        rows: QuerySet[Webhook] = super().get_queryset(request)
        newest = Delivery.objects.filter(webhook=OuterRef("pk")).order_by("-created")
        return rows.select_related("tenant").annotate(
            newest_at=Subquery(newest.values("created")[:1]), newest_status=Subquery(newest.values("status")[:1])
        )

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        sections = super().get_fieldsets(request, obj)
        return sections if obj else sections[:-1]

    # --- Registering and changing ---

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        if not kwargs.get("obj"):
            # A secret issued on the way to the next form would never be seen.
            context |= {"show_save_and_add_another": False, "show_save_and_continue": False}
        return super().render_change_form(request, context, *args, **kwargs)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        fields = {name: form.cleaned_data[name] for name in OWN_FIELDS}
        if change:
            # As it was, but for what registration.change() writes.
            registration.change(self.row(request, obj.pk), **fields)
        else:
            made = registration.register(obj.tenant, created_by=request.user, **fields)  # type: ignore[arg-type]
            obj.__dict__.update(made.__dict__)

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().changeform_view(request, *args, **kwargs)
        except ParleyError as error:  # too many, or chosen things deleted between the form's check and the write
            messages.error(request, " ".join([error.message, *(error.fields or {}).values()]))
            return HttpResponseRedirect(request.get_full_path())

    def response_add(self, request: HttpRequest, obj: Webhook, post_url_continue: str | None = None) -> HttpResponse:
        """The only page that shows the secret: it is the answer to the POST."""
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "Your new webhook",
            "row": obj,
            "secret": obj.secret,
            "list_url": reverse("admin:webhooks_webhook_changelist"),
        }
        response = TemplateResponse(request, "admin/webhooks/secret_issued.html", context)
        add_never_cache_headers(response)
        return response

    def delete_model(self, request: HttpRequest, obj: Webhook) -> None:
        registration.delete(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Webhook]) -> None:
        for webhook in queryset:
            registration.delete(webhook)

    # --- Testing and rotating ---

    @action(  # type: ignore[operator]
        description="Send a test event",
        url_path="send-test",
        icon="network_check",
        permissions=["change"],
        dialog={
            "title": "Send a test event",
            "description": "One signed request of the type webhook.test goes to the address now. It is not repeated.",
            "form_class": None,
            "form_submit_text": "Send",
        },
    )
    @enters_alone
    def send_test(self, request: HttpRequest, form: Any, object_id: str) -> HttpResponse:
        with acting_of(request).scope():
            webhook = self.row(request, object_id)
        result = async_to_sync(courier.test)(webhook)
        context = {"webhook": webhook, "host": self.host(webhook), "result": result, "form": form}
        return render(request, "admin/webhooks/test_result.html", context)

    @action(  # type: ignore[operator]
        description="Rotate secret",
        url_path="rotate",
        icon="key",
        permissions=["change"],
        dialog={
            "title": "Make a new secret?",
            "description": "For 24 hours, messages are signed with both the old and the new one. A secret from an "
            "earlier rotation ends now.",
            "form_class": None,
            "form_submit_text": "Make a new secret",
        },
    )
    def rotate(self, request: HttpRequest, _form: Any, object_id: str) -> HttpResponse:
        webhook = self.row(request, object_id)
        registration.rotate_secret(webhook)
        audit.record(webhook, "webhook.secret_rotated", audit.actor_of(request), webhook)
        response = render(request, "admin/webhooks/secret_rotated.html", {"webhook": webhook})
        response["HX-Retarget"] = response["HX-Reselect"] = "#dialog"
        add_never_cache_headers(response)
        return response

    # --- Columns ---

    @display(description="Host", ordering="url")
    def host(self, webhook: Webhook) -> str:
        return urlsplit(webhook.url).netloc

    @display(
        description="State",
        label={"On": "success", "Failing": "warning", "Off": "default", "Switched off": "danger"},
        ordering="enabled",
    )
    def state(self, webhook: Webhook) -> str:
        if webhook.enabled:
            return "Failing" if webhook.failures else "On"
        return "Switched off" if webhook.disabled_at else "Off"

    @display(description="Why")
    def told_why(self, webhook: Webhook) -> str:
        if webhook.disabled_at:
            return format_html("{} Switched off {}.", webhook.disabled_reason, ago(webhook.disabled_at))
        if webhook.failing_since:
            attempts = "1 attempt" if webhook.failures == 1 else f"{webhook.failures:,} attempts"
            return format_html("{} failed, the first {}.", attempts, ago(webhook.failing_since))
        return NOTHING

    @display(description="Tells when")
    def told_of(self, webhook: Webhook) -> str:
        return ", ".join(str(event.label) for event in ANNOUNCED if event in webhook.events)

    @display(description="Last event")
    def last_event(self, webhook: Any) -> SafeString | str:
        if webhook.newest_at is None:
            return "none yet"
        return format_html("{} {}", Delivery.Status(webhook.newest_status).label, ago(webhook.newest_at))

    @display(description="Deliveries")
    def log(self, webhook: Webhook) -> SafeString:
        url = reverse("admin:webhooks_delivery_changelist")
        return format_html('<a class="text-link" href="{}?webhook__id__exact={}">Show its log</a>', url, webhook.pk)

    @display(description="Secret")
    def rotated(self, webhook: Webhook) -> str:
        if webhook.previous_secret_until is None:
            return "as it was issued"
        issued = ago(webhook.previous_secret_until - registration.ROTATION)
        return format_html("rotated {}", issued)
