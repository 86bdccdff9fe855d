"""From a credential to a Caller, the same for REST, SSE and WebSockets."""

from __future__ import annotations

import datetime
import hmac
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple

import structlog
from asgiref.sync import async_to_sync
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest
from django.utils import timezone
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from apps.edge.errors import ServiceUnavailable
from apps.edge.metrics import looked_up
from apps.edge.origins import origin_of
from apps.tenants import addresses, keys, lookups
from apps.tenants.models import ApiKey, Tenant
from apps.tenants.scoping import platform_unit, tenant_scope
from chatbot.errors import NotAuthenticated, NotPermitted

# How long a process believes a key that it looked up, should nobody tell it of its end. A cache in Redis, that several
# processes share, would spare them little: a key that is used ten times a second costs each a query every two seconds.
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
    scopes: frozenset[str] = frozenset()
    api_key_id: uuid.UUID | None = None
    oauth_client_id: uuid.UUID | None = None
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
    """A credential that was found, and what holds for its use. origin: of the pages that alone may use it; ip_ranges:
    the networks that it may come from, none for everywhere."""

    caller: Caller
    expires_at: datetime.datetime | None = None
    origin: str = ""
    ip_ranges: tuple[str, ...] = ()

    def holds(self, origin: str, address: str | None) -> bool:
        """Whether it may be used now, by a page of this origin, from this address."""
        if self.expires_at and self.expires_at <= timezone.now():
            return False
        if self.origin and self.origin != origin:
            return False
        return address is None or addresses.among(address, self.ip_ranges)


LookUp = Callable[[str], Awaitable[Known | None]]
# Kinds of credentials beside API keys, by what their texts begin with; each kind's own module says what it stands for.
KINDS: dict[str, LookUp] = {}


class _Remembered(NamedTuple):
    known: Known
    digest: bytes
    until: float


# By the key's public id. Whoever read it could not authenticate: proving takes the secret, of which here is an HMAC.
_known: dict[str, _Remembered] = {}


def credential_of(request: HttpRequest) -> str:
    return key_in(request.headers.get("Authorization"), request.headers.get("X-Api-Key"))


def key_in(authorization: str | None, x_api_key: str | None) -> str:
    """The key in a request's headers; `Authorization: Bearer` goes before `x-api-key`."""
    if authorization:
        scheme, _, credential = authorization.partition(" ")
        return credential.strip() if scheme.lower() == "bearer" else ""
    return (x_api_key or "").strip()


def forget() -> None:
    """Look every key up anew."""
    _known.clear()


def _remembered(parts: keys.Parts) -> Known | None:
    known, digest, until = _known.get(parts.key_id, (None, b"", 0.0))
    if known is None or until < time.monotonic():
        return None
    if not hmac.compare_digest(digest, keys.digest(parts.secret)):
        raise NotAuthenticated
    return known


def _look_up(parts: keys.Parts) -> Known:
    """What a key stands for: whose it is, and in the same transaction its row. Raises NotAuthenticated."""
    found = lookups.key_of(parts.key_id)
    # Compare even where no row was found, so that the time taken tells nothing.
    if not hmac.compare_digest(found.digest if found else b"\0" * 32, keys.digest(parts.secret)) or found is None:
        raise NotAuthenticated
    with tenant_scope(found):
        row = keys.usable(found.tenant_id, found.id)
        if row is None:
            raise NotAuthenticated
        now = timezone.now()
        if row.last_used_at is None or row.last_used_at < now - LAST_USED_STEP:
            ApiKey.objects.for_tenant(row.tenant).filter(pk=row.pk).update(last_used_at=now)
    known = Known(_caller_of(row), expires_at=row.expires_at, ip_ranges=tuple(row.ip_ranges))
    if len(_known) >= CACHE_ROWS:
        _known.clear()
    _known[parts.key_id] = _Remembered(known, found.digest, time.monotonic() + CACHE_SECONDS)
    return known


def _caller_of(row: ApiKey) -> Caller:
    ends_with = {f"tenant:{row.tenant_id}", f"key:{row.pk}"}
    if maker := row.created_by_id:
        ends_with |= {f"user:{maker}", f"member:{row.tenant_id}:{maker}"}
    return Caller(
        tenant=row.tenant,
        scopes=keys.permitted(row),
        api_key_id=row.pk,
        assistant_ids=frozenset(row.assistant_ids) or None,
        ends_with=frozenset(ends_with),
    )


def _parts(text: str) -> keys.Parts:
    parts = keys.parse(text)
    if parts is None:
        raise NotAuthenticated
    return parts


def _kind_of(text: str) -> LookUp | None:
    return next((look_up for prefix, look_up in KINDS.items() if text.startswith(prefix)), None)


async def authenticate(text: str, *, origin: str = "", address: str | None = "") -> Caller:
    """The caller that a credential stands for. Raises NotAuthenticated, with the same words whatever is wrong.

    origin: the request's own, where it has one. address: the client's, as the server tells it; None not to ask for it.
    """
    known: Known | None
    if look_up := _kind_of(text):
        known = await look_up(text)
    else:
        parts = _parts(text)
        known = _remembered(parts)
        looked_up("keys", hit=known is not None)
        known = known or await platform_unit(_look_up, parts)
    return _let_in(known, origin, address)


def _let_in(known: Known | None, origin: str, address: str | None) -> Caller:
    if known is None or not known.holds(origin, address):
        raise NotAuthenticated
    structlog.contextvars.bind_contextvars(tenant=known.caller.tenant.slug)
    return known.caller


def address_of(request: HttpRequest) -> str:
    """Where a request came from, as the server says: it believes X-Forwarded-For only behind our own proxy."""
    return request.META.get("REMOTE_ADDR") or ""


async def authenticate_request(request: HttpRequest) -> Caller:
    """The same for a request's headers."""
    return await authenticate(credential_of(request), origin=origin_of(request), address=address_of(request))


async def still_valid(
    text: str, *, origin: str = "", address: str | None = None, scopes: frozenset[str] = frozenset()
) -> bool:
    """Whether a credential that was accepted earlier still is, with these scopes at least.

    While what knows is away nobody can tell: then it is.
    """
    try:
        caller = await authenticate(text, origin=origin, address=address)
    except NotAuthenticated:
        return False
    except (OperationalError, InterfaceError, ServiceUnavailable):
        return True
    return scopes <= caller.scopes


class KeyAuthentication(BaseAuthentication):
    """The same for DRF's sync views."""

    def authenticate(self, request: Request) -> tuple[Caller, None]:
        credential = credential_of(request)
        if _kind_of(credential):
            return async_to_sync(authenticate_request)(request), None
        parts = _parts(credential)
        known = _remembered(parts) or _look_up(parts)
        return _let_in(known, "", address_of(request)), None

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="parley"'
