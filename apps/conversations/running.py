"""A turn of this process, running or lately ended."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from apps.conversations.journal import Journal, Kept
from apps.conversations.log import Log
from apps.conversations.turn import Opened, Outcome
from chatbot.events import Usage


@dataclass(slots=True, eq=False)
class Running:
    """stopping: somebody asked for its end. refused: whoever asked is no longer let in. leaving: it goes on elsewhere,
    since another process took it over or this one hands it over; nothing more is said or stored here."""

    opened: Opened
    log: Log
    journal: Journal
    kept: Kept
    outcome: Outcome = field(default_factory=Outcome)
    rewriting: Usage = field(default_factory=lambda: Usage(0, 0, estimated=True))  # what that took of the model
    started: float = field(default_factory=time.perf_counter)
    stopping: bool = False
    refused: bool = False
    leaving: bool = False
    answering: asyncio.Task[None] | None = None  # ends with the last token, or when the turn is stopped
    task: asyncio.Task[None] | None = None  # ends when the turn is stored and its readers know
    noting: asyncio.Task[None] | None = None  # the latest checkpoint

    def end_answer(self) -> None:
        if self.answering is not None:
            self.answering.cancel()

    def leave(self) -> None:
        """Say and store nothing more."""
        self.leaving = True
        self.end_answer()
