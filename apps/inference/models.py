"""Inference endpoints: the model servers that answer, embed and rerank."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from typing import Any, Self
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone

from apps.edge.encryption import EncryptedTextField
from apps.tenants.models import Tenant
from chatbot.addresses import REFUSED, check_url
from chatbot.errors import InvalidRequest

ALLOWED_BY = "PARLEY_PRIVATE_ENDPOINT_HOSTS names the hosts that are reached although their addresses are not public."


class EndpointQuerySet(models.QuerySet["Endpoint"]):
    def serving(self, tenant: Tenant, kind: str) -> EndpointQuerySet:
        """Enabled endpoints of a kind that `tenant` may use, lower tiers first."""
        usable = self.filter(Q(tenants=None) | Q(tenants=tenant), kind=kind, enabled=True)
        return usable.order_by("tier", "created").distinct()

    def update(self, **changes: Any) -> int:
        """As Django's; where the address changes, no key stays that was not given with it."""
        if "base_url" in changes:
            changes.setdefault("api_key", "")
        return super().update(**changes)


class Endpoint(models.Model):
    """A model server at an address. Operators own it; tenants are allowed to use it.

    A new host gets no key that was meant for the old one: save() clears it unless it changes too, or is given anew
    (key_confirmed).
    """

    class Kind(models.TextChoices):
        CHAT = "chat", "Chat"
        EMBEDDING = "embedding", "Embedding"
        RERANK = "rerank", "Reranking"

    class Protocol(models.TextChoices):
        OPENAI = "openai", "OpenAI-compatible"
        VLLM = "vllm", "vLLM"
        TGI = "tgi", "Text Generation Inference"
        TGI_GENERATE = "tgi-generate", "Text Generation Inference, raw prompt"
        LLAMACPP = "llamacpp", "llama.cpp"
        TEI = "tei", "Text Embeddings Inference"
        HF = "hf", "Hugging Face"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=100, unique=True)
    kind = models.CharField(max_length=10, choices=Kind, default=Kind.CHAT)
    protocol = models.CharField(max_length=12, choices=Protocol, default=Protocol.OPENAI)
    base_url = models.CharField(
        "base URL",
        max_length=500,
        blank=True,
        validators=[
            RegexValidator(r"^https?://[^\s@\\]+$", "Enter an http:// or https:// address without a login in it.")
        ],
        help_text="The server's root, for example http://tgi:8080; it may end in /v1. Empty for a model of "
        "Hugging Face's Inference Providers.",
    )
    model = models.CharField(
        max_length=200,
        help_text="As the server names it; at Hugging Face its id, like org/name, or org/name:provider.",
    )
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
    connect_seconds = models.PositiveSmallIntegerField(
        "longest time to connect",
        default=2,
        db_default=2,
        validators=[MinValueValidator(1), MaxValueValidator(30)],
        help_text="In seconds.",
    )
    between_tokens_seconds = models.PositiveSmallIntegerField(
        "longest wait between tokens",
        default=10,
        db_default=10,
        validators=[MinValueValidator(1), MaxValueValidator(120)],
        help_text="In seconds. After it the answer ends as interrupted, with what was said.",
    )
    total_seconds = models.PositiveSmallIntegerField(
        "longest answer",
        default=180,
        db_default=180,
        validators=[MinValueValidator(5), MaxValueValidator(3600)],
        help_text="In seconds, from the question to the last token.",
    )
    wake_seconds = models.PositiveSmallIntegerField(
        "longest wait for one that sleeps",
        default=0,
        db_default=0,
        validators=[MaxValueValidator(900)],
        help_text="In seconds; dedicated Inference Endpoints of Hugging Face only. A question that finds nothing but "
        "this one, paused or scaled to zero, starts it and waits so long. 0 does not wait.",
    )
    hub_name = models.CharField(
        "name at Hugging Face",
        max_length=200,
        blank=True,
        default="",
        db_default="",
        validators=[RegexValidator(r"^[\w.-]+/[\w.-]+$", "Enter it as namespace/name.")],
        help_text="Of a dedicated Inference Endpoint, as namespace/name. A paused one is only found by it.",
    )
    tier = models.PositiveSmallIntegerField(
        default=0,
        db_default=0,
        validators=[MaxValueValidator(99)],
        help_text="Lower ones are asked first; a higher one only where none of a lower one can take the question.",
    )
    weight = models.FloatField(
        default=1.0,
        db_default=1.0,
        validators=[MinValueValidator(0.01), MaxValueValidator(100.0)],
        help_text="Its share of the questions among the endpoints of its tier.",
    )
    limit = models.PositiveIntegerField(
        "questions at once",
        default=128,
        db_default=128,
        validators=[MinValueValidator(1), MaxValueValidator(10_000)],
        help_text="That one server takes from all of Parley's processes together. Where the base URL names a host with "
        "several addresses, each is a server.",
    )
    prompt_price = models.DecimalField(
        "price of a million prompt tokens",
        max_digits=12,
        decimal_places=4,
        default=0,
        db_default=0,
        validators=[MinValueValidator(0)],
        help_text="In the currency in which this installation counts; 0 where it costs nothing.",
    )
    completion_price = models.DecimalField(
        "price of a million completion tokens",
        max_digits=12,
        decimal_places=4,
        default=0,
        db_default=0,
        validators=[MinValueValidator(0)],
        help_text="The same, for what the model writes.",
    )
    tags = models.CharField(
        max_length=200, blank=True, default="", db_default="", help_text="Words of your own, separated by commas."
    )
    enabled = models.BooleanField(default=True)
    draining = models.BooleanField(
        default=False, db_default=False, help_text="It takes no new questions, and ends those that it has."
    )
    tenants = models.ManyToManyField(
        Tenant, blank=True, related_name="+", help_text="Leave empty to serve every tenant."
    )
    created = models.DateTimeField(default=timezone.now, editable=False)

    key_confirmed = False  # the key was given for the address that is being saved
    _saved: tuple[tuple[str, str], str] | None = None  # host and key as they stand in the database

    objects = EndpointQuerySet.as_manager()

    class Meta:
        ordering = ("name",)
        constraints = [
            models.CheckConstraint(condition=Q(kind__in=["chat", "embedding", "rerank"]), name="endpoint_kind"),
            models.CheckConstraint(
                # The explicit NULL test, because a CHECK that comes out as NULL passes.
                condition=~Q(kind="embedding") | Q(dimension__isnull=False, dimension__gte=1, dimension__lte=4000),
                name="endpoint_dimension",
                violation_error_message="An embedding endpoint needs the dimension of its vectors (1 to 4000).",
            ),
            models.CheckConstraint(
                condition=Q(protocol__in=["openai", "vllm", "tgi", "tgi-generate", "llamacpp", "tei", "hf"]),
                name="endpoint_protocol",
            ),
            models.CheckConstraint(
                condition=Q(kind="chat") | ~Q(protocol__in=["tgi", "tgi-generate"]),
                name="endpoint_tgi_chats",
                violation_error_message="Text Generation Inference only chats.",
            ),
            models.CheckConstraint(
                condition=~Q(kind="chat") | ~Q(protocol="tei"),
                name="endpoint_tei_embeds",
                violation_error_message="Text Embeddings Inference embeds or reranks, and does not chat.",
            ),
            models.CheckConstraint(
                condition=~Q(base_url="") | Q(protocol="hf"),
                name="endpoint_address",
                violation_error_message="Only the protocol Hugging Face needs no base URL.",
            ),
            models.CheckConstraint(condition=Q(context_length__gte=256), name="endpoint_context_length"),
            models.CheckConstraint(condition=Q(limit__gte=1), name="endpoint_limit"),
            models.CheckConstraint(condition=Q(weight__gt=0), name="endpoint_weight"),
            models.CheckConstraint(condition=Q(prompt_price__gte=0, completion_price__gte=0), name="endpoint_prices"),
            models.CheckConstraint(
                condition=Q(connect_seconds__gte=1, between_tokens_seconds__gte=1, total_seconds__gte=1),
                name="endpoint_deadlines",
            ),
            models.CheckConstraint(
                condition=Q(first_token_seconds__gte=1, first_token_seconds__lte=120), name="endpoint_first_token"
            ),
            models.CheckConstraint(
                condition=Q(wake_seconds=0)
                | (Q(protocol="hf", kind="chat", wake_seconds__gt=0, wake_seconds__lte=900) & ~Q(base_url="")),
                name="endpoint_wake",
                violation_error_message="Only a chat endpoint at Hugging Face, with an address of its own, is started "
                "and waited for.",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **kwargs: Any) -> None:
        if self._saved and not self.key_confirmed:
            host, key = self._saved
            if host_of(self.base_url) != host and self.api_key == key:
                self.api_key = ""
                if kwargs.get("update_fields") is not None:
                    kwargs["update_fields"] = {*kwargs["update_fields"], "api_key"}
        super().save(*args, **kwargs)
        self._saved, self.key_confirmed = (host_of(self.base_url), self.api_key), False

    @classmethod
    def from_db(cls, db: str | None, field_names: Collection[str], values: Collection[Any], **kwargs: Any) -> Self:
        row = super().from_db(db, field_names, values, **kwargs)
        if {"base_url", "api_key"} <= set(field_names):
            row._saved = host_of(row.base_url), row.api_key
        return row

    def clean(self) -> None:
        if self.first_token_seconds and self.total_seconds and self.first_token_seconds > self.total_seconds:
            raise ValidationError({"total_seconds": "An answer takes at least as long as its first token may."})
        if self.wake_seconds and self.total_seconds and self.wake_seconds >= self.total_seconds:
            raise ValidationError(
                {"wake_seconds": "The longest answer counts from the question, so it has to be longer than this wait."}
            )
        if not self.base_url:
            return
        try:
            check_url(self.base_url, allowed=settings.PARLEY_PRIVATE_ENDPOINT_HOSTS)
        except InvalidRequest as error:
            hint = f" {ALLOWED_BY}" if error.message == REFUSED else ""
            raise ValidationError({"base_url": error.message + hint}) from error


def host_of(url: str) -> tuple[str, str]:
    """Scheme and host with port: what decides who receives the key."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "", url
    return parts.scheme, parts.netloc.lower()
