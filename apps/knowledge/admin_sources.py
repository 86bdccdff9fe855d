"""The admin of sources: where documents come from, how their last runs went, and what those refused."""

from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.safestring import SafeString
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldAdminTextareaWidget

from apps.knowledge.crawl import registering, schedule
from apps.knowledge.models import Document, Source, SourceRun
from apps.tenants import audit
from apps.tenants.admin_access import ANALYSTS, BUILDERS, is_operator
from apps.tenants.admin_base import TenantAdmin, TenantForm
from apps.tenants.admin_words import NOTHING, ago, number
from chatbot.errors import InvalidRequest, NotPermitted, ParleyError

STATES = {
    SourceRun.State.FINISHED: "success",
    SourceRun.State.FAILED: "danger",
    SourceRun.State.STOPPED: "warning",
    SourceRun.State.QUEUED: "info",
    SourceRun.State.RUNNING: "info",
}
LABELS: dict[str, str] = {str(state.label): variant for state, variant in STATES.items()}
FIXED = ("collection", "kind", "location", "endpoint")
CHANGEABLE = ("name", "depth", "hosts", "max_pages", "every_hours", "region", "access_key")
HELP = {
    "name": "By which you find it again. Empty: where it begins.",
    "location": "The first page's address; the sitemap's address; a path below the shared folder; or bucket/prefix. It "
    "cannot be changed later.",
    "depth": "Of a web site: how many links away from the first page it goes. 0: that page alone.",
    "max_pages": "Beyond them nothing is looked at, and nothing is taken for deleted.",
    "every_hours": "24 is daily, 168 weekly. 0: only when somebody runs it.",
    "endpoint": "The address of the bucket's server. Empty: Amazon's.",
}


class HostsField(forms.CharField):
    """Hosts, each on a line of its own."""

    widget = UnfoldAdminTextareaWidget(attrs={"rows": 2, "placeholder": "www.example.com", "spellcheck": "false"})

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        return str(super().to_python(value)).split()

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool((initial or []) != self.to_python(data))


class SourceForm(TenantForm):
    by_operator = False  # set on the class, of which each request gets its own

    hosts = HostsField(
        label="Other hosts", required=False, help_text="One on a line. Pages of these belong to it, too; of no others."
    )
    new_secret = forms.CharField(
        label="Secret key",
        required=False,
        max_length=500,
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "off"}),
    )

    class Meta:
        help_texts = HELP

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["name"].required = False
        if "kind" in self.fields and not (self.by_operator and settings.PARLEY_SOURCE_FOLDERS):
            kinds: Any = self.fields["kind"]
            kinds.choices = [choice for choice in kinds.choices if choice[0] != Source.Kind.FOLDER]
        if self.instance.secret_key:
            self.fields["new_secret"].help_text = "One is set. Leave this empty to keep it."

    def clean(self) -> dict[str, Any] | None:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if self.errors:
            return cleaned
        kept = {field: getattr(self.instance, field) for field in (*FIXED, "secret_key") if field != "collection"}
        asked = {**kept, **cleaned}
        credentials = {field: asked.get(field, "") for field in registering.CREDENTIALS}
        credentials["secret_key"] = cleaned["new_secret"] or kept["secret_key"]
        try:
            cleaned["location"], cleaned["hosts"] = registering.checked(
                asked["kind"], asked["location"], asked["hosts"], by_operator=True, **credentials
            )
        except InvalidRequest as error:
            for field, sentence in (error.fields or {}).items():
                named = "new_secret" if field == "secret_key" else field
                self.add_error(named if named in self.fields else None, sentence)
        return cleaned


@admin.register(Source)
class SourceAdmin(TenantAdmin):
    read_by = BUILDERS | ANALYSTS
    written_by = BUILDERS
    form = SourceForm
    delete_confirmation_template = "admin/knowledge/source/delete_confirmation.html"
    actions = None  # each asks what becomes of its documents
    empty_title = "No sources yet"
    empty_hint = (
        "A source brings a whole web site, sitemap or bucket to a collection, and again by a schedule. Add one."
    )
    list_display = ("name", "collection", "shown_kind", "state", "documents", "last_run", "next_run")
    list_filter = ("kind", "collection")
    list_select_related = ("collection",)
    search_fields = ("name", "location")
    fieldsets = (
        (None, {"fields": ("collection", "kind", "location", "name")}),
        ("What belongs to it", {"fields": ("depth", "hosts", "max_pages", "every_hours")}),
        ("Of a bucket", {"fields": ("endpoint", "region", "access_key", "new_secret")}),
    )
    actions_detail: Any = ("run_now", "stop_run")
    actions_row: Any = ("run_now",)

    class Media:
        css = {"all": ["admin/parley/admin.css"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Source]:
        rows: QuerySet[Source] = super().get_queryset(request)
        newest = SourceRun.objects.filter(tenant=OuterRef("tenant"), source=OuterRef("pk")).order_by("-created")
        return rows.select_related("tenant").annotate(
            document_count=Count("pages__document"),
            newest_state=Subquery(newest.values("state")[:1]),
            newest_at=Subquery(newest.values("created")[:1]),
        )

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, change, **kwargs)
        form.by_operator = is_operator(request)
        return form

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        # Which documents are its own follows from them.
        return [*super().get_readonly_fields(request, obj), *(FIXED if obj else ())]

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        sections = super().get_fieldsets(request, obj)
        if obj is not None and not self.has_change_permission(request, obj):
            sections[-1][1]["fields"] = ("endpoint", "region", "access_key")
        return sections if obj is None or obj.kind == Source.Kind.BUCKET else sections[:-1]

    # --- Adding, changing, deleting ---

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        fields = {name: form.cleaned_data[name] for name in CHANGEABLE if name in form.cleaned_data}
        if secret := form.cleaned_data.get("new_secret"):
            fields["secret_key"] = secret
        if change:
            registering.change_source(obj.tenant, self.row(request, obj.pk), **fields)
            return
        fixed = {name: form.cleaned_data[name] for name in FIXED}
        added = registering.add_source(
            obj.tenant,
            fixed.pop("collection"),
            created_by=request.user,  # type: ignore[arg-type]  # admin_view lets nobody else in
            by_operator=is_operator(request),
            **fixed,
            **fields,
        )
        obj.__dict__.update(added.__dict__)

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().changeform_view(request, *args, **kwargs)
        except (InvalidRequest, NotPermitted) as error:  # another one begins there
            messages.error(request, _said(error))
            return HttpResponseRedirect(request.get_full_path())

    def delete_model(self, request: HttpRequest, obj: Source) -> None:
        registering.delete_source(obj.tenant, obj, keep_documents="keep_documents" in request.POST)

    # --- Running ---

    @action(  # type: ignore[operator]
        description="Run now",
        url_path="run",
        icon="play_arrow",
        permissions=["change"],
        dialog={
            "title": "Run this source now?",
            "description": "Its pages are looked at one after the other, and what is new or has changed is ingested.",
            "form_class": None,
            "form_submit_text": "Run now",
        },
    )
    def run_now(self, request: HttpRequest, _form: Any, object_id: str) -> HttpResponse:
        source = self.row(request, object_id, to_write=True)
        _, is_new = schedule.run_now(source.tenant, source)
        if is_new:
            audit.record(source, "source.run", audit.actor_of(request), source)
        messages.success(request, "It runs as soon as a worker is free." if is_new else "It is running already.")
        return _to(source)

    @action(  # type: ignore[operator]
        description="Stop",
        url_path="stop",
        icon="stop",
        permissions=["change"],
        dialog={
            "title": "Stop the run?",
            "description": "What it has brought so far stays. The next run begins anew.",
            "form_class": None,
            "form_submit_text": "Stop it",
        },
    )
    def stop_run(self, request: HttpRequest, _form: Any, object_id: str) -> HttpResponse:
        source = self.row(request, object_id, to_write=True)
        if schedule.stop(source.tenant, source):
            audit.record(source, "source.stopped", audit.actor_of(request), source)
            messages.success(request, "The run is stopped.")
        else:
            messages.info(request, "It was not running.")
        return _to(source)

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        source = kwargs.get("obj")
        if source is not None:
            runs = list(SourceRun.objects.for_tenant(source.tenant_id).filter(source=source))
            wanted = request.GET.get("run", "")
            shown = next((run for run in runs if str(run.pk) == wanted), runs[0] if runs else None)
            context |= {
                "runs": [(run, STATES[SourceRun.State(run.state)]) for run in runs],
                "run": shown,
                "variant": STATES[SourceRun.State(shown.state)] if shown else "",
                "documents": Document.objects.for_tenant(source.tenant_id).filter(source_page__source=source).count(),
            }
        return super().render_change_form(request, context, *args, **kwargs)

    # --- Columns ---

    @display(description="Kind", ordering="kind")
    def shown_kind(self, source: Source) -> str:
        return str(source.get_kind_display())

    @display(description="Last run", label=LABELS)
    def state(self, source: Any) -> str | None:
        return str(SourceRun.State(source.newest_state).label) if source.newest_state else None

    @display(description="Documents")
    def documents(self, source: Any) -> str:
        return number(source.document_count)

    @display(description="Begun", ordering="newest_at")
    def last_run(self, source: Any) -> SafeString | str:
        return ago(source.newest_at, never="Never")

    @display(description="Next run", ordering="next_run_at")
    def next_run(self, source: Source) -> SafeString | str:
        return ago(source.next_run_at, never="By hand" if not source.every_hours else NOTHING)


def _to(source: Source) -> HttpResponse:
    return HttpResponse(headers={"HX-Redirect": reverse("admin:knowledge_source_change", args=[source.pk])})


def _said(error: ParleyError) -> str:
    return " ".join([error.message, *(error.fields or {}).values()])
