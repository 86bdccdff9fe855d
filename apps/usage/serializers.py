"""The shapes of usage in the API."""

from __future__ import annotations

import datetime as dt
from typing import Any

from rest_framework import serializers

from apps.usage.models import UsageRecord
from apps.usage.reports import GROUPS

DEFAULT_DAYS = 30
MAX_DAYS = 366
YEARS = range(2000, 2200)  # beyond them days cannot be reckoned with in every time zone


class PeriodSerializer(serializers.Serializer[Any]):
    """Whole days in the tenant's time zone; `context["today"]` is the tenant's."""

    to = serializers.DateField(required=False, help_text="The last day, included; today unless told.")
    user = serializers.CharField(
        required=False, default="", max_length=200, allow_blank=True, help_text="Of this end user alone."
    )

    def get_fields(self) -> dict[str, Any]:
        first = serializers.DateField(
            required=False, help_text=f"The first day, like 2026-03-01; {DEFAULT_DAYS} days up to `to` unless told."
        )
        return {"from": first, **super().get_fields()}  # a word of Python's own

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        last = attrs.get("to") or self.context["today"]
        if last.year not in YEARS:
            raise serializers.ValidationError({"to": "This day is too far away."})
        first = attrs.get("from") or last - dt.timedelta(days=DEFAULT_DAYS - 1)
        if not 0 <= (last - first).days < MAX_DAYS:
            raise serializers.ValidationError({"from": f"A period has between 1 and {MAX_DAYS} days."})
        return {**attrs, "from": first, "to": last}


class ReportQuerySerializer(PeriodSerializer):
    group_by = serializers.ChoiceField(
        GROUPS, required=False, default="day", help_text="`key` is the API key, `client` the OAuth2 client."
    )


class UsageBillsSerializer(serializers.Serializer[Any]):
    """How many of the requests were billed how."""

    once = serializers.IntegerField(help_text="Whole answers.")
    delivered = serializers.IntegerField(help_text="Answers that were stopped or broke off: as far as they came.")
    loss = serializers.IntegerField(help_text="Not billed: the platform's own loss.")
    none = serializers.IntegerField(help_text="Not billed.")


class UsageTotalsSerializer(serializers.Serializer[Any]):
    requests = serializers.IntegerField(help_text="Questions and calls for embeddings; not what documents took.")
    unsettled = serializers.IntegerField(help_text="Still being answered; their tokens are not known yet.")
    prompt_tokens = serializers.IntegerField()
    completion_tokens = serializers.IntegerField()
    total_tokens = serializers.IntegerField()
    pages = serializers.IntegerField(help_text="Of documents that were read.")
    cost = serializers.DecimalField(
        max_digits=40, decimal_places=8, help_text="At the endpoints' prices of then, in the installation's currency."
    )
    bills = UsageBillsSerializer()


class UsageGroupSerializer(UsageTotalsSerializer):
    key = serializers.CharField(
        allow_null=True,
        help_text="The day, the end user, the model, the kind, or the id of the assistant, the API key or the OAuth2 "
        "client; null for what has been deleted, and where there was none.",
    )
    name = serializers.CharField(
        allow_null=True, help_text="What people call this assistant, key or client; null for any other group."
    )


class KeptSerializer(serializers.Serializer[Any]):
    """What is kept right now, whatever the period."""

    documents = serializers.IntegerField()
    bytes = serializers.IntegerField(help_text="Of the documents' files.")


class UsageReportSerializer(serializers.Serializer[Any]):
    """What a period cost, and each of its groups."""

    to = serializers.DateField()
    group_by = serializers.ChoiceField(GROUPS)
    kept = KeptSerializer()
    total = UsageTotalsSerializer()
    results = UsageGroupSerializer(many=True)

    def get_fields(self) -> dict[str, Any]:
        return {"from": serializers.DateField(), **super().get_fields()}


class UsageRecordSerializer(serializers.ModelSerializer[UsageRecord]):
    """What one turn, one call for embeddings, or one step of a document cost. It outlives what it names."""

    turn = serializers.UUIDField(source="turn_id", allow_null=True, help_text="Null but for a question.")
    assistant = serializers.UUIDField(source="assistant_id", allow_null=True)
    document = serializers.UUIDField(
        source="document_id",
        allow_null=True,
        help_text="Null but for an ingestion. The second index of a collection where that was built.",
    )
    user = serializers.CharField(source="end_user.external_id", default=None, allow_null=True)
    api_key = serializers.CharField(source="api_key.name", default=None, allow_null=True, help_text="The key's name.")
    client = serializers.UUIDField(source="oauth_client_id", allow_null=True, help_text="The OAuth2 client's id.")

    class Meta:
        model = UsageRecord
        fields = (
            "id",
            "kind",
            "turn",
            "assistant",
            "document",
            "user",
            "api_key",
            "client",
            "model",
            "state",
            "bill",
            "prompt_tokens",
            "completion_tokens",
            "pages",
            "estimated",
            "cost",
            "created",
            "settled_at",
        )
