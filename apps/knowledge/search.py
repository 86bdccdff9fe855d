"""Finds the passages that answer a question: by meaning and by words, within a tenant's collections."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import structlog

from apps.edge.metrics import looked_up
from apps.knowledge import metrics, remembered, reranking, vectors
from apps.knowledge.candidates import Candidate, Scope, candidates
from apps.knowledge.filters import EVERYTHING, Filters
from apps.knowledge.models import Collection
from apps.knowledge.ranking import RECIPE, Hit, Recipe, fused, hits
from apps.tenants.models import Tenant
from apps.tenants.scoping import unit
from chatbot.errors import ModelError
from chatbot.events import Source
from chatbot.neighbours import Placed, joined

log = structlog.get_logger(__name__)

CANDIDATES = 40  # of each kind; more than a caller asks for, so that fusion has something to weigh
DEEPER = 4  # how many times more are fetched when copies of the same text crowd out the rest
# Embedding models read about 512 tokens, and some servers refuse more rather than cut it off.
EMBEDDED_CHARS = 1_500


@dataclass(frozen=True, slots=True)
class Found:
    """hits: what was asked for, best first. stages: by name, each ranking on the way to them.

    timings: milliseconds by part; rerank_ms is None where no model put them in order. degraded: which parts did without
    what they need, each with the code of the error, as "vector: model_unavailable".
    """

    hits: list[Hit]
    stages: dict[str, list[Candidate]]
    timings: dict[str, float | None]
    degraded: list[str]

    @property
    def relevance(self) -> float | None:
        """How like the question the likest hit is, by the cosine of their vectors; None where there are none."""
        return max((hit.similarity for hit in self.hits if hit.similarity is not None), default=None)


async def search(tenant: Tenant, collections: Sequence[Collection], text: str, *, limit: int = 6) -> list[Source]:
    """What find() finds, numbered from 1."""
    found = await find(tenant, collections, text, limit=limit)
    return [hit.source(n) for n, hit in enumerate(found.hits, start=1)]


@dataclass(frozen=True, slots=True)
class Passages:
    """What a model reads, and Found.degraded."""

    sources: list[Source]
    degraded: list[str] = field(default_factory=list)


async def passages(
    tenant: Tenant, collections: Sequence[Collection], text: str, *, limit: int, least: float | None = None
) -> Passages:
    """What find() finds, numbered from 1, with neighbours within a document made one.

    Nothing where Found.relevance is below `least`. Without vectors nobody knows, and what was found is given.
    """
    found = await find(tenant, collections, text, limit=limit)
    if least is not None and found.relevance is not None and found.relevance < least:
        return Passages([], found.degraded)
    placed = [Placed(hit.source(n), hit.candidate.position) for n, hit in enumerate(found.hits, start=1)]
    return Passages(joined(placed), found.degraded)


async def find(
    tenant: Tenant,
    collections: Sequence[Collection],
    text: str,
    *,
    limit: int = 6,
    filters: Filters = EVERYTHING,
    recipe: Recipe = RECIPE,
) -> Found:
    """The `limit` best passages; fewer only where there are no more. A text is given once.

    Where an embedding endpoint fails, its collections are searched by words alone, and where a reranking one does, its
    say is left out; raises no ModelError. Of a long text only the first WORDED_CHARS are read.
    One database unit, with one statement for each embedding index, if the collections come with `index__endpoint`
    (find_collection() brings it).
    """
    if not collections:
        return Found([], {}, {"embedding_ms": 0.0, "database_ms": 0.0, "rerank_ms": None}, [])
    text = text.replace("\0", " ")
    clock = Clock()
    scopes = await _scopes(tenant, collections, text)
    clock.note("embedding_ms")
    depth = max(CANDIDATES, 2 * limit)
    while True:
        started = time.perf_counter()
        listed = await candidates(tenant, scopes, text, depth, filters)
        metrics.SEARCH_SECONDS.labels("database").observe(time.perf_counter() - started)
        found = fused(listed.by_scope, recipe)
        if all(len(of_scope) < depth for of_scope in listed.by_scope) or len(found.order) >= limit:
            break
        depth *= DEEPER
    clock.note("database_ms")
    degraded = [f"vector: {scope.failure}" for scope in scopes if scope.failure]
    degraded += ["trigram: too_many_passages"] if listed.unspelled else []
    degraded += ["cache: not_answering"] if remembered.is_resting() else []
    given = await reranking.scores(tenant, text, found.order) if recipe.rerank else ""
    clock.note("rerank_ms")
    if isinstance(given, str):
        clock.timings["rerank_ms"] = None
        degraded += [f"rerank: {given}"] if given else []
        given = []
    stages = dict(found.stages)
    if given:
        undiversified = replace(recipe, diversity=1)
        stages["reranked"] = [hit.candidate for hit in hits(found.order, limit, undiversified, given)]
    return Found(hits(found.order, limit, recipe, given), stages, clock.timings, degraded)


class Clock:
    """How long the parts of a search took, each since the one before it."""

    def __init__(self) -> None:
        self.timings: dict[str, float | None] = {}
        self._last = time.perf_counter()

    def note(self, part: str) -> None:
        now = time.perf_counter()
        self.timings[part] = round((now - self._last) * 1000, 1)
        self._last = now


async def _scopes(tenant: Tenant, collections: Sequence[Collection], text: str) -> list[Scope]:
    index_field = Collection._meta.get_field("index")
    if not all(
        index_field.is_cached(c) and c.index._meta.get_field("endpoint").is_cached(c.index) for c in collections
    ):
        collections = await unit(_with_indexes, tenant, collections)
    groups: dict[uuid.UUID, list[Collection]] = {}
    for collection in collections:
        groups.setdefault(collection.index_id, []).append(collection)
    return [await scope_of(group, text) for group in groups.values()]


def _with_indexes(tenant: Tenant, collections: Sequence[Collection]) -> list[Collection]:
    rows = Collection.objects.for_tenant(tenant).select_related("index__endpoint")
    return list(rows.filter(pk__in=[collection.pk for collection in collections]))


async def scope_of(collections: Sequence[Collection], text: str) -> Scope:
    """Of collections that share an index and come with `index__endpoint`: what a search of them asks the database."""
    index, ids = collections[0].index, [collection.pk for collection in collections]
    read = text[:EMBEDDED_CHARS]
    known = await remembered.vector_of(index, read)
    looked_up("question_vectors", hit=known is not None)
    if known:
        return Scope(index, ids, known)
    started = time.perf_counter()
    try:
        (made,) = await vectors.embed(index, [read], input_type="query")
        vector = vectors.halved(made)
    except ModelError as error:
        log.warning("search.degraded", index=str(index.pk), code=error.code)
        metrics.SEARCH_DEGRADED.inc()
        return Scope(index, ids, None, failure=error.code)
    metrics.SEARCH_SECONDS.labels("embedding").observe(time.perf_counter() - started)
    await remembered.keep(index, read, vector)
    return Scope(index, ids, vector)
