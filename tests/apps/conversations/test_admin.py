"""The admin of conversations and turns, and the page that asks."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from apps.assistants.models import Assistant
from apps.conversations.admin_talk import parts
from apps.conversations.models import Conversation, Turn
from apps.inference.models import Endpoint
from apps.tenants.models import EndUser, Membership
from chatbot.events import Source
from tests import factories
from tests.apps.admin_world import World, logged_in, make_turn, make_world

pytestmark = pytest.mark.usefixtures("database")

ASK = "admin:conversations_playground"


@pytest.fixture
def world() -> World:
    return make_world()


@pytest.fixture
def bob(world: World) -> Client:
    return logged_in(world.bob)


@pytest.fixture
def dora(world: World) -> Client:
    """An analyst of acme: bob, an editor, builds assistants and reads no end user's questions."""
    return logged_in(factories.make_member(tenant=world.acme, role=Membership.Role.ANALYST))


def source(n: int) -> dict[str, Any]:
    return asdict(
        Source(n=n, chunk="c", document="d", title=f"Manual {n}", heading=["Use"], page=n + 10, text=f"T{n}", score=1.0)
    )


def turn_of(world: World, text: str = "", cited: tuple[int, ...] = (), **fields: Any) -> Turn:
    turn = Turn.objects.for_tenant(world.acme).select_related("answer", "question").get()
    turn.answer.text, turn.answer.citations = text, [source(n) for n in cited]
    turn.answer.save()
    for name, value in {"sources": [source(n) for n in (1, 2, 3)], **fields}.items():
        setattr(turn, name, value)
    turn.save()
    return turn


def page_of(client: Client, turn: Turn) -> str:
    url = reverse("admin:conversations_conversation_change", args=[turn.conversation_id])
    return " ".join(client.get(url).content.decode().split())


def test_only_markers_of_cited_passages_become_chips() -> None:
    cut = list(parts("Prime it [1][7]. a[2]", [source(1)]))
    assert [(part.text, part.source is not None) for part in cut] == [
        ("Prime it ", False),
        ("1", True),
        ("[7]. a[2]", False),
    ]


def test_conversation_shows_answer_citations_and_the_rest(world: World, dora: Client) -> None:
    page = page_of(dora, turn_of(world, "Prime it [2].", cited=(2,)))
    assert 'class="p-chip" href="#source-' in page
    assert "Use, page 12" in page
    assert "2 more passages that the model received" in page
    assert "First token after 80 ms" in page
    assert "Done after 900 ms" in page


def test_markup_in_questions_answers_and_passages_stays_text(world: World, dora: Client) -> None:
    hostile = "<img src=x onerror=alert(1)>"
    turn = turn_of(world, f"{hostile} [1]", cited=(1,))
    turn.question.text = turn.answer.citations[0]["title"] = turn.answer.citations[0]["text"] = hostile
    turn.question.save()
    turn.answer.save()
    page = page_of(dora, turn)
    assert hostile not in page
    assert page.count("&lt;img src=x") >= 4


def test_failure_is_told_in_words(world: World, dora: Client) -> None:
    message = "The model server took too long."
    turn = turn_of(world, state=Turn.State.FAILED, error_code="model_timeout", error_message=message)
    assert message in page_of(dora, turn)
    detail = dora.get(reverse("admin:conversations_turn_change", args=[turn.pk])).content.decode()
    assert message in detail
    assert "model_timeout" in detail


def test_long_conversation_opens_at_its_end(world: World, dora: Client, django_assert_max_num_queries: Any) -> None:
    conversation = Conversation.objects.for_tenant(world.acme).select_related("tenant", "assistant__prompt").get()
    endpoint = Endpoint.objects.get(name="acme chat")
    for number in range(64):
        make_turn(conversation, text=f"Question {number:03}", endpoint=endpoint)
    with django_assert_max_num_queries(20):
        page = page_of(dora, Turn.objects.for_tenant(world.acme).first())
    assert "61 to 65 of 65" in page
    assert "Question 063" in page
    assert "Question 003" not in page


def test_branches_are_told(world: World, dora: Client) -> None:
    first = Turn.objects.for_tenant(world.acme).get()
    conversation = Conversation.objects.for_tenant(world.acme).select_related("tenant", "assistant__prompt").get()
    endpoint = Endpoint.objects.get(name="acme chat")

    def beside(turn: Turn, text: str = "", **fields: Any) -> Turn:
        made = make_turn(conversation, text=text, endpoint=endpoint)
        made.parent, made.begins = turn.parent, turn.begins
        made.question = made.question if text else turn.question
        for name, value in fields.items():
            setattr(made, name, value)
        made.save()
        return made

    Turn.objects.filter(pk=first.pk).update(begins=True)
    first.refresh_from_db()
    second = beside(first, "And then?", parent=first, begins=False)
    again = beside(second)
    goes_on = beside(second, continues=again)
    edited = beside(second, "Or then?")
    beside(first, "Something else?")
    page = page_of(dora, edited)
    labels = re.findall(r"> ?(Answered again|Continued|Edited) ?<", page)
    assert labels == ["Answered again", "Continued", "Edited", "Edited"]
    assert page.count("Follows “") == 1
    assert f'href="#turn-{first.pk}"' in page
    detail = dora.get(reverse("admin:conversations_turn_change", args=[goes_on.pk])).content.decode()
    assert "Goes on with the answer of" in detail
    assert reverse("admin:conversations_turn_change", args=[first.pk]) in detail


def test_nothing_can_be_changed(world: World, dora: Client) -> None:
    turn = turn_of(world)
    for model, pk in (("conversation", turn.conversation_id), ("turn", turn.pk)):
        assert dora.post(reverse(f"admin:conversations_{model}_change", args=[pk]), {"title": "X"}).status_code == 403
        assert dora.post(reverse(f"admin:conversations_{model}_delete", args=[pk]), {"post": "yes"}).status_code == 403
        assert dora.get(reverse(f"admin:conversations_{model}_add")).status_code == 403


@pytest.mark.parametrize("model", ["conversation", "turn"])
def test_lists_cost_the_same_for_many_rows(
    world: World, dora: Client, django_assert_max_num_queries: Any, model: str
) -> None:
    assistant = Assistant.objects.for_tenant(world.acme).select_related("prompt__published").get()
    endpoint = Endpoint.objects.get(name="acme chat")
    for number in range(25):
        conversation = factories.make_conversation(tenant=world.acme, assistant=assistant)
        make_turn(conversation, text=f"Question {number}", endpoint=endpoint)
    with django_assert_max_num_queries(15):
        dora.get(reverse(f"admin:conversations_{model}_changelist"))


def test_member_asks_own_tenants_assistants_only(world: World, bob: Client) -> None:
    page = bob.get(reverse(ASK)).content.decode()
    assert "acme assistant" in page
    assert "globex" not in page


def test_operator_sees_whose_assistant_it_is(world: World) -> None:
    page = logged_in(world.operator).get(reverse(ASK)).content.decode()
    assert '<optgroup label="Acme">' in page
    assert '<optgroup label="Globex">' in page


def test_without_an_assistant_the_page_says_what_to_do(world: World, bob: Client) -> None:
    Assistant.objects.for_tenant(world.acme).update(is_active=False)
    assert "Create your first assistant" in bob.get(reverse(ASK)).content.decode()


def test_only_ones_own_conversation_is_continued(world: World, bob: Client) -> None:
    assistant = Assistant.objects.for_tenant(world.acme).get()
    own = factories.make_conversation(
        tenant=world.acme,
        assistant=assistant,
        title="Mine",
        end_user=EndUser.objects.create(tenant=world.acme, external_id=f"staff:{world.bob.email}"),
    )
    customers = Conversation.objects.for_tenant(world.acme).exclude(pk=own.pk).get()
    assert f'data-conversation="{own.pk}"' in bob.get(reverse(ASK), {"conversation": str(own.pk)}).content.decode()
    for other in (str(customers.pk), "nonsense"):
        assert "data-conversation" not in bob.get(reverse(ASK), {"conversation": other}).content.decode()


def test_small_local_model_is_announced_where_it_answers(world: World, bob: Client, settings: Any) -> None:
    settings.LOCAL = True
    assert "often wrong" in bob.get(reverse(ASK)).content.decode()
    settings.LOCAL = False
    assert "often wrong" not in bob.get(reverse(ASK)).content.decode()
