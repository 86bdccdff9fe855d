"""Vectors of texts, made by the model that an index stands for and by no other, and how they are stored."""

from __future__ import annotations

import random
import struct
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice

import psycopg
from django.db import DataError, connection
from pgvector import HalfVector
from pgvector.psycopg.halfvec import HalfVectorBinaryDumper, HalfVectorDumper

from apps.inference import gateway
from apps.knowledge.models import Chunk, Collection, Document, EmbeddingIndex, SecondIndex
from chatbot.errors import ModelFailed, OtherModel
from chatbot.inference.asker import Asker, Rank
from chatbot.inference.wire import InputType


async def embed(index: EmbeddingIndex, texts: list[str], *, input_type: InputType) -> list[list[float]]:
    """A vector of the index's dimension for each text. `index` comes with its endpoint.

    Raises a ModelError; OtherModel where the endpoint was given another model since the index was made, whose
    vectors would be compared with ours and mean nothing.
    """
    endpoint = index.endpoint
    if (endpoint.model, endpoint.dimension) != (index.model, index.dimension):
        raise OtherModel(
            f"The embedding endpoint {endpoint.name} now serves {endpoint.model} ({endpoint.dimension} dimensions), "
            f"but this collection was embedded by {index.model} ({index.dimension})."
        )
    pool = await gateway.pool()
    # Somebody waits for the vector of a question; documents can wait.
    rank = Rank.INTERACTIVE if input_type == "query" else Rank.INGESTION
    asker = Asker(tenant=str(index.tenant_id), rank=rank)
    vectors = await pool.embed(str(endpoint.pk), texts, input_type=input_type, asker=asker)
    if any(len(vector) != index.dimension for vector in vectors):
        raise OtherModel(f"The embedding endpoint {endpoint.name} gave vectors of a wrong dimension.")
    return vectors


# Without the type's number, which each database has its own of: a statement says what its parameter is. In text, a
# vector of 384 numbers takes Python 140 µs, and PostgreSQL 29; like this, 4 and 3.
psycopg.adapters.register_dumper(HalfVector, HalfVectorDumper)
psycopg.adapters.register_dumper(HalfVector, HalfVectorBinaryDumper)


def halved(vector: list[float]) -> HalfVector:
    """A question's vector as it is compared with what is stored. Raises ModelFailed where numbers are too large."""
    with _small_enough():
        return HalfVector(vector)


# Row-level security forbids COPY, so it fills a table of the connection's own. In PostgreSQL's binary form a vector is
# its length, two bytes that mean nothing, and its numbers; text takes both sides five times as long. Numbers of four
# bytes: Python takes longer to halve them than PostgreSQL does.
_MADE = "CREATE TEMP TABLE IF NOT EXISTS copied_vectors (id uuid, chunk uuid, vector vector) ON COMMIT DELETE ROWS"
_COPY = "COPY pg_temp.copied_vectors FROM STDIN (FORMAT BINARY)"
_STORE = """
    INSERT INTO knowledge_embedding (id, tenant_id, index_id, chunk_id, collection_id, live, dimension, vector)
    SELECT id, %s, %s, chunk, %s, false, %s, vector::halfvec FROM pg_temp.copied_vectors
"""
# Passages that questions find, each of which may have been deleted since.
_STORE_LIVE = """
    INSERT INTO knowledge_embedding (id, tenant_id, index_id, chunk_id, collection_id, live, dimension, vector)
    SELECT made.id, c.tenant_id, %(index)s, c.id, c.collection_id, true, %(dimension)s, made.vector::halfvec
    FROM pg_temp.copied_vectors made JOIN knowledge_chunk c ON c.id = made.chunk
    WHERE c.tenant_id = %(tenant)s AND c.live AND c.document_id = ANY(%(documents)s)
    RETURNING chunk_id
"""
_HOLD = "SELECT id FROM knowledge_document WHERE tenant_id = %s AND id = ANY(%s) ORDER BY id FOR SHARE SKIP LOCKED"
_SENT_AT_ONCE = 16  # rows: each sending takes as long as packing one
_BEGIN, _END = b"PGCOPY\n\xff\r\n\0" + bytes(8), struct.pack(">h", -1)


def store(document: Document, index: EmbeddingIndex, chunks: Sequence[Chunk], made: Sequence[Sequence[float]]) -> None:
    """In a transaction of its own, as vectors that are not live yet."""
    _copy(index, chunks, made)
    with _small_enough(), connection.cursor() as cursor:
        cursor.execute(_STORE, [document.tenant_id, index.pk, document.collection_id, index.dimension])


def store_live(index: EmbeddingIndex, chunks: Sequence[Chunk], made: Sequence[Sequence[float]]) -> set[uuid.UUID]:
    """The same for passages that are live; those that were stored. Left out are those of documents that are gone, and
    of those of which somebody writes a new version right now."""
    _copy(index, chunks, made)
    # Locked first: what is read below is then what these documents are until we commit.
    documents = held(index, chunks)
    with _small_enough(), connection.cursor() as cursor:
        cursor.execute(
            _STORE_LIVE,
            {"tenant": index.tenant_id, "index": index.pk, "dimension": index.dimension, "documents": documents},
        )
        return {pk for (pk,) in cursor.fetchall()}


def held(index: EmbeddingIndex, chunks: Sequence[Chunk]) -> list[uuid.UUID]:
    """The documents of these passages that nobody is writing to, locked: nobody does until this transaction ends."""
    with connection.cursor() as cursor:
        cursor.execute(_HOLD, [index.tenant_id, list({chunk.document_id for chunk in chunks})])
        return [pk for (pk,) in cursor.fetchall()]


def _copy(index: EmbeddingIndex, chunks: Sequence[Chunk], made: Sequence[Sequence[float]]) -> None:
    with _small_enough(), connection.cursor() as cursor:
        cursor.execute(_MADE)
        with cursor.copy(_COPY) as copy:
            copy.write(_BEGIN)
            rows = _rows(index.dimension, chunks, made)
            # Packed while PostgreSQL reads the ones before them.
            while some := b"".join(islice(rows, _SENT_AT_ONCE)):
                copy.write(some)
            copy.write(_END)


def _rows(dimension: int, chunks: Sequence[Chunk], made: Sequence[Sequence[float]]) -> Iterator[bytes]:
    """In PostgreSQL's binary form, under ids of version 7 (RFC 9562), which follow each other as the rows do: random
    ones would be all over their index."""
    row = struct.Struct(f">hiQQi16siHH{dimension}f")
    size = row.size - struct.calcsize(">hiQQi16si")
    first = time.time_ns() // 1_000_000 << 16 | 0x7000
    for number, (chunk, vector) in enumerate(zip(chunks, made, strict=True)):
        last = 1 << 63 | random.getrandbits(62)  # no secret
        yield row.pack(3, 16, first | number & 0xFFF, last, 16, chunk.pk.bytes, size, dimension, 0, *vector)


@contextmanager
def _small_enough() -> Iterator[None]:
    """What is too large for four bytes is found here, what is too large for two by PostgreSQL."""
    try:
        yield
    except (OverflowError, DataError) as error:
        raise ModelFailed("The embedding endpoint gave numbers that are too large.") from error


def kept(document: Document) -> set[uuid.UUID]:
    """The indexes that its collection has and that are not being dropped."""
    used = Collection.objects.for_tenant(document.tenant_id).filter(pk=document.collection_id)
    seconds = SecondIndex.objects.for_tenant(document.tenant_id).filter(collection=document.collection_id)
    beside = seconds.exclude(state=SecondIndex.State.DROPPING)
    return set(used.values_list("index", flat=True).union(beside.values_list("index", flat=True)))


def reuse(document: Document) -> int:
    """Give passages that the live version has too, word for word, its vectors in every index; how many passages."""
    passages = Chunk.objects.for_tenant(document.tenant_id).filter(document=document).values_list("digest", "pk")
    live = dict(passages.filter(live=True))
    # Paired here and not by a join: its plan is quadratic while the statistics still say that the table is empty.
    pairs = [(pk, live[digest]) for digest, pk in passages.filter(live=False) if digest in live]
    if not pairs:
        return 0
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO knowledge_embedding
                (id, tenant_id, index_id, chunk_id, collection_id, live, dimension, vector)
            SELECT gen_random_uuid(), e.tenant_id, e.index_id, pair.new, e.collection_id, false, e.dimension, e.vector
            FROM unnest(%(new)s::uuid[], %(old)s::uuid[]) AS pair (new, old)
            JOIN knowledge_embedding e ON e.chunk_id = pair.old
            WHERE e.tenant_id = %(tenant)s
            RETURNING index_id
            """,
            {
                "tenant": document.tenant_id,
                "new": [new for new, _ in pairs],
                "old": [old for _, old in pairs],
            },
        )
        return [index_id for (index_id,) in cursor.fetchall()].count(document.collection.index_id)
