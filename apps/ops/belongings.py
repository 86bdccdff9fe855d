"""What belongs to a tenant, found in the models and in PostgreSQL's catalogue: nobody has to remember a new table."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import suppress

from django.apps import apps
from django.contrib.postgres.search import SearchVectorField
from django.core.files.storage import default_storage
from django.db import connection
from django.db.models import BinaryField, Field, ForeignKey, Model
from oauth2_provider.models import TokenChecksumField
from psycopg import sql

from apps.edge.encryption import EncryptedTextField
from apps.oauth.models import DigestField
from apps.tenants.models import AuditEntry, Tenant
from apps.tenants.scoping import TenantOwned, tenant_scope

# Outlives its tenant, as it tells of what was done; not even the owner of the tables takes entries out of it.
KEPT = AuditEntry

# Catalogue and not models: what is verified should not be what was removed by the same list.
_TABLES = """
    SELECT c.relname, CASE c.relname WHEN %s THEN 'id' ELSE 'tenant_id' END
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND NOT a.attisdropped
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
        AND (a.attname = 'tenant_id' OR (c.relname = %s AND a.attname = 'id'))
    ORDER BY 1
"""


def owned_models() -> list[type[TenantOwned]]:
    return [model for model in apps.get_models() if issubclass(model, TenantOwned)]


def removable() -> list[type[TenantOwned]]:
    """Those whose rows can be removed some at a time, in this order: what refers to them was removed before.

    The others refer to each other in rings, or are what those refer to.
    """
    left = {model for model in owned_models() if model is not KEPT}
    order: list[type[TenantOwned]] = []
    while free := [model for model in left if not any(model in _targets(other) for other in left)]:
        order += sorted(free, key=lambda model: model._meta.label)
        left -= set(free)
    return order


def _targets(model: type[Model]) -> set[type[Model]]:
    return {field.remote_field.model for field in model._meta.concrete_fields if isinstance(field, ForeignKey)}


def left_out(field: Field) -> str:  # type: ignore[type-arg]
    """Why an export lacks this column; empty where it does not."""
    if isinstance(field, EncryptedTextField):
        return "a secret, stored encrypted"
    if isinstance(field, DigestField | TokenChecksumField) or (
        isinstance(field, BinaryField) and field.name == "digest"
    ):
        return "the digest of a credential"
    if field.name in ("token", "device_code", "user_code", "code_challenge"):
        return "a credential"
    if isinstance(field, SearchVectorField):
        return "made of the text beside it"
    return ""


def rows_of(tenant_id: uuid.UUID) -> dict[str, int]:
    """How many rows there are of a tenant, by table, of those that have any."""
    found = {}
    with tenant_scope(tenant_id), connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = 0")
        table = Tenant._meta.db_table
        cursor.execute(_TABLES, [table, table])
        for name, column in cursor.fetchall():
            statement = sql.SQL("SELECT count(*) FROM {} WHERE {} = %s")
            cursor.execute(statement.format(sql.Identifier(name), sql.Identifier(column)), [tenant_id])
            found[name] = cursor.fetchone()[0]
    return {name: count for name, count in found.items() if count}


def files_of(tenant_id: uuid.UUID) -> Iterator[str]:
    """The names in the storage of what is a tenant's: whatever their kind, the tenant's id comes next."""
    for kind in sorted(_listed("")[0]):
        directory = f"{kind}/{tenant_id}"
        yield from (f"{directory}/{name}" for name in sorted(_listed(directory)[1]))


def directories_of(tenant_id: uuid.UUID) -> list[str]:
    """Of a disk; a bucket has none."""
    return [f"{kind}/{tenant_id}" for kind in _listed("")[0] if str(tenant_id) in _listed(kind)[0]]


def _listed(directory: str) -> tuple[list[str], list[str]]:
    with suppress(FileNotFoundError):
        return default_storage.listdir(directory)
    return [], []
