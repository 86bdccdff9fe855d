"""How much a tenant keeps: its documents, their bytes and those of attachments, and uploads that are not whole yet, as
what they are to become. PostgreSQL counts, under a lock
where it has to be exact."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.db import connection
from django.db.models import Count, QuerySet, Sum

from apps.tenants.models import Tenant
from apps.usage import limits, metrics
from apps.usage.refusals import full
from chatbot.quota import KEPT, Account

# Both halves of an advisory lock: which lock it is, and whose.
_LOCK = "SELECT pg_advisory_xact_lock(1431519560, hashtext(%s))"


@dataclass(frozen=True, slots=True)
class Kept:
    documents: int = 0
    bytes: int = 0


def kept(tenant: Tenant, collection_id: uuid.UUID | None = None) -> Kept:
    """What the tenant keeps, or one collection of it. Call it in the tenant's scope."""
    rows, uploads = _documents(tenant), _rows("knowledge.Upload", tenant).filter(promised__gt=0)
    if collection_id:
        rows, uploads = rows.filter(collection=collection_id), uploads.filter(collection=collection_id)
    found = rows.aggregate(documents=Count("pk"), bytes=Sum("size", default=0))
    coming = uploads.aggregate(documents=Count("pk"), bytes=Sum("promised", default=0))
    attached = 0 if collection_id else _attachments(tenant).aggregate(bytes=Sum("kept", default=0))["bytes"]
    return Kept(found["documents"] + coming["documents"], int(found["bytes"] + coming["bytes"] + attached))


def refuse_beyond(
    tenant: Tenant,
    collection_id: uuid.UUID | None,
    *,
    exactly: bool,
    documents: int = 0,
    bytes: int = 0,  # noqa: A002 - the metric's name
    instead_of: uuid.UUID | None = None,
) -> None:
    """Raises QuotaExceeded where the tenant or the collection, if it is for one, may not keep so much more.

    instead_of: a document whose bytes these replace; fewer bytes are never refused. exactly: whoever else asks this
    waits until the transaction ends, so that what it writes is counted by the next. Ask before any document's row is
    locked, or two who hold one thing each may wait for each other.
    """
    accounts = [(Account("tenant"), "")]
    if collection_id:
        accounts.append((Account("collection", str(collection_id)), str(collection_id)))
    asked = {"documents": documents, "bytes": bytes}
    held = [limit for limit in limits.read(tenant).of(accounts, KEPT) if limit.hard and asked[limit.metric] > 0]
    if not held:
        return
    if exactly:
        with connection.cursor() as cursor:
            cursor.execute(_LOCK, [str(tenant.pk)])
    if instead_of:
        asked["bytes"] -= _documents(tenant).filter(pk=instead_of).aggregate(size=Sum("size", default=0))["size"]
    standing: dict[str, Kept] = {}
    for limit in held:
        level = limit.account.level
        if level not in standing:
            standing[level] = kept(tenant, None if level == "tenant" else collection_id)
        left = limit.amount - getattr(standing[level], limit.metric)
        if 0 < asked[limit.metric] > left:
            metrics.refused(tenant, limit)
            raise full(limit, left=left)


def _documents(tenant: Tenant) -> QuerySet[Any]:
    return _rows("knowledge.Document", tenant)


def _attachments(tenant: Tenant) -> QuerySet[Any]:
    return _rows("conversations.Attachment", tenant)


def _rows(label: str, tenant: Tenant) -> QuerySet[Any]:
    # By label: the ledger lies below what is kept.
    found: QuerySet[Any] = apps.get_model(label)._default_manager.filter(tenant=tenant)
    return found
