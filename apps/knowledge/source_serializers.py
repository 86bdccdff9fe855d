"""The shapes of sources and their runs in the API."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apps.edge.fields import Number, Text
from apps.knowledge.models import Collection, Source, SourceRun
from apps.knowledge.source_models import DEEPEST, LOCATION_CHARS, LONGEST_INTERVAL, MOST_HOSTS, MOST_PAGES

LOCATION = (
    "Where it begins: an address, the sitemap's address, a path below the shared folder, or bucket/prefix. It stays."
)


class RunFailureSerializer(serializers.Serializer[SourceRun]):
    """Why a run ended before its time; what it had brought by then stays."""

    code = serializers.CharField(source="failure_code")
    message = serializers.CharField(source="failure_message")


class RunProgressSerializer(serializers.Serializer[SourceRun]):
    """Pages that were looked at, of those that were found so far."""

    done = serializers.IntegerField()
    total = serializers.IntegerField(source="found")
    unit = serializers.CharField(default="pages", read_only=True)


class PageRefusalSerializer(serializers.Serializer[Any]):
    """A page of which no document was made, and why."""

    address = serializers.CharField()
    code = serializers.CharField()
    message = serializers.CharField()


class SourceRunSerializer(serializers.ModelSerializer[SourceRun]):
    """What a run found. `gone` are documents that were deleted, since two complete runs in a row did not find them;
    `refusals` names the first hundred."""

    progress = RunProgressSerializer(source="*", read_only=True)
    refusals = PageRefusalSerializer(many=True, read_only=True)
    complete = serializers.SerializerMethodField(help_text="Whether it saw everything, so that it says what is absent.")
    failure = serializers.SerializerMethodField()

    class Meta:
        model = SourceRun
        fields = (
            "id",
            "state",
            "progress",
            "found",
            "new",
            "changed",
            "unchanged",
            "gone",
            "refused",
            "refusals",
            "complete",
            "failure",
            "created",
            "ended",
        )
        read_only_fields = fields

    def get_complete(self, run: SourceRun) -> bool:
        return run.state == SourceRun.State.FINISHED and not run.cut

    @extend_schema_field(RunFailureSerializer(allow_null=True))
    def get_failure(self, run: SourceRun) -> dict[str, Any] | None:
        return dict(RunFailureSerializer(run).data) if run.failure_code else None


class KnowledgeSourceSerializer(serializers.ModelSerializer[Source]):
    """A source with its newest run. The secret of a bucket is never shown."""

    collection = serializers.SlugRelatedField[Collection](slug_field="slug", read_only=True)
    documents = serializers.IntegerField(source="document_count", read_only=True)
    last_run = serializers.SerializerMethodField()

    class Meta:
        model = Source
        fields = (
            "id",
            "collection",
            "name",
            "kind",
            "location",
            "depth",
            "hosts",
            "max_pages",
            "every_hours",
            "endpoint",
            "region",
            "access_key",
            "documents",
            "next_run_at",
            "last_run",
            "created",
        )
        read_only_fields = fields

    @extend_schema_field(SourceRunSerializer(allow_null=True))
    def get_last_run(self, source: Source) -> dict[str, Any] | None:
        run = next(iter(source.newest_runs), None)  # type: ignore[attr-defined]  # prefetched by the view
        return dict(SourceRunSerializer(run).data) if run else None


class SourceChangeSerializer(serializers.Serializer[Any]):
    """What can be changed of a source."""

    name = Text(max_length=100, required=False)
    depth = Number(
        min_value=0, max_value=DEEPEST, required=False, help_text="Of a site: how many links from the start it goes."
    )
    hosts = serializers.ListField(
        child=Text(max_length=253),
        max_length=MOST_HOSTS,
        required=False,
        help_text="Others than the one of `location`.",
    )
    max_pages = Number(min_value=1, max_value=MOST_PAGES, required=False)
    every_hours = Number(min_value=0, max_value=LONGEST_INTERVAL, required=False, help_text="0: by hand alone.")
    region = Text(max_length=50, required=False, allow_blank=True)
    access_key = Text(max_length=200, required=False)
    secret_key = Text(max_length=500, required=False, write_only=True)


class SourceCreationSerializer(SourceChangeSerializer):
    """A new source of a collection."""

    collection = Text(max_length=64, help_text="Slug or id.")
    kind = serializers.ChoiceField(choices=Source.Kind.choices)
    location = Text(max_length=LOCATION_CHARS, help_text=LOCATION)
    endpoint = Text(
        max_length=300,
        required=False,
        allow_blank=True,
        help_text="Address of the bucket's server; Amazon's unless told.",
    )
