"""The admin of widgets: how an assistant looks in a browser, how it gets into a page, and who says who visitors are."""

from __future__ import annotations

import secrets
import uuid
from functools import partial
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.cache import add_never_cache_headers
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminColorInputWidget, UnfoldAdminFileFieldWidget, UnfoldAdminTextareaWidget

from apps.assistants.admin import OriginsField
from apps.tenants import audit
from apps.tenants.admin_access import ANALYSTS, BUILDERS
from apps.tenants.admin_base import TenantAdmin, TenantForm
from apps.tenants.admin_words import NOTHING, ago
from apps.webhooks.registration import ROTATION
from apps.widget import bundle, logos, pages
from apps.widget.checking import judge
from apps.widget.dressing import settings_of
from apps.widget.models import MOST_STARTERS, STARTER_CHARS, Widget
from chatbot.errors import InvalidRequest

HELP = {
    "hosted": "The assistant gets a page of its own on this server, for everybody who has its address.",
    "greeting": "Stands where nothing has been said yet. Left empty, the widget greets in its own words.",
    "primary": "Of buttons and of what the reader says. The text upon it becomes black or white, whichever reads well.",
    "radius": "Of corners, in pixels: 0 is square.",
    "font": "A font that readers have installed, such as Inter, sans-serif. Nothing is loaded from elsewhere.",
    "position": "Where the button sits on other web sites.",
    "locale": "Of dates, numbers and the direction of reading: en, de, pt-BR, ar.",
    "strings": 'Your own words for the widget\'s, by their keys: {"send": "Ask"}.',
    "consent_text": "Readers agree to this before their first question. Left empty, nobody is asked.",
    "consent_link": "Where they can read more, such as your privacy notice.",
    "retention": "A sentence on how long you keep conversations. Parley deletes none by itself: say what you do.",
    "handoff": "Whether readers can ask for a person. A webhook is told conversation.handoff.",
    "handoff_address": "Where the reader's own mail program writes to.",
}


class StartersField(forms.CharField):
    widget = UnfoldAdminTextareaWidget(attrs={"rows": 4, "placeholder": "Which seal fits my pump?"})

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        lines = [line.strip() for line in str(super().to_python(value)).splitlines() if line.strip()]
        for line in lines:
            if len(line) > STARTER_CHARS:
                raise forms.ValidationError(f"A question may have {STARTER_CHARS} characters at most.")
        return lines

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool((initial or []) != str(data or "").split("\n"))


class StringsField(forms.JSONField):
    widget = UnfoldAdminTextareaWidget(attrs={"rows": 5, "spellcheck": "false"})
    default_error_messages = {"invalid": 'This is no JSON. Write {"send": "Ask"}, with straight quotes.'}


class WidgetForm(TenantForm):
    starters = StartersField(
        label="Starter questions",
        required=False,
        help_text=f"One on a line, {MOST_STARTERS} at most. Readers begin with them by a click.",
    )
    frame_origins = OriginsField(
        label="May show it in a frame",
        required=False,
        help_text="Web sites whose pages may show the hosted page within themselves, one on a line, beside those that "
        "are listed at the assistant.",
    )
    strings = StringsField(label="Wording", required=False, help_text=HELP["strings"])
    logo_file = forms.FileField(
        label="Logo",
        required=False,
        widget=UnfoldAdminFileFieldWidget(attrs={"accept": "image/png,image/jpeg,image/webp"}),
        help_text=f"PNG, JPEG or WebP, up to {logos.MOST_BYTES // 1024} KiB. An empty field keeps what is set.",
    )
    logo_off = forms.BooleanField(label="Remove the logo", required=False)
    identity_off = forms.BooleanField(
        label="Take no identities any more",
        required=False,
        help_text="Forgets the secret. Whoever was identified keeps their conversations.",
    )

    class Meta:
        model = Widget
        fields = (
            "hosted", "frame_origins", "greeting", "starters", "primary", "radius", "font", "position", "scheme",
            "locale", "strings", "consent_text", "consent_link", "retention", "handoff", "handoff_address",
        )  # fmt: skip
        help_texts = HELP
        widgets = {
            "primary": UnfoldAdminColorInputWidget,
            "greeting": UnfoldAdminTextareaWidget(attrs={"rows": 2}),
            "consent_text": UnfoldAdminTextareaWidget(attrs={"rows": 3}),
        }

    def clean_strings(self) -> Any:
        return self.cleaned_data["strings"] or {}

    def clean_logo_file(self) -> bytes | None:
        file = self.cleaned_data["logo_file"]
        if not file:
            return None
        if file.size > logos.MOST_BYTES:
            raise forms.ValidationError(f"A logo may have {logos.MOST_BYTES // 1024} KiB at most.")
        content = bytes(file.read())
        try:
            logos.check(content)
        except InvalidRequest as error:
            raise forms.ValidationError(error.message) from error
        return content


@admin.register(Widget)
class WidgetAdmin(TenantAdmin):
    read_by = BUILDERS | ANALYSTS
    written_by = BUILDERS
    form = WidgetForm
    empty_hint = "Open an assistant and choose Widget: that makes its first one."
    list_display = ("named", "on_sites", "has_page", "hands_over", "identities")
    list_select_related = ("assistant",)
    search_fields = ("assistant__name", "assistant__slug")
    readonly_fields = ("logo_now", "identities")
    fieldsets = (
        ("What readers see first", {"fields": ("greeting", "starters")}),
        (
            "How it looks",
            {"fields": ("primary", "radius", "font", "logo_file", "logo_now", "logo_off", "position", "scheme")},
        ),
        ("Language", {"fields": ("locale", "strings")}),
        ("What readers agree to", {"fields": ("consent_text", "consent_link", "retention")}),
        ("Talking to a person", {"fields": ("handoff", "handoff_address")}),
        ("Hosted page", {"fields": ("hosted", "frame_origins")}),
        ("Who visitors are", {"fields": ("identities", "identity_off")}),
    )
    actions_detail: Any = ("embed", "identity")

    class Media:
        css = {"all": ["admin/parley/admin.css"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Widget]:
        rows: QuerySet[Widget] = super().get_queryset(request)
        return rows.select_related("assistant", "tenant")

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # each assistant has one, made when it is first opened

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        sections = super().get_fieldsets(request, obj)
        if self.has_change_permission(request, obj):
            hidden = {"logo_off"} if not (obj and obj.logo) else set()
            hidden |= {"identity_off"} if not (obj and obj.identity_secret) else set()
        else:
            hidden = {"logo_file", "logo_off", "identity_off"}
        return [
            (title, {**rest, "fields": [name for name in rest["fields"] if name not in hidden]})
            for title, rest in sections
        ]

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        own = [
            path("<uuid:object_id>/page/", wrap(partial(embed_page, self)), name="widget_widget_page"),
            path("<uuid:object_id>/preview/", wrap(partial(preview, self)), name="widget_widget_preview"),
        ]
        return [*own, *super().get_urls()]

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if form.cleaned_data.get("logo_off"):
            logos.remove(obj)
        if content := form.cleaned_data.get("logo_file"):
            logos.put(obj, content)
        if form.cleaned_data.get("identity_off"):
            obj.identity_secret = obj.previous_identity_secret = ""
            obj.previous_identity_secret_until = None
        super().save_model(request, obj, form, change)

    # --- Deeds --------------------------------------------------------------------------------------------------------

    @action(description="Put it into a page", url_path="embed", icon="code")  # type: ignore[operator]
    def embed(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row = self.row(request, object_id)
        return HttpResponseRedirect(reverse("admin:widget_widget_page", args=[row.pk]))

    @action(  # type: ignore[operator]
        description="New identity secret",
        url_path="identity",
        icon="key",
        permissions=["change"],
        dialog={
            "title": "Make an identity secret?",
            "description": "Your server signs with it who a visitor is. It is shown once. One that is there already "
            "is taken for 24 hours more; what came before that ends now.",
            "form_class": None,
            "form_submit_text": "Make a secret",
        },
    )
    def identity(self, request: HttpRequest, _form: Any, object_id: str) -> HttpResponse:
        widget = self.row(request, object_id, to_write=True)
        widget.previous_identity_secret = widget.identity_secret
        widget.previous_identity_secret_until = timezone.now() + ROTATION if widget.identity_secret else None
        widget.identity_secret = secrets.token_urlsafe(32)
        widget.save()
        audit.record(widget, "widget.identity_secret_made", audit.actor_of(request), widget.assistant)
        response = render(request, "admin/widget/identity_secret.html", {"widget": widget})
        response["HX-Retarget"] = response["HX-Reselect"] = "#dialog"
        add_never_cache_headers(response)
        return response

    # --- Columns ------------------------------------------------------------------------------------------------------

    @display(description="Assistant", ordering="assistant__name")
    def named(self, widget: Widget) -> str:
        return widget.assistant.name

    @display(description="On web sites")
    def on_sites(self, widget: Widget) -> str:
        return ", ".join(widget.assistant.visitor_origins) or NOTHING

    @display(description="Hosted page", label={"On": "success", "Off": "default"})
    def has_page(self, widget: Widget) -> str:
        return "On" if widget.hosted else "Off"

    @display(description="Hands over")
    def hands_over(self, widget: Widget) -> str:
        return widget.get_handoff_display()

    @display(description="Identities")
    def identities(self, widget: Widget) -> str:
        if not widget.identity_secret:
            return "Not taken: there is no secret"
        until = widget.previous_identity_secret_until
        if until and len(widget.identity_secrets()) > 1:
            return f"Taken; the secret was replaced {ago(until - ROTATION)}, and the one before still counts"
        return "Taken"

    @display(description="Logo now")
    def logo_now(self, widget: Widget) -> str:
        return "A picture is set" if widget.logo else NOTHING


# --- Pages of their own -----------------------------------------------------------------------------------------------


def embed_page(page: WidgetAdmin, request: HttpRequest, object_id: uuid.UUID) -> HttpResponse:
    """The script tag, how it looks, and what would happen at `address`."""
    widget: Widget = page.row(request, str(object_id))
    base = settings.PARLEY_BASE_URL.rstrip("/")
    slugs = (widget.tenant.slug, widget.assistant.slug)
    address = request.GET.get("address", "").strip()[:2000]
    context = {
        **page.admin_site.each_context(request),
        "opts": page.opts,
        "title": f"Put {widget.assistant.name} into a page",
        "widget": widget,
        "tag": f'<script src="{base}/widget.js" data-tenant="{slugs[0]}" data-assistant="{slugs[1]}"'
        f' data-color="{widget.primary}" data-position="{widget.position}" async></script>',
        "hosted_url": base + reverse("hosted_page", args=slugs),
        "missing": "" if bundle.is_there() else bundle.MISSING,
        "address": address,
        "verdicts": judge(widget, address) if address else [],
        "preview_url": reverse("admin:widget_widget_preview", args=[widget.pk]),
        "change_url": reverse("admin:widget_widget_change", args=[widget.pk]),
        "assistant_url": reverse("admin:assistants_assistant_change", args=[widget.assistant_id]),
    }
    return TemplateResponse(request, "admin/widget/embed.html", context)


def preview(page: WidgetAdmin, request: HttpRequest, object_id: uuid.UUID) -> HttpResponse:
    """The widget on a page that stands for somebody's, for the frame of the page above."""
    widget: Widget = page.row(request, str(object_id))
    shown = settings_of(widget.tenant, widget)
    response = pages.page(
        title=f"{shown['name']}, preview",
        locale=shown["locale"],
        direction=shown["direction"],
        embedded={"mode": "bubble", "settings": shown},
        said="The preview needs JavaScript.",
        framed_by=["'self'"],
        preview=True,
    )
    response.xframe_options_exempt = True  # the policy above says who may frame it
    return response
