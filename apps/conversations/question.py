"""What a door was asked, before anything is looked up."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import asdict, dataclass
from typing import Any

import orjson


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the asker wants the answer drawn, within what the assistant allows; None leaves it to the assistant."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()


NOT_SAID = Sampling()


@dataclass(frozen=True, slots=True)
class Question:
    """What a door was asked. `user` is who asks, where the call says so; `client_id` is the client's own name for the
    question; `idempotency_key` makes a repeat harmless.

    In a conversation it follows the latest turn, unless it names another one as its `parent`, or one that it `edits`,
    whose parent it takes. `attachments` came with it; None where it does not say: those of the question that it edits.

    A client that keeps the conversation itself brings it: `history` (question, answer; oldest first) and
    `instructions`, which follow the assistant's prompt and never replace it.
    """

    text: str
    user: str = ""
    client_id: str = ""
    idempotency_key: str = ""
    request_id: str = ""
    parent: uuid.UUID | None = None
    edits: uuid.UUID | None = None
    attachments: tuple[uuid.UUID, ...] | None = None
    history: tuple[tuple[str, str], ...] = ()
    instructions: str = ""
    sampling: Sampling = NOT_SAID

    @property
    def fingerprint(self) -> str:
        """The same for a repeat, and for nothing else that the same key may stand before."""
        asked: list[Any] = [self.text, self.history, self.instructions, asdict(self.sampling)]
        if self.parent or self.edits:  # only then: the release before knows neither, and reads the same keys
            asked += [self.parent, self.edits]
        if self.attachments is not None:
            asked.append(self.attachments)
        return hashlib.sha256(orjson.dumps(asked)).hexdigest()
