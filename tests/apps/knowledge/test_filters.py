"""Searches narrowed by what is known of documents: each combination against plain Python, and what is refused."""

from __future__ import annotations

import datetime
import itertools
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.test import Client
from django.test.client import BOUNDARY, MULTIPART_CONTENT, encode_multipart
from hypothesis import given
from hypothesis import strategies as st

from apps.knowledge.collections import create_collection
from apps.knowledge.filters import Filters, read_filters
from apps.knowledge.models import Collection, Document
from apps.knowledge.search import find
from apps.tenants.models import Tenant
from chatbot.errors import InvalidRequest
from tests.apps.knowledge.asking import client_of, post, refused
from tests.factories import make_document, make_passage
from tests.fakes.inference import embedding

DAY = datetime.timedelta(days=1)
NOON = datetime.datetime(2026, 3, 10, 12, tzinfo=datetime.UTC)
CHOICES: dict[str, list[Any]] = {
    "tags": [["red"], ["red", "round"]],
    "source": ["a.md", "https://docs.example/guide/"],
    "after": ["2026-03-10"],
    "before": ["2026-03-11"],
    "department": ["sales"],
    "level": [2],
}


@pytest.fixture
def documents(acme: Tenant, manuals: Collection) -> list[Document]:
    manuals.fields = ["department", "level", "draft"]
    manuals.save()
    made = []
    kinds = itertools.product(([], ["red"], ["round", "red"]), (-1, 0, 1), ({}, {"department": "sales", "level": 2}))
    for number, (tags, days, values) in enumerate(kinds):
        source: dict[str, str] = [
            {"file_name": "a.md"},
            {"file_name": "", "source_url": f"https://docs.example/guide/{number}"},
            {"file_name": "b.md"},
            {"file_name": "", "source_url": f"https://docs.example/blog/{number}"},
        ][number % 4]
        document = make_document(
            tenant=acme, collection=manuals, tags=tags, fields=values, created=NOON + days * DAY, **source
        )
        text = f"Replace the seal number {number}."
        make_passage(tenant=acme, document=document, text=text, vector=embedding(text))
        made.append(document)
    return made


def holds(document: Document, asked: dict[str, Any]) -> bool:
    """What the documentation says, in plain Python."""
    day = document.created.date()
    return all(
        {
            "tags": lambda value: set(value) <= set(document.tags),
            "source": lambda value: document.file_name == value or document.source_url.startswith(value),
            "after": lambda value: day >= datetime.date.fromisoformat(value),
            "before": lambda value: day < datetime.date.fromisoformat(value),
        }.get(key, lambda value, key=key: document.fields.get(key) == value)(value)
        for key, value in asked.items()
    )


def test_every_combination_finds_just_the_documents_for_which_it_holds(
    acme: Tenant, manuals: Collection, documents: list[Document]
) -> None:
    for chosen in itertools.product(*([None, *values] for values in CHOICES.values())):
        asked = {key: value for key, value in zip(CHOICES, chosen, strict=True) if value is not None}
        found = async_to_sync(find)(acme, [manuals], "Replace the seal", limit=50, filters=read_filters(manuals, asked))
        expected = {str(document.pk) for document in documents if holds(document, asked)}
        assert {hit.candidate.document for hit in found.hits} == expected, asked


TYPED: list[Any] = [True, False, 0, 1, 1.0, -0.5, 1e300, "1", "true", "", "null", "é", "a" * 200, 2**53]


def same(stored: Any, asked: Any) -> bool:
    """As JSON has it: true is no 1, but 1.0 is."""
    return isinstance(stored, bool) == isinstance(asked, bool) and stored == asked


def test_values_are_told_apart_by_their_kind(acme: Tenant, manuals: Collection) -> None:
    manuals.fields = ["value"]
    manuals.save()
    made = {}
    for number, value in enumerate(TYPED):
        document = make_document(tenant=acme, collection=manuals, fields={"value": value})
        make_passage(tenant=acme, document=document, text=f"Replace seal {number}.", vector=embedding("seal"))
        made[str(document.pk)] = value
    for asked in (value for value in TYPED if value != ""):
        filters = read_filters(manuals, {"value": asked})
        found = async_to_sync(find)(acme, [manuals], "seal", limit=50, filters=filters)
        expected = {pk for pk, value in made.items() if same(value, asked)}
        assert {hit.candidate.document for hit in found.hits} == expected, asked


def test_filters_hold_in_every_list_and_in_several_collections(
    acme: Tenant, globex: Tenant, manuals: Collection
) -> None:
    """What is found by its words or its spelling alone is narrowed as what is near is, in each language."""
    other = create_collection(acme, name="Other")
    outside = create_collection(globex, name="Manuals")
    expected = set()
    for collection, stemming in itertools.product((manuals, other, outside), ("german", "english", "simple")):
        for tags in (["red"], ["blue"]):
            document = make_document(tenant=collection.tenant, collection=collection, tags=tags, stemming=stemming)
            text = f"Dichtung gasket impeller {stemming} {tags[0]} {collection.pk}"
            make_passage(tenant=collection.tenant, document=document, text=text, stemming=stemming)
            if tags == ["red"] and collection != outside:
                expected.add(str(document.pk))
    for question in ("Dichtung gasket", "imppeller"):
        found = async_to_sync(find)(acme, [manuals, other], question, limit=50, filters=Filters(tags=("red",)))
        assert {hit.candidate.document for hit in found.hits} == expected, question


def test_the_door_narrows_and_refuses(acme: Tenant, manuals: Collection, documents: list[Document]) -> None:
    client = client_of(acme)

    def ask(**asked: Any) -> Any:
        return post(client, "search", {"collection": "manuals", "query": "seal", "filter": asked})

    found = ask(tags=["red"], department="sales").json()["results"]
    assert found
    assert {source["document"] for source in found} <= {str(d.pk) for d in documents if "red" in d.tags and d.fields}
    said = refused(ask(colour="red"), 400, "filter")["fields"]["filter"]
    assert said == (
        "There is no 'colour' to filter by. Allowed are tags, source, after, before, department, level, draft."
    )
    for wrong in (
        {"tags": "red"}, {"tags": [1]}, {"tags": [""]}, {"tags": ["\0"]}, {"source": 1}, {"after": "yesterday"},
        {"before": 1}, {"department": None}, {"department": ["sales"]}, {"department": {"a": 1}}, {"level": "x" * 201},
        {"tenant_id": "x"}, {"document__tenant": "x"},
    ):  # fmt: skip
        refused(ask(**wrong), 400, "filter")


def test_documents_get_tags_and_values(acme: Tenant, manuals: Collection) -> None:
    client = client_of(acme)
    document = make_document(tenant=acme, collection=manuals)
    path = f"/api/v1/documents/{document.pk}"

    def change(**changes: Any) -> Any:
        return client.patch(path, changes, content_type="application/json")

    refused(change(fields={"department": "sales"}), 400, "fields")
    declared = client.patch("/api/v1/collections/manuals", {"fields": ["department"]}, content_type="application/json")
    assert declared.json()["fields"] == ["department"]
    changed = change(tags=["red", "red"], fields={"department": "sales"}).json()
    assert (changed["tags"], changed["fields"]) == (["red"], {"department": "sales"})
    assert change(tags=[]).json()["fields"] == {"department": "sales"}
    for wrong in ({"tags": [""]}, {"tags": ["x" * 51]}, {"tags": ["x"] * 51}):
        assert change(**wrong).status_code == 400
    refused(change(fields={"other": 1}), 400, "fields")
    form = encode_multipart(BOUNDARY, {"tags": "{}"})
    assert client.patch(path, form, content_type=MULTIPART_CONTENT).status_code == 415
    for name in ("Department", "1st", "tags", "a b", "x" * 41):
        answer = client.patch("/api/v1/collections/manuals", {"fields": [name]}, content_type="application/json")
        assert answer.status_code == 400, name


def test_an_outsider_changes_no_tags(acme: Tenant, globex: Tenant, manuals: Collection) -> None:
    document = make_document(tenant=acme, collection=manuals)
    outsider: Client = client_of(globex)
    answer = outsider.patch(f"/api/v1/documents/{document.pk}", {"tags": ["mine"]}, content_type="application/json")
    refused(answer, 404)
    document.refresh_from_db()
    assert document.tags == []


VALUES = st.none() | st.booleans() | st.floats() | st.text(max_size=5)


@given(st.dictionaries(st.sampled_from([*CHOICES, "other"]), VALUES | st.lists(VALUES, max_size=2), max_size=3))
def test_whatever_is_asked_is_read_or_refused(asked: dict[str, Any]) -> None:
    collection = Collection(fields=["department", "level"])
    try:
        filters = read_filters(collection, asked)
    except InvalidRequest as error:
        refusal = error.fields
    else:
        refusal = {"filter": ""}
        assert bool(filters) == bool({key: value for key, value in asked.items() if value != []})
    assert list(refusal) == ["filter"]
