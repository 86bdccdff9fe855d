"""Applications and their tokens: django-oauth-toolkit's rows, each of them a tenant's. No secret is stored readable."""

from __future__ import annotations

import uuid
from typing import Any
from urllib.parse import urlsplit

from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from oauth2_provider.models import (
    AbstractAccessToken,
    AbstractApplication,
    AbstractDeviceGrant,
    AbstractGrant,
    AbstractIDToken,
    AbstractRefreshToken,
)

from apps.tenants import keys, taking_back
from apps.tenants.models import User
from apps.tenants.scoping import TenantOwned

LOOPBACK = {"127.0.0.1", "::1"}


class Digest(str):
    """A digest that was read from a row, and is not to be digested again."""

    __slots__ = ()


class DigestField(models.CharField):  # type: ignore[type-arg]
    """Stores what proves a text instead of the text: what is saved or looked up is digested on its way there."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "max_length": 64})

    def get_prep_value(self, value: Any) -> Any:
        text = super().get_prep_value(value)
        return str(text) if not text or isinstance(text, Digest) else keys.digest(text).hex()

    def from_db_value(self, value: str | None, *_: object) -> str | None:
        return None if value is None else Digest(value)


class Application(TenantOwned, AbstractApplication):  # type: ignore[misc]
    """A program that a tenant lets in, by itself or in the name of members. Its client secret is shown once."""

    GRANTS = (
        (AbstractApplication.GRANT_CLIENT_CREDENTIALS, "By itself, as a service"),
        (AbstractApplication.GRANT_AUTHORIZATION_CODE, "In the name of members who agree"),
    )
    TYPES = (
        (AbstractApplication.CLIENT_CONFIDENTIAL, "Runs on a server, with a secret"),
        (AbstractApplication.CLIENT_PUBLIC, "Runs on users' devices, without one"),
    )

    name = models.CharField(max_length=100, help_text="Shown to members who are asked to let it in.")
    authorization_grant_type = models.CharField("acts", max_length=44, choices=GRANTS)
    client_type = models.CharField("kind", max_length=32, choices=TYPES)
    client_secret = DigestField(blank=True, default="", editable=False)
    redirect_uris = models.TextField(
        "redirect addresses",
        blank=True,
        default="",
        help_text="Where members come back to, one a line, exactly as the program sends them: https://, or http:// of"
        " 127.0.0.1 or [::1] for programs on their own device, whose port may then differ.",
    )
    scopes = ArrayField(models.CharField(max_length=32), default=list)
    created_by = models.ForeignKey(
        User, on_delete=models.SET_NULL, null=True, blank=True, editable=False, related_name="+"
    )
    # Of the toolkit's columns those that we have no use for, at the only values that they may have.
    user = None
    skip_authorization = False
    hash_client_secret = True
    algorithm = AbstractApplication.NO_ALGORITHM
    post_logout_redirect_uris = ""
    allowed_origins = ""
    registration_source = AbstractApplication.RegistrationSource.MANUAL
    cimd_expires_at = None

    class Meta:
        ordering = ("name",)
        constraints = [
            models.CheckConstraint(
                condition=Q(authorization_grant_type="client-credentials", client_type="confidential", redirect_uris="")
                | Q(Q(authorization_grant_type="authorization-code"), ~Q(redirect_uris="")),
                name="application_grant",
                violation_error_message="An application that acts by itself keeps a secret and redirects nobody;"
                " one that acts for members has redirect addresses.",
            ),
            models.CheckConstraint(
                condition=Q(Q(client_type="confidential"), ~Q(client_secret=""))
                | Q(client_type="public", client_secret=""),
                name="application_secret",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        addresses = self.redirect_uris.split()
        if wrong := [address for address in addresses if not _may_be_redirected_to(address)]:
            raise ValidationError({"redirect_uris": f"This is not an address to come back to: {wrong[0][:100]}"})
        self.redirect_uris = "\n".join(addresses)

    def is_usable(self, request: Any) -> bool:
        return self.tenant.is_active


def _may_be_redirected_to(address: str) -> bool:
    try:
        parts = urlsplit(address)
        parts.port  # noqa: B018 - raises where it is none
    except ValueError:
        return False
    if not parts.hostname or "@" in parts.netloc or not address.isascii() or set('#*\\"<>') & set(address):
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)


class OfApplication(TenantOwned):
    """A row of the toolkit's, which names no tenant: it is the application's."""

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        if self.tenant_id is None:
            self.tenant_id = self.application.tenant_id
        super().save(*args, **kwargs)


class Grant(OfApplication, AbstractGrant):  # type: ignore[misc]
    """A member's consent, until its code is exchanged. It stays for a while: a code that comes again is a stolen one.

    family: of the refresh tokens that came of it.
    """

    code = DigestField(unique=True)
    spent_at = models.DateTimeField(null=True)
    family = models.UUIDField(default=uuid.uuid4)

    class Meta(AbstractGrant.Meta):  # type: ignore[misc]
        abstract = False


class AccessToken(OfApplication, AbstractAccessToken):  # type: ignore[misc]
    """What a program authenticates with, for an hour; `token` stays empty. Without a user it acts by itself."""

    application = models.ForeignKey(Application, on_delete=models.CASCADE)

    class Meta(AbstractAccessToken.Meta):  # type: ignore[misc]
        abstract = False

    def revoke(self) -> None:
        """Delete it, and end what was let in with it."""
        taking_back.announce(f"token:{self.pk}")
        self.delete()


class RefreshToken(OfApplication, AbstractRefreshToken):  # type: ignore[misc]
    """Good for one new access token; then another takes its place in the family."""

    class Meta(AbstractRefreshToken.Meta):  # type: ignore[misc]
        abstract = False

    @classmethod
    def revoke_family(cls, token_family: uuid.UUID | None) -> None:
        """End all that came of one consent."""
        ended = list(AccessToken.objects.filter(refresh_token__token_family=token_family).values_list("pk", flat=True))
        super().revoke_family(token_family)
        taking_back.announce(*(f"token:{pk}" for pk in ended))


class IDToken(OfApplication, AbstractIDToken):  # type: ignore[misc]
    """Asked for by the toolkit; OpenID Connect is off, so there are none."""

    class Meta(AbstractIDToken.Meta):  # type: ignore[misc]
        abstract = False


class DeviceGrant(TenantOwned, AbstractDeviceGrant):  # type: ignore[misc]
    """Asked for by the toolkit; the device grant is off, so there are none."""

    class Meta(AbstractDeviceGrant.Meta):  # type: ignore[misc]
        abstract = False
