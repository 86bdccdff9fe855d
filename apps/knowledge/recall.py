"""Guards the recall of HNSW indexes: compares what searches find by them with what there is.

Real questions alone would leave new tenants unguarded, and their vectors are not kept for long, so vectors of passages
are asked as well. And so are random ones: to a question about nothing that a tenant has, all its passages are about
equally far, and the graph leads astray. That is as hard with any direction. Where too little is found, searches keep
more neighbours in sight, and where that does not help, they compare every vector again.
"""

from __future__ import annotations

import datetime
import random
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import structlog
from django.db import connection, transaction
from django.utils import timezone

from apps.knowledge.models import EFS, Collection, Layout
from apps.knowledge.search import CANDIDATES, scope_of
from apps.tenants.models import Tenant
from apps.tenants.scoping import unit

log = structlog.get_logger(__name__)

LEAST = 0.98
SPARE = 0.005  # what is chosen finds so much more: other questions find a little less, or a little more, the next night
NEAREST = 10
QUESTIONS, PASSAGES, STRANGERS = 50, 50, 200  # of each layout
EMBEDDING_SECONDS, SECONDS = 30.0, 30.0  # for the vectors of questions; for asking all once, by one value of ef
ONE_SECONDS = 10  # for one that every vector is compared with, of which none may be in memory yet
NOT_AGAIN_FOR = datetime.timedelta(days=30)  # is an HNSW index built that found too little

# The function reads the layout as any search has it done. The places of equal distances are nobody's.
_ASK = """
    WITH exact AS MATERIALIZED (
        SELECT e.vector <=> %(vector)s::halfvec AS distance FROM knowledge_embedding e
        WHERE e.tenant_id = %(tenant)s AND e.index_id = %(index)s AND e.collection_id = ANY(%(collections)s) AND e.live
        ORDER BY distance LIMIT %(nearest)s
    ), found AS MATERIALIZED (
        SELECT distance FROM near_passages(%(index)s, %(collections)s, %(vector)s::halfvec, NULL, %(depth)s)
        ORDER BY distance LIMIT %(nearest)s
    )
    SELECT (SELECT count(*) FROM exact),
        (SELECT count(*) FROM found WHERE distance <= (SELECT max(distance) FROM exact) + 1e-6)
"""
# Ids are random, so the next one after a random one is anybody's.
_SAMPLE = """
    SELECT vector FROM unnest(%s::uuid[]) AS place CROSS JOIN LATERAL (
        SELECT e.vector::text AS vector FROM knowledge_embedding e
        WHERE e.tenant_id = %s AND e.index_id = %s AND e.live AND e.chunk_id >= place ORDER BY e.chunk_id LIMIT 1
    ) next
"""


class Question(NamedTuple):
    """collections: those that were searched for it, all of one index, with `index__endpoint`."""

    text: str
    collections: list[Collection]


class _Sample(NamedTuple):
    kind: str  # "questions", "passages" or "strangers"
    vector: str
    collections: list[uuid.UUID]


@dataclass(frozen=True, slots=True)
class Measured:
    """recall: of the nearest ten, the share that was found with this ef, on-topic or off-topic, whichever is less; None
    where nothing could be asked. asked: how many of each kind."""

    layout: Layout
    ef: int
    recall: float | None
    asked: Counter[str]

    @property
    def is_enough(self) -> bool:
        return self.recall is None or self.recall >= LEAST


async def measure(tenant: Tenant, layout: Layout, questions: Sequence[Question]) -> Measured:
    """How much searches by an HNSW index find; nothing changes."""
    samples = await _samples(tenant, layout, questions)
    return await _measured(tenant, layout, samples, layout.ef_search)


async def guard(tenant: Tenant, layout: Layout, questions: Sequence[Question]) -> Measured:
    """The same, written down with its ef, as long as that is enough, or else the first larger one with something to
    spare; for a new index, the first of all. Where none is enough, it is given up, unless an operator chose it."""
    samples = await _samples(tenant, layout, questions)
    is_new = layout.recall_at_10 is None
    for ef in [ef for ef in EFS if is_new or ef >= layout.ef_search]:
        measured = await _measured(tenant, layout, samples, ef)
        stays = ef == layout.ef_search and not is_new
        if measured.recall is None or measured.recall >= (LEAST if stays else LEAST + SPARE):
            break
    await unit(_conclude, tenant, measured)
    return measured


async def _samples(tenant: Tenant, layout: Layout, questions: Sequence[Question]) -> list[_Sample]:
    samples = []
    over = time.monotonic() + EMBEDDING_SECONDS
    for question in questions[:QUESTIONS]:
        ids = [collection.pk for collection in question.collections]
        if sum(layout.by_collection.get(str(one), 0) for one in ids) <= layout.exact_up_to:
            continue  # each of these is compared in any case
        scope = await scope_of(question.collections, question.text)
        if scope.vector is None or time.monotonic() > over:
            break  # the endpoint is away, or slow
        samples.append(_Sample("questions", scope.vector.to_text(), ids))
    everywhere = [uuid.UUID(one) for one in layout.by_collection]
    samples += [_Sample("passages", one, everywhere) for one in await unit(_of_passages, tenant, layout)]
    strangers = [[random.gauss(0, 1) for _ in range(layout.index.dimension)] for _ in range(STRANGERS)]
    samples += [_Sample("strangers", str(one), everywhere) for one in strangers]
    # Whatever time allows is then of all kinds.
    return random.sample(samples, len(samples))


def _of_passages(tenant: Tenant, layout: Layout) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(_SAMPLE, [[uuid.uuid4() for _ in range(PASSAGES)], tenant.pk, layout.index_id])
        return [vector for (vector,) in cursor.fetchall()]


async def _measured(tenant: Tenant, layout: Layout, samples: Sequence[_Sample], ef: int) -> Measured:
    on_topic: list[float] = []
    off_topic: list[float] = []
    asked = Counter[str]()
    over = time.monotonic() + SECONDS
    for sample in samples:
        there, found = await unit(_found, tenant, layout, sample, ef)
        if there:
            (off_topic if sample.kind == "strangers" else on_topic).append(min(found, there) / there)
            asked[sample.kind] += 1
        if time.monotonic() > over:
            break
    recall = min((sum(shares) / len(shares) for shares in (on_topic, off_topic) if shares), default=None)
    return Measured(layout, ef, recall, asked)


def _found(tenant: Tenant, layout: Layout, sample: _Sample, ef: int) -> tuple[int, int]:
    """How many nearest there are, and how many of them are found. Searches that others make meanwhile see nothing of
    this ef, and who writes to the layout does not wait for long."""
    values: dict[str, Any] = {"vector": sample.vector, "collections": sample.collections, "nearest": NEAREST}
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT set_config('statement_timeout', %s, true)", [f"{ONE_SECONDS}s"])
        _write(tenant, layout, ef_search=ef)
        cursor.execute(_ASK, values | {"depth": CANDIDATES, "tenant": tenant.pk, "index": layout.index_id})
        there, found = cursor.fetchone()
        transaction.set_rollback(True)
    return there, found


def _write(tenant: Tenant, layout: Layout, /, **fields: object) -> None:
    """Unless it has no HNSW index any more."""
    rows = Layout.objects.for_tenant(tenant).filter(pk=layout.pk, state=Layout.State.INDEXED)
    rows.update(**fields)


def _conclude(tenant: Tenant, measured: Measured) -> None:
    if measured.recall is None:
        return
    layout, now = measured.layout, timezone.now()
    fields: dict[str, object] = {
        "ef_search": measured.ef,
        "recall_at_10": measured.recall,
        "measured_with": measured.asked.total(),
        "measured_at": now,
    }
    if not measured.is_enough and layout.choice != Layout.Choice.INDEXED:
        fields |= {
            "state": Layout.State.EXACT,
            "since": now,
            "not_before": now + NOT_AGAIN_FOR,
            "reason": f"Its HNSW index found {measured.recall:.3f} of the nearest, even with ef {measured.ef}.",
        }
    _write(tenant, layout, **fields)
    log.info(
        "recall.measured",
        tenant=tenant.slug,
        index=str(layout.index_id),
        recall=round(measured.recall, 4),
        ef=measured.ef,
        enough=measured.is_enough,
    )
