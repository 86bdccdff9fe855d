"""What a search takes: its vectors by size of tenant, found exactly or by an index, and the whole against its parts.

Recall is against numpy's own comparison of all vectors of the tenant. Questions are on-topic, near a topic of the
tenant's, or off-topic, near one of another's. The parts are plain statements, as one would write them in psql, past
row-level security, and find what the whole finds; the whole is the statement of a turn, as the product's role.
"""

from __future__ import annotations

import os
import random
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np
import psycopg
from pgvector import HalfVector
from psycopg import sql

from apps.knowledge import layouts
from apps.knowledge.candidates import STATEMENT, Scope, parameters
from apps.knowledge.filters import EVERYTHING
from apps.knowledge.models import Layout
from bench import zipf
from bench.report import percentile
from bench.zipf import Holder, Vectors, World
from local import postgres
from tests.environment import PASSWORDS, POSTGRES_PORT, Backends

INDEXED_ABOVE: Final = 10_000  # passages
QUESTIONS, AGAIN = 100, 5  # of each class and kind; each so many times, in rounds of all, and the quickest counts
TOP, DEPTH = 10, 40
TARGETS: Final = {"below 4,000": 3.0, "indexed": 2.0, "recall indexed": 0.98, "whole to parts": 1.5}

Deed = Callable[[], tuple[Any, float]]  # what it gives, and the milliseconds


class Size(NamedTuple):
    name: str
    least: int
    below: int


SIZES: Final = (
    Size("XL", 20_000, 10**9),
    Size("L", 10_000, 20_000),
    Size("M", 4_000, 10_000),
    Size("S", 1_000, 4_000),
    Size("XS", 0, 1_000),
)


def tell(servers: Backends) -> dict[str, Any]:
    """Measure and print; gives the figures."""
    began = time.perf_counter()
    world = zipf.load(servers)
    give_layouts()
    has_one = set(Layout.objects.filter(state=Layout.State.INDEXED).values_list("index", flat=True))
    servers.superuser.execute("CHECKPOINT")
    os.sync()  # or what was loaded is still being written while searches are timed
    print(f"loaded {zipf.PASSAGES:,} vectors of {zipf.TENANTS} tenants in {time.perf_counter() - began:.0f} s")
    (huge,) = servers.superuser.execute("SELECT current_setting('huge_pages_status')").fetchone() or ("",)
    print(f"huge pages: {huge}")
    with _as_product() as product:
        vectors = [
            _vectors(product, world, kind, size, has_one) for size in SIZES for kind in ("on-topic", "off-topic")
        ]
        whole = [_whole(servers.superuser, product, world, holder) for holder in _indexed(world)]
        spelled = _spelled(product, world)
    _print(vectors, whole, spelled)
    return {"huge_pages": huge, "vectors": vectors, "whole": whole, "spelled_ms": spelled, "targets": TARGETS}


def give_layouts() -> None:
    """As the process `layouts` does, which looks twice: it waits for the end of documents that are being added."""
    for _ in range(2):
        layouts.move_all()


# --- Vectors ----------------------------------------------------------------------------------------------------------


def _vectors(
    connection: psycopg.Connection, world: World, kind: str, size: Size, has_one: AbstractSet[uuid.UUID]
) -> dict[str, Any]:
    """has_one: the embedding indexes that have an HNSW index."""
    holders = [holder for holder in world.holders if size.least <= len(holder) < size.below]
    asked = []
    chance = np.random.default_rng(size.least)
    for number in range(QUESTIONS):
        holder = holders[number % len(holders)]
        others = [other for other in world.holders if other is not holder]
        topics = (holder if kind == "on-topic" else others[chance.integers(len(others))]).topics
        asked.append((holder, world.question(topics[chance.integers(len(topics))], chance)))
    # All answers before any recall: numpy's threads linger on the core that PostgreSQL has.
    answers, times = _quickest([partial(_nearest, connection, *one) for one in asked])
    recalls = [_recall(*one, answer) for one, answer in zip(asked, answers, strict=True)]
    return {
        "class": size.name,
        "tenants": len(holders),
        "passages": [len(holders[-1]), len(holders[0])],
        "with_hnsw": sum(holder.collection.index_id in has_one for holder in holders),
        "indexed": size.least >= INDEXED_ABOVE,
        "questions": kind,
        "recall": sum(recalls) / len(recalls),
        "p50_ms": percentile(times, 50),
        "p95_ms": percentile(times, 95),
    }


def _nearest(connection: psycopg.Connection, holder: Holder, question: Vectors) -> tuple[list[str], float]:
    """The nearest, as the product finds them: each compared, or by the tenant's HNSW index; and the milliseconds."""
    _scope(connection, holder)
    statement = "SELECT id::text FROM near_passages(%s, %s, %s::halfvec, NULL, %s) ORDER BY distance"
    values = (holder.collection.index_id, [holder.collection.pk], HalfVector(question), DEPTH)
    found, milliseconds = _timed(lambda: connection.execute(statement, values).fetchall())
    return [pk for pk, *_ in found[:TOP]], milliseconds


def _recall(holder: Holder, question: Vectors, found: Sequence[str]) -> float:
    """By distance: of two that are equally near, either is right."""
    question = question.astype(np.float16).astype(np.float32)
    lengths = np.linalg.norm(holder.vectors, axis=1) * np.linalg.norm(question)
    distances = 1 - holder.vectors @ question / lengths
    farthest = np.partition(distances, TOP - 1)[TOP - 1] + 1e-5
    places = {pk: place for place, pk in enumerate(holder.ids)}
    return sum(bool(distances[places[pk]] <= farthest) for pk in found) / TOP


# --- The whole against its parts --------------------------------------------------------------------------------------


def _whole(superuser: psycopg.Connection, product: psycopg.Connection, world: World, holder: Holder) -> dict[str, Any]:
    """Medians, in milliseconds. Of six words one is spelled as it stands nowhere."""
    chance, dice = np.random.default_rng(3), random.Random(3)
    weights = zipf.frequencies(world.words)
    asked: dict[str, list[Deed]] = {"whole": [], "vector": [], "text": [], "trigram": []}
    _scope(product, holder)
    _scope(superuser, holder)
    # As little likeness as the whole is content with: by PostgreSQL's own, less is looked at.
    superuser.execute("SET pg_trgm.word_similarity_threshold = 0.5")
    for _ in range(QUESTIONS):
        vector = world.question(holder.topics[chance.integers(len(holder.topics))], chance)
        words = dice.choices(world.words, weights, k=5)
        strange = _misspelled(dice.choice([word for word in world.words if len(word) > 5]))
        asked["whole"].append(partial(_timed, partial(_search, product, holder, vector, " ".join([*words, strange]))))
        asked["vector"].append(partial(_timed, partial(_near, superuser, holder, vector)))
        asked["text"].append(partial(_timed, partial(_worded, superuser, holder, words)))
        asked["trigram"].append(partial(_timed, partial(_alike, superuser, holder, strange)))
    _, times = _quickest([deed for each in zip(*asked.values(), strict=True) for deed in each])
    medians = {name: percentile(times[place :: len(asked)], 50) for place, name in enumerate(asked)}
    parts = sum(medians[name] for name in ("vector", "text", "trigram"))
    return {"passages": len(holder), **medians, "ratio": medians["whole"] / parts}


def _search(connection: psycopg.Connection, holder: Holder, vector: Vectors, text: str) -> list[tuple[Any, ...]]:
    collection = holder.collection
    scope = Scope(collection.index, [collection.pk], HalfVector(vector))
    return connection.execute(STATEMENT, parameters(collection.tenant, scope, text, DEPTH, EVERYTHING)).fetchall()


def _near(connection: psycopg.Connection, holder: Holder, question: Vectors) -> list[tuple[Any, ...]]:
    statement = sql.SQL(
        "SELECT chunk_id FROM knowledge_embedding WHERE tenant_id = {tenant} AND index_id = {index} AND live"
        " ORDER BY vector::halfvec({dimension}) <=> {question}::halfvec({dimension}) LIMIT {depth}"
    )
    more = {"dimension": zipf.DIMENSION, "question": _text(question), "index": holder.collection.index_id}
    return connection.execute(_filled(statement, holder, **more)).fetchall()


def _worded(connection: psycopg.Connection, holder: Holder, words: Sequence[str]) -> list[tuple[Any, ...]]:
    statement = sql.SQL(
        "SELECT id FROM knowledge_chunk, to_tsquery('english', {words}) question"
        " WHERE tenant_id = {tenant} AND collection_id = {collection} AND live AND tsv @@ question"
        " ORDER BY ts_rank(tsv, question, 1) DESC LIMIT {depth}"
    )
    return connection.execute(_filled(statement, holder, words=" | ".join(words))).fetchall()


def _alike(connection: psycopg.Connection, holder: Holder, word: str) -> list[tuple[Any, ...]]:
    statement = sql.SQL(
        "SELECT id FROM knowledge_chunk WHERE tenant_id = {tenant} AND collection_id = {collection} AND live"
        " AND text ILIKE {beginning} AND {word} <% text ORDER BY word_similarity({word}, text) DESC LIMIT {depth}"
    )
    return connection.execute(_filled(statement, holder, word=word, beginning=f"%{word[:3]}%")).fetchall()


def _filled(statement: sql.SQL, holder: Holder, **more: object) -> sql.Composed:
    fields = {"tenant": holder.collection.tenant_id, "collection": holder.collection.pk, "depth": DEPTH, **more}
    return statement.format(**{name: sql.Literal(value) for name, value in fields.items()})


def _spelled(connection: psycopg.Connection, world: World) -> dict[str, float]:
    """Of a question of one word that no passage holds, in as many passages as spellings are looked for in."""
    dice, deeds = random.Random(5), list[Deed]()
    holder = Holder(world.spelled, [], np.zeros((0, 1), np.float32), np.zeros((0, 1), np.float32))
    _scope(connection, holder)
    statement = "SELECT id FROM hybrid_passages(%s, %s, NULL, '', %s, 32, %s, NULL)"
    for _ in range(QUESTIONS // 2):
        word = _misspelled(dice.choice([word for word in world.words if len(word) > 5]))
        asked = (world.spelled.index_id, [world.spelled.pk], DEPTH, [word])
        deeds.append(partial(_timed, partial(connection.execute, statement, asked)))
    _, times = _quickest(deeds)
    return {"p50_ms": percentile(times, 50), "p95_ms": percentile(times, 95)}


def _misspelled(word: str) -> str:
    return word[:3] + "qx" + word[4:]


# --- Connections and times --------------------------------------------------------------------------------------------


def _as_product() -> psycopg.Connection:
    connection = postgres.connect(POSTGRES_PORT, PASSWORDS[postgres.SUPERUSER], postgres.DATABASE)
    connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(postgres.APP)))
    return connection


def _scope(connection: psycopg.Connection, holder: Holder) -> None:
    connection.execute("SELECT set_config('app.tenant', %s, false)", (str(holder.collection.tenant_id),))


def _indexed(world: World) -> Iterator[Holder]:
    return (holder for holder in world.holders if len(holder) > INDEXED_ABOVE)


def _quickest(deeds: Sequence[Deed]) -> tuple[list[Any], list[float]]:
    """What each gives, and its milliseconds. In rounds, since a machine that others use, too, is slow for a while."""
    rounds = [[deed() for deed in deeds] for _ in range(AGAIN)]
    return [found for found, _ in rounds[0]], [min(ms for _, ms in each) for each in zip(*rounds, strict=True)]


def _timed(deed: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    found = deed()
    return found, (time.perf_counter() - started) * 1000


def _text(vector: Vectors) -> str:
    return "[" + ",".join(f"{number:.5g}" for number in vector) + "]"


def _print(vectors: Sequence[dict[str, Any]], whole: Sequence[dict[str, Any]], spelled: dict[str, float]) -> None:
    print(
        f"\n{'tenants':12} {'passages':>15} {'with HNSW':9} {'questions':10} {'recall@10':>9} "
        f"{'p50 / p95 ms':>14}  target"
    )
    for row in vectors:
        small = row["passages"][1] < 4_000
        target = f"{TARGETS['recall indexed']}, 2 ms" if row["indexed"] else f"1.0{', 3 ms' if small else ''}"
        print(
            f"{row['tenants']:4} {row['class']:7} {row['passages'][0]:7,}-{row['passages'][1]:7,} "
            f"{row['with_hnsw']:9} {row['questions']:10} {row['recall']:9.3f} "
            f"{row['p50_ms']:6.2f} / {row['p95_ms']:5.2f}  {target}"
        )
    print(f"\n{'passages':>9} {'whole':>8} {'vector':>8} {'text':>8} {'trigram':>8} {'whole to parts':>15}  target 1.5")
    for row in whole:
        parts = " ".join(f"{row[name]:8.2f}" for name in ("whole", "vector", "text", "trigram"))
        print(f"{row['passages']:9,} {parts} {row['ratio']:15.2f}")
    times = f"{spelled['p50_ms']:.1f} / {spelled['p95_ms']:.1f} ms"
    print(f"a word that stands nowhere, in {zipf.SPELLED:,} passages: {times}")
