"""A turn as people read it: the answer with its sources as numbered chips, and how it came about in words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from apps.conversations.models import Feedback, Turn
from apps.tenants.admin_words import duration

VARIANTS = {
    Turn.State.QUEUED: "info",
    Turn.State.RUNNING: "info",
    Turn.State.FINISHED: "success",
    Turn.State.STOPPED: "warning",
    Turn.State.INTERRUPTED: "danger",
    Turn.State.FAILED: "danger",
}
# Said beside the state, where the reason is not simply that the model had finished.
REASONS = {
    "length": "Cut off at the longest answer that the assistant allows.",
    "sources_only": "No model could be reached, so the passages found stand for an answer.",
    "nothing_found": "No passage was relevant enough, so no model was asked.",
    "content_filter": "The model server's content filter ended the answer.",
}
CONTINUED, ANSWERED_AGAIN, EDITED = "Continued", "Answered again", "Edited"
_MARKER = re.compile(r"\[([0-9]{1,4})\]")


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of an answer: text, or the source that a marker in it names."""

    text: str
    source: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """cited: the passages that the answer cites. others: what else the model received. Both as events.Source. branch:
    in which way it stands beside another turn, if it does. follows: the turn that it goes on after, where that is not
    the one shown before it."""

    turn: Turn
    variant: str
    parts: list[Part]
    cited: list[dict[str, Any]]
    others: list[dict[str, Any]]
    reason: str
    times: list[tuple[str, str]]
    feedback: list[Feedback]
    branch: str
    follows: Turn | None = None
    follows_here: bool = False  # on the same page

    @property
    def anchor(self) -> str:
        """What the chips link to, with the number of the source behind it."""
        return f"source-{self.turn.pk.hex}"


def talk(turns: Iterable[Turn]) -> list[Shown]:
    """Turns in the order of time. Of most it needs no saying what they follow."""
    items: list[Shown] = []
    for turn in turns:
        item = shown(turn)
        again = item.branch in {CONTINUED, ANSWERED_AGAIN}  # then it stands below the question that it repeats
        if turn.parent and not again and items and turn.parent_id != items[-1].turn.pk:
            here = any(other.turn.pk == turn.parent_id for other in items)
            item = replace(item, follows=turn.parent, follows_here=here)
        items.append(item)
    return items


def shown(turn: Any) -> Shown:
    """`turn` as admin.turns_of() finds it."""
    cited: list[dict[str, Any]] = turn.answer.citations if turn.answer else []
    numbers = {source["n"] for source in cited}
    times = (
        ("Search", turn.search_ms),
        ("First token after", turn.first_token_ms),
        ("Done after", turn.total_ms),
    )
    return Shown(
        turn=turn,
        variant=VARIANTS[Turn.State(turn.state)],
        parts=list(parts(turn.answer.text, cited)) if turn.answer else [],
        cited=cited,
        others=[source for source in turn.sources if source["n"] not in numbers],
        reason=REASONS.get(turn.finish_reason, ""),
        times=[(name, duration(value)) for name, value in times if value is not None],
        feedback=list(turn.answer.feedback.all()) if turn.answer else [],
        branch=_branch(turn),
    )


def _branch(turn: Any) -> str:
    if turn.continues_id:
        return CONTINUED
    if turn.answered_before:
        return ANSWERED_AGAIN
    return EDITED if turn.edits else ""


def parts(text: str, cited: list[dict[str, Any]]) -> Iterator[Part]:
    """The answer cut at its markers; a marker that names no cited passage stays text."""
    by_number = {source["n"]: source for source in cited}
    at = 0
    for marker in _MARKER.finditer(text):
        source = by_number.get(int(marker.group(1)))
        if source is None:
            continue
        yield Part(text[at : marker.start()])
        yield Part(marker.group(1), source)
        at = marker.end()
    yield Part(text[at:])
