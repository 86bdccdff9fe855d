"""A tenant with 10,000 passages, an assistant that reads them, and conversations to ask in."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from apps.conversations.models import Conversation
from apps.inference.models import Endpoint
from apps.knowledge.models import Collection, Document
from bench.upstream import DIMENSION
from tests import factories
from tests.environment import Backends

PASSAGES = 10_000
PASSAGES_A_DOCUMENT = 100
WORDS_A_PASSAGE = 90
VOCABULARY = 5_000
MANY = 10_000  # questions at once: nobody shall wait in line here

_COPY_CHUNKS = (
    "COPY knowledge_chunk (id, tenant_id, document_id, collection_id, live, position, text, heading, tokens, digest)"
    " FROM STDIN"
)
_COPY_VECTORS = (
    "COPY knowledge_embedding (id, tenant_id, index_id, chunk_id, collection_id, live, dimension, vector) FROM STDIN"
)


@dataclass(frozen=True)
class Fixture:
    key: str
    conversations: Sequence[str]  # ids; each is asked in once, since a conversation has one open turn at a time
    words: Sequence[str]  # what the passages are about, the commonest first


def load(servers: Backends, upstream_url: str, *, conversations: int) -> Fixture:
    """Fill an empty database. The same rows on every run."""
    chance = random.Random(7)
    words = vocabulary(chance)
    tenant = factories.make_tenant("bench")
    factories.make_endpoint(upstream_url, name="bench chat", model="bench", context_length=16_384, limit=MANY)
    index = factories.make_index(
        tenant=tenant,
        endpoint=factories.make_endpoint(
            upstream_url, name="bench embedding", model="bench", kind=Endpoint.Kind.EMBEDDING, limit=MANY
        ),
    )
    collection = factories.make_collection(tenant=tenant, index=index)
    documents = [
        factories.make_document(tenant=tenant, collection=collection) for _ in range(PASSAGES // PASSAGES_A_DOCUMENT)
    ]
    _load_passages(servers, collection, documents, words, chance)
    assistant = factories.make_assistant(tenant=tenant, collections=(collection,), max_tokens=2048)
    end_user = factories.make_end_user(tenant=tenant)
    rows = Conversation.objects.bulk_create(
        Conversation(tenant=tenant, assistant=assistant, end_user=end_user) for _ in range(conversations)
    )
    # What autovacuum does in time: statistics, and the words that wait outside the full-text index.
    servers.superuser.execute("VACUUM ANALYZE")
    return Fixture(factories.make_key(tenant=tenant), [str(row.pk) for row in rows], words)


def vocabulary(chance: random.Random) -> list[str]:
    syllables = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
    words: dict[str, None] = {}
    while len(words) < VOCABULARY:
        words["".join(chance.choices(syllables, k=chance.randint(2, 4)))] = None
    return list(words)


def _load_passages(
    servers: Backends, collection: Collection, documents: Sequence[Document], words: Sequence[str], chance: Any
) -> None:
    # Zipf's law: the n-th commonest word comes 1/n times as often as the first.
    weights = [1 / rank for rank in range(1, len(words) + 1)]
    passages = [_uuid(chance) for _ in range(PASSAGES)]
    tenant, index = str(collection.tenant_id), str(collection.index_id)

    def chunks() -> Iterator[tuple[Any, ...]]:
        for place, passage in enumerate(passages):
            document = documents[place // PASSAGES_A_DOCUMENT]
            text = " ".join(chance.choices(words, weights, k=WORDS_A_PASSAGE))
            position = place % PASSAGES_A_DOCUMENT
            yield passage, tenant, document.pk, collection.pk, True, position, text, ["A heading"], 150, str(place)

    def vectors() -> Iterator[tuple[Any, ...]]:
        for passage in passages:
            vector = str([byte - 128 for byte in chance.randbytes(DIMENSION)])
            yield _uuid(chance), tenant, index, passage, collection.pk, True, DIMENSION, vector

    for statement, rows in ((_COPY_CHUNKS, chunks()), (_COPY_VECTORS, vectors())):
        with servers.superuser.cursor().copy(statement) as copy:
            for row in rows:
                copy.write_row(row)


def _uuid(chance: random.Random) -> str:
    return f"{chance.getrandbits(128):032x}"
