"""What a client sees of a turn: one vocabulary for SSE event names, WebSocket frame types and the turn's log."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, NamedTuple


class Cursor(NamedTuple):
    """A place in a turn's log. Tuples order as the log does: a later epoch (a takeover) lies beyond all before it.

    seq counts on across epochs, and no number is used twice in what a reader keeps.
    """

    epoch: int
    seq: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.seq}"

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Read `epoch-seq`. Raises ValueError for anything else."""
        epoch, dash, seq = text.partition("-")
        if not (dash and epoch.isascii() and epoch.isdigit() and seq.isascii() and seq.isdigit()) or len(text) > 24:
            raise ValueError(f"not a cursor: {text[:40]!r}")
        return cls(int(epoch), int(seq))


START = Cursor(0, 0)


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of a turn's log, without its place; the log assigns that."""

    type: ClassVar[str]
    terminal: ClassVar[bool] = False  # nothing follows a terminal event

    def payload(self) -> dict[str, Any]:
        """The JSON fields a client receives beside `type`, `turn` and the cursor."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class TurnStarted(Event):
    type: ClassVar[str] = "turn.started"
    turn: str
    conversation: str | None
    question: str  # id of the question's message


@dataclass(frozen=True, slots=True)
class Queued(Event):
    """Every model server is busy, and the question waits in line: `position` counts from 1, `wait` is in seconds, null
    where nothing has been measured yet. Both are estimates, and either may rise. waking: it waits for no line but for a
    rented server that slept and is started; how far that is, in the words of its host. It is left out otherwise."""

    type: ClassVar[str] = "queued"
    position: int
    wait: float | None
    approximate: bool = True
    waking: str = ""

    def payload(self) -> dict[str, Any]:
        body = asdict(self)
        if not self.waking:
            del body["waking"]
        return body


@dataclass(frozen=True, slots=True)
class Source:
    """A passage as the model received it, numbered from 1 as the answer's [n] refer to it."""

    n: int
    chunk: str
    document: str
    title: str
    heading: list[str]
    page: int | None
    text: str
    score: float


@dataclass(frozen=True, slots=True)
class Sources(Event):
    type: ClassVar[str] = "sources"
    sources: list[Source]


@dataclass(frozen=True, slots=True)
class Token(Event):
    """A piece of the answer: what one read from the model server brought, so often more than one token."""

    type: ClassVar[str] = "token"
    text: str

    def payload(self) -> dict[str, Any]:
        # The hot path: asdict() deep-copies.
        return {"text": self.text}


@dataclass(frozen=True, slots=True)
class Restarted(Event):
    """Drop every event of the turn whose seq lies beyond `after`, then go on: another replica took the turn over, or
    what followed the reader's cursor is no longer known. reset: nothing is kept, the whole turn follows anew."""

    type: ClassVar[str] = "restarted"
    epoch: int
    after: int
    reset: bool = False


@dataclass(frozen=True, slots=True)
class Limits(Event):
    type: ClassVar[str] = "limits"
    limits: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one turn; `estimated` when the model server did not say."""

    prompt_tokens: int
    completion_tokens: int
    estimated: bool = False

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class Timings:
    """Milliseconds since the question was accepted. degraded: what the search had to do without, and why."""

    search_ms: float | None = None
    first_token_ms: float | None = None
    total_ms: float | None = None
    degraded: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class TurnFinished(Event):
    """The answer is stored. `text` is the stored answer: where it differs from the joined tokens, it wins.

    finish_reason: stop, length, stopped (by the user), sources_only or nothing_found.
    """

    type: ClassVar[str] = "turn.finished"
    terminal: ClassVar[bool] = True
    turn: str
    state: str
    finish_reason: str
    answer: str  # id of the answer's message
    text: str
    usage: Usage
    citations: list[Source] = field(default_factory=list)
    timings: Timings = field(default_factory=Timings)

    def payload(self) -> dict[str, Any]:
        body = asdict(self)
        body["usage"]["total_tokens"] = self.usage.total_tokens
        return body


@dataclass(frozen=True, slots=True)
class Failed(Event):
    """The turn ended without a whole answer; what had been written is kept."""

    type: ClassVar[str] = "error"
    terminal: ClassVar[bool] = True
    code: str
    message: str
    turn: str
    request_id: str = ""
    retry_after: float | None = None

    def payload(self) -> dict[str, Any]:
        body = asdict(self)
        if self.retry_after is None:
            del body["retry_after"]
        return body


@dataclass(frozen=True, slots=True)
class Reconnect(Event):
    """This replica is going away: come back after `delay` seconds, with your cursor."""

    type: ClassVar[str] = "reconnect"
    delay: float


_KINDS = {kind.type: kind for kind in (TurnStarted, Queued, Sources, Token, Restarted, Limits, TurnFinished, Failed)}


def read_event(name: str, payload: dict[str, Any]) -> Event:
    """The event of which these are name and payload. Raises KeyError or TypeError where there is none such."""
    made: dict[str, Any] = dict(payload)
    if "usage" in made:
        made["usage"] = Usage(*(made["usage"][name] for name in ("prompt_tokens", "completion_tokens", "estimated")))
        made["timings"] = Timings(**made["timings"])
    for field_of_sources in made.keys() & {"sources", "citations"}:
        made[field_of_sources] = [Source(**source) for source in made[field_of_sources]]
    return _KINDS[name](**made)
