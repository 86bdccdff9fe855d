"""From a credential to a Caller, the same for REST, SSE and WebSockets."""

from __future__ import annotations

import datetime
import hmac
import time
import uuid
from dataclasses import dataclass

import structlog
from django.db import InterfaceError, OperationalError
from django.db.models import Q
from django.http import HttpRequest
from django.utils import timezone
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from apps.tenants import keys
from apps.tenants.models import ApiKey, Tenant
from apps.tenants.scoping import platform_unit
from chatbot.errors import NotAuthenticated

# How long a process may go on believing a key after it was revoked.
CACHE_SECONDS = 2.0
CACHE_ROWS = 10_000
LAST_USED_STEP = datetime.timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the tenant, and the API key or the logged-in user that acts for it."""

    tenant: Tenant
    api_key_id: uuid.UUID | None = None
    user_id: uuid.UUID | None = None
    user_email: str = ""
    is_authenticated: bool = True  # what DRF's permission looks at

    @property
    def tenant_id(self) -> uuid.UUID:
        return self.tenant.pk

    @property
    def acts_for(self) -> str:
        """The end user whose conversations alone this caller may touch; empty for a key, which serves the tenant."""
        return f"staff:{self.user_email}" if self.user_email else ""


@dataclass(frozen=True, slots=True)
class _Known:
    caller: Caller
    digest: bytes
    until: float
    expires_at: datetime.datetime | None


_known: dict[str, _Known] = {}


def credential_of(request: HttpRequest) -> str:
    return key_in(request.headers.get("Authorization"), request.headers.get("X-Api-Key"))


def key_in(authorization: str | None, x_api_key: str | None) -> str:
    """The key in a request's headers; `Authorization: Bearer` goes before `x-api-key`."""
    if authorization:
        scheme, _, credential = authorization.partition(" ")
        return credential.strip() if scheme.lower() == "bearer" else ""
    return (x_api_key or "").strip()


def _remembered(parts: keys.Parts) -> Caller | None:
    known = _known.get(parts.key_id)
    if known is None or known.until < time.monotonic():
        return None
    if known.expires_at and known.expires_at <= timezone.now():
        return None
    if not hmac.compare_digest(known.digest, keys.digest(parts.secret)):
        raise NotAuthenticated
    return known.caller


def _look_up(parts: keys.Parts) -> Caller:
    row = ApiKey.objects.usable().select_related("tenant").filter(key_id=parts.key_id).first()
    # Compare even where no row was found, so that the time taken tells nothing.
    if not hmac.compare_digest(bytes(row.digest) if row else b"\0" * 32, keys.digest(parts.secret)) or row is None:
        raise NotAuthenticated
    now = timezone.now()
    stale = Q(last_used_at=None) | Q(last_used_at__lt=now - LAST_USED_STEP)
    ApiKey.objects.for_tenant(row.tenant).filter(stale, pk=row.pk).update(last_used_at=now)
    caller = Caller(tenant=row.tenant, api_key_id=row.pk)
    if len(_known) >= CACHE_ROWS:
        _known.clear()
    _known[parts.key_id] = _Known(caller, bytes(row.digest), time.monotonic() + CACHE_SECONDS, row.expires_at)
    return caller


def _parts(text: str) -> keys.Parts:
    parts = keys.parse(text)
    if parts is None:
        raise NotAuthenticated
    return parts


async def authenticate(text: str) -> Caller:
    """The caller that a key stands for. Raises NotAuthenticated, with the same words whatever is wrong."""
    parts = _parts(text)
    caller = _remembered(parts)
    if caller is None:
        caller = await platform_unit(_look_up, parts)
    structlog.contextvars.bind_contextvars(tenant=caller.tenant.slug)
    return caller


async def still_valid(text: str) -> bool:
    """Whether a key that was accepted earlier still is. While the database is away nobody can tell: then it is."""
    try:
        await authenticate(text)
    except NotAuthenticated:
        return False
    except (OperationalError, InterfaceError):
        return True
    return True


class KeyAuthentication(BaseAuthentication):
    """The same for DRF's sync views."""

    def authenticate(self, request: Request) -> tuple[Caller, None]:
        parts = _parts(credential_of(request))
        caller: Caller = _remembered(parts) or _look_up(parts)
        structlog.contextvars.bind_contextvars(tenant=caller.tenant.slug)
        return caller, None

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="parley"'
