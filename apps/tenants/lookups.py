"""Whose a row is, asked before a tenant is known: the one kind of question about tenants that stands outside a scope.

Each answers by a function of the database that reads for all tenants and tells ids only (row_security.DefinerFunction,
made in this app's migrations); what is done with an answer happens in that tenant's scope.
"""

from __future__ import annotations

import uuid
from typing import Any, NamedTuple

from django.db import connection

from apps.tenants.models import Tenant
from apps.tenants.scoping import tenant_scope


class Key(NamedTuple):
    tenant_id: uuid.UUID
    id: uuid.UUID
    digest: bytes


class Found(NamedTuple):
    tenant_id: uuid.UUID
    id: uuid.UUID


def call(function: str, *arguments: Any) -> list[tuple[Any, ...]]:
    """The rows that a function of the database returns. The name is the code's, never a user's."""
    marks = ", ".join(["%s"] * len(arguments))
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {function}({marks})", arguments)  # noqa: S608 - a name of ours
        return list(cursor.fetchall())


def key_of(key_id: str) -> Key | None:
    """The API key with this public id, whatever state it is in."""
    for tenant_id, pk, digest in call("key_of", key_id):
        return Key(tenant_id, pk, bytes(digest))
    return None


def invitation_of(digest: bytes) -> Found | None:
    """The invitation whose link has this digest."""
    for row in call("invitation_of", digest):
        return Found(*row)
    return None


def memberships_of(user_id: uuid.UUID) -> list[Found]:
    """A user's memberships, in every tenant."""
    return [Found(*row) for row in call("memberships_of", user_id)]


def keys_of(user_id: uuid.UUID) -> list[Found]:
    """The API keys that belong to a user or were made by them, in every tenant."""
    return [Found(*row) for row in call("keys_of", user_id)]


def tenant_named(slug: str) -> uuid.UUID | None:
    """The id of the tenant with this slug."""
    for (tenant_id,) in call("tenant_named", slug):
        return tenant_id  # type: ignore[no-any-return]
    return None


def find_tenant(slug: str) -> Tenant | None:
    """The tenant with this slug."""
    tenant_id = tenant_named(slug)
    if tenant_id is None:
        return None
    with tenant_scope(tenant_id):
        return Tenant.objects.filter(pk=tenant_id).first()


def all_tenants() -> list[uuid.UUID]:
    """The ids of all tenants, suspended ones too, oldest first: for work that visits each in its scope."""
    return [tenant_id for (tenant_id,) in call("all_tenants")]
