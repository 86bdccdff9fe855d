"""Tenants, their members and the end users that they serve."""

from __future__ import annotations

import uuid
from collections.abc import Collection

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import connection, models
from django.utils import timezone

from apps.tenants.models.erasure import Erasure
from apps.tenants.models.users import User
from apps.tenants.scoping import TenantOwned

slug_validator = RegexValidator(
    r"^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$", "Use up to 63 lower-case letters, digits and inner hyphens."
)

MOST_DAYS = 36_500  # a hundred years


class TenantsQuerySet(models.QuerySet["Tenant"]):
    def of(self, user: User) -> TenantsQuerySet:
        """The tenants that a logged-in user may act for."""
        if user.is_superuser:
            return self.all()
        return self.filter(memberships__user=user, is_active=True)


class Tenant(models.Model):
    """A customer of the platform. Nothing of it is ever shown to another."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=100)
    slug = models.CharField(max_length=63, unique=True, validators=[slug_validator])
    time_zone = models.CharField(max_length=64, default="UTC")
    is_active = models.BooleanField("active", default=True, help_text="A suspended tenant's keys stop working.")
    conversation_days = models.PositiveIntegerField(
        "keep conversations (days)",
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(MOST_DAYS)],
        help_text="A conversation in which nobody asked for so many days is deleted the next night, with its answers"
        " and attachments. Empty: they are kept.",
    )
    created = models.DateTimeField(default=timezone.now, editable=False)

    objects = TenantsQuerySet.as_manager()

    class Meta:
        ordering = ("name",)
        constraints = [
            models.CheckConstraint(
                condition=models.Q(slug__regex=r"^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$"), name="tenant_slug_form"
            ),
            models.CheckConstraint(
                condition=models.Q(conversation_days=None) | models.Q(conversation_days__gte=1),
                name="tenant_conversation_days",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def validate_unique(self, exclude: Collection[str] | None = None) -> None:
        """Among all tenants, none of which a query of this one's scope sees, and those whose erasure goes on."""
        if "slug" in (exclude or ()):
            return
        with connection.cursor() as cursor:
            cursor.execute("SELECT tenant_id FROM tenant_named(%s)", [self.slug])
            holder = cursor.fetchone()
        if holder and holder[0] != self.pk:
            raise self.unique_error_message(type(self), ("slug",))
        if not holder and Erasure.objects.filter(slug=self.slug, finished=None).exists():
            sentence = "The erasure of a tenant with this slug has not come to its end. Run erase_tenant again first."
            raise ValidationError({"slug": sentence})


class Membership(TenantOwned):
    """A user's place in a tenant."""

    class Role(models.TextChoices):
        OWNER = "owner", "Owner"
        EDITOR = "editor", "Editor"
        ANALYST = "analyst", "Analyst"
        SUPPORT = "support", "Support"

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(
        max_length=10,
        choices=Role,
        default=Role.EDITOR,
        help_text="Owners do everything; editors look after assistants, prompts and knowledge; analysts read"
        " conversations and usage; support sees one conversation, by its id.",
    )
    created = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ("created",)
        constraints = [
            models.UniqueConstraint(fields=["tenant", "user"], name="membership_once"),
            models.CheckConstraint(
                condition=models.Q(role__in=["owner", "editor", "analyst", "support"]), name="membership_role"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user} ({self.get_role_display()})"


class EndUser(TenantOwned):
    """A person that the tenant serves, under the name that the tenant gives them."""

    external_id = models.CharField(max_length=200)
    created = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ("-created",)
        constraints = [models.UniqueConstraint(fields=["tenant", "external_id"], name="end_user_once")]

    def __str__(self) -> str:
        return self.external_id
