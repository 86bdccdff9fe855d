"""The dashboard's numbers, in the person's scope and with a number of queries that no row count changes."""

from __future__ import annotations

import datetime as dt
import json

import pytest
from django.contrib import admin
from django.db import connections
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from apps.conversations.models import Conversation, Turn
from apps.inference.models import Endpoint
from apps.knowledge.models import Document
from tests import factories
from tests.apps.admin_world import World, logged_in, make_turn, make_world

pytestmark = pytest.mark.usefixtures("database")
INDEX = "admin:index"


@pytest.fixture
def world() -> World:
    return make_world()


def test_numbers_are_of_the_persons_tenants(world: World) -> None:
    for user, turns in ((world.alice, 1), (world.operator, 2)):
        context = logged_in(user).get(reverse(INDEX)).context
        assert (context["today"], context["week"], context["tokens"]) == (turns, turns, turns * 120)
        assert [state[:2] for state in context["states"]] == [("Finished", turns)]
        assert context["documents"] == [("Ready", turns)]
        assert context["first_token_ms"] == 80.0


def test_days_and_states(world: World) -> None:
    conversation = Conversation.objects.for_tenant(world.acme).get()
    endpoint = Endpoint.objects.get(name="acme chat")
    for days_ago, state in ((1, "failed"), (6, "stopped"), (7, "finished")):
        turn = make_turn(conversation, text="again", endpoint=endpoint)
        Turn.objects.filter(pk=turn.pk).update(
            created=timezone.now() - dt.timedelta(days=days_ago), state=state, first_token_ms=200.0
        )
    context = logged_in(world.alice).get(reverse(INDEX)).context
    assert (context["today"], context["week"]) == (1, 3)
    assert {label: count for label, count, _ in context["states"]} == {"Finished": 1, "Stopped": 1, "Failed": 1}
    assert context["first_token_ms"] == 200.0
    chart = json.loads(context["chart"])
    by_state = {dataset["label"]: dataset["data"] for dataset in chart["datasets"]}
    assert by_state["Failed"] == [0, 0, 0, 0, 0, 1, 0]
    assert by_state["Stopped"] == [1, 0, 0, 0, 0, 0, 0]


def test_failed_documents_are_linked_with_their_reason(world: World) -> None:
    document = Document.objects.for_tenant(world.acme).get()
    Document.objects.filter(pk=document.pk).update(
        status="failed", failure_code="parser", failure_message="It is protected by a password."
    )
    text = logged_in(world.bob).get(reverse(INDEX)).content.decode()
    assert reverse("admin:knowledge_document_change", args=(document.pk,)) in text
    assert "It is protected by a password." in text


def test_newcomer_is_told_what_to_do_next() -> None:
    operator = factories.make_user("operator@example.com", is_superuser=True)
    steps = logged_in(operator).get(reverse(INDEX)).context["steps"]
    assert [step.title for step in steps][:2] == ["Add a tenant", "Add a chat and an embedding endpoint"]
    assert not any(step.done for step in steps)
    assert all(step.url for step in steps)


def test_member_is_not_sent_where_they_may_not_go(world: World) -> None:
    Turn.objects.all().delete()
    steps = logged_in(world.bob).get(reverse(INDEX)).context["steps"]
    assert {step.title for step in steps if not step.url} == {"Add a chat and an embedding endpoint"}


def test_more_rows_cost_no_more_queries(world: World) -> None:
    client = logged_in(world.operator)
    client.get(reverse(INDEX))  # that they look around is written down once
    conversation = Conversation.objects.for_tenant(world.acme).get()
    endpoint = Endpoint.objects.get(name="acme chat")
    urls = [
        reverse(INDEX),
        *(reverse(f"admin:{model._meta.label_lower.replace('.', '_')}_changelist") for model in admin.site._registry),
    ]
    before = [queries(client, url) for url in urls]
    for number in range(5):
        make_turn(conversation, text=f"question {number}", endpoint=endpoint)
        factories.make_end_user(tenant=world.acme)
        factories.make_key(tenant=world.acme)
        factories.make_endpoint()
        factories.make_member(tenant=factories.make_tenant())
    assert dict(zip(urls, [queries(client, url) for url in urls], strict=True)) == dict(zip(urls, before, strict=True))


def queries(client, url: str) -> int:
    with CaptureQueriesContext(connections["default"]) as own, CaptureQueriesContext(connections["operator"]) as across:
        assert client.get(url).status_code == 200
    return len(own) + len(across)


def test_search_finds_rows_by_name(world: World) -> None:
    text = logged_in(world.bob).get(reverse("admin:search"), {"s": "acme", "extended": "1"}).content.decode()
    assert "acme assistant" in text
    assert "acme handbook" in text
    assert "acme key" not in text  # owners only


def test_another_tenants_endpoints_are_no_step_done(world: World) -> None:
    Turn.objects.all().delete()
    for endpoint in Endpoint.objects.all():
        endpoint.tenants.set([world.globex])
    done = {step.title: step.done for step in logged_in(world.bob).get(reverse(INDEX)).context["steps"]}
    assert not done["Add a chat and an embedding endpoint"]
