"""One question on its way through the pool: what its attempts share, what one of them holds, and what is told of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from chatbot.errors import ParleyError
from chatbot.inference.admission import Ticket
from chatbot.inference.answer import Answer
from chatbot.inference.asker import Asker
from chatbot.inference.endpoint import Endpoint, Kind
from chatbot.inference.servers import Server
from chatbot.inference.story import Attempt, Story
from chatbot.inference.traffic import Pulse


@dataclass(slots=True)
class Question:
    """What all attempts of one share. Times are the loop's. patience: seconds to the first token; until: its time.
    wake_until: until when it waits for a server that sleeps, None as long as it has met none."""

    ids: Sequence[str]
    kind: Kind
    asker: Asker
    asked: float
    patience: float
    until: float
    story: Story | None
    queued: float = 0.0
    tried: Server | None = None
    wake_until: float | None = None

    def rest_at(self, endpoint: Endpoint, now: float) -> Endpoint:
        """The endpoint with what is left of its longest answer: for one that was woken much of it is over."""
        if self.wake_until is None:
            return endpoint
        left = self.asked + endpoint.deadlines.total - now
        return replace(endpoint, deadlines=replace(endpoint.deadlines, total=max(0.0, left)))


@dataclass(slots=True)
class Held:
    """A slot, and the stream that fills it."""

    ticket: Ticket[Server]
    server: Server
    began: float
    answer: Answer
    pulse: Pulse


def ours(error: BaseException | None) -> ParleyError | None:
    return error if isinstance(error, ParleyError) else None


def told(question: Question, server: Server, began: float, ended: float, error: BaseException | None) -> Attempt:
    failure = ours(error)
    return Attempt(
        endpoint=server.endpoint.id,
        name=server.endpoint.name,
        address=server.address,
        began_ms=milliseconds(began - question.asked),
        first_token_ms=None if error else milliseconds(ended - question.asked),
        error=failure.code if failure else "cancelled" if error else "",
        message=failure.message if failure else "Whoever asked left." if error else "",
    )


def milliseconds(seconds: float) -> float:
    """To a tenth."""
    return round(seconds * 1000, 1)
