"""Says of a turn how its answer came about: what was considered, tried and waited for, and what the model received."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.db.models import Q

from apps.conversations.models import Turn
from apps.tenants.admin_words import NOTHING, duration
from apps.tenants.models import Tenant

_NOT_ASKED = "No model server was asked."


@dataclass(frozen=True, slots=True)
class Tried:
    """One attempt, in words. outcome: its first token, or what went wrong."""

    server: str
    began: str
    outcome: str
    failed: bool


@dataclass(frozen=True, slots=True)
class Explained:
    """How the model server was found. considered: (server, verdict). choice: why this one, or why none.
    woken: how long it was waited for a server that was started, "" where that was not done."""

    choice: str
    considered: list[tuple[str, str]]
    tried: list[Tried]
    waited: str
    woken: str
    left: str


def turn_of(tenant: Tenant | uuid.UUID, name: str) -> Turn | None:
    """The turn with this id, or the one that the request with this id asked."""
    turns = Turn.objects.for_tenant(tenant).select_related(
        "question", "answer", "conversation", "assistant", "end_user", "prompt_version__prompt", "endpoint", "api_key"
    )
    hexes = name.replace("-", "").lower()
    by_id = Q(pk=hexes) if len(hexes) == 32 and set(hexes) <= set("0123456789abcdef") else Q(pk=None)
    found: Turn | None = turns.filter(by_id | (Q(request_id=name) & ~Q(request_id=""))).order_by("-created").first()
    return found


def explained(turn: Turn) -> Explained:
    """Of a turn that was closed before this was noted, and of one that runs, nothing is known."""
    story: dict[str, Any] = turn.story
    tried = [_tried(attempt) for attempt in story.get("attempts", ())]
    return Explained(
        choice=_choice(turn, tried),
        considered=[(_server(one), one["verdict"]) for one in story.get("considered", ())],
        tried=tried,
        waited=duration(story.get("queued_ms")),
        woken=duration(woken) if (woken := story.get("woken_ms")) else "",
        left=duration(story.get("deadline_left_ms")),
    )


def _server(one: dict[str, Any]) -> str:
    return f"{one['name']} at {one['address']}" if one["address"] else str(one["name"])


def _tried(attempt: dict[str, Any]) -> Tried:
    first = attempt["first_token_ms"]
    told = attempt["message"] or attempt["error"]
    if first is not None:
        told = f"first token after {duration(first)}" + (f", then: {told}" if told else "")
    return Tried(_server(attempt), duration(attempt["began_ms"]), told, failed=bool(attempt["error"]))


def _choice(turn: Turn, tried: list[Tried]) -> str:
    if not turn.story:
        return "The turn is not closed yet." if turn.state in Turn.OPEN else _NOT_ASKED
    answered = [one for one in tried if not one.failed]
    if not answered:
        return "None answered." if tried else "None could be asked."
    if turn.story.get("woken_ms"):
        return f"{answered[-1].server} answered, after one that was asleep had been started."
    if len(tried) > len(answered):
        return f"{answered[-1].server} answered after another one had failed."
    return f"{answered[-1].server} could take the question at once, or first."


def told(turn: Turn) -> Iterator[tuple[str, list[str]]]:
    """The whole of it for a terminal: a name, and the lines that stand behind it."""
    how = explained(turn)
    reason = f" ({turn.finish_reason})" if turn.finish_reason else ""
    yield "Turn", [f"{turn.pk}, {turn.get_state_display().lower()}{reason}"]
    if turn.error_code:
        yield "Error", [f"{turn.error_code}: {turn.error_message}"]
    yield "Asked", [f"{turn.created:%Y-%m-%d %H:%M:%S} UTC by {turn.end_user.external_id}"]
    yield "Request", [turn.request_id or NOTHING]
    yield "Through", [f"API key {turn.api_key.name}" if turn.api_key else "no API key"]
    if turn.epoch > 1:
        yield "Taken over", [f"{turn.epoch - 1} times, last at {turn.claimed_at:%H:%M:%S} UTC"]
    yield "Assistant", [f"{turn.assistant.name}, prompt {turn.prompt_version}"]
    yield "Passages", _passages(turn) or ["none"]
    if turn.degraded:
        yield "Without", turn.degraded
    yield "Server", [how.choice]
    if how.considered:
        yield "Considered", [f"{server}: {verdict}" for server, verdict in how.considered]
        yield "Tried", [f"{one.server}, after {one.began}: {one.outcome}" for one in how.tried] or ["none"]
        yield "In line", [how.waited]
        if how.woken:
            yield "Started", [f"a server that was asleep, waited for {how.woken}"]
        yield "Time left", [f"{how.left} of the time to the first token"]
    estimated = ", estimated" if turn.usage_estimated else ""
    yield "Tokens", [f"{turn.prompt_tokens} in, {turn.completion_tokens} out{estimated}"]
    times = (("search", turn.search_ms), ("first token after", turn.first_token_ms), ("done after", turn.total_ms))
    yield "Times", [f"{name} {duration(value)}" for name, value in times if value is not None] or [NOTHING]


def _passages(turn: Turn) -> list[str]:
    cited = {source["n"] for source in turn.answer.citations} if turn.answer else set()
    return [_passage(source) + (", cited" if source["n"] in cited else "") for source in turn.sources]


def _passage(source: dict[str, Any]) -> str:
    where = " › ".join([source["title"], *source["heading"]])
    return f"[{source['n']}] {where}" + (f", page {source['page']}" if source["page"] else "")
