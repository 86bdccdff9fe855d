"""Logins and second factors in the audit log: in the chain of each tenant of the person, or else the platform's."""

from __future__ import annotations

import uuid
from typing import Any, cast

from allauth.account.internal.flows.login import get_authentication_records
from django.db import transaction
from django.http import HttpRequest

from apps.tenants import audit, lookups
from apps.tenants.models import User


def login_succeeded(request: HttpRequest, user: User) -> None:
    ways = [entry["method"] if entry["method"] != "mfa" else entry["type"] for entry in _records(request, user)]
    _everywhere(user, "login.succeeded", _actor(request, user), ways=sorted(set(ways)))


def login_failed(email: str, address: str, way: str) -> None:
    """An address that no account has is told to nobody."""
    user = User.objects.filter(email__iexact=email.strip()).first()
    if user is not None:
        _everywhere(user, "login.failed", audit.Actor("user", str(user.pk), user.email, address), way=way)


def second_factor(request: HttpRequest, deed: str, kind: str) -> None:
    """deed: `second_factor.added`, `.removed` or `.recovery_codes_made`."""
    user = cast("User", request.user)
    _everywhere(user, deed, _actor(request, user), kind=kind)


def sessions_ended(request: HttpRequest, user: User) -> None:
    _everywhere(user, "sessions.ended", _actor(request, user))


def _records(request: HttpRequest, user: User) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = get_authentication_records(request, user)
    return records


def _actor(request: HttpRequest, user: User) -> audit.Actor:
    return audit.Actor("user", str(user.pk), str(user), audit.address_of(request))


def _everywhere(user: User, action: str, actor: audit.Actor, **facts: Any) -> None:
    chains: list[uuid.UUID | None] = [found.tenant_id for found in lookups.memberships_of(user.pk)]
    if user.is_superuser or not chains:
        chains.append(None)
    with transaction.atomic():
        for chain in chains:
            audit.record(chain, action, actor, **facts)
