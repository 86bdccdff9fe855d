"""Who logs in, and from the admin's session cookie to a user for WebSockets, which pass no middleware."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user
from django.http import HttpRequest, parse_cookie

from apps.access.authentication import Caller
from apps.access.logins.second_factor import is_missing
from apps.tenants import rights
from apps.tenants.models import Membership, Tenant, User


def login_name(request: HttpRequest, credentials: Mapping[str, Any] | None) -> str:
    """Whom somebody tries to log in as, for counting failures: capitals and blanks do not make it another account."""
    given = credentials or request.POST
    return str(given.get("username") or given.get("email") or "").strip().lower()


def user_of(cookie_header: str) -> User | None:
    """The active user whose session the Cookie header names, unless it still lacks a second factor. Database work: call
    it as a unit."""
    key = parse_cookie(cookie_header).get(settings.SESSION_COOKIE_NAME, "")
    if not key or "\0" in key:
        return None
    request = HttpRequest()
    request.session = import_module(settings.SESSION_ENGINE).SessionStore(key)
    user = get_user(request)
    if not isinstance(user, User) or not (user.is_active and user.is_staff) or is_missing(request, user):
        return None
    return user


def member_caller(user: User, tenant_id: uuid.UUID) -> Caller | None:
    """Who a logged-in user is in a tenant, with what their role permits; None where they are nobody there.

    Call it in the tenant's scope.
    """
    tenant = Tenant.objects.filter(pk=tenant_id, is_active=True).first()
    membership = Membership.objects.for_tenant(tenant_id).filter(user=user).first()
    if tenant is None or not (membership or user.is_superuser):
        return None
    role = Membership.Role.OWNER if membership is None or user.is_superuser else membership.role
    return Caller(
        tenant=tenant,
        scopes=rights.OF_ROLE[role],
        user_id=user.pk,
        user_email=user.email,
        ends_with=frozenset({f"tenant:{tenant_id}", f"user:{user.pk}", f"member:{tenant_id}:{user.pk}"}),
    )
