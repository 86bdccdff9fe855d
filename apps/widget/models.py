"""How an assistant looks and behaves in a browser, as its operator dressed it."""

from __future__ import annotations

import datetime
import re
from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, RegexValidator, URLValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone

from apps.assistants.models import Assistant, validate_origins
from apps.edge.encryption import EncryptedTextField
from apps.edge.origins import LONGEST
from apps.tenants.scoping import TenantOwned

MOST_STARTERS, STARTER_CHARS = 6, 200
MOST_STRINGS, STRING_CHARS = 200, 300
STRING_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,63}")
# BCP 47, as far as browsers format by it: a language, and a script, a region and variants that may follow.
locale_validator = RegexValidator(
    r"\A[a-z]{2,3}(-[A-Z][a-z]{3})?(-([A-Z]{2}|[0-9]{3}))?(-[a-z0-9]{5,8})*\Z",
    "A locale is a language, and perhaps a region: en, de, pt-BR, zh-Hant.",
)
colour_validator = RegexValidator(r"\A#[0-9a-fA-F]{6}\Z", "A colour is # and six hexadecimal digits: #0f766e.")
font_validator = RegexValidator(
    r"\A[A-Za-z0-9 ,'\"_-]*\Z", "Name fonts by letters, digits, blanks and commas: Inter, sans-serif."
)
RIGHT_TO_LEFT = frozenset({"ar", "arc", "ckb", "dv", "fa", "ha", "he", "khw", "ks", "ps", "sd", "ur", "uz-AF", "yi"})
RTL_SCRIPTS = frozenset({"Arab", "Hebr", "Thaa", "Nkoo", "Syrc"})


def validate_starters(starters: list[str]) -> None:
    if len(starters) > MOST_STARTERS:
        raise ValidationError(f"There can be {MOST_STARTERS} starter questions.")
    for starter in starters:
        if not starter.strip():
            raise ValidationError("A starter question is not empty.")


def validate_strings(strings: Any) -> None:
    """Raises ValidationError for what is no object of short texts."""
    if not isinstance(strings, dict):
        raise ValidationError('Give a JSON object: {"send": "Ask"}.')
    if len(strings) > MOST_STRINGS:
        raise ValidationError(f"There can be {MOST_STRINGS} texts.")
    for key, text in strings.items():
        if not STRING_KEY.fullmatch(key):
            raise ValidationError(f"{key[:80]!r} is no key: letters, digits, dots and underscores.")
        if not isinstance(text, str):
            raise ValidationError(f"{key} has to be a text.")
        if len(text) > STRING_CHARS:
            raise ValidationError(f"{key} has more than {STRING_CHARS} characters.")
        if "\0" in text:
            raise ValidationError(f"{key} holds a character that cannot be stored.")


def is_right_to_left(locale: str) -> bool:
    language, *parts = locale.split("-")
    scripts = [part for part in parts if len(part) == 4 and part.istitle()]
    if scripts:
        return scripts[0] in RTL_SCRIPTS
    return language in RIGHT_TO_LEFT or locale in RIGHT_TO_LEFT


class Widget(TenantOwned):
    """One for each assistant, made when somebody first opens its page; an assistant without one has the defaults."""

    class Position(models.TextChoices):
        RIGHT = "right", "Right"
        LEFT = "left", "Left"

    class Scheme(models.TextChoices):
        AUTO = "auto", "As the reader's system"
        LIGHT = "light", "Light"
        DARK = "dark", "Dark"

    class HandOff(models.TextChoices):
        NONE = "", "Not offered"
        EMAIL = "email", "By e-mail, which the reader sends"
        WEBHOOK = "webhook", "By a webhook of yours"

    assistant = models.OneToOneField(Assistant, on_delete=models.CASCADE, related_name="widget")
    hosted = models.BooleanField("hosted page", default=False)
    frame_origins = ArrayField(
        models.CharField(max_length=LONGEST), default=list, blank=True, validators=[validate_origins]
    )
    greeting = models.CharField(max_length=500, blank=True, default="")
    starters = ArrayField(
        models.CharField(max_length=STARTER_CHARS), default=list, blank=True, validators=[validate_starters]
    )
    primary = models.CharField("colour", max_length=7, default="#0f766e", validators=[colour_validator])
    radius = models.PositiveSmallIntegerField("roundness", default=12, validators=[MaxValueValidator(32)])
    font = models.CharField(max_length=100, blank=True, default="", validators=[font_validator])
    position = models.CharField(max_length=5, choices=Position, default=Position.RIGHT)
    scheme = models.CharField("light or dark", max_length=5, choices=Scheme, default=Scheme.AUTO)
    # Where the logo's bytes are stored, and their SHA-256 in hex, by which browsers ask for them.
    logo = models.CharField(max_length=200, blank=True, default="", editable=False)
    logo_digest = models.CharField(max_length=64, blank=True, default="", editable=False)
    locale = models.CharField("language", max_length=35, default="en", validators=[locale_validator])
    strings = models.JSONField("wording", default=dict, blank=True, validators=[validate_strings])
    consent_text = models.CharField(max_length=1000, blank=True, default="")
    consent_link = models.CharField(
        max_length=500, blank=True, default="", validators=[URLValidator(schemes=["https"])]
    )
    retention = models.CharField(max_length=300, blank=True, default="")
    handoff = models.CharField("hand-off to a person", max_length=7, choices=HandOff, blank=True, default=HandOff.NONE)
    handoff_address = models.EmailField("address", blank=True, default="")
    # What the tenant's own server signs its users' identities with, and what it signed with before.
    identity_secret = EncryptedTextField(blank=True, default="", editable=False)
    previous_identity_secret = EncryptedTextField(blank=True, default="", editable=False)
    previous_identity_secret_until = models.DateTimeField(null=True, blank=True, editable=False)
    changed = models.DateTimeField(auto_now=True, editable=False)

    class Meta:
        ordering = ("assistant__name",)
        indexes = [
            models.Index(fields=["logo_digest"], condition=~Q(logo_digest=""), name="widget_logo"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(handoff__in=["", "webhook"]) | (Q(handoff="email") & ~Q(handoff_address="")),
                name="widget_handoff",
            ),
        ]

    def __str__(self) -> str:
        return self.assistant.name

    def clean(self) -> None:
        if self.handoff == self.HandOff.EMAIL and not self.handoff_address:
            raise ValidationError({"handoff_address": "An e-mail needs an address to be sent to."})
        if self.consent_link and not self.consent_text:
            raise ValidationError({"consent_text": "Say what the link is about."})

    def identity_secrets(self, now: datetime.datetime | None = None) -> list[str]:
        """What an identity may be signed with: the secret, and for a while after a rotation the one before."""
        now = now or timezone.now()
        until = self.previous_identity_secret_until
        previous = self.previous_identity_secret if until and now < until else ""
        return [secret for secret in (self.identity_secret, previous) if secret]

    def framed_by(self) -> list[str]:
        """The origins whose pages may show the hosted page within themselves."""
        return list(dict.fromkeys([*self.assistant.visitor_origins, *self.frame_origins]))


def widget_of(assistant: Assistant) -> Widget:
    """The assistant's widget, or the default one, which is not stored. Call it in the tenant's scope."""
    found: Widget | None = Widget.objects.for_tenant(assistant.tenant_id).filter(assistant=assistant).first()
    widget = found or Widget(tenant_id=assistant.tenant_id, assistant=assistant)
    widget.assistant = assistant
    return widget
