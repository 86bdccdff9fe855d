"""Erases a tenant: rows, vectors, files and what Redis holds; looks everywhere again, and signs what is gone.

Its Erasure is written first and stays. From then on the tenant is not resumed, and whoever is cut short goes on by
beginning again: each step removes what is there, in transactions of its own. The tenant's row goes last of all rows.
Everything that names it refers to it, so PostgreSQL refuses whatever somebody still writes after that.
"""

from __future__ import annotations

import datetime
import hashlib
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.core.files.storage import default_storage
from django.db import connection, transaction
from django.db.models import Count, Q, Sum
from django.db.models.functions import TruncMonth
from django.utils import timezone
from psycopg import sql

from apps.conversations import removing
from apps.inference import gateway
from apps.inference.models import Endpoint
from apps.knowledge import lease
from apps.ops import manifests
from apps.ops.belongings import KEPT, directories_of, files_of, owned_models, removable, rows_of
from apps.ops.shared_keys import count_keys, remove_keys
from apps.tenants import audit, lookups
from apps.tenants.audit import Actor
from apps.tenants.models import Erasure, Membership, Tenant
from apps.tenants.scoping import patient_scope, tenant_scope
from apps.usage.models import UsageRecord

PATIENCE = 60.0  # seconds for answers under way: their readers' credentials ended with the suspension
LOOK_SECONDS = 0.5
AT_ONCE = 2_000  # rows, of which each may refer to others in many indexes
ROUNDS = 3  # of looking for what somebody wrote meanwhile

_ALONE = "SELECT pg_try_advisory_xact_lock(1431519565, hashtext(%s))"

Tell = Callable[[str], object]


class ErasureError(Exception):
    """One sentence for the person at the terminal: why the tenant is not erased, or not yet."""


def begin(tenant: Tenant, actor: Actor) -> Erasure:
    """From now on it is being erased. Raises ErasureError for a tenant that is active."""
    with tenant_scope(tenant):
        row = Tenant.objects.select_for_update().filter(pk=tenant.pk).first()
        if row is None or row.is_active:
            raise ErasureError(f"{tenant.slug} is active. Suspend it first: manage.py suspend_tenant {tenant.slug}")
        erasure, is_new = Erasure.objects.get_or_create(pk=tenant.pk, defaults={"slug": tenant.slug})
        if is_new:
            audit.record(None, "tenant.erasure_began", actor, tenant, slug=tenant.slug)
    return erasure


def erase(erasure: Erasure, actor: Actor, tell: Tell) -> None:
    """Bring an erasure to its end, however far it came; one at its end begins anew if anything is back. Raises
    ErasureError where something is in its way."""
    with _alone(erasure.pk):
        erasure.refresh_from_db()
        if erasure.finished:
            if not traces_of(erasure.pk):
                return
            erasure.finished, erasure.found = None, {}
            erasure.save(update_fields=["finished", "found"])
        _erase(erasure, actor, tell)


@contextmanager
def _alone(tenant_id: uuid.UUID) -> Iterator[None]:
    """Nobody else is at this erasure. In a transaction on a connection of its own: PgBouncer keeps no session."""
    held = connection.copy()
    held.set_autocommit(False)
    try:
        with held.cursor() as cursor:
            cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            cursor.execute(_ALONE, [str(tenant_id)])
            if not cursor.fetchone()[0]:
                raise ErasureError("Somebody is erasing it at this moment.")
        yield
    finally:
        if held.is_usable():
            held.rollback()
        held.close()


def _erase(erasure: Erasure, actor: Actor, tell: Tell) -> None:
    with tenant_scope(erasure.pk):
        is_there = Tenant.objects.filter(pk=erasure.pk).exists()
    if is_there:
        tell("Waiting for answers under way")
        _quieten(erasure.pk)
    if not erasure.found:
        erasure.found = _found(erasure.pk)
        erasure.save(update_fields=["found"])
    if is_there:
        tell("Removing rows")
        _remove_rows(erasure)
    for _ in range(ROUNDS):
        tell("Removing files and keys, and looking for more")
        _remove_files(erasure.pk)
        remove_keys(erasure.pk)
        if not (left := traces_of(erasure.pk)):
            return _finish(erasure, actor)
    raise ErasureError(f"Something is still there ({'; '.join(left)}): who writes it? Run this again.")


def traces_of(tenant_id: uuid.UUID) -> list[str]:
    """What there is of a tenant, in words; nothing once it is erased."""
    files, keys = sum(1 for _ in files_of(tenant_id)), count_keys(tenant_id)
    found = [f"{table}: {count} rows" for table, count in _rows_to_go(tenant_id).items()]
    return found + ([f"{files} files"] if files else []) + ([f"{keys} keys in Redis"] if keys else [])


def _rows_to_go(tenant_id: uuid.UUID) -> dict[str, int]:
    return {table: count for table, count in rows_of(tenant_id).items() if table != KEPT._meta.db_table}


# --- Before -----------------------------------------------------------------------------------------------------------


def _quieten(tenant_id: uuid.UUID) -> None:
    with _patiently(tenant_id):
        lease.end_all(tenant_id)
    until = time.monotonic() + PATIENCE
    while running := removing.end_abandoned(tenant_id):
        if time.monotonic() > until:
            raise ErasureError(f"Answers are still being written by {', '.join(running)}: run this again.")
        time.sleep(LOOK_SECONDS)


def _found(tenant_id: uuid.UUID) -> dict[str, Any]:
    names = list(files_of(tenant_id))
    with tenant_scope(tenant_id):
        members = Membership.objects.for_tenant(tenant_id).filter(user__is_superuser=False)
        users = list(members.values_list("user", flat=True))
    return {
        "tables": _rows_to_go(tenant_id),
        "files": {
            "count": len(names),
            "bytes": sum(map(default_storage.size, names)),
            "names_sha256": hashlib.sha256("\n".join(names).encode()).hexdigest(),
        },
        "keys": count_keys(tenant_id),
        "usage": _usage(tenant_id),
        "endpoints": [],
        "accounts": [str(user) for user in users if len(lookups.memberships_of(user)) == 1],
    }


def _usage(tenant_id: uuid.UUID) -> list[dict[str, Any]]:
    """What the ledger says of each month, for the accounts: nobody's names."""
    with _patiently(tenant_id):
        rows = UsageRecord.objects.for_tenant(tenant_id).order_by()
        sums = (
            rows.annotate(month=TruncMonth("created", tzinfo=datetime.UTC))
            .values("month", "kind", "model", "bill")
            .annotate(
                records=Count("pk"),
                prompt=Sum("prompt_tokens"),
                completion=Sum("completion_tokens"),
                read=Sum("pages"),
                spent=Sum("cost"),
            )
            .order_by("month", "kind", "model", "bill")
        )
        return [
            {
                "month": f"{row['month']:%Y-%m}",
                "kind": row["kind"],
                "model": row["model"],
                "bill": row["bill"],
                "records": row["records"],
                "prompt_tokens": row["prompt"],
                "completion_tokens": row["completion"],
                "pages": row["read"],
                "cost": str(row["spent"]),
            }
            for row in sums
        ]


# --- Removing ---------------------------------------------------------------------------------------------------------


def _remove_rows(erasure: Erasure) -> None:
    everything = timezone.now() + datetime.timedelta(days=1)
    while _remove_conversations(erasure.pk, everything):
        pass
    for model in removable():
        while _remove_some(erasure.pk, model._meta.db_table):
            pass
    _remove_rest(erasure)


@contextmanager
def _patiently(tenant_id: uuid.UUID) -> Iterator[None]:
    """A patient scope that waits for others' locks, too."""
    with patient_scope(tenant_id), connection.cursor() as cursor:
        cursor.execute("SET LOCAL lock_timeout = '1min'")
        yield


def _remove_conversations(tenant_id: uuid.UUID, before: datetime.datetime) -> int:
    with _patiently(tenant_id):
        return removing.remove_batch(tenant_id, before)


def _remove_some(tenant_id: uuid.UUID, table: str) -> int:
    statement = sql.SQL("DELETE FROM {0} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {0} WHERE tenant_id = %s LIMIT %s))")
    with _patiently(tenant_id), connection.cursor() as cursor:
        cursor.execute(statement.format(sql.Identifier(table)), [tenant_id, AT_ONCE])
        return int(cursor.rowcount)


def _remove_rest(erasure: Erasure) -> None:
    """What refers to each other, what came meanwhile, and the tenant itself, at once."""
    tables = [sql.Identifier(model._meta.db_table) for model in owned_models() if model is not KEPT]
    with _patiently(erasure.pk), connection.cursor() as cursor:
        # Whoever has written by now has committed, and whoever writes from now on fails.
        Tenant.objects.select_for_update().get(pk=erasure.pk)
        removed = 1
        while removed:  # a trigger may write one table when another is written
            removed = 0
            for table in tables:
                cursor.execute(sql.SQL("DELETE FROM {} WHERE tenant_id = %s").format(table), [erasure.pk])
                removed += cursor.rowcount
        erasure.found["endpoints"] = _let_go_of_endpoints(erasure.pk)
        erasure.save(update_fields=["found"])
        cursor.execute("DELETE FROM tenants_tenant WHERE id = %s", [erasure.pk])


def _let_go_of_endpoints(tenant_id: uuid.UUID) -> list[str]:
    """The names of those that were this tenant's alone. They are switched off: one without tenants serves all."""
    others = Count("tenants", filter=~Q(tenants=tenant_id))
    alone = Endpoint.objects.annotate(others=others).filter(tenants=tenant_id, others=0).values_list("pk", flat=True)
    endpoints = Endpoint.objects.filter(pk__in=list(alone))
    names = sorted(endpoints.values_list("name", flat=True))
    endpoints.update(enabled=False)
    Endpoint.tenants.through.objects.filter(tenant_id=tenant_id).delete()
    gateway.changed()
    return names


def _remove_files(tenant_id: uuid.UUID) -> None:
    for name in list(files_of(tenant_id)):
        default_storage.delete(name)
    for directory in directories_of(tenant_id):
        default_storage.delete(directory)


# --- Afterwards -------------------------------------------------------------------------------------------------------


def _finish(erasure: Erasure, actor: Actor) -> None:
    erasure.finished = timezone.now()
    found = erasure.found
    erasure.manifest = manifests.sign(
        {
            "what": "erasure of a tenant",
            "parley": settings.VERSION,
            "tenant": {"id": str(erasure.pk), "slug": erasure.slug},
            "began": erasure.began.isoformat(),
            "finished": erasure.finished.isoformat(),
            "gone": {name: found[name] for name in ("tables", "files", "keys")},
            "kept": {KEPT._meta.db_table: rows_of(erasure.pk).get(KEPT._meta.db_table, 0)},
            "usage": found["usage"],
            "switched_off_endpoints": found["endpoints"],
            "accounts_without_a_tenant": found["accounts"],
        }
    )
    with transaction.atomic():
        erasure.save(update_fields=["finished", "manifest"])
        audit.record(
            None,
            "tenant.erased",
            actor,
            tenant=erasure.pk,
            slug=erasure.slug,
            rows=sum(found["tables"].values()),
            files=found["files"]["count"],
            manifest_sha256=hashlib.sha256(erasure.manifest.encode()).hexdigest(),
        )
