"""Encrypts stored secrets anew with the first key of the keyring, so that older keys can be taken out of it."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, LiteralString

from allauth.mfa.models import Authenticator
from django.apps import apps
from django.db import connection, transaction
from psycopg import sql

from apps.edge.encryption import KEY_ID_CHARS, EncryptedTextField, Undecryptable, decrypt, encrypt, keyring
from apps.tenants import lookups
from apps.tenants.scoping import TenantOwned, tenant_scope

# Rows that are locked at a time, for some milliseconds: a save that wants one of them waits for no more than that.
BATCH = 50
UNLABELLED = ""  # the key id of a token from before ids were stored

# A row that somebody is saving just now is left to the next pass: it may come out encrypted with the first key.
_STALE = """
    SELECT {pk}, {column} FROM {table}
    WHERE {column} <> '' AND left({column}, {length}) <> %(first)s AND {mine} {beyond}
    ORDER BY {pk} LIMIT %(batch)s FOR UPDATE SKIP LOCKED
"""
_UPDATE = "UPDATE {table} SET {assignment} WHERE {pk} = %(pk)s AND {column} = %(old)s"
_IN_USE = """
    SELECT CASE WHEN strpos({column}, ':') > 0 THEN split_part({column}, ':', 1) ELSE '' END, count(*)
    FROM {table} WHERE {column} <> '' AND {mine} GROUP BY 1
"""


@dataclass(frozen=True, slots=True)
class Place:
    """A column of secrets. owned: of a table whose rows belong to tenants. key: under which a JSON column has them."""

    table: str
    column: str
    pk: str
    owned: bool
    key: str = ""

    def __str__(self) -> str:
        return ".".join(part for part in (self.table, self.column, self.key) if part)

    def statement(self, text: LiteralString, tenant: uuid.UUID | None, after: Any = None) -> sql.Composed:
        """tenant: whose rows, where they are anybody's. after: only rows with a greater key."""
        pk, column = sql.Identifier(self.pk), sql.Identifier(self.column)
        inside = "jsonb_set({column}, ARRAY[{key}], to_jsonb(%(new)s::text))"
        return sql.SQL(text).format(
            table=sql.Identifier(self.table),
            column=sql.SQL("({} ->> {})").format(column, self.key) if self.key else column,
            assignment=sql.SQL("{} = ").format(column)
            + sql.SQL(inside if self.key else "%(new)s").format(column=column, key=self.key),
            pk=pk,
            length=sql.Literal(KEY_ID_CHARS + 1),
            mine=sql.SQL("tenant_id = {}").format(tenant) if tenant else sql.SQL("true"),
            beyond=sql.SQL("" if after is None else "AND {} > {}").format(*(() if after is None else (pk, after))),
        )


@dataclass(slots=True)
class Done:
    """unreadable: rows that no key of the keyring decrypts, which stay as they are."""

    rotated: int = 0
    unreadable: int = 0


def places() -> list[Place]:
    """Every column of every model that keeps a secret; those of second factors are allauth's, in JSON."""
    factors = Authenticator._meta.db_table
    in_json = [Place(factors, "data", "id", owned=False, key=key) for key in ("secret", "seed")]
    return in_json + [
        Place(model._meta.db_table, str(field.column), str(model._meta.pk.column), issubclass(model, TenantOwned))
        for model in apps.get_models()
        for field in model._meta.concrete_fields
        if isinstance(field, EncryptedTextField)
    ]


def _scopes(place: Place) -> list[uuid.UUID | None]:
    return [*lookups.all_tenants()] if place.owned else [None]


def _scope(tenant: uuid.UUID | None) -> AbstractContextManager[Any]:
    return tenant_scope(tenant) if tenant else transaction.atomic()


def keys_in_use() -> Counter[str]:
    """How many secrets each key encrypted, by the key's id."""
    found: Counter[str] = Counter()
    for place in places():
        for tenant in _scopes(place):
            with _scope(tenant), connection.cursor() as cursor:
                cursor.execute(place.statement(_IN_USE, tenant))
                for key, count in cursor.fetchall():
                    found[key] += count
    return found


def rotate(place: Place) -> Iterator[Done]:
    """Encrypt a column's secrets anew, batch by batch; yields how far it is after each. Started again, it goes on."""
    done = Done()
    for tenant in _scopes(place):
        after = None
        while batch := _rotate_batch(place, tenant, after, done):
            after = batch[-1]
            yield done


def _rotate_batch(place: Place, tenant: uuid.UUID | None, after: Any, done: Done) -> list[Any]:
    """The keys of the rows that were looked at, all of them locked until all are written."""
    first = f"{next(iter(keyring()))}:"
    with _scope(tenant), connection.cursor() as cursor:
        cursor.execute(place.statement(_STALE, tenant, after), {"first": first, "batch": BATCH})
        rows = cursor.fetchall()
        for pk, old in rows:
            try:
                new = encrypt(decrypt(old))
            except Undecryptable:
                done.unreadable += 1
                continue
            cursor.execute(place.statement(_UPDATE, tenant), {"new": new, "old": old, "pk": pk})
            done.rotated += cursor.rowcount
    return [pk for pk, _ in rows]
