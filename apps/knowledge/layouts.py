"""Moves embedding indexes from one layout to another: builds HNSW indexes for those that grew, drops those of others.

Only the owner of the tables can do that, so it happens in a process of its own (`python -m config.run layouts`), which
listens to nobody. Searches go on meanwhile: see layout_models.Layout. What a process left behind that was killed is
found by the next round in PostgreSQL's catalogue.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from asgiref.sync import async_to_sync
from django.conf import settings
from django.db import DatabaseError, connections
from django.db.backends.utils import CursorWrapper
from django.db.models import Q, QuerySet
from django.utils import timezone
from psycopg import sql

from apps.knowledge import recall
from apps.knowledge.models import EFS, Layout

log = structlog.get_logger(__name__)

OWNER = "owner"
PREFIX = "embedding_near_"
# For each of those that are at the table's rows when a build begins or ends; and for all of it.
LONGEST_LOCK, LONGEST_BUILD = "10min", "6h"
# A build that failed is not tried again for this long, and for so many times as long as it took: while it runs, all
# others wait, and VACUUM leaves what it might still see.
AGAIN_AFTER, TIMES_AS_LONG = datetime.timedelta(hours=1), 8

_ALONE = "SELECT pg_try_advisory_lock(1431519563, hashtext('layouts'))"
_NOT_ALONE = "SELECT pg_advisory_unlock(1431519563, hashtext('layouts'))"
# Of each embedding index, read from the index of live vectors alone. Rows that stay as they are come not back.
_COUNT = """
    INSERT INTO knowledge_layout AS l (
        id, tenant_id, index_id, choice, state, since, reason, passages, by_collection, exact_up_to, ef_search,
        measured_with
    )
    SELECT gen_random_uuid(), i.tenant_id, i.id, 'automatic', 'exact', now(), '', coalesce(counted.passages, 0),
        coalesce(counted.by_collection, '{}'), %s, %s, 0
    FROM knowledge_embeddingindex i LEFT JOIN (
        SELECT index_id, sum(passages) AS passages, jsonb_object_agg(collection_id, passages) AS by_collection
        FROM (
            SELECT index_id, collection_id, count(*) AS passages FROM knowledge_embedding WHERE live GROUP BY 1, 2
        ) collections
        GROUP BY 1
    ) counted ON counted.index_id = i.id
    ON CONFLICT (index_id) DO UPDATE
        SET passages = excluded.passages, by_collection = excluded.by_collection, exact_up_to = excluded.exact_up_to
        WHERE (l.passages, l.by_collection, l.exact_up_to)
            IS DISTINCT FROM (excluded.passages, excluded.by_collection, excluded.exact_up_to)
    RETURNING index_id
"""
# A build or a deletion that was cut short leaves an index that is not valid. What REINDEX CONCURRENTLY makes beside one
# has the same name with an ending, and is left to whoever reindexes.
_BUILT = """
    SELECT c.relname, i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
    WHERE i.indrelid = 'knowledge_embedding'::regclass AND c.relname ~ %s
"""
# Twice the work of an ef_construction of 200 (pgvector's own is 64), with which less of what is off-topic is found: of
# 34,025 passages, and at ef 200, 0.971 in place of 0.978. With m 20 and 24 it finds as much at a tenth less of ef,
# and takes longer for it; with 12, or with twice the work again, it gains nothing that is worth the time.
_BUILD = """
    CREATE INDEX CONCURRENTLY {name} ON knowledge_embedding
    USING hnsw ((vector::halfvec({dimension})) halfvec_cosine_ops)
    WITH (m = 16, ef_construction = 400)
    WHERE tenant_id = {tenant} AND index_id = {index} AND live
"""
# The widest ef until it is known which is enough.
_UNMEASURED = {"ef_search": EFS[-1], "recall_at_10": None, "measured_with": 0}
_DROP = "DROP INDEX CONCURRENTLY IF EXISTS {name}"


def move_all() -> list[Layout] | None:
    """Count the vectors of every embedding index, and give each the layout that it should have; those that changed
    theirs. None where another process is at it."""
    with _alone() as alone:
        if not alone:
            return None
        with connections[OWNER].cursor() as cursor:
            _bind(cursor)
            cursor.execute(_COUNT, [settings.PARLEY_INDEX_ABOVE // 2, EFS[0]])
            changing = {row[0] for row in cursor.fetchall()}
            built = _tidy(cursor)
            return list(_moved(cursor, built, changing))


@contextmanager
def _alone() -> Iterator[bool]:
    """Hold the lock of this deed. PostgreSQL frees it when the session ends, however that ends."""
    connection = connections[OWNER]
    with connection.cursor() as cursor:
        cursor.execute(_ALONE)
        alone = cursor.fetchone()[0]
    try:
        yield alone
    finally:
        if alone and connection.is_usable():
            with connection.cursor() as cursor:
                cursor.execute(_NOT_ALONE)


def _bind(cursor: CursorWrapper) -> None:
    """What the session may take: time, memory, and one core. Workers beside it would share memory, of which containers
    have little."""
    for name, value in (
        ("lock_timeout", LONGEST_LOCK),
        ("statement_timeout", LONGEST_BUILD),
        ("maintenance_work_mem", f"{settings.PARLEY_INDEX_MEMORY_MB}MB"),
        ("max_parallel_maintenance_workers", "0"),
    ):
        cursor.execute("SELECT set_config(%s, %s, false)", [name, value])


def name_of(index_id: uuid.UUID) -> str:
    """What the HNSW index of an embedding index is called."""
    return f"{PREFIX}{index_id.hex}"


def _rows() -> QuerySet[Layout]:
    rows: QuerySet[Layout] = Layout.objects.using(OWNER)
    return rows.select_related("index", "tenant")


def _tidy(cursor: CursorWrapper) -> set[uuid.UUID]:
    """Drop what is not whole or belongs to nothing any more, and let rows say what there is; whose are left."""
    cursor.execute(_BUILT, [f"^{PREFIX}[0-9a-f]{{32}}$"])
    found = {uuid.UUID(name.removeprefix(PREFIX)): valid for name, valid in cursor.fetchall()}
    known = set(_rows().filter(index__in=found).values_list("index", flat=True))
    for index_id, valid in found.items():
        if not valid or index_id not in known:
            log.info("layout.leftover_dropped", index=str(index_id))
            _drop(cursor, index_id)
    built = {index_id for index_id, valid in found.items() if valid and index_id in known}
    lacking = _rows().exclude(state=Layout.State.EXACT).exclude(index__in=built)
    lacking.update(state=Layout.State.EXACT, since=timezone.now())
    # Its process ended between the build and the word of it.
    _rows().filter(state=Layout.State.BUILDING, index__in=built).update(
        state=Layout.State.INDEXED, since=timezone.now(), **_UNMEASURED
    )
    return built


def _moved(cursor: CursorWrapper, built: set[uuid.UUID], changing: set[uuid.UUID]) -> Iterator[Layout]:
    """Drops come first, then builds from the smallest on, so that nobody waits for what takes longer."""
    coming = []
    large = Q(passages__gt=settings.PARLEY_INDEX_ABOVE)
    with_one = 0
    for layout in _rows().filter(large | Q(index__in=built) | ~Q(choice=Layout.Choice.AUTOMATIC) | ~Q(reason="")):
        now = timezone.now()
        verdict = layout.verdict(quiet=layout.index_id not in changing, rank=with_one, now=now)
        with_one += verdict.indexed
        since = (layout.wanted_since or now) if verdict.waits else None
        if (layout.reason, layout.wanted_since) != (verdict.reason, since):
            _rows().filter(pk=layout.pk).update(reason=verdict.reason, wanted_since=since)
        if not verdict.indexed and layout.index_id in built:
            _go(layout, Layout.State.EXACT)
            _drop(cursor, layout.index_id)
            yield layout
        elif verdict.indexed and layout.state != Layout.State.INDEXED:
            coming.append(layout)
    for layout in reversed(coming):
        if layout.index_id in built or _build(cursor, layout):
            _go(layout, Layout.State.INDEXED, **_UNMEASURED)
            _measure(layout)
            yield layout


def _measure(layout: Layout) -> None:
    try:
        async_to_sync(recall.guard)(layout.tenant, layout, [])
    except DatabaseError as error:  # it is done at night
        log.warning("layout.not_measured", index=str(layout.index_id), error=type(error).__name__)


def _go(layout: Layout, state: Layout.State, **fields: object) -> None:
    fields |= {"state": state, "since": timezone.now()}
    for name, value in fields.items():
        setattr(layout, name, value)
    _rows().filter(pk=layout.pk).update(**fields)
    log.info("layout.moved", tenant=str(layout.tenant_id), index=str(layout.index_id), state=str(state))


def _build(cursor: CursorWrapper, layout: Layout) -> bool:
    """Whether it succeeded. Writers and readers go on. What fails is tried again later; the next round clears away
    what is left of it, since whoever is in the way of the one is in that of the other."""
    _go(layout, Layout.State.BUILDING)
    statement = sql.SQL(_BUILD).format(
        name=sql.Identifier(name_of(layout.index_id)),
        dimension=sql.Literal(layout.index.dimension),
        tenant=sql.Literal(str(layout.tenant_id)),
        index=sql.Literal(str(layout.index_id)),
    )
    try:
        cursor.execute(statement.as_string())
    except DatabaseError as error:
        log.warning("layout.build_failed", index=str(layout.index_id), error=type(error).__name__)
        if not connections[OWNER].is_usable():
            raise
        now = timezone.now()
        again = now + max(AGAIN_AFTER, TIMES_AS_LONG * (now - layout.since))
        fault = type(error.__cause__ or error).__name__
        reason = f"Building its HNSW index failed ({fault}); it is tried again on {again:%d %B at %H:%M} UTC."
        _go(layout, Layout.State.EXACT, reason=reason, not_before=again)
        return False
    return True


def _drop(cursor: CursorWrapper, index_id: uuid.UUID) -> None:
    cursor.execute(sql.SQL(_DROP).format(name=sql.Identifier(name_of(index_id))).as_string())
