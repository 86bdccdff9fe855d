"""Many passages at once, loaded past the product: their vectors lie about themes, as those of documents do."""

from __future__ import annotations

import random
import uuid

from apps.knowledge.models import Collection
from tests.environment import Backends
from tests.factories import make_document

THEMES = 400


def themes(dimension: int, seed: int = 1) -> list[list[float]]:
    chance = random.Random(seed)
    return [[chance.gauss(0, 1) for _ in range(dimension)] for _ in range(THEMES)]


def about(theme: list[float], chance: random.Random, spread: float = 1.5) -> list[float]:
    return [x + chance.gauss(0, spread) for x in theme]


def load(servers: Backends, collection: Collection, count: int, *, seed: int = 1) -> list[list[float]]:
    """`count` live passages of one document in the collection; their vectors, which a seed makes alike."""
    tenant, index = collection.tenant_id, collection.index
    document = make_document(tenant=collection.tenant, collection=collection, passages=count)
    chance, known = random.Random(seed), themes(index.dimension)
    made = [about(known[n % THEMES], chance) for n in range(count)]
    ids = [uuid.uuid4() for _ in made]
    with servers.superuser.cursor() as cursor:
        with cursor.copy(
            "COPY knowledge_chunk (id, tenant_id, document_id, collection_id, live, position, text, heading, tokens,"
            " digest) FROM STDIN"
        ) as copy:
            for n, one in enumerate(ids):
                copy.write_row((one, tenant, document.pk, collection.pk, True, n, f"passage {n}", "{}", 2, str(n)))
        with cursor.copy(
            "COPY knowledge_embedding (id, tenant_id, index_id, chunk_id, collection_id, live, dimension, vector)"
            " FROM STDIN"
        ) as copy:
            for one, vector in zip(ids, made, strict=True):
                written = f"[{','.join(f'{x:.3f}' for x in vector)}]"
                copy.write_row((uuid.uuid4(), tenant, index.pk, one, collection.pk, True, index.dimension, written))
        cursor.execute("ANALYZE knowledge_embedding, knowledge_chunk")
    return made
