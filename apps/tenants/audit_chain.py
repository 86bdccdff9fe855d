"""Verifies a chain of the audit log: every hash is computed anew, here and not in the database that is doubted."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from django.db import connection

from apps.tenants import lookups
from apps.tenants.models import PLATFORM
from apps.tenants.scoping import tenant_scope

BATCH = 2_000

# The parts of an entry that are hashed after the hash before it, in this order, as text: what audit_hash() in the
# migration 0003_audit hashes.
PARTS = (
    "id::text",
    "tenant_id::text",
    "seq::text",
    """to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US')""",
    *("actor_kind", "actor_id", "actor_label", "address", "action"),
    *("row_type", "row_id", "row_label", "facts::text", "request_id"),
)
# One statement and so one snapshot: head and entries are written together.
STATE = """
    SELECT h.seq, h.hash, coalesce((SELECT max(seq) FROM tenants_auditentry WHERE tenant_id = %(chain)s), 0)
    FROM (SELECT) one LEFT JOIN tenants_audithead h ON h.chain = %(chain)s
"""
ENTRIES = f"""
    SELECT seq, previous, hash, ARRAY[{", ".join(PARTS)}]::text[]
    FROM tenants_auditentry WHERE tenant_id = %s AND seq <= %s ORDER BY seq
"""  # noqa: S608 - columns of ours

Entry = tuple[int, bytes, bytes, list[str]]


@dataclass(frozen=True, slots=True)
class Verdict:
    """length, head: what to keep elsewhere. bad: the first entry that is wrong, and how; None where all are right."""

    length: int
    head: bytes
    bad: tuple[int, str] | None = None


def chains() -> list[uuid.UUID]:
    """The ids of the tenants whose deeds were recorded, those of deleted ones too; the platform's chain first."""
    return [PLATFORM, *(chain for (chain,) in lookups.call("audit_chains") if chain != PLATFORM)]


def verify(chain: uuid.UUID, kept: bytes | None = None) -> Verdict:
    """Read a chain from its beginning. kept: a head that was noted earlier and must still be in it."""
    with tenant_scope(chain):
        with connection.cursor() as cursor:
            cursor.execute(STATE, {"chain": chain})
            length, head, last = cursor.fetchone()
        if length is None:
            return Verdict(0, b"", _headless(last, kept))
        length, head = int(length), bytes(head)
        bad = _first_bad(_entries(chain, length), length, head, kept)
    if bad is None and last > length:
        bad = length + 1, "was not added by the audit log: the chain ends before it"
    return Verdict(length, head, bad)


def _headless(last: int, kept: bytes | None) -> tuple[int, str] | None:
    if last:
        return 1, "belongs to a chain whose head is missing"
    return (1, "is missing, as is the whole chain") if kept else None


def _entries(chain: uuid.UUID, length: int) -> Iterator[Entry]:
    """Through a cursor on the server: a chain need not fit into memory."""
    with connection.chunked_cursor() as cursor:
        cursor.execute(ENTRIES, [chain, length])
        while rows := cursor.fetchmany(BATCH):
            yield from rows


def _first_bad(entries: Iterable[Entry], length: int, head: bytes, kept: bytes | None) -> tuple[int, str] | None:
    before, expected, seen = b"", 1, kept is None
    for seq, previous, stored, parts in entries:
        if seq != expected:
            return expected, "is missing"
        if wrong := _wrong(before, bytes(previous), bytes(stored), parts):
            return seq, wrong
        before, expected, seen = bytes(stored), seq + 1, seen or kept == bytes(stored)
    if expected <= length:
        return expected, "is missing: the end of the chain was cut off"
    if before != head:
        return length, "is not the one that the chain ended with"
    if not seen:
        return length, "ends a chain that does not hold the head noted earlier: it was cut off or written anew"
    return None


def _wrong(before: bytes, previous: bytes, stored: bytes, parts: list[str]) -> str:
    if previous != before:
        return "does not follow the entry before it: one was inserted, exchanged or changed"
    return "" if hash_of(previous, parts) == stored else "was changed"


def hash_of(previous: bytes, parts: Iterable[Any]) -> bytes:
    """SHA-256 over the parts, each behind its length in bytes and a colon, so that none can pass for two."""
    encoded = (str(part).encode() for part in (previous.hex(), *parts))
    return hashlib.sha256(b"".join(b"%d:%b" % (len(part), part) for part in encoded)).digest()
