"""The admin of prompts: an editor for the next version, a preview, publishing and rolling back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from asgiref.sync import async_to_sync
from django import forms
from django.conf import settings
from django.contrib import messages
from django.db.models import CASCADE, Count, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import URLPattern, path, reverse
from django.views.decorators.http import require_POST
from unfold.decorators import display

from apps.assistants import publishing
from apps.assistants.models import Assistant, Prompt, PromptVersion
from apps.assistants.preview import preview
from apps.tenants import audit
from apps.tenants.admin_access import ANALYSTS, BUILDERS
from apps.tenants.admin_acting import acting_of, enters_alone
from apps.tenants.admin_base import TenantAdmin, TenantForm
from apps.tenants.admin_words import ago
from chatbot import templates
from chatbot.errors import ParleyError

EXAMPLE_QUESTION = "What is this about?"
VERSIONS_SHOWN = 50


class PromptForm(TenantForm):
    template = forms.CharField(max_length=templates.MAX_TEMPLATE)
    note = forms.CharField(max_length=200, required=False)
    loaded: PromptVersion | None = None  # set on the class that each request gets of its own

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["template"] = self.loaded.template if self.loaded else templates.DEFAULT_TEMPLATE

    def clean_template(self) -> str:
        # Browsers send CR LF; lines are counted, and versions compared, by LF.
        template: str = self.cleaned_data["template"].replace("\r\n", "\n")
        try:
            templates.check(template)
        except templates.TemplateInvalid as error:
            raise forms.ValidationError(error.message) from error
        return template


class PromptAdmin(TenantAdmin):
    read_by = BUILDERS | ANALYSTS
    written_by = BUILDERS
    form = PromptForm
    empty_title = "No prompts yet"
    empty_hint = "A prompt instructs the model. Your first assistant brings a good one along, so you may start there."
    list_display = ("name", "published_version", "used_by", "versions", "created_ago")
    list_select_related = ("published",)
    search_fields = ("name",)
    fields = ("name", "template", "note")

    class Media:
        css = {"all": ["admin/parley/admin.css"]}
        js = ["admin/parley/prompts.js", "admin/parley/dialogs.js"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Prompt]:
        rows: QuerySet[Prompt] = super().get_queryset(request)
        return rows.annotate(
            version_count=Count("versions", distinct=True), assistant_count=Count("assistants", distinct=True)
        )

    @display(description="Published", label={"Nothing": "warning"})
    def published_version(self, prompt: Prompt) -> str:
        return f"Version {prompt.published.number}" if prompt.published else "Nothing"

    @display(description="Used by", ordering="assistant_count")
    def used_by(self, prompt: Any) -> str:
        return _assistants(prompt.assistant_count)

    @display(description="Versions", ordering="version_count")
    def versions(self, prompt: Any) -> int:
        count: int = prompt.version_count
        return count

    @display(description="Created", ordering="created")
    def created_ago(self, prompt: Prompt) -> str:
        return ago(prompt.created)

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        own = [
            path("<uuid:object_id>/publish/", wrap(require_POST(self.publish)), name="assistants_prompt_publish"),
            path("<uuid:object_id>/preview/", wrap(require_POST(self.preview)), name="assistants_prompt_preview"),
        ]
        return [*own, *super().get_urls()]

    def publish(self, request: HttpRequest, object_id: str) -> HttpResponse:
        prompt: Prompt = self.row(request, object_id, to_write=True)
        try:
            version = publishing.publish(prompt.tenant, prompt, _key(request.POST.get("version", "")))
        except ParleyError as error:
            messages.error(request, error.message)
        else:
            audit.record(prompt, "prompt.published", audit.actor_of(request), prompt, version=version.number)
            messages.success(request, f"Version {version.number} is published: the next question is answered with it.")
        return HttpResponseRedirect(reverse("admin:assistants_prompt_change", args=[prompt.pk]))

    @enters_alone
    def preview(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """A part of the page: what the model would receive with the template as it stands in the editor."""
        context: dict[str, Any] = {}
        try:
            with acting_of(request).scope():
                tenant = self.row(request, object_id, to_write=True).tenant
                assistants = Assistant.objects.for_tenant(tenant).select_related("endpoint")
                assistant = assistants.get(pk=_key(request.POST.get("assistant", "")))
            context["preview"] = async_to_sync(preview)(
                tenant,
                assistant,
                template=request.POST.get("template", "").replace("\r\n", "\n"),
                question=request.POST.get("question", "")[: settings.PARLEY_MAX_QUESTION_CHARS].strip()
                or EXAMPLE_QUESTION,
                user=str(request.user),
            )
        except ParleyError as error:
            context["error"] = error.message
        except Assistant.DoesNotExist:
            context["error"] = "Choose an assistant: its collections are searched for the question."
        return render(request, "admin/assistants/prompt/preview.html", context)

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form: Any = super().get_form(request, obj, change, **kwargs)
        if obj is not None:
            form.loaded = _loaded(request, obj)
        return form

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        prompt: Prompt | None = kwargs.get("obj")
        context["variables"] = templates.VARIABLES
        if prompt is not None:
            users = Assistant.objects.for_tenant(prompt.tenant_id).order_by("name")
            context |= {
                "loaded": _loaded(request, prompt),
                "versions": _versions(prompt).select_related("created_by")[:VERSIONS_SHOWN],
                "used_by": _assistants(users.filter(prompt=prompt).count()),
                # Those that use it first: a preview is about them.
                "assistants": [*users.filter(prompt=prompt), *users.exclude(prompt=prompt)],
                "example_question": EXAMPLE_QUESTION,
                "publish_url": reverse("admin:assistants_prompt_publish", args=[prompt.pk]),
                "preview_url": reverse("admin:assistants_prompt_preview", args=[prompt.pk]),
            }
        return super().render_change_form(request, context, *args, **kwargs)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        template = form.cleaned_data["template"]
        newest: PromptVersion | None = _versions(obj).first()
        if newest is None or newest.template != template:
            newest = publishing.create_version(
                obj.tenant,
                obj,
                template,
                note=form.cleaned_data["note"],
                created_by=request.user,  # type: ignore[arg-type]
            )
        # A prompt's first version is published at once: without one, its assistants could not answer.
        if "_publish" in request.POST or obj.published_id is None:
            publishing.publish(obj.tenant, obj, newest.pk)

    def response_add(self, request: HttpRequest, obj: Prompt, post_url_continue: str | None = None) -> HttpResponse:
        if "_popup" in request.POST:
            return super().response_add(request, obj, post_url_continue)
        messages.success(request, f"{obj.name} is ready: its version 1 is published.")
        return HttpResponseRedirect(reverse("admin:assistants_prompt_change", args=[obj.pk]))

    def response_change(self, request: HttpRequest, obj: Prompt) -> HttpResponse:
        newest = _versions(obj).first()
        if newest is not None and newest.pk == obj.published_id:
            messages.success(request, f"Saved. Version {newest.number} is published.")
        elif newest is not None:
            messages.success(request, f"Saved as version {newest.number}. Publish it below when it is ready.")
        return HttpResponseRedirect(reverse("admin:assistants_prompt_change", args=[obj.pk]))

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        named, counts, missing, blockers = super().get_deleted_objects(objs, request)
        return named, counts, missing, [*blockers, *_uses_of_versions(list(objs))]


def _versions(prompt: Prompt) -> QuerySet[PromptVersion]:
    rows: QuerySet[PromptVersion] = PromptVersion.objects.for_tenant(prompt.tenant_id).filter(prompt=prompt)
    return rows.order_by("-number")


def _loaded(request: HttpRequest, prompt: Prompt) -> PromptVersion | None:
    """The version that the editor starts from: the one that the URL names, or the newest."""
    number = request.GET.get("version", "")
    named = _versions(prompt).filter(number=int(number)).first() if number.isdecimal() and len(number) < 9 else None
    return named or _versions(prompt).first()


def _uses_of_versions(prompts: list[Prompt]) -> Iterable[str]:
    """Turns name the version that instructed them, and keep it from being deleted."""
    for relation in PromptVersion._meta.related_objects:
        if relation.on_delete is not CASCADE and relation.related_model is not Prompt:
            uses = relation.related_model._base_manager.filter(**{f"{relation.field.name}__prompt__in": prompts})
            if count := uses.count():
                yield f"{count} {relation.related_model._meta.verbose_name_plural}"


def _assistants(count: int) -> str:
    return {0: "No assistant", 1: "1 assistant"}.get(count, f"{count} assistants")


def _key(text: str) -> Any:
    try:
        return forms.UUIDField(required=False).clean(text)
    except forms.ValidationError:
        return None
