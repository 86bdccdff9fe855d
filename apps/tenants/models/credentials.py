"""What programs authenticate with, and who answers for it."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.utils import timezone

from apps.tenants.models.tenant import Membership
from apps.tenants.models.users import User
from apps.tenants.scoping import TenantOwned, TenantQuerySet


class ServiceAccount(TenantOwned):
    """A program that acts for a tenant in its own name, not in a person's. Whoever makes a key of it still bounds
    what that key may do."""

    name = models.CharField(max_length=100, help_text="The program, so that others know what its keys are for.")
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, editable=False)
    created = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ("name",)
        constraints = [models.UniqueConstraint(fields=["tenant", "name"], name="service_account_once")]

    def __str__(self) -> str:
        return self.name


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
    member = models.ForeignKey(
        User, on_delete=models.CASCADE, null=True, blank=True, editable=False, related_name="api_keys"
    )
    service_account = models.ForeignKey(
        ServiceAccount, on_delete=models.CASCADE, null=True, blank=True, related_name="api_keys"
    )
    # Whose rights bound the key's, as they are now. Nobody's where a command on the server made it.
    created_by = models.ForeignKey(
        User, on_delete=models.CASCADE, null=True, blank=True, editable=False, related_name="+"
    )
    scopes = ArrayField(models.CharField(max_length=32), default=list)
    assistant_ids = ArrayField(
        models.UUIDField(), default=list, blank=True, help_text="The only assistants that it may ask; empty for all."
    )
    ip_ranges = ArrayField(
        models.CharField(max_length=43),
        default=list,
        blank=True,
        help_text="Addresses that it may come from, such as 203.0.113.0/24; empty for everywhere.",
    )
    created = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects: ClassVar[Any] = ApiKeyQuerySet.as_manager()

    class Meta:
        verbose_name = "API key"
        ordering = ("-created",)
        constraints = [
            models.CheckConstraint(
                condition=models.Q(member=None) ^ models.Q(service_account=None), name="api_key_has_one_holder"
            ),
            models.CheckConstraint(
                condition=models.Q(member=None) | models.Q(created_by=models.F("member")),
                name="api_key_of_a_member_made_by_them",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Invitation(TenantOwned):
    """A place in a tenant, offered to an e-mail address by a link. Only the link's digest is stored."""

    email = models.EmailField("e-mail", max_length=254)
    role = models.CharField(max_length=10, choices=Membership.Role, default=Membership.Role.EDITOR)
    digest = models.BinaryField(max_length=32, unique=True, editable=False)
    invited_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, editable=False)
    created = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(editable=False)
    accepted_at = models.DateTimeField(null=True, blank=True, editable=False)
    withdrawn_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        ordering = ("-created",)
        constraints = [
            models.CheckConstraint(condition=models.Q(role__in=Membership.Role.values), name="invitation_role")
        ]

    def __str__(self) -> str:
        return self.email
