"""A question, its files, its passages and the conversation so far, packed into a model's context window."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from chatbot import templates
from chatbot.attachments import RULE, File, fitted
from chatbot.errors import PromptTooLong
from chatbot.events import Source
from chatbot.inference.wire import Message
from chatbot.quoting import quoted, quoted_line
from chatbot.tokens import estimate

# What a chat template adds: ChatML (<|im_start|>, role, newline, <|im_end|>, newline) makes 5 tokens a message and 3
# that open the answer; Llama 3 and Gemma make as many.
MESSAGE_TOKENS = 6
ANSWER_TOKENS = 4
SMALLEST_ANSWER = 64  # tokens; with less room than this an answer breaks off in its first sentences
FILES_SHARE = 0.5  # of what instructions, question and answer leave, while there is anything to share with
PASSAGES_SHARE = 0.6  # of what the files leave of that, while there is history to share with

_ROLES = ("user", "assistant")
_SEAM_TOKENS = 2  # between two pieces

Instructions = Callable[[Sequence[Source]], str]


@dataclass(frozen=True, slots=True)
class Packed:
    """A prompt that fits. `passages` are the places, in the list given to pack(), of the passages the model sees;
    `sources` are those passages, numbered from 1 as the model sees them. `max_tokens` is the room for the answer, or
    for what is to follow its prefix; `prompt_tokens` count the prefix, as servers do.
    """

    messages: tuple[Message, ...]
    passages: list[int]
    sources: tuple[Source, ...]
    prompt_tokens: int
    dropped_history: int
    max_tokens: int


def instructions(template: str, variables: Mapping[str, Any]) -> Instructions:
    """The system message as a function of the passages. `variables` are those of templates.VARIABLES but the passages.

    A template that mentions no passages gets them appended: without them an assistant could cite nothing.
    """
    mentions = templates.variables_of(template) & {"passages", "sources"}

    def system(sources: Sequence[Source]) -> str:
        data = [_quoted(source) for source in sources]
        passages = "\n\n".join(_passage(source) for source in data)
        found = {"passages": passages, "sources": data, "has_passages": bool(data)}
        text = templates.render(template, {**variables, **found})
        return text if mentions or not data else f"{text}\n\n{passages}".strip()

    return system


def pack(
    *,
    instructions: Instructions,
    history: Sequence[tuple[str, str]],
    question: str,
    passages: Sequence[Source],
    context_length: int,
    max_tokens: int,
    files: Sequence[File] = (),
    prefix: str = "",
    count: Callable[[str], int] = estimate,
) -> Packed:
    """The messages that fit into `context_length` tokens together with the answer.

    history: (question, answer), oldest first. passages: best first. prefix: what the answer begins with already, beyond
    which `max_tokens` count. Raises PromptTooLong where instructions, question and prefix leave less than
    SMALLEST_ANSWER tokens (or `max_tokens`, if that is less).

    The order of precedence: instructions and question; the answer, which may claim `max_tokens` but no more than half
    of what is left; files, up to FILES_SHARE of the rest and cut to it; passages, up to PASSAGES_SHARE of what they
    leave; the most recent turns, whole; then further passages. A passage that does not fit is left out, and a smaller
    one after it may still go in.
    """

    def messages_of(kept: Sequence[int], turns: Sequence[tuple[str, str]]) -> tuple[Message, ...]:
        said = [Message(role, text) for turn in turns for role, text in zip(_ROLES, turn, strict=True)]
        system, asked = instructions(_numbered(passages, kept)), question
        if attached:
            system, asked = f"{system}\n\n{RULE}", f"{attached}\n\n{question}"
        made = (Message("system", system), *said, Message("user", asked))
        return tuple(message for message in made if message.content)

    attached = ""
    bare = _tokens(messages_of([], []), count)
    left = context_length - bare
    begun = count(prefix)
    least = begun + min(SMALLEST_ANSWER, max_tokens)
    if left < least:
        raise PromptTooLong
    # A prefix stands in the answer's room, not in that of the passages: the same ones should fit as when it was begun.
    budget = context_length - max(least, min(begun + max_tokens, max(left // 2, SMALLEST_ANSWER)))

    if files:
        room = (budget - bare) * (FILES_SHARE if passages or history else 1.0)
        attached = fitted(files, int(room) - count(RULE) - 2 * _SEAM_TOKENS, count)
        bare = _tokens(messages_of([], []), count)
    kept, turns = _choice(passages, history, room=budget - bare, count=count)
    messages = messages_of(kept, turns)
    # The choice added up the pieces; what counts is the whole, and a template may write of each passage what it likes.
    while (prompt_tokens := _tokens(messages, count)) > budget and (kept or turns):
        turns, kept = (turns[1:], kept) if turns else (turns, kept[:-1])
        messages = messages_of(kept, turns)
    return Packed(
        messages=messages,
        passages=kept,
        sources=tuple(_numbered(passages, kept)),
        prompt_tokens=prompt_tokens + begun,
        dropped_history=len(history) - len(turns),
        max_tokens=min(max_tokens, context_length - prompt_tokens - begun),
    )


def _tokens(messages: Sequence[Message], count: Callable[[str], int]) -> int:
    return ANSWER_TOKENS + sum(MESSAGE_TOKENS + count(message.content) for message in messages)


def _choice(
    passages: Sequence[Source], history: Sequence[tuple[str, str]], *, room: int, count: Callable[[str], int]
) -> tuple[list[int], Sequence[tuple[str, str]]]:
    """Which passages (places, ascending) and which turns fit into `room` tokens. Each text is counted once: this runs
    before the first token of every answer.
    """
    costs = [count(_passage(passage)) + _SEAM_TOKENS for passage in passages]
    kept = _fitting(costs, [], room * (PASSAGES_SHARE if history else 1.0))
    room -= sum(costs[index] for index in kept)
    recent = 0
    for turn in reversed(history):
        cost = sum(MESSAGE_TOKENS + count(text) for text in turn)
        if cost > room:
            break
        room -= cost
        recent += 1
    further = room + sum(costs[index] for index in kept)
    return _fitting(costs, kept, further), history[len(history) - recent :]


def _fitting(costs: Sequence[int], kept: Sequence[int], room: float) -> list[int]:
    """`kept` and, in order of rank, whatever else fits beside it."""
    chosen = set(kept)
    room -= sum(costs[index] for index in kept)
    for index, cost in enumerate(costs):
        if index not in chosen and cost <= room:
            chosen.add(index)
            room -= cost
    return sorted(chosen)


def _numbered(passages: Sequence[Source], kept: Sequence[int]) -> list[Source]:
    return [replace(passages[index], n=n) for n, index in enumerate(kept, start=1)]


def _quoted(source: Source) -> Source:
    heading = [quoted_line(part) for part in source.heading]
    return replace(source, title=quoted_line(source.title), heading=heading, text=quoted(source.text))


def _passage(source: Source) -> str:
    place = " > ".join([source.title, *source.heading])
    page = f", page {source.page}" if source.page is not None else ""
    return f"[{source.n}] {place}{page}\n<passage>\n{source.text}\n</passage>"
