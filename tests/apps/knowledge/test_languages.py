"""Words are read by the language of their document, found out or given; a question, by the languages of those that may
answer it."""

from __future__ import annotations

from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connection
from django.utils import timezone

from apps.knowledge import lease
from apps.knowledge.embedding import FIRST_BATCH
from apps.knowledge.ingest import add_document, ingest, replace_document
from apps.knowledge.models import Chunk, Collection, Document
from apps.knowledge.search import find
from apps.tenants.models import Tenant
from apps.tenants.scoping import tenant_scope
from apps.usage.models import UsageRecord
from chatbot.languages import LANGUAGES, stemming
from tests.apps.knowledge.asking import client_of, post, refused, upload
from tests.apps.knowledge.ingesting import embedded, let_lease_run_out
from tests.environment import Backends
from tests.factories import make_collection, make_document, make_passage
from tests.fakes.inference import FakeInference, Reply

GERMAN = (
    "# Handbuch\n\nDie Dichtungen der Pumpe werden einmal im Jahr gewechselt. Zuerst wird das Ventil geschlossen, "
    "danach werden die vier Schrauben des Gehäuses gelöst. Alte Dichtungen dürfen nicht wieder verwendet werden."
)
ENGLISH = (
    "# Manual\n\nThe gaskets of the pump are replaced once a year. First the valve is closed, then the four screws of "
    "the housing are loosened. Old gaskets must not be used again."
)
FRENCH = (
    "# Manuel\n\nLes joints de la pompe sont remplacés une fois par an. Il faut d'abord fermer la vanne, puis "
    "desserrer les quatre vis du boîtier. Les anciens joints ne doivent pas être réutilisés."
)
CHINESE = "# 手册\n\n水泵的密封件每年更换一次。首先关闭阀门,然后松开外壳上的四个螺丝。旧的密封件不能再次使用。"


@pytest.fixture(autouse=True)
def words_alone(request: pytest.FixtureRequest) -> None:
    """No vector helps: what is found is found by its words."""
    if "embeddings" in request.fixturenames or "manuals" in request.fixturenames:
        fake: FakeInference = request.getfixturevalue("embeddings")
        fake.script(Reply(kind="embedding", when="?", status=500, always=True))


def ingested(tenant: Tenant, collection: Collection, text: str, **more: Any) -> Document:
    document, _ = add_document(tenant, collection, name="", content=text.encode(), **more)
    ingest(tenant.pk, document.pk)
    document.refresh_from_db()
    assert document.status == Document.Status.READY
    return document


def texts(tenant: Tenant, collection: Collection, question: str) -> list[str]:
    found = async_to_sync(find)(tenant, [collection], question)
    assert "vector: model_unavailable" in found.degraded or "vector: model_failed" in found.degraded
    return [hit.candidate.document for hit in found.hits if hit.candidate.worded]


@pytest.mark.parametrize(
    ("text", "stems", "question"),
    [
        (GERMAN, "german", "Wie wechselt man die Dichtung?"),
        (ENGLISH, "english", "How is a gasket replaced?"),
        (FRENCH, "french", "Comment remplacer un joint ?"),
        (CHINESE, "simple", "密封件怎么更换?"),
        ("日本語の説明書です。ポンプのパッキンは毎年交換してください。", "simple", "パッキンの交換?"),
        ("펌프의 개스킷은 매년 교체해야 합니다. 먼저 밸브를 닫으십시오.", "simple", "개스킷 교체?"),
        ("ต้องเปลี่ยนปะเก็นของปั๊มทุกปี ปิดวาล์วก่อน", "simple", "เปลี่ยนปะเก็นอย่างไร?"),
        ("تُستبدل حشيات المضخة مرة واحدة في السنة. أغلق الصمام أولاً ثم فك البراغي الأربعة.", "arabic", "ما هي المضخات?"),
        ("E4711 x7 9 __", "simple", "E4711?"),
    ],
    ids=["de", "en", "fr", "zh", "ja", "ko", "th", "ar", "none"],
)
def test_a_document_is_found_by_the_words_of_its_language(
    acme: Tenant, manuals: Collection, text: str, stems: str, question: str
) -> None:
    document = ingested(acme, manuals, text)
    ingested(acme, manuals, "Igel halten Winterschlaf. Sie fressen Käfer, Würmer und Schnecken in Gärten und Wäldern.")
    assert (document.stemming, document.language) == (stems, "")
    assert set(Chunk.objects.for_tenant(acme).filter(document=document).values_list("stemming", flat=True)) == {stems}
    assert texts(acme, manuals, question) == [str(document.pk)]


def test_one_question_finds_documents_of_several_languages(acme: Tenant, manuals: Collection) -> None:
    expected = {str(ingested(acme, manuals, text).pk) for text in (GERMAN, ENGLISH, FRENCH, CHINESE)}
    assert set(texts(acme, manuals, "Dichtung gasket joint 密封件?")) == expected


def test_stop_words_are_those_of_the_language(acme: Tenant, manuals: Collection) -> None:
    """`die` says nothing in German and much in English."""
    ingested(acme, manuals, GERMAN)
    assert texts(acme, manuals, "die der und?") == []
    document = ingested(acme, manuals, "Plants die when they are never watered, and nobody knows why this is so.")
    assert texts(acme, manuals, "die?") == [str(document.pk)]


def test_the_language_can_be_given_and_given_anew(acme: Tenant, manuals: Collection, embeddings: FakeInference) -> None:
    client = client_of(acme)
    added = upload(client, content=ENGLISH.encode(), language="de").json()
    assert (added["language"], added["stemming"]) == ("de", "english")  # nothing is read yet
    path = f"/api/v1/documents/{added['id']}"

    def stems() -> tuple[str, str, str]:
        ingest(acme.pk, added["id"])
        said = client.get(path).json()
        return said["status"], said["language"], said["stemming"]

    assert stems() == ("ready", "de", "german")
    asked = len(embeddings.requests)
    for language, expected in (("fr", "french"), ("other", "simple"), ("", "english"), ("", "english")):
        answer = client.patch(path, {"language": language, "tags": ["x"]}, content_type="application/json")
        assert answer.status_code == 200
        assert stems() == ("ready", language, expected)
    assert len(embeddings.requests) == asked  # its vectors are those that it had
    for wrong in ("german", "xx", "DE", 1, None, ["de"], "de\0"):
        body = {"language": wrong}
        refused(client.patch(path, body, content_type="application/json"), 400, "language")
        refused(post(client, "documents", {"collection": "manuals", "text": "x", **body}), 400, "language")


def test_it_is_found_as_before_until_it_is_read_anew(acme: Tenant, manuals: Collection) -> None:
    document = ingested(acme, manuals, GERMAN)
    client_of(acme).patch(f"/api/v1/documents/{document.pk}", {"language": "other"}, content_type="application/json")
    assert texts(acme, manuals, "Dichtung?") == [str(document.pk)]
    ingest(acme.pk, document.pk)
    assert texts(acme, manuals, "Dichtung?") == []
    assert texts(acme, manuals, "Dichtungen?") == [str(document.pk)]


@pytest.mark.parametrize("told", [("", "fr", "french"), ("de", "", "english")], ids=["given", "found"])
def test_a_language_given_on_the_way_costs_nothing(
    acme: Tenant, manuals: Collection, embeddings: FakeInference, told: tuple[str, str, str]
) -> None:
    """A worker that is at it goes on, with the vectors that there are and the pages that are paid."""
    first, later, expected = told
    text = "".join(f"# Part {part}\n\n" + ENGLISH.partition("\n\n")[2] * 4 + "\n\n" for part in range(20))
    document, _ = add_document(acme, manuals, name="", content=text.encode(), language=first)
    embeddings.recover()
    embeddings.script(Reply(kind="embedding"), Reply(kind="embedding", status=500, always=True))
    ingest(acme.pk, document.pk)
    sent = embedded(embeddings)[:FIRST_BATCH]
    billed = UsageRecord.objects.for_tenant(acme).filter(bill="once", pages__gt=0)
    assert billed.count() == 1
    embeddings.recover()
    embeddings.requests.clear()
    Document.objects.filter(pk=document.pk).update(next_attempt_at=timezone.now())
    with tenant_scope(acme):
        held = lease.claim(acme.pk, document.pk)
    assert held is not None
    changed = client_of(acme).patch(
        f"/api/v1/documents/{document.pk}", {"language": later}, content_type="application/json"
    )
    assert changed.status_code == 200
    with tenant_scope(acme):
        lease.write(held)  # still its worker's
    let_lease_run_out(document)
    ingest(acme.pk, document.pk)
    document.refresh_from_db()
    assert (document.status, document.language, document.stemming) == ("ready", later, expected)
    rows = Chunk.objects.for_tenant(acme).filter(document=document)
    assert set(rows.values_list("stemming", flat=True)) == {expected}
    assert len(sent) + len(embedded(embeddings)) == document.passages
    assert billed.count() == 1


def test_the_release_before_may_make_passages_live(
    acme: Tenant, manuals: Collection, embeddings: FakeInference
) -> None:
    """It does not say by which language their words were read."""
    embeddings.script(Reply(kind="embedding", status=500, always=True))
    document, _ = add_document(acme, manuals, name="", content=GERMAN.encode())
    ingest(acme.pk, document.pk)
    with tenant_scope(acme):
        live = Chunk.objects.for_tenant(acme).filter(document=document).publish()
        Document.objects.filter(pk=document.pk).update(status="ready", passages=live)
    assert texts(acme, manuals, "Dichtungen?") == [str(document.pk)]
    replace_document(acme, document, name="manual.md", content=FRENCH.encode())
    ingest(acme.pk, document.pk)
    assert texts(acme, manuals, "Dichtungen?") == [str(document.pk)]  # until the new ones are live


def test_a_replaced_document_is_read_in_its_new_language(acme: Tenant, manuals: Collection) -> None:
    document = ingested(acme, manuals, GERMAN)
    replace_document(acme, document, name="manual.md", content=FRENCH.encode())
    ingest(acme.pk, document.pk)
    document.refresh_from_db()
    assert document.stemming == "french"
    assert texts(acme, manuals, "joint?") == [str(document.pk)]


def test_what_the_release_before_stores_is_read_as_its_document_is(acme: Tenant, manuals: Collection) -> None:
    """It names neither column; what stood there before it, was English."""
    document = make_document(tenant=acme, collection=manuals)
    make_passage(tenant=acme, document=document, text="The gaskets are new.")
    assert texts(acme, manuals, "gasket?") == [str(document.pk)]
    german = make_document(tenant=acme, collection=manuals, stemming="german")
    make_passage(tenant=acme, document=german, text="Die Dichtungen sind neu.")
    assert texts(acme, manuals, "Dichtung?") == [str(german.pk)]


def test_words_are_read_whoever_writes_passages(servers: Backends, acme: Tenant, manuals: Collection) -> None:
    """Those who load rows past all other triggers, too, as a column that is generated would have it."""
    document = make_document(tenant=acme, collection=manuals, stemming="german")
    servers.superuser.execute(
        "INSERT INTO knowledge_chunk (id, tenant_id, document_id, collection_id, live, position, text, heading, tokens,"
        " digest) VALUES (gen_random_uuid(), %s, %s, %s, true, 1, 'Die Dichtungen', '{}', 1, '')",
        (acme.pk, document.pk, manuals.pk),
    )
    assert texts(acme, manuals, "Dichtung?") == [str(document.pk)]


def test_every_language_has_its_configuration(servers: Backends) -> None:
    there = {name for (name,) in servers.superuser.execute("SELECT cfgname FROM pg_ts_config").fetchall()}
    assert {stemming(language) for language in LANGUAGES} <= there


ODD = {
    "empty": "",
    "one letter": "ß",
    "long": "Dichtung gasket 密封件 " * 3_400,
    "stop words": "die der und the of and le la les et 的 في من",
    "emoji": "🙂👩‍👩‍👧🏳️‍🌈" * 40,
    "right to left": "\u202eما هي الحشية؟ \u202c מהו אטם \u200f?",
    "SQL": "'; DROP TABLE knowledge_chunk; -- 1' OR '1'='1' :* & | ! <-> \\ %s $statement$",
    "NUL": "Dich\0tung \0",
    "unspaced": "密封件更换" * 2_000,
    "marks": "e\u0301\u0301\u0301 \u0e48\u0e49 \ufffd \u200b\u2060",
}


@pytest.mark.parametrize("question", ODD.values(), ids=ODD.keys())
def test_no_question_breaks_a_search_in_any_language(acme: Tenant, manuals: Collection, question: str) -> None:
    for language in ("en", "de", "ar", "ta", "other"):
        collection = make_collection(tenant=acme, index=manuals.index)
        document = make_document(tenant=acme, collection=collection, stemming=stemming(language), passages=1)
        make_passage(tenant=acme, document=document, text="Dichtung gasket 密封件 الحشية", stemming=stemming(language))
        found = async_to_sync(find)(acme, [collection], question)
        assert [said for said in found.degraded if not said.startswith("vector: model_")] == []
        assert len(found.hits) <= 1
    # PostgreSQL reads it by the configuration of every language.
    assert all(words_of(stemming(language), question.replace("\0", " ")) is not None for language in LANGUAGES)
    searched = post(client_of(acme), "search", {"collection": "manuals", "query": question[:1000] or "x"})
    assert searched.status_code in {200, 400}, searched.content
    assert searched.status_code == 200 or "\0" in question
    refused(post(client_of(acme), "search", {"collection": "manuals", "query": "密封\ud83d件"}), 400)


def test_it_is_told_where_spellings_are_not_looked_for(acme: Tenant, manuals: Collection) -> None:
    document = make_document(tenant=acme, collection=manuals, passages=50_000)
    make_passage(tenant=acme, document=document, text="The impeller turns.")
    for passages, degraded, found in ((50_000, [], 1), (50_001, ["trigram: too_many_passages"], 0)):
        Document.objects.filter(pk=document.pk).update(passages=passages)
        results = async_to_sync(find)(acme, [manuals], "impelller?")
        assert [said for said in results.degraded if not said.startswith("vector")] == degraded
        assert len(results.hits) == found
        known = async_to_sync(find)(acme, [manuals], "the impellers?")  # stands there, so nothing is missing
        assert [said for said in known.degraded if not said.startswith("vector")] == []


def words_of(stems: str, text: str) -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT tsvector_to_array(words_of(%s, %s))", [stems, text])
        return set(cursor.fetchone()[0])


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("更换密封件", {"更换", "换密", "密封", "封件", "件"}),
        ("件", {"件"}),
        ("E4711更换, seal密封x", {"e4711", "更换", "换", "seal", "密封", "封", "x"}),
        ("更换 密封", {"更换", "密封", "换", "封"}),
        ("plain words", {"plain", "words"}),
        ("", set()),
    ],
)
def test_texts_without_spaces_are_read_in_pairs(text: str, pairs: set[str]) -> None:
    assert words_of("simple", text) == pairs
