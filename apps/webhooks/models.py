"""Webhooks, the addresses that are told what happened, and their deliveries, each of one event to one webhook."""

from __future__ import annotations

import datetime
from typing import Any, ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.utils import timezone

from apps.edge.encryption import EncryptedTextField
from apps.tenants.models import User
from apps.tenants.scoping import TenantOwned, TenantQuerySet

SENTENCE_CHARS = 300


class Event(models.TextChoices):
    """What webhooks are told of; TEST is sent on request only."""

    TURN_FINISHED = "turn.finished", "A turn has ended"
    DOCUMENT_READY = "document.ready", "A document is ready"
    DOCUMENT_FAILED = "document.failed", "A document has failed"
    QUOTA_REACHED = "quota.reached", "80% or all of a limit is used"
    CONVERSATION_HANDOFF = "conversation.handoff", "Somebody wants to talk to a person"
    TEST = "webhook.test", "Test"


ANNOUNCED = (
    Event.TURN_FINISHED,
    Event.DOCUMENT_READY,
    Event.DOCUMENT_FAILED,
    Event.QUOTA_REACHED,
    Event.CONVERSATION_HANDOFF,
)


class Webhook(TenantOwned):
    """An address of a tenant's that is told of some events, signed with a secret that both sides know."""

    name = models.CharField(max_length=100)
    url = models.CharField("address", max_length=500)
    events = ArrayField(models.CharField(max_length=30, choices=Event))
    # Ids and not relations: one that is deleted leaves its id behind, so that the webhook is never told of more than
    # it was meant to be. Empty: of all.
    assistants = ArrayField(models.UUIDField(), default=list, blank=True)
    collections = ArrayField(models.UUIDField(), default=list, blank=True)
    secret = EncryptedTextField(editable=False)
    previous_secret = EncryptedTextField(blank=True, default="", editable=False)
    previous_secret_until = models.DateTimeField(null=True, blank=True, editable=False)
    enabled = models.BooleanField(default=True)
    # Attempts that failed since the last one that did not, and when the first of them was.
    failures = models.PositiveIntegerField(default=0, editable=False)
    failing_since = models.DateTimeField(null=True, blank=True, editable=False)
    disabled_at = models.DateTimeField(null=True, blank=True, editable=False)
    disabled_reason = models.CharField(max_length=SENTENCE_CHARS, blank=True, default="", editable=False)
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    created = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ("-created",)
        indexes = [models.Index(fields=["tenant", "-created"], name="webhook_of_tenant")]
        constraints = [
            models.CheckConstraint(
                condition=Q(events__contained_by=[str(event) for event in ANNOUNCED], events__len__gte=1),
                name="webhook_events",
            ),
            models.CheckConstraint(condition=~Q(secret=""), name="webhook_has_secret"),
            models.CheckConstraint(
                condition=Q(failures=0, failing_since=None) | Q(failures__gt=0, failing_since__isnull=False),
                name="webhook_failing_whole",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def secrets(self, now: datetime.datetime) -> list[str]:
        """What to sign with: the secret, and for a while after a rotation the one before."""
        if self.previous_secret and self.previous_secret_until and now < self.previous_secret_until:
            return [self.secret, self.previous_secret]
        return [self.secret]


class DeliveryQuerySet(TenantQuerySet["Delivery"]):
    def due(self, now: datetime.datetime) -> DeliveryQuerySet:
        """To be sent now: neither backing off nor on its way."""
        return self.filter(status=Delivery.Status.PENDING, next_attempt_at__lte=now)


class Delivery(TenantOwned):
    """An event on its way to a webhook. Its id is the message's: retries repeat it, so that receivers can tell."""

    class Status(models.TextChoices):
        PENDING = "pending", "Pending"
        DELIVERED = "delivered", "Delivered"
        FAILED = "failed", "Failed"

    webhook = models.ForeignKey(Webhook, on_delete=models.CASCADE, related_name="deliveries", db_index=False)
    event = models.CharField(max_length=30, choices=Event)
    data = models.JSONField(
        help_text="Ids and states; never what was asked, answered or read. Of a hand-off, how to answer it."
    )
    status = models.CharField(max_length=10, choices=Status, default=Status.PENDING)
    attempts = models.PositiveSmallIntegerField(default=0)
    # While an attempt is under way: when another worker may assume that the one that made it is dead.
    next_attempt_at = models.DateTimeField(default=timezone.now)
    status_code = models.PositiveSmallIntegerField("last answer", null=True, blank=True)
    error = models.CharField("last failure", max_length=SENTENCE_CHARS, blank=True, default="")
    duration_ms = models.FloatField("took", null=True, blank=True)
    created = models.DateTimeField(default=timezone.now, editable=False)
    delivered_at = models.DateTimeField(null=True, blank=True)

    objects: ClassVar[Any] = DeliveryQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "deliveries"
        ordering = ("-created",)
        indexes = [
            models.Index(fields=["webhook", "next_attempt_at"], condition=Q(status="pending"), name="delivery_pending"),
            models.Index(fields=["webhook", "-created"], name="delivery_of_webhook"),
            # The admin's lists, newest first: a tenant's, a tenant's in one state, and the operators' of all.
            models.Index(fields=["tenant", "-created", "-id"], name="delivery_of_tenant"),
            models.Index(fields=["tenant", "status", "-created"], name="delivery_in_state"),
            models.Index(fields=["-created", "-id"], name="delivery_newest"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(status="delivered", delivered_at__isnull=False)
                | Q(status__in=["pending", "failed"], delivered_at=None),
                name="delivery_whole",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_event_display()}, {timezone.localtime(self.created):%d %B %Y, %H:%M:%S}"

    @property
    def message_id(self) -> str:
        return f"msg_{self.pk.hex}"

    @property
    def message(self) -> dict[str, Any]:
        """What the webhook is sent, as JSON."""
        created = self.created.astimezone(datetime.UTC)
        return {"type": str(self.event), "timestamp": created, "data": self.data}
