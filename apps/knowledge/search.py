"""Finds the passages that answer a question: by meaning and by words, within a tenant's collections."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from apps.knowledge import metrics, vectors
from apps.knowledge.candidates import Candidate, Scope, candidates
from apps.knowledge.models import Collection, EmbeddingIndex
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


@dataclass(frozen=True, slots=True)
class Recipe:
    """What each list counts when they are made into one; 0 leaves it out."""

    vector: float = 1.0
    text: float = 1.0


RECIPE = Recipe()


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage that was found, and its fused score."""

    candidate: Candidate
    score: float

    def source(self, n: int) -> Source:
        found = self.candidate
        return Source(
            n=n,
            chunk=found.chunk,
            document=found.document,
            title=found.title,
            heading=found.heading,
            page=found.page,
            text=found.text,
            score=self.score,
        )


@dataclass(frozen=True, slots=True)
class Found:
    """hits: what was asked for, best first. stages: by name, each ranking on the way to them."""

    hits: list[Hit]
    stages: dict[str, list[Candidate]]


async def search(tenant: Tenant, collections: Sequence[Collection], text: str, *, limit: int = 6) -> list[Source]:
    """What find() finds, numbered from 1."""
    found = await find(tenant, collections, text, limit=limit)
    return [hit.source(n) for n, hit in enumerate(found.hits, start=1)]


async def find(
    tenant: Tenant, collections: Sequence[Collection], text: str, *, limit: int = 6, recipe: Recipe = RECIPE
) -> Found:
    """The `limit` best passages; fewer only where there are no more. A text is given once.

    Where an embedding endpoint fails, its collections are searched by words alone; raises no ModelError. Of a long
    text only the first WORDED_CHARS are read.
    One database unit, with one statement for each embedding index, if the collections come with `index__endpoint`
    (find_collection() brings it).
    """
    if not collections:
        return Found([], {})
    text = text.replace("\0", " ")
    scopes = await _scopes(tenant, collections, text)
    depth = max(CANDIDATES, 2 * limit)
    while True:
        started = time.perf_counter()
        found = await candidates(tenant, scopes, text, depth)
        metrics.SEARCH_SECONDS.labels("database").observe(time.perf_counter() - started)
        ranked = _ranked(found, limit, recipe)
        exhausted = all(len(rows) < depth for rows in found)
        if exhausted or len(ranked.hits) == limit:
            return ranked
        depth *= DEEPER


async def _scopes(tenant: Tenant, collections: Sequence[Collection], text: str) -> list[Scope]:
    index_field = Collection._meta.get_field("index")
    if not all(
        index_field.is_cached(c) and c.index._meta.get_field("endpoint").is_cached(c.index) for c in collections
    ):
        collections = await unit(_with_indexes, tenant, collections)
    groups: dict[uuid.UUID, list[Collection]] = {}
    for collection in collections:
        groups.setdefault(collection.index_id, []).append(collection)
    return [
        Scope(group[0].index, [c.pk for c in group], await _vector(group[0].index, text)) for group in groups.values()
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


# The lists that are fused, and a candidate's place in each; Recipe weighs them by the same names.
_PLACES: dict[str, Callable[[Candidate], int | None]] = {
    "vector": lambda candidate: candidate.near,
    "text": lambda candidate: candidate.worded,
}


def _ranked(found: Sequence[Sequence[Candidate]], limit: int, recipe: Recipe) -> Found:
    known = {candidate.chunk: candidate for rows in found for candidate in rows}
    stages, rankings, weights = {}, [], []
    for name, place in _PLACES.items():
        placed = [sorted((c for c in rows if place(c)), key=lambda c: place(c) or 0) for rows in found]
        lists = [[candidate.chunk for candidate in rows] for rows in placed]
        stages[name] = [known[key] for key, _ in fuse(lists)]
        rankings += lists
        weights += [getattr(recipe, name)] * len(lists)
    fused = [(key, score) for key, score in fuse(rankings, weights=weights) if score]
    stages["fused"] = [known[key] for key, _ in fused]
    best: dict[str, Hit] = {}
    for key, score in fused:
        if len(best) == limit:
            break  # the rest need not be compared
        best.setdefault(" ".join(known[key].text.split()), Hit(known[key], score))
    return Found(list(best.values()), stages)
