"""Removes conversations with all that hangs on them, a batch at a time: old ones each night where the tenant says for
how long they are kept, and every one of a tenant that is erased.

The ledger names turns by their ids alone, and stays. Journals end by themselves, long before a day is over.
"""

from __future__ import annotations

import datetime
import time
import uuid
from collections import Counter, deque
from typing import Any

import structlog
from django.db import DatabaseError, connection
from django.utils import timezone

from apps.conversations.replicas import DEAD_SECONDS
from apps.tenants import lookups
from apps.tenants.models import Tenant
from apps.tenants.scoping import patient_scope, tenant_scope

log = structlog.get_logger(__name__)

AT_ONCE = 200  # conversations, or turns without one: mostly some thousand rows, some ten milliseconds
# Of one task: a message that is not acknowledged for longer is delivered to another worker, too.
SECONDS = 300.0

# One in which something is asked at this moment is locked, and left alone.
_CONVERSATIONS = """
    SELECT c.id FROM conversations_conversation c
    WHERE c.tenant_id = %(tenant)s AND c.active_at < %(before)s AND NOT EXISTS (
        SELECT FROM conversations_turn t
        WHERE t.tenant_id = %(tenant)s AND t.conversation_id = c.id AND t.state IN ('queued', 'running')
    )
    ORDER BY c.active_at LIMIT %(most)s FOR UPDATE OF c SKIP LOCKED
"""
_LONE_TURNS = """
    SELECT id FROM conversations_turn
    WHERE tenant_id = %(tenant)s AND conversation_id IS NULL AND created < %(before)s
        AND state NOT IN ('queued', 'running')
    ORDER BY created LIMIT %(most)s FOR UPDATE SKIP LOCKED
"""
_MESSAGES = "SELECT id FROM conversations_message WHERE tenant_id = %(tenant)s AND {whose} = ANY(%(chosen)s)"
# What hangs on each kind, by table. Keys are looked at when the transaction ends, so the order is for reading.
_OF_CONVERSATIONS = {
    "conversations_feedback": f"message_id IN ({_MESSAGES.format(whose='conversation_id')})",
    "conversations_attached": f"question_id IN ({_MESSAGES.format(whose='conversation_id')})",
    "conversations_attachment": "conversation_id = ANY(%(chosen)s)",
    "conversations_share": "conversation_id = ANY(%(chosen)s)",
    "conversations_message": "conversation_id = ANY(%(chosen)s)",
    "conversations_turn": "conversation_id = ANY(%(chosen)s)",
    "conversations_conversation": "id = ANY(%(chosen)s)",
}
_OF_LONE_TURNS = {
    "conversations_feedback": f"message_id IN ({_MESSAGES.format(whose='turn_id')})",
    "conversations_message": "turn_id = ANY(%(chosen)s)",
    "conversations_turn": "id = ANY(%(chosen)s)",
}
# Of processes that are gone. Whoever still takes one over has raised its epoch first, and is alive.
_END_ABANDONED = """
    UPDATE conversations_turn t
    SET state = 'failed', epoch = epoch + 1, partial = '', closed_at = now(),
        error_code = 'service_unavailable', error_message = 'The tenant is being erased.'
    WHERE tenant_id = %(tenant)s AND state IN ('queued', 'running') AND NOT EXISTS (
        SELECT FROM conversations_replica r
        WHERE r.id = t.replica AND r.beat > now() - make_interval(secs => %(dead)s)
    )
"""
_RUNNING = """
    SELECT DISTINCT r.name FROM conversations_turn t JOIN conversations_replica r ON r.id = t.replica
    WHERE t.tenant_id = %s AND t.state IN ('queued', 'running')
"""
KINDS = ((_CONVERSATIONS, _OF_CONVERSATIONS), (_LONE_TURNS, _OF_LONE_TURNS))


def remove_old(seconds: float = SECONDS) -> bool:
    """Remove what tenants keep no longer, each tenant a batch in turn; whether there was time for all of it."""
    until = time.monotonic() + seconds
    removed: Counter[uuid.UUID] = Counter()
    waiting = deque(tenant_id for (tenant_id,) in lookups.call("tenants_that_forget"))
    while waiting and time.monotonic() < until:
        tenant_id = waiting.popleft()
        try:
            batch = _remove_old(tenant_id)
        except DatabaseError as error:  # the others' turn comes all the same
            log.warning("conversations.not_removed", tenant=str(tenant_id), exc_info=error)
            continue
        removed[tenant_id] += batch
        if batch:
            waiting.append(tenant_id)
    for tenant_id, count in (+removed).items():
        log.info("conversations.removed", tenant=str(tenant_id), conversations=count)
    return not waiting


def _remove_old(tenant_id: uuid.UUID) -> int:
    with tenant_scope(tenant_id):
        days = Tenant.objects.filter(pk=tenant_id).values_list("conversation_days", flat=True).first()
    if days is None:  # somebody changed their mind
        return 0
    return remove_batch(tenant_id, timezone.now() - datetime.timedelta(days=days))


def end_abandoned(tenant_id: uuid.UUID) -> list[str]:
    """End the tenant's turns that no process runs; the names of processes that run others."""
    with tenant_scope(tenant_id), connection.cursor() as cursor:
        cursor.execute(_END_ABANDONED, {"tenant": tenant_id, "dead": DEAD_SECONDS})
        cursor.execute(_RUNNING, [tenant_id])
        return [name for (name,) in cursor.fetchall()]


def remove_batch(tenant_id: uuid.UUID, before: datetime.datetime) -> int:
    """Remove some conversations in which nothing was asked since, and turns without one; how many. None is open."""
    return sum(_remove(tenant_id, before, chosen, hanging) for chosen, hanging in KINDS)


def _remove(tenant_id: uuid.UUID, before: datetime.datetime, choosing: str, hanging: dict[str, str]) -> int:
    values: dict[str, Any] = {"tenant": tenant_id, "before": before, "most": AT_ONCE}
    # A single conversation may have grown for years.
    with patient_scope(tenant_id), connection.cursor() as cursor:
        cursor.execute(choosing, values)
        chosen = [pk for (pk,) in cursor.fetchall()]
        for table, those in hanging.items() if chosen else ():
            statement = f"DELETE FROM {table} WHERE tenant_id = %(tenant)s AND {those}"  # noqa: S608 - words of ours
            cursor.execute(statement, {**values, "chosen": chosen})
    return len(chosen)
