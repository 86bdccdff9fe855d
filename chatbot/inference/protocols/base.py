"""What every protocol answers: what to ask, how to read it, and whether a server speaks it."""

# ruff: noqa: ARG002 - what a protocol does not have is refused whatever is asked
from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import aiohttp

from chatbot.errors import ModelFailed
from chatbot.inference.endpoint import Endpoint, Kind, ProtocolName
from chatbot.inference.stream import ChatReader
from chatbot.inference.transport import Exchange
from chatbot.inference.wire import ChatRequest, InputType

# The JSON object at a path of the server, or {} where there is none.
Browse = Callable[[str], Awaitable[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Model:
    """A model that a server has; `context_length` is in tokens, None where the server does not say."""

    name: str
    context_length: int | None = None


@dataclass(frozen=True, slots=True)
class Served:
    """What a server is and has. `title` is its name for people. With `any_name` it answers to every model's name.
    only: the one kind of question that it takes, where it tells."""

    protocol: ProtocolName
    title: str
    models: tuple[Model, ...] = ()
    any_name: bool = False
    only: Kind | None = None

    def model(self, name: str) -> Model | None:
        """The model of that name; where names do not matter, the only one there is."""
        if self.any_name and len(self.models) == 1:
            return self.models[0]
        return next((model for model in self.models if model.name == name), None)


class Protocol:
    """Has no state: one object serves all endpoints."""

    name: ClassVar[ProtocolName]
    continues: ClassVar[bool] = False  # whether an answer can go on from ChatRequest.prefix

    async def ask(self, exchange: Exchange, endpoint: Endpoint, request: ChatRequest) -> aiohttp.ClientResponse:
        """Send a question; the answer's body, unread, is what reader() understands."""
        raise ModelFailed(f"The protocol {self.name} does not chat.")

    def reader(self, request: ChatRequest) -> ChatReader:
        """What puts the answer to a question together."""
        return ChatReader(request.max_tokens, prefix=request.prefix)

    async def embed(
        self,
        exchange: Exchange,
        endpoint: Endpoint,
        texts: list[str],
        input_type: InputType,
    ) -> list[list[float]]:
        """A usable vector for each text, all of one length."""
        raise ModelFailed(f"The protocol {self.name} does not embed.")

    async def rerank(self, exchange: Exchange, endpoint: Endpoint, query: str, texts: list[str]) -> list[float]:
        """A usable score for each text, in their order; the higher, the better it fits the query."""
        raise ModelFailed(f"The protocol {self.name} does not rerank.")

    async def recognise(self, browse: Browse) -> Served | None:
        """What the server is and has, if it is one of this kind."""
        return None

    async def look_up(self, browse: Browse, model: str) -> Served | None:
        """What is known of a model by its id alone, where the protocol needs no address."""
        return None


def whole_number(value: object) -> int | None:
    """A length that a server told, None for anything else."""
    return value if isinstance(value, int) and value > 0 else None
