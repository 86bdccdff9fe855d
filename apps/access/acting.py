"""Writes what callers of the API change into the audit log."""

from __future__ import annotations

from typing import Any, cast

from django.db.models import Model
from rest_framework.request import Request

from apps.access.authentication import Caller
from apps.tenants import audit
from apps.tenants.audit import Actor
from apps.tenants.models import ApiKey


def record(request: Request, action: str, row: Model, **facts: Any) -> None:
    """Record what the caller of a TenantView did; call it in the tenant's scope, beside the deed. See audit.record."""
    caller = cast("Caller", request.user)
    audit.record(caller, action, _actor(caller, audit.address_of(request._request)), row, **facts)


def _actor(caller: Caller, address: str) -> Actor:
    if caller.api_key_id:
        # By its name, which a caller does not carry.
        key = ApiKey.objects.for_tenant(caller.tenant).filter(pk=caller.api_key_id).first()
        return Actor("key", str(caller.api_key_id), key.name if key else "an API key", address)
    if caller.user_id:
        return Actor("user", str(caller.user_id), caller.user_email, address)
    for kind, label in (("oauth", "an OAuth2 client"), ("visitor", "a visitor")):
        for word in caller.ends_with:
            if word.startswith(f"{kind}:"):
                return Actor(kind, word.partition(":")[2], caller.end_user or label, address)
    return Actor("system", "", "somebody", address)
