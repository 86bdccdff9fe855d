"""From a credential to a Caller, the same for REST, SSE and WebSockets."""

from __future__ import annotations

import datetime
import hmac
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog
from asgiref.sync import async_to_sync
from django.db import InterfaceError, OperationalError
from django.db.models import Q
from django.http import HttpRequest
from django.utils import timezone
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from apps.edge.errors import ServiceUnavailable
from apps.tenants import keys, lookups, rights
from apps.tenants.models import ApiKey, Tenant
from apps.tenants.scoping import platform_unit, tenant_scope
from chatbot.errors import NotAuthenticated, NotPermitted

# How long a process may go on believing a key after it was revoked.
CACHE_SECONDS = 2.0
CACHE_ROWS = 10_000
LAST_USED_STEP = datetime.timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the tenant, and the API key, the logged-in user or the visitor that acts for it.

    end_user: the external id of the one whom the credential is bound to. assistant_ids: the only ones it reaches, None
    for all. ends_with: what, announced as ended, ends this caller: "tenant:<id>", "key:<id>", "visitor:<id>" and so on.
    """

    tenant: Tenant
    scopes: frozenset[str] = rights.ALL
    api_key_id: uuid.UUID | None = None
    user_id: uuid.UUID | None = None
    user_email: str = ""
    end_user: str = ""
    assistant_ids: frozenset[uuid.UUID] | None = None
    ends_with: frozenset[str] = frozenset()
    is_authenticated: bool = True  # what DRF's permission looks at

    @property
    def tenant_id(self) -> uuid.UUID:
        return self.tenant.pk

    @property
    def acts_for(self) -> str:
        """The end user whose conversations alone this caller may touch; empty for a key, which serves the tenant."""
        return f"staff:{self.user_email}" if self.user_email else self.end_user

    def require(self, scope: str) -> None:
        """Raises NotPermitted where the credential does not reach so far."""
        if scope not in self.scopes:
            raise NotPermitted(f"These credentials lack the scope {scope}.")

    def reaches(self, assistant_id: uuid.UUID) -> bool:
        """Whether this assistant, and what was said with it, is there for the caller."""
        return self.assistant_ids is None or assistant_id in self.assistant_ids


@dataclass(frozen=True, slots=True)
class Known:
    """A credential that was found, and what holds for its use. origin: of the pages that alone may use it."""

    caller: Caller
    expires_at: datetime.datetime | None = None
    origin: str = ""


LookUp = Callable[[str], Awaitable[Known | None]]
# Kinds of credentials beside API keys, by what their texts begin with; each kind's own module says what it stands for.
KINDS: dict[str, LookUp] = {}


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
    found = lookups.key_of(parts.key_id)
    # Compare even where no row was found, so that the time taken tells nothing.
    if not hmac.compare_digest(found.digest if found else b"\0" * 32, keys.digest(parts.secret)) or found is None:
        raise NotAuthenticated
    now = timezone.now()
    stale = Q(last_used_at=None) | Q(last_used_at__lt=now - LAST_USED_STEP)
    with tenant_scope(found):
        row = ApiKey.objects.usable().select_related("tenant").filter(pk=found.id).first()
        if row is None:
            raise NotAuthenticated
        ApiKey.objects.for_tenant(row.tenant).filter(stale, pk=row.pk).update(last_used_at=now)
    caller = Caller(
        tenant=row.tenant,
        scopes=rights.known(row.scopes),
        api_key_id=row.pk,
        assistant_ids=frozenset(row.assistant_ids) or None,
        ends_with=frozenset({f"tenant:{row.tenant_id}", f"key:{row.pk}"}),
    )
    if len(_known) >= CACHE_ROWS:
        _known.clear()
    _known[parts.key_id] = _Known(caller, bytes(row.digest), time.monotonic() + CACHE_SECONDS, row.expires_at)
    return caller


def _parts(text: str) -> keys.Parts:
    parts = keys.parse(text)
    if parts is None:
        raise NotAuthenticated
    return parts


def _kind_of(text: str) -> LookUp | None:
    return next((look_up for prefix, look_up in KINDS.items() if text.startswith(prefix)), None)


async def authenticate(text: str, *, origin: str = "") -> Caller:
    """The caller that a credential stands for. Raises NotAuthenticated, with the same words whatever is wrong.

    origin: the request's own, where it has one.
    """
    if look_up := _kind_of(text):
        known = await look_up(text)
        if known is None or (known.origin and known.origin != origin):
            raise NotAuthenticated
        caller = known.caller
    else:
        parts = _parts(text)
        remembered = _remembered(parts)
        caller = await platform_unit(_look_up, parts) if remembered is None else remembered
    structlog.contextvars.bind_contextvars(tenant=caller.tenant.slug)
    return caller


async def authenticate_request(request: HttpRequest) -> Caller:
    """The same for a request's headers."""
    return await authenticate(credential_of(request), origin=request.headers.get("Origin", ""))


async def still_valid(text: str, *, origin: str = "") -> bool:
    """Whether a credential that was accepted earlier still is. While what knows is away nobody can tell: then it is."""
    try:
        await authenticate(text, origin=origin)
    except NotAuthenticated:
        return False
    except (OperationalError, InterfaceError, ServiceUnavailable):
        return True
    return True


class KeyAuthentication(BaseAuthentication):
    """The same for DRF's sync views."""

    def authenticate(self, request: Request) -> tuple[Caller, None]:
        credential = credential_of(request)
        if _kind_of(credential):
            return async_to_sync(authenticate_request)(request), None
        parts = _parts(credential)
        caller: Caller = _remembered(parts) or _look_up(parts)
        structlog.contextvars.bind_contextvars(tenant=caller.tenant.slug)
        return caller, None

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="parley"'
