"""Streamed answers: whatever way the bytes are cut, the same answer or the same honest failure comes out."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatbot.errors import ModelBusy, ModelFailed, ModelTimeout, ParleyError
from chatbot.events import Usage
from chatbot.inference.stream import CHARACTERS_PER_TOKEN, EVENT_LIMIT, ChatReader

DONE = b"data: [DONE]\n\n"
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


def event(body: object) -> bytes:
    return b"data: " + orjson.dumps(body) + b"\n\n"


def token(text: str, **choice: Any) -> bytes:
    return event({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None} | choice]})


def finish(reason: str = "stop") -> bytes:
    return event({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})


def usage(value: object) -> bytes:
    return event({"choices": [], "usage": value})


@dataclass
class Played:
    """The sum of what a reader gave."""

    text: str = ""
    finish_reasons: tuple[str, ...] = ()
    usage: Usage | None = None
    failure: type[ParleyError] | None = None


def play(*chunks: bytes, max_tokens: int | None = None, prefix: str = "") -> Played:
    reader = ChatReader(max_tokens, prefix=prefix)
    played = Played()
    try:
        for chunk in chunks:
            delta = reader.feed(chunk)
            if delta is not None:
                played.text += delta.text
                played.usage = delta.usage or played.usage
                played.finish_reasons += (delta.finish_reason,) if delta.finish_reason else ()
        reader.close()
    except ParleyError as error:
        played.failure = type(error)
    return played


NOISE = [
    b": keep-alive\n\n",
    b":\n\n",
    token(""),
    b"event: message\nid: 4\nretry: 9\n\n",
    b"\n",
    event({"choices": []}),
]
ENDINGS: dict[bytes, type[ParleyError] | None] = {
    finish() + usage(USAGE) + DONE: None,
    finish("eos_token") + usage(USAGE): None,
    token("", finish_reason="stop") + usage(USAGE) + DONE + b"data: whatever follows\n\n": None,
    finish() + usage(USAGE) + b"data: {torn\n\n": None,
    usage(USAGE) + DONE: ModelFailed,
    usage(USAGE): ModelFailed,
    usage(USAGE) + event({"error": "Model is overloaded", "error_type": "overloaded"}) + DONE: ModelBusy,
    usage(USAGE) + event({"error": {"message": "upstream", "code": 504}}) + DONE: ModelTimeout,
    usage(USAGE) + finish("abort") + DONE: ModelFailed,
    usage(USAGE) + b"data: {torn\n\n" + DONE: ModelFailed,
    usage(USAGE) + b"data: [1]\n\n": ModelFailed,
    usage(USAGE) + b"data: " + b"x" * EVENT_LIMIT + b"\n\n": ModelFailed,
}


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(stream), *(place % (len(stream) + 1) for place in places)})
    return [stream[start:end] for start, end in pairwise(edges)]


@given(
    texts=st.lists(st.text(max_size=6), max_size=6),
    noise=st.lists(st.sampled_from(NOISE), min_size=6, max_size=6),
    ending=st.sampled_from(list(ENDINGS)),
    newline=st.sampled_from([b"\n", b"\r\n", b"\r"]),
    places=st.lists(st.integers(min_value=0, max_value=2000), max_size=40),
)
def test_any_split_gives_the_same_answer(
    texts: list[str], noise: list[bytes], ending: bytes, newline: bytes, places: list[int]
) -> None:
    stream = b"".join(extra + token(text) for extra, text in zip(noise, texts, strict=False)) + ending
    stream = stream.replace(b"\n", newline)
    failed = ENDINGS[ending]
    played = play(*cut(stream, places))
    text = "".join(texts).replace("\0", "")
    assert played == Played(text, () if failed else ("stop",), Usage(7, 3), failed)


def test_one_byte_at_a_time() -> None:
    stream = (b": ping\n\n" + token("Grüße, ") + token("世界 🌍") + finish("length") + usage(USAGE) + DONE).replace(
        b"\n", b"\r\n"
    )
    assert play(*(bytes([byte]) for byte in stream)) == Played("Grüße, 世界 🌍", ("length",), Usage(7, 3))


@given(
    texts=st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=8),
    ending=st.sampled_from([finish() + DONE, DONE, b"data: {torn\n\n"]),
    places=st.lists(st.integers(min_value=0, max_value=2000), max_size=40),
)
def test_a_server_that_ignores_max_tokens_is_cut_off_at_one_place(
    texts: list[str], ending: bytes, places: list[int]
) -> None:
    limit = 2 * CHARACTERS_PER_TOKEN
    stream = b"".join(map(token, texts)) + ending
    played = play(*cut(stream, places), max_tokens=2)
    assert played == play(stream, max_tokens=2)
    text = "".join(texts).replace("\0", "")
    assert played.text == text[:limit]
    if len(text) > limit:
        assert (played.finish_reasons, played.failure) == (("length",), None)


def test_tokens_of_one_read_come_as_one_delta() -> None:
    delta = ChatReader().feed(token("one ") + token("two") + finish() + usage(USAGE) + DONE)
    assert delta is not None
    assert (delta.text, delta.finish_reason, delta.usage) == ("one two", "stop", Usage(7, 3))


def test_text_before_an_error_in_the_same_read_comes_first() -> None:
    reader = ChatReader()
    delta = reader.feed(token("so far") + event({"error": {"message": "boom"}}))
    assert delta is not None
    assert delta.text == "so far"
    assert reader.ended
    with pytest.raises(ModelFailed):
        reader.feed(token("more"))
    with pytest.raises(ModelFailed):
        reader.close()


@pytest.mark.parametrize(
    ("prefix", "texts", "joined"),
    [
        ("one,", [" two"], "one, two"),
        ("one, ", [" two"], "one, two"),
        ("one, ", [" ", "two"], "one, two"),
        ("one, t", ["wo"], "one, two"),
        ("one:\n\n", ["\n\n- two"], "one:\n\n- two"),
        ("one:\n\n", ["\n", "\n", "- two"], "one:\n\n- two"),
        ("one:\n", ["\n\n- two"], "one:\n\n- two"),
        ("def one():\n    ", ["\n  ", "      pass"], "def one():\n        pass"),
        # The model wants other blanks than those that stand there: nothing is glued, and nothing taken back.
        ("one.\n\n", ["\n", "two"], "one.\n\ntwo"),
        ("one.\n", [" two"], "one.\n two"),
        ("one ", ["\n\ntwo"], "one \n\ntwo"),
        ("one, ", ["two"], "one, two"),
        ("one, ", ["two", " ", " ", "three"], "one, two  three"),
        ("one", [], "one"),
        ("one ", [" "], "one "),
        ("\n", ["\n", "one"], "\none"),
    ],
)
def test_the_blanks_at_the_seam_are_said_once(prefix: str, texts: list[str], joined: str) -> None:
    stream = [*map(token, texts), finish(), DONE]
    assert prefix + play(*stream, prefix=prefix).text == joined
    assert prefix + play(b"".join(stream), prefix=prefix).text == joined


def test_blanks_that_are_dropped_take_no_room() -> None:
    blanks = " " * CHARACTERS_PER_TOKEN
    played = play(token(blanks), token("x" * CHARACTERS_PER_TOKEN), finish(), max_tokens=1, prefix="one" + blanks)
    assert (played.text, played.finish_reasons) == ("x" * CHARACTERS_PER_TOKEN, ("stop",))


def thought(text: str) -> bytes:
    return event({"choices": [{"delta": {"reasoning_content": text}}]})


def test_thoughts_instead_of_going_on_fail_before_anything_is_said() -> None:
    assert play(thought("Let me see"), token("Two."), finish(), prefix="One.").failure is ModelFailed
    assert play(token(" "), thought("Let me see"), finish(), prefix="One. ") == Played(failure=ModelFailed)
    assert play(thought("Let me see"), token("One."), finish(), prefix="\n") == Played("One.", ("stop",))
    assert play(token(" Two."), thought("Let me see"), finish(), prefix="One.") == Played(" Two.", ("stop",))


def test_no_nul_gets_in() -> None:
    assert play(token("a\0b"), token("\0"), finish()) == Played("ab", ("stop",))


def test_data_over_several_lines_is_one_event() -> None:
    assert play(
        b'data: {"choices": [\ndata: {"delta": {"content": "hi"},\ndata: "finish_reason": "stop"}]}\n\n'
    ) == Played("hi", ("stop",))


def test_thinking_shows_that_the_server_works_but_is_no_text() -> None:
    delta = ChatReader().feed(event({"choices": [{"delta": {"reasoning_content": "Let me see"}}]}))
    assert delta is not None
    assert delta.text == ""
    assert ChatReader().feed(event({"choices": [{"delta": {"role": "assistant", "content": ""}}]})) is None


def test_a_call_of_a_function_is_no_text_shows_that_the_server_works_and_is_told_once() -> None:
    reader = ChatReader()
    call = event({"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]}}]})
    deltas = [reader.feed(chunk) for chunk in (token("a"), call, call + token("b"), finish("tool_calls"))]
    assert all(deltas)
    assert [(delta.text, delta.tool_call) for delta in deltas if delta] == [
        ("a", False),
        ("", True),
        ("b", False),
        ("", False),
    ]


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        {"prompt_tokens": 1},
        {"prompt_tokens": "1", "completion_tokens": 2},
        {"prompt_tokens": -1, "completion_tokens": 2},
        {"prompt_tokens": 2**31, "completion_tokens": 2},
        {"prompt_tokens": 1, "completion_tokens": True},
        "7",
    ],
)
def test_usage_that_makes_no_sense_counts_as_missing(value: object) -> None:
    assert play(token("a"), finish(), usage(value), DONE) == Played("a", ("stop",))


@pytest.mark.parametrize("reason", ["x" * 21, "st\0op", "☕"])
def test_a_finish_reason_that_is_no_word_is_a_plain_end(reason: str) -> None:
    assert play(token("a"), finish(reason), DONE) == Played("a", ("stop",))


@pytest.mark.parametrize(
    "body",
    [
        [],
        "text",
        None,
        {"choices": {}, "error": 0, "usage": None, "choices_": 1},
        {"choices": "x"},
        {"choices": [None]},
        {"choices": [{"delta": "x"}]},
        {"choices": [{"delta": {"content": ["x"]}}]},
        {"choices": [{"delta": {}, "finish_reason": ["stop"]}]},
    ],
)
def test_json_of_another_shape_is_no_answer(body: object) -> None:
    assert play(event(body)).failure is ModelFailed


def test_an_event_that_never_ends_is_given_up_at_the_limit() -> None:
    reader = ChatReader()
    part = b"x" * 65536
    for _ in range(EVENT_LIMIT // len(part)):
        assert reader.feed(part) is None
    with pytest.raises(ModelFailed, match="too large"):
        reader.feed(part)
