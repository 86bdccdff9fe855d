"""The shapes of webhooks and deliveries in the API."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from apps.edge.fields import Text, Truth
from apps.webhooks.models import ANNOUNCED, Delivery, Event, Webhook

MOST_IDS = 100


class WebhookFieldsSerializer(serializers.Serializer[Any]):
    """What a tenant decides of a webhook."""

    name = Text(max_length=100, help_text="By which you find it again.")
    url = Text(max_length=500, help_text="A public https:// address that takes POST requests.")
    events = serializers.ListField(
        child=serializers.ChoiceField([str(event) for event in ANNOUNCED]), min_length=1, max_length=len(ANNOUNCED)
    )
    assistants = serializers.ListField(
        child=serializers.UUIDField(),
        max_length=MOST_IDS,
        required=False,
        help_text="Ids: only turns of these are told. Empty: of all.",
    )
    collections = serializers.ListField(
        child=serializers.UUIDField(),
        max_length=MOST_IDS,
        required=False,
        help_text="Ids: only documents of these are told. Empty: of all.",
    )
    enabled = Truth(required=False, help_text="Switched off, nothing is sent or kept for later.")


class WebhookSerializer(serializers.ModelSerializer[Webhook]):
    events = serializers.ListField(child=serializers.ChoiceField([str(event) for event in ANNOUNCED]))

    class Meta:
        model = Webhook
        fields = (
            "id",
            "name",
            "url",
            "events",
            "assistants",
            "collections",
            "enabled",
            "disabled_at",
            "disabled_reason",
            "failures",
            "failing_since",
            "created",
        )
        extra_kwargs = {
            "disabled_at": {"help_text": "When Parley switched it off, and why: `disabled_reason`."},
            "failures": {"help_text": "Attempts that failed since the last one that did not."},
        }


class IssuedSerializer(WebhookSerializer):
    """A webhook with its secret, which is not shown again."""

    secret = serializers.CharField(read_only=True, help_text="Signs what is sent. It is not shown again.")

    class Meta(WebhookSerializer.Meta):
        fields = (*WebhookSerializer.Meta.fields, "secret")  # type: ignore[assignment]


class DeliverySerializer(serializers.ModelSerializer[Delivery]):
    id = serializers.CharField(source="message_id", help_text="The message's `webhook-id`.")
    type = serializers.ChoiceField(choices=[str(event) for event in Event], source="event")
    data = serializers.DictField(help_text="As the message holds it.")  # type: ignore[assignment]
    next_attempt_at = serializers.SerializerMethodField(help_text="Of one that is pending.")

    class Meta:
        model = Delivery
        fields = (
            "id",
            "type",
            "data",
            "status",
            "attempts",
            "next_attempt_at",
            "status_code",
            "error",
            "duration_ms",
            "created",
            "delivered_at",
        )
        extra_kwargs = {
            "status_code": {"help_text": "Of the last answer."},
            "error": {"help_text": "What was wrong with the last attempt; empty where nothing was."},
            "duration_ms": {"help_text": "Of the last attempt."},
        }

    def get_next_attempt_at(self, delivery: Delivery) -> str | None:
        pending = delivery.status == Delivery.Status.PENDING
        return delivery.next_attempt_at.isoformat() if pending else None
