"""What is deleted leaves nothing behind: its row and passages go at once, the bytes and all that quotes it right after.

A tombstone, written in the transaction that deletes, says what is yet to go. It is removed when that is found to be
gone, so whatever dies in between is taken up again by the beat (tasks.py).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from functools import partial

import structlog
from django.core.files.storage import default_storage
from django.db import transaction
from django.utils import timezone

from apps.knowledge import storage
from apps.knowledge.models import Document, Tombstone
from apps.tenants import lookups
from apps.tenants.models import Tenant
from apps.tenants.scoping import tenant_scope
from apps.usage import ingesting

log = structlog.get_logger(__name__)

AT_ONCE = 200  # of a tenant


def bury(tenant: Tenant, documents: Iterable[Document]) -> None:
    """In the transaction that deletes these documents and their passages, storage.in_turn()."""
    buried = list(documents)
    # What a worker had reserved for one of them and died: no other one takes it up any more.
    ingesting.give_back(tenant, document_id__in=[one.pk for one in buried])
    _after_commit(
        tenant, [Tombstone(tenant=tenant, document_id=one.pk, stored=one.stored, quoted=True) for one in buried]
    )


def let_go(tenant: Tenant, *stored: str) -> None:
    """In the transaction after which a row names these bytes no more, storage.in_turn()."""
    _after_commit(tenant, _of_bytes(tenant.pk, stored))


def leave(tenant_id: uuid.UUID, *stored: str) -> None:
    """let_go() for what may be many: the beat deletes them, and nobody waits for that."""
    Tombstone.objects.bulk_create(_of_bytes(tenant_id, stored))


def _of_bytes(tenant_id: uuid.UUID, stored: Iterable[str]) -> list[Tombstone]:
    return [Tombstone(tenant_id=tenant_id, stored=name) for name in stored if name]


def _after_commit(tenant: Tenant, tombstones: list[Tombstone]) -> None:
    for tombstone in Tombstone.objects.bulk_create(tombstones):
        # Robust: what cannot be deleted now does not undo what is.
        transaction.on_commit(_named(partial(forget, tenant.pk, tombstone.pk)), robust=True)


def _named(work: partial[None]) -> Callable[[], None]:
    def forgetting() -> None:  # a function with a name: Django wants to log one, and partial() has none
        work()

    return forgetting


def forget(tenant_id: uuid.UUID, tombstone_id: uuid.UUID) -> None:
    """Delete the bytes, unless another document has the same, and the tombstone when nothing is left to do."""
    with tenant_scope(tenant_id):
        tombstones = Tombstone.objects.for_tenant(tenant_id).filter(pk=tombstone_id)
        stored = tombstones.values_list("stored", flat=True).first()
        if stored is None:
            return
        is_named = Document.objects.for_tenant(tenant_id).filter(stored=stored).exists()
    if stored and not is_named:
        storage.discard(stored)
        if default_storage.exists(stored):
            raise OSError(f"{stored} is still there after it was deleted.")
    with tenant_scope(tenant_id):
        tombstones.update(stored="")
        tombstones.filter(quoted=False).delete()


def forget_all() -> None:
    """What is left of earlier deletions, of all tenants, some of each: the beat comes again soon."""
    for (tenant_id,) in lookups.call("tenants_with_tombstones"):
        with tenant_scope(tenant_id):
            # Those of bytes that a row is about to name lie in the future.
            due = Tombstone.objects.for_tenant(tenant_id).filter(created__lte=timezone.now())
            due = due.exclude(stored="", quoted=True)  # nothing is left to do here
            # Any of them: two workers at once take others each, and what cannot be deleted holds up nothing.
            found = list(due.order_by("?").values_list("pk", flat=True)[:AT_ONCE])
        for tombstone_id in found:
            try:
                forget(tenant_id, tombstone_id)
            except OSError as error:
                log.warning("tombstone.kept", tenant=str(tenant_id), tombstone=str(tombstone_id), exc_info=error)
