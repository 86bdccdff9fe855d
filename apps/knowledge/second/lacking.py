"""Which passages lack a vector in a collection's second index."""

from __future__ import annotations

import uuid

from django.db import connection

from apps.knowledge.models import Chunk, Document, Embedding, SecondIndex

_LIVE = """
    SELECT c.id FROM knowledge_chunk c
    WHERE c.tenant_id = %(tenant)s AND c.collection_id = %(collection)s AND c.live
        AND NOT EXISTS (
            SELECT FROM knowledge_embedding e
            WHERE e.tenant_id = %(tenant)s AND e.index_id = %(index)s AND e.chunk_id = c.id
        )
    LIMIT %(most)s
"""


def first_live(second: SecondIndex, most: int) -> list[uuid.UUID]:
    """Passages that questions find and that have no vector in it, in no particular order."""
    with connection.cursor() as cursor:
        cursor.execute(
            _LIVE,
            {
                "tenant": second.tenant_id,
                "collection": second.collection_id,
                "index": second.index_id,
                "most": most,
            },
        )
        return [pk for (pk,) in cursor.fetchall()]


def count(second: SecondIndex) -> tuple[int, int]:
    """How many passages questions find, and how many vectors of such are in it."""
    of_collection = {"collection": second.collection_id, "live": True}
    total = Chunk.objects.for_tenant(second.tenant_id).filter(**of_collection).count()
    done = Embedding.objects.for_tenant(second.tenant_id).filter(index=second.index_id, **of_collection).count()
    return total, done


def pending(document: Document, index_id: uuid.UUID) -> bool:
    """Whether a passage of the document's next version has no vector in the index."""
    passages = Chunk.objects.for_tenant(document.tenant_id).filter(document=document, live=False)
    with_one = passages.filter(embeddings__index=index_id)
    return bool(with_one.count() < passages.count())
