"""A reader keeps what the protocol lets it keep, and complains of what may not come."""

from __future__ import annotations

import pytest

from chatbot.events import Cursor
from chatbot.reader import ProtocolBroken, Reader, Seen

STARTED = ("1-1", "turn.started", {"turn": "t", "conversation": "c"})


def read(*events: tuple[str, str, dict[str, object]]) -> Reader:
    reader = Reader()
    for cursor, kind, data in events:
        reader.take(Seen(0.0, Cursor.parse(cursor), kind, data))
    return reader


def token(cursor: str, text: str) -> tuple[str, str, dict[str, object]]:
    return cursor, "token", {"text": text}


def test_an_answer_that_goes_on_elsewhere_is_read_as_one() -> None:
    reader = read(
        STARTED,
        token("1-2", "a"),
        token("1-3", "b"),
        ("2-4", "restarted", {"epoch": 2, "after": 2, "reset": False}),
        token("2-5", "c"),
        ("2-6", "turn.finished", {}),
    )
    assert (reader.transcript, reader.ended, reader.turn, reader.conversation) == ("ac", True, "t", "c")
    assert [str(seen.cursor) for seen in reader.history] == ["1-1", "1-2", "1-3", "2-4", "2-5", "2-6"]


def test_a_stored_answer_that_is_told_anew_replaces_what_was_kept() -> None:
    reader = read(STARTED, token("1-2", "a"))
    reader.connected()
    for event in (
        ("1-2", "restarted", {"epoch": 1, "after": 0, "reset": True}),
        ("1-2", "turn.started", {"turn": "t", "conversation": None}),
        token("1-2", "whole"),
        ("1-9", "turn.finished", {}),
    ):
        reader.take(Seen(0.0, Cursor.parse(event[0]), event[1], event[2]))
    assert (reader.transcript, reader.ended) == ("whole", True)


@pytest.mark.parametrize(
    ("events", "wrong"),
    [
        ([token("1-2", "a")], "does not follow"),
        ([STARTED, token("1-3", "a")], "does not follow"),
        ([STARTED, token("1-2", "a"), token("1-2", "a")], "does not follow"),
        ([STARTED, token("2-2", "a")], "does not follow"),
        ([STARTED, ("1-2", "error", {}), ("1-3", "turn.finished", {})], "came after the end"),
        ([STARTED, ("1-2", "turn.started", {"turn": "u", "conversation": "c"})], "is of another turn"),
        ([STARTED, ("1-1", "restarted", {"epoch": 2, "after": 0, "reset": False})], "lies behind"),
        ([STARTED, ("2-2", "restarted", {"epoch": 3, "after": 0, "reset": False})], "names another epoch"),
    ],
)
def test_what_may_not_come_is_refused(events: list[tuple[str, str, dict[str, object]]], wrong: str) -> None:
    with pytest.raises(ProtocolBroken, match=wrong):
        read(*events)
