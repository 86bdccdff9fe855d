"""What people call what usage is added up by."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.apps import apps

from apps.tenants.models import Tenant

# By label: the ledger lies below most of what it names.
_MODELS = {
    "assistant": "assistants.Assistant",
    "key": "tenants.ApiKey",
    "client": "oauth.Application",
    "tenant": "tenants.Tenant",
}
# Groups that are one tenant's, among those of all of them.
OF_TENANTS = frozenset({*_MODELS, "user"})


def names_of(by: str, ids: Iterable[Any]) -> dict[str, str]:
    """The names of those that still are, by their ids as text."""
    if by not in _MODELS:
        return {}
    rows = apps.get_model(_MODELS[by])._default_manager.filter(pk__in={each for each in ids if each})
    return {str(pk): name for pk, name in rows.values_list("pk", "name")}


def offered(tenant: Tenant, by: str) -> list[tuple[str, str]]:
    """Ids and names of the tenant's assistants, keys or clients, to choose among; keys without those that are
    revoked."""
    rows = apps.get_model(_MODELS[by])._default_manager.filter(tenant=tenant).order_by("name")
    if by == "key":
        return [(str(row.pk), f"{row.name} ({row.key_id})") for row in rows.filter(revoked_at=None)]
    return [(str(row.pk), row.name) for row in rows]
