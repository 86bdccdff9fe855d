"""A client's list of messages as one question, the talk before it and the client's own instructions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from django.conf import settings
from drf_spectacular.utils import extend_schema_field
from rest_framework.serializers import Field, ValidationError

MAX_MESSAGES = 1000
INSTRUCTING = ("system", "developer")
TOOLS = ("tool", "function")
ROLES = (*INSTRUCTING, "user", "assistant", *TOOLS)
_TEXT_PARTS = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}
_BETWEEN = "\n\n"

_PART = {
    "type": "object",
    "required": ["type", "text"],
    "properties": {"type": {"type": "string", "enum": ["text"]}, "text": {"type": "string"}},
}
_MESSAGE = {
    "type": "object",
    "required": ["role"],
    "properties": {
        "role": {"type": "string", "enum": list(ROLES)},
        "content": {"oneOf": [{"type": "string"}, {"type": "array", "items": _PART}, {"type": "null"}]},
    },
}


@dataclass(frozen=True, slots=True)
class Talk:
    """history: (question, answer), oldest first; a half that nobody said is empty."""

    question: str
    history: tuple[tuple[str, str], ...]
    instructions: str


@extend_schema_field({"type": "array", "items": _MESSAGE, "minItems": 1, "maxItems": MAX_MESSAGES})
class MessagesField(Field[Talk, Any, Any, Any]):
    """The messages of a chat completion. The last one is the question."""

    def to_internal_value(self, data: Any) -> Talk:
        if not isinstance(data, list) or not data:
            raise ValidationError("Give a list of messages, the question last.")
        if len(data) > MAX_MESSAGES:
            raise ValidationError(f"There may be at most {MAX_MESSAGES} messages.")
        said = [
            (message["role"], _text(place, message)) for place, message in enumerate(data) if _known(place, message)
        ]
        instructions = _BETWEEN.join(text for role, text in said if role in INSTRUCTING and text.strip())
        return _talk([(role, text) for role, text in said if role not in INSTRUCTING and text.strip()], instructions)


def _known(place: int, message: Any) -> bool:
    if not isinstance(message, dict):
        raise ValidationError({str(place): "A message is an object with a role and a content."})
    if message.get("role") not in ROLES:
        raise ValidationError({f"{place}.role": f"Use one of {', '.join(ROLES)}."})
    return True


def _text(place: int, message: dict[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(_part(place, part) for part in content)
    if content is None and message["role"] == "assistant":
        return ""  # it called a tool instead
    if not isinstance(content, str):
        raise ValidationError({f"{place}.content": "Give text, or a list of text parts."})
    if "\0" in content:
        raise ValidationError({f"{place}.content": "Null characters are not allowed."})
    return f"Result of a tool:\n{content}" if message["role"] in TOOLS and content.strip() else content


def _part(place: int, part: Any) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    text = part.get(_TEXT_PARTS[kind]) if isinstance(kind, str) and kind in _TEXT_PARTS else None
    if not isinstance(text, str):
        shown = f" of type {kind[:40]}" if isinstance(kind, str) and kind not in _TEXT_PARTS else ""
        raise ValidationError({f"{place}.content": f"Only text is read here, and this has a part{shown}."})
    return text


def _talk(said: Sequence[tuple[str, str]], instructions: str) -> Talk:
    """Consecutive messages of one side are joined, since many chat templates refuse them."""
    sides = [(answer, list(messages)) for answer, messages in groupby(said, lambda message: message[0] == "assistant")]
    if not sides:
        raise ValidationError("There is no question among the messages.")
    answer, last = sides.pop()
    if answer:
        raise ValidationError("The last message must be the user's.")
    # What the user said last, with the tools' results on it; what they said just before belongs to the talk.
    asked = max((place for place, (role, _) in enumerate(last) if role == "user"), default=0)
    question = _joined(last[asked:])
    if len(question) > settings.PARLEY_MAX_QUESTION_CHARS:
        raise ValidationError(f"The last message may have at most {settings.PARLEY_MAX_QUESTION_CHARS} characters.")
    return Talk(question, tuple(_pairs([*sides, (False, last[:asked])])), instructions)


def _pairs(sides: Sequence[tuple[bool, Sequence[tuple[str, str]]]]) -> Iterable[tuple[str, str]]:
    question = ""
    for answer, messages in sides:
        if answer:
            yield question, _joined(messages)
        question = "" if answer else _joined(messages)
    if question:
        yield question, ""


def _joined(messages: Iterable[tuple[str, str]]) -> str:
    return _BETWEEN.join(text for _, text in messages)
