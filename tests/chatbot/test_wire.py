"""The wire format: whatever way the bytes are cut, the same answer or the same honest failure comes out."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatbot.errors import InvalidRequest, ModelBusy, ModelFailed, ModelTimeout, ParleyError, PromptTooLong
from chatbot.events import Usage
from chatbot.inference.protocols.openai import chat_payload, embeddings_payload, read_embeddings
from chatbot.inference.wire import (
    CHARACTERS_PER_TOKEN,
    EVENT_LIMIT,
    RETRY_AFTER,
    ChatReader,
    ChatRequest,
    Message,
    failure,
)

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


def play(*chunks: bytes, max_tokens: int | None = None) -> Played:
    reader = ChatReader(max_tokens)
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


def test_the_request_carries_only_what_was_asked() -> None:
    request = ChatRequest((Message("system", "Be brief."), Message("user", "Grüße?")), max_tokens=64)
    body = orjson.loads(chat_payload("smol", request))
    assert body == {
        "model": "smol",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Grüße?"}],
        "max_tokens": 64,
        "temperature": 0.2,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    request = ChatRequest((), max_tokens=1, top_p=0.9, stop=("\n\n",))
    assert orjson.loads(chat_payload("smol", request)).items() >= {"top_p": 0.9}.items()
    assert orjson.loads(chat_payload("smol", request))["stop"] == ["\n\n"]


def test_text_that_is_not_unicode_is_the_askers_mistake() -> None:
    with pytest.raises(InvalidRequest):
        chat_payload("smol", ChatRequest((Message("user", "\ud800"),), max_tokens=1))
    with pytest.raises(InvalidRequest):
        embeddings_payload("e5", ["\ud800"], "query")


LLAMA_CPP_LONG = {"error": {"code": 400, "message": "the request is too long", "type": "exceed_context_size_error"}}
VLLM_LONG = {"object": "error", "message": "This model's maximum context length is 4096 tokens. However", "code": 400}
TGI_LONG = {"error": "`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 9000", "error_type": "validation"}
OPENAI_LONG = {"error": {"message": "too long", "code": "context_length_exceeded"}}
LOADING = {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (429, None, ModelBusy),
        (503, None, ModelBusy),
        (503, LOADING, ModelBusy),
        (401, None, ModelFailed),
        (404, {"object": "error", "message": "The model `x` does not exist.", "code": 404}, ModelFailed),
        (500, "Traceback", ModelFailed),
        (502, None, ModelFailed),
        (504, None, ModelTimeout),
        (307, None, ModelFailed),
        (400, LLAMA_CPP_LONG, PromptTooLong),
        (400, VLLM_LONG, PromptTooLong),
        (422, TGI_LONG, PromptTooLong),
        (400, OPENAI_LONG, PromptTooLong),
        (413, None, PromptTooLong),
        (400, {"error": {"message": "bad temperature"}}, ModelFailed),
        (400, ["maximum context length"], ModelFailed),
        (400, {"error": [1], "message": {}}, ModelFailed),
    ],
)
def test_http_answers_have_one_meaning_each(status: int, body: object, expected: type[ParleyError]) -> None:
    assert type(failure(status, orjson.dumps(body))) is expected


def test_an_error_page_has_the_meaning_of_its_status() -> None:
    assert type(failure(503, b"<html>Service Unavailable</html>")) is ModelBusy


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("99999", 300.0),
        (None, RETRY_AFTER),
        ("Wed, 21 Oct 2026 07:28:00 GMT", RETRY_AFTER),
        ("-1", RETRY_AFTER),
        ("²", RETRY_AFTER),
    ],
)
def test_a_busy_server_says_when_to_return(header: str | None, seconds: float) -> None:
    assert failure(429, b"", header).retry_after == seconds


@given(
    status=st.integers(min_value=300, max_value=599),
    wrap=st.sampled_from(["%s", '{"error":{"message":"%s"}}', '{"error":"%s"}']),
)
def test_the_servers_words_never_reach_a_person(status: int, wrap: str) -> None:
    assert "my secret prompt" not in failure(status, (wrap % "my secret prompt").encode()).message


def vectors(*rows: tuple[int, object]) -> bytes:
    return orjson.dumps({"data": [{"index": index, "embedding": row} for index, row in rows]})


def test_vectors_come_in_the_order_of_the_texts() -> None:
    assert read_embeddings(vectors((1, [0.0, 2.0]), (0, [1.0, 0.5])), 2) == [[1.0, 0.5], [0.0, 2.0]]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"data": null}',
        b'{"data": [{"embedding": [1.0]}]}',
        b'{"data": [{"index": 0, "embedding": [NaN]}, {"index": 1, "embedding": [1.0]}]}',
        b'{"data": [{"index": [0], "embedding": [1.0]}]}',
        vectors((0, [1.0])),
        vectors((0, [1.0]), (1, [1.0]), (2, [1.0])),
        vectors((0, [1.0]), (0, [1.0])),
        vectors((0, [1.0]), (1, [1.0, 2.0])),
        vectors((0, [1.0]), (1, [])),
        vectors((0, [1.0]), (1, [0.0])),
        vectors((0, [1.0]), (1, [None])),
        vectors((0, [1.0]), (1, "AACAPw==")),
        vectors((0, [1.0]), (1, None)),
    ],
)
def test_vectors_that_cannot_be_used_are_refused(body: bytes) -> None:
    with pytest.raises(ModelFailed):
        read_embeddings(body, 2)
