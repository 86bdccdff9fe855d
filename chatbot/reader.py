"""One reader of a turn: what they keep of its events, and whether those keep to the protocol."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from chatbot.events import START, Cursor, Failed, Restarted, Token, TurnFinished, TurnStarted

TERMINAL: Final = (TurnFinished.type, Failed.type)


class ProtocolBroken(Exception):
    """Something came that the protocol does not allow."""


@dataclass(frozen=True, slots=True)
class Seen:
    """at: when it came, by the reader's clock."""

    at: float
    cursor: Cursor
    kind: str
    data: dict[str, Any]


@dataclass(eq=False)
class Reader:
    """kept: what the protocol lets the reader keep. history: all that ever came. cursor: where to come back to."""

    turn: str = ""
    conversation: str = ""
    cursor: Cursor = START
    kept: list[Seen] = field(default_factory=list)
    history: list[Seen] = field(default_factory=list)
    _replaying: bool = False
    _fresh: bool = True  # this connection began at the turn's beginning

    @property
    def ended(self) -> bool:
        return bool(self.kept) and self.kept[-1].kind in TERMINAL

    @property
    def texts(self) -> list[str]:
        return [seen.data["text"] for seen in self.kept if seen.kind == Token.type]

    @property
    def transcript(self) -> str:
        return "".join(self.texts)

    def connected(self) -> None:
        """What follows comes by another connection, which was asked for what lies beyond the cursor."""
        self._replaying, self._fresh = False, self.cursor == START

    def take(self, seen: Seen) -> None:
        """Raises ProtocolBroken for an event that may not come here."""
        self._insist(not self.ended, seen, "came after the end")
        if seen.kind == Restarted.type:
            self._forget(seen)
        else:
            self._insist(self._follows(seen), seen, "does not follow")
        if seen.kind == TurnStarted.type:
            self._insist(self.turn in ("", seen.data["turn"]), seen, "is of another turn")
            self.turn, self.conversation = seen.data["turn"], seen.data["conversation"] or ""
        self.cursor = seen.cursor
        self.history.append(seen)
        self.kept.append(seen)

    def _forget(self, seen: Seen) -> None:
        """A stored answer that is told anew does not move the reader until its end."""
        self._replaying = seen.data["reset"] and seen.cursor == self.cursor
        self._insist(self._replaying or seen.cursor > self.cursor, seen, "lies behind")
        self._insist(self._replaying or seen.data["epoch"] == seen.cursor.epoch, seen, "names another epoch")
        self.kept = [one for one in self.kept if one.cursor.seq <= seen.data["after"] and not seen.data["reset"]]

    def _follows(self, seen: Seen) -> bool:
        if self._replaying:
            return seen.cursor == self.cursor or (seen.kind in TERMINAL and seen.cursor > self.cursor)
        if self.cursor == START:
            return seen.cursor.seq == 1
        if seen.cursor == Cursor(self.cursor.epoch, self.cursor.seq + 1):
            return True
        # What is told from its beginning of a stored answer jumps to where its end stood.
        return self._fresh and seen.kind in TERMINAL and seen.cursor > self.cursor

    def _insist(self, holds: bool, seen: Seen, wrong: str) -> None:
        if not holds:
            raise ProtocolBroken(f"{seen.kind} {seen.cursor} {wrong}, at {self.cursor} of turn {self.turn!r}.")
