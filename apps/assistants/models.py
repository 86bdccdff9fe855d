"""Assistants, and the prompts that instruct them: immutable versions, one of them published."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone

from apps.edge.origins import LONGEST, origin_in
from apps.inference.models import Endpoint
from apps.knowledge.models import Collection
from apps.tenants.models import User, slug_validator
from apps.tenants.scoping import TenantOwned
from chatbot.errors import InvalidRequest

MOST_ORIGINS = 50


def validate_origins(origins: list[str]) -> None:
    """Raises ValidationError unless each origin is written as browsers write it."""
    if len(origins) > MOST_ORIGINS:
        raise ValidationError(f"There can be {MOST_ORIGINS} origins.")
    for origin in origins:
        try:
            if origin_in(origin) != origin:
                raise ValidationError(f"Browsers write {origin} as {origin_in(origin)}.")
        except InvalidRequest as error:
            raise ValidationError(error.message) from error


class Prompt(TenantOwned):
    """A named line of prompt versions. Assistants use the published one."""

    name = models.CharField(max_length=100)
    published = models.ForeignKey(
        "PromptVersion", on_delete=models.RESTRICT, null=True, blank=True, related_name="+", editable=False
    )
    created = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ("name",)
        constraints = [models.UniqueConstraint(fields=["tenant", "name"], name="prompt_name_once")]

    def __str__(self) -> str:
        return self.name


class PromptVersion(TenantOwned):
    """One wording. It never changes (a trigger refuses), so a turn's instructions can always be read again."""

    prompt = models.ForeignKey(Prompt, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    template = models.TextField()
    note = models.CharField(max_length=200, blank=True, help_text="What changed, and why.")
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    created = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ("-number",)
        constraints = [models.UniqueConstraint(fields=["prompt", "number"], name="prompt_version_number_once")]

    def __str__(self) -> str:
        return f"{self.prompt.name} v{self.number}"


class Assistant(TenantOwned):
    """What end users talk to: instructions, knowledge and a model."""

    name = models.CharField(max_length=100)
    slug = models.CharField(max_length=63, validators=[slug_validator], help_text="Its name in the API.")
    description = models.TextField(blank=True)
    prompt = models.ForeignKey(Prompt, on_delete=models.RESTRICT, related_name="assistants")
    collections = models.ManyToManyField(
        Collection, through="AssistantCollection", related_name="assistants", blank=True
    )
    endpoint = models.ForeignKey(
        Endpoint,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        limit_choices_to={"kind": "chat"},
        help_text="Leave empty to use the first chat endpoint that serves this tenant.",
    )
    temperature = models.FloatField(default=0.2, validators=[MinValueValidator(0), MaxValueValidator(2)])
    max_tokens = models.PositiveIntegerField(
        "longest answer",
        default=512,
        validators=[MinValueValidator(16), MaxValueValidator(8192)],
        help_text="In tokens.",
    )
    passages = models.PositiveSmallIntegerField(
        "passages", default=6, validators=[MaxValueValidator(30)], help_text="How many the model receives at most."
    )
    rewrites_questions = models.BooleanField(
        "rewrites follow-up questions",
        default=False,
        db_default=False,
        help_text="The model first makes each follow-up question one that can be searched for by itself. Costs a short "
        "answer of the model for each.",
    )
    least_relevance = models.FloatField(
        "least relevance",
        null=True,
        blank=True,
        validators=[MinValueValidator(0), MaxValueValidator(1)],
        help_text="From 0 to 1. Where no passage is as like the question as this, the assistant says that it found "
        "nothing, and asks no model. Empty: it always answers. `manage.py evaluate` helps to choose.",
    )
    takes_attachments = models.BooleanField(
        "attachments", default=False, db_default=False, help_text="Whether a question may bring files along."
    )
    visitor_origins = ArrayField(
        models.CharField(max_length=LONGEST),
        default=list,
        blank=True,
        validators=[validate_origins],
        help_text="Web sites whose visitors may ask without an account.",
    )
    is_active = models.BooleanField("active", default=True)
    created = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ("name",)
        constraints = [
            models.UniqueConstraint(fields=["tenant", "slug"], name="assistant_slug_once"),
            models.CheckConstraint(condition=Q(temperature__gte=0, temperature__lte=2), name="assistant_temperature"),
            models.CheckConstraint(condition=Q(max_tokens__gte=16, max_tokens__lte=8192), name="assistant_max_tokens"),
        ]

    def __str__(self) -> str:
        return self.name


class AssistantCollection(TenantOwned):
    """An assistant's leave to read a collection."""

    assistant = models.ForeignKey(Assistant, on_delete=models.CASCADE, related_name="+")
    collection = models.ForeignKey(Collection, on_delete=models.CASCADE, related_name="+")

    class Meta:
        verbose_name = "collection"
        constraints = [models.UniqueConstraint(fields=["assistant", "collection"], name="assistant_collection_once")]

    def __str__(self) -> str:
        return self.collection.name
