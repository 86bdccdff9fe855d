"""What model servers are asked, what their refusals mean, and which vectors are usable."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatbot.errors import InvalidRequest, ModelBusy, ModelFailed, ModelTimeout, ParleyError, PromptTooLong
from chatbot.inference.protocols.openai import chat_payload, embeddings_payload, read_embeddings
from chatbot.inference.wire import RETRY_AFTER, ChatRequest, Message, failure


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
