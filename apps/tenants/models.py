"""Tenants, the people and programs that act for them, and the end users that they serve."""

from __future__ import annotations

import uuid
from typing import Any, ClassVar

from django.contrib.auth.models import AbstractBaseUser, BaseUserManager, PermissionsMixin
from django.core.validators import RegexValidator
from django.db import models
from django.db.models.functions import Lower
from django.utils import timezone

from apps.tenants.scoping import TenantOwned, TenantQuerySet

slug_validator = RegexValidator(
    r"^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$", "Use up to 63 lower-case letters, digits and inner hyphens."
)


class UserManager(BaseUserManager["User"]):
    def create_user(self, email: str, password: str | None = None, **fields: Any) -> User:
        """Create a user; without a password none can log in as them."""
        user = self.model(email=self.normalize_email(email).lower(), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> User:
        return self.create_user(email, password, **{**fields, "is_staff": True, "is_superuser": True})

    def get_by_natural_key(self, username: str | None) -> User:
        return self.get(email=(username or "").lower())


class User(AbstractBaseUser, PermissionsMixin):
    """Someone who logs in to the admin. Superusers are platform operators; others see the tenants they belong to."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    email = models.EmailField("e-mail", max_length=254, unique=True)
    name = models.CharField(max_length=150, blank=True)
    is_staff = models.BooleanField("can log in here", default=True)
    is_active = models.BooleanField("active", default=True)
    created = models.DateTimeField(default=timezone.now, editable=False)

    objects = UserManager()

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    class Meta:
        ordering = ("email",)
        constraints = [models.UniqueConstraint(Lower("email"), name="user_email_ignoring_case")]

    def __str__(self) -> str:
        return self.name or self.email


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
    created = models.DateTimeField(default=timezone.now, editable=False)

    objects = TenantsQuerySet.as_manager()

    class Meta:
        ordering = ("name",)
        constraints = [
            models.CheckConstraint(
                condition=models.Q(slug__regex=r"^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$"), name="tenant_slug_form"
            )
        ]

    def __str__(self) -> str:
        return self.name


class Membership(TenantOwned):
    """A user's place in a tenant."""

    class Role(models.TextChoices):
        OWNER = "owner", "Owner"
        MEMBER = "member", "Member"

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(
        max_length=10,
        choices=Role,
        default=Role.MEMBER,
        help_text="Owners also manage members and API keys.",
    )
    created = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ("created",)
        constraints = [
            models.UniqueConstraint(fields=["tenant", "user"], name="membership_once"),
            models.CheckConstraint(condition=models.Q(role__in=["owner", "member"]), name="membership_role"),
        ]

    def __str__(self) -> str:
        return f"{self.user} ({self.get_role_display()})"


class ApiKeyQuerySet(TenantQuerySet["ApiKey"]):
    def usable(self) -> ApiKeyQuerySet:
        """Neither revoked nor expired, of a tenant that is not suspended."""
        return self.filter(
            models.Q(expires_at=None) | models.Q(expires_at__gt=timezone.now()),
            revoked_at=None,
            tenant__is_active=True,
        )


class ApiKey(TenantOwned):
    """A program's credential. Only its digest is stored; keys.py makes and reads the text."""

    name = models.CharField(max_length=100, help_text="Where the key is used, so that it can be found again.")
    key_id = models.CharField("id", max_length=16, unique=True, editable=False)
    digest = models.BinaryField(max_length=32, editable=False)
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, editable=False)
    created = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects: ClassVar[Any] = ApiKeyQuerySet.as_manager()

    class Meta:
        verbose_name = "API key"
        ordering = ("-created",)

    def __str__(self) -> str:
        return self.name

    def revoke(self) -> None:
        """End the key; every process forgets it within authentication.CACHE_SECONDS."""
        self.revoked_at = self.revoked_at or timezone.now()
        self.save(update_fields=["revoked_at"])


class EndUser(TenantOwned):
    """A person that the tenant serves, under the name that the tenant gives them."""

    external_id = models.CharField(max_length=200)
    created = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ("-created",)
        constraints = [models.UniqueConstraint(fields=["tenant", "external_id"], name="end_user_once")]

    def __str__(self) -> str:
        return self.external_id
