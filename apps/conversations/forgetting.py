"""Answers stop quoting a document that was deleted: their sources then say that it was, and nothing of what it said.

What the answers say themselves stays: it is theirs. Journals, which hold the sources as they were sent, go where their
turn has ended; the stored answer takes over, as it does when a journal's time is over.
"""

from __future__ import annotations

import datetime
import uuid
from typing import Any

import redis
import structlog
from django.conf import settings
from django.db import connection
from django.db.models import Min

from apps.conversations.journal import key_of
from apps.conversations.models import Turn
from apps.knowledge.models import Tombstone
from apps.tenants import lookups
from apps.tenants.scoping import tenant_scope

log = structlog.get_logger(__name__)

DELETED = "Deleted document"
AT_ONCE = 100  # tombstones of a tenant
SECONDS = 2.0  # that Redis may take for an answer
# By how much clocks may differ, and a deletion may take: a turn that began later cannot have found the document.
SLACK = datetime.timedelta(seconds=10)

_TURNS = """
    SELECT id FROM conversations_turn
    WHERE tenant_id = %(tenant)s AND NOT state = ANY(%(open)s)
        AND jsonb_path_query_array(sources, '$[*].document') ?| %(documents)s
"""
# Each source of these documents keeps its number and its ids.
_UNQUOTE = """
    UPDATE {table} SET {column} = (
        SELECT jsonb_agg(
            CASE WHEN one->>'document' = ANY(%(documents)s)
            THEN one || jsonb_build_object('title', %(title)s::text, 'heading', '[]'::jsonb, 'text', '')
            ELSE one END ORDER BY place)
        FROM jsonb_array_elements({column}) WITH ORDINALITY AS each (one, place)
    )
    WHERE tenant_id = %(tenant)s AND jsonb_path_query_array({column}, '$[*].document') ?| %(documents)s
"""
_ROWS = (("conversations_message", "citations"), ("conversations_turn", "sources"))


def forget_quotations() -> None:
    """Of all deleted documents that answers may still quote."""
    for (tenant_id,) in lookups.call("tenants_with_tombstones"):
        while _forget(tenant_id):
            pass


def _forget(tenant_id: uuid.UUID) -> bool:
    """Whether there may be more to do right now."""
    with tenant_scope(tenant_id):
        quoted = Tombstone.objects.for_tenant(tenant_id).filter(quoted=True).order_by("created")
        found = dict(quoted.values_list("pk", "document_id")[:AT_ONCE])
        if not found:
            return False
        # An open one may be about to quote what it was given: look again when it has ended.
        still_open = Turn.objects.for_tenant(tenant_id).filter(state__in=Turn.OPEN)
        oldest = still_open.aggregate(oldest=Min("created"))["oldest"]
        values = {
            "tenant": tenant_id,
            "documents": [str(one) for one in found.values()],
            "title": DELETED,
            "open": [str(state) for state in Turn.OPEN],
        }
        turns = [pk for (pk,) in _rows(_TURNS, values)]
    _drop_journals(tenant_id, turns)
    with tenant_scope(tenant_id):
        for table, column in _ROWS:
            _rows(_UNQUOTE.format(table=table, column=column), values)
        done = Tombstone.objects.for_tenant(tenant_id).filter(pk__in=found)
        if oldest:
            done = done.filter(created__lt=oldest - SLACK)
        count = done.update(quoted=False)
    log.info("quotations.forgotten", tenant=str(tenant_id), documents=count, turns=len(turns))
    return count == AT_ONCE


def _rows(statement: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return list(cursor.fetchall()) if cursor.description else []


def _drop_journals(tenant_id: uuid.UUID, turns: list[uuid.UUID]) -> None:
    if not turns:
        return
    with redis.Redis.from_url(settings.REDIS_URL, socket_timeout=SECONDS, socket_connect_timeout=SECONDS) as client:
        client.unlink(*(key_of(tenant_id, turn) for turn in turns))
