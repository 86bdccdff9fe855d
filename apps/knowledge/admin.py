"""The admin of collections and their documents: upload, watch the ingestion, read the passages."""

from __future__ import annotations

from functools import partial
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.paginator import Paginator
from django.db.models import Count, OuterRef, Q, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce, JSONObject
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.loader import render_to_string
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST
from unfold.decorators import display

from apps.inference.models import Endpoint
from apps.knowledge import admin_layouts as admin_layouts  # noqa: PLC0414 - registers the layouts
from apps.knowledge import admin_sources as admin_sources  # noqa: PLC0414 - registers the sources
from apps.knowledge import ingest
from apps.knowledge.admin_index import index_page
from apps.knowledge.admin_search import search_page
from apps.knowledge.admin_status import is_finished, status_html
from apps.knowledge.admin_upload import FORMATS, download, statuses, upload_page
from apps.knowledge.collections import create_collection, delete_collection
from apps.knowledge.models import Chunk, Collection, Document
from apps.tenants.admin_access import ANALYSTS, BUILDERS
from apps.tenants.admin_acting import enters_alone
from apps.tenants.admin_base import ReadOnlyTenantAdmin, TenantAdmin, TenantForm
from apps.tenants.admin_words import ago, number, size
from chatbot.errors import ParleyError
from chatbot.formats import LABELS

PASSAGES_A_PAGE = 20
STATES = (("ready", "ready", "success"), ("unfinished", "in progress", "info"), ("failed", "failed", "danger"))
NO_DOCUMENTS = {"documents": 0, "ready": 0, "failed": 0, "unfinished": 0, "passages": 0, "size": 0}


def totals_of_collection() -> Subquery:
    """Counts of a collection's documents as one JSON object; null where it has none."""
    documents = Document.objects.filter(tenant=OuterRef("tenant"), collection=OuterRef("pk")).order_by()
    ready, failed = Q(status=Document.Status.READY), Q(status=Document.Status.FAILED)
    totals = JSONObject(
        documents=Count("pk"),
        ready=Count("pk", filter=ready),
        failed=Count("pk", filter=failed),
        unfinished=Count("pk", filter=~ready & ~failed),
        passages=Coalesce(Sum("passages"), 0),
        size=Coalesce(Sum("size"), 0),
    )
    return Subquery(documents.values("collection").annotate(totals=totals).values("totals"))


class CollectionForm(TenantForm):
    class Meta:
        help_texts = {
            "slug": "Its name in the API. It cannot be changed later.",
            "description": "What its documents are about. Only your team reads this.",
            "fields": "Names of your own by which searches can be narrowed, separated by commas, such as department. "
            "Documents get their values through the API.",
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["description"].widget.attrs["rows"] = 3

    def clean(self) -> dict[str, Any] | None:
        if self.instance._state.adding and self.tenant is not None:
            serving = Endpoint.objects.serving(self.tenant, Endpoint.Kind.EMBEDDING)
            if not serving.exists():
                raise forms.ValidationError(
                    "No embedding endpoint serves this tenant yet, so documents could not be made searchable. "
                    "An operator adds one under Endpoints."
                )
        return super().clean()


@admin.register(Collection)
class CollectionAdmin(TenantAdmin):
    read_by = BUILDERS | ANALYSTS
    written_by = BUILDERS
    form = CollectionForm
    empty_title = "No collections yet"
    empty_hint = (
        "A collection holds documents that are searched together. Add one, then add files, addresses or texts to it."
    )
    list_display = ("name", "documents", "states", "passages", "bytes", "created_ago")
    search_fields = ("name", "slug")
    fields = ("name", "slug", "description", "fields")
    prepopulated_fields = {"slug": ("name",)}

    class Media:
        css = {"all": ["admin/parley/admin.css"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Collection]:
        rows: QuerySet[Collection] = super().get_queryset(request)
        return rows.select_related("tenant", "index").annotate(totals=totals_of_collection())

    def get_prepopulated_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return {} if obj else super().get_prepopulated_fields(request, obj)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        # API clients name a collection by its slug.
        return [*super().get_readonly_fields(request, obj), *(["slug"] if obj else [])]

    @display(description="Documents")
    def documents(self, collection: Any) -> SafeString:
        url = reverse("admin:knowledge_document_changelist")
        count = number((collection.totals or NO_DOCUMENTS)["documents"])
        return format_html('<a class="p-link" href="{}?collection__id__exact={}">{}</a>', url, collection.pk, count)

    @display(description="State")
    def states(self, collection: Any) -> SafeString:
        totals = collection.totals or NO_DOCUMENTS
        labels = [
            render_to_string("unfold/helpers/label.html", {"text": f"{number(totals[key])} {word}", "type": variant})
            for key, word, variant in STATES
            if totals[key]
        ]
        return format_html_join(" ", "{}", ([label] for label in labels)) if labels else SafeString("Empty")

    @display(description="Passages")
    def passages(self, collection: Any) -> str:
        return number((collection.totals or NO_DOCUMENTS)["passages"])

    @display(description="Size")
    def bytes(self, collection: Any) -> str:
        return size((collection.totals or NO_DOCUMENTS)["size"])

    @display(description="Created", ordering="created")
    def created_ago(self, collection: Collection) -> str:
        return ago(collection.created)

    def get_urls(self) -> list[URLPattern]:
        # Exempt, so that the size is checked before the CSRF check reads the body; upload_page then checks the token.
        upload = self.admin_site.admin_view(csrf_exempt(enters_alone(partial(upload_page, self))))
        search = self.admin_site.admin_view(enters_alone(partial(search_page, self)))
        index = partial(index_page, self)
        own = [
            path("<uuid:object_id>/upload/", upload, name="knowledge_collection_upload"),
            path("<uuid:object_id>/search/", search, name="knowledge_collection_search"),
            path("<uuid:object_id>/index/", self.admin_site.admin_view(index), name="knowledge_collection_index"),
        ]
        return [*own, *super().get_urls()]

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if change:
            super().save_model(request, obj, form, change)
            return
        created = create_collection(
            obj.tenant, name=obj.name, slug=obj.slug, description=obj.description, fields=obj.fields
        )
        obj.pk, obj.index, obj.created = created.pk, created.index, created.created
        obj._state.adding = False

    def response_add(self, request: HttpRequest, obj: Collection, post_url_continue: str | None = None) -> HttpResponse:
        if {"_popup", "_addanother", "_continue"} & request.POST.keys():
            return super().response_add(request, obj, post_url_continue)
        messages.success(request, f"The collection {obj.name} is ready for documents.")
        return HttpResponseRedirect(reverse("admin:knowledge_collection_upload", args=[obj.pk]))

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        collection = kwargs.get("obj")
        if collection is not None:
            documents = reverse("admin:knowledge_document_changelist")
            context |= {
                "totals": collection.totals or NO_DOCUMENTS,
                "index_url": reverse("admin:knowledge_collection_index", args=[collection.pk]),
                "search_url": reverse("admin:knowledge_collection_search", args=[collection.pk]),
                "upload_url": reverse("admin:knowledge_collection_upload", args=[collection.pk]),
                "documents_url": f"{documents}?collection__id__exact={collection.pk}",
            }
        return super().render_change_form(request, context, *args, **kwargs)

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().changeform_view(request, *args, **kwargs)
        except ParleyError as error:  # taken or withdrawn between the form's check and the write
            messages.error(request, " ".join([error.message, *(error.fields or {}).values()]))
            return HttpResponseRedirect(request.get_full_path())

    def delete_model(self, request: HttpRequest, obj: Collection) -> None:
        delete_collection(obj.tenant, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Collection]) -> None:
        for collection in queryset:
            self.delete_model(request, collection)


@admin.register(Document)
class DocumentAdmin(ReadOnlyTenantAdmin):
    """Documents are added on a page of their collection."""

    read_by = BUILDERS | ANALYSTS
    written_by = BUILDERS
    empty_title = "No documents yet"
    empty_hint = f"Open a collection and add files, addresses or texts to it. Readable are {FORMATS}."
    list_display = ("title", "collection", "live_status", "live_passages", "bytes", "created_ago")
    list_filter = ("status", "collection")
    list_select_related = ("collection",)
    search_fields = ("title", "file_name", "source_url")

    class Media:
        css = {"all": ["admin/parley/admin.css"]}
        js = ["admin/parley/documents.js"]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.permits(request, self.written_by, obj)

    @display(description="Status", ordering="status")
    def live_status(self, document: Document) -> SafeString:
        return status_html(document)

    @display(description="Passages", ordering="passages")
    def live_passages(self, document: Document) -> SafeString:
        return format_html('<span data-passages-of="{}">{}</span>', document.pk, number(document.passages))

    @display(description="Size", ordering="size")
    def bytes(self, document: Document) -> str:
        return size(document.size)

    @display(description="Added", ordering="created")
    def created_ago(self, document: Document) -> str:
        return ago(document.created)

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        own = [
            path("status/", wrap(partial(statuses, self)), name="knowledge_document_status"),
            path("<uuid:object_id>/download/", wrap(partial(download, self)), name="knowledge_document_download"),
            path("<uuid:object_id>/retry/", wrap(require_POST(self.retry)), name="knowledge_document_retry"),
        ]
        return [*own, *super().get_urls()]

    def retry(self, request: HttpRequest, object_id: str) -> HttpResponse:
        document = self.row(request, object_id, to_write=True)
        ingest.retry_document(document.tenant, document)
        deed = "fetched again" if document.to_fetch else "tried again"
        messages.success(request, f"{document.title} is {deed}.")
        return HttpResponseRedirect(reverse("admin:knowledge_document_change", args=[document.pk]))

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        document: Document = kwargs["obj"]
        passages = Chunk.objects.for_tenant(document.tenant_id).filter(document=document, live=True)
        pages = Paginator(passages.order_by("position").defer("tsv"), PASSAGES_A_PAGE)
        own = [document.pk]
        context |= {
            "title": document.title,
            "subtitle": None,
            # The page says in a note of its own why a document failed.
            "status": status_html(document, words=document.status != Document.Status.FAILED),
            "finished": is_finished(document),
            "format": LABELS.get(document.media_type, document.media_type),
            "page": pages.get_page(request.GET.get("page")),
            # Only addresses that were checked are stored, but a link is no place to rely on it.
            "source": document.source_url if document.source_url.startswith(("http://", "https://")) else "",
            "retry_url": reverse("admin:knowledge_document_retry", args=own),
            "download_url": reverse("admin:knowledge_document_download", args=own),
            "delete_url": reverse("admin:knowledge_document_delete", args=own),
            "collection_url": reverse("admin:knowledge_collection_change", args=[document.collection_id]),
        }
        return super().render_change_form(request, context, *args, **kwargs)

    def delete_model(self, request: HttpRequest, obj: Document) -> None:
        ingest.delete_document(obj.tenant, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Document]) -> None:
        for document in queryset:
            self.delete_model(request, document)
