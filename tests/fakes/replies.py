"""What a scripted model server is told to do, and what it was asked."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.fakes.dialects import Fault

DIMENSION = 384
LINGER = 3.0  # less than a product waits between two tokens


@dataclass(frozen=True, slots=True)
class Reply:
    """How one request is answered. It goes to the first request that it matches, or to all of them with `always`; with
    `again` it goes to the end of the script each time, so that several of them take turns.

    A server that continues says of `tokens` what is not yet in the request's prefix, or all of them where they do not
    begin with it: then they are what follows.

    when: text that the last user message, the first text to embed or the query to rank by contains. model: the model
    asked for. held: until FakeInference.release(). delay, first_delay: seconds. split: write the body in pieces of so
    many bytes. noise: CRLF, comments, keep-alives and empty deltas around the tokens. garbage: sent as it is after the
    tokens. error_event: sent as data after the tokens with status 200. cut_after, hang_after, ends_after: tokens before
    the connection breaks, no more of them come, or the body ends as if it were whole. lingers_after: tokens after which
    each takes LINGER seconds, until the server is told to hurry; vectors and scores wait for that word. thoughts: what
    a reasoning model thinks before its first token. tool_call: the arguments of a call, in the pieces in which they
    come after the tokens.
    """

    tokens: list[str] | None = None  # None: the healthy answer
    kind: Literal["chat", "embedding", "rerank"] = "chat"
    when: str = ""
    model: str = ""
    always: bool = False
    again: bool = False
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""  # of a status that is not 200
    held: bool = False
    first_delay: float = 0.0
    delay: float = 0.0
    split: int | None = None
    noise: bool = False
    finish_reason: str = "stop"
    no_finish: bool = False
    no_usage: bool = False
    no_done: bool = False
    thoughts: list[str] = field(default_factory=list)
    tool_call: list[str] = field(default_factory=list)
    fault: Fault | None = None  # told as this kind of server does; `broken` after the tokens, the others at once
    error_event: dict[str, Any] | None = None
    garbage: str = ""
    endless: bool = False  # the tokens again and again, whatever max_tokens says
    cut_after: int | None = None
    hang_after: int | None = None
    ends_after: int | None = None
    lingers_after: int | None = None
    dimension: int = DIMENSION  # of embeddings

    @property
    def ends_badly(self) -> bool:
        return self.no_finish or self.endless or self.fault == "broken" or self.error_event is not None

    def matches(self, kind: str, model: str, text: str) -> bool:
        return kind == self.kind and self.model in ("", model) and self.when in text


def following(tokens: Iterable[str], prefix: str) -> Iterator[str]:
    """The tokens after `prefix`, the first of them in part where it ends within one; all if they do not begin with it.

    Blanks before the first word do not count: prefixes are sent without.
    """
    rest, text, taken = iter(tokens), "", []
    prefix = prefix.lstrip()
    while len(text) < len(prefix) and (token := next(rest, None)) is not None:
        taken.append(token)
        text = (text + token).lstrip()
    if text.startswith(prefix):
        taken = [text[len(prefix) :]] if text != prefix else []
    yield from taken
    yield from rest


@dataclass(slots=True)
class Received:
    """A request as it arrived. `disconnected_at` is the time.monotonic() at which its client went away early."""

    path: str
    payload: dict[str, Any]
    headers: dict[str, str]
    client_port: int  # the same for requests that shared a connection
    prefix: str = ""  # what the model was to go on from, as this kind of server understands the request
    received_at: float = field(default_factory=time.monotonic)
    disconnected_at: float | None = None
