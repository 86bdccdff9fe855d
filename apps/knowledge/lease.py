"""A worker's hold on a document, a run of a source or a second index: claimed by one, renewed while it works, and the
condition of all that it writes."""

from __future__ import annotations

import asyncio
import datetime
import uuid
from collections.abc import Coroutine
from typing import Any

import structlog
from django.db import OperationalError, connection
from django.db.models import F
from django.utils import timezone
from psycopg.errors import LockNotAvailable, QueryCanceled

from apps.knowledge.models import Document, SecondIndex, SourceRun
from apps.tenants.scoping import unit

log = structlog.get_logger(__name__)

# A killed worker's document is taken up when its lease and the beat's next round (30 s) are over: within two minutes.
LEASE = datetime.timedelta(seconds=60)
RENEW_EVERY = 15.0  # seconds

Held = Document | SecondIndex | SourceRun


class SupersededError(Exception):
    """The document was deleted, given other bytes or taken over, or the run was stopped: what this worker still does is
    worth nothing."""


def claim(tenant_id: uuid.UUID, document_id: uuid.UUID) -> Document | None:
    """The document with all that its ingestion needs, now ours; None if it is finished, pausing, gone or another's."""
    now = clock()
    token = uuid.uuid4()
    documents = Document.objects.for_tenant(tenant_id).filter(pk=document_id)
    claimed = documents.claimable(now).update(
        lease_token=token, lease_until=now + LEASE, attempts=F("attempts") + 1, updated=now
    )
    if not claimed:
        return None
    ours: Document = documents.select_related("tenant", "collection__index__endpoint").get()
    return ours


def write(held: Held, /, **fields: Any) -> None:
    """Set fields of what is ours. Raises SupersededError where it is no longer."""
    ours = type(held).objects.for_tenant(held.tenant_id).filter(pk=held.pk, lease_token=held.lease_token)
    if not ours.update(updated=timezone.now(), **fields):
        raise SupersededError


def end_all(tenant_id: uuid.UUID) -> None:
    """Take from all workers what they hold of a tenant, and let no other one begin."""
    why = {"status": Document.Status.FAILED, "failure_code": "erased", "failure_message": "The tenant is being erased."}
    Document.objects.for_tenant(tenant_id).unfinished().update(**why)
    for model in (Document, SecondIndex, SourceRun):
        held = model.objects.for_tenant(tenant_id).exclude(lease_token=None)
        held.update(lease_token=None, lease_until=None)


def renew(held: Held) -> None:
    write(held, lease_until=clock() + LEASE)


def clock() -> datetime.datetime:
    """PostgreSQL's, by which leases run: a worker whose own is wrong takes none from others, and none of its own ends
    late when it dies."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        (now,) = cursor.fetchone()
    return now  # type: ignore[no-any-return]


async def while_leased(held: Held, work: Coroutine[Any, Any, None]) -> None:
    """Run `work`, renewing the lease; stops it and raises SupersededError when what it is about is no longer ours."""

    async def keep_renewing() -> None:
        while True:
            await asyncio.sleep(RENEW_EVERY)
            try:
                await unit(renew, held)
            except OperationalError as error:
                # Most likely by the work itself, which writes many passages in one transaction.
                if not isinstance(error.__cause__, LockNotAvailable | QueryCanceled):
                    raise
                log.info("lease.awaits_lock")

    tasks = [asyncio.ensure_future(work), asyncio.ensure_future(keep_renewing())]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
