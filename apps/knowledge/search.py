"""Finds the passages that answer a question: by meaning and by words, within a tenant's collections."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from apps.knowledge import metrics, vectors
from apps.knowledge.models import Collection, EmbeddingIndex
from apps.tenants import statements
from apps.tenants.models import Tenant
from apps.tenants.scoping import unit
from chatbot.errors import ModelError
from chatbot.events import Source
from chatbot.fusion import fuse

log = structlog.get_logger(__name__)

CANDIDATES = 40  # of each kind; more than a caller asks for, so that fusion has something to weigh
DEEPER = 4  # how many times more are fetched when copies of the same text crowd out the rest
# Embedding models read about 512 tokens, and some servers refuse more rather than cut it off.
EMBEDDED_CHARS = 1_500
# Each word is looked up by itself, and the rarest decide. Of the costliest question, all words that are common in the
# collections, so much takes about 0.1 s on 10,000 passages.
WORDED_CHARS = 16_000
DECIDING_WORDS = 32


@dataclass(frozen=True, slots=True)
class _Scope:
    """Collections that share an index, and the question's vector in it; None where it could not be made."""

    index: EmbeddingIndex
    collections: list[uuid.UUID]
    vector: list[float] | None


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A passage and its places, from 1, among those near the question and those that share words with it."""

    chunk: str
    document: str
    title: str
    heading: list[str]
    page: int | None
    text: str
    near: int | None
    worded: int | None


async def search(tenant: Tenant, collections: Sequence[Collection], text: str, *, limit: int = 6) -> list[Source]:
    """The `limit` best passages, numbered from 1; fewer only where there are no more. A text is given once.

    Where an embedding endpoint fails, its collections are searched by words alone; raises no ModelError. Of a long
    text only the first WORDED_CHARS are read.
    One database unit, with one statement for each embedding index, if the collections come with `index__endpoint`
    (find_collection() brings it).
    """
    if not collections:
        return []
    text = text.replace("\0", " ")
    scopes = await _scopes(tenant, collections, text)
    depth = max(CANDIDATES, 2 * limit)
    while True:
        started = time.perf_counter()
        found = await _candidates(tenant, scopes, text, depth)
        metrics.SEARCH_SECONDS.labels("database").observe(time.perf_counter() - started)
        sources = _ranked(found, limit)
        exhausted = all(len(rows) < depth for rows in found)
        if exhausted or len(sources) == limit:
            return sources
        depth *= DEEPER


async def _scopes(tenant: Tenant, collections: Sequence[Collection], text: str) -> list[_Scope]:
    index_field = Collection._meta.get_field("index")
    if not all(
        index_field.is_cached(c) and c.index._meta.get_field("endpoint").is_cached(c.index) for c in collections
    ):
        collections = await unit(_with_indexes, tenant, collections)
    groups: dict[uuid.UUID, list[Collection]] = {}
    for collection in collections:
        groups.setdefault(collection.index_id, []).append(collection)
    return [
        _Scope(group[0].index, [c.pk for c in group], await _vector(group[0].index, text)) for group in groups.values()
    ]


def _with_indexes(tenant: Tenant, collections: Sequence[Collection]) -> list[Collection]:
    rows = Collection.objects.for_tenant(tenant).select_related("index__endpoint")
    return list(rows.filter(pk__in=[collection.pk for collection in collections]))


async def _vector(index: EmbeddingIndex, text: str) -> list[float] | None:
    started = time.perf_counter()
    try:
        (vector,) = await vectors.embed(index, [text[:EMBEDDED_CHARS]], input_type="query")
    except ModelError as error:
        log.warning("search.degraded", index=str(index.pk), code=error.code)
        metrics.SEARCH_DEGRADED.inc()
        return None
    metrics.SEARCH_SECONDS.labels("embedding").observe(time.perf_counter() - started)
    return vector


# Both kinds of candidates (migrations/0007_search.py) and their passages come in one statement, so from one snapshot: a
# swap is seen wholly or not at all.
_STATEMENT = """
    SELECT c.id::text, c.document_id::text,
        (SELECT d.title FROM knowledge_document d WHERE d.tenant_id = %(tenant)s AND d.id = c.document_id),
        c.heading, c.page, c.text, ranked.near, ranked.worded
    FROM ranked_passages(
        %(index)s, %(collections)s, %(vector)s::halfvec, %(text)s, %(depth)s, %(deciding)s
    ) ranked JOIN knowledge_chunk c USING (id)
    WHERE c.tenant_id = %(tenant)s
"""


async def _candidates(tenant: Tenant, scopes: Sequence[_Scope], text: str, depth: int) -> list[list[_Candidate]]:
    """For each scope its candidates, at most 2 * depth, in no particular order."""
    found = []
    async with statements.transaction(tenant) as connection:
        for scope in scopes:
            cursor = await connection.execute(
                _STATEMENT,
                {
                    "tenant": tenant.pk,
                    "collections": scope.collections,
                    "index": scope.index.pk,
                    "vector": None if scope.vector is None else str(scope.vector),
                    "text": text[:WORDED_CHARS],
                    "deciding": DECIDING_WORDS,
                    "depth": depth,
                },
            )
            found.append([_Candidate(*row) for row in await cursor.fetchall()])
    return found


def _ranked(found: Sequence[Sequence[_Candidate]], limit: int) -> list[Source]:
    candidates = {candidate.chunk: candidate for rows in found for candidate in rows}
    rankings = []
    for rows in found:
        rankings.append([c.chunk for c in sorted(rows, key=lambda c: c.near or 0) if c.near])
        rankings.append([c.chunk for c in sorted(rows, key=lambda c: c.worded or 0) if c.worded])
    best: dict[str, tuple[_Candidate, float]] = {}
    for key, score in fuse(rankings):
        if len(best) == limit:
            break  # the rest need not be compared
        best.setdefault(" ".join(candidates[key].text.split()), (candidates[key], score))
    return [_source(n, *pair) for n, pair in enumerate(best.values(), start=1)]


def _source(n: int, candidate: _Candidate, score: float) -> Source:
    return Source(
        n=n,
        chunk=candidate.chunk,
        document=candidate.document,
        title=candidate.title,
        heading=candidate.heading,
        page=candidate.page,
        text=candidate.text,
        score=score,
    )
