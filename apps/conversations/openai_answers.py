"""A turn's events as OpenAI's clients read them: the chunks of a stream, or one completion."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from apps.conversations.log import Entry
from apps.edge.errors import STATUS_OF_CODE, envelope_of
from chatbot.events import Failed, Source, Sources, Token, TurnFinished, Usage

DONE = b"data: [DONE]\n\n"
# Everything else that ended an answer, such as a stop by the user, reads as its natural end; the extension tells.
_REASONS = {"length": "length", "content_filter": "content_filter"}
_NO_MODEL = "No model can be reached just now. These passages were found:"


class Answer:
    """One turn on its way to one client. Its sources are those that the events told so far."""

    def __init__(self, turn_id: uuid.UUID, model: str, *, include_usage: bool = False) -> None:
        self.turn_id = turn_id
        self.sources: list[Source] = []
        self._named = {
            "id": f"chatcmpl-{turn_id}",
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": None,
        }
        self._include_usage = include_usage
        # A token costs the encoding of its text: what stands around it is the same in every chunk.
        self._head = b"data: " + orjson.dumps({"object": "chat.completion.chunk", **self._named})[:-1] + b","
        tail = b',"usage":null}\n\n' if include_usage else b"}\n\n"
        self._before = self._head + b'"choices":[{"index":0,"delta":{"content":'
        self._after = b'},"logprobs":null,"finish_reason":null}]' + tail
        self.opening = (
            self._head
            + b'"choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null}'
            + b',"logprobs":null,"finish_reason":null}]'
            + tail
        )

    def chunks(self, batch: Sequence[Entry]) -> bytes:
        """What a batch of the turn's log adds to the stream; what was written of the answer meanwhile is one chunk."""
        text, rest = "", b""
        for _, event in batch:
            match event:
                case Token():
                    text += event.text
                case Sources():
                    self.sources = event.sources
                case TurnFinished():
                    text += self._instead(event)
                    rest = self._ending(event)
                case Failed():
                    rest = failure(event.payload(), STATUS_OF_CODE.get(event.code, 500))
        return (self._before + orjson.dumps(text) + self._after if text else b"") + rest

    def completion(self, end: TurnFinished) -> bytes:
        """The whole answer in one piece."""
        message = {
            "role": "assistant",
            "content": end.text + self._instead(end),
            "refusal": None,
            "parley": self._extension(end),
        }
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _reason(end)}
        return orjson.dumps(
            {"object": "chat.completion", **self._named, "choices": [choice], "usage": _usage(end.usage)}
        )

    def _ending(self, end: TurnFinished) -> bytes:
        choice = {"index": 0, "delta": {}, "logprobs": None, "finish_reason": _reason(end)}
        usage = {"usage": None} if self._include_usage else {}
        last = self._chunk(choices=[choice], parley=self._extension(end), **usage)
        if self._include_usage:
            last += self._chunk(choices=[], usage=_usage(end.usage))
        return last + DONE

    def _chunk(self, **fields: Any) -> bytes:
        return self._head + orjson.dumps(fields)[1:] + b"\n\n"

    def _instead(self, end: TurnFinished) -> str:
        """What stands for an answer where there is no model: OpenAI's clients show text and nothing else."""
        if end.finish_reason != "sources_only":
            return ""
        found = (f"[{s.n}] {' > '.join([s.title, *s.heading])}\n{s.text}" for s in self.sources)
        return "\n\n".join([_NO_MODEL, *found])

    def _extension(self, end: TurnFinished) -> dict[str, Any]:
        return {
            "turn": str(self.turn_id),
            "state": end.state,
            "finish_reason": end.finish_reason,
            "sources": self.sources,
            "citations": end.citations,
            "timings": end.timings,
            "usage_estimated": end.usage.estimated,
        }


def failure(body: Mapping[str, Any], status: int) -> bytes:
    """An error in mid-stream, after which the stream ends: the clients raise it."""
    return b"data: " + orjson.dumps(envelope_of(body, status)) + b"\n\n"


def _reason(end: TurnFinished) -> str:
    return _REASONS.get(end.finish_reason, "stop")


def _usage(usage: Usage) -> dict[str, int]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }
