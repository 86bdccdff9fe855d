"""What travels between us and model servers, whichever protocol they speak: questions, vectors, failures. No I/O.

Streamed answers are in stream.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Literal

import orjson

from chatbot.errors import (
    InvalidRequest,
    ModelBusy,
    ModelFailed,
    ModelTimeout,
    ParleyError,
    PromptTooLong,
)

RETRY_AFTER: Final = 5.0  # seconds, where the server names none
RETRY_AFTER_LIMIT: Final = 300.0

InputType = Literal["query", "passage"]


@dataclass(frozen=True, slots=True)
class Message:
    role: str
    content: str


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """`top_p` lies between 0 and 1, both of which TGI refuses; None cuts nothing off.

    prefix: what the answer begins with already; the model goes on from it, and the stream holds only what follows, to
    which alone `max_tokens` applies. Servers count it among the tokens of the prompt.
    """

    messages: tuple[Message, ...]
    max_tokens: int
    temperature: float = 0.2
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    prefix: str = ""

    # A prefix is sent without the blanks at its ends. Many chat templates trim what the assistant said (Llama 3, Gemma,
    # Qwen 3), and TGI looks for it in the prompt as it was sent, and where that is not found has the model answer anew;
    # those that keep a blank make a prompt that ends in one, after which models write badly, since their tokens begin
    # with blanks and do not end in them. So the model writes the blanks at the seam again, and the reader drops what of
    # them was there already (ChatReader). Where the model now wants other blanks than it did before, both stay.

    @property
    def begun(self) -> str:
        """The prefix as it is sent; empty where the answer has yet to begin."""
        return self.prefix.strip()


def encode(body: dict[str, Any]) -> bytes:
    """JSON. Raises InvalidRequest for text that is not Unicode."""
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError as error:  # a lone surrogate, which JSON can smuggle in as \ud800
        raise InvalidRequest("The text is not valid Unicode.") from error


def usable_vectors(vectors: list[list[float]], count: int) -> list[list[float]]:
    """The same vectors. Raises ModelFailed unless they are `count` finite ones of one length, none of them zero."""
    try:
        # A vector of zeros has no direction, so no distance to anything.
        usable = all(all(map(math.isfinite, vector)) and any(vector) for vector in vectors)
        lengths = {len(vector) for vector in vectors}
    except TypeError as error:
        raise ModelFailed("The embedding server's answer was not understood.") from error
    if len(vectors) != count or not usable or len(lengths) != 1:
        raise ModelFailed("The embedding server's vectors are not usable.")
    return vectors


def usable_scores(rows: object, name: str, count: int) -> list[float]:
    """Scores in the order of the texts, from rows that tell the `index` of their text and, under `name`, its score.

    Raises ModelFailed unless each of `count` texts has one that is a finite number.
    """
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ModelFailed("The reranking server's answer was not understood.")
    if len(rows) != count:
        raise ModelFailed(f"The reranking server gave {len(rows)} scores for {count} texts.")
    scores = {row.get("index"): row.get(name) for row in rows if _whole(row.get("index"))}
    if scores.keys() != set(range(count)):
        raise ModelFailed("The reranking server's scores do not say which texts they are for.")
    if not all(type(score) in (int, float) and math.isfinite(score) for score in scores.values()):
        raise ModelFailed("The reranking server's scores are no numbers.")
    return [float(scores[index]) for index in range(count)]


def _whole(value: object) -> bool:
    return type(value) is int  # True is 1, and no place


_TOO_LONG: Final = (
    "exceed_context_size_error",  # llama.cpp
    "available context size",  # llama.cpp before it named the type
    "context_length_exceeded",  # OpenAI
    "maximum context length",  # vLLM
    "maximum model length",  # vLLM
    "model's context length",  # SGLang
    "`max_new_tokens` must be <=",  # TGI
    "`inputs` must have less than",  # TGI
)

_SENTENCES: Final = {
    400: "The model server refused the request as malformed (400).",
    401: "The model server does not accept our key (401).",
    403: "The model server does not permit this with our key (403).",
    404: "The model server does not know this model or address (404).",
    422: "The model server refused the request as invalid (422).",
    501: "The model server was not started for this (501).",  # llama.cpp without --embeddings or --reranking
}


def failure(status: int, body: bytes, retry_after: str | None = None) -> ParleyError:
    """What a model server's HTTP answer that is no success means: a ModelError, or PromptTooLong.

    The body is only searched for known words and never repeated, since servers quote the prompt in it.
    """
    try:
        error = orjson.loads(body)
    except orjson.JSONDecodeError:
        error = None
    return _meaning(status, _words(error), _seconds(retry_after))


def _meaning(status: int, words: str, retry_after: float) -> ParleyError:
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE or any(mark in words for mark in _TOO_LONG):
        return PromptTooLong()
    if status in (429, 503, 529):
        return ModelBusy("The model server is busy.", retry_after=retry_after)
    if status in (408, 504):
        return ModelTimeout()
    error = ModelFailed(_SENTENCES.get(status, f"The model server failed ({status})."))
    error.status, error.at_fault = status, not (400 <= status < 500 or status == HTTPStatus.NOT_IMPLEMENTED)
    return error


def _words(body: object) -> str:
    """What an error says of itself, lower-cased. OpenAI nests the fields in `error`; TGI has a sentence there."""
    fields = body if isinstance(body, dict) else {}
    if isinstance(fields.get("error"), dict):
        fields = fields["error"]
    said = (fields.get(key) for key in ("error", "message", "type", "error_type", "code"))
    return " ".join(word for word in said if isinstance(word, str)).lower()


def _seconds(retry_after: str | None) -> float:
    """Retry-After in seconds; its date form would need a clock in step with the server's, so it counts as absent."""
    if retry_after is None or not (retry_after.isascii() and retry_after.isdigit()):
        return RETRY_AFTER
    return min(float(retry_after), RETRY_AFTER_LIMIT)


def stream_failure(body: dict[str, Any]) -> ParleyError:
    """An error told inside a stream whose status was 200, as TGI does under overload."""
    error = body["error"] if isinstance(body["error"], dict) else body
    words = _words(body)
    codes = [error.get(key) for key in ("http_status_code", "code", "status")]
    if "overloaded" in words:
        codes.insert(0, HTTPStatus.TOO_MANY_REQUESTS)
    status = next((code for code in codes if isinstance(code, int)), HTTPStatus.INTERNAL_SERVER_ERROR)
    return _meaning(status, words, RETRY_AFTER)
