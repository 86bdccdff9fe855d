"""Asks the database for the passages that may answer a question: ranked lists of several kinds, in one statement."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pgvector import HalfVector
from psycopg.types.json import Jsonb

from apps.knowledge.filters import Filters
from apps.knowledge.models import EmbeddingIndex
from apps.tenants import statements
from apps.tenants.models import Tenant

# Each word is looked up by itself, and the rarest decide. Of the costliest question, all words that are common in the
# collections, so much takes about 0.1 s on 10,000 passages.
WORDED_CHARS = 16_000
DECIDING_WORDS = 32
# Words that may be spelled otherwise. Shorter ones are like too many others; a question has its say in its first words.
_SPELLING = re.compile(r"[^\W_][\w.-]{2,38}[^\W_]")
SPELLINGS = 24
STRANGE = 3  # words that stand nowhere, so many of which are looked for by their spelling


@dataclass(frozen=True, slots=True)
class Scope:
    """Collections that share an index, and the question's vector in it; None where it could not be made, and then the
    code of what failed."""

    index: EmbeddingIndex
    collections: list[uuid.UUID]
    vector: HalfVector | None
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A passage and its places, from 1, among those near the question, those that share words with it, and those that
    hold words like its own; with each the measure that gave the place.

    distance: of the vectors, by the cosine, from 0 to 2. share: what part of the question's words it holds, by their
    rarity. similarity: of the spellings, 1 for each word that stands there, of STRANGE at most.
    """

    chunk: str
    document: str
    title: str
    heading: list[str]
    page: int | None
    text: str
    position: int
    near: int | None
    distance: float | None
    worded: int | None
    share: float | None
    alike: int | None
    similarity: float | None


# All kinds of candidates (migrations/0025_hybrid_by_language.py) and their passages come in one statement, so from one
# snapshot: a swap is seen wholly or not at all. A row without a passage tells of the question.
STATEMENT = """
    SELECT c.id::text, c.document_id::text,
        (SELECT d.title FROM knowledge_document d WHERE d.tenant_id = %(tenant)s AND d.id = c.document_id),
        c.heading, c.page, c.text, c.position, ranked.near, ranked.distance, ranked.worded, ranked.weight,
        ranked.alike, ranked.similarity
    FROM hybrid_passages(
        %(index)s, %(collections)s, %(vector)s::halfvec, %(text)s, %(depth)s, %(deciding)s, %(spellings)s,
        CASE WHEN %(filtered)s THEN ARRAY(
            SELECT d.id FROM knowledge_document d
            WHERE d.tenant_id = %(tenant)s AND d.collection_id = ANY(%(collections)s)
                AND d.tags @> %(tags)s::varchar[] AND d.fields @> %(fields)s
                AND (%(source)s::text IS NULL OR d.file_name = %(source)s OR starts_with(d.source_url, %(source)s))
                AND (%(after)s::date IS NULL OR d.created >= (%(after)s::date)::timestamp AT TIME ZONE 'UTC')
                AND (%(before)s::date IS NULL OR d.created < (%(before)s::date)::timestamp AT TIME ZONE 'UTC')
        ) END
    ) ranked LEFT JOIN knowledge_chunk c ON c.tenant_id = %(tenant)s AND c.id = ranked.id
    WHERE c.id IS NOT NULL OR ranked.id IS NULL
"""
WEIGHT, ALIKE = 10, 11  # columns of it, for the question as for the passages


@dataclass(frozen=True, slots=True)
class Candidates:
    """by_scope: at most `depth` of each kind, in no particular order. unspelled: words that no passage holds were not
    looked for by their spelling, since there are too many passages."""

    by_scope: list[list[Candidate]]
    unspelled: bool = False


async def candidates(tenant: Tenant, scopes: Sequence[Scope], text: str, depth: int, filters: Filters) -> Candidates:
    by_scope, unspelled = [], False
    async with statements.transaction(tenant) as connection:
        for scope in scopes:
            cursor = await connection.execute(STATEMENT, parameters(tenant, scope, text, depth, filters))
            rows = await cursor.fetchall()
            whole, missed = next(((row[WEIGHT], row[ALIKE]) for row in rows if row[0] is None), (0, 0))
            unspelled = unspelled or missed > 0
            by_scope.append([_candidate(row, whole) for row in rows if row[0] is not None])
    return Candidates(by_scope, unspelled)


def _candidate(row: tuple[Any, ...], whole: int) -> Candidate:
    """whole: what all words of the question weigh, read in the language that makes the least of them. A passage in
    another language, which makes more of them, may hold more."""
    weight = row[WEIGHT]
    share = None if weight is None or not whole else min(1.0, weight / whole)
    return Candidate(*(*row[:WEIGHT], share, *row[ALIKE:]))


def parameters(tenant: Tenant, scope: Scope, text: str, depth: int, filters: Filters) -> dict[str, Any]:
    """Of STATEMENT."""
    return {
        "tenant": tenant.pk,
        "collections": scope.collections,
        "index": scope.index.pk,
        "vector": scope.vector,
        "text": text[:WORDED_CHARS],
        "deciding": DECIDING_WORDS,
        "spellings": spellings(text),
        "depth": depth,
        "filtered": bool(filters),
        "tags": list(filters.tags),
        "fields": Jsonb(filters.fields),
        "source": filters.source,
        "after": filters.after,
        "before": filters.before,
    }


def spellings(text: str) -> list[str]:
    """The first words of a question that are long enough to be looked for by their spelling, each once."""
    return list(dict.fromkeys(_SPELLING.findall(text[:WORDED_CHARS].lower())))[:SPELLINGS]
