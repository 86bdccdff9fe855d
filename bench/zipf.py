"""Two hundred tenants by Zipf's law and their 200,000 vectors, with texts for a few; made up, the same on every run.

A vector is a mixture of a few dozen factors and a little noise, as those of real models lie on far fewer dimensions
than they have: tenants have their own field in that space, and topics in their field around which passages crowd.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from apps.inference.models import Endpoint
from apps.knowledge.models import Collection, Document
from bench.fixture import vocabulary
from tests import factories
from tests.environment import Backends

TENANTS: Final = 200
PASSAGES: Final = 200_000
DIMENSION: Final = 384
FACTORS: Final = 48
A_TOPIC: Final = 80  # passages
WORDED_ABOVE: Final = 10_000  # passages: such a tenant has texts, too
WORDS_A_PASSAGE: Final = 60
STOP_WORDS: Final = 30  # the commonest of a language, which are not looked for
SPELLED: Final = 50_000  # passages of the tenant that has no vectors, which is as many as spellings are looked for in

Vectors = NDArray[np.float32]

_COPY_CHUNKS: Final = (
    "COPY knowledge_chunk (id, tenant_id, document_id, collection_id, live, position, text, heading, tokens, digest)"
    " FROM STDIN"
)
_COPY_VECTORS: Final = (
    "COPY knowledge_embedding (id, tenant_id, index_id, chunk_id, collection_id, live, dimension, vector)"
    " FROM STDIN (FORMAT BINARY)"
)
# PostgreSQL's binary form: a field is its length and its bytes, and a halfvec its length, two bytes that mean nothing
# and its numbers.
_UUIDS: Final = ("id", "tenant", "index", "chunk", "collection")
_ROW: Final = np.dtype([
    ("fields", ">i2"),
    *((f"{name}{part}", kind) for name in _UUIDS for part, kind in (("_size", ">i4"), ("", "V16"))),
    ("live_size", ">i4"), ("live", "i1"), ("dimension_size", ">i4"), ("dimension", ">i4"),
    ("vector_size", ">i4"), ("length", ">u2"), ("unused", ">u2"), ("numbers", ">f2", (DIMENSION,)),
])  # fmt: skip
_BEGIN, _END = b"PGCOPY\n\xff\r\n\0" + bytes(8), b"\xff\xff"


@dataclass(frozen=True)
class Holder:
    """A tenant's only collection, with the ids and vectors of its passages, as PostgreSQL has them, and its topics."""

    collection: Collection
    ids: list[str]
    vectors: Vectors
    topics: Vectors

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class World:
    """holders: the largest first. spelled: a collection of SPELLED passages without vectors. words: of the texts, the
    commonest first."""

    holders: list[Holder]
    spelled: Collection
    words: list[str]
    mixing: Vectors

    def question(self, topic: Vectors, chance: np.random.Generator) -> Vectors:
        return _near(topic, 1, self.mixing, chance)[0]


def load(servers: Backends) -> World:
    """Fill an empty database."""
    chance, words = np.random.default_rng(7), vocabulary(random.Random(7))
    mixing = chance.standard_normal((FACTORS, DIMENSION), dtype=np.float32)
    endpoint = factories.make_endpoint(name="bench embedding", model="bench", kind=Endpoint.Kind.EMBEDDING)
    sizes = _sizes()
    collections = [_collection(endpoint, number) for number in range(TENANTS)]
    holders = [_holder(servers, one, size, mixing, chance) for one, size in zip(collections, sizes, strict=True)]
    for holder in holders:
        if len(holder) > WORDED_ABOVE:
            _write(servers, holder.collection, holder.ids, words)
    spelled = _collection(endpoint, TENANTS)
    _write(servers, spelled, [str(uuid.UUID(bytes=chance.bytes(16))) for _ in range(SPELLED)], words)
    # What autovacuum does in time: statistics, and the words that wait outside the full-text index.
    servers.superuser.execute("VACUUM ANALYZE")
    return World(holders, spelled, words, mixing)


def frequencies(words: list[str]) -> list[float]:
    return [1 / (STOP_WORDS + rank) for rank in range(1, len(words) + 1)]


def _sizes() -> list[int]:
    whole = sum(1 / rank for rank in range(1, TENANTS + 1))
    return [round(PASSAGES / whole / rank) for rank in range(1, TENANTS + 1)]


def _collection(endpoint: Endpoint, number: int) -> Collection:
    tenant = factories.make_tenant(f"tenant-{number}")
    return factories.make_collection(tenant=tenant, index=factories.make_index(tenant=tenant, endpoint=endpoint))


def _holder(
    servers: Backends, collection: Collection, size: int, mixing: Vectors, chance: np.random.Generator
) -> Holder:
    field = chance.standard_normal(FACTORS, dtype=np.float32)
    topics = field + chance.standard_normal((size // A_TOPIC + 1, FACTORS), dtype=np.float32)
    vectors = np.concatenate([_near(topic, A_TOPIC, mixing, chance) for topic in topics])[:size]
    vectors = vectors.astype(np.float16).astype(np.float32)  # as they are stored
    ids = [uuid.UUID(bytes=chance.bytes(16)) for _ in range(size)]
    with servers.superuser.cursor().copy(_COPY_VECTORS) as copy:
        copy.write(_BEGIN + _rows(collection, ids, vectors, chance).tobytes() + _END)
    return Holder(collection, [str(pk) for pk in ids], vectors, topics)


def _near(topic: Vectors, count: int, mixing: Vectors, chance: np.random.Generator) -> Vectors:
    mixed = (topic + 0.7 * chance.standard_normal((count, FACTORS), dtype=np.float32)) @ mixing
    mixed += 0.5 * chance.standard_normal((count, DIMENSION), dtype=np.float32)
    return np.asarray(mixed / np.linalg.norm(mixed, axis=1, keepdims=True), dtype=np.float32)


def _rows(collection: Collection, ids: list[uuid.UUID], vectors: Vectors, chance: np.random.Generator) -> Any:
    rows = np.zeros(len(ids), dtype=_ROW)
    of_all = {"tenant": collection.tenant_id, "index": collection.index_id, "collection": collection.pk}
    rows["fields"] = 8
    for name in _UUIDS:
        rows[f"{name}_size"] = 16
        rows[name] = np.void(of_all[name].bytes) if name in of_all else np.zeros((), "V16")
    rows["id"] = np.frombuffer(chance.bytes(16 * len(ids)), dtype="V16")
    rows["chunk"] = np.frombuffer(b"".join(pk.bytes for pk in ids), dtype="V16")
    rows["live_size"], rows["live"] = 1, 1
    rows["dimension_size"], rows["dimension"] = 4, DIMENSION
    rows["vector_size"], rows["length"] = 4 + 2 * DIMENSION, DIMENSION
    rows["numbers"] = vectors
    return rows


def _write(servers: Backends, collection: Collection, ids: list[str], words: list[str]) -> None:
    """Texts in which words come as often as Zipf's law has it, without the stop words."""
    chance = random.Random(len(ids))
    document: Document = factories.make_document(
        tenant=collection.tenant, collection=collection, stemming="english", passages=len(ids)
    )
    weights = frequencies(words)

    def chunks() -> Iterator[tuple[Any, ...]]:
        for position, pk in enumerate(ids):
            text = " ".join(chance.choices(words, weights, k=WORDS_A_PASSAGE))
            yield pk, collection.tenant_id, document.pk, collection.pk, True, position, text, ["A heading"], 90, pk

    with servers.superuser.cursor().copy(_COPY_CHUNKS) as copy:
        for row in chunks():
            copy.write_row(row)
