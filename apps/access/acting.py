"""From a caller of the API to the actor that the audit log names."""

from __future__ import annotations

from django.http import HttpRequest

from apps.access.authentication import Caller
from apps.tenants.audit import Actor, address_of
from apps.tenants.models import ApiKey


def actor_of(caller: Caller, request: HttpRequest) -> Actor:
    """Call it in the tenant's scope: a key is called by its name, which a caller does not carry."""
    address = address_of(request)
    if caller.api_key_id:
        key = ApiKey.objects.for_tenant(caller.tenant).filter(pk=caller.api_key_id).first()
        return Actor("key", str(caller.api_key_id), key.name if key else "a key", address)
    if caller.user_id:
        return Actor("user", str(caller.user_id), caller.user_email, address)
    for kind, label in (("oauth", "an OAuth2 client"), ("visitor", "a visitor")):
        for word in caller.ends_with:
            if word.startswith(f"{kind}:"):
                return Actor(kind, word.partition(":")[2], caller.end_user or label, address)
    return Actor("system", "", "somebody", address)
