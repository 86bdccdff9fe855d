"""Text Generation Inference: its Messages API, which is OpenAI's protocol, and /generate_stream for models without a
chat template.

Source: router/src/server.rs, lib.rs, validation.rs and infer/chat_template.rs of huggingface/text-generation-inference
(3.x; where 2.x differs, the comment says so).
"""

from __future__ import annotations

from typing import Any, Final

import aiohttp

from chatbot.errors import ModelFailed
from chatbot.inference.endpoint import Endpoint
from chatbot.inference.protocols.base import Browse, Model, Protocol, Served, whole_number
from chatbot.inference.protocols.openai import OpenAI
from chatbot.inference.stream import ChatReader, counted
from chatbot.inference.transport import Exchange
from chatbot.inference.wire import ChatRequest, Message, encode, stream_failure

NAMES: Final = {"user": "User", "assistant": "Assistant"}
# Where a base model would go on with a question of its own.
NEXT_QUESTION: Final = f"\n{NAMES['user']}:"


class TGI(OpenAI):
    """A last message of the assistant's is continued, without a field that asks for it. 2.x closes it, answers anew."""

    name = "tgi"
    continues = True

    async def ask(self, exchange: Exchange, endpoint: Endpoint, request: ChatRequest) -> aiohttp.ClientResponse:
        if request.begun.isascii() and len(request.begun.split()) == 1:
            # TGI cuts the prompt after the last place where the prefix stands in it, and a single word may stand in
            # what the template adds behind it to open an answer: "As" in <|Assistant|>.
            error = ModelFailed("The model server cannot go on from a single word.")
            error.at_fault = False
            raise error
        return await super().ask(exchange, endpoint, request)

    async def recognise(self, browse: Browse) -> Served | None:
        info = await browse("info")
        context = whole_number(info.get("max_total_tokens"))
        if context is None or "model_id" not in info:
            return None
        title = f"Text Generation Inference {info.get('version', '')}".strip()
        return Served("tgi", title, (Model(str(info["model_id"]), context),), any_name=True)


class TGIGenerate(Protocol):
    """Recognised as TGI, whose Messages API is the better door where it opens."""

    name = "tgi-generate"
    continues = True

    async def ask(self, exchange: Exchange, endpoint: Endpoint, request: ChatRequest) -> aiohttp.ClientResponse:
        return await exchange.post(endpoint.url("generate_stream"), generate_payload(request))

    def reader(self, request: ChatRequest) -> ChatReader:
        return GenerateReader(request.max_tokens, stop=(NEXT_QUESTION, *request.stop), prefix=request.prefix)


def raw_prompt(messages: tuple[Message, ...], begun: str = "") -> str:
    """A dialogue as plain text, for models that have no chat template: the instructions, then each speaker by name.

    It ends where the assistant is to speak, or to go on from what it has begun to say.
    """
    parts = [f"{NAMES[m.role]}: {m.content}" if m.role in NAMES else m.content for m in messages]
    return "\n\n".join([*parts, f"{NAMES['assistant']}: {begun}".rstrip()])


def generate_payload(request: ChatRequest) -> bytes:
    """The body for POST /generate_stream. Raises InvalidRequest for text that is not Unicode."""
    parameters: dict[str, Any] = {
        "max_new_tokens": request.max_tokens,
        "details": True,  # or no finish reason is told
        "return_full_text": False,
        "stop": [NEXT_QUESTION, *request.stop],
        "do_sample": request.temperature > 0,
    }
    if request.temperature > 0:  # 0 is refused: "must be strictly positive"
        parameters["temperature"] = request.temperature
    if request.top_p is not None:
        parameters["top_p"] = request.top_p
    return encode({"inputs": raw_prompt(request.messages, request.begun), "parameters": parameters})


class GenerateReader(ChatReader):
    """Reads the events of /generate_stream, a token each; the last one tells why it ends. No [DONE] follows.

    A stop sequence is streamed like any text, so what may be the beginning of one is held back.
    """

    def __init__(self, max_tokens: int | None = None, *, stop: tuple[str, ...] = (), prefix: str = "") -> None:
        super().__init__(max_tokens, prefix=prefix)
        self._stop = stop
        self._held = ""
        self._begun = bool(prefix.strip())
        self._stopped = False

    def _read(self, body: dict[str, Any]) -> None:
        if body.get("error"):
            self._fail(stream_failure(body))
            return
        token = body["token"]
        if not token.get("special"):
            self._say(token["text"])
        if details := body.get("details"):
            self._end(details)

    def _say(self, text: str) -> None:
        if self._stopped:
            return
        if not self._begun:
            text = text.lstrip()  # the prompt ends in "Assistant:", so the first token begins with a space
            self._begun = bool(text)
        self._held += text
        ends = [place for stop in self._stop if (place := self._held.find(stop)) >= 0]
        if ends:
            self._held, self._stopped = self._held[: min(ends)], True
        kept = 0 if ends else max((_overlap(self._held, stop) for stop in self._stop), default=0)
        spoken = self._held[: len(self._held) - kept]
        self._held = self._held[len(spoken) :]
        if spoken:
            self._texts.append(spoken)

    def _end(self, details: dict[str, Any]) -> None:
        if details["finish_reason"] != "stop_sequence" and self._held:
            self._texts.append(self._held)
        self._finish(details["finish_reason"])
        self.ended = True
        # 2.0 and older do not tell input_length.
        self._usage = counted(details.get("input_length"), details.get("generated_tokens"))


def _overlap(text: str, stop: str) -> int:
    """How much of the end of `text` is the beginning of `stop`."""
    return next((n for n in range(min(len(text), len(stop)), 0, -1) if text.endswith(stop[:n])), 0)
