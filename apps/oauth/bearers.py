"""From an access token to the caller that it stands for."""

from __future__ import annotations

import time
import uuid

from django.utils import timezone

from apps.access.authentication import Caller, Known
from apps.oauth import lookups, texts
from apps.oauth.models import AccessToken, Application
from apps.oauth.scopes import permitted
from apps.tenants import rights
from apps.tenants.scoping import platform_unit, tenant_scope

# How long a process believes a token that it looked up.
BELIEVED = 2.0  # seconds
MOST_BELIEVED = 10_000
_believed: dict[str, tuple[Known, float]] = {}


async def look_up(text: str) -> Known | None:
    """Who bears this token: None where it stands for nothing, or no longer. No query where the form is wrong."""
    if not texts.is_access_token(text):
        return None
    checksum = texts.checksum(text)
    known, until = _believed.get(checksum, (None, 0.0))
    if known is None or until <= time.monotonic():
        known = await platform_unit(_look_up, checksum)
        if known is None:
            return None
        if len(_believed) >= MOST_BELIEVED:
            _believed.clear()
        _believed[checksum] = known, time.monotonic() + BELIEVED
    return known


def forget() -> None:
    """Look every token up anew."""
    _believed.clear()


def standing_tokens(tenant_id: uuid.UUID, ids: set[str]) -> set[str]:
    """Those of a tenant's access tokens that are still there. Call it in the tenant's scope."""
    rows = AccessToken.objects.for_tenant(tenant_id).filter(pk__in=ids, expires__gt=timezone.now())
    return {str(pk) for pk in rows.values_list("pk", flat=True)}


def standing_applications(tenant_id: uuid.UUID, ids: set[str]) -> set[str]:
    """Those of a tenant's applications that are still there. Call it in the tenant's scope."""
    rows = Application.objects.for_tenant(tenant_id).filter(pk__in=ids)
    return {str(pk) for pk in rows.values_list("pk", flat=True)}


def _look_up(checksum: str) -> Known | None:
    found = lookups.token_of(checksum)
    if found is None:
        return None
    with tenant_scope(found):
        tokens = AccessToken.objects.for_tenant(found.tenant_id).select_related("application__tenant", "user")
        token = tokens.filter(pk=found.id).first()
        return None if token is None else standing(token)


def standing(token: AccessToken) -> Known | None:
    """What a token stands for now; None where it has expired, or nothing is left of what it may do.

    Call it in the tenant's scope.
    """
    application, user = token.application, token.user
    scopes = rights.known(token.scope.split()) & permitted(application, user)
    if token.is_expired() or not application.tenant.is_active or not scopes:
        return None
    ends_with = {f"tenant:{token.tenant_id}", f"oauth:{application.pk}", f"token:{token.pk}"}
    if user is not None:
        ends_with |= {f"user:{user.pk}", f"member:{token.tenant_id}:{user.pk}"}
    caller = Caller(
        tenant=application.tenant,
        scopes=scopes,
        oauth_client_id=application.pk,
        user_id=user.pk if user else None,
        user_email=user.email if user else "",
        ends_with=frozenset(ends_with),
    )
    return Known(caller, expires_at=token.expires)
