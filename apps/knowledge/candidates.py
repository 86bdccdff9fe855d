"""Asks the database for the passages that may answer a question: ranked lists of several kinds, in one statement."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from apps.knowledge.models import EmbeddingIndex
from apps.tenants import statements
from apps.tenants.models import Tenant

# Each word is looked up by itself, and the rarest decide. Of the costliest question, all words that are common in the
# collections, so much takes about 0.1 s on 10,000 passages.
WORDED_CHARS = 16_000
DECIDING_WORDS = 32


@dataclass(frozen=True, slots=True)
class Scope:
    """Collections that share an index, and the question's vector in it; None where it could not be made."""

    index: EmbeddingIndex
    collections: list[uuid.UUID]
    vector: list[float] | None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A passage and its places, from 1, among those near the question and those that share words with it."""

    chunk: str
    document: str
    title: str
    heading: list[str]
    page: int | None
    text: str
    near: int | None
    worded: int | None


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


async def candidates(tenant: Tenant, scopes: Sequence[Scope], text: str, depth: int) -> list[list[Candidate]]:
    """For each scope its candidates, at most `depth` of each kind, in no particular order."""
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
            found.append([Candidate(*row) for row in await cursor.fetchall()])
    return found
