"""The admin's page that tries a search: what it tells, and what marking right or wrong makes of it."""

from __future__ import annotations

import io
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from apps.knowledge.ingest import delete_document
from apps.knowledge.models import Collection, Document, Judgement
from apps.tenants.models import Membership, Tenant
from tests.apps.admin_world import logged_in
from tests.factories import make_document, make_member, make_passage
from tests.fakes.inference import FakeInference, Reply, embedding

TEXT = "Replace the rubber seal."


@pytest.fixture
def document(acme: Tenant, manuals: Collection) -> Document:
    document = make_document(tenant=acme, collection=manuals, title="Pump <b>manual</b>", passages=2)
    make_passage(tenant=acme, document=document, text=TEXT, heading=["Care", "Seal"], vector=embedding(TEXT))
    make_passage(tenant=acme, document=document, text="Rubber <script>x</script>.", vector=embedding("otherwise"))
    return document


@pytest.fixture
def bob(acme: Tenant) -> Client:
    return logged_in(make_member(tenant=acme))


def address(collection: Collection) -> str:
    return reverse("admin:knowledge_collection_search", args=[collection.pk])


def mark(client: Client, collection: Collection, document: Document, verdict: str, **more: Any) -> Any:
    chunk = document.chunks.order_by("position").first()
    return client.post(
        address(collection), {"q": "rubber seal", "chunk": str(chunk and chunk.pk), "verdict": verdict, **more}
    )


def evaluate() -> str:
    out = io.StringIO()
    call_command("evaluate", "--marked", "--tenant", "acme", "--collection", "manuals", stdout=out)
    return out.getvalue()


@pytest.mark.usefixtures("document")
def test_it_tells_what_is_found_and_why(bob: Client, manuals: Collection) -> None:
    assert "Right" not in bob.get(address(manuals)).content.decode()
    page = bob.get(address(manuals), {"q": "rubber seal"}).content.decode()
    assert "Pump &lt;b&gt;manual&lt;/b&gt; › Care › Seal" in page
    assert "No. 1 by meaning, no. 1 by words." in page
    assert "<script>x" not in page
    assert page.count('value="wrong"') == 2


@pytest.mark.usefixtures("document")
def test_it_says_what_was_left_out(bob: Client, manuals: Collection, embeddings: FakeInference) -> None:
    embeddings.script(Reply(kind="embedding", status=500, always=True))
    assert "vector: model_" in bob.get(address(manuals), {"q": "rubber seal"}).content.decode()


@pytest.mark.usefixtures("document")
@pytest.mark.parametrize("question", ["", " ", "%s", "<img src=x>", "x" * 20_000])
def test_no_question_breaks_it(bob: Client, manuals: Collection, question: str) -> None:
    assert bob.get(address(manuals), {"q": question}).status_code == 200


def test_what_is_marked_is_a_set_to_evaluate(bob: Client, manuals: Collection, document: Document) -> None:
    with pytest.raises(CommandError, match="is an answer known yet"):
        evaluate()
    assert mark(bob, manuals, document, "wrong").status_code == 302
    assert mark(bob, manuals, document, "right").status_code == 302  # changed one's mind
    judgement = Judgement.objects.get()
    assert (judgement.right, judgement.section, judgement.question) == (True, "Seal", "rubber seal")
    assert "Take it back" in bob.get(address(manuals), {"q": "rubber  seal"}).content.decode()
    said = evaluate()
    assert "1 judged queries" in said
    assert [line.split()[1:] for line in said.splitlines() if line.startswith("whole")] == [["1.000"] * 3]
    mark(bob, manuals, document, "unsaid")
    assert not Judgement.objects.exists()


def test_marks_go_with_their_document(acme: Tenant, bob: Client, manuals: Collection, document: Document) -> None:
    mark(bob, manuals, document, "right")
    delete_document(acme, document)
    assert not Judgement.objects.exists()


def test_what_cannot_be_marked_is_refused(bob: Client, manuals: Collection, document: Document) -> None:
    assert mark(bob, manuals, document, "right", chunk="x").status_code == 404
    assert mark(bob, manuals, document, "maybe").status_code == 404
    mark(bob, manuals, document, "right", q="x" * 501)
    mark(bob, manuals, document, "right", chunk=str(document.pk))
    assert not Judgement.objects.exists()


def test_who_only_reads_searches_and_marks_nothing(acme: Tenant, manuals: Collection, document: Document) -> None:
    reader = logged_in(make_member(tenant=acme, role=Membership.Role.ANALYST))
    assert 'value="right"' not in reader.get(address(manuals), {"q": "rubber seal"}).content.decode()
    assert mark(reader, manuals, document, "right").status_code in {403, 404}
    assert not Judgement.objects.exists()


def test_an_outsider_finds_no_such_page(globex: Tenant, manuals: Collection, document: Document) -> None:
    outsider = logged_in(make_member(tenant=globex))
    assert outsider.get(address(manuals), {"q": "seal"}).status_code in {302, 404}
    mark(outsider, manuals, document, "right")
    assert not Judgement.objects.exists()
