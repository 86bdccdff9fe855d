"""The admin of assistants: what instructs them, what they know, which model answers."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django import forms
from django.apps import apps
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget, UnfoldAdminTextareaWidget

from apps.assistants.admin_prompts import PromptAdmin
from apps.assistants.models import Assistant, Prompt
from apps.assistants.publishing import default_prompt
from apps.edge.origins import origin_in
from apps.knowledge.models import Collection
from apps.tenants.admin_access import ANALYSTS, BUILDERS
from apps.tenants.admin_base import TenantAdmin, TenantForm
from apps.tenants.admin_words import NOTHING
from chatbot.errors import InvalidRequest

HELP = {
    "name": "End users see it, and the prompt may use it.",
    "slug": "Its name in the API. Clients stop finding the assistant when this changes.",
    "description": "What it is for. Only your team reads this.",
    "prompt": "Instructs the model; the delivered one answers from your documents and cites. Edit it under Prompts.",
    "endpoint": "Which model answers. Left open, another one takes over when the first is down.",
    "temperature": "0 answers the same each time, 0.2 suits documentation, beyond 1 it becomes inventive.",
    "max_tokens": "In tokens; 512 are about 380 English words. Longer answers are cut off there.",
    "passages": "How many passages of its collections the model receives at most with each question. 0: none.",
    "takes_attachments": "Whoever asks may attach files, whose text the model then reads. Visitors may, too.",
    "is_active": "Switched off, it refuses questions and keeps its conversations.",
}


class OriginsField(forms.CharField):
    """Origins, each on a line of its own; however they are written, they become what browsers say."""

    widget = UnfoldAdminTextareaWidget(attrs={"rows": 3, "placeholder": "https://shop.example", "spellcheck": "false"})

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        origins = []
        for line in str(super().to_python(value)).split():
            try:
                origins.append(origin_in(line.lower()))
            except InvalidRequest as error:
                raise forms.ValidationError("%(line)s: %(why)s", params={"line": line, "why": error.message}) from error
        return list(dict.fromkeys(origins))

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return bool((initial or []) != self.to_python(data))
        except forms.ValidationError:
            return True


class AssistantForm(TenantForm):
    visitor_origins = OriginsField(
        label="Web sites",
        required=False,
        help_text="One on a line, such as https://shop.example. Visitors of their pages may ask this assistant without"
        " an account. Empty: only your own server lets visitors in, with an API key.",
    )
    knowledge = forms.ModelMultipleChoiceField(
        Collection.objects.none(),
        label="Collections",
        required=False,
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text="It answers from these documents. Without any, the model knows only what it was trained on.",
    )

    class Meta:
        help_texts = HELP

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        collections: Any = self.fields["knowledge"]
        collections.queryset = Collection.objects.for_tenant(self.instance.tenant).order_by("name")
        self.fields["description"].widget.attrs["rows"] = 2
        endpoint: Any = self.fields["endpoint"]
        endpoint.empty_label = "The first one that serves this tenant"
        if self.instance._state.adding:
            prompt: Any = self.fields["prompt"]
            prompt.required, prompt.empty_label = False, "The delivered prompt"
        else:
            self.initial["knowledge"] = self.instance.collections.values_list("pk", flat=True)

    def _save_m2m(self) -> None:
        super()._save_m2m()  # type: ignore[misc] # the stubs leave it out
        self.instance.collections.set(self.cleaned_data["knowledge"], through_defaults={"tenant": self.instance.tenant})


admin.site.register(Prompt, PromptAdmin)


@admin.register(Assistant)
class AssistantAdmin(TenantAdmin):
    read_by = BUILDERS | ANALYSTS
    written_by = BUILDERS
    form = AssistantForm
    empty_title = "No assistants yet"
    empty_hint = "An assistant answers questions from your collections. The first one needs nothing but a name."
    list_display = ("name", "state", "instructed_by", "knows", "answered_by", "ask_link")
    list_filter = ("is_active", "prompt")
    list_select_related = ("prompt__published", "endpoint")
    search_fields = ("name", "slug", "description")
    prepopulated_fields = {"slug": ("name",)}
    actions_detail = ("ask", "widget")  # type: ignore[assignment]
    fieldsets = (
        (None, {"fields": ("name", "slug", "description", "is_active")}),
        ("Knowledge and instructions", {"fields": ("knowledge", "prompt")}),
        ("Model", {"fields": ("endpoint", "temperature", "max_tokens")}),
        ("Search", {"fields": ("passages", "rewrites_questions", "least_relevance")}),
        ("Questions", {"fields": ("takes_attachments",)}),
        ("Visitors", {"fields": ("visitor_origins",)}),
    )

    class Media:
        css = {"all": ["admin/parley/admin.css"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Assistant]:
        rows: QuerySet[Assistant] = super().get_queryset(request)
        return rows.prefetch_related("collections")

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        columns = super().get_list_display(request)
        return columns if self.has_ask_permission(request) else [name for name in columns if name != "ask_link"]

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        sections = super().get_fieldsets(request, obj)
        if self.has_change_permission(request, obj):
            return sections
        shown = {"knowledge": "knows"}  # a field of the form alone, and what says the same
        return [(title, {**rest, "fields": [shown.get(n, n) for n in rest["fields"]]}) for title, rest in sections]

    def get_prepopulated_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return {} if obj else super().get_prepopulated_fields(request, obj)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if obj.prompt_id is None:
            obj.prompt = default_prompt(obj.tenant, created_by=request.user)  # type: ignore[arg-type]
        super().save_model(request, obj, form, change)

    @display(description="State", label={"Active": "success", "Off": "default"})
    def state(self, assistant: Assistant) -> str:
        return "Active" if assistant.is_active else "Off"

    @display(description="Prompt", ordering="prompt__name")
    def instructed_by(self, assistant: Assistant) -> str:
        version = assistant.prompt.published
        return f"{assistant.prompt.name}, {f'version {version.number}' if version else 'nothing published'}"

    @display(description="Collections")
    def knows(self, assistant: Assistant) -> str:
        return ", ".join(collection.name for collection in assistant.collections.all()) or "No documents"

    @display(description="Model", ordering="endpoint__name")
    def answered_by(self, assistant: Assistant) -> str:
        return assistant.endpoint.name if assistant.endpoint else "First available"

    @display(description="Try it")
    def ask_link(self, assistant: Assistant) -> SafeString:
        if not assistant.is_active:
            return SafeString(NOTHING)
        return format_html('<a class="p-link" href="{}">Ask</a>', _ask_url(assistant))

    def has_ask_permission(self, request: HttpRequest, _object_id: Any = None) -> bool:
        return self.permits(request, BUILDERS)

    @action(description="Ask", url_path="ask", icon="forum", permissions=["ask"])  # type: ignore[operator]
    def ask(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return HttpResponseRedirect(_ask_url(self.row(request, object_id)))

    @action(description="Widget", url_path="widget", icon="chat_bubble", permissions=["view"])  # type: ignore[operator]
    def widget(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Leads to the assistant's widget; where there is none yet, a POST makes it."""
        posted = request.method == "POST"
        assistant = self.row(request, object_id, to_write=posted)
        widgets: Any = apps.get_model("widget.Widget")._default_manager  # of an upper app, so by name
        if posted:
            widgets.get_or_create(tenant=assistant.tenant, assistant=assistant)
        found = widgets.filter(tenant=assistant.tenant_id, assistant=assistant).first()
        if found:
            return HttpResponseRedirect(reverse("admin:widget_widget_change", args=[found.pk]))
        if not self.has_change_permission(request, assistant):
            raise PermissionDenied
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": f"The widget of {assistant.name}",
            "original": assistant,
        }
        return TemplateResponse(request, "admin/assistants/assistant/widget.html", context)


def _ask_url(assistant: Assistant) -> str:
    return f"{reverse('admin:conversations_playground')}?{urlencode({'assistant': assistant.pk})}"
