"""Inference endpoints: the model servers that answer and embed."""

from __future__ import annotations

import uuid

from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone

from apps.edge.encryption import EncryptedTextField
from apps.tenants.models import Tenant


class EndpointQuerySet(models.QuerySet["Endpoint"]):
    def serving(self, tenant: Tenant, kind: str) -> EndpointQuerySet:
        """Enabled endpoints of a kind that `tenant` may use, in the order in which they are tried."""
        return self.filter(Q(tenants=None) | Q(tenants=tenant), kind=kind, enabled=True).order_by("created").distinct()


class Endpoint(models.Model):
    """A model server at an address. Operators own it; tenants are allowed to use it."""

    class Kind(models.TextChoices):
        CHAT = "chat", "Chat"
        EMBEDDING = "embedding", "Embedding"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=100, unique=True)
    kind = models.CharField(max_length=10, choices=Kind, default=Kind.CHAT)
    base_url = models.CharField(
        "base URL",
        max_length=500,
        validators=[
            RegexValidator(r"^https?://[^\s@\\]+$", "Enter an http:// or https:// address without a login in it.")
        ],
        help_text="Of an OpenAI-compatible server, for example http://tgi:8080 or https://host/v1.",
    )
    model = models.CharField(max_length=200, help_text="As the server names it.")
    api_key = EncryptedTextField(
        "API key", blank=True, default="", help_text="Sent as a bearer token. Stored encrypted."
    )
    context_length = models.PositiveIntegerField(
        "context length",
        default=8192,
        validators=[MinValueValidator(256)],
        help_text="Tokens of prompt and answer together.",
    )
    dimension = models.PositiveIntegerField(
        null=True, blank=True, help_text="Numbers in a vector; embedding endpoints only."
    )
    first_token_seconds = models.PositiveSmallIntegerField(
        "longest wait for the first token",
        default=15,
        validators=[MinValueValidator(1), MaxValueValidator(120)],
        help_text="In seconds. A slow machine that reads long prompts needs more.",
    )
    enabled = models.BooleanField(default=True)
    tenants = models.ManyToManyField(
        Tenant, blank=True, related_name="+", help_text="Leave empty to serve every tenant."
    )
    created = models.DateTimeField(default=timezone.now, editable=False)

    objects = EndpointQuerySet.as_manager()

    class Meta:
        ordering = ("name",)
        constraints = [
            models.CheckConstraint(condition=Q(kind__in=["chat", "embedding"]), name="endpoint_kind"),
            models.CheckConstraint(
                # The explicit NULL test, because a CHECK that comes out as NULL passes.
                condition=~Q(kind="embedding") | Q(dimension__isnull=False, dimension__gte=1, dimension__lte=4000),
                name="endpoint_dimension",
                violation_error_message="An embedding endpoint needs the dimension of its vectors (1 to 4000).",
            ),
            models.CheckConstraint(condition=Q(context_length__gte=256), name="endpoint_context_length"),
            models.CheckConstraint(
                condition=Q(first_token_seconds__gte=1, first_token_seconds__lte=120), name="endpoint_first_token"
            ),
        ]

    def __str__(self) -> str:
        return self.name
