"""The shapes of collections, documents and found passages in the API."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db.models import Count, QuerySet
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apps.edge.fields import ModelSerializer, Number, Text
from apps.knowledge.models import (
    MOST_TAGS,
    TAG_CHARS,
    TITLE_CHARS,
    URL_CHARS,
    Collection,
    Document,
    EmbeddingIndex,
    SecondIndex,
    Upload,
)
from apps.tenants.models import Tenant
from chatbot.errors import InvalidRequest
from chatbot.formats import LABELS
from chatbot.languages import LANGUAGES


class IndexSerializer(serializers.Serializer[EmbeddingIndex]):
    """The embedding model by whose vectors searches compare, and how many numbers each has."""

    model = serializers.CharField()
    dimension = serializers.IntegerField()


class BuildProgressSerializer(serializers.Serializer[SecondIndex]):
    done = serializers.IntegerField()
    total = serializers.IntegerField()


class BuildFailureSerializer(serializers.Serializer[SecondIndex]):
    """Why building it failed; with the states `retrying` and `waiting` it goes on by itself."""

    code = serializers.CharField(source="failure_code")
    message = serializers.CharField(source="failure_message")


class SecondIndexSerializer(serializers.ModelSerializer[SecondIndex]):
    model = serializers.CharField(source="index.model")
    dimension = serializers.IntegerField(source="index.dimension")
    progress = BuildProgressSerializer(
        source="*", help_text="Passages that have a vector in it, of all, at its worker's last count."
    )
    failure = serializers.SerializerMethodField()
    switched = serializers.BooleanField(help_text="It was in use, until the collection switched to the other.")

    class Meta:
        model = SecondIndex
        fields = ("model", "dimension", "state", "switched", "progress", "failure", "created")
        read_only_fields = fields

    @extend_schema_field(BuildFailureSerializer(allow_null=True))
    def get_failure(self, second: SecondIndex) -> dict[str, Any] | None:
        return dict(BuildFailureSerializer(second).data) if second.failure_code else None


class CollectionSerializer(ModelSerializer[Collection]):
    slug = Text(max_length=63, required=False, help_text="Made of the name if left out.")
    documents = serializers.IntegerField(
        source="document_count", read_only=True, help_text="How many it holds, ready or not."
    )
    index = IndexSerializer(read_only=True)
    second_index = serializers.SerializerMethodField(help_text="Beside the one in use, if there is one.")

    class Meta:
        model = Collection
        fields = ("id", "name", "slug", "description", "fields", "documents", "index", "second_index", "created")
        read_only_fields = ("id", "created")

    @extend_schema_field(SecondIndexSerializer(allow_null=True))
    def get_second_index(self, collection: Collection) -> dict[str, Any] | None:
        second = getattr(collection, "second_index", None)
        return dict(SecondIndexSerializer(second).data) if second else None


def with_counts(tenant: Tenant) -> QuerySet[Collection]:
    """Collections with all that CollectionSerializer shows."""
    rows: QuerySet[Collection] = Collection.objects.for_tenant(tenant)
    return rows.select_related("index", "second_index__index").annotate(document_count=Count("documents"))


class CollectionChangeSerializer(ModelSerializer[Collection]):
    """What can be changed; the slug stays, because programs and assistants know the collection by it."""

    class Meta:
        model = Collection
        fields = ("name", "description", "fields")


class ProgressSerializer(serializers.Serializer[Document]):
    """How many pages are read, while it is `extracting`, or passages have their vectors; zero of zero until that is
    known."""

    done = serializers.IntegerField(source="progress_done")
    total = serializers.IntegerField(source="progress_total")
    unit = serializers.SerializerMethodField()

    @extend_schema_field(serializers.ChoiceField(["pages", "passages"]))
    def get_unit(self, document: Document) -> str:
        return "pages" if document.status == Document.Status.EXTRACTING else "passages"


class FailureSerializer(serializers.Serializer[Document]):
    """Why the last attempt failed. With status `retrying` another one follows by itself,
    with `waiting` once a quota is free again."""

    code = serializers.CharField(source="failure_code")
    message = serializers.CharField(source="failure_message")


class DocumentSerializer(serializers.ModelSerializer[Document]):
    collection = serializers.SlugRelatedField[Collection](slug_field="slug", read_only=True)
    ahead = serializers.IntegerField(
        read_only=True, allow_null=True, help_text="While it is queued: about how many documents are taken before it."
    )
    progress = ProgressSerializer(source="*")
    failure = serializers.SerializerMethodField()
    retry_at = serializers.SerializerMethodField()
    language = serializers.CharField(read_only=True, help_text="As somebody said it is in; empty where nobody did.")
    stemming = serializers.CharField(
        read_only=True, help_text="The language by whose stems its words are searched; `simple` where by none."
    )

    class Meta:
        model = Document
        fields = (
            "id",
            "collection",
            "title",
            "file_name",
            "source_url",
            "fetched_at",
            "media_type",
            "size",
            "status",
            "ahead",
            "progress",
            "failure",
            "retry_at",
            "tags",
            "fields",
            "language",
            "stemming",
            "pages",
            "passages",
            "created",
            "ready_at",
        )

    @extend_schema_field(FailureSerializer(allow_null=True))
    def get_failure(self, document: Document) -> dict[str, Any] | None:
        return dict(FailureSerializer(document).data) if document.failure_code else None

    @extend_schema_field(serializers.DateTimeField(allow_null=True))
    def get_retry_at(self, document: Document) -> str | None:
        """When it goes on by itself, while it is `retrying` or `waiting`."""
        return serializers.DateTimeField().to_representation(document.next_attempt_at) if document.pauses else None


LANGUAGE = (
    "In which it is written, by its code of two letters, or `other`; empty to have it found out. Words are searched by "
    "its stems."
)


class DocumentChangeSerializer(serializers.Serializer[Any]):
    """What searches can be narrowed by, and the language; each replaces what was there."""

    tags = serializers.ListField(child=Text(max_length=TAG_CHARS), required=False, max_length=MOST_TAGS)
    fields = serializers.DictField(required=False, help_text="Values of the fields that the collection declares.")  # type: ignore[assignment]
    language = serializers.ChoiceField(LANGUAGES, required=False, allow_blank=True, help_text=LANGUAGE)


class RefusalSerializer(serializers.Serializer[Any]):
    """Why a file was not taken."""

    code = serializers.CharField()
    message = serializers.CharField(source="sentence")


class ArrivalSerializer(serializers.Serializer[Any]):
    """What became of one file: its document, which may have been there already, or why it was refused."""

    file_name = serializers.CharField(source="name")
    added = serializers.BooleanField(help_text="False where the same bytes were there already, and where refused.")
    document = DocumentSerializer(allow_null=True)
    refusal = RefusalSerializer(allow_null=True)


class ArrivalsSerializer(serializers.Serializer[Any]):
    """Of a request with several files or a ZIP."""

    results = ArrivalSerializer(many=True)


class RememberedRefusalSerializer(serializers.Serializer[Any]):
    """Why a file was not taken."""

    code = serializers.CharField()
    message = serializers.CharField()


class OutcomeSerializer(serializers.Serializer[Any]):
    """What became of a file of an upload that is whole."""

    file_name = serializers.CharField()
    added = serializers.BooleanField(help_text="False where the same bytes were there already, and where refused.")
    document = serializers.UUIDField(allow_null=True)
    refusal = RememberedRefusalSerializer(allow_null=True)


class ResumableSerializer(serializers.ModelSerializer[Upload]):
    """An upload in pieces, and how far it has come."""

    collection = serializers.SlugRelatedField[Collection](slug_field="slug", read_only=True)
    results = OutcomeSerializer(many=True, help_text="Empty until all bytes have come; of a ZIP one for each file.")

    class Meta:
        model = Upload
        fields = (
            "id",
            "collection",
            "file_name",
            "title",
            "language",
            "size",
            "offset",
            "results",
            "created",
            "expires",
        )


FILE = f"{', '.join(LABELS.values())}; in a multipart form. Several such parts, or a ZIP, are answered by a list."
TEXT = "Markdown or plain text."
URL = "An address that begins with https:// or http://, of a public host; fetched in the background."


class UploadSerializer(serializers.Serializer[Any]):
    """A document by its file, its text or its address."""

    collection = Text(max_length=64, help_text="Slug or id.")
    file = serializers.FileField(required=False, allow_empty_file=True, help_text=FILE)
    text = Text(required=False, trim_whitespace=False, help_text=TEXT)
    url = Text(max_length=URL_CHARS, required=False, help_text=URL)
    title = Text(max_length=TITLE_CHARS, required=False, default="", allow_blank=True)
    language = serializers.ChoiceField(LANGUAGES, required=False, allow_blank=True, help_text=LANGUAGE)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        return _one_source(attrs)


class ReplaceSerializer(serializers.Serializer[Any]):
    """New content for a document."""

    file = serializers.FileField(required=False, help_text=FILE)
    text = Text(required=False, trim_whitespace=False, help_text=TEXT)
    url = Text(max_length=URL_CHARS, required=False, help_text=URL)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        return _one_source(attrs)


def _one_source(attrs: dict[str, Any]) -> dict[str, Any]:
    if len({"file", "text", "url"} & attrs.keys()) != 1:
        raise InvalidRequest(fields={"file": "Send one of these: a file, in a multipart form, a text, or a url."})
    return attrs


class SearchSerializer(serializers.Serializer[Any]):
    """A question to a collection."""

    collection = Text(max_length=64, help_text="Slug or id.")
    query = Text(max_length=settings.PARLEY_MAX_QUESTION_CHARS)
    limit = Number(min_value=1, max_value=50, required=False, default=6)
    filter = serializers.DictField(
        required=False,
        default=dict,
        help_text="Narrows by documents: tags, source, after, before, and the fields that the collection declares.",
    )


class SourceSerializer(serializers.Serializer[Any]):
    """A passage, best first; an answer's [n] refer to its number."""

    n = serializers.IntegerField()
    chunk = serializers.UUIDField()
    document = serializers.UUIDField()
    title = serializers.CharField()
    heading = serializers.ListField(child=serializers.CharField())
    page = serializers.IntegerField(allow_null=True)
    text = serializers.CharField()
    score = serializers.FloatField(help_text="From 0 to 1: it orders these passages and means nothing else.")


class ScoresSerializer(serializers.Serializer[Any]):
    """What each way to find it says of a passage; null where it says nothing."""

    vector = serializers.FloatField(allow_null=True, help_text="Likeness of the vectors, by the cosine; 1 at most.")
    text = serializers.FloatField(
        allow_null=True, help_text="Share of the question's words that it holds, by their rarity."
    )
    trigram = serializers.FloatField(allow_null=True, help_text="Likeness of spellings, 1 for each word that is there.")
    fused = serializers.FloatField(help_text="What these come to together, from 0 to 1.")
    rerank = serializers.FloatField(allow_null=True, help_text="By the reranking model's own scale.")


class ResultSerializer(SourceSerializer):
    scores = ScoresSerializer()
    why = serializers.CharField(help_text="Where it stood in each list, in words.")


class SearchTimingsSerializer(serializers.Serializer[Any]):
    embedding_ms = serializers.FloatField()
    database_ms = serializers.FloatField()
    rerank_ms = serializers.FloatField(allow_null=True, help_text="null where no model put them in order.")
    degraded = serializers.ListField(
        child=serializers.CharField(),
        help_text="What had to be done without, and why: `vector: model_unavailable`, `trigram: too_many_passages`, "
        "`rerank: too_late`, `cache: not_answering`.",
    )


class ResultsSerializer(serializers.Serializer[Any]):
    results = ResultSerializer(many=True)
    timings = SearchTimingsSerializer()
