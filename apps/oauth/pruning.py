"""Deletes what nobody can use any more: codes, tokens and refresh tokens that have expired."""

from __future__ import annotations

import datetime
import uuid

from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from apps.oauth.models import AccessToken, Grant, RefreshToken
from apps.tenants import lookups
from apps.tenants.scoping import tenant_scope

# A spent code is known for as long as one would hardly come again later than.
CODES_KEPT = datetime.timedelta(days=1)
PORTION = 1_000


def prune() -> int:
    """Of every tenant, in short transactions; how many rows."""
    return sum(_prune(tenant_id) for tenant_id in lookups.all_tenants())


def _prune(tenant_id: uuid.UUID) -> int:
    deleted = 0
    while True:
        with tenant_scope(tenant_id):
            portion = _portion(tenant_id)
        deleted += portion
        if portion < PORTION:
            return deleted


def _portion(tenant_id: uuid.UUID) -> int:
    """Refresh tokens go before the access tokens that their age is counted from. A revoked one stays while it could
    come again, since that is how a theft is noticed."""
    now = timezone.now()
    idle = now - datetime.timedelta(seconds=settings.OAUTH2_PROVIDER["REFRESH_TOKEN_EXPIRE_SECONDS"])
    chosen = (
        (Grant, Q(expires__lt=now - CODES_KEPT)),
        (RefreshToken, Q(revoked__lt=idle) | Q(access_token__expires__lt=idle) | Q(revoked=None, access_token=None)),
        (AccessToken, Q(expires__lt=now, refresh_token=None)),
    )
    left = PORTION
    for model, condition in chosen:
        rows = model.objects.for_tenant(tenant_id)
        ids = list(rows.filter(condition).values_list("pk", flat=True)[:left])
        rows.filter(pk__in=ids).delete()
        left -= len(ids)
    return PORTION - left
