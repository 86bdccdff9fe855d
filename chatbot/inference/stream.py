"""Puts a streamed answer together, however its bytes were cut. No I/O.

The stream is that of OpenAI, as TGI, vLLM, SGLang and llama.cpp write it; where they differ, the comment names the one
that does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, TypeGuard

import orjson

from chatbot.errors import ModelFailed, ParleyError
from chatbot.events import Usage
from chatbot.inference.wire import stream_failure

EVENT_LIMIT: Final = 1024 * 1024  # bytes of one server-sent event; real ones take some hundred
# No vocabulary averages this many characters a token over an answer: beyond it the server ignores max_tokens.
CHARACTERS_PER_TOKEN: Final = 16
COUNT_LIMIT: Final = 10**8  # tokens of one answer and its prompt; what is said beyond is no count
REASON_LIMIT: Final = 20  # characters of a finish reason; real ones take fourteen


@dataclass(frozen=True, slots=True)
class Delta:
    """What one read brought. `text` is empty where the server only thought, finished or counted.

    finish_reason: stop, length, or another word of the server's for a whole answer (content_filter). tool_call: the
    first sign of a call of a function, which nobody offered and which is left out of the answer.
    """

    text: str
    finish_reason: str | None = None
    usage: Usage | None = None
    tool_call: bool = False


def counted(prompt: object, completion: object) -> Usage | None:
    """What a server counted; None where that is missing or odd: the caller estimates and flags it."""
    if _is_count(prompt) and _is_count(completion):
        return Usage(prompt, completion)
    return None


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= COUNT_LIMIT


def _usage(value: object) -> Usage | None:
    return counted(value.get("prompt_tokens"), value.get("completion_tokens")) if isinstance(value, dict) else None


_FINISH: Final = {"eos_token": "stop", "stop_sequence": "stop"}  # TGI before it spoke OpenAI's words
_BROKEN: Final = frozenset({"abort", "error"})  # vLLM and SGLang finish so when they gave up


class ChatReader:
    """Puts one streamed answer together, however its bytes were cut. Only a finish reason makes it whole.

    feed() gives what a read brought, or None. It raises ModelFailed, ModelBusy, ModelTimeout or PromptTooLong where
    the server says so; text before the error in the same read comes first, and the next feed() or close() raises.
    With `max_tokens`, a server that ignores it is cut off with finish_reason length. With the `prefix` from which the
    answer goes on, blanks that it ends in are not said once more. Streams in another form than OpenAI's have a subclass
    with its own _read().
    """

    def __init__(self, max_tokens: int | None = None, *, prefix: str = "") -> None:
        self.ended = False  # nothing that follows matters
        self.finish_reason: str | None = None
        self._room = math.inf if max_tokens is None else max_tokens * CHARACTERS_PER_TOKEN
        self._rest = b""  # the event that has not ended yet
        self._after_cr = False  # the last read ended a line with CR: a LF that comes next belongs to it
        self._failure: ParleyError | None = None
        self._texts: list[str] = []
        self._usage: Usage | None = None
        self._thought = False
        self._called = False
        self._call_told = False
        self._seam = prefix[len(prefix.rstrip()) :]  # blanks that the stream may repeat
        self._at_seam = bool(prefix)  # nothing has followed it yet
        self._goes_on = bool(prefix.strip())

    def feed(self, chunk: bytes) -> Delta | None:
        if self._failure:
            raise self._failure
        if self.ended or not chunk:  # nothing must not part the two halves of a CRLF
            return None
        finished = self.finish_reason
        for event in self._events(chunk):
            if self.ended:
                break
            self._take(event)
        delta = self._collect(finished)
        if delta is None and self._failure:
            raise self._failure
        return delta

    def close(self) -> None:
        """After the last byte: raises what feed() kept back, or ModelFailed if the answer is not whole."""
        if self._failure:
            raise self._failure
        if self.finish_reason is None:
            raise ModelFailed("The model server broke off in the middle of its answer.")

    def _events(self, chunk: bytes) -> list[bytes]:
        if self._after_cr or b"\r" in chunk:
            if self._after_cr:
                chunk = chunk.removeprefix(b"\n")
            self._after_cr = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        events = (self._rest + chunk).split(b"\n\n")
        self._rest = events.pop()
        if len(self._rest) > EVENT_LIMIT:
            events.append(self._rest)
            self._rest = b""
        return events

    def _take(self, event: bytes) -> None:
        if len(event) > EVENT_LIMIT:
            self._fail(ModelFailed("The model server sent an event that is too large."))
            return
        payload = event[5:] if event.startswith(b"data:") and b"\n" not in event else _data(event)
        if not payload:
            return
        try:
            self._read(orjson.loads(payload))
        except orjson.JSONDecodeError:
            if payload.strip() == b"[DONE]":
                self.ended = True
            else:
                self._fail(ModelFailed("The model server sent something that is not JSON."))
        except (AttributeError, KeyError, IndexError, TypeError):
            self._fail(ModelFailed("The model server's answer was not understood."))

    def _read(self, body: dict[str, Any]) -> None:
        choices = body.get("choices")
        if choices:
            choice = choices[0]
            delta = choice.get("delta")
            if delta:
                self._speak(delta)
            if reason := choice.get("finish_reason"):
                self._finish(reason)
        elif body.get("error"):
            self._fail(stream_failure(body))
        if usage := body.get("usage"):
            self._usage = _usage(usage)

    def _speak(self, delta: dict[str, Any]) -> None:
        text = delta.get("content")
        if text:
            if not isinstance(text, str):
                raise TypeError
            self._texts.append(text)
        elif delta.get("reasoning_content") or delta.get("reasoning"):
            self._think()
        if delta.get("tool_calls"):
            self._called = True

    def _think(self) -> None:
        if self._at_seam and self._goes_on:
            # vLLM's parsers take all for thoughts until these end, and a prompt that ends in a prefix may lack that
            # end: what they call thoughts there is the answer, or another one.
            self._fail(ModelFailed("The model server thinks where it was to go on with its answer."))
        else:
            self._thought = True

    def _finish(self, reason: str) -> None:
        if not isinstance(reason, str) or reason in _BROKEN:
            self._fail(ModelFailed("The model server gave up in the middle of its answer."))
        else:
            reason = _FINISH.get(reason, reason)
            # The answer is whole, whatever this is.
            self.finish_reason = reason if _is_word(reason) else "stop"

    def _fail(self, error: ParleyError) -> None:
        self.ended = True
        if self.finish_reason is None:  # an answer that was finished stays so, whatever follows
            self._failure = error

    def _collect(self, finished: str | None) -> Delta | None:
        text = "".join(self._texts).replace("\0", "")  # PostgreSQL stores no NUL
        self._texts.clear()
        if text and self._at_seam:
            text = self._joined(text)
        usage, self._usage = self._usage, None
        thought, self._thought = self._thought, False
        called, self._called = self._called, False
        first_call = called and not self._call_told
        self._call_told = self._call_told or called
        self._room -= len(text)
        if self._room < 0:
            text = text[: int(self._room)]
            self.ended, self._failure, self.finish_reason = True, None, "length"
            return Delta(text, "length", tool_call=first_call)
        reason = self.finish_reason if finished is None else None
        if text or reason or usage or thought or called:
            return Delta(text, reason, usage, first_call)
        return None

    def _joined(self, text: str) -> str:
        """`text` without what it repeats of the blanks at the seam."""
        longest = min(len(text), len(self._seam))
        repeated = next((n for n in range(longest, 0, -1) if text.startswith(self._seam[:n])), 0)
        self._seam = self._seam[repeated:]
        self._at_seam = repeated == len(text)
        return text[repeated:]


def _is_word(reason: str) -> bool:
    return len(reason) <= REASON_LIMIT and reason.isascii() and reason.isprintable()


def _data(event: bytes) -> bytes:
    """The data of an event that is more than one `data:` line; empty for comments and keep-alives."""
    lines = [line[5:] for line in event.split(b"\n") if line.startswith(b"data:")]
    return b"\n".join(lines)
