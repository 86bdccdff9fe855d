"""What a question finds, and what it must never find."""

from __future__ import annotations

import math
import random
import threading

import pytest
from asgiref.sync import async_to_sync
from django.db import IntegrityError, connections

from apps.inference import gateway
from apps.inference.models import Endpoint
from apps.knowledge import search as searching
from apps.knowledge.collections import create_collection, find_collection
from apps.knowledge.ingest import add_document, ingest, replace_document
from apps.knowledge.models import Chunk, Collection, Document, Embedding
from apps.tenants.models import Tenant
from apps.tenants.scoping import tenant_scope
from chatbot.events import Source
from tests.factories import make_collection, make_document, make_endpoint, make_index, make_passage
from tests.fakes.inference import DIMENSION, FakeInference, Reply, embedding


def find(
    tenant: Tenant, *collections: Collection, text: str = "How do I replace the seal?", limit: int = 6
) -> list[Source]:
    return async_to_sync(searching.search)(tenant, collections, text, limit=limit)


def toward(axis: int, degrees: float) -> list[float]:
    """A unit vector at `degrees` from the question's, tilted towards `axis`."""
    question = embedding("How do I replace the seal?")
    other = [0.0] * DIMENSION
    other[axis] = 1.0
    along = sum(a * b for a, b in zip(question, other, strict=True))
    other = [b - along * a for a, b in zip(question, other, strict=True)]
    length = math.hypot(*other)
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees)) / length
    return [cos * a + sin * b for a, b in zip(question, other, strict=True)]


@pytest.fixture
def document(acme: Tenant, manuals: Collection) -> Document:
    return make_document(tenant=acme, collection=manuals, title="Pump manual")


def test_the_nearest_come_first_all_of_them(acme: Tenant, manuals: Collection, document: Document) -> None:
    angles = list(range(1, 61))
    random.Random(7).shuffle(angles)
    for angle in angles:
        make_passage(tenant=acme, document=document, text=f"No. {angle}", vector=toward(angle, angle))
    found = find(acme, manuals, limit=50)
    assert [source.text for source in found] == [f"No. {angle}" for angle in range(1, 51)]
    assert [source.n for source in found] == list(range(1, 51))


def test_a_source_tells_where_it_stands(acme: Tenant, manuals: Collection, document: Document) -> None:
    passage = make_passage(
        tenant=acme, document=document, text="Unscrew it.", heading=["Service", "Seal"], page=12, vector=toward(1, 1)
    )
    (source,) = find(acme, manuals)
    assert source == Source(
        n=1,
        chunk=str(passage.pk),
        document=str(document.pk),
        title="Pump manual",
        heading=["Service", "Seal"],
        page=12,
        text="Unscrew it.",
        score=source.score,
    )


def test_words_find_what_no_vector_is_near_to(acme: Tenant, manuals: Collection, document: Document) -> None:
    for angle in range(100):
        make_passage(tenant=acme, document=document, text=f"No. {angle}", vector=toward(angle, 1 + angle / 10))
    make_passage(tenant=acme, document=document, text="Error E4711 means a stuck rotor.", vector=toward(200, 170))
    question = "The display of our pump has been showing the code E4711 since yesterday, can anybody help us?"
    assert "E4711" in " ".join(source.text for source in find(acme, manuals, text=question, limit=3))


def test_a_rare_word_counts_more_than_common_ones(acme: Tenant, manuals: Collection, document: Document) -> None:
    for n in range(60):
        make_passage(
            tenant=acme, document=document, text=f"Error {n}: the meaning of this error, and what errors mean."
        )
    make_passage(tenant=acme, document=document, text="E05: the door stands open.")
    assert find(acme, manuals, text="What does the error E05 mean?")[0].text == "E05: the door stands open."


@pytest.mark.parametrize("identifier", ["E05", "x-request-id", "PARLEY_HOME"])
def test_an_identifier_finds_its_passage(
    acme: Tenant, manuals: Collection, document: Document, identifier: str
) -> None:
    for n in range(60):
        make_passage(tenant=acme, document=document, text=f"Parley {n}: which request, what setting, which header?")
        make_passage(
            tenant=acme, document=document, text=f"Setting {n} of x is the id of your home, a header set at x."
        )
    make_passage(tenant=acme, document=document, text=f"Here stands `{identifier}`.")
    Document.objects.filter(pk=document.pk).update(passages=121)  # rarity is judged by it
    question = f"What is the header or setting {identifier} set to?"
    assert find(acme, manuals, text=question)[0].text == f"Here stands `{identifier}`."


def test_rarity_is_judged_within_what_is_searched(
    acme: Tenant, globex: Tenant, manuals: Collection, document: Document
) -> None:
    """`seal` is rare among the manuals, however often others write it, and `rotor` common, however rarely they do."""
    for tenant, collection in (
        (acme, create_collection(acme, name="Other")),
        (globex, create_collection(globex, name="A")),
    ):
        other = make_document(tenant=tenant, collection=collection)
        for n in range(60):
            make_passage(tenant=tenant, document=other, text=f"Seal {n}.")
    for n in range(20):
        make_passage(tenant=acme, document=document, text=f"The rotor {n}, a rotor.")
        make_passage(tenant=acme, document=document, text=f"The seal {n}.", live=False)
    make_passage(tenant=acme, document=document, text="Among so many other things, this speaks of a seal.")
    assert "seal" in find(acme, manuals, text="rotor seal")[0].text


def test_a_heading_decides_between_passages_with_the_same_words(
    acme: Tenant, manuals: Collection, document: Document
) -> None:
    for n in range(50):
        make_passage(tenant=acme, document=document, text=f"Number {n} mentions a seal.")
    make_passage(tenant=acme, document=document, text="Number 51 is about it.", heading=["The seal"])
    assert find(acme, manuals, text="seal", limit=1)[0].heading == ["The seal"]


def test_a_question_may_be_as_long_as_it_likes(acme: Tenant, manuals: Collection, document: Document) -> None:
    """Its rarest words decide: hundreds that are everywhere do not add up to more."""
    common = " ".join(f"word{n}" for n in range(500))
    for n in range(100):
        make_passage(tenant=acme, document=document, text=f"{common} {n}")
    make_passage(tenant=acme, document=document, text="Replace the seal.")
    question = f"{common} seal? {' '.join(f'unknown{n}' for n in range(20_000))}"
    assert find(acme, manuals, text=question)[0].text == "Replace the seal."


def test_both_kinds_of_evidence_beat_one(acme: Tenant, manuals: Collection, document: Document) -> None:
    make_passage(tenant=acme, document=document, text="Somewhere near.", vector=toward(1, 1))
    make_passage(tenant=acme, document=document, text="Replace the seal so.", vector=toward(2, 2))
    make_passage(tenant=acme, document=document, text="The seal, the seal, replace the seal!", vector=toward(3, 90))
    assert find(acme, manuals)[0].text == "Replace the seal so."


def test_a_text_is_shown_once(acme: Tenant, manuals: Collection, document: Document) -> None:
    for angle in range(200):  # far more copies than candidates are fetched at first
        make_passage(
            tenant=acme,
            document=document,
            text="Replace  the seal." if angle % 2 else "Replace the seal.",
            vector=toward(1, 1 + angle / 1000),
        )
    for angle in range(5):
        make_passage(tenant=acme, document=document, text=f"No. {angle}", vector=toward(2, 60 + angle))
    found = find(acme, manuals)
    assert [" ".join(source.text.split()) for source in found] == [
        "Replace the seal.",
        *(f"No. {angle}" for angle in range(5)),
    ]


def test_never_fewer_than_there_are(acme: Tenant, globex: Tenant, manuals: Collection, document: Document) -> None:
    """A filter must narrow the search, not its result: nearer rows of others crowd nobody out."""
    other_collection = create_collection(acme, name="Other")
    for tenant, collection in ((acme, other_collection), (globex, create_collection(globex, name="Manuals"))):
        nearer = make_document(tenant=tenant, collection=collection)
        for angle in range(150):
            make_passage(
                tenant=tenant, document=nearer, text=f"Replace the seal {angle}", vector=toward(1, angle / 100)
            )
    for angle in range(150):
        make_passage(
            tenant=acme,
            document=document,
            text=f"Not live, replace the seal {angle}",
            live=False,
            vector=toward(2, angle / 100),
        )
    for angle in range(6):
        make_passage(tenant=acme, document=document, text=f"No. {angle}", vector=toward(3, 80 + angle))
    assert [source.text for source in find(acme, manuals)] == [f"No. {angle}" for angle in range(6)]


def test_nothing_of_another_tenant_is_found_even_in_its_own_collection(
    acme: Tenant, globex: Tenant, manuals: Collection, document: Document
) -> None:
    make_passage(tenant=acme, document=document, text="Replace the seal.", vector=toward(1, 1))
    assert find(globex, manuals) == []
    with tenant_scope(acme):
        manuals = find_collection(acme, "manuals")
    assert find(globex, manuals) == []


def test_without_vectors_words_alone_are_searched(
    acme: Tenant, manuals: Collection, document: Document, embeddings: FakeInference
) -> None:
    embeddings.script(Reply(kind="embedding", status=500, always=True))
    make_passage(tenant=acme, document=document, text="Replacing seals is easy.", vector=toward(1, 90))
    make_passage(tenant=acme, document=document, text="Nothing of that kind.", vector=toward(1, 1))
    assert [source.text for source in find(acme, manuals)] == ["Replacing seals is easy."]


def test_an_endpoint_that_changed_its_model_is_not_asked(
    acme: Tenant, manuals: Collection, document: Document, endpoint: Endpoint, embeddings: FakeInference
) -> None:
    make_passage(tenant=acme, document=document, text="Replace the seal.", vector=toward(1, 90))
    endpoint.model = "another"
    endpoint.save()
    with tenant_scope(acme):
        manuals = find_collection(acme, "manuals")
    assert [source.text for source in find(acme, manuals)] == ["Replace the seal."]
    assert embeddings.requests == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "the of and",
        "\0",
        "'; DROP TABLE x; --",
        "a & b | !c <-> 'd",
        r"o'clock \\ C:\\it's /a'b",
        "%s %(x)s",
        "😀" * 500,
    ],
)
def test_no_question_breaks_a_search(acme: Tenant, manuals: Collection, document: Document, text: str) -> None:
    make_passage(tenant=acme, document=document, text="Replace the seal.", vector=toward(1, 10))
    assert [source.text for source in find(acme, manuals, text=text)] == ["Replace the seal."]


def test_no_collection_finds_nothing(acme: Tenant) -> None:
    assert find(acme) == []


def test_collections_with_different_indexes_are_searched_together(
    acme: Tenant, manuals: Collection, document: Document, embeddings: FakeInference
) -> None:
    make_passage(tenant=acme, document=document, text="Replace the seal.", vector=toward(1, 5))
    embeddings.script(Reply(kind="embedding", model="small", dimension=8, always=True))
    small = make_endpoint(embeddings.base_url, kind=Endpoint.Kind.EMBEDDING, model="small", dimension=8)
    other = make_collection(tenant=acme, index=make_index(tenant=acme, endpoint=small))
    in_other = make_document(tenant=acme, collection=other)
    vector = embedding("How do I replace the seal?", 8)
    make_passage(tenant=acme, document=in_other, text="Of eight numbers.", vector=vector)
    gateway.forget()
    assert {source.text for source in find(acme, manuals, other)} == {"Replace the seal.", "Of eight numbers."}


def test_a_swap_is_seen_whole_or_not_at_all(acme: Tenant, manuals: Collection) -> None:
    def text(version: int) -> bytes:
        parts = (" ".join(f"seal{n} edition{version} of{part}." for n in range(40)) for part in range(6))
        return "".join(f"# Part {n}\n\n{part}\n\n" for n, part in enumerate(parts)).encode()

    document, _ = add_document(acme, manuals, name="manual.md", content=text(0))
    ingest(acme.pk, document.pk)
    expected = Chunk.objects.for_tenant(acme).filter(live=True).count()
    seen: list[list[Source]] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.append(find(acme, manuals, text="seal1 edition", limit=50))
        connections.close_all()

    reader = threading.Thread(target=read)
    reader.start()
    for version in range(1, 9):
        document = replace_document(acme, document, name="manual.md", content=text(version))
        ingest(acme.pk, document.pk)
    done.set()
    reader.join()
    assert len(seen) > 8
    for sources in seen:
        editions = {word for source in sources for word in source.text.split() if word.startswith("edition")}
        assert len(editions) == 1
        assert len(sources) == expected


def test_a_vector_of_another_dimension_cannot_be_stored(acme: Tenant, manuals: Collection, document: Document) -> None:
    passage = make_passage(tenant=acme, document=document, text="Replace the seal.")
    for dimension in (3, DIMENSION):
        with pytest.raises(IntegrityError):
            Embedding.objects.create(
                tenant=acme,
                index=manuals.index,
                chunk=passage,
                collection=manuals,
                dimension=dimension,
                vector=[1.0, 0.0, 0.0],
            )


def test_words_that_are_spelled_otherwise_find_their_passage(
    acme: Tenant, manuals: Collection, document: Document
) -> None:
    for n in range(60):
        make_passage(tenant=acme, document=document, text=f"Number {n} tells of rotors and of valves.")
    make_passage(tenant=acme, document=document, text="The impeller is set by PARLEY_IMPELLER_SPEED.")
    for question in ("impelller", "PARLEY_IMPELER_SPEED", "what is an imppeller?"):
        assert "impeller" in find(acme, manuals, text=question)[0].text, question


def test_no_single_document_has_all_the_say(acme: Tenant, manuals: Collection, document: Document) -> None:
    for angle in range(1, 21):
        make_passage(tenant=acme, document=document, text=f"No. {angle}", vector=toward(angle, angle))
    other = make_document(tenant=acme, collection=manuals, title="Another")
    make_passage(tenant=acme, document=other, text="Of another.", vector=toward(30, 6.5))  # in the seventh place
    assert "Another" in {source.title for source in find(acme, manuals, limit=6)}


@pytest.mark.parametrize(
    "text",
    ["x", "seal " * 10_000, "מה זה אטם؟ ما هو", "1' OR '1'='1' UNION SELECT *", "\u202eseal", "%_%_%", "-.-.-.-"],
)
def test_odd_questions_have_an_honest_answer(acme: Tenant, manuals: Collection, document: Document, text: str) -> None:
    make_passage(tenant=acme, document=document, text="Replace the seal.", vector=toward(1, 10))
    assert [source.text for source in find(acme, manuals, text=text)] == ["Replace the seal."]
