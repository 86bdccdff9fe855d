"""Idempotency keys: a request that is sent again, because nobody knows what became of it, is done once.

A key stands for one route and one body, for KEPT. It is the end user's whom the request concerns, or the tenant's where
it concerns none. A request that was refused leaves no key behind, so that it can be put right and sent again.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import orjson
from django.db import DatabaseError, connection
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.crypto import salted_hmac
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request

from apps.access.authentication import Caller
from apps.access.models import IdempotencyKey
from apps.tenants import lookups
from apps.tenants.models import EndUser
from apps.tenants.pool import Connection
from apps.tenants.scoping import tenant_scope
from chatbot.errors import IdempotencyConflict, InvalidRequest

HEADER = "Idempotency-Key"
REPLAYED = "Idempotent-Replayed"
KEPT = datetime.timedelta(hours=24)
MAX_CHARS = 200
PRUNED_AT_ONCE = 1000

Answer = tuple[int, Any]  # a status, and what the body is made of

# Repeats that are sent at once wait here for the first one to commit.
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"
_FIND = """
    SELECT route, fingerprint, turn_id FROM conversations_idempotencykey
    WHERE tenant_id = %s AND end_user_id = %s AND key = %s AND created > %s
"""
# What is there already is too old to count, or its turn was never answered: otherwise it would have been a repeat.
_KEEP = """
    INSERT INTO conversations_idempotencykey (id, tenant_id, end_user_id, key, route, fingerprint, turn_id, created)
    VALUES (gen_random_uuid(), %s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT (tenant_id, end_user_id, key) DO UPDATE SET route = excluded.route, fingerprint = excluded.fingerprint,
        turn_id = excluded.turn_id, status = NULL, body = '', created = excluded.created
"""


@dataclass(frozen=True, slots=True)
class Claim:
    """A request that says how a repeat of it is known. fingerprint: the same for a repeat, and for nothing else.
    unkeyed: as the release before wrote it."""

    tenant_id: uuid.UUID
    end_user_id: uuid.UUID | None
    key: str
    route: str
    fingerprint: str
    unkeyed: str = ""

    @property
    def name(self) -> str:
        return f"{self.tenant_id}/{self.end_user_id or ''}/{self.key}"

    def check(self, route: str, fingerprint: str) -> None:
        """Raises IdempotencyConflict where the key stands for another request. The release before wrote no routes."""
        if fingerprint not in {self.fingerprint, self.unkeyed} or route not in {"", self.route}:
            raise IdempotencyConflict


def key_in(request: HttpRequest | Request) -> str:
    """The idempotency key of a request; empty where it has none. Raises InvalidRequest."""
    key = request.headers.get(HEADER, "").strip()
    if len(key) > MAX_CHARS or not key.isprintable():
        raise InvalidRequest(fields={HEADER: f"Use at most {MAX_CHARS} printable characters."})
    return key


# --- Requests that open a turn: the turn itself is what a repeat gets -------------------------------------------------


async def first_turn(connection: Connection, claim: Claim) -> uuid.UUID | None:
    """The turn that this key opened already. Call it in the transaction that opens one otherwise."""
    await connection.execute(_LOCK, (claim.name,))
    values = (claim.tenant_id, claim.end_user_id, claim.key, timezone.now() - KEPT)
    row = await (await connection.execute(_FIND, values)).fetchone()
    if row is None:
        return None
    route, fingerprint, turn_id = row
    claim.check(route, fingerprint)
    return uuid.UUID(str(turn_id))


async def keep_turn(connection: Connection, claim: Claim, turn_id: uuid.UUID) -> None:
    """Let repeats find this turn, and no earlier one."""
    values = (claim.tenant_id, claim.end_user_id, claim.key, claim.route, claim.fingerprint, turn_id, timezone.now())
    await connection.execute(_KEEP, values)


# --- Other requests: their answer is kept -----------------------------------------------------------------------------


def once(
    request: HttpRequest | Request,
    caller: Caller,
    fields: Mapping[str, Any],
    work: Callable[[], Answer],
    *,
    end_user: EndUser | None = None,
    complete: Callable[[dict[str, Any]], dict[str, Any]] = dict,
) -> HttpResponse:
    """Do the work, or answer what it answered when this request came first. Call it in one transaction with all of it.

    fields: what the request asks for. complete: adds to the answer what is not to be kept, such as a secret.
    """
    claim = _claim(request, caller, fields, end_user)
    if claim is None:
        return _respond(work(), complete)
    if kept := _found(claim):
        return _replay(kept, complete)
    status, data = work()
    body = _rendered(data)
    said = {"route": claim.route, "fingerprint": claim.fingerprint, "status": status, "body": body}
    _keep(claim, said)
    return _respond((status, json.loads(body)), complete)


def once_across(
    request: HttpRequest | Request,
    caller: Caller,
    fields: Mapping[str, Any],
    work: Callable[[], Answer],
    *,
    end_user: EndUser | None = None,
) -> HttpResponse:
    """The same for work that takes several transactions, and is harmless when it is done twice: repeats that are sent
    at once do it side by side, and answer alike."""
    claim = _claim(request, caller, fields, end_user)
    if claim is None:
        return _respond(work())
    with tenant_scope(caller):
        if (kept := _found(claim)) is None:
            _keep(claim, {"route": claim.route, "fingerprint": claim.fingerprint, "status": None, "body": ""})
    if kept and kept.status:
        return _replay(kept)
    try:
        status, data = work()
    except Exception:
        with suppress(DatabaseError), tenant_scope(caller):
            _rows(claim).filter(status=None)._raw_delete("default")
        raise
    body = _rendered(data)
    with tenant_scope(caller):
        if not _rows(claim).filter(status=None).update(status=status, body=body):
            kept = _rows(claim).first()
    return _replay(kept) if kept and kept.status else _respond((status, data))


def _claim(
    request: HttpRequest | Request, caller: Caller, fields: Mapping[str, Any], end_user: EndUser | None
) -> Claim | None:
    key = key_in(request)
    if not key:
        return None
    asked = orjson.dumps([request.path, fields], option=orjson.OPT_SORT_KEYS, default=str)
    match = request.resolver_match
    assert match is not None  # noqa: S101 - a view is answering
    return Claim(
        tenant_id=caller.tenant_id,
        end_user_id=end_user.pk if end_user else None,
        key=key,
        route=f"{request.method} {match.route}",
        # Keyed, since what is asked may hold a secret, which could be guessed until a digest of it is met.
        fingerprint=salted_hmac("parley.idempotency", asked, algorithm="sha256").hexdigest(),
        unkeyed=hashlib.sha256(asked).hexdigest(),
    )


def _found(claim: Claim) -> IdempotencyKey | None:
    """What is kept under this key, once nobody else is at it. Raises IdempotencyConflict."""
    with connection.cursor() as cursor:
        cursor.execute(_LOCK, [claim.name])
    rows = IdempotencyKey.objects.for_tenant(claim.tenant_id).filter(end_user=claim.end_user_id, key=claim.key)
    kept: IdempotencyKey | None = rows.filter(created__gt=timezone.now() - KEPT).first()
    if kept:
        claim.check(kept.route, kept.fingerprint)
    return kept


def _keep(claim: Claim, said: dict[str, Any]) -> None:
    IdempotencyKey.objects.update_or_create(
        tenant_id=claim.tenant_id,
        end_user_id=claim.end_user_id,
        key=claim.key,
        defaults={**said, "turn_id": None, "created": timezone.now()},
    )


def _rows(claim: Claim) -> Any:
    """The key's row, as long as it stands for this request."""
    rows = IdempotencyKey.objects.for_tenant(claim.tenant_id).filter(end_user=claim.end_user_id, key=claim.key)
    return rows.filter(route=claim.route, fingerprint=claim.fingerprint)


def _rendered(data: Any) -> str:
    return JSONRenderer().render(data).decode()


def _respond(
    answer: Answer, complete: Callable[[dict[str, Any]], dict[str, Any]] = dict, *, replayed: bool = False
) -> HttpResponse:
    status, data = answer
    headers = {REPLAYED: "true"} if replayed else {}
    return HttpResponse(_rendered(complete(data)), status=status, content_type="application/json", headers=headers)


def _replay(kept: IdempotencyKey, complete: Callable[[dict[str, Any]], dict[str, Any]] = dict) -> HttpResponse:
    return _respond((kept.status or 200, json.loads(kept.body)), complete, replayed=True)


# --- What is old ------------------------------------------------------------------------------------------------------


def prune() -> int:
    """Delete keys that are older than KEPT, a portion at a time; how many. Nothing looks at them any more."""
    return sum(_prune(tenant_id) for tenant_id in lookups.all_tenants())


def _prune(tenant_id: uuid.UUID) -> int:
    deleted = 0
    while True:
        with tenant_scope(tenant_id):
            rows = IdempotencyKey.objects.for_tenant(tenant_id)
            old = rows.filter(created__lt=timezone.now() - KEPT).order_by("created").values("pk")
            portion: int = rows.filter(pk__in=old[:PRUNED_AT_ONCE]).order_by()._raw_delete("default")
        deleted += portion
        if portion < PRUNED_AT_ONCE:
            return deleted
