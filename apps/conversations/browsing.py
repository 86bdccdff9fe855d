"""Who asks over a socket without a key: a logged-in user of the admin, whom the browser's cookie names."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import structlog
from django.conf import settings
from django.db import InterfaceError, OperationalError
from django.http.request import validate_host

from apps.access.authentication import Caller
from apps.access.sessions import member_caller, user_of
from apps.tenants import lookups
from apps.tenants.scoping import platform_unit, tenant_scope
from chatbot.errors import NotAuthenticated, NotFound


class Browser:
    """headers: the handshake's. One user may act for several tenants: each frame's is that of what it names."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = headers
        self._granted: dict[uuid.UUID, frozenset[str]] = {}  # what its user could do in each tenant

    async def caller(self, named: Any) -> Caller:
        """The user, for the tenant of the conversation, assistant or turn with this id.

        Raises NotAuthenticated, or NotFound, the same for another's as for none.
        """
        caller = await platform_unit(self._member, named)
        structlog.contextvars.bind_contextvars(tenant=caller.tenant.slug)
        self._granted[caller.tenant_id] = caller.scopes
        return caller

    async def still(self, turns: Sequence[uuid.UUID]) -> bool:
        """Whether the user may still do what they could, where these turns are."""
        try:
            return await platform_unit(self._still_member, turns)
        except (OperationalError, InterfaceError):
            return True  # as still_valid() has it

    def _member(self, named: Any) -> Caller:
        if not self._same_origin():
            raise NotAuthenticated
        user = user_of(self._headers.get("cookie", ""))
        if user is None:
            raise NotAuthenticated
        for (tenant_id,) in lookups.call("owners_of", uuids(named)):
            with tenant_scope(tenant_id):
                if caller := member_caller(user, tenant_id):
                    return caller
        raise NotFound

    def _still_member(self, turns: Sequence[uuid.UUID]) -> bool:
        user = user_of(self._headers.get("cookie", ""))
        if user is None:
            return False
        for (tenant_id,) in lookups.call("owners_of", list(turns)):
            with tenant_scope(tenant_id):
                caller = member_caller(user, tenant_id)
                if caller is None or not self._granted.get(tenant_id, frozenset()) <= caller.scopes:
                    return False
        return True

    def _same_origin(self) -> bool:
        """Browsers send cookies across origins; only a page of ours may use them."""
        try:
            origin = urlsplit(self._headers.get("origin", ""))
        except ValueError:
            return False
        host = self._headers.get("host", "")
        return bool(origin.netloc) and origin.netloc == host and validate_host(origin.hostname or "", _hosts())


def uuids(value: Any) -> list[uuid.UUID]:
    """The id that was named, if it is one."""
    try:
        return [uuid.UUID(str(value))]
    except ValueError:
        return []


def _hosts() -> list[str]:
    return list(settings.ALLOWED_HOSTS)
