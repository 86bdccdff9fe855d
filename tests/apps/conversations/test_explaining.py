"""What the platform's operators are told of a turn: on a terminal, and on its page."""

from __future__ import annotations

import uuid
from dataclasses import asdict

import pytest
from django.core.management import CommandError, call_command
from django.urls import reverse

from apps.conversations.models import Turn
from apps.tenants.models import Membership
from chatbot.inference.story import Attempt, Considered, Story
from tests import factories
from tests.apps.admin_world import World, logged_in, make_world

pytestmark = pytest.mark.usefixtures("database")

STORY = Story(
    considered=[
        Considered("1", "Rack A", "10.0.0.1:8000", "chosen"),
        Considered("1", "Rack A", "10.0.0.2:8000", "breaker open"),
        Considered("2", "Rack B", "", "higher tier"),
    ],
    attempts=[
        Attempt("1", "Rack A", "10.0.0.1:8000", 1300.0, None, "model_failed", "The model server failed (500)."),
        Attempt("2", "Rack B", "", 1450.0, 2100.0, "", ""),
    ],
    queued_ms=1300.0,
    deadline_left_ms=12_600.0,
)


@pytest.fixture
def world() -> World:
    return make_world()


def turn_with(world: World, **fields: object) -> Turn:
    turn: Turn = Turn.objects.for_tenant(world.acme).select_related("assistant", "prompt_version__prompt").get()
    Turn.objects.for_tenant(world.acme).update(request_id="req-1", **fields)
    return turn


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, list[str]]:
    """The lines behind each name."""
    call_command("explain_turn", *arguments)
    lines: dict[str, list[str]] = {}
    name = ""
    for line in capsys.readouterr().out.splitlines():
        name = line[:12].strip() or name
        lines.setdefault(name, []).append(line[12:])
    return lines


def test_everything_that_decided_is_told(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    source = {"n": 1, "title": "Manual", "heading": ["Use", "First"], "page": 3, "text": "…"}
    turn = turn_with(world, story=asdict(STORY), sources=[source, {**source, "n": 2, "page": None}])
    told = said(capsys, str(turn.pk), "--tenant", "acme")
    assert told["Turn"] == [f"{turn.pk}, finished (stop)"]
    assert told["Server"] == ["Rack B answered after another one had failed."]
    assert told["Considered"] == [
        "Rack A at 10.0.0.1:8000: chosen", "Rack A at 10.0.0.2:8000: breaker open", "Rack B: higher tier",
    ]  # fmt: skip
    assert told["Tried"] == [
        "Rack A at 10.0.0.1:8000, after 1.3 s: The model server failed (500).",
        "Rack B, after 1.4 s: first token after 2.1 s",
    ]
    assert told["In line"] == ["1.3 s"]
    assert told["Time left"] == ["12.6 s of the time to the first token"]
    assert told["Passages"] == ["[1] Manual › Use › First, page 3", "[2] Manual › Use › First"]
    assert told["Tokens"] == ["100 in, 20 out"]
    assert told["Assistant"] == [f"{turn.assistant.name}, prompt {turn.prompt_version}"]


def test_a_turn_is_found_by_the_request_that_a_user_quotes(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    turn = turn_with(world)
    assert said(capsys, "req-1")["Turn"] == said(capsys, turn.pk.hex)["Turn"]
    assert said(capsys, "req-1")["Server"] == ["No model server was asked."]


@pytest.mark.parametrize("arguments", [[str(uuid.uuid4())], ["nonsense"], [""], ["req-1", "--tenant", "globex"]])
def test_of_no_turn_nothing_is_told(world: World, arguments: list[str]) -> None:
    turn_with(world)
    with pytest.raises(CommandError, match="There is no turn"):
        call_command("explain_turn", *arguments)


def test_a_tenant_that_does_not_exist_is_named(world: World) -> None:
    with pytest.raises(CommandError, match="There is no tenant 'nobody'"):
        call_command("explain_turn", "req-1", "--tenant", "nobody")


def test_the_page_of_a_turn_tells_the_same(world: World) -> None:
    turn = turn_with(world, story=asdict(STORY))
    analyst = logged_in(factories.make_member(tenant=world.acme, role=Membership.Role.ANALYST))
    page = analyst.get(reverse("admin:conversations_turn_change", args=[turn.pk])).content.decode()
    for words in ("Rack B answered after another one had failed.", "breaker open", "The model server failed (500)."):
        assert words in page
